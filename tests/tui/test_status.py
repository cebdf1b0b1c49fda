"""Status, story and key lines; words and figures."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
from textual.geometry import Size

from kflab.lab.snapshot import Span
from kflab.tui.facts_view import fact_rows
from kflab.tui.glyphs import ASCII, UNICODE, choose, to_ascii
from kflab.tui.hints import HINTS, Hints
from kflab.tui.keys import key_offers
from kflab.tui.status_line import StoryLine, sentence_row, short_names, status_row
from kflab.tui.text import clock, instant, ms, number, safe, share, shorten, speed

from .fakes import crash_half, steady

HOUR = 3600 * 1_000_000_000


class TestStatusLine:
    @pytest.mark.parametrize("width", [60, 80, 100, 120, 160, 200])
    def test_everything_stands_apart_and_fits(self, width: int) -> None:
        text = status_row(crash_half(), width, UNICODE).text
        assert len(text) < width
        for words in ("00:12.90", "1,004", "96.4 % ok"):
            assert words in text

    def test_a_figure_that_changes_moves_nothing_else(self) -> None:
        a = status_row(steady(), 120, UNICODE).text
        b = status_row(replace(steady(), rate_rps=87.0, ok_share=0.081), 120, UNICODE).text
        assert a.index("req/s") == b.index("req/s")
        assert a.index("p50") == b.index("p50")
        assert a.index(" ok ") == b.index(" ok ")

    def test_paused_is_a_word(self) -> None:
        assert "‖ 00:11.90" in status_row(replace(steady(), paused=True), 120, UNICODE).text
        assert "paused" in status_row(replace(steady(), paused=True), 120, UNICODE).text

    def test_a_lab_that_cannot_keep_up_says_so(self) -> None:
        slow = replace(steady(), speed_asked=10.0, speed_reached=0.6)
        assert "×0.6 of ×10" in status_row(slow, 120, UNICODE).text

    def test_nearly_all_is_not_all(self) -> None:
        assert "99.9 % ok" in status_row(replace(steady(), ok_share=0.99996), 120, UNICODE).text

    @pytest.mark.parametrize("width", [80, 120, 200])
    def test_a_short_median_beside_seconds_keeps_its_unit(self, width: int) -> None:
        text = status_row(replace(steady(), p50_ns=2_500_000, p99_ns=5 * 10**9), width, UNICODE).text
        assert "p50 2.5ms p99 5.00 s" in text
        assert len(text.rstrip()) <= width
        both = status_row(replace(steady(), p50_ns=3 * 10**9, p99_ns=5 * 10**9), width, UNICODE).text
        assert "p50 3.00 p99 5.00 s" in both

    def test_ascii(self) -> None:
        assert status_row(replace(steady(), paused=True), 120, ASCII).text.isascii()


class TestStory:
    def test_names_in_sentences_are_shortened_in_the_middle(self) -> None:
        text = "✖ product-7c9f8d6b5-m4dd8 crashed 0.50 s ago."
        assert short_names(text, 16) == "✖ product-…-m4dd8 crashed 0.50 s ago."

    def test_a_sentence_too_long_ends_with_a_sign(self) -> None:
        text = sentence_row((Span("a" * 30), Span("b" * 30)), 40, UNICODE).text
        assert text.endswith("…")
        assert len(text) < 40

    def test_a_hint_goes_when_done_and_never_returns(self) -> None:
        hints = Hints()
        first = hints.sentence(steady())
        hints.did(HINTS[0][0])
        assert hints.sentence(steady()) not in ((), first)
        assert hints.sentence(crash_half()) == crash_half().story

    def test_outside_text_cannot_move_the_cursor(self) -> None:
        row = sentence_row((Span("x\x1b[2Jy \u202egnp"),), 80, UNICODE)
        assert row.text.strip() == "x\\e[2Jy \\u202egnp"


class TestFacts:
    def test_the_worst_comes_first(self) -> None:
        rows = [row.text for row in fact_rows(crash_half(), 40, 7, UNICODE)]
        assert "failed 36/s" in rows[0]
        assert "5 of 5 not in step" in rows[1]
        assert "crashed" in rows[2]
        assert len(rows) == 7
        assert all(len(row) <= 40 for row in rows)


class TestWords:
    def test_numbers(self) -> None:
        assert [number(x) for x in (0, 0.5, 1, 12.3, 1004, 99_999, 104_300, 1_280_000)] == [
            "0",
            "0.5",
            "1",
            "12",
            "1,004",
            "99,999",
            "104k",
            "1.28M",
        ]

    def test_shares_never_round_to_none_or_all(self) -> None:
        assert [share(x) for x in (0.0, 0.00001, 0.334, 0.99999, 1.0)] == ["0 %", "0.1 %", "33.4 %", "99.9 %", "100 %"]

    def test_clock(self) -> None:
        assert clock(12_900_000_000) == "00:12.90"
        assert clock(HOUR + 62_000_000_000) == "1:01:02"

    def test_instants_and_milliseconds(self) -> None:
        assert instant(12_400_000_000) == "12.40"
        assert instant(72_400_000_000) == "1:12.40"
        assert [ms(x) for x in (None, 3_100_000, 14_200_000)] == ["–", "3.1", "14"]
        assert [speed(x) for x in (0.01, 0.6, 1, 100)] == ["×0.01", "×0.6", "×1", "×100"]

    def test_names_keep_their_last_part(self) -> None:
        assert shorten("product-7c9f8d6b5-m4dd8", 16) == "product-…-m4dd8"
        assert shorten("ingress-nginx-controller-4kq2x", 16) == "ingress-…-4kq2x"
        for width in range(1, 40):
            assert len(shorten("ingress-nginx-controller-4kq2x", width)) <= width

    @pytest.mark.parametrize("name", ["[/]", "[@click=x]", "/[a-z]+(/|$)(.*)"])
    def test_markup_is_data(self, name: str) -> None:
        assert safe(name) == name

    def test_control_and_bidi_characters_are_shown(self) -> None:
        assert safe("a\x1b[31m\u202e\u2066\n") == "a\\e[31m\\u202e\\u2066\\n"

    def test_every_glyph_has_an_ascii_twin(self) -> None:
        for name in ASCII.__dataclass_fields__:
            twin = getattr(ASCII, name)
            assert twin.isascii()
            if len(getattr(UNICODE, name)) == 1:
                assert len(twin) == 1 or name == "left_right"
        assert to_ascii("a → b · c ● d") == "a > b - c * d"

    def test_the_locale_decides(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("kflab.tui.glyphs._locale_encoding", lambda: "ANSI_X3.4-1968")
        monkeypatch.delenv("KFLAB_GLYPHS", raising=False)
        assert choose() is ASCII
        assert choose("unicode") is UNICODE

    @pytest.mark.parametrize(
        ("environment", "glyphs"),
        [
            ({"LANG": "C"}, "ASCII"),
            ({"LC_ALL": "POSIX", "LANG": "C.UTF-8"}, "ASCII"),
            ({"LANG": "de_DE.ISO-8859-1@euro"}, "ASCII"),
            ({"LANG": "C.UTF-8"}, "UNICODE"),
            ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, "UNICODE"),
            ({}, "UNICODE"),
        ],
    )
    def test_a_c_locale_is_ascii_though_python_leaves_it(self, environment: dict[str, str], glyphs: str) -> None:
        program = "from kflab.tui import glyphs as g; print('ASCII' if g.choose() is g.ASCII else 'UNICODE')"
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG", "PYTHONUTF8"))}
        kept.pop("KFLAB_GLYPHS", None)
        done = subprocess.run(
            [sys.executable, "-c", program], env={**kept, **environment}, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == glyphs


class TestKeysAfterAChange:
    def test_what_came_of_it_and_the_same_again_are_offered_at_every_size(self) -> None:
        for size in ("tabs", "split", "wide"):
            before, after = key_offers(size, False, "", False), key_offers(size, False, "", False, changed=True)
            assert {"g", "a"} <= {key for key, _, _ in after} - {key for key, _, _ in before}
            assert ("space", "run", "pause") in key_offers(size, False, "", True, changed=True)
        line = "  ".join(f"{key} {words}" for key, words, _ in key_offers("tabs", False, "", False, changed=True))
        assert len(line) <= 78, "all of it at 80 columns"

    def test_the_gantt_says_how_a_lost_request_is_opened(self) -> None:
        assert key_offers("tabs", False, "gantt", False, changed=True)[1][1] == "unfold, open a lost request"

    def test_the_hints_about_a_change_wait_for_one(self) -> None:
        hints = Hints()
        hints.did("kill")
        assert "tab" in [span.text for span in hints.sentence(steady())]
        quiet = replace(steady(), marks=crash_half().marks)
        assert [span.text for span in hints.sentence(quiet)][1] == "g"
        hints.did("gantt")
        assert [span.text for span in hints.sentence(quiet)][1] == "a"


def test_a_narration_is_seen_beside_the_tabs() -> None:
    class At80(StoryLine):
        size = Size(80, 1)
        glyphs = UNICODE

    line = At80(lambda tab: None)
    line.spans, line.tabs = (Span("node-3 loses power.", "text"),), True
    assert line.build().text.rstrip().endswith("node-3 loses power")
