"""One opened request."""

from fractions import Fraction

from kflab.dataplane.packets import Alternative, Hop, Packet, RequestTrace
from tests.tui.fake_parts import INGRESS, INGRESS_1, INGRESS_2, INGRESS_SVC, MS, NODE_A, NODE_B, PODS, PRODUCT_SVC


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
