"""Addressed draws: the same question has the same answer, whoever asks, and durations have the right shape."""

from statistics import NormalDist

import numpy as np
import pytest

from kflab.draws import TABLE_SIZE, Draws, duration_table, philox


def test_philox_known_answers() -> None:
    # Random123's kat_vectors for philox4x64-10: all zero, and all ones.
    zero = philox((0, 0, 0, 0), (0, 0))
    assert zero[:2] == (0x16554D9ECA36314C, 0xDB20FE9D672D0FDC)
    ones = (1 << 64) - 1
    assert philox((ones,) * 4, (ones,) * 2)[0] == 0x87B092C3013FE90B


@pytest.mark.parametrize(("first", "count"), [(0, 40), (12345, 3), (2**40, 20)])
@pytest.mark.parametrize("attempt", [0, 2])
def test_rows_equal_blocks(first: int, count: int, attempt: int) -> None:
    draws = Draws(7)
    early = draws.block(3, first, count, attempt)
    draws.block(0, 0, 1000)  # from here on numpy's generator makes them
    block = draws.block(3, first, count, attempt)
    assert (early == block).all()
    assert (early.shape, early.dtype) == (block.shape, block.dtype)
    numbers = np.arange(first, first + count)
    assert (draws.rows(3, numbers, attempt) == block).all()
    assert (draws.rows(3, numbers[::-1][:5], attempt) == block[::-1][:5]).all()


def test_addresses_are_apart() -> None:
    draws = Draws(7)
    words = [draws.block(stream, 0, 50, attempt) for stream in range(3) for attempt in range(3)]
    assert len(np.unique(np.concatenate(words))) == 9 * 50 * 4
    assert not (Draws(8).block(0, 0, 50) == words[0]).any()


def test_control_draws() -> None:
    draws = Draws(7)
    assert draws.control_u64("a", "b") == Draws(7).control_u64("a", "b", 0)
    assert draws.control_u64("a", "b") != draws.control_u64("a", "b", 1)
    assert draws.control_u64("ab", "") != draws.control_u64("a", "b")
    drawn = {draws.control_between("x", "y", n, 5, 9) for n in range(100)}
    assert drawn == {5, 6, 7, 8}
    with pytest.raises(ValueError, match="between 3 and 3"):
        draws.control_between("x", "y", 0, 3, 3)


def test_looking_ahead_changes_no_draw() -> None:
    plain, draws = Draws(7), Draws(7)
    for first in (0, 3, 40):
        draws.look_ahead("pod-name", "default/web", first, 8)
        draws.look_ahead("pod-name", "default/web", first, 2000)
        draws.look_ahead("pod-name", "default/web", first, 8)
        for n in range(60):
            assert draws.control_u64("pod-name", "default/web", n) == plain.control_u64("pod-name", "default/web", n)
        assert draws.control_u64("pod-name", "default/cart", first) == plain.control_u64(
            "pod-name", "default/cart", first
        )
        assert draws.control_u64("probe", "default/web", first) == plain.control_u64("probe", "default/web", first)
    before = draws.block(1, 5, 3)
    draws.look_ahead("pod-name", "default/web", 0, 8)
    assert (draws.block(1, 5, 3) == before).all()


def test_exponential_table() -> None:
    table = duration_table("exponential", mean_ns=1_000_000)
    assert len(table) == TABLE_SIZE
    assert abs(float(table.mean()) - 1e6) < 5
    assert abs(int(table[TABLE_SIZE // 2]) - 693_147) < 60
    assert (np.diff(table) >= 0).all()
    with pytest.raises(ValueError, match="read-only"):
        table[0] = 1


def test_lognormal_table() -> None:
    table = duration_table("lognormal", p50_ns=2_300_000, p99_ns=11_000_000)
    assert abs(int(table[TABLE_SIZE // 2]) - 2_300_000) < 100
    assert abs(int(table[TABLE_SIZE * 99 // 100]) - 11_000_000) < 5000
    sigma = np.log(11 / 2.3) / 2.3263478740408408
    for place in (10, 1000, 50_000, 65_500):
        quantile = NormalDist().inv_cdf((place + 0.5) / TABLE_SIZE)
        assert int(table[place]) == pytest.approx(2.3e6 * np.exp(sigma * quantile), rel=1e-6, abs=1)


def test_tables_are_the_same_for_ever() -> None:
    tables = [duration_table("exponential", mean_ns=1 << 24), duration_table("lognormal", p50_ns=2300, p99_ns=11000)]
    assert [int((table * np.arange(1, TABLE_SIZE + 1)).sum()) for table in tables] == EXPECTED


EXPECTED = [54043650010851625, 8458263208825]
