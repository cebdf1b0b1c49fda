"""Endpoints outside the cluster: a database that an EndpointSlice or Endpoints written by hand names.

kube-proxy sends there like anywhere; what answers is none of the cluster's business, so the lab has to assume it: it
answers, unless the slice says otherwise. An address of a node or in a node's pod CIDR that no Pod has is not outside:
nobody answers there.
"""

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from kflab.cluster.store import Store
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_network import EndpointSlice
from kflab.manifest.objects_pods import Pod

LISTENS = "kflab.dev/listens"
"""Annotation of a slice (Endpoints hand it on): empty means that nothing answers on its outside addresses."""


class Outside:
    """Which listed addresses belong to nothing in the store.

    Args:
        store: Asked anew when it has changed.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._as_of = -1
        self._found: dict[str, tuple[EndpointSlice, bool]] = {}

    def answers(self, address: str) -> bool:
        """Whether an address that no Pod and no node has answers."""
        found = self.endpoints().get(address)
        return found is not None and found[1] and LISTENS not in found[0].meta.annotations

    def endpoints(self) -> dict[str, tuple[EndpointSlice, bool]]:
        """Address → (the slice that lists it, whether it lies outside the cluster); only those without a Pod."""
        if self._as_of != self._store.revision:
            self._as_of = self._store.revision
            self._found = self._read()
        return self._found

    def _read(self) -> dict[str, tuple[EndpointSlice, bool]]:
        listed = {
            address: piece
            for piece in self._store.of_kind("EndpointSlice")
            if isinstance(piece, EndpointSlice) and piece.address_type != "FQDN"
            for endpoint in piece.endpoints
            if endpoint.target is None
            for address in endpoint.addresses
        }
        if not listed:
            return {}
        pods = (pod for pod in self._store.of_kind("Pod") if isinstance(pod, Pod))
        for ip in (ip for pod in pods for ip in pod.status.pod_ips):
            listed.pop(ip, None)
        nodes = [node for node in self._store.of_kind("Node") if isinstance(node, Node)]
        cidrs = [ip_network(cidr, strict=False) for node in nodes for cidr in node.pod_cidrs]
        own = {ip for node in nodes for ip in (*node.internal_ips, *node.external_ips)}
        return {ip: (piece, not _within(ip, cidrs)) for ip, piece in listed.items() if ip not in own}


def _within(address: str, cidrs: list[IPv4Network | IPv6Network]) -> bool:
    ip = ip_address(address)
    return any(ip in cidr for cidr in cidrs)


def assumptions(outside: Outside) -> list[tuple[str, str]]:
    """What the lab assumes about such addresses, one line for each Service, each with how to override it."""
    groups: dict[tuple[Key, str], list[str]] = {}
    for address, (piece, away) in outside.endpoints().items():
        word = "nobody" if not away else "nothing" if LISTENS in piece.meta.annotations else "answers"
        groups.setdefault((piece.service, word), []).append(address)
    lines = []
    for (service, word), ips in groups.items():
        names = ", ".join(ips[:3]) + (f" and {len(ips) - 3} more" if len(ips) > 3 else "")
        where = f"of Service {service.namespace}/{service.name}"
        if word == "answers":
            lines.append((f"{names} {where}, outside the cluster: assumed to answer; what the pod network does to the "
                          "source address of packets that leave is not modelled",
                          f"annotate the EndpointSlice or Endpoints {LISTENS}: ''"))  # fmt: skip
        elif word == "nobody":
            lines.append((f"{names} {where}: no Pod has it, nobody answers", "give the Pod, with status.podIPs"))
    return lines
