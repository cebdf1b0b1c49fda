"""The text of the Manifest pane: YAML in our colours, bad places marked, hostile characters shown."""

import unicodedata
from collections.abc import Mapping
from typing import Any

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding
from textual.document._document import Document, EditResult, Location
from textual.document._document_navigator import DocumentNavigator
from textual.document._syntax_aware_document import SyntaxAwareDocument
from textual.document._wrapped_document import WrappedDocument
from textual.expand_tabs import get_tab_widths
from textual.strip import Strip
from textual.widgets import TextArea
from textual.widgets.text_area import TextAreaTheme

from kflab.lab.commands import Finding
from kflab.tui.glyphs import Glyphs
from kflab.tui.line_pane import glyphs_of
from kflab.tui.tokens import Look, look

COLOUR_LIMIT = 64 * 1024
"""Characters up to which a text is coloured: tree-sitter reads the whole text through Python after every key."""

AROUND = 40
"""Lines above and below the visible ones that are coloured with them."""

SEVERITY_TOKENS: Mapping[str, str] = {"error": "lost", "refused": "lost", "warning": "late", "info": "dim"}
"""Colour of a finding."""

_STANDINS = {code: 0x2400 + code for code in range(0x20) if code != 9} | {0x7F: 0x2421}
"""Control characters are shown by their Unicode pictures (U+2400 …), one cell each, so that columns stay true."""


def theme_of(look: Look) -> TextAreaTheme:
    """The editor's theme made of a look's tokens: keys in their own hue, values plain, comments stepped back."""
    key, plain, faint = (Style(color=look[token].color) for token in ("yamlkey", "text", "faint"))
    if look.plain:
        key, faint = Style(bold=True), Style(dim=True)
    marks = {
        f"finding-{name}": look.style(token, underline=True).without_color
        + Style(color=look[token].color, underline=True)
        for name, token in SEVERITY_TOKENS.items()
    }
    return TextAreaTheme(
        name=f"kflab-{look.name}",
        gutter_style=look["faint"],
        cursor_style=Style(reverse=True),
        cursor_line_style=Style(bgcolor=look.style("text", "sel").bgcolor) if not look.reverse_selection else Style(),
        cursor_line_gutter_style=look.style("strong", "sel") if not look.reverse_selection else look["strong"],
        bracket_matching_style=Style(underline=True),
        selection_style=Style(reverse=True) if look.reverse_selection else Style(bgcolor=look["spine"].color),
        syntax_styles={
            "yaml.field": key,
            "punctuation.delimiter": key,
            "string": plain,
            "number": plain,
            "boolean": plain,
            "constant.builtin": plain,
            "comment": faint,
            "type": Style(color=look["dim"].color),
            "punctuation.special": faint,
            **marks,
        },
    )


def shown_char(char: str) -> str:
    """One visible character for one of the text, so that columns in the editor are columns of the text."""
    code = ord(char)
    if code in _STANDINS:
        return chr(_STANDINS[code])
    if unicodedata.category(char) in ("Cf", "Cc", "Co", "Cs", "Zl", "Zp"):
        return "\N{REPLACEMENT CHARACTER}"
    return char


class _Plain(Document):
    """A document that joins its lines once after an edit: Textual 8.2.8 asks for all of it with each line drawn."""

    _whole: str | None = None

    @property
    def text(self) -> str:
        if self._whole is None:
            self._whole = super().text
        return self._whole

    def replace_range(self, start: Location, end: Location, text: str) -> EditResult:
        self._whole = None
        return super().replace_range(start, end, text)


class _Coloured(SyntaxAwareDocument, _Plain):
    """The same with tree-sitter's colours."""


class UnwrappedDocument(WrappedDocument):
    """A document whose lines are never wrapped.

    Textual 8.2.8 measures the tabs of every line, and adds up the height of all lines for each line it draws; with
    100,000 lines a key would take seconds.
    """

    def wrap(self, width: int, tab_width: int | None = None) -> None:
        """Lay the lines out, one row each; only lines with tabs are measured."""
        if width:
            super().wrap(width, tab_width)
            return
        self._width, self._tab_width = 0, tab_width or self._tab_width
        lines = self.document.lines
        self._wrap_offsets = [[] for _ in lines]
        self._offset_to_line_info = [(index, 0) for index in range(len(lines))]
        self._line_index_to_offsets = [[index] for index in range(len(lines))]
        self._tab_width_cache = [
            [cells for _, cells in get_tab_widths(line, self._tab_width)] if "\t" in line else [0] if line else []
            for line in lines
        ]

    @property
    def height(self) -> int:
        """One row a line."""
        return len(self._offset_to_line_info)


_AT_ONCE = {
    key: binding.action
    for binding in TextArea.BINDINGS
    if isinstance(binding, Binding) and binding.action.startswith(("cursor_", "delete_"))
    for key in binding.key.split(",")
}
"""Key → the action of TextArea that moves the cursor or deletes."""


_PREPARED: dict[str | None, tuple[Any, Any]] = {None: (None, None)}
"""Language → tree-sitter's language and its highlight query; neither changes."""


class YamlArea(TextArea):
    """A text to look at or to edit. It takes the focus only while it is edited."""

    DEFAULT_CSS = """
    YamlArea { border: none; padding: 0 0 0 1; height: 1fr; background: $tok-bg; color: $tok-text;
               scrollbar-size-vertical: 1; scrollbar-size-horizontal: 0; }
    YamlArea:focus { border: none; }
    """

    def __init__(self, text: str, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name for it
        self.findings: tuple[Finding, ...] = ()
        self._coloured = (0, 0)
        self.changed_lines: frozenset[int] = frozenset()
        """Lines (from 0) that somebody else changed a moment ago."""
        super().__init__(
            text,
            language="yaml" if len(text) <= COLOUR_LIMIT else None,
            soft_wrap=False,
            show_line_numbers=True,
            tab_behavior="focus",
            read_only=True,
            highlight_cursor_line=False,
            id=id,
        )
        self.indent_width = 2
        self.can_focus = False
        self.cursor_blink = False

    @property
    def glyphs(self) -> Glyphs:
        return glyphs_of(self.app)

    def on_mount(self) -> None:
        self.watch(self.app, "theme", self._take_theme)

    def _take_theme(self) -> None:
        """Colours follow the app's theme."""
        theme = theme_of(look(self.app))
        self.register_theme(theme)
        self.theme = theme.name

    # --- editing ------------------------------------------------------------------------------------------------

    def open_for_editing(self, on: bool) -> None:
        """Let it be edited, or only looked at."""
        self.read_only = not on
        self.can_focus = on
        self.highlight_cursor_line = on

    async def _on_key(self, event: events.Key) -> None:
        """Tab indents by spaces, enter keeps the indentation (and deepens it after a key without value).

        Keys that move or delete act here and now: as bindings they would first bubble to the app, and a letter typed
        right behind them would overtake them.
        """
        action = _AT_ONCE.get(event.key)
        if action is not None and not self.read_only:
            event.stop()
            event.prevent_default()
            await self.run_action(action)
            return
        if self.read_only or event.key not in ("tab", "enter"):
            await super()._on_key(event)
            return
        event.stop()
        event.prevent_default()
        row, column = self.cursor_location
        if event.key == "tab":
            self._type(" " * (2 - column % 2))
            return
        before = self.document.get_line(row)[:column]
        indent = len(before) - len(before.lstrip(" "))
        if before.rstrip().endswith(":"):
            indent += 2
        self._type("\n" + " " * indent)

    def _type(self, text: str) -> None:
        start, end = self.selection
        self._replace_via_keyboard(text, start, end)

    # --- marks --------------------------------------------------------------------------------------------------

    def mark(self, findings: tuple[Finding, ...]) -> None:
        """Mark bad places."""
        if findings != self.findings:
            self.findings = findings
            self._build_highlight_map()
            self.refresh()

    def mark_changed(self, lines: frozenset[int]) -> None:
        """Mark lines that changed a moment ago."""
        if lines != self.changed_lines:
            self.changed_lines = lines
            self.refresh()

    def _watch_language(self, language: str | None) -> None:
        """Nothing: the text was taken with its language, and keeps it."""

    def _set_document(self, text: str, language: str | None) -> None:
        """Take a text. Textual's own prepares the language, on nothing; a long text is then laid out once, not often.

        Every area shares what was prepared: tree-sitter takes 5 ms to read its highlight query.
        """
        if language not in _PREPARED:
            super()._set_document("", language)
            empty = self.document
            _PREPARED[language] = (getattr(empty, "language", None), self._highlight_query)
        prepared, self._highlight_query = _PREPARED[language]
        self.document = _Plain(text) if prepared is None else _Coloured(text, prepared)
        self.wrapped_document = UnwrappedDocument(self.document, tab_width=self.indent_width)
        self.navigator = DocumentNavigator(self.wrapped_document)
        self._build_highlight_map()
        self.move_cursor((0, 0))
        self._refresh_size()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Colour what comes to sight."""
        super().watch_scroll_y(old_value, new_value)
        first, end = self._coloured
        if new_value < first or new_value + self.size.height > end:
            self._build_highlight_map()

    def _on_resize(self) -> None:
        super()._on_resize()
        self._build_highlight_map()

    def _colour(self, first: int, end: int) -> None:
        """Ask tree-sitter for the highlights of some lines; Textual's own asks for all lines after every key."""
        if not self._highlight_query:
            return
        found = self.document.query_syntax_tree(self._highlight_query, (first, 0), (end, 0))
        for name, nodes in found.items():
            for node in nodes:
                (top, left), (bottom, right) = node.start_point, node.end_point
                for row in range(max(top, first), min(bottom, end) + 1):
                    upto = right if row == bottom else None
                    if upto != 0:
                        self._highlights[row].append((left if row == top else 0, upto, name))

    def _build_highlight_map(self) -> None:
        """Colour the lines in sight and put the findings on top (there is no public way to add a highlight)."""
        self._line_cache.clear()
        self._highlights.clear()
        top = self.scroll_offset.y
        self._coloured = (max(0, top - AROUND), top + max(1, self.size.height) + AROUND)
        self._colour(*self._coloured)
        for finding in self.findings:
            row = finding.place.line - 1 if finding.place else -1
            if not 0 <= row < self.document.line_count or finding.place is None:
                continue
            line = self.document.get_line(row)
            start = max(0, min(finding.place.column - 1, len(line)))
            end = min(len(line), start + max(1, finding.length))
            if end <= start or not line[start:end].strip():
                start, end = len(line) - len(line.lstrip()), len(line)
            before, upto = len(line[:start].encode()), len(line[:end].encode())
            self._highlights[row].append((before, upto, f"finding-{finding.severity}"))

    def get_line(self, line_index: int) -> Text:
        """The line with control and bidirectional characters shown by stand-ins, one for one."""
        line = super().get_line(line_index)
        if not line.plain.isascii() or not line.plain.isprintable():
            line.plain = "".join(char if char == "\t" else shown_char(char) for char in line.plain)
        return line

    def render_line(self, y: int) -> Strip:
        """Draw a line; its number tells of findings and of changes by others."""
        strip = super().render_line(y)
        info = self._line_of(y)
        if info is None or not self.show_line_numbers:
            return strip
        token = ""
        for finding in self.findings:
            if finding.place and finding.place.line - 1 == info and token != "lost":
                token = SEVERITY_TOKENS.get(finding.severity, "dim")
        segments = list(strip)
        if not segments or not (token or info in self.changed_lines):
            return strip
        gutter = segments[0]
        if info in self.changed_lines:
            mark = look(self.app).style("known", bold=True)
            segments[0:1] = [Segment(gutter.text[:-1], gutter.style), Segment(self.glyphs.lit, mark)]
        else:
            ink = look(self.app).style(token, bold=True)
            segments[0] = Segment(gutter.text, (gutter.style or Style()) + ink.without_color + Style(color=ink.color))
        return Strip(segments, strip.cell_length)

    def _line_of(self, y: int) -> int | None:
        """The text's line drawn at `y`."""
        at = y + self.scroll_offset.y
        lines = self.wrapped_document._offset_to_line_info
        return lines[at][0] if 0 <= at < len(lines) else None
