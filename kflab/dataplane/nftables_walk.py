"""Take one first packet through a node's nftables table: with a draw (`nft_walk`), or all draws at once (`nft_fan`).

The answers are those of `walk.walk` and `walk.fan`. The packet visits the kernel's hooks in order: prerouting or
output, then input or forward after its destination was rewritten, then postrouting; in each hook the base chains by
priority. What a node sends to itself passes output, then input. The nat chains see only the first packet of a
connection, and not again when it comes in by loopback (net/netfilter/nf_nat_core.c, nf_nat_inet_fn).

Draws: `numgen random mod n` takes index (u * n) >> 32 of the unsigned 32-bit word u.
"""

from collections.abc import Iterator
from fractions import Fraction
from typing import Final, NamedTuple

from kflab.dataplane import nftables_names as names
from kflab.dataplane.addresses import IPV4
from kflab.dataplane.nftables import NftSource
from kflab.dataplane.nftables_rules import (
    Addr,
    AddrIn,
    AddrInSet,
    CtNew,
    Decision,
    Dnat,
    Expression,
    FibLocal,
    Iif,
    Masquerade,
    NftChain,
    NftRule,
    Numgen,
    PortIs,
    ProtoIs,
    Remember,
    SetMark,
    Unmarked,
    Vmap,
)
from kflab.dataplane.packets import Alternative, Packet, Verdict
from kflab.dataplane.rule_match import Flow
from kflab.dataplane.rules import RecentSet, Rule, Unknown, network_hit
from kflab.dataplane.walk import FanEndpoint, FanOut, Recent, Taken, Walk
from kflab.records import dataclass

_ONE: Final = Fraction(1)

_END: Final = {"drop": Verdict.DROP, "reject": Verdict.REJECT}


@dataclass(frozen=True, slots=True)
class NftTaken(Taken):
    """A rule that a packet took; `rule` carries its text, and `RecentSet` where it renews an affinity set."""

    def text(self, family: str = IPV4) -> str:
        """The chain and the rule, as `nft list` prints it."""
        return f"{self.chain}: {self.rule.matches[0].saved(family)}"


def _taken(chain: str, rule: NftRule, family: str) -> NftTaken:
    matches: list[Unknown | RecentSet] = [Unknown(rule.listed(family))]
    matches.extend(RecentSet(part.set) for part in rule.parts if isinstance(part, Remember))
    return NftTaken(names.TABLE, chain, Rule(tuple(matches), None))


class _Branch(NamedTuple):
    """A part of all draws that fared alike so far."""

    flow: Flow
    width: Fraction
    end: str = ""
    """"" while it goes on, else drop, reject, dnat or masquerade; "over": left a chain by return or goto."""
    path: tuple[NftTaken, ...] = ()
    sticky: bool = False


class _Reader:
    """Reads a table for one packet.

    Args:
        source: The table.
        recent: Memory of affinity; None: nobody was seen before.
        draw: Unsigned 32-bit word; None follows every draw.
        explain: Whether to record the rules taken.
    """

    def __init__(self, source: NftSource, recent: Recent | None, draw: int | None, explain: bool) -> None:
        self.source, self.recent, self.draw, self.explain = source, recent, draw, explain
        self.affinity_s = 0

    def hook(self, hook: str, start: _Branch, kinds: tuple[str, ...] = ("filter", "nat")) -> Iterator[_Branch]:
        """Through the base chains of a hook."""
        branches = [start]
        for chain in self.source.base_chains(hook):
            if chain.hook is None or chain.hook.type not in kinds:
                continue
            passed: list[_Branch] = []
            for branch in branches:
                if branch.end in _END:
                    passed.append(branch)
                    continue
                passed.extend(self._chain(chain, branch._replace(end="")))
            branches = passed
        yield from branches

    def _chain(self, chain: NftChain, start: _Branch) -> Iterator[_Branch]:
        """Every branch that leaves a chain; `end` "" fell off its end, or left it by return or goto."""
        staying = [start]
        for rule in chain.rules:
            still: list[_Branch] = []
            for branch in staying:
                for after in self._rule(chain.name, rule, branch):
                    if after.end:
                        yield after._replace(end="") if after.end == "over" else after
                    else:
                        still.append(after)
            staying = still
            if not staying:
                return
        yield from staying

    def _rule(self, chain: str, rule: NftRule, before: _Branch) -> Iterator[_Branch]:
        """Read one rule: its parts from left to right until an expression does not hold."""
        branch = before
        if self.explain:
            branch = before._replace(path=(*before.path, _taken(chain, rule, self.source.family)))
        flow = before.flow
        for part in rule.parts:
            if isinstance(part, Decision):
                yield from self._decide(part, branch, before)
                return
            if isinstance(part, Vmap):
                decision = self.source.decision(part.map, flow.packet)
                if decision is None:
                    yield before
                else:
                    yield from self._decide(decision, branch, before)
                return
            if isinstance(part, Numgen):
                yield from self._draw(part, branch, before)
                return
            if isinstance(part, SetMark):
                flow.mark = flow.mark | part.bits if part.operator == "|" else flow.mark ^ part.bits
            elif isinstance(part, Dnat):
                flow.dnat(part.to)
                yield branch._replace(end="dnat")
                return
            elif isinstance(part, Masquerade):
                yield branch._replace(end="masquerade")
                return
            elif isinstance(part, Remember):
                self.affinity_s = self.source.affinity_s(part.set, flow.packet) or self.affinity_s
            elif isinstance(part, AddrInSet) and self._affinity(part, flow) is not None:
                if not self._affinity(part, flow):
                    yield before
                    return
                branch = branch._replace(sticky=True)
            elif not self._holds(part, flow):
                yield before
                return
        yield branch

    def _affinity(self, part: AddrInSet, flow: Flow) -> bool | None:
        """Whether the source is in a set that packets fill; None for other sets."""
        seconds = self.source.affinity_s(part.set, flow.packet)
        if seconds is None:
            return None
        self.affinity_s = seconds
        return self.recent is not None and self.recent(part.set, flow.packet.src, seconds)

    def _draw(self, part: Numgen, branch: _Branch, before: _Branch) -> Iterator[_Branch]:
        n = len(part.chains)
        share = branch.width / n
        if self.draw is not None:
            chosen = Decision("goto", part.chains[(self.draw * n) >> 32])
            yield from self._decide(chosen, branch._replace(width=share), before)
            return
        for name in part.chains:
            flow = branch.flow if n == 1 else branch.flow.copy()
            yield from self._decide(Decision("goto", name), branch._replace(flow=flow, width=share), before)

    def _decide(self, decision: Decision, branch: _Branch, before: _Branch) -> Iterator[_Branch]:
        if decision.kind == "return":
            yield branch._replace(end="over")
            return
        if not decision.chain:
            yield branch._replace(end=decision.kind)
            return
        chain = self.source.chain(decision.chain, branch.flow.packet)
        mark = branch.flow.mark
        for after in self._chain(chain, branch) if chain is not None else (branch,):
            if after.end:
                yield after
                continue
            # A chain that came back without effect is no part of the story.
            told = after if after.flow.mark != mark else after._replace(path=before.path)
            yield told._replace(end="over") if decision.kind == "goto" else told

    def _holds(self, part: Expression, flow: Flow) -> bool:
        packet = flow.packet
        match part:
            case Addr(of, value, inverted):
                return network_hit(value, _number(of, flow)) is not inverted
            case Iif(_, cidr, inverted):
                return (bool(cidr) and network_hit(cidr, flow.src_number)) is not inverted
            case AddrIn(of, values, inverted):
                return any(network_hit(value, _number(of, flow)) for value in values) is not inverted
            case AddrInSet(of, name):
                return self.source.holds(name, packet.src if of == "saddr" else packet.dst)
            case PortIs(protocol, port):
                return flow.protocol == protocol and packet.dport == port
            case ProtoIs(protocol):
                return flow.protocol == protocol
            case FibLocal(of):
                return flow.src_local if of == "saddr" else flow.dst_local
            case Unmarked(mask):
                return not flow.mark & mask
            case CtNew():
                return True

    # --- the whole way -------------------------------------------------------------------------------------------

    def go(self, packet: Packet) -> Iterator[tuple[Verdict, _Branch, bool]]:
        """Every way the packet may go: verdict, branch, whether it is masqueraded."""
        start = Flow(packet, self.source.is_local(packet.src), self.source.is_local(packet.dst))
        first = "output" if start.src_local else "prerouting"
        for branch in self.hook(first, _Branch(start, _ONE)):
            yield from self._routed(branch._replace(end=branch.end if branch.end in _END else ""))

    def _routed(self, branch: _Branch) -> Iterator[tuple[Verdict, _Branch, bool]]:
        """After routing: input, forward, or (sent to itself) input as well; then postrouting."""
        flow = branch.flow
        if flow.rewritten:
            flow.dst_local = self.source.is_local(flow.packet.dst)
        hook = "input" if flow.dst_local else "" if flow.src_local else "forward"
        passed = [branch] if branch.end or not hook else list(self.hook(hook, branch))
        for after in passed:
            verdict = _END.get(after.end, Verdict.DNAT if after.flow.rewritten else Verdict.NONE)
            if verdict is not Verdict.DNAT or (flow.dst_local and not flow.src_local):
                yield verdict, after, False
                continue
            for out in self.hook("postrouting", after._replace(end="")):
                masked = out.end == "masquerade"
                yield verdict, out if masked else out._replace(path=after.path), masked


def _number(of: str, flow: Flow) -> tuple[int, int] | None:
    return flow.src_number if of == "saddr" else flow.dst_number


def nft_walk(
    source: NftSource, packet: Packet, draw: int, *, recent: Recent | None = None, explain: bool = True
) -> Walk:
    """Take one packet through the rules.

    Args:
        source: The rules, e.g. a node's `NftRuleSet`.
        packet: First packet of a connection, as it arrives at (or leaves) the node.
        draw: Unsigned 32-bit word.
        recent: Memory of session affinity, asked by name of affinity set; None: nobody was seen before.
        explain: Whether to work out the alternatives.
    """
    reader = _Reader(source, recent, draw, explain=True)
    verdict, branch, masquerade = next(reader.go(packet))
    flow = branch.flow
    own = tuple(taken for taken in branch.path if not taken.chain.startswith("nat-"))
    taken = () if verdict is Verdict.NONE else own
    target = None
    alternatives: tuple[Alternative, ...] = ()
    if verdict is Verdict.DNAT:
        endpoint = source.endpoint(packet, flow.packet.dst, flow.packet.dport)
        target = endpoint.target if endpoint else None
        if explain and not branch.sticky:
            alternatives = _alternatives(source, packet, flow, recent)
    skipped = {names.MARK_MASQ, *(f"filter-{hook}" for hook in ("input", "forward", "output"))}
    chains = (item.chain for item in taken if item.chain not in skipped and not item.chain.endswith("-pre-dnat"))
    return Walk(
        verdict=verdict,
        packet=flow.packet,
        masquerade=masquerade,
        chains=tuple(dict.fromkeys(chains)),
        taken=taken,
        chance=_ONE if branch.sticky or verdict is not Verdict.DNAT else branch.width,
        alternatives=alternatives,
        target=target,
        sticky=branch.sticky,
        family=source.family,
    )


def _alternatives(source: NftSource, packet: Packet, flow: Flow, recent: Recent | None) -> tuple[Alternative, ...]:
    chosen = (flow.packet.dst, flow.packet.dport)
    found = nft_fan(source, packet, recent=recent).endpoints
    return tuple(
        Alternative(
            Packet("", 0, endpoint.address, endpoint.port).destination,
            endpoint.chance,
            endpoint.target,
            chosen=(endpoint.address, endpoint.port) == chosen,
        )
        for endpoint in found
    )


def nft_fan(source: NftSource, packet: Packet, *, recent: Recent | None = None) -> FanOut:
    """Work out everything the rules may do with a packet, with exact chances.

    Args:
        source: The rules.
        packet: First packet of a connection.
        recent: Memory of session affinity; None: nobody was seen before.
    """
    reader = _Reader(source, recent, None, explain=False)
    chances: dict[tuple[str, int, bool], Fraction] = {}
    others: dict[Verdict, Fraction] = {}
    for verdict, branch, masquerade in reader.go(packet):
        if verdict is Verdict.DNAT:
            key = (branch.flow.packet.dst, branch.flow.packet.dport, masquerade)
            chances[key] = chances.get(key, Fraction(0)) + branch.width
        else:
            others[verdict] = others.get(verdict, Fraction(0)) + branch.width
    if not chances:
        return FanOut(max(others, key=lambda verdict: others[verdict]), affinity_s=reader.affinity_s)
    endpoints = []
    for (address, port, masquerade), chance in chances.items():
        known = source.endpoint(packet, address, port)
        endpoints.append(FanEndpoint(address, port, chance, known.target if known else None, masquerade))
    return FanOut(Verdict.DNAT, tuple(endpoints), reader.affinity_s)
