"""A walk through a dump that branches where nobody can tell, whatever tool wrote the dump: bounds, branches, forks."""

from fractions import Fraction
from typing import Final, Self

from kflab.dataplane.dump_meeting import Meeting
from kflab.dataplane.dump_outcome import Assumed, Question, Step

MOST_SPLITS: Final = 2_000
"""Undecided rules a walk may meet, over all branches; beyond it says that it gave up."""

MOST_STEPS: Final = 1_000_000
"""Rules, or statements of nftables, that a walk may look at, over all branches."""

MOST_DEPTH: Final = 128
"""Chains within chains. The kernel refuses rules that call each other in a circle, so a dump has none; nftables
refuses more than 16 in depth too."""

Path = tuple["Path", Step] | None
"""A linked list, last step first: branches share what came before."""


class Branch:
    """One branch of a walk: a packet, the chance that it comes here, what was assumed, and the steps so far."""

    __slots__ = ("assumed", "chance", "meeting", "path")

    def __init__(self, meeting: Meeting) -> None:
        self.meeting = meeting
        self.chance = Fraction(1)
        self.assumed: tuple[Assumed, ...] = ()
        self.path: Path = None

    def copy(self) -> Self:
        """An independent branch that stands at the same place."""
        twin = self.__class__.__new__(self.__class__)
        twin.meeting = self.meeting.copy()
        twin.chance, twin.assumed, twin.path = self.chance, self.assumed, self.path
        return twin

    def steps(self) -> tuple[Step, ...]:
        """The steps in order."""
        found = []
        path = self.path
        while path is not None:
            path, step = path
            found.append(step)
        return tuple(reversed(found))

    def fork(self, question: Question, key: object, turned: bool) -> Self:
        """Go on as if the answer were yes, and return the branch on which it is no.

        Args:
            question: What nobody can tell.
            key: The same for questions that have the same answer.
            turned: Whether the answer is remembered the other way round: the match is inverted.
        """
        other = self.copy()
        self.meeting.answers = {**self.meeting.answers, key: not turned}
        other.meeting.answers = {**other.meeting.answers, key: turned}
        self.assumed = (*self.assumed, Assumed(question, True))
        other.assumed = (*other.assumed, Assumed(question, False))
        return other


class Effort:
    """How much a walk has taken over all its branches."""

    def __init__(self) -> None:
        self.splits = 0
        self.steps = 0

    @property
    def exhausted(self) -> bool:
        """Whether the walk has become too long to be followed."""
        return self.splits > MOST_SPLITS or self.steps > MOST_STEPS
