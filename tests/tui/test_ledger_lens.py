"""The lens: live, caught, held, let go."""

from dataclasses import replace

from kflab.lab.snapshot import BIN_NS, Mark, Snapshot
from kflab.tui.lens import Lens, LensControl
from kflab.tui.sparks import Scales, level, step_125
from kflab.tui.text import S

from .fakes import CRASH_NS, crash_half, crash_two, steady


def at(snapshot: Snapshot, t_ns: int) -> Snapshot:
    return replace(snapshot, t_ns=t_ns)


class TestColumns:
    def test_live_the_last_column_is_the_newest_complete_bin(self) -> None:
        lens = LensControl().follow(steady(), 29, 6)
        assert lens.caught is None
        assert lens.bin_at(28) == 118
        assert lens.column(118) == 28

    def test_caught_the_change_has_its_own_column(self) -> None:
        lens = LensControl().follow(crash_half(), 29, 6)
        assert (lens.bin_at(5), lens.bin_at(6), lens.bin_at(7)) == (123, None, 124)
        assert lens.column(124) == 7

    def test_the_future_is_blank(self) -> None:
        lens = LensControl().follow(crash_half(), 29, 6)
        assert lens.spans() == ((0, 118, 6), (7, 124, 5))
        assert lens.now_column == 11

    def test_columns_and_bins_are_inverse(self) -> None:
        for lens in (Lens(29, 130, end=130), Lens(29, 130, caught=124, before=6)):
            for column in range(29):
                b = lens.bin_at(column)
                assert b is None or lens.column(b) == column


class TestCatching:
    def test_a_change_catches_the_lens(self) -> None:
        control = LensControl()
        assert control.follow(steady(), 29, 6).caught is None
        assert control.follow(crash_half(), 29, 6).caught == CRASH_NS // BIN_NS

    def test_it_lets_go_ten_seconds_after_all_know(self) -> None:
        control = LensControl()
        control.follow(crash_two(), 29, 6)
        assert control.follow(at(crash_two(), CRASH_NS + 10 * S), 29, 6).caught is not None
        assert control.follow(at(crash_two(), CRASH_NS + 11 * S), 29, 6).caught is None

    def test_it_is_not_held_for_the_50_s_that_a_dead_nodes_lease_takes(self) -> None:
        control, dead = LensControl(), crash_half()
        dead = replace(dead, knowledge=replace(dead.knowledge, kind="powerOff"))
        assert control.follow(at(dead, CRASH_NS + 5 * S), 29, 6).caught is not None
        assert control.follow(at(dead, CRASH_NS + 13 * S), 29, 6).caught is None

    def test_it_holds_while_somebody_does_not_know(self) -> None:
        control = LensControl()
        assert control.follow(at(crash_half(), CRASH_NS + 60 * S), 29, 6).caught is not None

    def test_z_lets_go_and_holds(self) -> None:
        control = LensControl()
        control.follow(crash_half(), 29, 6)
        control.toggle(crash_half())
        assert control.follow(crash_half(), 29, 6).caught is None
        control.toggle(crash_half())
        assert control.follow(at(crash_half(), CRASH_NS + 60 * S), 29, 6).caught == CRASH_NS // BIN_NS

    def test_a_change_within_the_window_does_not_move_it(self) -> None:
        control = LensControl()
        control.follow(crash_half(), 29, 6)
        second = replace(crash_two(), marks=(*crash_two().marks, Mark(CRASH_NS + 800_000_000, "crash", "another")))
        assert control.follow(second, 29, 6).caught == CRASH_NS // BIN_NS

    def test_a_later_change_is_caught_anew(self) -> None:
        control = LensControl()
        control.follow(crash_half(), 29, 6)
        later = CRASH_NS + 5 * S
        second = replace(at(crash_two(), later + S), marks=(*crash_two().marks, Mark(later, "crash", "another")))
        assert control.follow(second, 29, 6).caught == later // BIN_NS

    def test_brackets_walk_the_changes(self) -> None:
        control = LensControl()
        later = CRASH_NS + 5 * S
        both = replace(at(crash_two(), later + S), marks=(*crash_two().marks, Mark(later, "crash", "another")))
        control.follow(both, 29, 6)
        control.step(both, -1)
        assert control.follow(both, 29, 6).caught == CRASH_NS // BIN_NS
        control.step(both, 1)
        assert control.follow(both, 29, 6).caught == later // BIN_NS

    def test_over_ssh_the_live_lens_shifts_by_ten_cells(self) -> None:
        control = LensControl(over_ssh=True)
        ends = {control.follow(at(steady(), t * BIN_NS), 29, 6).end for t in range(111, 121)}
        assert ends == {120}


class TestScales:
    def test_steps_are_1_2_5(self) -> None:
        assert [step_125(x) for x in (0, 1, 1.5, 3, 6, 90, 110, 480)] == [1, 1, 2, 5, 10, 100, 200, 500]

    def test_up_at_once_down_after_thirty_seconds(self) -> None:
        scales = Scales()
        assert scales.of("a", 40, 0) == 50
        assert scales.of("a", 90, S) == 100
        assert scales.of("a", 10, 2 * S) == 100
        assert scales.of("a", 10, 30 * S) == 100
        assert scales.of("a", 10, 31 * S) == 10

    def test_anything_is_seen_and_nothing_touches_the_row_above(self) -> None:
        assert level(1, 5000) == 1
        assert level(5000, 5000) == 7
        assert level(0, 5000) == 0
