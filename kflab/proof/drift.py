"""`kflab drift`: hold the rules of a real node against what manifests imply for it.

Expected is what kflab writes for that node once the controllers have settled; found is the node's iptables-save, or its
nft list ruleset. Both are read by one `drift_view` or `drift_nft_view`, and `drift_compare` names what differs.

What the manifests leave open (a ClusterIP that the API server assigned, pods without addresses) is kflab's invention:
it is not held against the node. Of endpoints whose addresses are not given only the number counts.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TextIO

from kflab.dataplane.addresses import IPV4, IPV6
from kflab.dataplane.dump import Dump, read_dump, read_text
from kflab.dataplane.dump_read import read_rules
from kflab.dataplane.iptables import RuleSet, ServiceTable, compile_service
from kflab.dataplane.nft_dump import Listing
from kflab.dataplane.nft_dump_text import read_nft_text
from kflab.dataplane.nftables import NftRuleSet
from kflab.dataplane.nftables_names import TABLE
from kflab.dataplane.node_facts import NodeFacts
from kflab.dataplane.proxy_config import ProxyConfig
from kflab.dataplane.service_ports import PortRules
from kflab.dataplane.trace_text import visible
from kflab.dataplane.world import node_facts
from kflab.errors import KflabError
from kflab.exits import FAILED, OK
from kflab.manifest.objects import Key, KubeObject
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_config import KubeProxyConfiguration
from kflab.manifest.objects_network import EndpointSlice, Service
from kflab.manifest.objects_pods import Pod
from kflab.proof.drift_compare import Compared, Comparison, Difference, Open, count_of
from kflab.proof.drift_foreign import Others, foreign_changes, others_in, others_listed
from kflab.proof.drift_nft_view import FAMILIES, nft_view_of
from kflab.proof.drift_view import NodeView, PortKey, view_of
from kflab.proof.settled import settle
from kflab.records import dataclass
from kflab.scenario.format import Scenario

IPTABLES: Final = "iptables"

NFTABLES: Final = "nftables"

_TOOLS: Final = {IPTABLES: "iptables-save", NFTABLES: "nft -j list ruleset"}
"""What prints the rules of each mode."""


@dataclass(frozen=True)
class Expected:
    """What the manifests imply for one node."""

    facts: NodeFacts
    rules: Mapping[str, RuleSet]
    """By address family."""
    open: Mapping[Key, Open]
    made: frozenset[Key]
    """Services that kflab added because every cluster has them."""
    pod_ips: tuple[str, ...]
    """Pods that run on the node."""


def drift(scenario: Scenario, file: str, node: str, stdin: TextIO, out: TextIO) -> int:
    """Compare and print.

    Args:
        scenario: The manifests.
        file: The node's dump, "-" for standard input.
        node: Its name in the manifests.
        stdin: What "-" reads.
        out: Where to print.

    Returns:
        0 without drift, 1 with.

    Raises:
        KflabError: If the dump or the manifests cannot be read.
    """
    text, name = read_text(file, stdin)
    rules = read_rules(text, name)
    expected = expect(scenario, node, NFTABLES if isinstance(rules, Listing) else IPTABLES)
    found: list[Difference] = []
    notes: list[str] = []
    n_ports = n_endpoints = 0
    if isinstance(rules, Listing):
        remarks = rules.remarks
        each = [compare_listing(own, rules, expected) for own in _families(expected, rules)]
    else:
        remarks = rules[0].remarks
        each = [compare(expected.rules[dump.family or IPV4], dump, expected) for dump in rules]
    for compared in each:
        found += compared.differences
        notes += compared.notes
        n_ports += compared.n_ports
        n_endpoints += compared.n_endpoints
    for item in found:
        out.write(visible(f"{item.at.place(name)}: {item.text}") + "\n")
    for note in (*notes, *(f"the dump says: {remark}" for remark in remarks)):
        out.write(visible(f"note: {note}") + "\n")
    out.write(visible(_summary(node, found, n_ports, n_endpoints)) + "\n")
    return FAILED if found else OK


def _summary(node: str, found: Sequence[Difference], n_ports: int, n_endpoints: int) -> str:
    if not found:
        compared = f"{count_of(n_ports, 'Service port')} and {count_of(n_endpoints, 'endpoint')}"
        return f"{node}: no drift: {compared} as the manifests imply"
    behind, ahead = sum(item.behind for item in found), sum(item.ahead for item in found)
    words = [f"{node}: {count_of(len(found), 'difference')}"]
    if behind:
        words.append(f"this node is {count_of(behind, 'endpoint')} behind")
    if ahead:
        words.append(f"it has {count_of(ahead, 'endpoint')} that the manifests do not imply")
    return "; ".join(words)


# --- what is expected ------------------------------------------------------------------------------------------------


def expect(scenario: Scenario, node: str, mode: str = IPTABLES) -> Expected:
    """Bring the manifests' cluster to rest and write one node's rules.

    Args:
        scenario: The manifests.
        node: The node.
        mode: kube-proxy's mode as the dump shows it: iptables or nftables.

    Raises:
        KflabError: If the manifests cannot be loaded, have no such node, or put kube-proxy in another mode.
    """
    spec = scenario.spec
    settled = settle(scenario)
    pinned = frozenset(ip for ips in spec.pins.pod_ips.values() for ip in ips)
    return expected_of(
        settled.objects, node, settled.proxy, settled.loaded.objects, settled.loaded.observed_keys, pinned,
        frozenset(spec.pins.load_balancer_ips), mode,
    )  # fmt: skip


def expected_of(
    objects: Sequence[KubeObject],
    node: str,
    proxy: KubeProxyConfiguration | None,
    given: Iterable[KubeObject] = (),
    observed: Iterable[Key] = (),
    pinned: frozenset[str] = frozenset(),
    pinned_balancers: frozenset[str] = frozenset(),
    mode: str = IPTABLES,
) -> Expected:
    """What a cluster at rest implies for one node.

    Args:
        objects: The cluster.
        node: The node.
        proxy: kube-proxy's configuration.
        given: Objects as the manifests had them; what they leave open is not held against the node.
        observed: Objects taken as they stand.
        pinned: Pod addresses that the scenario gives.
        pinned_balancers: Services ("namespace/name") whose load balancer address the scenario gives.
        mode: kube-proxy's mode as the dump shows it.

    Raises:
        KflabError: If there is no such node, or the manifests put kube-proxy in another mode.
    """
    config = ProxyConfig.from_object(proxy)
    if proxy is not None and config.mode != mode:
        tool = _TOOLS.get(config.mode)
        wanted = f"give the node's {tool}" if tool else "drift reads the rules of modes iptables and nftables"
        given_now = f"this is {_TOOLS[mode].replace(' -j', '')}"
        raise KflabError(f"the manifests put kube-proxy in mode {config.mode}: {wanted}; {given_now}")
    nodes = {obj.meta.name: obj for obj in objects if isinstance(obj, Node)}
    if node not in nodes:
        raise KflabError(f"no node named {node!r}; there are {', '.join(list(nodes)[:8])}")
    services = [obj for obj in objects if isinstance(obj, Service)]
    slices: dict[Key, list[EndpointSlice]] = {}
    for obj in objects:
        if isinstance(obj, EndpointSlice):
            slices.setdefault(obj.service, []).append(obj)
    facts = node_facts(nodes[node])
    rules = {}
    for family in (IPV4, IPV6):
        compiled = [compile_service(service, slices.get(service.key, ()), family) for service in services]
        rules[family] = RuleSet(facts, config, ServiceTable(compiled, family), family)
    known = {*observed, *(obj.key for obj in given if isinstance(obj, EndpointSlice))}
    before = {obj.key: obj for obj in given if isinstance(obj, Service)}
    left_open = {
        service.key: _open(service, before[service.key], slices.get(service.key, ()), known, pinned, pinned_balancers)
        for service in services
        if service.key in before
    }
    pods = (obj for obj in objects if isinstance(obj, Pod) and obj.spec.node_name == node and not obj.spec.host_network)
    added = frozenset(service.key for service in services if before and service.key not in before)
    return Expected(facts, rules, left_open, added, tuple(ip for pod in pods for ip in pod.status.pod_ips))


def _open(
    now: Service,
    given: Service,
    slices: Iterable[EndpointSlice],
    known: set[Key],
    pinned: frozenset[str],
    pinned_balancers: frozenset[str],
) -> Open:
    wanted = {port.node_port for port in given.ports}
    balancer = not given.load_balancer and f"{now.meta.namespace}/{now.meta.name}" not in pinned_balancers
    invented = any(
        endpoint.target is not None and endpoint.target not in known and not pinned.issuperset(endpoint.addresses)
        for piece in slices
        if piece.key not in known
        for endpoint in piece.endpoints
    )
    assigned = {port.node_port for port in now.ports if port.node_port} - wanted
    if not given.health_check_node_port and now.health_check_node_port:
        assigned.add(now.health_check_node_port)
    return Open(not given.cluster_ips, frozenset(assigned), balancer, invented)


# --- comparing -------------------------------------------------------------------------------------------------------


def compare(rules: RuleSet, dump: Dump, expected: Expected | None = None) -> Compared:
    """Hold an iptables-save against the rules that a node should have.

    Args:
        rules: What it should have.
        dump: What it has.
        expected: What of it is kflab's invention, and who calls from the node; None: nothing is.
    """
    (own,) = read_dump(rules.save_text(), "expected")
    found = view_of(dump)
    others = others_in(dump, rules.facts)
    return _compared(view_of(own), found, rules, expected, IPTABLES, others)


def compare_listing(rules: NftRuleSet, listing: Listing, expected: Expected | None = None) -> Compared:
    """Hold nft's listing against the rules that a node should have, of one address family.

    Args:
        rules: What it should have.
        listing: What it has.
        expected: As for `compare`.
    """
    external = {
        _key_of(port): frozenset(port.external_ips) for service in rules.services.values() for port in service.ports
    }
    own = nft_view_of(read_nft_text(rules.save_text(), "expected"), rules.family, external)
    found = nft_view_of(listing, rules.family, external)
    return _compared(own, found, rules, expected, NFTABLES, others_listed(listing, rules.facts))


def _compared(
    wanted: NodeView,
    found: NodeView,
    rules: RuleSet | NftRuleSet,
    expected: Expected | None,
    mode: str,
    others: Others | None,
) -> Compared:
    keys = {_key_of(port): key for key, service in rules.services.items() for port in service.ports}
    left_open, added, pods = (expected.open, expected.made, expected.pod_ips) if expected is not None else ({}, (), ())
    comparison = Comparison(wanted, found, keys, left_open, frozenset(added))
    return comparison.result(mode, lambda: foreign_changes(others, found, rules.facts, pods, rules.family))


def _key_of(port: PortRules) -> PortKey:
    return port.name, port.protocol.lower()


def _families(expected: Expected, listing: Listing) -> list[NftRuleSet]:
    """What kube-proxy in nftables mode should have written, of each family that the node has or should have."""
    found = []
    for family, rules in expected.rules.items():
        own = NftRuleSet(rules.facts, rules.config, rules.services, family)
        if family == IPV4 or any(service.ports for service in own.services.values()):
            found.append(own)
        elif (FAMILIES[family], TABLE) in listing.tables and nft_view_of(listing, family, {}).ports:
            found.append(own)
    return found
