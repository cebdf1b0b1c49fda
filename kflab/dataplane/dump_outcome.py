"""What a walk through a dump comes to: ways with exact chances, and what was assumed of undecided rules.

The same for every tool's dump, so that one text and one JSON form tell them all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from fractions import Fraction
from typing import NamedTuple, Protocol

from kflab.dataplane.dump_meeting import Known
from kflab.dataplane.packets import Packet
from kflab.records import dataclass


class Fate(StrEnum):
    """How a way through the rules ends."""

    PASSED = "passed"
    DROPPED = "dropped"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class RuleOfDump(Protocol):
    """What a story tells of a rule, whichever tool printed it."""

    @property
    def position(self) -> Mapping[str, int]:
        """Where it stands: its line, and for nft its column and handle."""
        ...

    @property
    def refusal(self) -> str:
        """What a rule that refuses answers with, "" where it does not say."""
        ...

    def place(self, file: str) -> str:
        """file:line, or file:line:column."""
        ...

    def told(self, chain: str) -> str:
        """The rule with its chain, as its tool prints it."""
        ...


class WalkedDump(Protocol):
    """What a story tells of the dump itself."""

    @property
    def name(self) -> str:
        """The file, for messages."""
        ...

    @property
    def tool(self) -> str:
        """What printed it."""
        ...

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the dump itself says is missing from it."""
        ...


class Step(NamedTuple):
    """A rule that had its say."""

    table: str
    chain: str
    rule: RuleOfDump

    def text(self) -> str:
        """As its tool prints it."""
        return self.rule.told(self.chain)

    @property
    def order(self) -> tuple[int, ...]:
        """Its place in the dump, for sorting."""
        return tuple(self.rule.position.values())


class Question(NamedTuple):
    """An undecided rule: its place, and what of it cannot be known."""

    step: Step
    what: str
    """The undecided matches in words of the dump, or why its target is not known."""


class Assumed(NamedTuple):
    """One side of an undecided rule."""

    question: Question
    holds: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """One way through the rules."""

    fate: Fate
    packet: Packet
    """As it leaves the rules; its source is still the sender's, see `source`."""
    source: str
    """"" kept, "masquerade", or the address a SNAT rule names."""
    local: bool
    """Whether it ends in a socket of the node."""
    why: str
    """What decided, where that is no rule: a policy, an unknown target."""
    decided_by: Step | None
    path: tuple[Step, ...]
    chance: Fraction
    assumed: tuple[Assumed, ...] = ()
    rewritten: bool = False

    @property
    def result(self) -> tuple[object, ...]:
        """What a user would notice."""
        return self.fate, self.packet, self.source, self.local, self.rewritten


@dataclass(frozen=True, slots=True)
class Case:
    """The outcomes under one set of assumptions."""

    assumed: tuple[Assumed, ...]
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class Exploration:
    """Every way one packet may go."""

    dump: WalkedDump
    packet: Packet
    known: Known
    cases: tuple[Case, ...]
    notes: tuple[str, ...]
    """Assumptions that the whole walk rests on."""
    complete: bool
    """False where there were too many undecided rules to follow them all."""

    @property
    def questions(self) -> tuple[Question, ...]:
        """Undecided rules that matter, in order of the dump's lines."""
        found = {item.question: None for case in self.cases for item in case.assumed}
        return tuple(sorted(found, key=lambda question: question.step.order))

    def outcomes(self) -> tuple[Outcome, ...]:
        """All of all cases."""
        return tuple(outcome for case in self.cases for outcome in case.outcomes)


def cases(outcomes: Sequence[Outcome]) -> tuple[Case, ...]:
    """Outcomes by what was assumed, without assumptions that make no difference."""
    groups: dict[tuple[Assumed, ...], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(tuple(dict.fromkeys(outcome.assumed)), []).append(outcome)
    found = {assumed: _added(group) for assumed, group in groups.items()}
    merged = True
    while merged:
        merged = False
        for assumed in list(found):
            pair = _pointless(assumed, found)
            if pair is not None:
                dropped, without = pair
                kept = found.pop(assumed)
                found.pop(dropped)
                cleaned = tuple(replace(outcome, assumed=without) for outcome in kept)
                found[without] = _added((*found.get(without, ()), *cleaned))
                merged = True
    return tuple(Case(assumed, group) for assumed, group in found.items())


def _pointless(
    assumed: tuple[Assumed, ...], found: dict[tuple[Assumed, ...], tuple[Outcome, ...]]
) -> tuple[tuple[Assumed, ...], tuple[Assumed, ...]] | None:
    """A second set of assumptions that differs in one answer and has the same results: (it, both without that)."""
    if assumed not in found:
        return None
    for i, item in enumerate(assumed):
        other = (*assumed[:i], item._replace(holds=not item.holds), *assumed[i + 1 :])
        if other in found and _results(found[other]) == _results(found[assumed]):
            return other, (*assumed[:i], *assumed[i + 1 :])
    return None


def _results(outcomes: Sequence[Outcome]) -> dict[tuple[object, ...], Fraction]:
    total: dict[tuple[object, ...], Fraction] = {}
    for outcome in outcomes:
        total[outcome.result] = total.get(outcome.result, Fraction(0)) + outcome.chance
    return total


def _added(outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """Outcomes that a user cannot tell apart, added up; the first one's path stands for all."""
    total: dict[tuple[object, ...], Outcome] = {}
    for outcome in outcomes:
        key = (*outcome.result, outcome.decided_by, outcome.why)
        known = total.get(key)
        total[key] = outcome if known is None else replace(known, chance=known.chance + outcome.chance)
    return tuple(total.values())
