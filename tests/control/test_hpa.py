"""HPA from the store's side: what it writes, how late it is, what it says when it cannot scale."""

from dataclasses import replace

import pytest
from control_clusters import PRODUCT, Load, S, cluster, container, deployment, pods, service

from kflab.control.facts import What
from kflab.kubectl.events import events_from
from kflab.manifest.objects import Key, Meta
from kflab.manifest.objects_autoscaler import CpuTarget, HorizontalPodAutoscaler, ScalingPolicy, ScalingRules

HPA = Key("HorizontalPodAutoscaler", "default", "product")


def hpa(**fields):
    base = HorizontalPodAutoscaler(Meta("product", "default"), target=PRODUCT, max_replicas=20)
    return replace(base, cpu=CpuTarget(utilization=50), **fields)


def lab(before, after=None, from_s=1 << 30, until_s=1 << 30, replicas=2, seed=7, box=None, scaler=None):
    box = box or container(requests={"cpu": "1"})
    plane = cluster(deployment(replicas, box=box), service(), scaler or hpa(), nodes=4, seed=seed)
    plane.use_signals(Load(plane.core, before, after, from_s * S, until_s * S))
    return plane


def scalings(facts):
    return [(fact.t_ns / S, fact.detail) for fact in facts if fact.what is What.AUTOSCALED]


@pytest.mark.parametrize("seed", range(8))
def test_a_step_is_seen_within_fifty_seconds_and_forgotten_after_three_hundred(seed):
    """Lifecycle H: load × 3 on two pods; without spec.behavior to 4, then to 6, a look apart."""
    plane = lab(1.0, 3.0, from_s=60, until_s=180, seed=seed)
    told = plane.run_until(900 * S)
    steps = scalings(told)
    ups = [(t, text) for t, text in steps if t < 180 + 50]
    assert ups[0][1] == "New size: 4; reason: cpu resource utilization (percentage of request) above target"
    assert 5 < ups[0][0] - 60 < 50  # up to 20 s + 15 s + 15 s: a reading, a fetch, a look
    sizes = [int(text.split()[2].rstrip(";")) for _, text in ups]
    assert sizes == sorted(sizes)  # a window that saw only part of the step asks for less at first
    assert sizes[-1] == 6
    assert 14.9 < ups[1][0] - ups[0][0] < 60
    downs = steps[len(ups) :]
    assert all(text.endswith("; reason: All metrics below target") for _, text in downs)
    assert downs[0][0] - 180 >= 300
    order = [fact.what for fact in told if fact.t_ns >= ups[0][0] * S]
    assert order.index(What.AUTOSCALED) < order.index(What.POD_CREATED) < order.index(What.CONTAINER_STARTED)
    assert plane.store.get(PRODUCT).replicas == 2


def test_at_rest_nothing_is_written_and_without_an_hpa_nothing_is_due():
    plane = lab(1.0)
    plane.run_until(120 * S)
    revision = plane.store.revision
    plane.run_until(1000 * S)
    assert plane.store.revision == revision
    status = plane.store.get(HPA).status
    assert (status.current_replicas, status.utilization, status.average_milli) == (2, 50, 500)
    assert {(c.type, c.status, c.reason) for c in status.conditions} == {
        ("AbleToScale", "True", "ReadyForNewScale"),
        ("ScalingActive", "True", "ValidMetricFound"),
        ("ScalingLimited", "False", "DesiredWithinRange"),
    }
    without = cluster(deployment(2), service())
    assert without.next_ns() is None


def test_a_container_without_a_request_is_said_once_as_an_event():
    plane = lab(1.0, box=container())
    told = plane.run_until(200 * S)
    failed = [fact for fact in told if fact.what is What.AUTOSCALER_FAILED]
    assert len(failed) == 1
    event = events_from(failed, plane.store)[0]
    assert (event.type, event.reason) == ("Warning", "FailedGetResourceMetric")
    assert "missing request for cpu in container api of Pod product-" in event.message
    active = next(c for c in plane.store.get(HPA).status.conditions if c.type == "ScalingActive")
    assert active.status == "False"


def test_a_target_that_is_not_there_is_a_condition_and_bounds_need_no_metric():
    gone = lab(1.0, scaler=hpa(min_replicas=3), replicas=1)
    told = gone.run_until(60 * S)
    assert scalings(told)[0][1] == "New size: 3; reason: Current number of replicas below Spec.MinReplicas"
    lost = lab(1.0, scaler=replace(hpa(), target=Key("Deployment", "default", "nothing")))
    lost.run_until(20 * S)
    condition = lost.store.get(HPA).status.conditions[0]
    assert (condition.type, condition.status, condition.reason) == ("AbleToScale", "False", "FailedGetScale")
    assert 'deployments.apps "nothing" not found' in condition.message


def test_a_stopped_controller_manager_scales_nothing_and_a_restarted_one_forgets_the_window():
    plane = lab(1.0, 3.0, from_s=30, until_s=200)
    plane.run_until(28 * S)
    plane.stop("controller-manager")
    assert scalings(plane.run_until(120 * S)) == []
    plane.start("controller-manager")
    assert "New size: 4" in scalings(plane.run_until(160 * S))[0][1]


def test_a_behavior_that_disables_scaling_down_keeps_the_pods():
    never = ScalingRules((ScalingPolicy("Percent", 100, 15),), 0, "Disabled")
    up = ScalingRules((ScalingPolicy("Pods", 4, 15), ScalingPolicy("Percent", 100, 15)), 0)
    plane = lab(3.0, 0.5, from_s=100, scaler=hpa(up=up, down=never), replicas=6)
    plane.run_until(300 * S)
    assert plane.store.get(PRODUCT).replicas == 6
    limited = next(c for c in plane.store.get(HPA).status.conditions if c.type == "ScalingLimited")
    assert (limited.status, limited.reason) == ("True", "ScaleDownLimit")


def test_an_hpa_that_is_applied_later_scales_and_one_that_is_deleted_does_not():
    plane = cluster(deployment(2, box=container(requests={"cpu": "1"})), service())
    plane.use_signals(Load(plane.core, 4.0))
    plane.run_until(100 * S)
    plane.apply([hpa()])
    steps = scalings(plane.run_until(200 * S))
    assert 15 <= steps[0][0] - 100 < 66
    plane.delete(HPA)
    plane.run_until(400 * S)
    assert plane.next_ns() is None
    assert len(pods(plane)) == plane.store.get(PRODUCT).replicas


def test_an_autoscaler_with_a_small_tolerance_of_its_own_follows_a_small_rise():
    """The two pods use 54 % of a target of 50 %: within the controller's ten per cent, not within two."""
    still = lab(1.08)
    still.run_until(200 * S)
    assert still.store.get(PRODUCT).replicas == 2
    up = ScalingRules((ScalingPolicy("Pods", 4, 15),), 0, tolerance_milli=20)
    own = lab(1.08, scaler=hpa(up=up, down=ScalingRules((ScalingPolicy("Percent", 100, 15),))))
    own.run_until(200 * S)
    assert own.store.get(PRODUCT).replicas == 3
    wide = lab(1.08, scaler=hpa(up=replace(up, tolerance_milli=None), down=own.store.get(HPA).down))
    wide.run_until(200 * S)
    assert wide.store.get(PRODUCT).replicas == 2
