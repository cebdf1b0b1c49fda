"""What the lab takes for granted of nodes' kernels and of the network between them: told where the user sees it."""

from collections.abc import Iterable, Iterator, Sequence

from kflab.cluster.store import Store
from kflab.dataplane.cni import CniProfile
from kflab.dataplane.proxy_config import ProxyConfig
from kflab.engine.ipvs_counts import ESTABLISHED_S
from kflab.engine.neighbours import PROBES
from kflab.engine.types import Timing
from kflab.lab.commands import Act, Kill
from kflab.lab.spec import HOST_GW, Action, ClientSpec
from kflab.manifest.objects_network import Service
from kflab.manifest.objects_pods import Pod

_MOST = 3
"""How many Services one line names."""

_CUTTING = ("powerOff", "partition")
"""Verbs that take a node off the network."""


def affinity_assumptions(store: Store, mode: str) -> Iterator[tuple[str, str]]:
    """What is simplified of session affinity, where a Service has it.

    Args:
        store: The cluster.
        mode: kube-proxy's.
    """
    sticky = (
        obj for obj in store.of_kind("Service") if isinstance(obj, Service) and obj.session_affinity == "ClientIP"
    )
    names = [f"{service.meta.namespace}/{service.meta.name}" for service in sticky]
    if not names:
        return
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    text = (
        f"session affinity of {', '.join(names[:_MOST])}{more}: time is exact, not in jiffies; a caller that reaches "
        "other endpoints by one address of a Service than by another (Local and Cluster policy) has one entry for both"
    )
    if mode == "ipvs":
        text += "; a persistence template waits for its connections as if each were closed as soon as it is opened"
    yield text, "sessionAffinity: None"


def ipvs_assumptions(config: ProxyConfig, clients: Iterable[ClientSpec]) -> Iterator[tuple[str, str]]:
    """What is taken for granted of connections in IPVS mode that clients keep open.

    A packet of a connection without an entry is no SYN, so IPVS leaves it to the node, which has no such socket
    (net/netfilter/ipvs/ip_vs_proto_tcp.c, tcp_conn_schedule).
    """
    if config.mode == "ipvs" and any(client.connections for client in clients):
        idle_s = config.ipvs_tcp_s or ESTABLISHED_S
        yield (
            f"connections that clients keep stay open however long they are idle; IPVS forgets one after {idle_s:g} s "
            "(ipvs.tcpTimeout), and its node resets it at the next packet",
            "give clients a rate that leaves no connection idle for so long",
        )


def conntrack_assumptions(most: int, buckets: int) -> Iterator[tuple[str, str]]:
    """How a full table makes room, where the scenario says how many entries one takes.

    Args:
        most: nf_conntrack_max of every node; 0 where the scenario does not say.
        buckets: Size of its hash table.
    """
    if most:
        yield (
            f"a full conntrack table of {most:,} entries evicts one that is not ASSURED where the eight hash buckets "
            f"that a first packet looks into, of {buckets:,}, hold one; all buckets are as likely to, and an evicted "
            "connection whose SYN is repeated has no new entry",
            "cluster: {conntrack: {max: 65536, buckets: 65536}}",
        )


_CONTROL_PLANE = ("kube-apiserver", "etcd", "kube-controller-manager", "kube-scheduler", "kube-proxy")
"""Programs that the lab runs by itself, whatever pods show them."""


def static_assumptions(store: Store) -> Iterator[tuple[str, str]]:
    """What is taken for granted of static pods, of which the cluster has the mirror pods."""
    mirrors = [pod for pod in store.of_kind("Pod") if isinstance(pod, Pod) and pod.is_mirror]
    if not mirrors:
        return
    many = "1 mirror pod" if len(mirrors) == 1 else f"{len(mirrors)} mirror pods"
    yield (
        f"{many}: the files of their static pods stay on their nodes, so a deleted one comes back and its containers "
        "go on",
        "no other way is modelled",
    )
    names = {name: None for name in _CONTROL_PLANE for pod in mirrors if pod.meta.name.startswith(f"{name}-")}
    if names:
        yield (
            f"mirror pods of {', '.join(names)}: they only show what the lab has of these, and ending their containers "
            "stops none of it",
            "stop apiserver, etcd, controller-manager, scheduler or kube-proxy/NODE",
        )


def network_assumptions(pod_network: str, actions: Sequence[Action], timing: Timing) -> Iterator[tuple[str, str]]:
    """Which network lies between the nodes, where the scenario says so or cuts a node off."""
    probed = PROBES * timing.neighbour_probe_ns
    longest = timing.neighbour_reachable_ns * 3 // 2 + timing.neighbour_delay_ns + probed
    fails = f"{probed / 1e9:g} to {longest / 1e9:g} s"
    cuts = any(isinstance(one.command, Act) and one.command.verb in _CUTTING for one in actions)
    if pod_network == HOST_GW:
        yield (
            "pod network host-gw: the nodes are on one Ethernet segment; after a node is gone, callers in the cluster "
            f"get No route to host as soon as ARP for it has failed ({fails}, drawn as of an entry in constant use); "
            "clients outside are behind a router and time out, as datagrams and a single curl do",
            "cluster: {podNetwork: routed}",
        )
    elif cuts:
        yield (
            "pod network routed: a router between the nodes, as in a cloud's VPC, drops packets to one that is gone "
            "without a word, so callers time out",
            "cluster: {podNetwork: host-gw}",
        )


def cni_assumptions(cni: CniProfile, actions: Sequence[Action]) -> Iterator[tuple[str, str]]:
    """What becomes of a pod's network, where its object goes before its process."""
    if not cni.follows_pod and any(isinstance(one.command, Kill) and one.command.how == "force" for one in actions):
        yield (
            f"CNI {cni.name}: packets to the address of a pod that is gone are dropped without a word; behind a bridge "
            "its node says No route to host as soon as ARP for it has failed, 3 to 53 s after the pod went where the "
            "entry was in use",
            "no other way is modelled",
        )
    if cni.follows_pod:
        yield (
            f"CNI {cni.name}: callers on the pod's own node meet the same silence as others; in truth Calico also "
            "deletes that node's conntrack entries, so their next packet to a Service's address over an old connection "
            "goes to another pod, which resets it",
            "cluster: {cni: bridge}",
        )
