"""The pod network as the packet meets it: one named profile, and which address MASQUERADE gives to a packet.

MASQUERADE takes the primary address of the interface the packet leaves by (iptables-extensions(8)), so what a pod sees
as its caller is the CNI plugin's doing.
"""

from typing import Final

from kflab.dataplane.addresses import canonical, family_of, network
from kflab.dataplane.packets import Packet
from kflab.records import dataclass

_FIRST_PORT: Final = 1024
"""Lowest port netfilter maps an unprivileged source port to (nf_nat_core.c, nf_nat_l4proto_unique_tuple)."""

MASQUERADE_PORTS: Final = 65536 - _FIRST_PORT
"""How many such ports there are."""

_MASK: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class CniProfile:
    """How pods hang on a node."""

    name: str
    words: str
    """One sentence for traces."""
    bridge: bool
    """Local pods are reached through an interface with an address of its own."""
    follows_pod: bool = False
    """An agent ends a pod's network when its object goes, whether or not its process still runs; else the kubelet has
    it ended after the process (`control.podnetwork`)."""


BRIDGE: Final = CniProfile(
    name="bridge",
    words=(
        "CNI profile bridge (plugins bridge and host-local, routes between nodes): towards a pod on the same node the "
        "source becomes the bridge's address, .1 of the node's podCIDR; towards another node, the node's InternalIP"
    ),
    bridge=True,
)
"""The lab's profile: bridge plugin, host-local IPAM (containernetworking/plugins), one route per node."""

ROUTED: Final = CniProfile(
    name="routed",
    words="CNI profile routed (host routes, no bridge address): the source always becomes the node's InternalIP",
    bridge=False,
)
"""As Calico without encapsulation: the host side of a pod's veth has no address of its own."""

CALICO: Final = CniProfile(
    name="calico",
    words=(
        "CNI profile calico (iptables data plane, Kubernetes data store; host routes, no bridge address): the source "
        "always becomes the node's InternalIP; a pod's network ends when its object goes"
    ),
    bridge=False,
    follows_pod=True,
)
"""Calico as its manifests install it, in its iptables mode."""

CNI_PROFILES: Final = {profile.name: profile for profile in (BRIDGE, CALICO)}
"""What a scenario can name."""


def gateway(pod_cidrs: tuple[str, ...], family: str) -> str:
    """The bridge's address: the first of the node's podCIDR of a family (host-local's default gateway); "" without."""
    for cidr in pod_cidrs:
        parts = network(cidr)
        if parts is not None and family_of(cidr) == family:
            version, base, _ = parts
            return canonical(_text(version, base + 1))
    return ""


def _text(version: int, number: int) -> str:
    if version == 4:
        return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))
    return ":".join(f"{number >> shift & 0xFFFF:x}" for shift in range(112, -1, -16))


def masquerade_source(profile: CniProfile, node_ip: str, pod_cidrs: tuple[str, ...], to_local_pod: bool) -> str:
    """The address that a masqueraded packet leaves a node with.

    Args:
        profile: The CNI profile.
        node_ip: The node's InternalIP of the packet's family.
        pod_cidrs: The node's podCIDRs.
        to_local_pod: Whether the packet goes to a pod of the same node.
    """
    if profile.bridge and to_local_pod:
        return gateway(pod_cidrs, family_of(node_ip)) or node_ip
    return node_ip


def masquerade_words(profile: CniProfile, to_local_pod: bool) -> str:
    """Which address it is, in a few words."""
    if profile.bridge and to_local_pod:
        return f"the bridge's address: CNI profile {profile.name}, the pod is on this node"
    return f"the node's InternalIP: CNI profile {profile.name}" + (
        "" if to_local_pod else ", the pod is on another node"
    )


def masquerade_port(packet: Packet, draw: int) -> int:
    """The source port after MASQUERADE --random-fully: the kernel draws any unprivileged one.

    The kernel's own draw is not in the record, so the lab's is an integer mix (finaliser of splitmix64) of the
    packet's source port and its draw word; it has no influence on anything else.
    """
    mixed = (draw << 16 ^ packet.sport) & _MASK
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & _MASK
    return _FIRST_PORT + ((mixed >> 32) * MASQUERADE_PORTS >> 32)
