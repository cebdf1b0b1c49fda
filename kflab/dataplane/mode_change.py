"""What a change of kube-proxy's mode changes for callers of one cluster: the same first packets through both rule sets.

The packets are those on which modes are known to differ (`modes_differ.Reason`), sent to one Service of each shape;
what is said of each comes from the two walks, never from a table.
"""

from collections.abc import Iterator

from kflab.dataplane.addresses import IPV4, family_of, is_loopback
from kflab.dataplane.modes import ModeRules, fan_in
from kflab.dataplane.modes_differ import Reason, difference
from kflab.dataplane.packets import Packet, Verdict
from kflab.dataplane.service_ports import PortRules
from kflab.records import dataclass

OUTSIDE = {"IPv4": "203.0.113.45", "IPv6": "2001:db8:ffff::45"}
"""Documentation addresses (RFC 5737, RFC 3849) for a client outside."""

_SOURCE_PORT = 40000


@dataclass(frozen=True, slots=True)
class Changed:
    """One kind of call that the new mode answers otherwise."""

    reason: Reason
    call: str
    """An example: "10.244.1.7 calls default/web at 10.96.0.10:81"."""
    before: str
    """What the caller gets in the old mode: "times out"."""
    now: str

    def __str__(self) -> str:
        return f"{self.call}: {self.before} before, {self.now} now"


def changes(old: ModeRules, new: ModeRules, pod_ip: str = "") -> tuple[Changed, ...]:
    """Kinds of calls that two rule sets of one node answer differently, one example each.

    Args:
        old: The node's rules in the mode before.
        new: Its rules in the new mode, of the same Services.
        pod_ip: A pod on the node, to call from; "": no pod calls.
    """
    found: dict[Reason, Changed] = {}
    for port in _one_of_each(new):
        for packet in _packets(new, port, pod_ip):
            differs = difference(new, packet) or difference(old, packet)
            if differs is None or differs.reason in found:
                continue
            before, now = answer(old, packet), answer(new, packet)
            if before != now:
                call = f"{packet.src} calls {port.service.namespace}/{port.service.name} at {packet.destination}"
                found[differs.reason] = Changed(differs.reason, call, before, now)
    return tuple(found.values())


def answer(rules: ModeRules, packet: Packet) -> str:
    """What a caller gets from a node's rules, in words."""
    out = fan_in(rules, packet)
    if out.verdict is Verdict.DNAT:
        if not any(endpoint.masquerade for endpoint in out.endpoints):
            whose = "which see the caller's address"
        elif all(endpoint.masquerade for endpoint in out.endpoints):
            whose = "which see the node's address"
        else:
            whose = "some of which see the node's address"
        n = len(out.endpoints)
        return f"goes to {n} endpoint{'s' if n != 1 else ''}, {whose}"
    if out.verdict is Verdict.REJECT:
        return "is refused by a rule"
    if out.verdict is Verdict.DROP:
        return "times out (dropped by a rule)"
    if is_loopback(packet.dst) and not is_loopback(packet.src):
        return "times out (the kernel discards it)"
    if rules.is_local(packet.dst):
        return "is refused (nothing listens there)"
    return "times out (no rule, no such host)"


def _one_of_each(rules: ModeRules) -> Iterator[PortRules]:
    """A Service port of each shape, the first in order of the rules."""
    seen = set()
    for service in rules.services.values():
        for port in service.ports:
            shape = (
                bool(port.node_port), bool(port.external_ips), bool(port.lb_ips), bool(port.source_ranges),
                port.external_local, port.internal_local, bool(port.health_port), port.endpoints.any_usable,
                port.endpoints.local_ready(rules.facts.name) > 0,
            )  # fmt: skip
            if shape not in seen:
                seen.add(shape)
                yield port


def _packets(rules: ModeRules, port: PortRules, pod_ip: str) -> Iterator[Packet]:
    """First packets on which modes may differ, to one Service port."""
    family = rules.family
    primary = rules.facts.primary_ip(family)
    outside, loopback = OUTSIDE[family], "127.0.0.1" if family == IPV4 else "::1"

    def to(source: str, address: str, number: int) -> Iterator[Packet]:
        if source and address:
            yield Packet(source, _SOURCE_PORT, address, number, port.protocol)

    inside = pod_ip if pod_ip and family_of(pod_ip) == family else primary
    yield from to(inside, port.cluster_ip, _unused(rules, port))
    for source in (pod_ip, primary):
        yield from to(source, port.cluster_ip, port.port)
    own = [address for address in (*rules.facts.ips, *rules.facts.extra_ips) if family_of(address) == family]
    if port.node_port:
        yield from to(loopback, loopback, port.node_port)
        for address in own:
            yield from to(outside, address, port.node_port)
        yield from to(pod_ip, primary, port.node_port)
    for address in (*port.external_ips, *port.lb_ips):
        for source in (outside, primary, pod_ip):
            yield from to(source, address, port.port)
    if port.health_port:
        yield from to(outside, primary, port.health_port)


def _unused(rules: ModeRules, port: PortRules) -> int:
    """A port that the Service's address lacks."""
    number = port.port % 65535 + 1
    while rules.services.at(port.cluster_ip, port.protocol, number):
        number = number % 65535 + 1
    return number
