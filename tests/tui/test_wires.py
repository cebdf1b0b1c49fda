"""Wires meet: whatever is drawn, neighbouring cells agree about the line between them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kflab.tui.wires import (
    ASCII_JOINTS,
    DOWN,
    LEFT,
    RIGHT,
    SEL,
    UNICODE_JOINTS,
    UP,
    Canvas,
    Weight,
    arm,
    arms_of,
    ink,
)

WIDTH, HEIGHT = 24, 12
N, D, L, H = Weight.NONE, Weight.DOTTED, Weight.LIGHT, Weight.HEAVY

GLYPHS = {
    " ": (N, N, N, N),
    "│": (L, N, L, N),
    "┃": (H, N, H, N),
    "─": (N, L, N, L),
    "━": (N, H, N, H),
    "┌": (N, L, L, N),
    "┏": (N, H, H, N),
    "┐": (N, N, L, L),
    "┗": (H, H, N, N),
    "┛": (H, N, N, H),
    "└": (L, L, N, N),
    "├": (L, L, L, N),
    "┣": (H, H, H, N),
    "┠": (H, L, H, N),
    "┝": (L, H, L, N),
    "┟": (L, L, H, N),
    "┞": (H, L, L, N),
    "┡": (H, H, L, N),
    "┼": (L, L, L, L),
    "┿": (L, H, L, H),
    "╂": (H, L, H, L),
    "╋": (H, H, H, H),
    "┰": (N, L, H, L),
    "┸": (H, L, N, L),
    "╺": (N, H, N, N),
    "╸": (N, N, N, H),
    "╴": (N, N, N, L),
    "╼": (N, H, N, L),
    "╽": (L, N, H, N),
    "┄": (N, D, N, D),
    "┊": (D, N, D, N),
}
"""Written by hand from the Unicode chart: up, right, down, left."""


@pytest.mark.parametrize(("glyph", "arms"), GLYPHS.items(), ids=list(GLYPHS))
def test_a_glyph_has_exactly_its_cells_arms(glyph: str, arms: tuple[Weight, Weight, Weight, Weight]) -> None:
    assert UNICODE_JOINTS[arms_of(*arms)] == glyph


def test_solid_joints_are_all_different_characters() -> None:
    solid = [
        UNICODE_JOINTS[arms_of(*(weights))]
        for weights in [(a, b, c, d) for a in (N, L, H) for b in (N, L, H) for c in (N, L, H) for d in (N, L, H)]
    ]
    assert len(set(solid)) == 81


@st.composite
def wires(draw: st.DrawFn) -> tuple[list[tuple[int, int]], Weight]:
    """A wire that turns a few times and may leave the canvas."""
    x, y = draw(st.integers(-3, WIDTH + 3)), draw(st.integers(-3, HEIGHT + 3))
    points = [(x, y)]
    for turn in range(draw(st.integers(1, 5))):
        if turn % 2:
            y = draw(st.integers(-3, HEIGHT + 3))
        else:
            x = draw(st.integers(-3, WIDTH + 3))
        points.append((x, y))
    return points, draw(st.sampled_from([D, L, H]))


@settings(max_examples=150, deadline=None)
@given(st.lists(wires(), max_size=8), st.lists(st.tuples(*[st.integers(-2, 20)] * 4), max_size=3))
def test_neighbouring_cells_always_agree(
    drawn: list[tuple[list[tuple[int, int]], Weight]], boxes: list[tuple[int, int, int, int]]
) -> None:
    canvas = Canvas(WIDTH, HEIGHT)
    for x, y, width, height in boxes:
        canvas.box(x, y, width + 3, height + 3, ink("spine"))
    for points, weight in drawn:
        canvas.wire(points, weight, ink("traffic"))
    for y in range(HEIGHT):
        for x in range(WIDTH):
            cell = canvas.arms_at(x, y)
            if x + 1 < WIDTH:
                assert arm(cell, RIGHT) == arm(canvas.arms_at(x + 1, y), LEFT)
            if y + 1 < HEIGHT:
                assert arm(cell, DOWN) == arm(canvas.arms_at(x, y + 1), UP)
    for line in canvas.rows():
        assert sum(len(text) for text, _ in line) == WIDTH


def test_the_heavier_wire_wins_where_two_meet() -> None:
    canvas = Canvas(5, 3)
    canvas.wire([(0, 1), (4, 1)], L, ink("spine"))
    canvas.wire([(2, 0), (2, 2)], H, ink("traffic"))
    canvas.wire([(0, 1), (4, 1)], D, ink("spine"))
    assert canvas.lines() == ["  ╻", "╶─╂─╴", "  ╹"]


def test_a_wire_across_a_box_makes_a_visible_contact() -> None:
    canvas = Canvas(9, 3)
    canvas.box(2, 0, 5, 3, ink("spine"))
    canvas.wire([(0, 1), (8, 1)], H, ink("traffic"))
    assert canvas.lines() == ["  ┌───┐", "╺━┿━━━┿━╸", "  └───┘"]


def test_a_slanted_wire_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(0, 0\) to \(2, 3\)"):
        Canvas(5, 5).wire([(0, 0), (2, 3)], L, 0)


def test_ascii_drawings_are_ascii() -> None:
    assert all(glyph.isascii() and len(glyph) == 1 for glyph in ASCII_JOINTS)
    canvas = Canvas(20, 3, ascii=True)
    canvas.box(0, 0, 20, 3, ink("spine"))
    canvas.wire([(0, 1), (6, 1)], H, ink("traffic"))
    canvas.text(8, 1, "● a → b…", ink("text"))
    assert canvas.lines() == ["+------------------+", "+======" + " * a > b~   |", "+------------------+"]


@pytest.mark.parametrize("name", ["\x1b[31mred", "a\u202eb", "한글", "e\u0301", "tab\tbed", "[/]"])
def test_hostile_text_takes_one_cell_a_character(name: str) -> None:
    canvas = Canvas(40, 1)
    end = canvas.text(0, 0, name, ink("text"))
    canvas.text(end, 0, "|", ink("text"))
    line = canvas.lines()[0]
    assert line.index("|") == end
    assert line.isprintable()


def test_text_that_does_not_fit_ends_in_a_sign() -> None:
    canvas = Canvas(20, 1)
    canvas.text(0, 0, "product-service", ink("text"), room=8)
    assert canvas.lines() == ["product…"]


def test_ground_and_ink_are_kept_apart() -> None:
    canvas = Canvas(6, 1)
    canvas.text(1, 0, "pod", ink("lost"))
    canvas.ground(0, 0, 3, 1, SEL)
    assert canvas.rows() == [((" ", SEL), ("po", ink("lost") | SEL), ("d", ink("lost")), ("  ", 0))]
