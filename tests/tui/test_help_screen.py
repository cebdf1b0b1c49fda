"""Help and palette: everything that can be done is named, once, and outside names stay names."""

from textual.command import Hit

from kflab.tui.help_screen import ABOUT, HelpPane, as_bindings, bindings_of, key_words, open_help
from kflab.tui.keys import LAB_BINDINGS
from kflab.tui.manifest_pane import ManifestPane
from kflab.tui.palette import LabCommands
from kflab.tui.request_pane import RequestPane
from kflab.tui.rules_pane import RulesPane
from kflab.tui.shares_pane import SharesPane
from kflab.tui.trace_pane import TracePane
from tests.tui import fakes
from tests.tui.demo import PaneApp, lines_of, without_lab

PANES = (ManifestPane, TracePane, RequestPane, RulesPane, SharesPane)


def test_every_binding_has_an_id_words_and_a_tooltip() -> None:
    for binding in [*as_bindings(LAB_BINDINGS), *(each for pane in PANES for each in as_bindings(pane.BINDINGS))]:
        assert binding.id
        assert binding.description
        assert binding.tooltip
        for key in binding.key.split(","):
            assert key.strip() not in ("ctrl+a", "ctrl+b", "ctrl+enter", "ctrl+i", "ctrl+m", "ctrl+h")


def test_every_pane_is_explained() -> None:
    assert all(pane.title in ABOUT for pane in PANES)


def test_help_lists_every_key_and_fits_a_small_screen() -> None:
    pane = HelpPane(TracePane(), as_bindings(LAB_BINDINGS))
    for width in (40, 80, 120):
        text = "\n".join(row.text for row in pane.build(width, 20))
        for binding in as_bindings(LAB_BINDINGS):
            assert key_words(binding) in text
        assert "Sampled requests" in text
        assert all(row.x <= width for row in pane.build(width, 20))


async def test_help_is_about_the_focused_pane() -> None:
    app = PaneApp(fakes.FakeLab(), RulesPane)
    async with app.run_test(size=(90, 24)) as pilot:
        await pilot.pause()
        open_help(app, LAB_BINDINGS)
        await pilot.pause()
        assert lines_of(app)[1].strip().startswith("Rules")
        await pilot.press("escape")
        await pilot.pause()
        assert app.pane.has_focus


async def test_the_palette_finds_keys_words_and_objects_and_never_reads_markup() -> None:
    app = PaneApp(fakes.FakeLab(), without_lab(TracePane))
    async with app.run_test(size=(90, 24)) as pilot:
        screen = app.screen
        screen.snapshot = app.lab.snapshot()  # type: ignore[attr-defined]  # as the lab's screen has it
        screen.panes = [app.pane]  # type: ignore[attr-defined]
        provider = LabCommands(screen)
        found = [hit async for hit in provider.search("m4dd8")]
        assert {hit.text for hit in found if isinstance(hit, Hit)} >= {
            f"go to {fakes.PODS[1]}",
            f"crash {fakes.PODS[1]}",
        }
        names = [entry.name for entry in provider.entries()]
        assert ":assumptions" in names
        assert "Trace: filter" in names
        assert "theme paper" in names
        await pilot.pause()
    assert bindings_of(None) == []
