"""What a Manifest pane says of itself: its title, and the line at its foot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kflab.tui import text
from kflab.tui.manifest_parts import count_words, state_rows
from kflab.tui.row import Row

if TYPE_CHECKING:
    from kflab.tui.manifest_pane import ManifestPane


def state_line(pane: ManifestPane, width: int) -> list[Row]:
    """What the pane's last line says: the newest answer, else whether the text is what runs."""
    glyphs = pane.app.glyphs if hasattr(pane.app, "glyphs") else None
    pen = glyphs.edited if glyphs else "✎"
    if pane.editing:
        keys = "ctrl+s apply · esc done"
    elif pane.live:
        keys = "o text · e edit"
    else:
        keys = "e edit · o live"
    wrong = count_words(pane.findings)
    if pane.said:
        words, token = pane.said, "lost" if pane.said_badly else "text"
    elif pane.draft_error:
        words, token = f"{pen} edited · {pane.draft_error}", "lost"
    elif pane.live:
        words, token = f"as of {text.instant(pane.lab.snapshot().t_ns)} s", "faint"
    elif pane.state.edited:
        words, token = f"{pen} edited · {wrong}" if wrong else f"{pen} edited", "lost" if wrong else "late"
    elif wrong:
        words, token = f"{wrong} · f8 goes to each", "late"
    else:
        words, token = f"as applied at {applied_words(pane.state.applied_ns)} s", "faint"
    return state_rows(words, token, keys, width)


def title_of(pane: ManifestPane) -> tuple[str, str]:
    """The object or document in sight, and which of how many it is."""
    area, buffer = pane.area, pane.state.buffer
    if pane.live:
        return str(pane.key), "live, read-only"
    if buffer is None or area is None:
        return "", ""
    row = area.cursor_location[0] if pane.editing else area.scroll_offset.y
    span = pane.span_at(area.text, row) or pane.span_at(area.text, row + 1)
    spans = pane.documents.spans
    name = text.safe(span.title) if span else text.safe(buffer.name)
    return name, f"{spans.index(span) + 1} of {len(spans)}" if span else ""


def applied_words(t_ns: int) -> str:
    """``0`` or ``12.40``."""
    return text.instant(t_ns) if t_ns else "0"
