"""Counts mode agrees with flows and does not care how many requests there are."""

from fractions import Fraction
from statistics import fmean, pstdev

import pytest
from small_path import MakeEngine

from kflab.draws import Draws
from kflab.engine.bins import Count
from kflab.engine.counts import (
    Words,
    arrivals_between,
    binomial,
    chi_square_limit,
    count,
    in_turn,
    multinomial,
    poisson,
)
from kflab.engine.types import Behaviour, Fan, Pick
from kflab.errors import KflabError

S = 1_000_000_000
FANS = {0: Fan((0, 1), (1, 1)), 1: Fan((0, 1), (1, 1)), **{c: Fan((2, 3, 4), (1, 1, 1)) for c in (2, 3, 4)}}


@pytest.mark.parametrize(
    ("n", "p"), [(40, Fraction(1, 100)), (500, Fraction(1, 3)), (10**6, Fraction(9, 10)), (10**12, Fraction(1, 7))]
)
def test_binomial_moments(n: int, p: Fraction) -> None:
    values = [binomial(Words(Draws(5), "test", f"{n} {p} {i}"), n, p) for i in range(400)]
    mean, deviation = float(n * p), float(n * p * (1 - p)) ** 0.5
    assert abs(fmean(values) - mean) < 4 * deviation / 20
    assert 0.85 < pstdev(values) / deviation < 1.15


@pytest.mark.parametrize("mean", [Fraction(2), Fraction(50), Fraction(10**9)])
def test_poisson_moments(mean: Fraction) -> None:
    values = [poisson(Words(Draws(5), "test", f"{mean} {i}"), mean) for i in range(400)]
    assert abs(fmean(values) - float(mean)) < 4 * float(mean) ** 0.5 / 20
    assert 0.85 < pstdev(values) / float(mean) ** 0.5 < 1.15


def test_multinomial_is_whole() -> None:
    parts = multinomial(Words(Draws(5), "test", "x"), 1000, (1, 0, 2, 5))
    assert sum(parts) == 1000
    assert parts[1] == 0


def test_round_robin_splits_exactly() -> None:
    assert in_turn(10, (1, 1, 1), 2) == (3, 3, 4)
    assert in_turn(9, (1, 1, 1), 1) == (3, 3, 3)
    assert in_turn(7, (2, 1), 0) == (5, 2)


@pytest.mark.parametrize("kind_of_day", ["healthy", "one pod refuses"])
def test_counts_agree_with_flows(make_engine: MakeEngine, kind_of_day: str) -> None:
    engine = make_engine(rate_rps=20_000.0, workers=200, seed=3)
    behaviour = [Behaviour.LISTENS] * 5
    if kind_of_day != "healthy":
        behaviour[3] = Behaviour.REFUSES
        engine.behave(3, Behaviour.REFUSES, 0)
    engine.set_rate(1, 0.0, 0)
    engine.advance(2 * S)
    flows_ok, flows_bad = engine.bins.totals(Count.SERVER_OK), engine.bins.totals(Count.SERVER_BAD)
    sent = int(engine.bins.totals(Count.STREAM_SENT)[0])
    counted = count(Draws(4), engine.streams[0], sent, FANS, behaviour, {0: Pick.FLOW_HASH})
    assert sum(counted.status.values()) == sent
    # Two independent samples of one distribution: (a - b)² / (a + b) per cell, totals nearly equal.
    cells = [(int(flows_ok[s]), counted.server_ok.get(s, 0)) for s in (2, 3, 4)]
    cells += [(int(flows_bad[s]), counted.server_bad.get(s, 0)) for s in (2, 3, 4)]
    cells.append((int(engine.bins.totals(Count.STREAM_FAILED)[0]), sent - counted.status[200]))
    cells = [cell for cell in cells if sum(cell)]
    statistic = sum((a - b) ** 2 / (a + b) for a, b in cells)
    assert statistic < chi_square_limit(len(cells))


def test_a_billion_costs_what_a_million_does(make_engine: MakeEngine) -> None:
    """Counted in draws, not in seconds."""
    used = []

    class Counting(Draws):
        def control_u64(self, purpose: str, obj: str, n: int = 0) -> int:
            used[-1] += 1
            return super().control_u64(purpose, obj, n)

    stream = make_engine().streams[0]
    for n in (10**6, 10**9):
        used.append(0)
        result = count(Counting(1), stream, n, FANS, [Behaviour.LISTENS] * 5, {})
        assert sum(result.server_ok.values()) == n
    assert used[1] < 2 * used[0] < 400


def test_arrivals_and_refusal(make_engine: MakeEngine) -> None:
    stream = make_engine(rate_rps=1000.0).streams[0]
    assert 900 < arrivals_between(Draws(1), stream, 0, S) < 1100
    kept = make_engine(keepalive=True).streams[0]
    with pytest.raises(KflabError, match="keeps connections"):
        count(Draws(1), kept, 5, FANS, [Behaviour.LISTENS] * 5, {})
