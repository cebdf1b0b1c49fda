"""Take the first packet of a connection through a node's nftables: every way it may go, with exact chances.

Base chains run in order of hook and priority across all tables: an accept ends its own base chain only, a drop is final
(nft(8), VERDICT STATEMENTS; net/netfilter/nf_tables_core.c, nft_do_chain). Chains of type nat see a connection's first
packet, until one of them has rewritten it (net/netfilter/nf_nat_core.c, nf_nat_inet_fn); what the node sends to itself
was rewritten on output and is not again on prerouting.

Where a statement is undecided or unknown the walk takes both branches, as `dump_walk` does.
"""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, Self

from kflab.dataplane.addresses import IPV6, family_of
from kflab.dataplane.dump_branch import MOST_DEPTH, Branch, Effort, Path
from kflab.dataplane.dump_meeting import Known, Meeting
from kflab.dataplane.dump_outcome import Exploration, Fate, Outcome, Question, Step, cases
from kflab.dataplane.dump_targets import Beyond
from kflab.dataplane.nft_dump import ListedChain, ListedElement, ListedRule, Listing
from kflab.dataplane.nft_dump_act import (
    PASSING,
    VERDICTS,
    Change,
    changes_of,
    has_effect,
    is_final,
    is_idle,
    is_match,
    limits,
    text_of_match,
)
from kflab.dataplane.nft_dump_print import expression_text
from kflab.dataplane.nft_dump_value import answers_of, container, ways_of
from kflab.dataplane.packets import Packet
from kflab.errors import KflabError


class _Frame(NamedTuple):
    """Where the packet is in one chain, and what to restore if the chain turns out to change nothing."""

    chain: ListedChain
    rule: int
    part: int
    path: Path
    state: tuple[object, ...]


class _Way(Branch):
    """One branch of the walk."""

    __slots__ = ("chains", "ended", "frames", "hooks", "rewritten_here")

    def __init__(self, meeting: Meeting) -> None:
        super().__init__(meeting)
        self.frames: list[_Frame] = []
        self.hooks: tuple[str, ...] = ("output", "postrouting") if meeting.src_local else ("prerouting",)
        self.chains: tuple[ListedChain, ...] = ()
        """Base chains of this hook that are still to come."""
        self.ended: Outcome | None = None
        self.rewritten_here = False
        """Whether a nat chain of this hook has rewritten it."""

    def copy(self) -> Self:
        twin = super().copy()
        twin.frames, twin.hooks, twin.chains = list(self.frames), self.hooks, self.chains
        twin.rewritten_here, twin.ended = self.rewritten_here, self.ended
        return twin

    def next_rule(self) -> None:
        """Leave the rule it is in."""
        frame = self.frames[-1]
        self.frames[-1] = frame._replace(rule=frame.rule + 1, part=0)


class _At(NamedTuple):
    """The statement that a way stands at."""

    chain: ListedChain
    rule: ListedRule
    part: int

    @property
    def step(self) -> Step:
        return Step(f"{self.chain.family} {self.chain.table}", self.chain.name, self.rule)


class _Walker(Effort):
    def __init__(self, listing: Listing, family: str) -> None:
        super().__init__()
        self._listing, self._family = listing, family
        self._hooks: dict[str, tuple[ListedChain, ...]] = {}
        self._idle: dict[int, bool] = {}

    def ways(self, first: _Way) -> Iterator[Outcome]:
        """Every outcome; of two sides of an undecided statement the one on which it holds first."""
        waiting = [first]
        while waiting:
            way = waiting.pop()
            while not self.exhausted:
                if way.ended is not None:
                    yield way.ended
                    break
                self.steps += 1
                self._step(way, waiting)

    def _step(self, way: _Way, waiting: list[_Way]) -> None:
        """One statement, one return or one change of chains."""
        if not way.frames:
            self._next_chain(way)
            return
        frame = way.frames[-1]
        if frame.rule >= len(frame.chain.rules):
            self._leave(way)
            return
        rule = frame.chain.rules[frame.rule]
        if frame.part >= len(rule.parts):
            way.next_rule()
            return
        way.frames[-1] = frame._replace(part=frame.part + 1)
        kind, body = rule.parts[frame.part]
        at = _At(frame.chain, rule, frame.part)
        if kind in PASSING:
            return
        if kind == "match" and isinstance(body, dict):
            self._match(way, at, body, waiting)
        elif kind == "vmap" and isinstance(body, dict):
            self._vmap(way, at, body, waiting)
        elif kind in VERDICTS:
            self._verdict(way, at, kind, body, waiting)
        elif limits(kind, body):
            self._undecided(way, at, text_of_match(kind, body), False, waiting)
        else:
            self._act(way, at, kind, body, waiting)

    # --- hooks and base chains ---------------------------------------------------------------------------------------

    def _next_chain(self, way: _Way) -> None:
        at = way.meeting
        if way.chains:
            chain, way.chains = way.chains[0], way.chains[1:]
            if chain.type != "nat" or not (at.untracked or at.looped or way.rewritten_here):
                self._enter(way, chain)
            return
        if not way.hooks:
            if at.hook == "PREROUTING":
                way.hooks = ("input",) if at.dst_local else ("forward", "postrouting")
            elif at.hook == "POSTROUTING" and at.src_local and at.dst_local:
                at.looped = True
                way.hooks = ("prerouting",)
            else:
                self._end(way, Fate.PASSED, None)
                return
        hook, way.hooks = way.hooks[0], way.hooks[1:]
        at.hook, way.rewritten_here = hook.upper(), False
        if hook not in self._hooks:
            self._hooks[hook] = self._listing.base_chains(hook, self._family)
            _note_order(self._hooks[hook], at)
        way.chains = self._hooks[hook]

    def _enter(self, way: _Way, chain: ListedChain) -> None:
        if len(way.frames) >= MOST_DEPTH:
            raise KflabError(
                f"more than {MOST_DEPTH} chains within chains: they call each other in a circle",
                self._listing.at(chain.line, chain.column),
            )
        way.frames.append(_Frame(chain, 0, 0, way.path, way.meeting.state))

    def _leave(self, way: _Way) -> None:
        """The end of a chain, or return."""
        frame = way.frames.pop()
        if way.frames:
            if frame.state == way.meeting.state:
                way.path = frame.path
            return
        base = self._base(way, frame)
        if base.policy == "drop":
            where = self._listing.at(base.line, base.column)
            self._end(way, Fate.DROPPED, None, f"policy drop of {base.title} ({where})")

    def _base(self, way: _Way, frame: _Frame) -> ListedChain:
        """The base chain that a way is in, also after a goto has left it."""
        every = self._hooks.get(way.meeting.hook.lower(), ())
        place = len(every) - len(way.chains) - 1
        return every[place] if 0 <= place < len(every) else frame.chain

    # --- what holds or does not --------------------------------------------------------------------------------------

    def _match(self, way: _Way, at: _At, body: dict[str, Any], waiting: list[_Way]) -> None:
        found = answers_of(body, way.meeting, at.chain.place, self._listing)
        for chance, answer in sorted(found, key=lambda item: item[1] is not False)[:-1]:
            other = way.copy()
            other.chance *= chance
            self._answered(other, at, body, answer, waiting)
            waiting.append(other)
        chance, answer = max(found, key=lambda item: item[1] is not False)
        way.chance *= chance
        self._answered(way, at, body, answer, waiting)

    def _answered(self, way: _Way, at: _At, body: dict[str, Any], answer: bool | None, waiting: list[_Way]) -> None:
        if answer is False:
            way.next_rule()
        elif answer is None:
            self._undecided(way, at, text_of_match("match", body), True, waiting)

    def _undecided(self, way: _Way, at: _At, what: str, lasting: bool, waiting: list[_Way]) -> None:
        """Take the side on which a statement holds, and leave the other to be walked later."""
        if self._changes_nothing(at):
            way.next_rule()
            return
        turned = "!= " in what
        key: object = (at.step.order, at.part, way.meeting.packet)
        if lasting:
            key = (what.replace("!= ", ""), way.meeting.packet)
        known = way.meeting.answers.get(key)
        if known is None:
            other = self._split(way, Question(at.step, f"match {what}"), key, turned)
            other.next_rule()
            waiting.append(other)
        elif known is turned:
            way.next_rule()

    def _split(self, way: _Way, question: Question, key: object, turned: bool) -> _Way:
        self.splits += 1
        return way.fork(question, key, turned)

    def _changes_nothing(self, at: _At) -> bool:
        """Whether the rest of a rule comes to nothing: it logs and counts, or jumps to chains that do."""
        return all(
            self._is_idle_part(at.chain.place, kind, body, 0, False) for kind, body in at.rule.parts[at.part + 1 :]
        )

    def _is_idle_part(self, place: tuple[str, str], kind: str, body: Any, depth: int, returns: bool) -> bool:
        if is_idle(kind, body) or (returns and kind == "return"):
            return True
        target = body.get("target") if kind == "jump" and isinstance(body, dict) else None
        chain = self._listing.chain(place, target) if isinstance(target, str) else None
        return chain is not None and self._is_idle(chain, depth + 1)

    def _is_idle(self, chain: ListedChain, depth: int) -> bool:
        known = self._idle.get(id(chain))
        if known is None:
            known = depth < MOST_DEPTH and all(
                self._is_idle_part(chain.place, kind, body, depth, True)
                for rule in chain.rules
                for kind, body in rule.parts
            )
            self._idle[id(chain)] = known
        return known

    # --- verdicts ----------------------------------------------------------------------------------------------------

    def _vmap(self, way: _Way, at: _At, body: dict[str, Any], waiting: list[_Way]) -> None:
        """Look a verdict up; each draw of numgen is a way of its own."""
        elements = container(body.get("data"), at.chain.place, self._listing)
        if elements is None:
            self._beyond(way, at, f"map {expression_text(body.get('data'))} is not in the dump", waiting)
            return
        found: dict[tuple[tuple[int, bool | None], ...], tuple[Fraction, list[tuple[ListedElement, bool | None]]]] = {}
        for chance, value in ways_of(body.get("key"), way.meeting, at.chain.place, self._listing):
            hits = elements.hits(value, way.meeting)
            key = tuple((id(element), answer) for element, answer in hits)
            found[key] = (found[key][0] + chance if key in found else chance, hits)
        self._branch(
            way,
            [(chance, partial(self._chosen, at=at, key=body.get("key"), hits=hits)) for chance, hits in found.values()],
            waiting,
        )

    def _branch(
        self, way: _Way, each: Sequence[tuple[Fraction, Callable[[_Way, list[_Way]], None]]], waiting: list[_Way]
    ) -> None:
        """Do several things, each with its chance, on a copy of the way each; the first on the way itself."""
        before = way.copy() if len(each) > 1 else way
        later: list[_Way] = []
        for i, (chance, do) in enumerate(each):
            branch = way if i == 0 else before.copy()
            branch.chance *= chance
            do(branch, waiting)
            if i:
                later.append(branch)
        waiting.extend(reversed(later))

    def _chosen(
        self, way: _Way, waiting: list[_Way], at: _At, key: Any, hits: Sequence[tuple[ListedElement, bool | None]]
    ) -> None:
        """Take the verdict of the element that the key is; of several that it may be, each in turn."""
        current = way
        for element, answer in hits:
            if answer is None:
                what = text_of_match("match", {"op": "==", "left": key, "right": element.key})
                known_by = (what, way.meeting.packet)
                known = current.meeting.answers.get(known_by)
                if known is False:
                    continue
                if known is None:
                    other = self._split(current, Question(at.step, f"match {what}"), known_by, False)
                    self._verdict_of(current, at, element.data, waiting)
                    if current is not way:
                        waiting.append(current)
                    current = other
                    continue
            self._verdict_of(current, at, element.data, waiting)
            break
        else:
            current.next_rule()
        if current is not way:
            waiting.append(current)

    def _verdict_of(self, way: _Way, at: _At, data: Any, waiting: list[_Way]) -> None:
        kind, body = next(iter(data.items())) if isinstance(data, dict) and len(data) == 1 else (data, None)
        if isinstance(kind, str) and kind in VERDICTS:
            self._verdict(way, at, kind, body, waiting)
        else:
            self._beyond(way, at, f"kflab does not know verdict {expression_text(data)}", waiting)

    def _verdict(self, way: _Way, at: _At, kind: str, body: Any, waiting: list[_Way]) -> None:
        before = way.path
        if kind == "continue":
            way.next_rule()
        elif kind == "return":
            self._leave(way)
        elif kind in ("jump", "goto"):
            name = body.get("target") if isinstance(body, dict) else None
            chain = self._listing.chain(at.chain.place, name) if isinstance(name, str) else None
            if chain is None:
                self._beyond(way, at, f"chain {expression_text(name)} is not in the dump", waiting)
                return
            way.next_rule()
            self._told(way, at)
            if kind == "goto":
                left = way.frames.pop()
                self._enter(way, chain)
                way.frames[-1] = way.frames[-1]._replace(path=left.path, state=left.state)
            else:
                self._enter(way, chain)
                way.frames[-1] = way.frames[-1]._replace(path=before)
        else:
            self._told(way, at)
            if kind == "accept":
                way.frames.clear()
            else:
                self._end(way, Fate.DROPPED if kind == "drop" else Fate.REFUSED, at.step)

    def _told(self, way: _Way, at: _At) -> None:
        """Record that a rule had its say."""
        if way.path is None or way.path[1].rule is not at.rule:
            way.path = (way.path, at.step)

    # --- everything else ---------------------------------------------------------------------------------------------

    def _act(self, way: _Way, at: _At, kind: str, body: Any, waiting: list[_Way]) -> None:
        try:
            changes = changes_of(kind, body, way.meeting, at.chain.place, self._listing)
        except Beyond as reason:
            final = is_final(kind, body)
            last = all(other in PASSING for other, _ in at.rule.parts[at.part + 1 :])
            if final or (last and not is_match(kind, body)):
                self._beyond(way, at, str(reason), waiting, final)
            else:
                self._undecided(way, at, text_of_match(kind, body), True, waiting)
            return
        self._branch(
            way, [(chance, partial(self._changed, at=at, change=change)) for chance, change in changes], waiting
        )

    def _changed(self, way: _Way, waiting: list[_Way], at: _At, change: Change) -> None:
        ends = change(way.meeting)
        if ends == "break":
            way.next_rule()
            return
        if has_effect(change):
            self._told(way, at)
        if ends == "rewritten":
            way.rewritten_here = True
            way.frames.clear()
        elif ends:
            self._verdict(way, at, ends, None, waiting)

    def _beyond(self, way: _Way, at: _At, reason: str, waiting: list[_Way], final: bool = False) -> None:
        """A statement nobody can follow: it may end the way here, or let the packet go on."""
        if not final:
            waiting.append(self._split(way, Question(at.step, reason), (at.step.order, at.part, "end"), False))
        self._told(way, at)
        self._end(way, Fate.UNKNOWN, at.step, reason)

    def _end(self, way: _Way, fate: Fate, by: Step | None, why: str = "") -> None:
        at = way.meeting
        source = at.snat if fate is Fate.PASSED else ""
        way.ended = Outcome(
            fate, at.packet, source, at.dst_local, why, by, way.steps(), way.chance, way.assumed, at.rewritten
        )


def _note_order(chains: Sequence[ListedChain], at: Meeting) -> None:
    """Of two chains of one priority nobody sees which the kernel runs first."""
    for one, other in pairwise(chains):
        if one.order == other.order and one.priority == other.priority and one.rules and other.rules:
            text = f"{one.title} and {other.title} have one priority: the later in the dump is taken to run first"
            at.notes[text] = None


def explore_listing(listing: Listing, packet: Packet, known: Known) -> Exploration:
    """Walk a packet through a node's nftables.

    Args:
        listing: The dump.
        packet: First packet of a connection as it arrives at the node, or leaves it where its source is the node's.
        known: What is known of the node beside its rules.

    Raises:
        KflabError: If chains call each other in a circle.
    """
    walker = _Walker(listing, "ip6" if family_of(packet.dst) == IPV6 else "ip")
    first = Meeting(packet, known)
    outcomes = list(walker.ways(_Way(first)))
    return Exploration(listing, packet, known, cases(outcomes), tuple(first.notes), not walker.exhausted)
