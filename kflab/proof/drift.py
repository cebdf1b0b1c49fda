"""`kflab drift`: hold the rules of a real node against what manifests imply for it.

Expected is what kflab writes for that node once the controllers have settled; found is the node's iptables-save. Both
are read by `drift_view`, and what differs in meaning is named with the line it stands on.

What the manifests leave open (a ClusterIP that the API server assigned, pods without addresses) is kflab's invention:
it is not held against the node. Of endpoints whose addresses are not given only the number counts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, TextIO

from kflab.cluster.ipam import Pins
from kflab.cluster.store import Store
from kflab.control import made
from kflab.control.delays import Delays
from kflab.control.plane import ControlPlane
from kflab.dataplane.addresses import IPV4, IPV6
from kflab.dataplane.dump import Dump, read_dump, read_text
from kflab.dataplane.iptables import RuleSet, ServiceTable, compile_service
from kflab.dataplane.node_facts import NodeFacts
from kflab.dataplane.proxy_config import ProxyConfig
from kflab.dataplane.trace_text import visible
from kflab.dataplane.world import node_facts
from kflab.draws import Draws
from kflab.errors import KflabError
from kflab.exits import FAILED, OK
from kflab.manifest.loader import load
from kflab.manifest.objects import EndpointSlice, Key, KubeObject, KubeProxyConfiguration, Node, Pod, Service
from kflab.manifest.sources import SourceText
from kflab.proof.drift_foreign import foreign_changes
from kflab.proof.drift_view import NodeView, PortKey, PortView, view_of
from kflab.scenario.format import Scenario

API_SERVICE: Final = "default/kubernetes"
"""The API server makes this Service itself (k/k pkg/controlplane/controller/kubernetesservice)."""

SHOWN: Final = 5
"""Endpoints named in one line."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as the manifests imply."""

    line: int
    """Of the dump; 0 where the dump has nothing of it."""
    text: str
    behind: int = 0
    """Endpoints the node lacks."""
    ahead: int = 0
    """Endpoints the node has too many."""


@dataclass(frozen=True, slots=True)
class Open:
    """What the manifests leave open of one Service: kflab made it up."""

    cluster_ip: bool = False
    node_ports: frozenset[int] = frozenset()
    """Node ports that kflab assigned."""
    balancer: bool = False
    pods: bool = False


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
    dumps = read_dump(text, name)
    expected = expect(scenario, node)
    found: list[Difference] = []
    notes: list[str] = []
    n_ports = n_endpoints = 0
    for dump in dumps:
        rules = expected.rules[dump.family or IPV4]
        compared = compare(rules, dump, expected)
        found += compared.differences
        notes += compared.notes
        n_ports += compared.n_ports
        n_endpoints += compared.n_endpoints
    for item in found:
        place = f"{name}:{item.line}" if item.line else name
        out.write(visible(f"{place}: {item.text}") + "\n")
    for note in (*notes, *(f"the dump says: {remark}" for remark in dumps[0].remarks)):
        out.write(visible(f"note: {note}") + "\n")
    out.write(visible(_summary(node, found, n_ports, n_endpoints)) + "\n")
    return FAILED if found else OK


def _summary(node: str, found: Sequence[Difference], n_ports: int, n_endpoints: int) -> str:
    if not found:
        return (
            f"{node}: no drift: {_n(n_ports, 'Service port')} and {_n(n_endpoints, 'endpoint')} as the manifests imply"
        )
    behind, ahead = sum(item.behind for item in found), sum(item.ahead for item in found)
    words = [f"{node}: {_n(len(found), 'difference')}"]
    if behind:
        words.append(f"this node is {_n(behind, 'endpoint')} behind")
    if ahead:
        words.append(f"it has {_n(ahead, 'endpoint')} that the manifests do not imply")
    return "; ".join(words)


def _n(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


# --- what is expected ------------------------------------------------------------------------------------------------


def expect(scenario: Scenario, node: str) -> Expected:
    """Bring the manifests' cluster to rest and write one node's rules.

    Raises:
        KflabError: If the manifests cannot be loaded, have no such node, or put kube-proxy in another mode.
    """
    spec = scenario.spec
    texts = [SourceText(tab.name, tab.text, tab.path) for tab in spec.tabs if tab.role != "patches"]
    patches = [SourceText(tab.name, tab.text, tab.path) for tab in spec.tabs if tab.role == "patches"]
    loaded = load(texts, patches, default_namespace=spec.namespace)
    loaded.raise_errors()
    given = loaded.objects
    extra = made.Made()
    if spec.nodes and not any(isinstance(obj, Node) for obj in given):
        extra += made.nodes(spec.nodes)
    extra += made.ingress_controllers(given)
    extra += made.coredns(given)
    extra += made.client_pod(spec.namespace)
    proxy = next((obj for obj in given if isinstance(obj, KubeProxyConfiguration)), None)
    pins = Pins(pod_ips=spec.pins.pod_ips, lb_ips=spec.pins.load_balancer_ips)
    delays = Delays().with_overrides(spec.delays)
    plane = ControlPlane(Store(), Draws(spec.seed), delays, pins, None, proxy, spec.load_balancer)
    plane.load((*given, *extra.objects), loaded.observed_keys)
    plane.settle()
    objects = [obj for kind in plane.store.kinds() for obj in plane.store.of_kind(kind)]
    pinned = frozenset(ip for ips in spec.pins.pod_ips.values() for ip in ips)
    return expected_of(
        objects, node, proxy, given, loaded.observed_keys, pinned, frozenset(spec.pins.load_balancer_ips)
    )


def expected_of(
    objects: Sequence[KubeObject],
    node: str,
    proxy: KubeProxyConfiguration | None,
    given: Iterable[KubeObject] = (),
    observed: Iterable[Key] = (),
    pinned: frozenset[str] = frozenset(),
    pinned_balancers: frozenset[str] = frozenset(),
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

    Raises:
        KflabError: If there is no such node, or kube-proxy writes no iptables chains.
    """
    config = ProxyConfig.from_object(proxy)
    if config.mode != "iptables":
        raise KflabError(f"the manifests put kube-proxy in mode {config.mode}: drift reads the chains of mode iptables")
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


@dataclass(frozen=True, slots=True)
class Compared:
    """What came out of one family."""

    differences: tuple[Difference, ...]
    notes: tuple[str, ...]
    n_ports: int
    n_endpoints: int


def compare(rules: RuleSet, dump: Dump, expected: Expected | None = None) -> Compared:
    """Hold a dump against the rules that a node should have.

    Args:
        rules: What it should have.
        dump: What it has.
        expected: What of it is kflab's invention, and who calls from the node; None: nothing is.
    """
    (own,) = read_dump(rules.save_text(), "expected")
    comparison = _Comparison(view_of(own), view_of(dump), expected, rules)
    return comparison.result(rules)


class _Comparison:
    def __init__(self, wanted: NodeView, found: NodeView, expected: Expected | None, rules: RuleSet) -> None:
        self._wanted, self._found = wanted, found
        self._open = expected.open if expected is not None else {}
        self._made = expected.made if expected is not None else frozenset()
        self._apart: dict[str, None] = {}
        self._pods = expected.pod_ips if expected is not None else ()
        self._keys: dict[PortKey, Key] = {
            (port.name, port.protocol.lower()): key for key, service in rules.services.items() for port in service.ports
        }
        self._differences: list[Difference] = []
        self._notes: list[str] = []

    def _say(self, line: int, text: str, behind: int = 0, ahead: int = 0) -> None:
        self._differences.append(Difference(line, text, behind, ahead))

    def result(self, rules: RuleSet) -> Compared:
        if not self._found.ports and self._wanted.ports:
            self._say(
                0,
                f"no Service port at all, where the manifests imply {len(self._wanted.ports)}: kube-proxy has written "
                "nothing here, or runs in another mode than iptables",
                behind=sum(len(port.endpoints) for port in self._wanted.ports.values()),
            )
        else:
            self._ports()
            self._around()
        for line, text in self._found.strangers:
            self._say(line, f"not kube-proxy's form inside its own chain: {text}")
        if self._found.ports:
            certain, notes = foreign_changes(self._found, rules.facts, self._pods, rules.family)
            self._differences += [Difference(item.line, item.text) for item in certain]
            self._notes += notes
        if self._apart:
            self._notes.append(f"not compared, as the manifests do not have it: {', '.join(self._apart)}")
        n_endpoints = sum(len(port.endpoints) for port in self._found.ports.values())
        return Compared(tuple(self._differences), tuple(self._notes), len(self._found.ports), n_endpoints)

    def _ports(self) -> None:
        for key, wanted in self._wanted.ports.items():
            found = self._found.ports.get(key)
            service = self._keys[key]
            if service in self._made and (found is None or not found.endpoints.keys() & wanted.endpoints.keys()):
                self._apart[f"{service.namespace}/{service.name}"] = None
            elif found is None:
                n = len(wanted.endpoints)
                self._say(
                    0, f"Service port {_name(wanted)} is missing, with {_n(n, 'endpoint')}: {_where(wanted)}", behind=n
                )
            else:
                self._port(wanted, found, self._open.get(service, Open()))
        for key, found in self._found.ports.items():
            if key in self._wanted.ports:
                continue
            if found.name.partition(":")[0] == API_SERVICE:
                self._apart[API_SERVICE] = None
            else:
                n = len(found.endpoints)
                text = f"Service port {_name(found)} is not in the manifests: {_where(found)}, {_n(n, 'endpoint')}"
                self._say(found.line, text, ahead=n)

    def _port(self, wanted: PortView, found: PortView, left: Open) -> None:
        name = _name(wanted)
        self._addresses(wanted, found, left)
        self._endpoints(wanted, found, left)
        policies = (
            ("internalTrafficPolicy", wanted.internal_policy, found.internal_policy),
            ("externalTrafficPolicy", wanted.external_policy, found.external_policy),
        )
        for title, there, here in policies:
            if there and here and there != here:
                self._say(found.line, f"{name}: {title} is {here} here, {there} in the manifests")
        if found.affinity_s != wanted.affinity_s and found.endpoints and wanted.endpoints:
            here, there = (f"{port.affinity_s} s" if port.affinity_s else "off" for port in (found, wanted))
            self._say(found.line, f"{name}: session affinity is {here} here, {there} by the manifests")
        if found.source_ranges != wanted.source_ranges and found.endpoints and wanted.endpoints:
            here, there = (_ranges(port.source_ranges) for port in (found, wanted))
            self._say(found.line, f"{name}: load balancer source ranges are {here} here, {there} by the manifests")
        pairs = (
            ("", wanted.masquerade, found.masquerade, "internal"),
            ("external ", wanted.external_masquerade, found.external_masquerade, "external"),
        )
        for title, there_rules, here_rules, chain in pairs:
            if there_rules != here_rules and chain in wanted.chains and chain in found.chains:
                here, there = (_callers(rules) for rules in (here_rules, there_rules))
                self._say(found.line, f"{name}: {title}masquerade is for {here} here, for {there} by the manifests")

    def _addresses(self, wanted: PortView, found: PortView, left: Open) -> None:
        name = _name(wanted)
        for kind in dict.fromkeys((*wanted.addresses, *found.addresses)):
            there, here = wanted.addresses.get(kind, {}), found.addresses.get(kind, {})
            if there.keys() == here.keys():
                continue
            invented = (kind == "cluster IP" and left.cluster_ip) or (kind == "load balancer IP" and left.balancer)
            if invented and (here or kind != "cluster IP"):
                continue
            both_have_rules = bool(wanted.endpoints) == bool(found.endpoints)
            if not both_have_rules and kind != "cluster IP":
                continue  # without endpoints such an address has refusals instead of rules
            line = next(iter(here.values()), found.line)
            self._say(line, f"{name}: {kind} {_list(here)} here, {_list(there)} by the manifests")
        if wanted.node_port != found.node_port and not (wanted.node_port in left.node_ports and found.node_port):
            self._number(wanted.node_port, found.node_port, found.line, f"{name}: node port")
        if wanted.health_port != found.health_port and not (
            wanted.health_port in left.node_ports and found.health_port
        ):
            self._number(wanted.health_port, found.health_port, found.line, f"{name}: health check node port")

    def _number(self, wanted: int, found: int, line: int, what: str) -> None:
        self._say(line, f"{what} {found or 'none'} here, {wanted or 'none'} by the manifests")

    def _endpoints(self, wanted: PortView, found: PortView, left: Open) -> None:
        name = _name(wanted)
        there, here = wanted.endpoints, found.endpoints
        missing = [text for text in there if text not in here]
        extra = [text for text in here if text not in there]
        if left.pods and len(missing) == len(there) and len(extra) == len(here):
            difference = len(there) - len(here)
            if difference > 0:
                text = f"{len(here)} here, {len(there)} by the manifests, which give the pods no addresses"
                self._say(found.line, f"{name}: this node is {_n(difference, 'endpoint')} behind: {text}", difference)
            elif difference < 0:
                text = f"{len(here)} here, {len(there)} by the manifests, which give the pods no addresses"
                self._say(found.line, f"{name}: {_n(-difference, 'endpoint')} too many: {text}", ahead=-difference)
            return
        if missing:
            text = f"{name}: this node is {_n(len(missing), 'endpoint')} behind: it lacks {_list(missing)}"
            self._say(found.line, text + ("" if here else f"; it has none{_fate(found)}"), behind=len(missing))
        if extra:
            line = found.endpoint_lines.get(extra[0], found.line)
            text = f"{name}: {_n(len(extra), 'endpoint')} that the manifests do not imply: {_list(extra)}"
            self._say(line, text, ahead=len(extra))
        if not missing and not extra:
            self._sides(wanted, found)
        if not there and not here and wanted.refused and wanted.refused.keys() == found.refused.keys():
            for at, there_target in wanted.refused.items():
                if found.refused[at] != there_target:
                    self._say(
                        found.line, f"{name}: {at} meets {found.refused[at]} here, {there_target} by the manifests"
                    )

    def _sides(self, wanted: PortView, found: PortView) -> None:
        """With the same endpoints in all: which of them get ClusterIP traffic, which outside traffic, and how much."""
        sides = (
            ("ClusterIP", wanted.internal, found.internal, wanted.internal_policy == found.internal_policy),
            ("outside", wanted.external, found.external, wanted.external_policy == found.external_policy),
            ("the node's own outside", wanted.short, found.short, bool(wanted.short and found.short)),
        )
        for title, there, here, alike in sides:
            if not alike:
                continue  # told as a difference of policies
            missing = [text for text in there if text not in here]
            extra = [text for text in here if text not in there]
            off = [text for text in there if abs(there[text] - here.get(text, Fraction(0))) > Fraction(1, 1 << 20)]
            line = found.endpoint_lines.get((extra or off or [""])[0], found.line)
            if missing:
                behind = f"this node is {_n(len(missing), 'endpoint')} behind"
                text = f"{_name(found)}: {title} traffic does not reach {_list(missing)}: {behind}"
                self._say(found.line, text, behind=len(missing))
            if extra:
                text = f"{title} traffic reaches {_list(extra)}, which the manifests do not imply"
                self._say(line, f"{_name(found)}: {text}", ahead=len(extra))
            if off and not missing and not extra:
                shown = f"{float(here[off[0]]):.3f}, not {there[off[0]]}"
                more = f" (and {len(off) - 1} more)" if len(off) > 1 else ""
                text = f"{title} traffic is shared otherwise: {off[0]} gets {shown}{more}"
                self._say(line, f"{_name(found)}: {text}")

    def _around(self) -> None:
        for (table, chain, target), _ in self._wanted.jumps.items():
            wanted = self._wanted.dump.chain(table, target)
            if wanted is not None and wanted.rules and (table, chain, target) not in self._found.jumps:
                self._say(0, f"{table} {chain} does not jump to {target}")
        for name, there in self._wanted.fixed.items():
            here = self._found.fixed[name]
            if here != there:
                at = self._found.dump.chain("nat", name)
                line = (at.rules[0].line if at.rules else at.line) if at is not None else 0
                self._say(line, f"masquerade: {name} has {_joined(here)}; expected {_joined(there)}")


def _name(port: PortView) -> str:
    return f"{port.name} ({port.protocol.upper()})"


def _where(port: PortView) -> str:
    """Where a Service port is reached."""
    words = [f"{kind} {_list(found)}" for kind, found in port.addresses.items()]
    if port.node_port:
        words.append(f"node port {port.node_port}")
    return ", ".join(words) or "no address"


def _list(items: Iterable[str]) -> str:
    every = list(items)
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return (", ".join(every[:SHOWN]) + more) or "none"


def _ranges(ranges: tuple[str, ...] | None) -> str:
    return "any" if ranges is None else ", ".join(ranges) or "none"


def _callers(rules: tuple[str, ...]) -> str:
    return " and ".join(f'"{rule}"' if rule != "all" else "all callers" for rule in rules) or "nobody"


def _fate(port: PortView) -> str:
    target = next(iter(port.refused.values()), "")
    return f" ({'refuses' if target == 'REJECT' else 'drops'} connections)" if target else ""


def _joined(rules: tuple[str, ...]) -> str:
    return "; ".join(rules) or "no rule"
