"""The overview as a snapshot: steady, half a second after a crash, and two seconds after it."""

from fractions import Fraction

import numpy as np

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
from tests.tui.fake_parts import (
    CRASH_NS,
    INGRESS,
    INGRESS_1,
    INGRESS_2,
    INGRESS_SVC,
    MS,
    NODE_A,
    NODE_B,
    NODE_C,
    PODS,
    PRODUCT_SVC,
    SLICE,
    S,
    frozen,
    series,
    stepped,
)


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
    learned = [CRASH_NS + ms * MS if crash == "two" else 0 for ms in (630, 930, 710)]
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
            rules_since_ns=learned[0],
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
            rules_since_ns=learned[1],
        ),
        NodeRow(
            NODE_C, "10.0.1.52", "True", "zone-2", rev, step, True, True, False, 0, None, (), rules_since_ns=learned[2]
        ),
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
