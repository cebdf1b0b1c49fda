"""The text of the Manifest pane: YAML in our colours, bad places marked, hostile characters shown."""

import unicodedata
from collections.abc import Mapping

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.strip import Strip
from textual.widgets import TextArea
from textual.widgets.text_area import TextAreaTheme

from kflab.lab.commands import Finding
from kflab.tui.glyphs import Glyphs
from kflab.tui.line_pane import glyphs_of
from kflab.tui.tokens import Look, look

COLOUR_LIMIT = 256 * 1024
"""Characters up to which a text is coloured: Textual asks for all highlights again after every key."""

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


class YamlArea(TextArea):
    """A text to look at or to edit. It takes the focus only while it is edited."""

    DEFAULT_CSS = """
    YamlArea { border: none; padding: 0 0 0 1; height: 1fr; background: $tok-bg; color: $tok-text;
               scrollbar-size-vertical: 1; scrollbar-size-horizontal: 0; }
    YamlArea:focus { border: none; }
    """

    def __init__(self, text: str, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name for it
        self.findings: tuple[Finding, ...] = ()
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
        """Tab indents by spaces, enter keeps the indentation (and deepens it after a key without value)."""
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

    def _build_highlight_map(self) -> None:
        """Put the findings on top of the syntax (Textual 8.2.8 has no public way to add a highlight)."""
        super()._build_highlight_map()
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
