"""CPU of pods as the lab counts it from the requests that they serve."""

from pathlib import Path

import pytest
from small_labs import S

from kflab.lab.commands import Act, Kill
from kflab.lab.running import Lab
from kflab.manifest.objects_pods import Pod
from kflab.scenario.format import load

SCENARIO = Path(__file__).parents[2] / "scenarios" / "hpa-step.yaml"


def shop(slab_ns=500_000_000):
    return Lab(load(str(SCENARIO)).spec, slab_ns=slab_ns)


def used(lab):
    signals = lab.plane.core.signals
    pods = [p.key for p in lab.store.of_kind("Pod") if isinstance(p, Pod) and p.meta.labels.get("app") == "shop"]
    return {key: signals.cpu_used(key, lab.t_ns) for key in pods}


def test_the_counter_is_the_service_time_of_what_was_served():
    lab = shop()
    rows = []
    lab.watch_rows(lambda found: rows.append(int(found.service_ns.sum())))
    used(lab)
    lab.advance(19 * S)
    total = sum(used(lab).values())
    served = sum(rows)
    assert served <= total + 10**9  # what had just been answered was still on its way to the caller
    assert total == pytest.approx(served, rel=0.03)


def test_the_counter_does_not_depend_on_slabs():
    counts = []
    for slab_ns in (500_000_000, 70_000_000):
        lab = shop(slab_ns)
        used(lab)
        lab.advance(17 * S + 123_456_789)
        counts.append(used(lab))
    assert counts[0] == counts[1]


def test_a_pod_that_hangs_uses_nothing_and_one_that_dies_keeps_what_it_used():
    lab = shop()
    used(lab)
    lab.advance(5 * S)
    pod = next(iter(used(lab)))
    assert lab.do(Act("hang", pod, {})).ok
    lab.advance(6 * S)
    before = used(lab)[pod]
    lab.advance(9 * S)
    assert used(lab)[pod] == before
    assert lab.do(Kill(pod, "crash")).ok
    lab.advance(10 * S)
    assert used(lab)[pod] >= before


def test_the_scenario_reacts_in_time_with_every_slab_length():
    sizes = []
    for slab_ns in (500_000_000, 130_000_000):
        lab = shop(slab_ns)
        lab.advance(80 * S)
        facts = [(f.t_ns, f.text) for f in lab.facts if f.what == "autoscaled"]
        sizes.append(facts)
    assert sizes[0] == sizes[1]
    assert 12 < sizes[0][0][0] / S - 20 < 45
