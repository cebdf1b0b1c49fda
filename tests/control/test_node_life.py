"""A node dies, is cut off or comes back: timelines D and E, in order and within their bounds."""

from dataclasses import replace
from itertools import pairwise

import pytest
from control_clusters import LABELS, PRODUCT, S, cluster, container, deployment, endpoints, first, pods, service, times

from kflab.control.delays import Delays
from kflab.control.facts import What
from kflab.control.tolerations import NOT_READY, UNREACHABLE
from kflab.errors import KflabError
from kflab.manifest.objects import Key, LabelSelector, Meta
from kflab.manifest.objects_cluster import Node, Taint
from kflab.manifest.objects_pods import Pod, PodSpec, PodTemplate, Toleration
from kflab.manifest.objects_workloads import StatefulSet

T0 = 20 * S


def node(plane, name="node-2") -> Node:
    return plane.store.get(Key("Node", "", name))


def victim(plane, name="node-2") -> Pod:
    return next(pod for pod in pods(plane) if pod.spec.node_name == name)


def taints(plane, name="node-2") -> set[tuple[str, str]]:
    return {(taint.key.rpartition("/")[2], taint.effect) for taint in node(plane, name).taints}


def started(seed=7, nodes=3, *objects, delays=None):
    plane = cluster(*objects, nodes=nodes, seed=seed, delays=delays)
    plane.run_until(T0)
    return plane


@pytest.mark.parametrize("seed", range(8))
def test_power_loss_is_found_by_the_lease_and_pods_are_replaced_after_their_toleration(seed):
    plane = started(seed)
    pod = victim(plane)
    plane.machines.power_off("node-2")
    plane.run_until(T0 + 420 * S)
    facts, about = plane.facts, Key("Node", "", "node-2")
    unknown = first(facts, What.NODE_READY_CHANGED, about).t_ns - T0
    assert 39.6 * S < unknown < 55.2 * S
    pod_written = first(facts, What.POD_STATUS_WRITTEN, pod.key).t_ns - T0
    assert unknown < pod_written < unknown + 0.1 * S
    tainted = [fact.t_ns - T0 for fact in facts if fact.what is What.NODE_TAINTED and fact.subject == about]
    no_schedule, no_execute = tainted
    assert unknown < no_schedule < unknown + 0.1 * S
    slices = first([f for f in facts if f.t_ns > T0], What.ENDPOINTS_WRITTEN).t_ns - T0
    assert pod_written < slices < pod_written + 0.2 * S
    assert unknown + 5 * S < no_execute < unknown + 5.3 * S
    deleted = first(facts, What.POD_DELETED, pod.key).t_ns - T0
    assert no_execute + 300 * S < deleted < no_execute + 300.1 * S
    replaced = first([f for f in facts if f.t_ns > T0 + deleted], What.CONTAINER_STARTED).t_ns - T0
    assert deleted < replaced < deleted + 5 * S
    assert plane.store.get(pod.key).terminating  # nobody is there to end it
    assert endpoints(plane)[pod.key] == (False, False, True)
    assert taints(plane) == {("unreachable", "NoSchedule"), ("unreachable", "NoExecute")}
    assert plane.next_ns() is None


@pytest.mark.parametrize("seed", range(4))
def test_the_mean_time_until_a_node_is_unknown_is_that_of_the_sheet(seed):
    plane = cluster(seed=seed, nodes=60)
    plane.run_until(T0)
    for i in range(1, 21):
        plane.machines.power_off(f"node-{i}")
    plane.run_until(T0 + 60 * S)
    waits = [(t - T0) / S for t in times(plane.facts, What.NODE_READY_CHANGED)]
    assert len(waits) == 20
    assert 39.6 < min(waits)
    assert max(waits) < 55.6
    assert 43.5 < sum(waits) / 20 < 51


def test_a_short_toleration_of_the_pod_itself_counts():
    tolerations = tuple(Toleration(key, "Exists", "", "NoExecute", 30) for key in (UNREACHABLE, NOT_READY))
    plane = started(7, 3, deployment(tolerations=tolerations), service())
    pod = victim(plane)
    plane.machines.power_off("node-2")
    plane.run_until(T0 + 100 * S)
    deleted = first(plane.facts, What.POD_DELETED, pod.key).t_ns - T0
    assert 74 * S < deleted < 91 * S
    assert sum(p.status.ready for p in pods(plane)) == 3


def test_an_eviction_keeps_its_time_when_one_taint_takes_the_place_of_another():
    tolerations = tuple(
        Toleration(key, "Exists", "", "NoExecute", seconds) for key, seconds in ((NOT_READY, 100), (UNREACHABLE, 20))
    )
    plane = started(7, 3, deployment(tolerations=tolerations), service())
    pod, there = victim(plane), node(plane)

    def taint(*keys):
        plane.core.put(replace(there, taints=tuple(Taint(key, "NoExecute") for key in keys)), "test")

    taint(NOT_READY)
    plane.run_until(T0 + 10 * S)
    taint(UNREACHABLE)
    plane.run_until(T0 + 95 * S)
    assert not plane.store.get(pod.key).terminating
    taint(UNREACHABLE, "own/taint")
    plane.run_until(T0 + 95.1 * S // 1)
    assert plane.store.get(pod.key).terminating, "one that is not tolerated at all evicts at once"


def test_a_pod_that_tolerates_for_ever_stays():
    plane = started(7, 3, deployment(tolerations=(Toleration(UNREACHABLE, "Exists", "", "NoExecute"),)), service())
    pod = victim(plane)
    plane.machines.power_off("node-2")
    plane.run_until(T0 + 600 * S)
    assert not plane.store.get(pod.key).terminating


def test_a_grace_period_of_40_s_as_before_1_32_finds_it_sooner():
    plane = started(7, 3, delays=Delays().with_overrides({"node_monitor_grace_s": 40}))
    plane.machines.power_off("node-2")
    plane.run_until(T0 + 60 * S)
    assert 29.5 * S < first(plane.facts, What.NODE_READY_CHANGED).t_ns - T0 < 45.2 * S


def test_a_kubelet_that_stops_alone_has_the_same_end_and_its_pods_run_on():
    plane = started()
    pod = victim(plane)
    plane.stop("kubelet/node-2")
    plane.run_until(T0 + 60 * S)
    assert node(plane).ready == "Unknown"
    assert plane.runtime[pod.key].listening == (("TCP", 8080),)
    assert endpoints(plane)[pod.key] == (False, False, False)
    plane.start("kubelet/node-2")
    plane.run_until(T0 + 80 * S)
    assert node(plane).ready == "True"
    assert taints(plane) == set()
    assert endpoints(plane)[pod.key] == (True, True, False)


def test_a_kubelet_back_before_the_grace_period_changes_nothing():
    plane = started()
    plane.stop("kubelet/node-2")
    plane.run_until(T0 + 35 * S)
    plane.start("kubelet/node-2")
    plane.run_until(T0 + 200 * S)
    assert times(plane.facts, What.NODE_READY_CHANGED) == []
    assert plane.next_ns() is None


def test_it_is_found_again_when_it_stops_a_second_time():
    plane = started()
    for at in (0, 100):
        plane.run_until(T0 + at * S)
        plane.stop("kubelet/node-2")
        plane.run_until(T0 + (at + 60) * S)
        assert node(plane).ready == "Unknown"
        plane.start("kubelet/node-2")
    plane.run_until(T0 + 200 * S)
    assert node(plane).ready == "True"


@pytest.mark.parametrize("link", ["network", "control"])
@pytest.mark.parametrize("seed", range(3))
def test_a_partition_healed_within_five_minutes_moves_no_pod(seed, link):
    plane = started(seed)
    pod = victim(plane)
    plane.machines.partition("node-2", link)
    assert plane.core.reachable("node-2") == (link == "control")
    plane.run_until(T0 + 200 * S)
    assert endpoints(plane)[pod.key][0] is False
    assert plane.runtime[pod.key].listening == (("TCP", 8080),)  # it runs on
    plane.machines.heal("node-2")
    plane.run_until(T0 + 280 * S)
    back = first([f for f in plane.facts if f.t_ns > T0 + 200 * S], What.NODE_READY_CHANGED).t_ns - T0 - 200 * S
    assert 0 < back < 10.1 * S
    assert endpoints(plane)[pod.key] == (True, True, False)
    assert times(plane.facts, What.POD_DELETED) == []
    assert taints(plane) == set()


def test_rules_of_a_node_without_the_api_go_stale_and_catch_up_when_it_is_back():
    plane = started()
    plane.machines.partition("node-2", "control")
    stale = plane.observers["kube-proxy/node-2"].revision
    plane.delete_pod(victim(plane, "node-1").key)
    plane.run_until(T0 + 30 * S)
    others = plane.observers["kube-proxy/node-1"].revision
    assert plane.observers["kube-proxy/node-2"].revision == stale < others
    plane.machines.heal("node-2")
    plane.run_until(T0 + 120 * S)
    assert plane.observers["kube-proxy/node-2"].revision == plane.observers["kube-proxy/node-1"].revision
    synced = [f for f in plane.facts if f.what is What.RULES_SYNCED and f.subject.name == "kube-proxy/node-2"]
    assert synced
    assert "anew" not in synced[0].text


def test_a_pod_deleted_behind_a_partition_ends_when_it_is_healed():
    plane = started()
    pod = victim(plane)
    plane.machines.partition("node-2", "network")
    plane.delete_pod(pod.key)
    plane.run_until(T0 + 120 * S)
    assert plane.store.get(pod.key).terminating
    assert plane.runtime[pod.key].listening
    plane.machines.heal("node-2")
    plane.run_until(T0 + 200 * S)
    assert plane.store.get(pod.key) is None
    assert pod.key not in plane.runtime


@pytest.mark.parametrize("seed", range(6))
def test_a_kubelet_hears_of_nothing_new_before_its_watch_is_back(seed):
    plane = started(seed)
    pod = victim(plane)
    plane.machines.partition("node-2", "control")
    plane.delete_pod(pod.key)
    healed = T0 + 38 * S  # a dead node is Unknown after 39.6 s at the earliest: this one still takes pods
    plane.run_until(healed)
    plane.machines.heal("node-2")
    for other in ("node-1", "node-3"):
        plane.drains.cordon(other, True)
    plane.scale(PRODUCT, 5)
    plane.run_until(T0 + 150 * S)
    facts = [fact for fact in plane.facts if fact.t_ns >= healed]
    heard = first(facts, What.KUBELET_NOTICED, pod.key).t_ns
    bound = [fact.subject for fact in facts if fact.what is What.POD_SCHEDULED]
    assert len(bound) >= 2
    for key in bound:
        assert plane.store.get(key).spec.node_name == "node-2"
        assert first(facts, What.POD_SCHEDULED, key).t_ns < heard < first(facts, What.CONTAINER_STARTED, key).t_ns


def test_power_back_within_the_grace_period_restarts_pods_in_new_sandboxes():
    quick = Delays().with_overrides({"node_boot_s": [5, 6]})
    plane = started(delays=quick)
    pod = victim(plane)
    plane.machines.power_off("node-2")
    assert plane.runtime[pod.key].listening == ()
    assert not plane.runtime[pod.key].sandbox
    plane.run_until(T0 + 10 * S)
    assert plane.store.get(pod.key).status.ready  # nobody has noticed
    plane.machines.power_on("node-2")
    plane.run_until(T0 + 60 * S)
    now = plane.store.get(pod.key)
    assert now.status.ready
    assert now.status.restarts == 1
    assert now.status.containers[0].exit_code == 255
    assert now.ip != pod.ip
    assert plane.runtime[pod.key].ips == (now.ip,)
    assert plane.observers["kube-proxy/node-2"].running
    assert plane.observers["kube-proxy/node-2"].revision >= plane.store.last_rule_change


def test_a_node_that_returns_after_its_pods_were_evicted_removes_what_is_left():
    plane = started()
    pod = victim(plane)
    plane.machines.power_off("node-2")
    plane.run_until(T0 + 400 * S)
    plane.machines.power_on("node-2")
    plane.run_until(T0 + 500 * S)
    assert plane.store.get(pod.key) is None
    assert node(plane).ready == "True"
    assert taints(plane) == set()
    assert len(pods(plane)) == 3
    assert plane.next_ns() is None


@pytest.mark.parametrize("seed", range(4))
def test_a_deleted_machine_takes_its_node_object_and_pods_along(seed):
    plane = started(seed)
    pod = victim(plane)
    plane.machines.delete_vm("node-2")
    plane.run_until(T0 + 160 * S)
    facts, about = plane.facts, Key("Node", "", "node-2")
    unknown = first(facts, What.NODE_READY_CHANGED, about).t_ns
    removed = first(facts, What.NODE_REMOVED, about).t_ns
    assert unknown < removed < unknown + 5.6 * S
    forced = first(facts, What.POD_REMOVED, pod.key).t_ns
    assert removed + 40 * S <= forced <= removed + 80 * S
    started_again = first([f for f in facts if f.t_ns > forced], What.CONTAINER_STARTED).t_ns - T0
    assert 85 * S < started_again < 145 * S
    assert pod.key not in plane.runtime
    assert "kube-proxy/node-2" not in plane.observers
    with pytest.raises(KflabError, match="no component 'kubelet/node-2'"):
        plane.stop("kubelet/node-2")
    assert plane.next_ns() is None


def test_what_makes_no_sense_is_refused():
    plane = started()
    with pytest.raises(KflabError, match="is not cut off"):
        plane.machines.heal("node-2")
    with pytest.raises(KflabError, match="has power already"):
        plane.machines.power_on("node-2")
    with pytest.raises(KflabError, match="expected one of network, control"):
        plane.machines.partition("node-2", "cable")
    plane.machines.power_off("node-2")
    with pytest.raises(KflabError, match="no power already"):
        plane.machines.power_off("node-2")
    with pytest.raises(KflabError, match="cannot be started: node node-2 has no power"):
        plane.start("kubelet/node-2")
    plane.machines.delete_vm("node-2")
    with pytest.raises(KflabError, match="virtual machine was deleted"):
        plane.machines.power_on("node-2")


# --- zones ---------------------------------------------------------------------------------------------------


def zoned(sizes, seed=7):
    """A cluster whose zones have these numbers of nodes, without pods."""
    from control_clusters import made, settle

    from kflab.draws import Draws

    nodes = []
    for zone, size in sizes.items():
        for i in range(size):
            one = made.nodes(1).objects[0]
            labels = {**made.node_labels(f"{zone}-{i}", zone)}
            nodes.append(replace(one, meta=replace(one.meta, name=f"{zone}-{i}", labels=labels), pod_cidrs=(),
                                 internal_ips=()))  # fmt: skip
    plane = settle(nodes, Draws(seed))
    plane.run_until(T0)
    return plane


def evicted(plane, until_s):
    """When nodes got a NoExecute taint, from the first on."""
    plane.run_until(T0 + until_s * S)
    found = [f.t_ns for f in plane.facts if f.what is What.NODE_TAINTED and f.text.endswith("unreachable:NoExecute")]
    return [round((t - found[0]) / S, 1) for t in found]


def test_one_node_every_ten_seconds_is_tainted_in_a_zone_that_is_well():
    plane = zoned({"a": 10, "b": 3})
    for i in range(4):
        plane.machines.power_off(f"a-{i}")
    gaps = evicted(plane, 120)
    assert len(gaps) == 4
    assert all(10 * i <= gap <= 10 * i + 0.6 for i, gap in enumerate(gaps))


def test_zones_have_their_own_rates():
    plane = zoned({"a": 10, "b": 10})
    for i in range(2):
        plane.machines.power_off(f"a-{i}")
        plane.machines.power_off(f"b-{i}")
    gaps = evicted(plane, 120)
    assert len(gaps) == 4
    assert gaps[1] < 10 < gaps[-1] < 16.1


def test_a_small_zone_that_is_mostly_down_evicts_nothing():
    plane = zoned({"a": 5, "b": 5})
    for i in range(3):
        plane.machines.power_off(f"a-{i}")
    plane.run_until(T0 + 300 * S)
    tainted = [n for n in range(5) if any(e == "NoExecute" for _, e in taints(plane, f"a-{n}"))]
    # The first is found alone when its lease runs out a pass earlier than the others; then the zone is disrupted.
    assert len(tainted) <= 1
    assert sum(node(plane, f"a-{n}").ready == "Unknown" for n in range(5)) == 3


def test_a_large_zone_that_is_mostly_down_evicts_one_node_in_a_hundred_seconds():
    plane = zoned({"a": 60, "b": 5})
    for i in range(40):
        plane.machines.power_off(f"a-{i}")
    gaps = evicted(plane, 400)
    late = [gap for gap in gaps if gap > 25]
    assert 2 <= len(late) <= 4
    assert all(99 <= b - a <= 101 for a, b in pairwise(late))


def test_a_zone_without_any_ready_node_evicts_at_the_normal_rate_while_another_is_well():
    plane = zoned({"a": 3, "b": 3})
    for i in range(3):
        plane.machines.power_off(f"a-{i}")
    assert len(evicted(plane, 120)) == 3


def test_when_all_zones_are_down_nothing_is_evicted_and_taints_are_lifted():
    plane = zoned({"a": 2, "b": 2})
    plane.machines.power_off("a-0")
    plane.run_until(T0 + 100 * S)
    assert ("unreachable", "NoExecute") in taints(plane, "a-0")
    for name in ("a-1", "b-0", "b-1"):
        plane.machines.power_off(name)
    plane.run_until(T0 + 300 * S)
    for name in ("a-0", "a-1", "b-0", "b-1"):
        assert taints(plane, name) == {("unreachable", "NoSchedule")}


# --- a quiet cluster -----------------------------------------------------------------------------------------


def test_leases_of_a_quiet_cluster_are_no_events():
    plane = cluster(nodes=200)
    plane.run_until(3600 * S)
    assert plane.next_ns() is None
    assert plane.facts == []


def test_the_same_story_whatever_the_steps():
    stories = []
    for step in (1, 7, 60):
        plane = started()
        plane.machines.power_off("node-2")
        for t in range(0, 421, step):
            plane.run_until(max(plane.now_ns, T0 + t * S))
        stories.append([(f.t_ns, f.what, f.subject) for f in plane.facts if f.t_ns <= T0 + 420 * S])
    assert stories[0] == stories[1] == stories[2]


def test_a_copy_in_the_middle_of_it_goes_the_same_way():
    plane = started()
    plane.machines.power_off("node-2")
    plane.run_until(T0 + 50 * S)
    twin = plane.copy()
    for each in (plane, twin):
        each.run_until(T0 + 400 * S)
    assert [f.t_ns for f in plane.facts] == [f.t_ns for f in twin.facts]
    assert LABELS.items() <= victim(plane).meta.labels.items()


def test_a_stateful_set_waits_for_the_pod_of_a_dead_node():
    labels = {"app": "db"}
    template = PodTemplate(labels, {}, PodSpec((container(),)))
    db = StatefulSet(Meta("db", "default"), replicas=3, selector=LabelSelector(labels), template=template)
    plane = started(7, 3, db)
    pod = next(pod for pod in pods(plane) if pod.spec.node_name == "node-2")
    plane.machines.power_off("node-2")
    plane.run_until(T0 + 500 * S)
    stuck = plane.store.get(pod.key)
    assert stuck.terminating
    assert stuck.meta.uid == pod.meta.uid  # its name is taken: no second db-… can be
    assert len(pods(plane)) == 3
    plane.node_life.set_out_of_service("node-2", True)
    plane.run_until(T0 + 600 * S)
    new = plane.store.get(pod.key)
    assert new.meta.uid != pod.meta.uid
    assert new.spec.node_name != "node-2"
    assert new.status.ready


def test_a_pod_that_is_never_restarted_has_failed_after_a_reboot():
    once = Pod(Meta("once", "default"), spec=PodSpec((container(),), node_name="node-2", restart_policy="Never"))
    plane = started(7, 3, once)
    plane.machines.power_off("node-2")
    plane.machines.power_on("node-2")
    plane.run_until(T0 + 120 * S)
    pod = plane.store.get(once.key)
    assert (pod.status.phase, pod.status.ready, pod.status.restarts) == ("Failed", False, 0)
