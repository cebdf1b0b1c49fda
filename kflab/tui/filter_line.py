"""The line in which a filter for the topology is typed."""

from collections.abc import Callable

from textual import events
from textual.widgets import Input


class FilterLine(Input):
    """Filters while typing. enter keeps the filter and gives the focus back; esc clears it.

    Args:
        typed: Called with (text, whether typing is over).
    """

    def __init__(self, typed: Callable[[str, bool], None]) -> None:
        super().__init__(placeholder="name, state, node or address", classes="filter-line", compact=True)
        self._typed = typed
        self.display = False

    def open(self, text: str) -> None:
        """Show the line with what is filtered now."""
        self.value = text
        self.display = True
        self.focus()

    def _close(self, text: str) -> None:
        self.display = False
        self._typed(text, True)

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if self.display:
            self._typed(event.value, False)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._close(event.value)

    def on_key(self, event: events.Key) -> None:
        if event.key == "escape":
            event.stop()
            event.prevent_default()
            self._close("")
