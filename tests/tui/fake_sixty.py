"""A snapshot of a Service with sixty pods."""

from dataclasses import replace

import numpy as np

from kflab.lab.snapshot import (
    BIN_NS,
    Band,
    Candidate,
    Failures,
    Knower,
    Knowledge,
    Mark,
    NodeRow,
    PodRow,
    Series,
    Snapshot,
    Span,
)
from kflab.manifest.objects import Key
from tests.tui.fake_overview import crash_two
from tests.tui.fake_parts import CRASH_NS, INGRESS_SVC, MS, frozen, series

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
                rules_since_ns=CRASH_NS + (620 + i * 50 % 380) * MS,
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
