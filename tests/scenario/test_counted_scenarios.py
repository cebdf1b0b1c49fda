"""Bundled scenarios with requests counted while nothing changes: the same numbers as when each is followed."""

from dataclasses import replace

import pytest

from kflab.lab.running import Lab
from kflab.lab.spec import AUTO, FLOWS
from kflab.scenario.format import Scenario, load
from kflab.scenario.plain import Verdict, _measure


def played(scenario: Scenario, mode: str) -> Lab:
    lab = Lab(replace(scenario.spec, traffic_mode=mode))
    lab.advance(scenario.duration_ns)
    return lab


@pytest.mark.parametrize(
    ("name", "least_s"),
    [
        ("rolling-update", 15),
        ("pod-hang", 30),
        ("overload-readiness", 60),
        ("alb-prestop-5", 60),
        ("grpc-scale-up", 60),
        ("hpa-slow-pull", 60),
        ("inner-call", 10),
        ("rolling-update-retries", 20),
        ("snat-ports", 0),
    ],
)
def test_the_story_is_that_of_flows(name: str, least_s: int) -> None:
    """Overload, probes, an autoscaler, calls, retries and source ports that run out depend on every single request."""
    scenario = load(name)
    flows, counts = played(scenario, FLOWS), played(scenario, AUTO)
    assert counts.counting.counted_ns() >= least_s * 1_000_000_000
    assert flows.totals == counts.totals
    assert flows.shares() == counts.shares()
    assert flows.facts == counts.facts
    for expectation in scenario.expectations:
        assert Verdict(expectation, _measure(expectation, counts)).held, expectation
