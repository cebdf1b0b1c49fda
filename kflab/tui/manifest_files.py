"""Writing texts to files, and leaving: what asks before anything is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from textual.message import Message
from textual.timer import Timer

from kflab.errors import KflabError
from kflab.tui.ask import Ask
from kflab.tui.drafts import DraftFile
from kflab.tui.editor_state import Buffer, ChangedOnDisk

if TYPE_CHECKING:
    from kflab.tui.manifest_pane import ManifestPane

DRAFT_AFTER_S = 0.6
"""Seconds after the last key until the draft is written; a write with fsync takes a few ms of a thread."""


class DraftKept(Message):
    """A draft was written, or could not be (`error`)."""

    def __init__(self, error: str) -> None:
        super().__init__()
        self.error = error


class TextFiles:
    """The files behind a Manifest pane's tabs, and the draft of what is in none."""

    def __init__(self, pane: ManifestPane) -> None:
        self.pane = pane
        self.drafts: DraftFile | None = None
        self._timer: Timer | None = None

    def typed(self) -> None:
        """A text has changed: keep a draft when the keys rest."""
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.pane.set_timer(DRAFT_AFTER_S, self.keep_draft)

    def keep_draft(self) -> None:
        """Write what is unwritten into the draft file, in a thread.

        A full or read-only disk is told by `DraftKept`; the text stays where it is.
        """
        drafts = self.drafts
        if drafts is None:
            return
        content = drafts.snapshot(self.pane.state)

        def write() -> None:
            try:
                drafts.keep(content)
            except KflabError as error:
                self.pane.post_message(DraftKept(error.message))
            else:
                self.pane.post_message(DraftKept(""))

        self.pane.run_worker(write, thread=True, group="draft")

    def write(self, file: str | None = None) -> None:
        """`:w [FILE]`: write the open tab; without a file name all edited tabs that have a file."""
        buffer = self.pane.state.buffer
        if buffer is None:
            self.pane.tell("there is no text to write", bad=True)
            return
        targets = [buffer] if file or not buffer.path else [each for each in self.pane.state.unwritten if each.path]
        if not targets:
            self.pane.tell(f"nothing to write: {buffer.path} is as the editor has it")
            return
        self._write_next(targets, file, None)

    def _write_next(
        self, targets: list[Buffer], file: str | None, then: Callable[[bool], None] | None, overwrite: bool = False
    ) -> None:
        """Write one after the other; a file that changed on disk is asked about, but for the first if `overwrite`."""
        if not targets:
            if then is not None:
                then(True)
            return
        buffer = targets[0]
        try:
            self.pane.tell(self.pane.state.write(buffer, file, overwrite=overwrite))
        except ChangedOnDisk as error:
            self._ask_overwrite(error, targets, file, then)
            return
        except KflabError as error:
            self.pane.tell(error.message, bad=True)
            if then is not None:
                then(False)
            return
        self.keep_draft()
        self._write_next(targets[1:], file, then)

    def _ask_overwrite(
        self,
        reason: KflabError,
        targets: list[Buffer],
        file: str | None,
        then: Callable[[bool], None] | None,
    ) -> None:
        """The first file holds a text nobody here has seen."""

        def answered(key: str | None) -> None:
            if key != "w":
                self.pane.tell("not written; the text is in the editor and in the draft")
                if then is not None:
                    then(False)
                return
            self._write_next(targets, file, then, overwrite=True)

        self.pane.app.push_screen(
            Ask(f"{reason.message}.", (("w", "write over it"), ("escape", "do not write"))), answered
        )

    def leave(self, then: Callable[[bool], None]) -> None:
        """Ask about unwritten edits before the lab closes.

        Args:
            then: Called with True when the lab may close, with False when the user stays.
        """
        unwritten = self.pane.state.unwritten
        if not unwritten:
            then(True)
            return
        names = ", ".join(buffer.name for buffer in unwritten[:3]) + (" …" if len(unwritten) > 3 else "")
        choices = [("w", "write")] if all(buffer.path for buffer in unwritten) else []
        choices += [("q", "leave, keep the draft"), ("d", "leave, drop the edits"), ("escape", "stay")]

        def answered(key: str | None) -> None:
            if key == "w":
                self._write_next(list(unwritten), None, then)
            elif key == "q":
                self._leave_with(self.drafts.snapshot(self.pane.state) if self.drafts else "", then)
            elif key == "d":
                self._leave_with("", then)
            else:
                then(False)

        self.pane.app.push_screen(Ask(f"Edits that are not written: {names}.", tuple(choices)), answered)

    def _leave_with(self, draft: str, then: Callable[[bool], None]) -> None:
        """Keep or drop the draft; one that cannot be kept holds the user back, so that nothing typed is lost."""
        try:
            if self.drafts is not None:
                self.drafts.keep(draft)
        except KflabError as error:
            if draft:
                self.pane.tell(error.message, bad=True)
                then(False)
                return
        then(True)
