"""The lines around the editor: tabs above it, findings and state below it."""

from collections.abc import Sequence

from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from kflab.lab.commands import Finding
from kflab.tui import text
from kflab.tui.editor_state import EditorState
from kflab.tui.line_pane import glyphs_of
from kflab.tui.row import Row, wrap_words
from kflab.tui.tokens import look
from kflab.tui.yaml_area import SEVERITY_TOKENS

SHOWN_FINDINGS = 3
"""Lines of findings under the editor; the rest is counted, f8 goes through them."""

_ORDER = ("error", "refused", "warning", "info")


class PartChosen(Message):
    """A tab or a finding was clicked."""

    def __init__(self, part: str, index: int) -> None:
        super().__init__()
        self.part = part
        self.index = index


class Lines(Widget):
    """A few lines that are told what to say."""

    DEFAULT_CSS = "Lines { height: auto; width: 1fr; background: $tok-bg; }"

    def __init__(self, part: str) -> None:
        super().__init__()
        self.part = part
        self.rows: Sequence[Row] = ()
        self.targets: Sequence[tuple[int, int, int, int]] = ()
        """(row, first column, end column, index) of what can be clicked."""

    def say(self, rows: Sequence[Row], targets: Sequence[tuple[int, int, int, int]] = ()) -> None:
        """Show other lines; the height follows their number."""
        if [row.pieces for row in rows] == [row.pieces for row in self.rows]:
            return
        taller = len(rows) != len(self.rows)
        self.rows, self.targets = rows, targets
        self.display = bool(rows)
        if taller:
            self.styles.height = len(rows)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        row = self.rows[y] if y < len(self.rows) else Row()
        return row.strip(look(self.app), self.size.width)

    def on_click(self, event: events.Click) -> None:
        for row, first, end, index in self.targets:
            if row == event.y and first <= event.x < end:
                event.stop()
                self.post_message(PartChosen(self.part, index))
                return


def file_names(paths: Sequence[str]) -> list[str]:
    """The last part of each file's path, as many parts as tell it from the others; what is no file's name stays."""
    names = []
    for path in paths:
        parts = path.split("/") if path.endswith((".yaml", ".yml", ".json")) else [path]
        for kept in range(1, len(parts) + 1):
            name = "/".join(parts[-kept:])
            if sum(other == name or other.endswith(f"/{name}") for other in paths) <= 1:
                break
        names.append(name)
    return names


def tab_rows(
    state: EditorState, findings: Sequence[Finding], width: int, widget: Widget
) -> tuple[list[Row], list[tuple[int, int, int, int]]]:
    """The names of the tabs, the open one underlined; those that do not fit are counted at the ends."""
    glyphs = glyphs_of(widget.app)
    if len(state.buffers) < 2:
        return [], []
    labels = []
    for buffer, name in zip(state.buffers, file_names([buffer.name for buffer in state.buffers]), strict=True):
        errors = sum(of_tab(each, buffer.name) and each.severity in ("error", "refused") for each in findings)
        mark = f" {glyphs.edited}" if buffer.edited else ""
        labels.append((text.shorten(name, 24, glyphs.ellipsis) + mark, bool(errors)))
    widths = [len(label) + 2 for label, _ in labels]
    first, end = _window(widths, state.current, width - 2 if sum(widths) < width else width - 12)
    row = Row()
    row.put(1, f"{glyphs.ellipsis}{first} " if first else "", "faint")
    targets = []
    for index in range(first, end):
        label, bad = labels[index]
        active = index == state.current
        at = row.x + (2 if row.x > 1 else 1)
        token = "lost" if bad else "strong" if active else "dim"
        row.put(at, label, token, bold=active, underline=active)
        targets.append((0, at, row.x, index))
    if end < len(labels):
        row.put(row.x + 2, f"{glyphs.ellipsis}{len(labels) - end} more", "faint")
    return [row], targets


def _window(widths: list[int], current: int, room: int) -> tuple[int, int]:
    """Which tabs are shown: as many as fit, the open one among them."""
    first, end, used = current, current + 1, widths[current]
    while True:
        if end < len(widths) and used + widths[end] <= room:
            used += widths[end]
            end += 1
        elif first > 0 and used + widths[first - 1] <= room:
            first -= 1
            used += widths[first]
        else:
            return first, end


def of_tab(finding: Finding, name: str) -> bool:
    """Whether a finding is about this tab."""
    return finding.place is not None and finding.place.file == name


def sorted_findings(findings: Sequence[Finding], tab: str) -> list[Finding]:
    """Worst first, those of the open tab before others, then by line."""

    def order(finding: Finding) -> tuple[int, bool, str, int]:
        severity = _ORDER.index(finding.severity) if finding.severity in _ORDER else len(_ORDER)
        place = finding.place
        return severity, not of_tab(finding, tab), place.file if place else "", place.line if place else 0

    return sorted(findings, key=order)


def finding_rows(
    findings: Sequence[Finding], tab: str, width: int, widget: Widget, chosen: int = -1
) -> tuple[list[Row], list[tuple[int, int, int, int]]]:
    """The reasons under the editor, each with its line; one that is long takes a second line."""
    glyphs = glyphs_of(widget.app)
    rows: list[Row] = []
    targets = []
    for index, finding in enumerate(findings):
        if index >= SHOWN_FINDINGS or len(rows) >= SHOWN_FINDINGS + 1:
            break
        token = SEVERITY_TOKENS.get(finding.severity, "dim")
        place = finding.place
        where = "" if place is None else str(place.line) if place.file == tab else f"{place.file}:{place.line}"
        row = Row("sel" if index == chosen else "bg").right(4, where if len(where) < 5 else "", token)
        row.put(5, glyphs.corner, token)
        sentence = finding.message if len(where) < 5 else f"{where} {finding.message}"
        lines = wrap_words(sentence, max(10, width - 8))
        if len(lines) > 2:
            lines = [lines[0], text.fit(" ".join(lines[1:]), max(10, width - 8), glyphs.ellipsis)]
        targets += [(len(rows) + extra, 0, width, index) for extra in range(len(lines))]
        rows.append(row.put(7, lines[0], token))
        rows += [Row("sel" if index == chosen else "bg").put(7, line, token) for line in lines[1:]]
    return rows, targets


def count_words(findings: Sequence[Finding]) -> str:
    """``1 error``, ``2 errors, 1 warning``; "" when nothing is wrong."""
    errors = sum(finding.severity in ("error", "refused") for finding in findings)
    warnings = sum(finding.severity == "warning" for finding in findings)
    parts = [text.plural(errors, "error")] if errors else []
    parts += [text.plural(warnings, "warning")] if warnings else []
    return ", ".join(parts)


def state_rows(words: str, token: str, keys: str, width: int) -> list[Row]:
    """The pane's last line: what is so at the left, keys at the right; a long answer takes the keys' room and wraps."""
    if len(words) + len(keys) + 3 <= width - 2:
        return [Row().put(1, words, token).right(width - 1, keys, "faint")]
    lines = wrap_words(words, width - 2)
    if len(lines) > 3:
        lines = [*lines[:2], text.fit(" ".join(lines[2:]), width - 2)]
    return [Row().put(1, line, token) for line in lines]
