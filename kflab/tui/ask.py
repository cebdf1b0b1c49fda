"""A question in one line at the bottom of the screen, answered with one key."""

from textual import events
from textual.strip import Strip
from textual.widget import Widget

from kflab.tui.overlay import Overlay
from kflab.tui.row import Row, wrap_words
from kflab.tui.tokens import look

Choice = tuple[str, str]
"""(key as Textual names it, what it does)."""


class _QuestionLine(Widget):
    """The question and its keys."""

    DEFAULT_CSS = "_QuestionLine { dock: bottom; height: auto; width: 100%; background: $tok-sel; }"

    def __init__(self, question: str, choices: tuple[Choice, ...]) -> None:
        super().__init__()
        self.question = question
        self.choices = choices

    def _rows(self, width: int) -> list[Row]:
        rows = [Row("sel").put(1, line, "strong", bold=True) for line in wrap_words(self.question, max(10, width - 2))]
        row = Row("sel")
        for key, words in self.choices:
            start = row.x + 3 if row.x else 1
            if start + len(key) + len(words) + 2 > width and row.x:
                rows.append(row)
                row, start = Row("sel"), 1
            row.put(start, "esc" if key == "escape" else key, "strong", bold=True).add(f" {words}", "dim")
        return [*rows, row]

    def get_content_height(self, container: object, viewport: object, width: int) -> int:
        return len(self._rows(width))

    def render_line(self, y: int) -> Strip:
        rows = self._rows(self.size.width)
        return (rows[y] if y < len(rows) else Row("sel")).strip(look(self.app), self.size.width)


class Ask(Overlay[str]):
    """Ask; the screen's result is the key of the choice. Esc is always the last choice, and nothing is lost by it."""

    def __init__(self, question: str, choices: tuple[Choice, ...]) -> None:
        super().__init__()
        self.question = question
        self.choices = choices

    def compose(self) -> list[Widget]:
        return [_QuestionLine(self.question, self.choices)]

    def on_key(self, event: events.Key) -> None:
        """Take a choice's key; everything else is left aside."""
        event.stop()
        if event.key in [key for key, _ in self.choices]:
            self.dismiss(event.key)
