"""The same story at any slab length, any pace, on any CPU, in bulk or row by row."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_path import MakeEngine, make

from kflab.engine import express
from kflab.engine.bins import Count
from kflab.engine.engine import Engine
from kflab.engine.types import Behaviour, Fan

MS = 1_000_000
GOLDEN = {
    (False, False): "9252bea5b202e7c8a5084800eb4f5cd1",
    (True, False): "380c4f3b0efa7e17f9751a754c5cbefd",
    (False, True): "d4d55d003890734fceff97090d2c63ff",
    (True, True): "7a25c899144a7b6b3154c488c2dd1915",
}
"""(round robin, keep-alive) → digest of `story`. A change here is a change of what users see on replay."""


def story(engine: Engine, in_turn: bool, step_ns: int) -> Engine:
    """Pods and an ingress server die and return; a chooser learns."""
    engine.behave(2, Behaviour.REFUSES, 1003 * MS + 7)
    if not in_turn:
        engine.learn(2, 1500 * MS + 3, Fan((3, 4), (1, 1)))
    engine.behave(3, Behaviour.SILENT, 1700 * MS + 7)
    engine.behave(3, Behaviour.LISTENS, 1900 * MS + 7)
    engine.behave(0, Behaviour.REFUSES, 1800 * MS + 7)
    engine.behave(0, Behaviour.LISTENS, 1850 * MS + 7)
    for t_ns in [*range(step_ns, 3000 * MS, step_ns), 3000 * MS]:
        engine.advance(t_ns)
    return engine


@pytest.mark.parametrize("in_turn", [False, True])
@pytest.mark.parametrize("keepalive", [False, True])
@pytest.mark.parametrize(("slab_ms", "step_ms"), [(1, 3000), (37, 100), (100, 100), (1000, 3000), (100, 7)])
def test_golden_digest(in_turn: bool, keepalive: bool, slab_ms: int, step_ms: int) -> None:
    engine = make(slab_ns=slab_ms * MS, in_turn=in_turn, keepalive=keepalive)
    story(engine, in_turn, step_ms * MS)
    assert engine.digest() == GOLDEN[in_turn, keepalive]


def test_same_digest_without_cpu_features() -> None:
    code = (
        "from test_slabs import MS, story; from small_path import make;print(story(make(), False, 100 * MS).digest())"
    )
    here = Path(__file__).resolve().parent
    every = np._core._multiarray_umath.__cpu_dispatch__  # the names that the variable takes
    environment = os.environ | {"NPY_DISABLE_CPU_FEATURES": " ".join(every), "PYTHONHASHSEED": "77"}
    ran = subprocess.run([sys.executable, "-c", code], cwd=here, env=environment, capture_output=True, text=True)
    assert ran.stdout.strip() == GOLDEN[False, False], ran.stderr


def test_bulk_path_equals_steps(make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 40,000 requests/s most rows go in bulk; a crash, a return and a new list happen meanwhile."""

    def run() -> Engine:
        engine = make_engine(rate_rps=40_000.0, workers=200)
        engine.behave(4, Behaviour.REFUSES, 240 * MS + 1)
        engine.learn(3, 330 * MS, Fan((2, 3), (2, 1)))
        engine.behave(1, Behaviour.SILENT, 410 * MS + 1)
        engine.behave(4, Behaviour.LISTENS, 450 * MS + 1)
        engine.set_rate(0, 90_000.0, 470 * MS)
        engine.advance(700 * MS)
        return engine

    bulk = run()
    monkeypatch.setattr(express, "MIN_ROWS", 1 << 40)
    plain = run()
    assert bulk.digest() == plain.digest()
    assert bulk.in_flight == plain.in_flight
    for chooser in range(5):
        assert bulk.connections(chooser) == plain.connections(chooser)
    for name in Count:
        assert (bulk.bins.series(name, 0, 8) == plain.bins.series(name, 0, 8)).all()
        assert (bulk.bins.totals(name) == plain.bins.totals(name)).all()
    assert bulk.window(500 * MS, 700 * MS) == plain.window(500 * MS, 700 * MS)
    mine, theirs = bulk.take_finished(), plain.take_finished()
    assert (mine.number == theirs.number).all()
    assert (mine.queue_ns == theirs.queue_ns).all()


def test_checkpoint_runs_the_same_future_again(make_engine: MakeEngine) -> None:
    engine = make_engine(rate_rps=20_000.0)
    engine.advance(350 * MS)
    kept = engine.checkpoint()
    engine.advance(600 * MS)
    first = engine.digest()
    engine.restore(kept)
    engine.advance(480 * MS)
    engine.advance(600 * MS)
    assert engine.digest() == first
