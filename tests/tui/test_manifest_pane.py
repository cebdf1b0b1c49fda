"""The Manifest pane with keys pressed: checking, applying, writing, drafts, live objects, hostile text."""

from collections.abc import Callable
from pathlib import Path

import pytest
from textual import events
from textual.pilot import Pilot

from kflab.errors import Place
from kflab.lab.commands import Apply, Finding, Result
from kflab.lab.handle import Tab
from kflab.tui.app import KflabApp
from kflab.tui.manifest_live import changed_lines
from kflab.tui.manifest_pane import ManifestPane
from kflab.tui.manifest_parts import file_names
from kflab.tui.messages import ObjectSelected
from kflab.tui.yaml_area import YamlArea
from tests.tui import fakes
from tests.tui.demo import PaneApp, lines_of

BAD_PORT = Finding("error", "must be between 1 and 65535", Place("product-service.yaml", 10, 17), 5)


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "kflab" / "drafts"


class Lab(fakes.FakeLab):
    """A lab whose check finds a port of 80800, with the tabs it is given."""

    def __init__(self, tabs: tuple[Tab, ...] = ()) -> None:
        super().__init__()
        self.given = tabs

    def tabs(self) -> tuple[Tab, ...]:
        return self.given or super().tabs()

    def check(self, texts: tuple[tuple[str, str], ...]) -> tuple[Finding, ...]:
        return (BAD_PORT,) if "80800" in dict(texts).get("product-service.yaml", "") else ()


async def until(pilot: Pilot[None], true: Callable[[], bool]) -> None:
    """Wait for something that a worker does."""
    for _ in range(200):
        if true():
            return
        await pilot.pause(0.02)
    raise AssertionError("it never happened")


async def edit_port(pilot: Pilot[None], pane: ManifestPane) -> None:
    await pilot.press("e")
    await pilot.pause()
    pane.area.move_cursor((9, 20))
    await pilot.press("0")


async def test_a_wrong_port_is_marked_and_the_reason_stands_under_the_editor() -> None:
    app = PaneApp(Lab(), ManifestPane)
    async with app.run_test(size=(60, 16)) as pilot:
        await edit_port(pilot, app.pane)
        await until(pilot, lambda: bool(app.pane.findings))
        await pilot.pause()
        lines = lines_of(app)
        assert any("targetPort: 80800" in line for line in lines)
        reason = next(at for at, line in enumerate(lines) if "must be between 1 and 65535" in line)
        assert lines[reason].split()[0] == "10"
        assert "✎ edited · 1 error" in lines[-1]
        await pilot.press("backspace")
        await until(pilot, lambda: not app.pane.findings)
        assert not app.pane.state.edited


async def test_typing_never_reaches_the_keys_of_the_pane() -> None:
    app = PaneApp(Lab(), ManifestPane)
    async with app.run_test(size=(60, 16)) as pilot:
        await pilot.press("e")
        await pilot.pause()
        await pilot.press("o", "e", "f", "slash", "tab")
        assert app.pane.area.text.startswith("oef/  apiVersion")
        assert not app.pane.live
        await pilot.press("escape")
        assert not app.pane.editing
        await pilot.press("e")
        await pilot.pause()
        await pilot.press("ctrl+z", "ctrl+z")
        assert app.pane.area.text.startswith("apiVersion")


async def test_enter_keeps_the_indentation() -> None:
    app = PaneApp(Lab(), ManifestPane)
    async with app.run_test(size=(60, 16)) as pilot:
        await pilot.press("e")
        await pilot.pause()
        app.pane.area.move_cursor((5, 11))
        await pilot.press("enter", "a")
        assert app.pane.area.document.get_line(6) == "    a"


async def test_apply_sends_every_tab_and_says_that_a_removed_document_deletes_nothing() -> None:
    lab = Lab()
    lab.results[Apply] = Result(True, "deployment/product unchanged")
    app = PaneApp(lab, ManifestPane)
    async with app.run_test(size=(80, 16)) as pilot:
        pane = app.pane
        pane.open_tab(1)
        await pilot.press("e")
        await pilot.pause()
        await pilot.press("f7", "delete", *"# gone", "ctrl+s")
        await until(pilot, lambda: bool(lab.commands))
        await pilot.pause()
        assert [name for name, _ in lab.commands[-1].texts] == [
            "product-service.yaml",
            "product.yaml",
            "additions.yaml",
        ]
        assert "deletes nothing: deployment/product" in pane.said
        assert not pane.state.edited


async def test_a_refused_apply_is_told_in_the_api_servers_words_and_keeps_the_edit() -> None:
    lab = Lab()
    lab.results[Apply] = Result(False, 'The Service "product-service" is invalid: spec.clusterIP: field is immutable')
    app = PaneApp(lab, ManifestPane)
    async with app.run_test(size=(60, 16)) as pilot:
        await edit_port(pilot, app.pane)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: app.pane.said_badly)
        assert "field is immutable" in " ".join(" ".join(lines_of(app)).split())
        assert app.pane.state.edited


async def test_a_draft_survives_a_crash_and_undo_takes_it_back(state_home: Path) -> None:
    app = PaneApp(Lab(), ManifestPane)
    async with app.run_test(size=(60, 16)) as pilot:
        await edit_port(pilot, app.pane)
        await until(pilot, lambda: state_home.is_dir() and any(state_home.glob("*.json")))
    again = PaneApp(Lab(), ManifestPane)
    async with again.run_test(size=(60, 16)) as pilot:
        await until(pilot, lambda: "80800" in again.pane.area.text)
        assert "draft of an earlier session restored" in again.pane.said
        await pilot.press("e")
        await pilot.pause()
        await pilot.press("ctrl+z")
        await pilot.pause()
        assert again.pane.area.text == fakes.SERVICE_YAML


async def test_a_disk_that_takes_no_draft_is_told_in_the_state_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/no-such-place")
    app = PaneApp(Lab(), ManifestPane)
    async with app.run_test(size=(80, 16)) as pilot:
        await edit_port(pilot, app.pane)
        await until(pilot, lambda: bool(app.pane.draft_error))
        assert "no draft kept" in "\n".join(lines_of(app))
        assert "80800" in app.pane.area.text


async def test_write_asks_when_the_file_changed_on_disk(tmp_path: Path) -> None:
    file = tmp_path / "svc.yaml"
    file.write_text(fakes.SERVICE_YAML)
    app = PaneApp(Lab((Tab("svc.yaml", fakes.SERVICE_YAML, str(file)),)), ManifestPane)
    async with app.run_test(size=(100, 16)) as pilot:
        await edit_port(pilot, app.pane)
        file.write_text("somebody: else\n")
        app.pane.write()
        await pilot.pause()
        assert any("changed on disk" in line for line in lines_of(app))
        await pilot.press("escape")
        await pilot.pause()
        assert file.read_text() == "somebody: else\n"
        app.pane.write()
        await pilot.pause()
        await pilot.press("w")
        await pilot.pause()
        assert "80800" in file.read_text()
        assert app.pane.state.unwritten == ()


async def test_leaving_asks_about_unwritten_edits() -> None:
    app = PaneApp(Lab(), ManifestPane)
    answers: list[bool] = []
    async with app.run_test(size=(80, 16)) as pilot:
        app.pane.leave(answers.append)
        assert answers == [True]
        await edit_port(pilot, app.pane)
        app.pane.leave(answers.append)
        await pilot.pause()
        await pilot.press("escape")
        await pilot.pause()
        assert answers == [True, False]
        app.pane.leave(answers.append)
        await pilot.pause()
        await pilot.press("q")
        await pilot.pause()
        assert answers == [True, False, True]


async def test_a_controllers_object_is_shown_live_and_cannot_be_edited() -> None:
    app = PaneApp(Lab(), ManifestPane)
    async with app.run_test(size=(60, 16)) as pilot:
        app.pane.post_message(ObjectSelected(fakes.SLICE))
        await until(pilot, lambda: "EndpointSlice" in app.pane.live_text.area.text)
        assert app.pane.note == "live, read-only"
        await pilot.press("e")
        assert not app.pane.editing
        assert "read-only" in app.pane.said
        app.pane.post_message(ObjectSelected(fakes.PODS[0]))
        await pilot.press("o")
        await pilot.pause()


async def test_selecting_an_object_shows_its_tab() -> None:
    app = PaneApp(Lab(), ManifestPane)
    async with app.run_test(size=(60, 16)) as pilot:
        app.pane.post_message(ObjectSelected(fakes.PODS[1]))
        await pilot.pause()
        await pilot.pause()
        assert app.pane.subtitle == "deployment/product"


async def test_hostile_text_is_shown_and_not_obeyed() -> None:
    hostile = "kind: '[/] [@click=app.quit]x'\nmetadata: \x1b[31m\x07\u202e\nname: /[a-z]+(/|$)(.*)\n"
    app = PaneApp(Lab((Tab("[b]evil[/b]\x1b", hostile, None), Tab("two", "a: 1\n", None))), ManifestPane)
    async with app.run_test(size=(60, 12)) as pilot:
        await pilot.pause()
        screen = "\n".join(lines_of(app))
        assert "\x1b" not in screen
        assert "\u202e" not in screen
        assert "[/] [@click=app.quit]x" in screen
        assert "[b]evil[/b]\\e" in screen
        assert app.pane.state.buffers[0].text == hostile


def test_lines_changed_by_others_are_found() -> None:
    assert changed_lines("a\nb\nc", "a\nB\nc\nd") == {1, 3}


async def test_keys_that_come_together_act_in_their_order() -> None:
    app = KflabApp(fakes.FakeLab("steady"))
    async with app.run_test(size=(120, 40)) as pilot:
        app.main.manifest.action_edit()
        await pilot.pause()
        area = next(area for area in app.main.manifest.query(YamlArea) if not area.read_only)
        area.load_text("kind: Service\nport: 80\n")
        area.move_cursor((1, 0))
        for key, character in (("end", None), ("backspace", None), ("5", "5")):
            area.post_message(events.Key(key, character))
        await pilot.pause(0.2)
        assert area.text.splitlines()[1] == "port: 85"


def test_files_of_a_folder_are_told_by_what_tells_them_apart() -> None:
    paths = ["/given/far/away/shop/09-front-end-dep.yaml", "/given/far/away/shop/10-front-end-svc.yaml"]
    assert file_names(paths) == ["09-front-end-dep.yaml", "10-front-end-svc.yaml"]
    assert file_names(["a/x.yaml", "b/x.yaml", "y.yaml"]) == ["a/x.yaml", "b/x.yaml", "y.yaml"]
    assert file_names(["x.yaml", "b/x.yaml"]) == ["x.yaml", "b/x.yaml"]
