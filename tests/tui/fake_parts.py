"""Names, instants and random series of the fakes."""

from typing import Any

import numpy as np

from kflab.lab.snapshot import (
    Series,
)
from kflab.manifest.objects import Key

S = 1_000_000_000
MS = 1_000_000
CRASH_NS = 12_400_000_000

NODE_A, NODE_B, NODE_C = (Key("Node", "", f"node-{x}") for x in "abc")
INGRESS_SVC = Key("Service", "ingress-nginx", "ingress-nginx")
INGRESS_1 = Key("Pod", "ingress-nginx", "ingress-nginx-controller-4kq2x")
INGRESS_2 = Key("Pod", "ingress-nginx", "ingress-nginx-controller-9zl7p")
INGRESS = Key("Ingress", "default", "api-ingress")
PRODUCT_SVC = Key("Service", "default", "product-service")
PODS = tuple(Key("Pod", "default", f"product-7c9f8d6b5-{x}") for x in ("7xk2p", "m4dd8", "q8rwz"))
SLICE = Key("EndpointSlice", "default", "product-service-x7k2p")


def noise(seed: int, n: int, spread: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Small deterministic wobble, -spread..spread."""
    i = np.arange(n, dtype=np.int64)
    x = (i * 2654435761 + seed * 40503 + ((i >> 3) * seed)) & 0xFFFFFFFF
    x = ((x ^ (x >> 15)) * 2246822519) & 0xFFFFFFFF
    x = (x ^ (x >> 13)) & 0xFFFFFFFF
    return x % (2 * spread + 1) - spread


def frozen(values: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    array = np.asarray(values, dtype=np.int64)
    array.setflags(write=False)
    return array


def series(n: int, level: float, seed: int, bad_from: int = -1, bad_to: int = -1, after: float | None = None) -> Series:
    """`level` per bin with wobble; bins bad_from..bad_to-1 are bad; from bad_to on `after` (None: as before)."""
    total = np.maximum(0, np.round(level + noise(seed, n, max(1, int(level * 0.12))))).astype(np.int64)
    bad = np.zeros(n, dtype=np.int64)
    if bad_from >= 0:
        bad[bad_from:bad_to] = total[bad_from:bad_to]
        if after is not None:
            rest = max(0, n - bad_to)
            total[bad_to:] = np.maximum(0, np.round(after + noise(seed + 7, rest, max(1, int(after * 0.12)))))
            if after == 0:
                total[bad_to:] = 0
    total[-1] = 0  # the bin that is still filling
    bad[-1] = 0
    return Series(frozen(total - bad), frozen(bad))


def stepped(n: int, level: float, seed: int, start: int, end: int, high: float, after: float | None = None) -> Series:
    """`level`, from `start` to `end` `high`, then `after`."""
    total = level + noise(seed, n, max(1, int(level * 0.08))).astype(float)
    total[start:end] = high + noise(seed, n, max(1, int(high * 0.08)))[start:end]
    if after is not None:
        total[end:] = after + noise(seed, n, max(1, int(after * 0.08)))[end:]
    total[-1] = 0
    return Series(frozen(np.maximum(0, total)), frozen(np.zeros(n)))
