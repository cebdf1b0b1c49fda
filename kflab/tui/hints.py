"""The steady state's one sentence: the next thing to try. A hint goes when done and never returns."""

from kflab.lab.snapshot import Snapshot, Span

AFTER_A_CHANGE = ("gantt", "again")
"""Hints about what came of a change."""

HINTS: tuple[tuple[str, tuple[Span, ...]], ...] = (
    (
        "kill",
        (
            Span("Try ", "dim"),
            Span("k", "key"),
            Span(" on a pod: one line will cross every row; each ", "dim"),
            Span("◆", "known"),
            Span(" is an observer that learns of it.", "dim"),
        ),
    ),
    (
        "gantt",
        (
            Span("Press ", "dim"),
            Span("g", "key"),
            Span(": who knew when, the requests lost in each gap, and a bill that says why for each.", "dim"),
        ),
    ),
    (
        "again",
        (
            Span("Press ", "dim"),
            Span("a", "key"),
            Span(": the last change once more with one setting changed, both plays side by side.", "dim"),
        ),
    ),
    (
        "open",
        (
            Span("Press ", "dim"),
            Span("tab", "key"),
            Span(" to the trace and ", "dim"),
            Span("enter", "key"),
            Span(" on a request: its path lights up, hop by hop, with the rule that decided each.", "dim"),
        ),
    ),
    (
        "edit",
        (
            Span("Press ", "dim"),
            Span("e", "key"),
            Span(", set a port to 80800 and read why it is refused; a right one walks down the nodes.", "dim"),
        ),
    ),
    (
        "view",
        (
            Span("Press ", "dim"),
            Span("v", "key"),
            Span(" for the same path drawn as a circuit, and once more for the nodes.", "dim"),
        ),
    ),
    (
        "command",
        (
            Span("Type ", "dim"),
            Span(":", "key"),
            Span(" and ", "dim"),
            Span("get pods", "strong"),
            Span(": the lab answers as kubectl would.", "dim"),
        ),
    ),
    (
        "rules",
        (
            Span("Press ", "dim"),
            Span("i", "key"),
            Span(" for the rules behind it, as iptables-save prints them.", "dim"),
        ),
    ),
)
"""(what one does to be done with it, the sentence), in the order in which they are offered."""

ALL_DONE: tuple[Span, ...] = (
    Span("Every row acts on what its observer knows. ", "dim"),
    Span("?", "key"),
    Span(" for all keys, ", "dim"),
    Span(":", "key"),
    Span(" for kubectl's words.", "dim"),
)


class Hints:
    """Which hints are done."""

    def __init__(self) -> None:
        self.done: set[str] = set()

    def did(self, what: str) -> None:
        """Somebody did it: its hint never returns."""
        self.done.add(what)

    def sentence(self, snapshot: Snapshot) -> tuple[Span, ...]:
        """What to say now: the story, a scenario's narration, else the next hint."""
        if snapshot.story:
            return snapshot.story
        if snapshot.narration:
            return (Span(snapshot.narration, "text"),)
        for name, spans in HINTS:
            if name not in self.done and (snapshot.marks or name not in AFTER_A_CHANGE):
                return spans
        return ALL_DONE
