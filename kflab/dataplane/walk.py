"""Take one first packet through a node's rules: with a draw (`walk`), or all draws at once (`fan`).

Both read the same rules through a `RuleSource` and visit the kernel's hooks in its order: nat PREROUTING (or OUTPUT for
a packet the node itself sends), filter INPUT, FORWARD or OUTPUT after the destination was rewritten, nat POSTROUTING
(netfilter packet flow; the nat table sees only the first packet of a connection).

Draws: one unsigned 32-bit word u decides a whole walk. The rule i of n is taken where u / 2³² falls in its share; for n
equal shares that is rule (u * n) >> 32.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Final, NamedTuple

from kflab.dataplane import iptables_names as names
from kflab.dataplane.addresses import IPV4
from kflab.dataplane.iptables import RuleSource
from kflab.dataplane.packets import Alternative, Packet, Verdict
from kflab.dataplane.rule_match import Flow, hits
from kflab.dataplane.rules import Chain, RecentCheck, Rule, Statistic
from kflab.manifest.objects import Key
from kflab.records import dataclass

Recent = Callable[[str, str, int], bool]
"""(KUBE-SEP chain, source address, seconds) → whether that source was seen there within so many seconds."""

DRAWS: Final = 1 << 32

_CERTAIN: Final = Fraction(1)
"""Compared by identity where a rule without `statistic` takes all of what comes."""

_TERMINAL: Final = frozenset({"ACCEPT", "DROP", "REJECT", "DNAT", "MASQUERADE"})


@dataclass(frozen=True, slots=True)
class Taken:
    """A rule that a packet took."""

    table: str
    chain: str
    rule: Rule

    def text(self, family: str = IPV4) -> str:
        """As iptables-save prints it."""
        return self.rule.saved(self.chain, family)


@dataclass(frozen=True, slots=True)
class Walk:
    """What the rules did with one packet."""

    verdict: Verdict
    packet: Packet
    """The packet as it leaves the rules; its source is still the sender's (see `masquerade`)."""
    masquerade: bool
    """Whether the source is rewritten on the way out."""
    chains: tuple[str, ...]
    """kube-proxy's chains on the way to the decision, in order."""
    taken: tuple[Taken, ...]
    """Rules taken, in order; jumps that came back without effect are left out."""
    chance: Fraction
    """Chance of this outcome before the draw."""
    alternatives: tuple[Alternative, ...] = ()
    """Every endpoint that could have been drawn, in order of the rules; () where nothing was drawn."""
    target: Key | None = None
    """Pod behind the chosen endpoint, if known."""
    sticky: bool = False
    """Whether session affinity decided instead of the draw."""
    family: str = IPV4
    turn: str = ""
    """In words, where a virtual server took turns or counted: `ipvs_schedulers.turn_words`."""

    @property
    def rules(self) -> tuple[str, ...]:
        """Rules taken, as iptables-save prints them."""
        return tuple(taken.text(self.family) for taken in self.taken)


class FanEndpoint(NamedTuple):
    """One endpoint a packet may reach."""

    address: str
    port: int
    chance: Fraction
    target: Key | None
    masquerade: bool


@dataclass(frozen=True, slots=True)
class FanOut:
    """Everything the rules may do with a first packet."""

    verdict: Verdict
    endpoints: tuple[FanEndpoint, ...] = ()
    """In order of the rules; () unless the verdict is DNAT. Chances add up to 1."""
    affinity_s: int = 0
    """Seconds of ClientIP affinity; 0 without."""

    @property
    def masquerade(self) -> bool:
        """Whether any endpoint's packets are masqueraded (under hairpin only the caller's own are)."""
        return any(endpoint.masquerade for endpoint in self.endpoints)


# --- one packet, one draw --------------------------------------------------------------------------------------


class _Drawn:
    """State of a walk: the part of [0, 2³²) that the rules have left to this packet."""

    def __init__(self, source: RuleSource, flow: Flow, draw: int, recent: Recent | None) -> None:
        self.source, self.flow, self.draw, self.recent = source, flow, draw, recent
        self.low, self.width = Fraction(0), Fraction(1)
        self.path: list[Taken] = []
        self.choice: tuple[Chain, int, int] | None = None
        self.sticky = False
        self.affinity_s = 0

    def run(self, table: str, name: str) -> str:
        """Walk a chain; the terminal target's name, "" at its end."""
        chain = self.source.chain_for(table, name, self.flow.packet)
        if chain is None:
            return ""
        i = 0
        rules = chain.rules
        while i < len(rules):
            if chain.shares is not None and i == chain.shares[0] and chain.shares[1] > 1:
                i = self._jump_to_share(chain)
            elif not self._holds(chain, i):
                i += 1
                continue
            end = self._take(table, chain.name, rules[i])
            if end == "RETURN":
                return ""
            if end:
                return end
            i += 1
        return chain.policy if chain.policy == "DROP" else ""

    def _jump_to_share(self, chain: Chain) -> int:
        """Skip to the rule whose share the draw falls in; reading the rules one by one finds the same."""
        start, n = chain.shares or (0, 1)
        if self.width == 1:
            k = (self.draw * n) >> 32
        else:
            k = int((Fraction(self.draw, DRAWS) - self.low) / self.width * n)
        self.choice = (chain, start, n)
        self.low += self.width * Fraction(k, n)
        self.width /= n
        return start + k

    def _holds(self, chain: Chain, i: int) -> bool:
        rule = chain.rules[i]
        if not hits(rule.matches, self.flow):
            return False
        for match in rule.matches:
            if isinstance(match, Statistic):
                if self.choice is None:
                    self.choice = (chain, i, 0)
                share = self.width * match.probability
                if Fraction(self.draw, DRAWS) >= self.low + share:
                    self.low += share
                    self.width -= share
                    return False
                self.width = share
            elif isinstance(match, RecentCheck):
                self.affinity_s = match.seconds
                if self.recent is None or not self.recent(match.name, self.flow.packet.src, match.seconds):
                    return False
                self.sticky = True
        return True

    def _take(self, table: str, chain: str, rule: Rule) -> str:
        target = rule.target
        if target is None:
            return ""
        mark_before, length = self.flow.mark, len(self.path)
        self.path.append(Taken(table, chain, rule))
        if target.name == "MARK":
            self.flow.set_mark(target.argument)
            return ""
        if target.name == "RETURN" or target.name in _TERMINAL:
            if target.name == "DNAT":
                self.flow.dnat(target.argument)
            return target.name
        end = self.run(table, target.name)
        if not end and self.flow.mark == mark_before:
            del self.path[length:]
        return end


def walk(source: RuleSource, packet: Packet, draw: int, *, recent: Recent | None = None, explain: bool = True) -> Walk:
    """Take one packet through the rules.

    Args:
        source: The rules, e.g. a node's `RuleSet`.
        packet: First packet of a connection, as it arrives at (or leaves) the node.
        draw: Unsigned 32-bit word.
        recent: Memory of session affinity; None: nobody was seen before.
        explain: Whether to work out the alternatives.
    """
    flow = Flow(packet, source.is_local(packet.src), source.is_local(packet.dst))
    state = _Drawn(source, flow, draw, recent)
    state.run("nat", "OUTPUT" if flow.src_local else "PREROUTING")
    nat_path = tuple(state.path)
    chance, choice, sticky = state.width, state.choice, state.sticky
    state.path = []
    end = ""
    if flow.rewritten:
        flow.dst_local = source.is_local(flow.packet.dst)
    for hook in _filter_hooks(flow):
        end = state.run("filter", hook) or end
        if end in {"DROP", "REJECT"}:
            break
    verdict = _verdict(end, flow.rewritten)
    deciding = nat_path if verdict is Verdict.DNAT else tuple(state.path) if verdict is not Verdict.NONE else ()
    masquerade = False
    if verdict is Verdict.DNAT and not _delivered_here(flow):
        state.path = []
        masquerade = state.run("nat", "POSTROUTING") == "MASQUERADE"
        deciding += tuple(state.path) if masquerade else ()
    target = None
    alternatives: tuple[Alternative, ...] = ()
    if verdict is Verdict.DNAT:
        endpoint = source.endpoint(packet, flow.packet.dst, flow.packet.dport)
        target = endpoint.target if endpoint else None
        if explain and choice is not None and not sticky:
            alternatives = _alternatives(source, packet, flow, recent)
    own = tuple(taken for taken in deciding if taken.chain.startswith("KUBE-") or taken.table == "filter")
    chains = (taken.chain for taken in own if taken.chain.startswith("KUBE-") and taken.chain != names.MARK_MASQ)
    return Walk(
        verdict=verdict,
        packet=flow.packet,
        masquerade=masquerade,
        chains=tuple(dict.fromkeys(chains)),
        taken=own,
        chance=Fraction(1) if sticky or verdict is not Verdict.DNAT else chance,
        alternatives=alternatives,
        target=target,
        sticky=sticky,
        family=source.family,
    )


def _alternatives(source: RuleSource, packet: Packet, flow: Flow, recent: Recent | None) -> tuple[Alternative, ...]:
    chosen = (flow.packet.dst, flow.packet.dport)
    return tuple(
        Alternative(
            replace(packet, dst=endpoint.address, dport=endpoint.port).destination,
            endpoint.chance,
            endpoint.target,
            chosen=(endpoint.address, endpoint.port) == chosen,
        )
        for endpoint in fan(source, packet, recent=recent).endpoints
    )


def _filter_hooks(flow: Flow) -> tuple[str, ...]:
    """Hooks of the filter table after routing. What a node sends to itself passes OUTPUT, then INPUT."""
    if flow.src_local:
        return ("OUTPUT", "INPUT") if flow.dst_local else ("OUTPUT",)
    return ("INPUT",) if flow.dst_local else ("FORWARD",)


def _delivered_here(flow: Flow) -> bool:
    """Whether the packet ends in a socket of the node without passing POSTROUTING."""
    return flow.dst_local and not flow.src_local


def _verdict(end: str, rewritten: bool) -> Verdict:
    if end == "DROP":
        return Verdict.DROP
    if end == "REJECT":
        return Verdict.REJECT
    if rewritten:
        return Verdict.DNAT
    return Verdict.ACCEPT if end == "ACCEPT" else Verdict.NONE


# --- one packet, all draws -------------------------------------------------------------------------------------


class _Branch(NamedTuple):
    """A part of all draws that fared alike so far."""

    flow: Flow
    width: Fraction
    end: str


class _Fanned:
    def __init__(self, source: RuleSource, recent: Recent | None) -> None:
        self.source, self.recent = source, recent
        self.affinity_s = 0

    def run(self, table: str, name: str, flow: Flow, width: Fraction) -> Iterator[_Branch]:
        """Every branch that leaves a chain; `end` "" fell off its end."""
        chain = self.source.chain_for(table, name, flow.packet)
        if chain is None:
            yield _Branch(flow, width, "")
            return
        staying = [(flow, width)]
        for rule in chain.rules:
            still: list[tuple[Flow, Fraction]] = []
            for inside, share in staying:
                probability = self._probability(rule, inside)
                if probability is None:
                    still.append((inside, share))
                    continue
                taking, taken = inside, share
                if probability is not _CERTAIN:
                    taking, taken = inside.copy(), share * probability
                    still.append((inside, share - taken))
                for branch in self._take(table, rule, taking, taken):
                    if branch.end:
                        yield branch if branch.end != "RETURN" else branch._replace(end="")
                    else:
                        still.append((branch.flow, branch.width))
            staying = still
            if not staying:
                return
        for inside, share in staying:
            yield _Branch(inside, share, chain.policy if chain.policy == "DROP" else "")

    def _probability(self, rule: Rule, flow: Flow) -> Fraction | None:
        """Chance that the rule takes this packet; None: never."""
        if not hits(rule.matches, flow):
            return None
        probability = _CERTAIN
        for match in rule.matches:
            if isinstance(match, Statistic):
                probability = match.probability
            elif isinstance(match, RecentCheck):
                self.affinity_s = match.seconds
                if self.recent is None or not self.recent(match.name, flow.packet.src, match.seconds):
                    return None
        return probability

    def _take(self, table: str, rule: Rule, flow: Flow, width: Fraction) -> Iterator[_Branch]:
        target = rule.target
        if target is None:
            yield _Branch(flow, width, "")
        elif target.name == "MARK":
            flow.set_mark(target.argument)
            yield _Branch(flow, width, "")
        elif target.name == "RETURN" or target.name in _TERMINAL:
            if target.name == "DNAT":
                flow.dnat(target.argument)
            yield _Branch(flow, width, target.name)
        else:
            yield from self.run(table, target.name, flow, width)

    def settle(self, flow: Flow, width: Fraction) -> Iterator[tuple[Verdict, Flow, Fraction, bool]]:
        """Filter and POSTROUTING for one branch of nat: verdict, packet, share, masqueraded."""
        if flow.rewritten:
            flow.dst_local = self.source.is_local(flow.packet.dst)
        branches = [_Branch(flow, width, "")]
        for hook in _filter_hooks(flow):
            passed: list[_Branch] = []
            for before in branches:
                if before.end in {"DROP", "REJECT"}:
                    passed.append(before)
                    continue
                after = self.run("filter", hook, before.flow, before.width)
                passed.extend(branch._replace(end=branch.end or before.end) for branch in after)
            branches = passed
        for branch in branches:
            verdict = _verdict(branch.end, branch.flow.rewritten)
            if verdict is not Verdict.DNAT or _delivered_here(branch.flow):
                yield verdict, branch.flow, branch.width, False
                continue
            for out in self.run("nat", "POSTROUTING", branch.flow, branch.width):
                yield verdict, out.flow, out.width, out.end == "MASQUERADE"


def fan(source: RuleSource, packet: Packet, *, recent: Recent | None = None) -> FanOut:
    """Work out everything the rules may do with a packet, with exact chances.

    Args:
        source: The rules.
        packet: First packet of a connection.
        recent: Memory of session affinity; None: nobody was seen before.
    """
    fanned = _Fanned(source, recent)
    start = Flow(packet, source.is_local(packet.src), source.is_local(packet.dst))
    chances: dict[tuple[str, int, bool], Fraction] = {}
    others: dict[Verdict, Fraction] = {}
    for branch in fanned.run("nat", "OUTPUT" if start.src_local else "PREROUTING", start, _CERTAIN):
        for verdict, flow, width, masquerade in fanned.settle(branch.flow, branch.width):
            if verdict is Verdict.DNAT:
                key = (flow.packet.dst, flow.packet.dport, masquerade)
                chances[key] = chances[key] + width if key in chances else width
            else:
                others[verdict] = others.get(verdict, Fraction(0)) + width
    if not chances:
        return FanOut(max(others, key=lambda verdict: others[verdict]), affinity_s=fanned.affinity_s)
    endpoints = []
    for (address, port, masquerade), chance in chances.items():
        known = source.endpoint(packet, address, port)
        endpoints.append(FanEndpoint(address, port, chance, known.target if known else None, masquerade))
    return FanOut(Verdict.DNAT, tuple(endpoints), fanned.affinity_s)
