"""What the lab thinks of the texts: asked when the keys rest, jumped to one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.message import Message
from textual.timer import Timer
from textual.worker import get_current_worker

from kflab.lab.commands import Finding
from kflab.tui.manifest_parts import of_tab, sorted_findings

if TYPE_CHECKING:
    from kflab.tui.manifest_pane import ManifestPane

CHECK_AFTER_S = 0.15
"""Seconds after the last key until the text is checked."""


class Checked(Message):
    """The lab has checked the texts of one revision."""

    def __init__(self, revision: int, findings: tuple[Finding, ...]) -> None:
        super().__init__()
        self.revision = revision
        self.findings = findings


class Checks:
    """The findings of a Manifest pane's texts.

    Args:
        pane: Whose texts are checked, and who is told by `Checked`.
    """

    def __init__(self, pane: ManifestPane) -> None:
        self.pane = pane
        self.findings: tuple[Finding, ...] = ()
        self.chosen = -1
        """Which of `ordered` was jumped to last."""
        self._revision = 0
        self._timer: Timer | None = None

    @property
    def resting(self) -> bool:
        """Whether no key was pressed since the texts were checked."""
        return self._timer is None

    def typed(self) -> None:
        """A text has changed: ask when the keys rest."""
        self._revision += 1
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.pane.set_timer(CHECK_AFTER_S, self._rested)

    def _rested(self) -> None:
        self._timer = None
        self.pane.say()
        self.ask()

    def ask(self) -> None:
        """Ask the lab what it thinks of the texts; a newer question makes the answer stale."""
        revision, texts = self._revision, self.pane.state.texts()

        def check() -> None:
            findings = self.pane.lab.check(texts)
            if not get_current_worker().is_cancelled:
                self.pane.post_message(Checked(revision, findings))

        self.pane.run_worker(check, thread=True, exclusive=True, group="check")

    def is_newest(self, message: Checked) -> bool:
        """Whether an answer is about the texts as they are now."""
        return message.revision == self._revision

    def take(self, findings: tuple[Finding, ...]) -> None:
        """Have these findings from now on."""
        self.findings, self.chosen = findings, -1

    def ordered(self, tab: str) -> list[Finding]:
        """All findings, those of the open tab first."""
        return sorted_findings(self.findings, tab)

    def of(self, tab: str) -> tuple[Finding, ...]:
        """The findings in one tab."""
        return tuple(each for each in self.findings if of_tab(each, tab))

    def next(self, tab: str) -> Finding | None:
        """Choose the next finding."""
        findings = self.ordered(tab)
        if not findings:
            return None
        self.chosen = (self.chosen + 1) % len(findings)
        return findings[self.chosen]
