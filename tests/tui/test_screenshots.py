"""Pictures of real runs: the same bytes each time, nothing fetched, what is on the screen is in them."""

import os
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from kflab.errors import KflabError
from kflab.tui.picture import HEIGHT, WIDTH, arms, shapes, svg
from kflab.tui.screenshots import SHOTS, Shot, make, take

FOLDER = Path(__file__).resolve().parents[2] / "screenshots"
SMALL = next(shot for shot in SHOTS if shot.name.startswith("small"))


def words(picture: str) -> list[str]:
    """What can be read in a picture."""
    root = ElementTree.fromstring(picture)
    return [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]


def test_the_same_bytes_whatever_the_callers_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = take(SMALL)
    for name, value in {"NO_COLOR": "1", "SSH_CONNECTION": "::1 1 ::1 22", "KFLAB_THEME": "paper"}.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    assert take(SMALL) == plain
    assert dict(os.environ) == before
    shown = words(plain)
    assert {"crashed", "stale", "EndpointSlice", "noticed"} <= set(shown)


def test_unknown_pictures_are_named(tmp_path: Path) -> None:
    with pytest.raises(KflabError, match="overview-120x40"):
        next(make(str(tmp_path), ["nothing"]))


def test_a_folder_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KflabError, match="file"):
        next(make(str(tmp_path / "file" / "below"), [SMALL.name]))


@pytest.mark.parametrize("shot", SHOTS, ids=lambda shot: shot.name)
def test_committed_pictures(shot: Shot) -> None:
    picture = (FOLDER / f"{shot.name}.svg").read_text("utf-8")
    assert not re.search(r"href|url\(|@import|<image|<script", picture), "a picture fetches nothing"
    shown = words(picture)
    assert {"kflab", "overview", "seed"} <= set(shown) or shot.size[0] < 120
    assert "Traceback" not in picture
    if "editor" in shot.name:
        assert "65535," in shown


def test_characters_of_lines_are_drawn_and_meet() -> None:
    assert arms("┿") == {"u": 1.5, "d": 1.5, "l": 3.0, "r": 3.0}
    assert arms("╸") == {"l": 3.0}
    assert arms("┣") == {"u": 3.0, "d": 3.0, "r": 3.0}
    assert arms("╭") == {"d": 1.5, "r": 1.5}
    assert arms("x") == {}
    assert shapes("▄") == ((0, HEIGHT / 2, WIDTH, HEIGHT / 2),)
    assert shapes("●") == ()
    for character in "─━│┃┌┐└┘├┤┬┴┼┿╂┣┫┏┓┗┛╶╴╷╵╸╺":
        reach = shapes(character)
        for arm in arms(character):
            edge = {
                "l": any(x == 0 for x, _, _, _ in reach),
                "r": any(x + width == WIDTH for x, _, width, _ in reach),
                "u": any(y == 0 for _, y, _, _ in reach),
                "d": any(y + height == HEIGHT for _, y, _, height in reach),
            }[arm]
            assert edge, f"{character} does not reach its edge {arm}"
    assert len(shapes("╌")) == 2


def test_every_line_drawing_of_the_screen_has_a_shape() -> None:
    for shot in SHOTS:
        for word in words((FOLDER / f"{shot.name}.svg").read_text("utf-8")):
            assert not re.search(r"[\u2500-\u2570\u2574-\u259f]", word), f"{shot.name}: {word}"


def test_outside_text_is_text() -> None:
    strip = Strip([Segment("<b>&[/]", Style(bold=True, color="#ff0000"))])
    picture = svg([strip], "a & b", "<desc>")
    assert "<b>&[/]" in words(picture)
    assert 'fill="#ff0000"' in picture


def test_grounds_and_reverse() -> None:
    strip = Strip([Segment("a", Style(bgcolor="#101010")), Segment("b", Style(reverse=True, bgcolor="#101010"))])
    picture = svg([strip], "t", "")
    assert 'fill="#cdd5e0" d="M12 0' in picture
