"""A lab made by hand: snapshots of the states in the design's pictures, and a `LabHandle` that plays them.

Everything is deterministic. `SNAPSHOTS` names the states; `FakeLab(snapshot)` records the commands it was given.
"""

from concurrent.futures import Future
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from kflab.dataplane.packets import Alternative, Hop, Packet, RequestTrace
from kflab.lab.commands import Command, Finding, Result, SetSpeed
from kflab.lab.handle import Tab
from kflab.lab.session import Session
from kflab.lab.snapshot import (
    BIN_NS,
    Band,
    Candidate,
    Component,
    Failures,
    Knower,
    Knowledge,
    Mark,
    NodeRow,
    PodRow,
    Series,
    ShareGroup,
    ShareRow,
    Snapshot,
    Span,
    TraceRow,
    TraceTry,
)
from kflab.lab.spec import LabSpec
from kflab.lab.targets import Target
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


def trace_rows(t_ns: int, crashed: bool) -> tuple[TraceRow, ...]:
    """Eleven requests ending at `t_ns`, and forty before them."""
    rows = []
    tails = ("7xk2p", "m4dd8", "q8rwz")
    for i in range(60):
        done = t_ns - (60 - i) * 21 * MS + 11 * MS
        first = tails[i * 7 % 3]
        ingress = (INGRESS_1, INGRESS_2)[i * 5 % 2].name
        tries = [TraceTry(f"product-7c9f8d6b5-{first}", "ok")]
        status, ok, latency = "200", True, int((2.7 + (i * 13 % 9) * 0.4) * MS)
        refused = 0
        if crashed and first == "m4dd8" and done > CRASH_NS:
            dead = TraceTry(PODS[1].name, "refused")
            refused = 200_000
            if i % 4 == 3:
                tries, status, ok, latency = [dead, dead, dead], "502", False, 1_300_000
            elif i % 4 == 1:
                tries = [dead, dead, TraceTry(PODS[0].name, "ok")]
            else:
                tries = [dead, TraceTry(PODS[2 * (i % 2)].name, "ok")]
        rest = latency - refused
        rows.append(
            TraceRow(
                id=1000 + i,
                stream=0,
                number=11_000 + i * 7,
                t_ns=done,
                t_start_ns=done - latency,
                method="GET",
                path="/products",
                url="https://api.example.com/products",
                source=f"203.0.113.45:{49000 + i * 137 % 12000}",
                ingress=ingress,
                service=PRODUCT_SVC,
                tries=tuple(tries),
                status=status,
                ok=ok,
                latency_ns=latency,
                parts=(
                    ("refused", refused),
                    ("timeout", 0),
                    ("queue", rest // 6),
                    ("service", rest - rest // 6 - 300_000 if rest > 700_000 else rest - rest // 6),
                    ("network", 300_000 if rest > 700_000 else 0),
                ),
            )
        )
    return tuple(rows)


def overview(t_ns: int, crash: str = "") -> Snapshot:
    """The built-in scenario. `crash`: "" steady, "half" 0.5 s after the crash, "two" 2 s after it."""
    n = t_ns // BIN_NS + 1
    k = CRASH_NS // BIN_NS if crash else -1
    end = min(n, k + 6) if crash else -1
    moved = crash == "two"
    half = crash == "half"
    rate = 1004.0 if half else 1000.0
    shares = {"": (0.331, 0.335, 0.334), "half": (0.338, 0.326, 0.336), "two": (0.503, 0.0, 0.497)}[crash]
    expected = (0.5, None, 0.5) if moved else (1 / 3,) * 3
    state = {"": "ready", "half": "crashed", "two": "starting"}[crash]
    product = []
    for i, key in enumerate(PODS):
        dead = i == 1 and bool(crash)
        if dead:
            row_series = series(n, 33.3, 40 + i, k, end, 0)
        elif crash:
            row_series = stepped(n, 33.3, 40 + i, k, end, 49, 50)
        else:
            row_series = series(n, 33.3, 40 + i)
        product.append(
            Candidate(
                key,
                key.name,
                state if i == 1 else "ready",
                f"10.244.2.{25 + i}",
                "node-b",
                shares[i],
                expected[i],
                (expected[i] or 0) - 0.035,
                (expected[i] or 1) + 0.035,
                shares[i] * (1484 if half else rate),
                failing=dead and half,
                restarts=int(i == 1 and moved),
                series=row_series,
                listed=not (i == 1 and moved),
            )
        )
    lb_nodes = (
        Candidate(NODE_A, "node-a", "healthy", "10.0.1.50", "", 1.0, 1.0, 1, 1, rate, series=series(n, 100, 3)),
        Candidate(NODE_B, "node-b", "unhealthy", "10.0.1.51", "", 0.0, None, note="no ingress pod"),
        Candidate(NODE_C, "node-c", "unhealthy", "10.0.1.52", "", 0.0, None, note="no ingress pod"),
    )
    ing = (0.497, 0.503) if half else (0.502, 0.498)
    ingress_pods = tuple(
        Candidate(
            key,
            key.name,
            "ready",
            f"10.244.1.{10 + i}",
            "node-a",
            ing[i],
            0.5,
            0.45,
            0.55,
            ing[i] * rate,
            series=series(n, 50, 20 + i),
        )
        for i, key in enumerate((INGRESS_1, INGRESS_2))
    )
    footer = {
        "": "",
        "half": "239 tries refused so far; NGINX tried again and saved 148 requests",
        "two": "303 tries refused in 0.63 s; NGINX tried again and saved 187 requests",
    }[crash]
    bands = (
        Band(
            "client/0",
            "client",
            "client",
            "203.0.113.45 · https://api.example.com/products",
            "203.0.113.45 · https://…/products",
            rate_rps=rate,
            series=series(n, 100, 1),
        ),
        Band(
            "dns/0",
            "dns",
            "DNS",
            "api.example.com → 52.100.10.20 · only choice",
            "api.example.com → 52.100.10.20",
            figure="cached",
            note="TTL 60 s",
            parent="client/0",
        ),
        Band(
            "lb/ingress-nginx/ingress-nginx",
            "lb",
            "load balancer",
            "52.100.10.20:443 → :30443 · NLB hash, 1 of 3",
            "52.100.10.20:443",
            INGRESS_SVC,
            rate_rps=rate,
            series=series(n, 100, 2),
            candidates=lb_nodes,
            parent="dns/0",
        ),
        Band(
            "ingress/ingress-nginx/ingress-nginx",
            "ingress",
            "ingress",
            "NodePort :30443 → :443 · DNAT on node-a, random",
            "DNAT on node-a, random",
            INGRESS_SVC,
            rate_rps=rate,
            series=series(n, 100, 4),
            candidates=ingress_pods,
            parent="lb/ingress-nginx/ingress-nginx",
            caller_nodes=("node-a",),
        ),
        Band(
            "route/default/api-ingress/0",
            "route",
            "",
            "NGINX ends TLS · /products → product-service:80 · only choice",
            "/products → product-service:80",
            INGRESS,
            parent="ingress/ingress-nginx/ingress-nginx",
        ),
        Band(
            "service/default/product-service:80",
            "service",
            "Service",
            "product-service 10.96.100.50:80 → :8080 · random"
            if not half
            else "product-service 10.96.100.50:80 · 1.48 tries/request",
            "product-service 10.96.100.50:80",
            PRODUCT_SVC,
            rate_rps=1484 if half else 1000,
            tries_per_request=1.48 if half else 1.0,
            series=stepped(n, 100, 5, k, end, 148, 100) if crash else series(n, 100, 5),
            candidates=tuple(product),
            footer=footer,
            footer_short={"": "", "half": "239 refused", "two": "303 refused"}[crash],
            parent="route/default/api-ingress/0",
            caller_nodes=("node-a",),
        ),
    )
    failed = {"": "", "half": "18 answered 502 after 3 tries", "two": "23 answered 502 after 3 tries, now none"}[crash]
    bad = np.zeros(n, dtype=np.int64)
    if crash:
        bad[k : min(end, n - 1)] = np.array([5, 4, 4, 2, 3, 5])[: min(end, n - 1) - k]
    failures = Failures(
        36 if half else 0, {"": 0, "half": 18, "two": 23}[crash], failed, Series(frozen(np.zeros(n)), frozen(bad))
    )
    return Snapshot(
        scenario="overview",
        seed=7,
        t_ns=t_ns,
        paused=False,
        speed_asked=1.0,
        speed_reached=1.0,
        rate_rps=rate,
        ok_share=0.964 if half else 1.0,
        failed_total={"": 0, "half": 18, "two": 23}[crash],
        sent_total=int(t_ns / S * 1000),
        p50_ns=3_100_000 if not crash else 3_400_000,
        p99_ns={"": 14_000_000, "half": 17_000_000, "two": 18_000_000}[crash],
        first_bin=0,
        n_bins=n,
        bands=bands,
        failures=failures,
        knowledge=knowledge(crash),
        marks=marks(crash),
        nodes=nodes(crash, product),
        traces=trace_rows(t_ns, bool(crash)),
        traces_seen=4200,
        shares=share_groups(crash),
        components=(
            Component("apiserver", True),
            *(Component(f"{what}/node-{x}", True) for x in "abc" for what in ("kube-proxy", "kubelet")),
        ),
        story=story(crash),
        pods_total=5,
        rules_revision=42 if moved else 41,
    )


def knowledge(crash: str) -> Knowledge:
    """Who knows, in the three states."""
    names = (
        ("node-b kubelet", NODE_B, "", 520),
        ("EndpointSlice", SLICE, "", 540),
        ("node-a rules", NODE_A, "callers here", 630),
        ("node-b rules", NODE_B, "nobody calls", 930),
        ("node-c rules", NODE_C, "nobody calls", 710),
    )
    words = ("noticed", "written", "traffic moves", "in step", "in step")
    knowers = []
    for i, (name, key, callers, learned_ms) in enumerate(names):
        moved = crash == "two"
        if not crash:
            revision = "running" if i == 0 else "rev 41"
            knowers.append(Knower(name, key, True, True, revision, callers, None, "in step"))
        elif moved:
            revision = "exit 137" if i == 0 else "rev 42"
            learned = CRASH_NS + learned_ms * MS
            knowers.append(Knower(name, key, True, True, revision, callers, learned, words[i], 303 if i == 2 else 0))
        else:
            revision = "exit unseen" if i == 0 else "rev 41"
            word = "not noticed yet" if i == 0 else ""
            knowers.append(Knower(name, key, False, True, revision, callers, None, word, 239 if i == 2 else 0))
    what = f"that {PODS[1].name} crashed at 12.40 · restart 1" if crash else ""
    return Knowledge(
        what,
        CRASH_NS if crash else None,
        "crash" if crash else "",
        PODS[1] if crash else None,
        CRASH_NS + 630 * MS if crash == "two" else None,
        tuple(knowers),
    )


def marks(crash: str) -> tuple[Mark, ...]:
    if not crash:
        return ()
    first = Mark(CRASH_NS, "crash", f"{PODS[1].name} crashed")
    return (first, Mark(CRASH_NS + 630 * MS, "moved", "traffic moved")) if crash == "two" else (first,)


def story(crash: str) -> tuple[Span, ...]:
    if crash == "half":
        return (
            Span(f"✖ {PODS[1].name} crashed 0.50 s ago.", "lost"),
            Span(" Nobody has noticed: node-a's rules still send it "),
            Span("1", "strong"),
            Span(" try in "),
            Span("3", "strong"),
            Span("."),
        )
    if crash == "two":
        return (
            Span("◆ Traffic moved at +0.63 s", "known"),
            Span(", when node-a's rules changed: DNAT is decided where the caller runs."),
        )
    return ()


def nodes(crash: str, product: list[Candidate]) -> tuple[NodeRow, ...]:
    rev = "rev 42" if crash == "two" else "rev 41"
    step = crash != "half"
    half = crash == "half"
    ingress_rows = tuple(
        PodRow(key, "ready", f"10.244.1.{10 + i}", 502, False, 0, 0.5, 0.5)
        for i, key in enumerate((INGRESS_1, INGRESS_2))
    )
    product_rows = tuple(
        PodRow(c.key, c.state, c.address, c.rate_rps, c.failing, c.restarts, c.share, c.expected) for c in product
    )
    return (
        NodeRow(
            NODE_A,
            "10.0.1.50",
            "True",
            "zone-1",
            rev,
            step,
            True,
            True,
            True,
            2488 if half else 2000,
            None,
            ingress_rows,
        ),
        NodeRow(
            NODE_B,
            "10.0.1.51",
            "True",
            "zone-1",
            rev,
            step,
            True,
            True,
            False,
            0,
            12_920 * MS if half else None,
            product_rows,
        ),
        NodeRow(NODE_C, "10.0.1.52", "True", "zone-2", rev, step, True, True, False, 0, None, ()),
    )


def share_groups(crash: str) -> tuple[ShareGroup, ...]:
    n = {"": 11_900, "half": 742, "two": 2303}[crash]
    counts = {"": (3940, 3985, 3975), "half": (251, 242, 249), "two": (1005, 303, 995)}[crash]
    state = {"": "ready", "half": "crashed", "two": "starting"}[crash]
    third = Fraction(1, 3)
    rows = tuple(
        ShareRow(key, state if i == 1 else "ready", counts[i], counts[i], third, n // 3 - 33, n // 3 + 33)
        for i, key in enumerate(PODS)
    )
    group = ShareGroup(
        "product-service:80",
        "service/default/product-service:80",
        n,
        CRASH_NS if crash else 0,
        0.91,
        "luck",
        "the rules give equal shares",
        rows,
    )
    return (group,)


def steady() -> Snapshot:
    """Picture 1."""
    return overview(11_900 * MS)


def crash_half() -> Snapshot:
    """Picture 2: 0.5 s after the crash."""
    return overview(12_900 * MS, "half")


def crash_two() -> Snapshot:
    """Picture 3: 2 s after the crash."""
    return overview(14_400 * MS, "two")


TAILS = (
    "2h9xw",
    "5kfjq",
    "8ctzv",
    "b7m4n",
    "d2rlp",
    "gx6ks",
    "k3tqd",
    "p9wzr",
    "t4hvc",
    "w6pmf",
    "x2nlj",
    "z8vbd",
    "4rtwq",
    "7ghkn",
    "9mzxc",
    "c5dfp",
)


def sixty_pods() -> Snapshot:
    """Picture 9: 60 pods, 5 Services, 8 nodes, two seconds after a crash in orders."""
    base = crash_two()
    n = base.n_bins
    k = CRASH_NS // BIN_NS
    services = (
        ("frontend", 16, "10.96.12.8", 600),
        ("catalogue", 14, "10.96.40.91", 560),
        ("cart", 12, "10.96.7.133", 360),
        ("orders", 10, "10.96.88.20", 320),
        ("payments", 8, "10.96.3.77", 160),
    )
    bands: list[Band] = []
    node_keys = [Key("Node", "", f"node-{i + 1}") for i in range(8)]
    pods_of: dict[str, list[PodRow]] = {key.name: [] for key in node_keys}
    for s, (name, count, address, rps) in enumerate(services):
        candidates = []
        for i in range(count):
            pod = Key("Pod", "shop", f"{name}-6d5f7c9b8-{TAILS[i]}")
            dead = name == "orders" and TAILS[i] == "b7m4n"
            hot = name == "catalogue" and i == 4
            expected = None if dead else 1 / (count - 1 if name == "orders" else count)
            share = 0.0 if dead else (expected or 0) * (1.6 if hot else 1 + ((i * 37 % 11) - 5) / 100)
            level = rps / 10 / count
            node = node_keys[(i + s) % 8].name
            row = Candidate(
                pod,
                pod.name,
                "starting" if dead else "ready",
                f"10.244.{(i + s) % 8 + 1}.{18 + i * 3}",
                node,
                share,
                expected,
                (expected or 0) * 0.85,
                (expected or 1) * 1.15,
                share * rps,
                restarts=int(dead),
                series=series(n, level, 100 + s * 20 + i, k, k + 9, 0) if dead else series(n, level, 100 + s * 20 + i),
                listed=not dead,
            )
            candidates.append(row)
            pods_of[node].append(
                PodRow(pod, row.state, row.address, row.rate_rps, False, row.restarts, share, expected)
            )
        bands.append(
            Band(
                f"service/shop/{name}:80",
                "service",
                "Service",
                f"{name} {address}:80 → :8080 · random",
                f"{name} {address}:80",
                Key("Service", "shop", name),
                rate_rps=rps,
                series=series(n, rps / 10, 60 + s),
                candidates=tuple(candidates),
                parent="route/shop/shop/0",
                footer="27 tries refused in 0.97 s; NGINX tried again and saved 27 requests"
                if name == "orders"
                else "",
                footer_short="27 refused" if name == "orders" else "",
            )
        )
    lb_nodes = tuple(
        Candidate(
            key,
            key.name,
            "healthy",
            f"10.0.1.{50 + i}",
            "",
            0.125,
            0.125,
            0.1,
            0.15,
            250,
            series=series(n, 25, 200 + i),
        )
        for i, key in enumerate(node_keys)
    )
    ingress = tuple(
        Candidate(
            Key("Pod", "ingress-nginx", f"ingress-nginx-controller-{x}"),
            f"ingress-nginx-controller-{x}",
            "ready",
            f"10.244.{i + 2}.9",
            f"node-{i + 2}",
            1 / 3,
            1 / 3,
            0.3,
            0.36,
            667,
            series=series(n, 66, 220 + i),
        )
        for i, x in enumerate(("4kq2x", "9zl7p", "t5wqm"))
    )
    head = (
        Band(
            "client/0",
            "client",
            "client",
            "198.51.100.0/24 · https://shop.example.com · 5 paths",
            "198.51.100.0/24 · 5 paths",
            rate_rps=2000,
            series=series(n, 200, 1),
        ),
        Band(
            "dns/0",
            "dns",
            "DNS",
            "shop.example.com → 52.100.10.20 · only choice",
            "shop.example.com → 52.100.10.20",
            figure="cached",
            note="TTL 60 s",
        ),
        Band(
            "lb/ingress-nginx/ingress-nginx",
            "lb",
            "load balancer",
            "52.100.10.20:443 → :30443 · NLB, flow hash",
            "52.100.10.20:443",
            INGRESS_SVC,
            rate_rps=2000,
            series=series(n, 200, 2),
            candidates=lb_nodes,
        ),
        Band(
            "ingress/ingress-nginx/ingress-nginx",
            "ingress",
            "ingress",
            "NodePort :30443 → :443 · DNAT on 8 nodes, random",
            "DNAT on 8 nodes, random",
            INGRESS_SVC,
            rate_rps=2000,
            series=series(n, 200, 4),
            candidates=ingress,
            caller_nodes=tuple(key.name for key in node_keys),
        ),
        Band(
            "route/shop/shop/0",
            "route",
            "",
            "NGINX ends TLS · 5 paths → 5 Services, each its own band",
            "5 paths → 5 Services",
            Key("Ingress", "shop", "shop"),
        ),
    )
    subject = Key("Pod", "shop", "orders-6d5f7c9b8-b7m4n")
    knowers = [
        Knower("node-4 kubelet", node_keys[3], True, True, "exit 137", "", CRASH_NS + 520 * MS, "noticed"),
        Knower(
            "EndpointSlice",
            Key("EndpointSlice", "shop", "orders-x"),
            True,
            True,
            "rev 318",
            "",
            CRASH_NS + 540 * MS,
            "written",
        ),
    ]
    for i, key in enumerate(node_keys):
        calls = i in (1, 4, 6)
        knowers.append(
            Knower(
                f"{key.name} rules",
                key,
                True,
                True,
                "rev 318",
                "callers here" if calls else "nobody calls",
                CRASH_NS + (620 + i * 50 % 380) * MS,
                "traffic moves" if calls else "in step",
                27 if i == 4 else 0,
            )
        )
    return replace(
        base,
        scenario="shop",
        rate_rps=2000.0,
        p50_ns=3_300_000,
        p99_ns=15_000_000,
        bands=(*head, *bands),
        failures=Failures(
            0, 0, "none: NGINX's second try found a live pod", Series(frozen(np.zeros(n)), frozen(np.zeros(n)))
        ),
        knowledge=Knowledge(
            f"that {subject.name} crashed at 12.40 · restart 1",
            CRASH_NS,
            "crash",
            subject,
            CRASH_NS + 970 * MS,
            tuple(knowers),
        ),
        marks=(Mark(CRASH_NS, "crash", f"{subject.name} crashed"), Mark(CRASH_NS + 970 * MS, "moved", "traffic moved")),
        nodes=tuple(
            NodeRow(
                key,
                f"10.0.1.{50 + i}",
                "True",
                f"zone-{i % 2 + 1}",
                "rev 318",
                True,
                True,
                True,
                i in (1, 4, 6),
                250,
                None,
                tuple(pods_of[key.name]),
            )
            for i, key in enumerate(node_keys)
        ),
        story=(
            Span("60 pods, 5 Services, 8 nodes.", "strong"),
            Span(" The ordinary is folded, one glyph a pod; ", "dim"),
            Span("orders", "strong"),
            Span(" unfolded: a pod crashed.", "dim"),
        ),
        pods_total=60,
        rules_revision=318,
    )


SNAPSHOTS = {"steady": steady, "crash_half": crash_half, "crash_two": crash_two, "sixty_pods": sixty_pods}
"""The states of the pictures, by name."""


def request() -> RequestTrace:
    """Picture 4: the request at 12.53 s, refused by m4dd8, answered by 7xk2p."""
    t = 12_530 * MS
    third, half = Fraction(1, 3), Fraction(1, 2)
    ips = ("10.244.2.25:8080", "10.244.2.26:8080", "10.244.2.27:8080")

    def pods(chosen: int) -> tuple[Alternative, ...]:
        return tuple(Alternative(ip, third, PODS[i], i == chosen) for i, ip in enumerate(ips))

    client, public, nodeport = ("203.0.113.45", 54321), ("52.100.10.20", 443), ("10.0.1.50", 30443)
    nginx, vip = ("10.244.1.10", 39123), ("10.96.100.50", 80)
    hops = (
        Hop(
            1,
            "client",
            "",
            None,
            Packet(*client, *public),
            "only choice",
            why="DNS answered 52.100.10.20; only choice",
            mover="client",
            t_ns=t,
            alternatives=(Alternative("52.100.10.20:443", Fraction(1), None, True),),
        ),
        Hop(
            2,
            "load balancer",
            "",
            Packet(*client, *public),
            Packet(*client, *nodeport),
            "flow hash",
            alternatives=(
                Alternative("10.0.1.50:30443", Fraction(1), NODE_A, True),
                Alternative("10.0.1.51:30443", Fraction(0), NODE_B, False, "no ingress pod"),
            ),
            mover="load balancer",
            why="flow hash; 1 healthy target of 3",
            touches=(INGRESS_SVC, NODE_A),
            t_ns=t,
        ),
        Hop(
            3,
            "node-a, kernel",
            "node-a",
            Packet(*client, *nodeport),
            Packet(*client, "10.244.1.10", 443),
            "random",
            half,
            (Alternative("10.244.1.10:443", half, INGRESS_1, True), Alternative("10.244.1.11:443", half, INGRESS_2)),
            "kernel DNAT",
            ("KUBE-NODEPORTS", "KUBE-EXT-CG5I4G2RS3ZVWGLK", "KUBE-SVL-CG5I4G2RS3ZVWGLK", "KUBE-SEP-PUG4ZKQ5N4UEC4CM"),
            writer="kube-proxy on node-a wrote it at 0.13 s",
            why="DNAT · …NODEPORTS → KUBE-EXT → SVL → SEP",
            touches=(NODE_A, INGRESS_SVC, INGRESS_1),
            t_ns=t,
        ),
        Hop(
            4,
            "ingress, NGINX",
            "node-a",
            Packet(*client, "10.244.1.10", 443),
            Packet(*nginx, *vip),
            "only choice",
            mover="NGINX",
            why="TLS ends; host ✓ and /products ✓",
            touches=(INGRESS_1, INGRESS, PRODUCT_SVC),
            t_ns=t,
        ),
        Hop(
            5,
            "node-a, kernel",
            "node-a",
            Packet(*nginx, *vip),
            Packet(*nginx, "10.244.2.26", 8080),
            "random",
            third,
            pods(1),
            "kernel DNAT",
            ("KUBE-SERVICES", "KUBE-SVC-4WTCEQOV7PEPC2YB", "KUBE-SEP-ZK2NLLEQTFGAR4XA"),
            writer="kube-proxy on node-a wrote it at 0.13 s",
            why="DNAT · KUBE-SERVICES → SVC → SEP, rules 41",
            touches=(NODE_A, PRODUCT_SVC, PODS[1]),
            t_ns=t,
        ),
        Hop(
            0,
            "pod m4dd8",
            "node-b",
            why="refused in 0.2 ms: crashed 0.13 s before; node-a does not know",
            touches=(PODS[1],),
            t_ns=t,
            outcome="refused",
        ),
        Hop(
            6,
            "ingress, NGINX",
            "node-a",
            Packet(*nginx, *vip),
            Packet("10.244.1.10", 39127, *vip),
            "only choice",
            mover="NGINX",
            why="2nd try of 3, after an error",
            touches=(INGRESS_1, PRODUCT_SVC),
            try_number=2,
            t_ns=t,
        ),
        Hop(
            7,
            "node-a, kernel",
            "node-a",
            Packet("10.244.1.10", 39127, *vip),
            Packet("10.244.1.10", 39127, "10.244.2.25", 8080),
            "random",
            third,
            pods(0),
            "kernel DNAT",
            ("KUBE-SERVICES", "KUBE-SVC-4WTCEQOV7PEPC2YB", "KUBE-SEP-7JQFTL5WMJAKL5MD"),
            writer="kube-proxy on node-a wrote it at 0.13 s",
            why="DNAT · same rules, a new draw → 200",
            touches=(NODE_A, PRODUCT_SVC, PODS[0]),
            try_number=2,
            t_ns=t,
            outcome="200",
        ),
    )
    back = (
        Hop(
            8,
            "node-a, kernel",
            "node-a",
            Packet("10.244.2.25", 8080, "10.244.1.10", 39127),
            Packet(*vip, "10.244.1.10", 39127),
            mover="conntrack",
            why="conntrack undoes 7",
            touches=(PRODUCT_SVC,),
        ),
        Hop(
            9,
            "node-a, kernel",
            "node-a",
            Packet("10.244.1.10", 443, *client),
            Packet(*public, *client),
            mover="conntrack",
            why="conntrack undoes 3: the client sees 52.100.10.20:443",
            touches=(INGRESS_SVC,),
        ),
    )
    parts = (("refused", 200_000), ("queue", 700_000), ("service", 2_900_000), ("network", 300_000))
    return RequestTrace(
        0,
        12_530,
        "GET",
        "https://api.example.com/products",
        "203.0.113.45:54321",
        t,
        4_100_000,
        "200",
        2,
        hops,
        back,
        parts,
        ("TLS handshake time",),
    )


SERVICE_YAML = """\
apiVersion: v1
kind: Service
metadata:
  name: product-service
spec:
  selector:
    app: product
  ports:
  - port: 80
    targetPort: 8080
"""

DEPLOYMENT_YAML = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: product  # three of them
spec:
  replicas: 3
"""


def _done(value: Any) -> "Future[Any]":
    future: Future[Any] = Future()
    future.set_result(value)
    return future


class FakeLab:
    """A `LabHandle` that shows one snapshot (or whatever is put into `current`) and records what it was asked."""

    def __init__(self, current: Snapshot | str = "steady") -> None:
        self.current = SNAPSHOTS[current]() if isinstance(current, str) else current
        self.commands: list[Command] = []
        self.opened: list[int] = []
        self.closed = False
        self.results: dict[type, Result] = {}
        """What `submit` answers, by type of command."""
        self.trace = request()
        self.problems: tuple[Finding, ...] = ()

    def snapshot(self) -> Snapshot:
        return self.current

    def submit(self, command: Command) -> "Future[Result]":
        self.commands.append(command)
        name = type(command).__name__
        if name in ("Pause", "Resume"):
            self.current = replace(self.current, paused=name == "Pause")
        if isinstance(command, SetSpeed):
            self.current = replace(self.current, speed_asked=command.factor, speed_reached=command.factor)
        return _done(self.results.get(type(command), Result(True, "")))

    def open_request(self, trace_id: int) -> "Future[RequestTrace]":
        self.opened.append(trace_id)
        return _done(self.trace)

    def tabs(self) -> tuple[Tab, ...]:
        return (
            Tab("product-service.yaml", SERVICE_YAML, None),
            Tab("product.yaml", DEPLOYMENT_YAML, None),
            Tab(
                "additions.yaml",
                "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: ingress-nginx\n",
                None,
                "additions",
            ),
        )

    def check(self, texts: tuple[tuple[str, str], ...]) -> tuple[Finding, ...]:
        return self.problems

    def locate(self, key: Key) -> tuple[str, int] | None:
        if key == PRODUCT_SVC:
            return "product-service.yaml", 1
        if key in PODS:
            return "product.yaml", 1
        return None

    def targets(self, key: Key | None) -> tuple[Target, ...]:
        found = []
        if key is not None and key.kind in ("Pod", "Node"):
            found.append(Target(key.kind.lower(), key))
        names = ["kube-proxy/node-a", "kubelet/node-a", "apiserver"] if key == NODE_A else ["apiserver"]
        stopped = {each.name for each in self.snapshot().components if not each.running}
        found += [Target("component", Key("Component", "", name),
                         frozenset({"stopped"} if name in stopped else ())) for name in names]  # fmt: skip
        return tuple(found)

    def live_yaml(self, key: Key) -> "Future[str]":
        return _done(f"apiVersion: v1\nkind: {key.kind}\nmetadata:\n  name: {key.name}\nstatus: {{}}\n")

    def rules_text(self, node: str, t_ns: int | None = None) -> "Future[str]":
        return _done(
            "*nat\n:KUBE-SERVICES - [0:0]\n"
            "-A KUBE-SERVICES -d 10.96.100.50/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-4WTCEQOV7PEPC2YB\n"
            "-A KUBE-SVC-4WTCEQOV7PEPC2YB -m statistic --mode random --probability 0.33333333349 "
            "-j KUBE-SEP-7JQFTL5WMJAKL5MD\n"
            "-A KUBE-SEP-7JQFTL5WMJAKL5MD -p tcp -m tcp -j DNAT --to-destination 10.244.2.25:8080\nCOMMIT\n"
        )

    def session(self) -> "Future[Session]":
        return _done(Session(LabSpec("fake", self.tabs()), self.current.t_ns, "", 0, 0, None, "iptables", False))

    def completions(self, line: str) -> tuple[str, ...]:
        words = ("get pods", "get svc", "describe pod", "logs", "curl https://api.example.com/products")
        return tuple(word for word in words if word.startswith(line))

    def assumptions(self) -> tuple[tuple[str, str], ...]:
        return (("container api listens on 8080 (declared)", "annotation kflab.dev/listens"),)

    def findings(self) -> tuple[Finding, ...]:
        return self.problems

    def close(self) -> None:
        self.closed = True
