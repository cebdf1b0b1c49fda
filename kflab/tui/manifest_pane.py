"""The manifests as the user wrote them, editable; the live object, readable. Nothing typed is ever lost."""

from collections.abc import Callable
from concurrent.futures import Future

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.message import Message
from textual.widget import Widget
from textual.widgets import TextArea

from kflab.lab.commands import Apply, Finding, Result
from kflab.lab.handle import LabHandle
from kflab.lab.snapshot import Snapshot
from kflab.manifest.objects import Key
from kflab.tui.drafts import DraftFile, restorable
from kflab.tui.editor_state import Buffer, Documents, DocumentSpan, EditorState
from kflab.tui.manifest_checks import Checked, Checks
from kflab.tui.manifest_files import DraftKept, TextFiles
from kflab.tui.manifest_live import LiveArrived, LiveText
from kflab.tui.manifest_parts import Lines, PartChosen, finding_rows, tab_rows
from kflab.tui.manifest_words import state_line, title_of
from kflab.tui.messages import ObjectSelected
from kflab.tui.pane import Pane
from kflab.tui.yaml_area import YamlArea


class ApplyAnswered(Message):
    """The API server has answered an apply."""

    def __init__(self, result: Result, texts: tuple[tuple[str, str], ...]) -> None:
        super().__init__()
        self.result = result
        self.texts = texts


class ManifestPane(Pane):
    """Tabs, text, findings, state line. `e` edits, `o` shows the live object, ctrl+s applies, `:w` writes."""

    title = "Manifest"

    DEFAULT_CSS = """
    ManifestPane { layout: vertical; height: 1fr; width: 1fr; background: $tok-bg; }
    ManifestPane .text { height: 1fr; width: 1fr; }
    """

    BINDINGS = [
        Binding("e,enter", "edit", "edit", id="manifest.edit", tooltip="Edit this text"),
        Binding("o", "live", "live object", id="manifest.live", tooltip="The object as the API server has it; back"),
        Binding("ctrl+s", "apply", "apply", id="manifest.apply", tooltip="Apply all tabs: all documents or none"),
        Binding("escape", "done", "done", id="manifest.done", tooltip="Leave the editor; what was typed stays"),
        Binding("f8", "next_finding", "next finding", id="manifest.finding", tooltip="To the next finding's line"),
        Binding("ctrl+pagedown,shift+right", "tab(1)", "next tab", id="manifest.tab", tooltip="The next text"),
        Binding("ctrl+pageup,shift+left", "tab(-1)", "tab before", id="manifest.tab-before", tooltip="The text before"),
        Binding("up", "move(-1)", "up", id="manifest.up", show=False, tooltip="One line up"),
        Binding("down", "move(1)", "down", id="manifest.down", show=False, tooltip="One line down"),
        Binding("pageup", "page(-1)", "page up", id="manifest.pageup", show=False, tooltip="One page up"),
        Binding("pagedown", "page(1)", "page down", id="manifest.pagedown", show=False, tooltip="One page down"),
    ]

    def __init__(self, lab: LabHandle) -> None:
        super().__init__()
        self.lab = lab
        self.state = EditorState.of_tabs(lab.tabs())
        self.files = TextFiles(self)
        self.checks = Checks(self)
        self.documents = Documents()
        self.key: Key | None = None
        """The object that is shown, when one was selected."""
        self.live = False
        self.editing = False
        self.said = ""
        self.said_badly = False
        self.draft_error = ""
        self._areas: dict[str, YamlArea] = {}
        self._tabs = Lines("tab")
        self._body = Widget(classes="text")
        self._reasons = Lines("finding")
        self._line = Lines("state")
        self.live_text = LiveText(lab, self.post_message)
        self._snapshot: Snapshot | None = None
        self._restored: dict[str, str] = {}

    def begin(self, key: Key) -> None:
        """Open first, before the pane is shown, the tab where an object is written."""
        place = self.lab.locate(key)
        index = self.state.index_of(place[0]) if place is not None else None
        if index is not None:
            self.state.current = index

    def compose(self) -> ComposeResult:
        yield self._tabs
        with self._body:
            yield self.live_text.area
        yield self._reasons
        yield self._line

    def on_mount(self) -> None:
        self.live_text.area.display = False
        snapshot = self._snapshot or self.lab.snapshot()
        drafts = self.files.drafts = DraftFile(snapshot.scenario, self.state.buffers)
        self._restored, strange = restorable(drafts.read(), self.state)
        for name, draft in self._restored.items():
            index = self.state.index_of(name)
            if index is not None:
                self.state.buffers[index].text = draft
        if self._restored:
            self.tell(f"draft of an earlier session restored: {', '.join(self._restored)} · ctrl+z takes it back")
        elif strange:
            self.tell(f"a draft of another text of {', '.join(strange)} is kept in {drafts.path}", bad=True)
        self.checks.take(tuple(found for found in self.lab.findings() if found.severity != "info"))
        self._show_text()
        if self._restored:
            self.checks.ask()

    def on_resize(self) -> None:
        self.say()

    # --- which text ---------------------------------------------------------------------------------------------

    @property
    def area(self) -> YamlArea | None:
        """The text that is shown."""
        if self.live:
            return self.live_text.area
        buffer = self.state.buffer
        return self._areas.get(buffer.name) if buffer else None

    def _area_of(self, buffer: Buffer) -> YamlArea:
        """The widget of one tab, made when it is first shown, so that each keeps its undo history."""
        area = self._areas.get(buffer.name)
        if area is None:
            draft = self._restored.pop(buffer.name, None)
            area = YamlArea(buffer.text if draft is None else buffer.written)
            self._areas[buffer.name] = area
            self._body.mount(area)
            if draft is not None:
                # An edit, so that ctrl+z takes the restored draft back.
                area.call_after_refresh(lambda: area.replace(draft, (0, 0), area.document.end))
        return area

    def _show_text(self) -> None:
        """Show the open tab or the live object, and hide the rest."""
        wanted: YamlArea | None = self.live_text.area if self.live else None
        if not self.live and self.state.buffer is not None:
            wanted = self._area_of(self.state.buffer)
        for area in (self.live_text.area, *self._areas.values()):
            area.display = area is wanted
        self._mark()
        self.say()

    def action_tab(self, direction: int) -> None:
        if self.state.buffers:
            self.open_tab((self.state.current + direction) % len(self.state.buffers))

    def open_tab(self, index: int) -> None:
        """Show another tab; editing goes on there."""
        editing = self.editing
        if editing:
            self._set_editing(False)
        self.live, self.state.current = False, index
        self._show_text()
        if editing:
            self._set_editing(True)

    def go_to(self, tab: str, line: int, column: int = 1) -> None:
        """Show a line (from 1) of a tab: the jump of a finding."""
        index = self.state.index_of(tab)
        if index is None:
            return
        self.open_tab(index)
        area = self.area
        if area is not None:
            row = max(0, min(line - 1, area.document.line_count - 1))
            area.move_cursor((row, max(0, column - 1)))
            area.call_after_refresh(self._bring_to_sight, area, row)

    def _bring_to_sight(self, area: YamlArea, row: int) -> None:
        """Bring a line to sight, the head of its document first where both fit."""
        span = self.span_at(area.text, row)
        top = span.first if span and row - span.first < area.size.height else max(0, row - 2)
        while top < row and area.document.get_line(top).strip() in ("", "---"):
            top += 1
        area.scroll_to(y=top, animate=False, force=True)
        self.say()

    def show_object(self, key: Key) -> None:
        """Show what the user wrote of an object; what nobody wrote is shown live."""
        self.key = key
        if self.editing:
            return
        place = self.lab.locate(key)
        if self.live or place is None or self.state.index_of(place[0]) is None:
            self._start_live(key)
        else:
            self.go_to(*place)

    def span_at(self, words: str, row: int) -> DocumentSpan | None:
        """The document around a line (from 0) of a text."""
        return self.documents.at(words, row, self.checks.resting)

    # --- the live object ----------------------------------------------------------------------------------------

    def action_live(self) -> None:
        """From the text to the live object of the document in sight, and back."""
        if self.live:
            self.live = False
            self._show_text()
            return
        key = self.key
        area = self.area
        if key is None and area is not None:
            row = area.cursor_location[0] if self.editing else area.scroll_offset.y
            span = self.span_at(area.text, row) or self.span_at(area.text, row + 1)
            key = span.key if span else None
        if key is None:
            self.tell("select an object, or stand in a document with kind and name")
            return
        self._start_live(key)

    def _start_live(self, key: Key) -> None:
        if self.editing:
            self._set_editing(False)
        new = key != self.key or not self.live
        self.key, self.live = key, True
        if new:
            self.live_text.area.load_text("")
        self.live_text.fetch(key)
        self._show_text()

    def on_live_arrived(self, message: LiveArrived) -> None:
        """Show it where the eye is."""
        message.stop()
        if message.key == self.key and self.live:
            self.live_text.take(message.words)
            self.say()

    def show(self, snapshot: Snapshot) -> None:
        """Look at the live object again; the text changes only by typing."""
        self._snapshot = snapshot
        if self.live and self.is_mounted and self.key is not None:
            self.live_text.tick(self.key)

    # --- editing ------------------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that mean something only while editing, or only while looking."""
        if action == "done":
            return self.editing or self.live
        if action in ("edit", "move", "page", "live"):
            return not self.editing
        return True

    def action_edit(self) -> None:
        """Edit the open tab; a live object's own text, if somebody wrote it."""
        if self.live:
            self.live = False
            place = self.lab.locate(self.key) if self.key else None
            if place is None or self.state.index_of(place[0]) is None:
                self.live = True
                self.tell(f"{self.key} was made by a controller: it is read-only here", bad=True)
                return
            self.go_to(*place)
        buffer = self.state.buffer
        if buffer is None:
            self.tell("there is no text: this lab was opened without manifests")
            return
        if buffer.locked:
            self.tell(buffer.locked, bad=True)
            return
        self._show_text()
        self._set_editing(True)

    def _set_editing(self, on: bool) -> None:
        self.editing = on
        area = self._areas.get(self.state.buffer.name) if self.state.buffer else None
        if area is not None:
            if on and not self._cursor_in_sight(area):
                area.move_cursor((min(area.scroll_offset.y, area.document.line_count - 1), 0))
            area.open_for_editing(on)
            if on:
                self.call_after_refresh(area.focus)
            elif self.screen.focused is area:
                self.focus()
        self.say()

    @staticmethod
    def _cursor_in_sight(area: YamlArea) -> bool:
        return 0 <= area.cursor_location[0] - area.scroll_offset.y < max(1, area.size.height)

    def action_done(self) -> None:
        """Leave the editor, or the live object."""
        if self.editing:
            self._set_editing(False)
        elif self.live:
            self.live = False
            self._show_text()

    def on_descendant_blur(self, event: events.DescendantBlur) -> None:
        """The focus went elsewhere by mouse or key: editing is over, what was typed stays."""
        if self.editing and event.widget in self._areas.values():
            self.call_after_refresh(self._end_if_left)

    def _end_if_left(self) -> None:
        if self.editing and not self.has_focus_within and self.app.screen is self.screen:
            area = self.area
            self.editing = False
            if area is not None:
                area.open_for_editing(False)
            self.say()

    def on_click(self, event: events.Click) -> None:
        """A double click into the text edits it there."""
        if event.chain == 2 and not self.editing and not self.live and event.widget in self._areas.values():
            self.action_edit()

    @on(TextArea.Changed)
    def _typed(self, event: TextArea.Changed) -> None:
        """Keep what was typed, and check it when the keys rest."""
        event.stop()
        name = next((name for name, area in self._areas.items() if area is event.text_area), None)
        index = None if name is None else self.state.index_of(name)
        if index is None or self.state.buffers[index].text == event.text_area.text:
            return
        self.state.buffers[index].text = event.text_area.text
        self.said = ""
        self.checks.typed()
        self.files.typed()
        self.say()

    @on(TextArea.SelectionChanged)
    def _moved(self, event: TextArea.SelectionChanged) -> None:
        event.stop()
        self.say()

    # --- checking -----------------------------------------------------------------------------------------------

    def on_checked(self, message: Checked) -> None:
        message.stop()
        if self.checks.is_newest(message):
            self._take_findings(message.findings)

    def _take_findings(self, findings: tuple[Finding, ...]) -> None:
        self.checks.take(findings)
        self._mark()
        self.say()

    def _mark(self) -> None:
        """Mark the bad places of the open tab."""
        buffer = self.state.buffer
        area = self._areas.get(buffer.name) if buffer else None
        if buffer is not None and area is not None:
            area.mark(self.checks.of(buffer.name))

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the lab thinks of the texts."""
        return self.checks.findings

    @property
    def _tab(self) -> str:
        return self.state.buffer.name if self.state.buffer else ""

    def action_next_finding(self) -> None:
        """Jump to the next finding's line."""
        finding = self.checks.next(self._tab)
        if finding is not None:
            self.jump_to(finding)
            self.say()

    def jump_to(self, finding: Finding) -> None:
        """Show a finding's line."""
        if finding.place is not None:
            self.go_to(finding.place.file, finding.place.line, finding.place.column)

    def on_part_chosen(self, message: PartChosen) -> None:
        """A click on a tab or a finding."""
        message.stop()
        if message.part == "tab":
            self.open_tab(message.index)
        elif message.part == "finding":
            self.jump_to(self.checks.ordered(self._tab)[message.index])

    # --- applying and writing -----------------------------------------------------------------------------------

    def action_apply(self) -> None:
        """Apply all tabs; the answer comes from the lab between two slabs."""
        texts = self.state.texts()
        if not texts:
            return
        if not self.state.edited:
            self.tell("nothing was edited since the last apply")
            return

        def answered(answer: "Future[Result]") -> None:
            error = answer.exception()
            self.post_message(ApplyAnswered(Result(False, str(error)) if error else answer.result(), texts))

        self.lab.submit(Apply(texts)).add_done_callback(answered)

    def on_apply_answered(self, message: ApplyAnswered) -> None:
        """Say what the API server said; refused means nothing changed."""
        message.stop()
        result = message.result
        if message.result.ok:
            self.state.took(message.texts, self.lab.snapshot().t_ns)
            words = result.text or "applied"
            if self.state.removed:
                names = ", ".join(self.state.removed)
                words = f"{words} · removed from the text, which deletes nothing: {names}"
            self.tell(words)
        else:
            self.tell(result.text or "refused: nothing was applied", bad=True)
        if result.findings or result.ok:
            self._take_findings(result.findings or (() if result.ok else self.findings))

    def restarted(self) -> None:
        """The lab began anew from its own texts: what was applied since is an edit again."""
        self.state.restarted({tab.name: tab.text for tab in self.lab.tabs()})
        self.tell("the lab began anew from the texts it was opened with")

    def write(self, file: str | None = None) -> None:
        """`:w [FILE]`: write the open tab; without a file name all edited tabs that have a file."""
        self.files.write(file)

    def leave(self, then: Callable[[bool], None]) -> None:
        """Ask about unwritten edits before the lab closes.

        Args:
            then: Called with True when the lab may close, with False when the user stays.
        """
        self.files.leave(then)

    def on_draft_kept(self, message: DraftKept) -> None:
        message.stop()
        self.draft_error = message.error
        self.say()

    # --- words --------------------------------------------------------------------------------------------------

    def tell(self, words: str, bad: bool = False) -> None:
        """Say something in the state line, until the next key."""
        self.said, self.said_badly = words, bad
        self.say()

    def say(self) -> None:
        """Bring title, tabs, findings and state line up to date."""
        if not self.is_mounted:
            return
        width = max(20, self.size.width)
        self.subtitle, self.note = title_of(self)
        self._tabs.say(*tab_rows(self.state, self.findings, width, self))
        shown = [] if self.live else self.checks.ordered(self._tab)
        self._reasons.say(*finding_rows(shown, self._tab, width, self, self.checks.chosen))
        self._line.say(state_line(self, width))

    # --- moving without editing ---------------------------------------------------------------------------------

    def action_move(self, count: int) -> None:
        if self.area is not None:
            self.area.scroll_relative(y=count, animate=False)
            self.call_after_refresh(self.say)

    def action_page(self, direction: int) -> None:
        if self.area is not None:
            self.action_move(direction * max(1, self.area.size.height - 1))

    def copy_text(self) -> tuple[str, str]:
        """What `y` copies: the document in sight."""
        area = self.area
        if area is None:
            return "", "manifest"
        span = None if self.live else self.span_at(area.text, area.scroll_offset.y)
        if span is None:
            return area.text, "manifest"
        return "\n".join(area.text.split("\n")[span.first : span.end]), "manifest"

    # --- what happened elsewhere --------------------------------------------------------------------------------

    def on_object_selected(self, message: ObjectSelected) -> None:
        if message.key is not None:
            self.show_object(message.key)
        else:
            self.key = None
