"""A scenario sets a component's delay or a timer of the data path, and its story is another one."""

import numpy as np
import pytest

from kflab.control.facts import What
from kflab.engine.types import Finished
from kflab.lab.running import Lab
from kflab.scenario.format import load_text

S = 1_000_000_000


def lab_of(text: str) -> Lab:
    return Lab(load_text(f"kflab: scenario/v1\n{text}\n", "<stdin>").spec)


@pytest.mark.parametrize(("delays", "waits_s"), [("{}", 15), ("{drain_retry_s: 13}", 13), ("{drain_retry_s: 7}", 14)])
def test_an_eviction_that_was_refused_comes_a_whole_number_of_retries_later(delays: str, waits_s: int) -> None:
    lab = lab_of(f"extends: drain-pdb\ncluster: {{delays: {delays}}}")
    lab.advance(60 * S)
    facts = lab.plane.facts
    refused = next(fact for fact in facts if fact.what is What.EVICTION_REFUSED)
    went = next(fact for fact in facts if fact.what is What.POD_EVICTED and fact.subject == refused.subject)
    assert went.t_ns - refused.t_ns == waits_s * S


@pytest.mark.parametrize(("timing", "timeout_s"), [("{}", 5), ("{dns_timeout_ns: 2000000000}", 2)])
def test_a_question_without_an_answer_is_asked_again_after_the_timeout(timing: str, timeout_s: int) -> None:
    lab = lab_of(f"extends: dns-lost-packet\ntiming: {timing}\nexpect: []")
    rows: list[Finished] = []
    lab.watch_rows(rows.append)
    lab.advance(30 * S)
    took = np.concatenate([part.latency_ns for part in rows if len(part)]) / S
    late = took[took > 1.1]
    assert len(late) > 10
    assert timeout_s < late.min() <= late.max() < timeout_s + 0.1
