"""FNV-32a of many texts at once: a large cluster's pod templates, hashed together when it is opened."""

from collections.abc import Sequence

import numpy as np

from kflab.control.names import FNV_BASIS, FNV_PRIME, fnv32a

FEW = 16
"""With fewer texts than this one after the other is quicker."""


def fnv32a_all(texts: Sequence[bytes]) -> list[int]:
    """The hash of each text: one step per byte for all texts that are that long.

    Source: as `names.fnv32a`; a test compares them.
    """
    if len(texts) < FEW:
        return [fnv32a(text) for text in texts]
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    lengths = np.array([len(texts[i]) for i in order], dtype=np.int64)
    longest = int(lengths[0])
    rows = np.frombuffer(b"".join(texts[i].ljust(longest, b"\0") for i in order), dtype=np.uint8)
    columns = np.ascontiguousarray(rows.reshape(len(texts), longest).T)
    values = np.full(len(texts), FNV_BASIS, dtype=np.uint32)
    reaching = np.searchsorted(-lengths, -np.arange(longest), side="left")  # how many texts have a byte there
    for count, column in zip(reaching.tolist(), columns, strict=True):
        values[:count] ^= column[:count]
        values[:count] *= np.uint32(FNV_PRIME)  # wraps at 32 bits
    found = [0] * len(texts)
    for i, value in zip(order, values.tolist(), strict=True):
        found[i] = value
    return found
