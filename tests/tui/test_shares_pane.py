"""Shares: the dot, the band and the word."""

from dataclasses import replace

from kflab.tui.shares_pane import SharesPane, p_words
from tests.tui import fakes
from tests.tui.demo import PaneApp, lines_of, without_lab


async def test_each_pod_has_its_dot_on_the_band_and_the_word_has_p_and_n() -> None:
    app = PaneApp(fakes.FakeLab("crash_half"), without_lab(SharesPane))
    async with app.run_test(size=(66, 10)) as pilot:
        await pilot.pause()
        lines = lines_of(app)
        first = next(line for line in lines if "7xk2p" in line)
        assert first.index("━") < first.rindex("●") < first.rindex("━")
        assert first.endswith("33.8 %")
        assert next(line for line in lines if "m4dd8" in line).count("✖") == 2
        verdict = next(line for line in lines if "luck, not structure" in line)
        assert "p = 0.91" in verdict
        assert verdict.endswith("n = 742 since 12.40")


async def test_a_share_outside_its_band_is_marked_and_structural_says_why() -> None:
    lab = fakes.FakeLab("crash_half")
    group = lab.current.shares[0]
    rows = (replace(group.rows[0], connections=700), *group.rows[1:])
    odd = replace(group, rows=rows, word="structural", why="the rules give unequal shares", p_value=1e-9)
    lab.current = replace(lab.current, shares=(odd,))
    app = PaneApp(lab, without_lab(SharesPane))
    async with app.run_test(size=(80, 10)) as pilot:
        await pilot.pause()
        assert any("▴ " in line and "7xk2p" in line for line in lines_of(app))
        words = " ".join(" ".join(lines_of(app)).split())
        assert "structural: the rules give unequal shares" in words
        assert "p < 0.0001" in words
        assert app.pane.note == "1 structural"


async def test_nothing_chosen_yet_says_so() -> None:
    lab = fakes.FakeLab()
    app = PaneApp(lab, without_lab(SharesPane))
    async with app.run_test(size=(60, 8)) as pilot:
        app.pane.show(replace(lab.current, shares=()))
        await pilot.pause()
        assert any("nothing was chosen yet" in line for line in lines_of(app))


def test_p_values_in_words() -> None:
    assert [p_words(p) for p in (0.91, 0.04, 0.0031, 1e-9)] == ["p = 0.91", "p = 0.04", "p = 0.0031", "p < 0.0001"]
