"""Probes that wait in the application's queue: overload takes pods out, whatever the length of a slab."""

from dataclasses import replace
from pathlib import Path

from kflab.control.facts import What
from kflab.lab.running import Lab
from kflab.scenario.format import load

S = 1_000_000_000
SCENARIO = Path(__file__).resolve().parents[2] / "scenarios" / "overload-readiness.yaml"


def overloaded(slab_ns: int, to_s: int, queue: bool = True) -> Lab:
    spec = load(str(SCENARIO)).spec
    if not queue:
        tabs = tuple(
            replace(tab, text=tab.text.replace('probe-queue: "true"', 'probe-queue: "false"')) for tab in spec.tabs
        )
        spec = replace(spec, tabs=tabs)
    lab = Lab(spec, slab_ns=slab_ns)
    lab.advance(to_s * S)
    return lab


def test_the_story_does_not_depend_on_the_slab() -> None:
    short, long = (overloaded(slab, 60) for slab in (S // 20, S // 2))
    assert short.digest() == long.digest()
    assert any(fact.what is What.PROBE_FAILED for fact in long.facts)


def test_probes_that_wait_in_the_queue_take_pods_out_one_after_the_other() -> None:
    lab = overloaded(S // 2, 60)
    listed = [fact.text for fact in lab.facts if fact.what is What.ENDPOINTS_WRITTEN]
    assert any("lists 1 ready of 4" in text for text in listed)
    failed = [fact for fact in lab.facts if fact.what is What.PROBE_FAILED and fact.t_ns > 30 * S]
    assert {fact.text.rpartition(": ")[2] for fact in failed} == {"no answer within 1 s"}


def test_probes_answered_beside_the_queue_notice_nothing() -> None:
    lab = overloaded(S // 2, 60, queue=False)
    assert not [fact for fact in lab.facts if fact.what is What.PROBE_FAILED]
