"""Looks, kept as pictures (pytest-textual-snapshot): states of the design at three sizes, themes and panes.

After a change of looks: `pytest tests/tui/test_snapshots.py --snapshot-update`, and look at every picture that changed.
"""

from collections.abc import Callable
from typing import Any

import pytest

from kflab.tui.app import KflabApp
from tests.tui.fakes import SNAPSHOTS, FakeLab

SIZES = {"80x24": (80, 24), "120x40": (120, 40), "200x60": (200, 60)}

Compare = Callable[..., bool]


@pytest.fixture(autouse=True)
def _plain_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Nothing of the caller's terminal or home reaches a picture."""
    for name in ("NO_COLOR", "SSH_CONNECTION", "KFLAB_THEME", "KFLAB_GLYPHS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")


def screen(state: str, theme: str = "slate", glyphs: str = "unicode") -> KflabApp:
    return KflabApp(FakeLab(SNAPSHOTS[state]()), theme=theme, glyphs=glyphs)


class TestLedger:
    @pytest.mark.parametrize("state", ["steady", "crash_half", "crash_two"])
    @pytest.mark.parametrize("size", SIZES)
    def test_states_at_every_size(self, snap_compare: Compare, state: str, size: str) -> None:
        assert snap_compare(screen(state), terminal_size=SIZES[size])

    @pytest.mark.parametrize("size", ["120x40", "200x60"])
    def test_sixty_pods(self, snap_compare: Compare, size: str) -> None:
        assert snap_compare(screen("sixty_pods"), terminal_size=SIZES[size])

    def test_a_very_small_terminal(self, snap_compare: Compare) -> None:
        assert snap_compare(screen("crash_half"), terminal_size=(40, 10))


class TestThemes:
    @pytest.mark.parametrize("theme", ["paper", "ansi"])
    def test_other_themes(self, snap_compare: Compare, theme: str) -> None:
        assert snap_compare(screen("crash_half", theme=theme), terminal_size=(120, 40))

    def test_ascii(self, snap_compare: Compare) -> None:
        assert snap_compare(screen("crash_two", glyphs="ascii"), terminal_size=(120, 40))

    def test_no_color(self, snap_compare: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NO_COLOR", "1")
        assert snap_compare(screen("crash_half"), terminal_size=(120, 40))


class TestViews:
    @pytest.mark.parametrize("state", ["steady", "crash_half"])
    def test_schematic(self, snap_compare: Compare, state: str) -> None:
        assert snap_compare(screen(state), press=["v"], terminal_size=(120, 40))

    def test_nodes(self, snap_compare: Compare) -> None:
        assert snap_compare(screen("crash_half"), press=["v", "v"], terminal_size=(120, 40))

    def test_schematic_of_many_pods(self, snap_compare: Compare) -> None:
        assert snap_compare(screen("sixty_pods"), press=["v"], terminal_size=(120, 40))


class TestPanes:
    def test_open_request(self, snap_compare: Compare) -> None:
        assert snap_compare(screen("crash_half"), press=["3", "enter"], terminal_size=(120, 40))

    def test_kill_menu(self, snap_compare: Compare) -> None:
        assert snap_compare(screen("steady"), press=["k"], terminal_size=(120, 40))

    def test_help(self, snap_compare: Compare) -> None:
        assert snap_compare(screen("steady"), press=["question_mark"], terminal_size=(120, 40))

    def test_shares(self, snap_compare: Compare) -> None:
        assert snap_compare(screen("steady"), press=["s"], terminal_size=(120, 40))

    def test_rules(self, snap_compare: Compare) -> None:
        assert snap_compare(screen("steady"), press=["i"], terminal_size=(120, 40))
