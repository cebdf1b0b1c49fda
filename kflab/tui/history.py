"""Lines of the command line, kept between sessions."""

from pathlib import Path

from kflab.errors import KflabError
from kflab.tui.atomic_write import reason_of, write_atomically
from kflab.tui.state_folder import state_folder

KEPT = 500
"""Lines kept; older ones go."""


class History:
    """The lines entered so far, oldest first, and a place among them."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or state_folder() / "history"
        self.lines = self._read()
        self.at = len(self.lines)
        self._draft = ""

    def _read(self) -> list[str]:
        try:
            return self.path.read_text("utf-8", "replace").splitlines()[-KEPT:]
        except OSError:
            return []

    def add(self, line: str) -> str:
        """Remember a line.

        Returns:
            "" or, in one line, why it could not be kept on disk.
        """
        line = " ".join(line.split())
        if line and (not self.lines or self.lines[-1] != line):
            self.lines = [*self.lines, line][-KEPT:]
        self.at = len(self.lines)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(self.path, "".join(f"{each}\n" for each in self.lines))
        except OSError as error:
            return f"history not kept: {reason_of(error)}"
        except KflabError as error:
            return f"history not kept: {error.message}"
        return ""

    def back(self, typed: str) -> str:
        """The line before; what was typed is remembered and comes back after the newest."""
        if self.at == len(self.lines):
            self._draft = typed
        self.at = max(0, self.at - 1)
        return self.lines[self.at] if self.lines else typed

    def forward(self, typed: str) -> str:
        """The line after, or what was typed before the first step back."""
        if self.at >= len(self.lines):
            return typed
        self.at += 1
        return self.lines[self.at] if self.at < len(self.lines) else self._draft
