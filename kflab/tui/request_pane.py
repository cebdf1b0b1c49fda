"""The opened request: the very one that happened, hop by hop."""

from collections.abc import Sequence

from kflab.dataplane.packets import RequestTrace
from kflab.tui.line_pane import LinePane
from kflab.tui.messages import HopSelected, RequestClosed, RequestLoaded
from kflab.tui.request_rows import RequestPage, request_page, title_words
from kflab.tui.row import Row, wrap_words

EMPTY = "no request is open: enter on a row of Trace opens one, a click in the lens the nearest one"


class RequestPane(LinePane):
    """One request. Its hops are walked with ← and →; the same numbers stand at the rows of the topology."""

    title = "Request"

    def __init__(self) -> None:
        super().__init__()
        self.trace: RequestTrace | None = None
        self.hop = 0
        """Number of the hop under the cursor; 0 until somebody walks."""
        self._page = RequestPage((), {})

    def show_trace(self, trace: RequestTrace | None) -> None:
        """Show a request, or none."""
        self.trace, self.hop, self.top = trace, 0, 0
        self.subtitle = title_words(trace, self.glyphs) if trace is not None else ""
        self.note = "esc back" if trace is not None else ""
        self.rebuild()

    def build(self, width: int, height: int) -> Sequence[Row]:
        if self.trace is None:
            return [Row().put(1, line, "faint") for line in wrap_words(EMPTY, max(10, width - 2))]
        self.subtitle = title_words(self.trace, self.glyphs, width - 26)
        self._page = request_page(self.trace, width, self.hop, self.glyphs)
        return self._page.rows

    def select_hop(self, number: int) -> None:
        """Put the cursor on a hop and keep it in sight."""
        self.hop = number
        self.rebuild()
        self._lines()
        if number in self._page.row_of_hop:
            self.scroll_to_row(self._page.row_of_hop[number], 1)

    def copy_text(self) -> tuple[str, str]:
        """What `y` copies: the whole page as text, and its name."""
        if self.trace is None:
            return "", "trace"
        page = request_page(self.trace, 120, 0, self.glyphs)
        lines = [title_words(self.trace, self.glyphs), *(row.text for row in page.rows)]
        return "\n".join(lines) + "\n", "trace"

    def on_request_loaded(self, message: RequestLoaded) -> None:
        self.show_trace(message.trace)

    def on_request_closed(self, message: RequestClosed) -> None:
        self.show_trace(None)

    def on_hop_selected(self, message: HopSelected) -> None:
        if self.trace is not None and message.number != self.hop:
            self.select_hop(message.number)
