"""Two views of one node's Service ports held against each other: what differs in meaning, and where it stands."""

from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from typing import Final

from kflab.manifest.objects import Key
from kflab.proof.drift_view import NOWHERE, At, Found, NodeView, PortKey, PortView
from kflab.records import dataclass

API_SERVICE: Final = "default/kubernetes"
"""The API server makes this Service itself (k/k pkg/controlplane/controller/kubernetesservice)."""

SHOWN: Final = 5
"""Endpoints named in one line."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as the manifests imply."""

    at: At
    """In the dump; `NOWHERE` where it has nothing of it."""
    text: str
    behind: int = 0
    """Endpoints the node lacks."""
    ahead: int = 0
    """Endpoints the node has too many."""

    @property
    def line(self) -> int:
        """Of the dump."""
        return self.at.line


@dataclass(frozen=True, slots=True)
class Open:
    """What the manifests leave open of one Service: kflab made it up."""

    cluster_ip: bool = False
    node_ports: frozenset[int] = frozenset()
    """Node ports that kflab assigned."""
    balancer: bool = False
    pods: bool = False


@dataclass(frozen=True, slots=True)
class Compared:
    """What came out of one family."""

    differences: tuple[Difference, ...]
    notes: tuple[str, ...]
    n_ports: int
    n_endpoints: int


class Comparison:
    """One family of one node: what it should have, and what it has.

    Args:
        wanted: By kflab's own rules.
        found: By the dump.
        keys: The Service behind each Service port of `wanted`.
        left_open: What of it is kflab's invention.
        made: Services that kflab added because every cluster has them.
    """

    def __init__(
        self,
        wanted: NodeView,
        found: NodeView,
        keys: Mapping[PortKey, Key],
        left_open: Mapping[Key, Open],
        made: frozenset[Key],
    ) -> None:
        self._wanted, self._found, self._keys = wanted, found, keys
        self._open, self._made = left_open, made
        self._apart: dict[str, None] = {}
        self._differences: list[Difference] = []
        self._notes: list[str] = []

    def _say(self, at: At, text: str, behind: int = 0, ahead: int = 0) -> None:
        self._differences.append(Difference(at, text, behind, ahead))

    def result(self, mode: str, foreign: Callable[[], tuple[list[Found], list[str]]]) -> Compared:
        """Compare.

        Args:
            mode: kube-proxy's, for the message that it has written nothing.
            foreign: Names rules of others that change answers, and notes.
        """
        if not self._found.ports and self._wanted.ports:
            self._say(
                NOWHERE,
                f"no Service port at all, where the manifests imply {len(self._wanted.ports)}: kube-proxy has written "
                f"nothing here, or runs in another mode than {mode}",
                behind=sum(len(port.endpoints) for port in self._wanted.ports.values()),
            )
        else:
            self._ports()
            self._around()
        for at, text in self._found.strangers:
            self._say(at, f"not kube-proxy's form inside its own chain: {text}")
        if self._found.ports:
            certain, notes = foreign()
            self._differences += [Difference(item.at, item.text) for item in certain]
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
                    NOWHERE,
                    f"Service port {_name(wanted)} is missing, with {count_of(n, 'endpoint')}: {_where(wanted)}",
                    behind=n,
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
                text = (
                    f"Service port {_name(found)} is not in the manifests: {_where(found)}, {count_of(n, 'endpoint')}"
                )
                self._say(found.at, text, ahead=n)

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
                self._say(found.at, f"{name}: {title} is {here} here, {there} in the manifests")
        if found.affinity_s != wanted.affinity_s and found.endpoints and wanted.endpoints:
            here, there = (f"{port.affinity_s} s" if port.affinity_s else "off" for port in (found, wanted))
            self._say(found.at, f"{name}: session affinity is {here} here, {there} by the manifests")
        if found.source_ranges != wanted.source_ranges and found.endpoints and wanted.endpoints:
            here, there = (_ranges(port.source_ranges) for port in (found, wanted))
            self._say(found.at, f"{name}: load balancer source ranges are {here} here, {there} by the manifests")
        pairs = (
            ("", wanted.masquerade, found.masquerade, "internal"),
            ("external ", wanted.external_masquerade, found.external_masquerade, "external"),
        )
        for title, there_rules, here_rules, chain in pairs:
            if there_rules != here_rules and chain in wanted.chains and chain in found.chains:
                here, there = (_callers(rules) for rules in (here_rules, there_rules))
                self._say(found.at, f"{name}: {title}masquerade is for {here} here, for {there} by the manifests")

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
            at = next(iter(here.values()), found.at)
            self._say(at, f"{name}: {kind} {_list(here)} here, {_list(there)} by the manifests")
        if wanted.node_port != found.node_port and not (wanted.node_port in left.node_ports and found.node_port):
            self._number(wanted.node_port, found.node_port, found.at, f"{name}: node port")
        if wanted.health_port != found.health_port and not (
            wanted.health_port in left.node_ports and found.health_port
        ):
            self._number(wanted.health_port, found.health_port, found.at, f"{name}: health check node port")

    def _number(self, wanted: int, found: int, at: At, what: str) -> None:
        self._say(at, f"{what} {found or 'none'} here, {wanted or 'none'} by the manifests")

    def _endpoints(self, wanted: PortView, found: PortView, left: Open) -> None:
        name = _name(wanted)
        there, here = wanted.endpoints, found.endpoints
        missing = [text for text in there if text not in here]
        extra = [text for text in here if text not in there]
        if left.pods and len(missing) == len(there) and len(extra) == len(here):
            difference = len(there) - len(here)
            if difference > 0:
                text = f"{len(here)} here, {len(there)} by the manifests, which give the pods no addresses"
                self._say(
                    found.at, f"{name}: this node is {count_of(difference, 'endpoint')} behind: {text}", difference
                )
            elif difference < 0:
                text = f"{len(here)} here, {len(there)} by the manifests, which give the pods no addresses"
                self._say(found.at, f"{name}: {count_of(-difference, 'endpoint')} too many: {text}", ahead=-difference)
            return
        if missing:
            text = f"{name}: this node is {count_of(len(missing), 'endpoint')} behind: it lacks {_list(missing)}"
            self._say(found.at, text + ("" if here else f"; it has none{_fate(found)}"), behind=len(missing))
        if extra:
            at = found.endpoint_places.get(extra[0], found.at)
            text = f"{name}: {count_of(len(extra), 'endpoint')} that the manifests do not imply: {_list(extra)}"
            self._say(at, text, ahead=len(extra))
        if not missing and not extra:
            self._sides(wanted, found)
        if not there and not here and wanted.refused and wanted.refused.keys() == found.refused.keys():
            for address, there_target in wanted.refused.items():
                if found.refused[address] != there_target:
                    self._say(
                        found.at,
                        f"{name}: {address} meets {found.refused[address]} here, {there_target} by the manifests",
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
            at = found.endpoint_places.get((extra or off or [""])[0], found.at)
            if missing:
                behind = f"this node is {count_of(len(missing), 'endpoint')} behind"
                text = f"{_name(found)}: {title} traffic does not reach {_list(missing)}: {behind}"
                self._say(found.at, text, behind=len(missing))
            if extra:
                text = f"{title} traffic reaches {_list(extra)}, which the manifests do not imply"
                self._say(at, f"{_name(found)}: {text}", ahead=len(extra))
            if off and not missing and not extra:
                shown = f"{float(here[off[0]]):.3f}, not {there[off[0]]}"
                more = f" (and {len(off) - 1} more)" if len(off) > 1 else ""
                text = f"{title} traffic is shared otherwise: {off[0]} gets {shown}{more}"
                self._say(at, f"{_name(found)}: {text}")

    def _around(self) -> None:
        for way in sorted(self._wanted.needed - self._found.jumps):
            self._say(NOWHERE, way)
        for title, there in self._wanted.fixed.items():
            here = self._found.fixed.get(title, ())
            if here != there:
                at = self._found.fixed_at.get(title, NOWHERE)
                self._say(at, f"{title} has {_joined(here)}; expected {_joined(there)}")


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


def count_of(count: int, what: str) -> str:
    """ "3 endpoints"."""
    return f"{count} {what}{'' if count == 1 else 's'}"
