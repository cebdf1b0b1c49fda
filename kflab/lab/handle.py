"""The face's view of a running lab: a Protocol, so that screens can be tested with a fake."""

from concurrent.futures import Future
from typing import TYPE_CHECKING, Protocol

from kflab.dataplane.packets import RequestTrace
from kflab.lab.commands import Command, Finding, Result
from kflab.lab.snapshot import Snapshot
from kflab.lab.targets import Target
from kflab.manifest.objects import Key
from kflab.records import dataclass

if TYPE_CHECKING:
    from kflab.lab.session import Session


@dataclass(frozen=True, slots=True)
class Tab:
    """One editable text: a file or a part of a scenario (documents, additions, patches)."""

    name: str
    """Shown; also `Place.file` of findings in it."""
    text: str
    path: str | None
    """Where `:w` writes; None for texts from the wheel or standard input."""
    role: str = "documents"
    """documents, additions or patches."""


class LabHandle(Protocol):
    """Never blocks: everything that takes the engine's thread answers with a Future."""

    def snapshot(self) -> Snapshot:
        """The newest finished snapshot (the same object until there is a newer one)."""
        ...

    def submit(self, command: Command) -> "Future[Result]":
        """Queue a command; it runs between slabs."""
        ...

    def open_request(self, trace_id: int) -> "Future[RequestTrace]":
        """The very request that happened, hop by hop."""
        ...

    def tabs(self) -> tuple[Tab, ...]:
        """The manifests as the user wrote them."""
        ...

    def check(self, texts: tuple[tuple[str, str], ...]) -> tuple[Finding, ...]:
        """Findings about edited texts (tab name, text); pure, may run in any thread."""
        ...

    def locate(self, key: Key) -> tuple[str, int] | None:
        """Tab name and line (from 1) where an object (or its owner) is written; None for made objects."""
        ...

    def targets(self, key: Key | None) -> tuple[Target, ...]:
        """What the menu of a selected object is about, nearest first: itself, its workload, its node, components."""
        ...

    def live_yaml(self, key: Key) -> "Future[str]":
        """The object as the API server has it now, as YAML; a comment line when it is gone."""
        ...

    def rules_text(self, node: str, t_ns: int | None = None) -> "Future[str]":
        """The node's rules as its mode's own tool prints them: those in force at `t_ns`, or (None) now."""
        ...

    def completions(self, line: str) -> tuple[str, ...]:
        """Completions of a command line."""
        ...

    def assumptions(self) -> tuple[tuple[str, str], ...]:
        """(what the lab assumed, how to override it)."""
        ...

    def findings(self) -> tuple[Finding, ...]:
        """What looked wrong on opening the manifests."""
        ...

    def session(self) -> "Future[Session]":
        """What was done so far, so that it can be played again."""
        ...

    def close(self) -> None:
        """Stop the thread."""
        ...
