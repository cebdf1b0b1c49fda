"""What every `LabHandle` answers the same way, whether its lab runs in a thread or stands still."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from kflab.dataplane.packets import RequestTrace
from kflab.lab.applying import check_tabs
from kflab.lab.commands import Command, Finding, Result
from kflab.lab.handle import Tab
from kflab.lab.running import Lab
from kflab.lab.session import Session, session_of
from kflab.lab.spec import LabSpec
from kflab.lab.targets import Target, targets
from kflab.manifest.objects import Key


class Answering:
    """The asking half of a `LabHandle`; who holds the lab says when its answers are worked out (`_ask`)."""

    _lab: Lab
    _spec: LabSpec

    def _ask(self, work: Callable[[], Any]) -> "Future[Any]":
        """Work something out where the lab lives."""
        raise NotImplementedError

    def _obey(self, command: Command) -> Result:
        """Do a command where the lab lives."""
        raise NotImplementedError

    def submit(self, command: Command) -> "Future[Result]":
        """Hand in a command; it lands at the first instant not yet shown."""
        return self._ask(lambda: self._obey(command))

    def open_request(self, trace_id: int) -> "Future[RequestTrace]":
        """The very request that happened."""
        return self._ask(lambda: self._lab.open_request(trace_id))

    def tabs(self) -> tuple[Tab, ...]:
        """The manifests as the user wrote them."""
        return self._lab.tabs

    def check(self, texts: tuple[tuple[str, str], ...]) -> tuple[Finding, ...]:
        """Findings about edited texts; pure, runs in the caller's thread."""
        return check_tabs(self._lab.tabs, texts, self._spec.namespace)

    def locate(self, key: Key) -> tuple[str, int] | None:
        """Where an object, or the owner that made it, is written."""
        return self._lab.locate(key)

    def targets(self, key: Key | None) -> tuple[Target, ...]:
        """What the menu of a selected object is about; reads the store only, in the caller's thread."""
        return targets(self._lab, key)

    def live_yaml(self, key: Key) -> "Future[str]":
        """The object as the API server has it."""
        return self._ask(lambda: self._lab.live_yaml(key))

    def rules_text(self, node: str, t_ns: int | None = None) -> "Future[str]":
        """The node's rules as its mode's own tool prints them."""
        return self._ask(lambda: self._lab.rules_text(node, t_ns))

    def session(self) -> "Future[Session]":
        """What was done so far."""
        return self._ask(lambda: session_of(self._lab))

    def completions(self, line: str) -> tuple[str, ...]:
        """Completions of a command line."""
        return self._lab.completions(line)

    def assumptions(self) -> tuple[tuple[str, str], ...]:
        """What the lab assumed, and how to override it."""
        return self._lab.assumptions

    def findings(self) -> tuple[Finding, ...]:
        """What looked wrong on opening, worst first."""
        worst = ("error", "refused", "warning", "info")
        return tuple(sorted(self._lab.findings, key=lambda found: worst.index(found.severity)))
