"""kube-proxy's packet flows in nftables and IPVS mode: the vectors say what iptables mode does.

Where a mode differs (`modes_differ.Reason`, a closed list) the vector does not apply: it counts as such only if
iptables mode agrees with the vector and the mode with its own expectation. Anything else fails.
"""

from collections.abc import Iterator
from fractions import Fraction

from kflab.dataplane.addresses import canonical
from kflab.dataplane.modes import ModeRules, fan_in, rule_set_for, walk_in
from kflab.dataplane.modes_differ import Expected, difference
from kflab.dataplane.packets import Packet, Verdict, join_host_port
from kflab.dataplane.rules import RecentSet
from kflab.dataplane.walk import FanOut, Walk
from kflab.proof.case import Case, Vector
from kflab.proof.kube_proxy_vectors import rule_set_of
from kflab.records import dataclass

_SOURCE_PORT = 40000

RULE_TEXT = "the text of iptables rules"
"""Why rule vectors do not apply."""


@dataclass(frozen=True, slots=True)
class ModeCase:
    """A checked case, and why it does not apply to the mode; "" where it does."""

    case: Case
    not_applicable: str = ""
    source: str = ""


def run_flows_in(mode: str, vector: Vector) -> Iterator[ModeCase]:
    """Send the first packets of a flow vector through a mode's rules.

    Args:
        mode: nftables or ipvs.
        vector: A flow vector.
    """
    iptables = rule_set_of(vector)
    rules = rule_set_for(mode, iptables.facts, iptables.config, iptables.services, iptables.family)
    for flow in vector["flows"]:
        packet = Packet(
            canonical(flow["source_ip"]), _SOURCE_PORT, canonical(flow["dest_ip"]), flow["dest_port"], flow["protocol"]
        )
        expect = flow["expect"]
        told = Expected(Verdict(expect["verdict"]), tuple(sorted(expect["endpoints"])), expect["masquerade"])
        name = f"{vector['id']}: {flow['name']}"
        found = found_of(fan_in(rules, packet))
        differs = difference(rules, packet)
        if differs is None:
            wanted, got = words(told), found
            if wanted == got and flow.get("then"):
                wanted, got = _repeats(rules, packet, flow["then"], expect["endpoints"])
            yield ModeCase(Case(name, wanted, got))
            continue
        agreed = found_of(fan_in(iptables, packet))
        case = Case(
            name,
            f"{words(told)} in iptables mode; {words(differs.expected)} in {mode} mode",
            f"{agreed} in iptables mode; {found} in {mode} mode",
        )
        yield ModeCase(case, differs.reason.words, differs.reason.source)


def run_rules_in(mode: str, vector: Vector) -> Iterator[ModeCase]:
    """Rule vectors are iptables' own: nothing to check in another mode."""
    yield ModeCase(Case(vector["id"], "", ""), RULE_TEXT, f"{mode} mode writes other rules")


def words(expected: Expected) -> str:
    """An expectation in words."""
    where = f" to {', '.join(expected.endpoints)}" if expected.endpoints else ""
    return f"{expected.verdict}{where}{', masqueraded' if expected.masquerade else ''}"


def found_of(found: FanOut) -> str:
    """A fan in the same words; unequal shares are said."""
    endpoints = tuple(sorted(join_host_port(item.address, item.port) for item in found.endpoints))
    text = words(Expected(found.verdict, endpoints, found.masquerade))
    shares: dict[Fraction, None] = dict.fromkeys(item.chance for item in found.endpoints)
    return f"{text}, unequal shares" if len(shares) > 1 else text


class _Seen:
    """The affinity memory of one node: nftables' sets, IPVS' persistence templates."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], int] = {}
        self.now_s = 0

    def __call__(self, name: str, source: str, seconds: int) -> bool:
        last = self._last.get((name, source))
        return last is not None and self.now_s - last <= seconds

    def remember(self, taken: Walk, source: str) -> None:
        for item in taken.taken:
            for match in item.rule.matches:
                if isinstance(match, RecentSet):
                    self._last[match.name, source] = self.now_s


def _repeats(rules: ModeRules, packet: Packet, then: list[Vector], endpoints: list[str]) -> tuple[str, str]:
    """Further connections of one client, whatever endpoint the first one drew."""
    wanted, found = [], []
    for i in range(len(endpoints)):
        memory = _Seen()
        draw = ((2 * i + 1) << 32) // (2 * len(endpoints))
        before = walk_in(rules, packet, draw)
        memory.remember(before, packet.src)
        for repeat in then:
            memory.now_s += repeat["after_seconds"]
            expected = [before.packet.destination] if repeat["endpoint"] == "same" else endpoints
            may = fan_in(rules, packet, recent=memory)
            reached = sorted(join_host_port(item.address, item.port) for item in may.endpoints)
            wanted.append(f"after {memory.now_s} s {', '.join(sorted(expected))}")
            found.append(f"after {memory.now_s} s {', '.join(reached)}")
            before = walk_in(rules, packet, draw, recent=memory)
            memory.remember(before, packet.src)
    return "; ".join(wanted), "; ".join(found)
