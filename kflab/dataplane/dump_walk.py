"""Take the first packet of a connection through a dump: every way it may go, with exact chances.

Order of hooks and tables as in the kernel (include/uapi/linux/netfilter_ipv4.h, enum nf_ip_hook_priorities): raw,
mangle, nat (destinations), filter, security, nat (sources). The nat table sees a connection's first packet only, and
each kind of rewriting happens once: a packet that the node sends to itself was rewritten on OUTPUT and is not again on
PREROUTING.

Where a match is undecided the walk takes both branches. Each outcome says what was assumed for it.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Final, NamedTuple, Self

from kflab.dataplane.dump import Dump, DumpChain, DumpRule
from kflab.dataplane.dump_branch import MOST_DEPTH, Branch, Effort, Path
from kflab.dataplane.dump_match import Test, chance_of, test_of
from kflab.dataplane.dump_meeting import Known, Meeting
from kflab.dataplane.dump_outcome import Exploration, Fate, Outcome, Question, Step, cases
from kflab.dataplane.dump_targets import ENDS, KNOWN_TARGETS, PASSING, Beyond, act
from kflab.dataplane.packets import Packet
from kflab.errors import KflabError, Place

_AWAY: Final = (("mangle", "POSTROUTING"), ("nat", "POSTROUTING"))

_FORWARD: Final = (("mangle", "FORWARD"), ("filter", "FORWARD"), ("security", "FORWARD"), *_AWAY)

_IN: Final = (("mangle", "INPUT"), ("filter", "INPUT"), ("security", "INPUT"))

_FROM_ELSEWHERE: Final = (("raw", "PREROUTING"), ("mangle", "PREROUTING"), ("nat", "PREROUTING"))

_FROM_HERE: Final = (
    ("raw", "OUTPUT"),
    ("mangle", "OUTPUT"),
    ("nat", "OUTPUT"),
    ("filter", "OUTPUT"),
    ("security", "OUTPUT"),
    *_AWAY,
)


class _Frame(NamedTuple):
    """Where the packet is in one chain, and what to restore if the chain turns out to change nothing."""

    chain: DumpChain
    candidates: Sequence[int]
    at: int
    path: Path
    state: tuple[object, ...]


class _Way(Branch):
    """One branch of the walk."""

    __slots__ = ("frames", "stages")

    def __init__(self, meeting: Meeting) -> None:
        super().__init__(meeting)
        self.frames: list[_Frame] = []
        self.stages: tuple[tuple[str, str], ...] = _FROM_HERE if meeting.src_local else _FROM_ELSEWHERE

    def copy(self) -> Self:
        twin = super().copy()
        twin.frames, twin.stages = list(self.frames), self.stages
        return twin


class _Walker(Effort):
    def __init__(self, dump: Dump) -> None:
        super().__init__()
        self._dump = dump
        self._idle: dict[tuple[str, str], bool] = {}

    def ways(self, first: _Way) -> Iterator[Outcome]:
        """Every outcome; of two sides of an undecided rule the taken one first."""
        waiting = [first]
        while waiting:
            way = waiting.pop()
            while not self.exhausted:
                self.steps += 1
                ended = self._step(way, waiting)
                if ended is not None:
                    yield ended
                    break

    # --- one step ----------------------------------------------------------------------------------------------------

    def _step(self, way: _Way, waiting: list[_Way]) -> Outcome | None:
        """One rule, one return or one change of tables; the outcome at the end of the way."""
        if not way.frames:
            return self._next_table(way)
        frame = way.frames[-1]
        if frame.at >= len(frame.candidates):
            return self._leave(way)
        way.frames[-1] = frame._replace(at=frame.at + 1)
        rule = frame.chain.rules[frame.candidates[frame.at]]
        if rule.target in PASSING:
            return None
        undecided: list[Test] = []
        chance = Fraction(1)
        for group in rule.groups:
            if group.module == "statistic":
                share = chance_of(group)
                if share is None:
                    undecided.append(test_of(group))
                else:
                    chance *= share
                continue
            test = test_of(group)
            answer = test.judge(way.meeting)
            if answer is False:
                return None
            if answer is None:
                undecided.append(test)
        if not chance or (undecided and self._changes_nothing(frame.chain.table, rule)):
            return None
        step = Step(frame.chain.table, frame.chain.name, rule)
        if undecided and not self._assume(way, step, undecided, waiting):
            return None
        if chance != 1:
            other = way.copy()
            other.chance *= 1 - chance
            way.chance *= chance
            waiting.append(other)
        return self._take(way, step, rule, waiting)

    def _assume(self, way: _Way, step: Step, tests: list[Test], waiting: list[_Way]) -> bool:
        """Take the side of an undecided rule on which it matches, and leave the other to be walked later."""
        what = " ".join(test.text for test in tests)
        key: object = (step.order, way.meeting.packet)
        if len(tests) == 1 and tests[0].lasting:
            key = (what.replace("! ", ""), way.meeting.packet)
        turned = len(tests) == 1 and "! " in what
        known = way.meeting.answers.get(key)
        if known is not None:
            return known is not turned
        self._split(way, Question(step, f"match {what}"), waiting, key, turned)
        return True

    def _split(self, way: _Way, question: Question, waiting: list[_Way], key: object, turned: bool) -> None:
        self.splits += 1
        waiting.append(way.fork(question, key, turned))

    def _changes_nothing(self, table: str, rule: DumpRule) -> bool:
        """Whether taking or leaving a rule comes to the same: a jump to chains that only return or log."""
        return not rule.goto and rule.target not in KNOWN_TARGETS and self._is_idle(table, rule.target, 0)

    def _is_idle(self, table: str, name: str, depth: int) -> bool:
        known = self._idle.get((table, name))
        if known is None:
            chain = self._dump.chain(table, name)
            known = chain is not None and depth < MOST_DEPTH
            if known and chain is not None:
                known = all(
                    rule.target in PASSING
                    or rule.target == "RETURN"
                    or (rule.target not in KNOWN_TARGETS and self._is_idle(table, rule.target, depth + 1))
                    for rule in chain.rules
                )
            self._idle[table, name] = known
        return known

    # --- tables and chains -------------------------------------------------------------------------------------------

    def _next_table(self, way: _Way) -> Outcome | None:
        at = way.meeting
        if not way.stages:
            if at.hook == "PREROUTING" and not at.looped:
                way.stages = (*_IN, ("nat", "INPUT")) if at.dst_local else _FORWARD
            elif at.hook == "POSTROUTING" and at.src_local and at.dst_local:
                at.looped = True
                way.stages = (*_FROM_ELSEWHERE[:2], *_IN)
            else:
                return self._outcome(way, Fate.PASSED, None)
        (table, hook), way.stages = way.stages[0], way.stages[1:]
        at.hook = hook
        chain = self._dump.chain(table, hook)
        if chain is not None and not (table == "nat" and at.untracked):
            self._enter(way, chain)
        return None

    def _enter(self, way: _Way, chain: DumpChain) -> None:
        if len(way.frames) >= MOST_DEPTH:
            raise KflabError(
                f"more than {MOST_DEPTH} chains within chains: they call each other in a circle",
                Place(self._dump.name, chain.line),
            )
        candidates = chain.candidates(way.meeting.destination, way.meeting.packet.dport)
        way.frames.append(_Frame(chain, candidates, 0, way.path, way.meeting.state))

    def _leave(self, way: _Way) -> Outcome | None:
        """The end of a chain, or RETURN."""
        frame = way.frames.pop()
        if way.frames:
            if frame.state == way.meeting.state:
                way.path = frame.path
            return None
        base = self._dump.chain(frame.chain.table, way.meeting.hook)
        if base is not None and base.policy == "DROP":
            why = f"policy DROP of {base.table} {base.name} ({self._dump.place(base.line)})"
            return self._outcome(way, Fate.DROPPED, None, why)
        return None

    # --- targets -----------------------------------------------------------------------------------------------------

    def _take(self, way: _Way, step: Step, rule: DumpRule, waiting: list[_Way]) -> Outcome | None:
        before = way.path
        way.path = (way.path, step)
        if rule.target not in ENDS:
            chain = self._dump.chain(step.table, rule.target)
            if chain is not None:
                if rule.goto:
                    left = way.frames.pop()
                    self._enter(way, chain)
                    way.frames[-1] = way.frames[-1]._replace(path=left.path, state=left.state)
                else:
                    self._enter(way, chain)
                    way.frames[-1] = way.frames[-1]._replace(path=before)
                return None
        try:
            ended = act(way.meeting, rule)
        except Beyond as reason:
            return self._beyond(way, step, rule, str(reason), waiting)
        if ended == "RETURN":
            way.path = before
            return self._leave(way)
        if ended == "ACCEPT":
            way.frames.clear()
        elif ended:
            return self._outcome(way, Fate.DROPPED if ended == "DROP" else Fate.REFUSED, step)
        return None

    def _beyond(self, way: _Way, step: Step, rule: DumpRule, reason: str, waiting: list[_Way]) -> Outcome | None:
        """A target nobody can follow: it may end the way here, or let the packet go on."""
        if rule.target not in ("DNAT", "REDIRECT"):
            self._split(way, Question(step, reason), waiting, (rule.line, "target"), False)
        return self._outcome(way, Fate.UNKNOWN, step, reason)

    def _outcome(self, way: _Way, fate: Fate, by: Step | None, why: str = "") -> Outcome:
        at = way.meeting
        source = at.snat if fate is Fate.PASSED else ""
        return Outcome(
            fate, at.packet, source, at.dst_local, why, by, way.steps(), way.chance, way.assumed, at.rewritten
        )


def explore(dump: Dump, packet: Packet, known: Known) -> Exploration:
    """Walk a packet through a dump.

    Args:
        dump: The rules, of the packet's family.
        packet: First packet of a connection as it arrives at the node, or leaves it where its source is the node's.
        known: What is known of the node beside its rules.

    Raises:
        KflabError: If chains call each other in a circle.
    """
    walker = _Walker(dump)
    first = Meeting(packet, known)
    outcomes = list(walker.ways(_Way(first)))
    return Exploration(dump, packet, known, cases(outcomes), tuple(first.notes), not walker.exhausted)
