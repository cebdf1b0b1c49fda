"""The cluster as network namespaces: a router with the clients outside, one namespace per node and per pod.

Every pod hangs on a veth pair of its own whose host side has no address (CNI profile routed, as Calico without
encapsulation): its default route is its node by 169.254.1.1, a node has a host route to each of its pods, and the
router leads from node to node. Nothing leads out: what no route knows ends in a blackhole. Neighbours are written down,
so no ARP is waited for.
"""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Final, Self

from kflab.dataplane.addresses import IPV4, IPV6
from kflab.dataplane.node_facts import NodeFacts
from kflab.proof.netns import Netns
from kflab.proof.verify_cluster import Cluster, PodSite

_GATEWAYS: Final = {IPV4: "169.254.1.1", IPV6: "fe80::1"}
"""Next hop of pods and nodes: link-local, never an address of anyone (Calico's FAQ, "Why does my container have a route
to 169.254.1.1?")."""

_FIRST_TABLE: Final = 1000
"""Routing tables of the outside, one per node: clear of the kernel's own (253 to 255)."""

_EVERYWHERE: Final = {
    "ipv4/conf/all/rp_filter": 0,
    "ipv4/conf/default/rp_filter": 0,
    "ipv4/conf/all/send_redirects": 0,
    "ipv4/conf/default/send_redirects": 0,
    "ipv4/conf/all/accept_redirects": 0,
    "ipv4/conf/default/accept_redirects": 0,
    # Every refused call shall hear of it: without these the kernel sends a caller one ICMP error a second.
    "ipv4/icmp_ratemask": 0,
    "ipv6/icmp/ratelimit": 0,
    "ipv6/icmp/ratemask": 255,  # a list of message types, and this one is reserved
    "ipv6/conf/all/accept_redirects": 0,
    "ipv6/conf/default/accept_redirects": 0,
    "ipv6/conf/default/accept_dad": 0,
    "ipv6/conf/default/accept_ra": 0,
}

_ROUTER: Final = {"ipv4/ip_forward": 1, "ipv6/conf/all/forwarding": 1, "ipv6/conf/default/forwarding": 1}


class Layout:
    """Namespaces of a cluster, built on entering and gone on leaving.

    Args:
        cluster: What to build.
        localnet: Whether nodes route 127.0.0.0/8 as any other address (route_localnet).
        crowd: CIDR whose every address the outside has too.
    """

    def __init__(self, cluster: Cluster, localnet: bool, crowd: str) -> None:
        self._cluster = cluster
        self._localnet = int(localnet)
        self._gateway = _GATEWAYS[cluster.family]
        self._host = 32 if cluster.family == IPV4 else 128
        self._nodad = "" if cluster.family == IPV4 else " nodad"
        """Duplicate address detection would make an address wait for a second."""
        self._crowd = crowd
        self.outside: Netns
        self.nodes: dict[str, Netns] = {}
        self.pods: dict[str, Netns] = {}
        """By pod, namespace/name; a pod with hostNetwork has its node's."""
        self._made: list[Netns] = []
        self._index = {name: i for i, name in enumerate(cluster.nodes)}

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    def _close(self) -> None:
        for made in reversed(self._made):
            made.close()
        self._made.clear()

    def device(self, node: str) -> str:
        """The outside's interface towards a node."""
        return f"n{self._index[node]}"

    def _make(self, name: str) -> Netns:
        made = Netns(name)
        self._made.append(made)
        made.sysctl(_EVERYWHERE)
        off = int(self._cluster.family == IPV4)
        made.sysctl({f"ipv6/conf/{which}/disable_ipv6": off for which in ("all", "default", "lo")})
        return made

    def _build(self) -> None:
        cluster = self._cluster
        self.outside = self._make("outside")
        self.outside.sysctl({**_ROUTER, "ipv4/conf/all/accept_local": 1})
        for name in cluster.nodes:
            node = self.nodes[name] = self._make(f"node {name}")
            node.sysctl({**_ROUTER, "ipv4/conf/all/route_localnet": self._localnet})
        self._build_outside()
        for name, facts in cluster.nodes.items():
            pods = [pod for pod in cluster.pods if pod.node == name]
            for pod in pods:
                self.pods[pod.name] = self.nodes[name] if pod.host_network else self._make(f"pod {pod.name}")
            self._build_node(facts, [pod for pod in pods if not pod.host_network])

    def _build_outside(self) -> None:
        lines = ["link set lo up", "route add blackhole default", f"route add local {self._crowd} dev lo"]
        lines += [f"route add local {address}/{self._host} dev lo" for address in self._cluster.clients]
        for name, facts in self._cluster.nodes.items():
            i, device = self._index[name], self.device(name)
            here, there = _mac(0, i, 0), _mac(0, i, 1)
            peer = self.nodes[name].path
            lines += [
                f"link add {device} address {here} type veth peer name uplink address {there} netns {peer}",
                f"link set {device} up",
                f"neigh replace {self._gateway} lladdr {there} dev {device} nud permanent",
            ]
            pods = [pod.address for pod in self._cluster.pods if pod.node == name and not pod.host_network]
            for to in dict.fromkeys((*facts.ips, *pods, *facts.pod_cidrs)):
                lines.append(f"route add {to} via {self._gateway} dev {device} onlink")
            # For a caller that binds itself to the device: everything, ClusterIPs too, through this node.
            table = _FIRST_TABLE + i
            lines.append(f"route add default via {self._gateway} dev {device} onlink table {table}")
            lines.append(f"rule add oif {device} lookup {table}")
        self._ip(self.outside, lines, list(self.nodes.values()))

    def _build_node(self, facts: NodeFacts, pods: list[PodSite]) -> None:
        i = self._index[facts.name]
        lines = ["link set lo up"]
        own = facts.primary_ip(self._cluster.family)
        lines += [f"address add {ip}/{self._host} dev uplink{self._nodad}" for ip in facts.ips]
        lines += [
            "link set uplink up",
            f"neigh replace {self._gateway} lladdr {_mac(0, i, 0)} dev uplink nud permanent",
            f"route add default via {self._gateway} dev uplink onlink src {own}",
        ]
        # An address of its range that no pod has is nowhere, instead of going round between router and node.
        lines += [f"route add blackhole {cidr}" for cidr in facts.pod_cidrs]
        for k, pod in enumerate(pods):
            peer = self.pods[pod.name].path
            lines += [
                f"link add p{k} address {_mac(1, i, 0)} type veth peer name eth0 address {_mac(2, i, k)} netns {peer}",
                f"link set p{k} up",
                f"neigh replace {pod.address} lladdr {_mac(2, i, k)} dev p{k} nud permanent",
                f"route add {pod.address}/{self._host} dev p{k} scope link src {own}",
            ]
        self._ip(self.nodes[facts.name], lines, [self.pods[pod.name] for pod in pods])
        for pod in pods:
            self._ip(
                self.pods[pod.name],
                [
                    "link set lo up",
                    f"address add {pod.address}/{self._host} dev eth0{self._nodad}",
                    "link set eth0 up",
                    f"neigh replace {self._gateway} lladdr {_mac(1, i, 0)} dev eth0 nud permanent",
                    f"route add default via {self._gateway} dev eth0 onlink",
                ],
            )

    def _ip(self, there: Netns, lines: Sequence[str], others: Sequence[Netns] = ()) -> None:
        family = "-4" if self._cluster.family == IPV4 else "-6"
        there.ip(lines, others, family)

    def load(self, texts: Mapping[str, str], command: tuple[str, ...]) -> dict[str, str]:
        """Load each node's rules with the real tool.

        Returns:
            Node → what the tool said, for those that it refused.
        """
        said = {name: self.nodes[name].run(command, text) for name, text in texts.items()}
        return {name: words for name, words in said.items() if words}


def _mac(kind: int, node: int, number: int) -> str:
    """A locally administered address."""
    return f"02:{kind:02x}:{node >> 8:02x}:{node & 255:02x}:{number >> 8:02x}:{number & 255:02x}"
