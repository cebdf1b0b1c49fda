"""The HPA's arithmetic, against the examples of the documentation and of replica_calculator_test.go's kind."""

import pytest
from control_clusters import S

from kflab.control.hpa_calculator import (
    NoMetricsError,
    PodUsage,
    Rules,
    group,
    limited,
    limited_by_rules,
    stabilised,
    wanted,
)
from kflab.manifest.objects import Meta
from kflab.manifest.objects_autoscaler import CpuTarget, ScalingPolicy, ScalingRules
from kflab.manifest.objects_pods import Pod, PodStatus

NOW = 10_000 * S
OLD = PodStatus(phase="Running", ready=True, ready_since_ns=5 * S, start_ns=0)
WINDOW = 15 * S


def pods(*statuses):
    return [Pod(Meta(f"p{i}", "default"), status=status) for i, status in enumerate(statuses)]


def replicas(current, target, levels, statuses=None, request=1000):
    """`levels`: milli-CPU per pod, None for a pod without metrics."""
    some = pods(*(statuses or [OLD] * len(levels)))
    usage = {f"p{i}": PodUsage(NOW, WINDOW, level) for i, level in enumerate(levels) if level is not None}
    groups = group(some, usage, NOW, Rules())
    found = wanted(current, target, groups, usage, {pod.meta.name: request for pod in some}, Rules())
    return found.replicas


PENDING = PodStatus(phase="Pending")
UNREADY = PodStatus(phase="Running", ready=False, ready_since_ns=NOW - 9 * S, start_ns=NOW - 10 * S)


@pytest.mark.parametrize(
    ("current", "target", "levels", "expected"),
    [
        (3, CpuTarget(utilization=30), [300, 500, 700], 5),
        (5, CpuTarget(utilization=50), [100, 300, 500, 250, 250], 3),
        # docs: a metric of 200m against 100m doubles the replicas, 50m halves them, 105m is left alone.
        (4, CpuTarget(average_milli=100), [200] * 4, 8),
        (4, CpuTarget(average_milli=100), [50] * 4, 2),
        (4, CpuTarget(average_milli=100), [105] * 4, 4),
        # 33.3 per cent are cut to 33 before they are divided: 33/30 is within the tolerance of 10 per cent.
        (3, CpuTarget(utilization=30), [333, 333, 333], 3),
        (3, CpuTarget(utilization=30), [341, 341, 341], 4),
    ],
)
def test_usage_against_target(current, target, levels, expected):
    assert replicas(current, target, levels) == expected


def test_missing_pods_count_as_full_on_the_way_down_and_as_idle_on_the_way_up():
    half = CpuTarget(utilization=50)
    assert replicas(4, half, [400, 400, 400]) == 3
    assert replicas(4, half, [400, 400, 400, None], request=1000) == 4  # (1200 + 1000) / 4000 = 55 %
    assert replicas(2, half, [900]) == 2
    assert replicas(2, half, [1900]) == 4
    assert replicas(2, half, [1900, None]) == 4  # 190 % of one is 95 % of two
    assert replicas(2, half, [900, None]) == 2  # 45 % of two would turn it round


def test_unready_pods_count_as_idle_on_the_way_up_and_not_at_all_on_the_way_down():
    third = CpuTarget(utilization=30)
    assert replicas(3, third, [300, 500, 700], [OLD, PENDING, OLD]) == 3
    assert replicas(3, third, [600, 500, 700], [OLD, UNREADY, OLD]) == 5
    assert replicas(3, CpuTarget(utilization=90), [300, 900, 300], [OLD, UNREADY, OLD]) == 1
    with pytest.raises(NoMetricsError, match="pods might be unready"):
        replicas(1, third, [500], [UNREADY])


def test_a_young_pod_counts_when_a_whole_window_lies_after_it_became_ready():
    def counts(ready_s_ago, start_s_ago, ready=True):
        status = PodStatus("Running", ready=ready, ready_since_ns=NOW - ready_s_ago * S, start_ns=NOW - start_s_ago * S)
        return bool(group(pods(status), {"p0": PodUsage(NOW, WINDOW, 1)}, NOW, Rules()).ready)

    assert [counts(14, 20), counts(15, 20)] == [False, True]
    assert counts(1, 301)  # past the initialisation period any ready pod does
    assert counts(100, 400, ready=False)  # it was ready once: an unready pod counts again
    assert not counts(380, 400, ready=False)  # unready since its first 30 s


def test_without_a_behavior_a_step_goes_to_twice_as_many_or_to_four():
    assert limited(1, 20, 1, 50)[0] == 4
    assert limited(2, 6, 1, 50)[0] == 4
    assert limited(4, 12, 1, 50) == (8, ("ScaleUpLimit", limited(4, 12, 1, 50)[1][1]))
    assert limited(4, 12, 1, 6)[1][0] == "TooManyReplicas"
    assert limited(4, 0, 1, 6) == (1, ("TooFewReplicas", limited(4, 0, 1, 6)[1][1]))
    assert limited(9, 3, 1, 50)[0] == 3


UP = ScalingRules((ScalingPolicy("Pods", 4, 15), ScalingPolicy("Percent", 100, 15)), 0)
DOWN = ScalingRules((ScalingPolicy("Pods", 4, 60), ScalingPolicy("Percent", 10, 60)), 0)


def test_a_behavior_by_default_adds_four_or_doubles_in_a_period():
    def go(current, desired, added=()):
        return limited_by_rules(current, desired, (1, 100), (UP, DOWN), (added, ()), NOW)[0]

    assert [go(1, 20), go(2, 6), go(10, 99)] == [5, 6, 20]
    assert go(20, 99, ((NOW - 14 * S, 10),)) == 20
    assert go(20, 99, ((NOW - 15 * S, 10),)) == 40


def test_the_documentations_ten_per_cent_or_four_pods_a_minute_going_down():
    def down(current, rules=DOWN):
        return current - limited_by_rules(current, 10, (10, 100), (UP, rules), ((), ()), NOW)[0]

    assert [down(80), down(72), down(40), down(30)] == [8, 8, 4, 4]
    assert down(80, ScalingRules(DOWN.policies, 0, "Min")) == 4
    assert down(80, ScalingRules(DOWN.policies, 0, "Disabled")) == 0


def test_windows_take_the_lowest_recommendation_up_and_the_highest_down():
    past = [(NOW - 100 * S, 8), (NOW - 50 * S, 6), (NOW - 10 * S, 12)]
    assert stabilised(5, 10, past, 0, 300, NOW)[0] == 10
    assert stabilised(5, 10, past, 60, 300, NOW) == (6, stabilised(5, 10, past, 60, 300, NOW)[1])
    assert stabilised(15, 3, past, 0, 60, NOW)[0] == 12
    assert stabilised(15, 3, past, 0, 5, NOW)[0] == 3


def test_shares_of_a_policy_are_worked_out_in_floating_point_as_upstream():
    """convertDesiredReplicasWithBehaviorRate: math.Ceil(100 * 1.1) is 111, int32(10 * (1 - 0.9)) is 0."""
    ten, ninety = (ScalingRules((ScalingPolicy("Percent", share, 60),), 0) for share in (10, 90))
    assert limited_by_rules(100, 500, (1, 500), (ten, ninety), ((), ()), NOW)[0] == 111
    assert limited_by_rules(40, 1, (1, 500), (ten, ninety), ((), ()), NOW)[0] == 3


def test_each_direction_has_its_own_tolerance():
    """KEP-4951: no tolerance upwards, five per cent downwards."""
    own = Rules(up=0.0, down=0.05)
    assert not Rules().close(1.11)
    assert Rules().close(1.09)
    assert not own.close(1.01)
    assert own.close(0.96)
    assert not own.close(0.94)
