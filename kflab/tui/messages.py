"""What panes tell each other. All are facts, in the past tense.

A pane posts a message; it bubbles to the app, which acts on it and *relays* a copy (`relayed` is True) to every
pane, so a pane handles what happened elsewhere with an ordinary ``on_…`` handler. Relayed copies do not bubble to
the app again. Handlers are idempotent: the pane that posted gets the copy too, and must not post it again.
"""

from collections.abc import Callable
from typing import Self

from textual.message import Message

from kflab.dataplane.packets import RequestTrace
from kflab.manifest.objects import Key


class LabMessage(Message):
    """Base of all: knows whether the app has handed it on."""

    def __init__(self) -> None:
        super().__init__()
        self.relayed = False
        """True on the copies that the app sends to the panes."""

    def copy(self) -> Self:
        """A relayed copy; subclasses with fields override it."""
        twin = type(self).__new__(type(self))
        Message.__init__(twin)
        for name, value in vars(self).items():
            if not name.startswith("_") and name != "time":
                setattr(twin, name, value)
        twin.relayed = True
        return twin


class ObjectSelected(LabMessage):
    """The selected object changed. Trace filters by it, Manifest shows it; None clears the selection."""

    def __init__(self, key: Key | None) -> None:
        super().__init__()
        self.key = key

    def can_replace(self, message: Message) -> bool:
        """Only the newest selection counts."""
        return isinstance(message, ObjectSelected)


class RequestOpened(LabMessage):
    """Somebody asked for a sampled request; the app fetches it from the lab."""

    def __init__(self, trace_id: int) -> None:
        super().__init__()
        self.trace_id = trace_id


class RequestLoaded(LabMessage):
    """The request asked for is here: paths light up, the request pane shows it."""

    def __init__(self, trace: RequestTrace, trace_id: int = -1) -> None:
        super().__init__()
        self.trace = trace
        self.trace_id = trace_id
        """Id of its `TraceRow`; -1 for one that was not sampled (a `curl`)."""


class RequestClosed(LabMessage):
    """The open request was closed: paths go dark."""


class HopSelected(LabMessage):
    """A hop of the open request was chosen, by its printed number (from 1)."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class CommandIssued(LabMessage):
    """A line was entered on the command line.

    Args:
        line: As entered.
        refused: Told, in words, why nothing was done.
    """

    def __init__(self, line: str, refused: Callable[[str], None] | None = None) -> None:
        super().__init__()
        self.line = line
        self.refused = refused


class ViewAsked(LabMessage):
    """A pane wants another shown: "manifest", "trace", "request", "rules", "shares", "gantt", "topology"."""

    def __init__(self, pane: str) -> None:
        super().__init__()
        self.pane = pane


class InstantSelected(LabMessage):
    """An instant of the lens was clicked: the nearest traced request of the row is wanted."""

    def __init__(self, key: Key | None, t_ns: int) -> None:
        super().__init__()
        self.key = key
        self.t_ns = t_ns
