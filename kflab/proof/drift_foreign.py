"""Rules of others (Docker, a CNI plugin, a firewall) that change what becomes of Service traffic on a node.

Found by trying: packets to every Service port are walked through the dump as it is, and through the dump without the
rules of others. Where the answers differ, the rule that made the difference is named.
"""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from kflab.dataplane.addresses import IPV4, family_of, network
from kflab.dataplane.dump import Dump, DumpChain, DumpRule
from kflab.dataplane.dump_meeting import Known
from kflab.dataplane.dump_outcome import Case, Exploration, Fate, Outcome, Step
from kflab.dataplane.dump_walk import explore
from kflab.dataplane.nft_dump import Listing
from kflab.dataplane.nft_dump_walk import explore_listing
from kflab.dataplane.nftables_names import TABLE
from kflab.dataplane.node_facts import NodeFacts
from kflab.dataplane.packets import Packet
from kflab.proof.drift_view import NOWHERE, At, Found, NodeView, PortView, foreign
from kflab.records import dataclass

MOST_PACKETS: Final = 300
"""Packets tried; more would add Services, hardly rules."""

CLIENTS: Final = {IPV4: "203.0.113.45", "IPv6": "2001:db8:ffff::45"}
"""A caller outside (RFC 5737, RFC 3849)."""

_SOURCE_PORT: Final = 40000


@dataclass(frozen=True, slots=True)
class Others:
    """A node's rules with and without those of others.

    Args:
        real: Walks a packet through all of them.
        bare: Walks it through kube-proxy's alone.
        is_own: Whether a step is one of kube-proxy's.
    """

    real: Callable[[Packet], Exploration]
    bare: Callable[[Packet], Exploration]
    is_own: Callable[[Step], bool]


def others_in(dump: Dump, facts: NodeFacts) -> Others | None:
    """The rules of others in an iptables-save; None without."""
    others = [(chain.table, chain.name, rule.line) for chain, rule in foreign(dump)]
    dropping = any(chain.policy == "DROP" for chains in dump.tables.values() for chain in chains.values())
    if not others and not dropping:
        return None
    alone = _accepting(dump.without(others))
    known = _known(facts)
    return Others(partial(explore, dump, known=known), partial(explore, alone, known=known), _is_kube_proxys)


def others_listed(listing: Listing, facts: NodeFacts) -> Others | None:
    """The same in nft's listing: every table but kube-proxy's."""
    own = {place: table for place, table in listing.tables.items() if place[1] == TABLE}
    if not any(
        chain.hook and (chain.rules or chain.policy == "drop")
        for place, table in listing.tables.items()
        if place not in own
        for chain in table.chains.values()
    ):
        return None
    alone = Listing(listing.name, own, tool=listing.tool)
    known = _known(facts)
    return Others(
        partial(explore_listing, listing, known=known),
        partial(explore_listing, alone, known=known),
        lambda step: step.table.partition(" ")[2] == TABLE,
    )


def _known(facts: NodeFacts) -> Known:
    return Known(facts.name, (*facts.ips, *facts.extra_ips))


def foreign_changes(
    others: Others | None, view: NodeView, facts: NodeFacts, pods: Sequence[str], family: str
) -> tuple[list[Found], list[str]]:
    """Name rules of others that change answers.

    Args:
        others: The node's rules, and kube-proxy's alone.
        view: Its Service ports.
        facts: Its addresses.
        pods: Addresses of pods on it.
        family: IPv4 or IPv6.

    Returns:
        What changes for certain, and notes on what may change.
    """
    if others is None:
        return [], []
    changed: dict[Found, list[str]] = {}
    doubtful: dict[tuple[int, ...], tuple[str, str]] = {}
    tried = 0
    for port, packet in _packets(view, facts, pods, family):
        tried += 1
        if tried > MOST_PACKETS:
            break
        real, bare = others.real(packet), others.bare(packet)
        wanted = _shares(bare.cases[0].outcomes) if len(bare.cases) == 1 else {}
        for case in real.cases:
            if _shares(case.outcomes) == wanted:
                continue
            culprit = _culprit(case, wanted)
            if culprit is None:
                continue
            if len(real.cases) > 1:
                for question in real.questions:
                    at = question.step.rule.place(real.dump.name)
                    doubtful.setdefault(question.step.order, (at, question.what))
                continue
            text = f"{packet.source} → {packet.destination} {packet.protocol} ({port.name}) {_told(culprit, bare)}"
            changed.setdefault(_place(culprit, others.is_own), []).append(text)
    certain = [
        Found(place.at, f"{place.text} changes the answer: {texts[0]}" + _more(len(texts) - 1))
        for place, texts in sorted(changed.items())
    ]
    notes = []
    if doubtful:
        place_of_first, what = doubtful[min(doubtful)]
        others_too = f" and {len(doubtful) - 1} more" if len(doubtful) > 1 else ""
        notes.append(f"undecided rules may change answers: {place_of_first} ({what}){others_too}")
    if tried > MOST_PACKETS:
        notes.append(f"rules of others were tried with {MOST_PACKETS} packets, not with every Service port")
    return certain, notes


def _more(n: int) -> str:
    return f" (and {n} more)" if n else ""


def _accepting(dump: Dump) -> Dump:
    """The same with every policy ACCEPT."""
    tables = {
        table: {
            name: DumpChain(table, name, chain.line, chain.policy and "ACCEPT", chain.counters, chain.rules)
            for name, chain in chains.items()
        }
        for table, chains in dump.tables.items()
    }
    return Dump(dump.name, dump.family, tables, dump.remarks)


def _packets(view: NodeView, facts: NodeFacts, pods: Sequence[str], family: str) -> Iterator[tuple[PortView, Packet]]:
    """To every address of every Service port: from a pod of the node, from the node, from outside."""
    node = facts.primary_ip(family)
    pod = next((ip for ip in (*pods, *map(_last_of, facts.pod_cidrs)) if family_of(ip) == family), "")
    outside = CLIENTS[family]
    for port in view.ports.values():
        for kind, found in port.addresses.items():
            for at in found:
                address, _, number = at.rpartition(":")
                for source in (pod, node) if kind == "cluster IP" else (outside, pod):
                    if source:
                        packet = Packet(source, _SOURCE_PORT, address.strip("[]"), int(number), port.protocol.upper())
                        yield port, packet
        if port.node_port and node:
            yield port, Packet(outside, _SOURCE_PORT, node, port.node_port, port.protocol.upper())


def _last_of(cidr: str) -> str:
    """An address that a pod of the node may have."""
    parts = network(cidr)
    if parts is None:
        return ""
    version, base, mask = parts
    bits = 32 if version == 4 else 128
    last = base | (~mask & ((1 << bits) - 1)) & ~1
    return str(IPv4Address(last) if version == 4 else IPv6Address(last))


def _shares(outcomes: Sequence[Outcome]) -> dict[tuple[object, ...], Fraction]:
    found: dict[tuple[object, ...], Fraction] = {}
    for outcome in outcomes:
        found[outcome.result] = found.get(outcome.result, Fraction(0)) + outcome.chance
    return found


def _culprit(case: Case, wanted: dict[tuple[object, ...], Fraction]) -> Outcome | None:
    """The first outcome that would not be without the rules of others."""
    return next((outcome for outcome in case.outcomes if outcome.result not in wanted), None)


def _place(outcome: Outcome, is_own: Callable[[Step], bool]) -> Found:
    step = outcome.decided_by
    if step is None:  # the last step that is not kube-proxy's sent the packet elsewhere
        step = next((step for step in reversed(outcome.path) if not is_own(step)), None)
    if step is None:
        return Found(NOWHERE, outcome.why or "a policy")
    position = step.rule.position
    return Found(At(position["line"], position.get("column", 0)), f"{step.table} {step.text()}")


def _is_kube_proxys(step: Step) -> bool:
    """Whether a step is in kube-proxy's chains, or goes there."""
    goes = isinstance(step.rule, DumpRule) and step.rule.target.startswith("KUBE-")
    return goes or step.chain.startswith("KUBE-")


def _told(outcome: Outcome, bare: Exploration) -> str:
    usual = bare.cases[0].outcomes[0] if bare.cases else None
    return f"{_end(outcome)}, where kube-proxy's rules alone: {_end(usual) if usual else 'nothing'}"


def _end(outcome: Outcome) -> str:
    if outcome.fate is not Fate.PASSED:
        return outcome.fate.value
    source = {"": "", "masquerade": ", masqueraded"}.get(outcome.source, f", from {outcome.source}")
    return f"reaches {outcome.packet.destination}{source}"
