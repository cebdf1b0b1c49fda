"""NGINX's scores of its peers: what ewma.lua computes, in integers."""

from math import exp

import pytest

from kflab.engine.ewma import Scores, pair, unpacked, weight

MS = 1_000_000
S = 1_000 * MS
UP, OTHER, POD = 0, 1, 7
A, B, C = 10, 11, 12


def with_scores(now_s: int = 100) -> Scores:
    """Three peers that answered in 0.2 s, 0.3 s and 1.2 s, heard of 1 s, 5 s and 20 s ago."""
    scores = Scores()
    scores.use(UP, POD, (A, B, C))
    for server, took_ms, ago_s in ((C, 1200, 20), (B, 300, 5), (A, 200, 1)):
        scores.heard(UP, server, took_ms, (now_s - ago_s) * S)
    return scores


@pytest.mark.parametrize("elapsed_ms", [0, 1, 7, 1023, 1024, 10_000, 65_537, 400_000])
def test_weights_are_those_of_the_exponential_function(elapsed_ms: int) -> None:
    assert weight(elapsed_ms) / 2**60 == pytest.approx(exp(-elapsed_ms / 10_000), rel=1e-12, abs=1e-17)


def test_a_score_is_forgotten_after_minutes_and_clocks_do_not_go_back() -> None:
    assert weight(500_000) == 0
    assert weight(-3) == weight(0)


def test_a_peer_with_a_higher_score_is_taken_where_nobody_was_heard_of_it_for_long() -> None:
    # 0.2 exp(-0.1) = 0.181, 0.3 exp(-0.5) = 0.182, 1.2 exp(-2) = 0.162: the case of ewma_test.lua.
    scores = with_scores()
    draws = {pair(n << 29, 3): n << 29 for n in range(8)}
    first, second = draws[0, 2], draws[2, 0]
    for u32 in (first, second):
        place, word = scores.take(UP, (A, B, C), (), u32, 100 * S)
        assert place == 2
        assert unpacked(word) == pytest.approx((162_402, 180_967), abs=1)


def test_every_ordered_pair_is_drawn_as_often() -> None:
    drawn = [pair((2 * n + 1) << 25, 4) for n in range(64)]
    assert len(set(drawn)) == 12
    assert all(first != second for first, second in drawn)
    assert {drawn.count(one) for one in set(drawn)} <= {5, 6}


def test_an_answer_moves_a_score_by_the_time_since_the_last_one() -> None:
    scores = with_scores()
    scores.heard(UP, B, 120, 100 * S)
    part = exp(-0.5)
    _, word = scores.take(UP, (B,), (), 0, 100 * S)
    assert unpacked(word) == (pytest.approx((300 * part + 120 * (1 - part)) * 1000, abs=1), None)


def test_a_second_answer_in_one_millisecond_changes_nothing() -> None:
    scores = with_scores()
    before = scores.of[POD][A]
    scores.heard(UP, A, 9_000, 99 * S + MS // 2)
    assert scores.of[POD][A] == before


def test_those_that_were_tried_are_left_out_until_all_were() -> None:
    scores = with_scores()
    assert scores.take(UP, (A, B, C), {A, C}, 1 << 31, 100 * S)[0] == 1
    assert scores.take(UP, (A, B, C), {C}, 0, 100 * S)[0] == 0
    assert scores.take(UP, (A, B, C), {A, B, C}, pair_of(0, 2), 100 * S)[0] == 2


def pair_of(first: int, second: int) -> int:
    return next(n << 24 for n in range(256) if pair(n << 24, 3) == (first, second))


def test_new_peers_start_at_the_mean_and_what_is_gone_is_forgotten_by_all_backends_of_the_pod() -> None:
    scores = with_scores()
    scores.use(OTHER, POD, (A, B, C))
    scores.learn(UP, 110 * S, (A, B, 13))
    scores.take(OTHER, (A, B, C), (), 0, 111 * S)
    known = scores.of[POD]
    assert C not in known
    assert known[13] == ((known[A][0] + known[B][0]) // 2, 110_000)
    scores.learn(UP, 120 * S, ())
    scores.learn(UP, 130 * S, (A, 14))
    scores.take(UP, (A, 14), (), 0, 131 * S)
    assert 14 not in known, "a backend without endpoints is made anew, without a slow start"
    assert B in known
