"""Back-offs, polls and patience of components: a scenario sets each, and what it governs comes sooner or later."""

from dataclasses import replace
from itertools import pairwise

import pytest
from control_clusters import LABELS, PRODUCT, S, cluster, container, deployment, first, pods, service

from kflab.control.delays import REPEATED, Delays
from kflab.control.facts import What
from kflab.control.verbs import VERBS
from kflab.errors import KflabError
from kflab.manifest.app_annotations import EXIT_CODE, RUNS_FOR
from kflab.manifest.objects import Key, LabelSelector, Meta
from kflab.manifest.objects_autoscaler import HorizontalPodAutoscaler
from kflab.manifest.objects_pods import PodSpec, PodTemplate
from kflab.manifest.objects_workloads import BudgetStatus, DaemonSet, Job, PodDisruptionBudget
from kflab.scenario.format import load_text

NODE = Key("Node", "", "node-2")


def with_delays(*objects, nodes=2, **delays):
    return cluster(*objects, nodes=nodes, delays=Delays().with_overrides(delays))


def job(runs="1s", code="1", **fields):
    spec = PodSpec((container(),), restart_policy="Never")
    return Job(Meta("work", "default"), template=PodTemplate(LABELS, {RUNS_FOR: runs, EXIT_CODE: code}, spec), **fields)


def closed_budget():
    return PodDisruptionBudget(Meta("all", "default"), max_unavailable=0, selector=LabelSelector(LABELS))


def waits_of_a_job(**delays):
    plane = with_delays(job(backoff_limit=3), **delays)
    plane.run_until(200 * S)
    made = [f.t_ns / S for f in plane.facts if f.what is What.POD_CREATED and f.by == "job-controller"]
    ended = [f.t_ns / S for f in plane.facts if f.what is What.CONTAINER_EXITED]
    return [round(new - end) for new, end in zip(made[1:], ended, strict=False)]


def test_a_jobs_back_off_begins_and_ends_as_set():
    assert waits_of_a_job(job_backoff_s=4, job_backoff_max_s=6) == [4, 6, 6]


def test_a_job_syncs_after_its_batch_period():
    for batch_s in (0.2, 5.0):
        plane = with_delays(job("12s", "0"), job_batch_s=batch_s)
        facts = plane.run_until(30 * S)
        ended = max(f.t_ns for f in facts if f.what is What.CONTAINER_COMPLETED)
        done = plane.store.get(Key("Job", "default", "work"))
        assert batch_s <= (done.completion_ns - ended) / S < batch_s + 1.3, "and a relist and the writes"


def test_a_drawn_batch_period_lies_in_its_range():
    seen = set()
    for seed in range(6):
        plane = cluster(job("2s", "0"), seed=seed, delays=Delays().with_overrides({"job_batch_s": [1, 9]}))
        plane.run_until(40 * S)
        seen.add(plane.store.get(Key("Job", "default", "work")).completion_ns)
    assert max(seen) - min(seen) > 2 * S


def replaced_daemon_pods(until_s, **delays):
    """When the pods of a DaemonSet on one node were made, each of which is evicted as soon as it runs."""
    labels = {"app": "agent"}
    spec = PodSpec((container(),))
    agent = DaemonSet(Meta("agent", "default"), selector=LabelSelector(labels), template=PodTemplate(labels, {}, spec))
    plane = with_delays(agent, nodes=1, eviction_monitor_s=0.001, pressure_transition_s=0, **delays)
    for tenth in range(1, 10 * until_s):
        if any(pod.status.ready for pod in pods(plane)):
            VERBS["nodePressure"].do(plane, Key("Node", "", "node-1"), {})
        plane.run_until(tenth * S // 10)
    return [f.t_ns / S for f in plane.facts if f.what is What.POD_CREATED and f.by == "daemonset-controller"]


def test_failed_daemon_pods_wait_as_set():
    made = replaced_daemon_pods(60, daemon_backoff_s=6, daemon_backoff_max_s=7)
    gaps = [b - a for a, b in pairwise(made)]
    assert gaps[0] == pytest.approx(6, abs=0.1), "between two deletes; the creations after them are drawn"
    assert gaps[1:] == pytest.approx([7] * (len(gaps) - 1), abs=0.1)
    assert len(replaced_daemon_pods(60)) < len(replaced_daemon_pods(60, daemon_backoff_max_s=1))


def test_a_kubelet_looks_at_its_memory_and_ends_the_pressure_as_set():
    plane = with_delays(
        deployment(4), nodes=1, eviction_monitor_s=3, pressure_transition_s=20, hard_eviction_grace_s=7, app_exit_s=60
    )
    facts = [*VERBS["nodePressure"].do(plane, Key("Node", "", "node-1"), {"pods": 2}), *plane.run_until(60 * S)]
    one, two = (f for f in facts if f.what is What.POD_EVICTED)
    assert two.t_ns - one.t_ns == 3 * S
    killed = first(facts, What.CONTAINER_EXITED, one.subject).t_ns - one.t_ns
    assert 7 * S <= killed < 7.2 * S
    untainted = with_delays(deployment(4), nodes=1, eviction_monitor_s=3, pressure_transition_s=20)
    VERBS["nodePressure"].do(untainted, Key("Node", "", "node-1"), {})
    evicted = first(untainted.run_until(5 * S), What.POD_EVICTED).t_ns
    untainted.run_until(evicted + 20 * S - 1)
    assert untainted.store.get(Key("Node", "", "node-1")).taints
    untainted.run_until(evicted + 20 * S + 1)
    assert not untainted.store.get(Key("Node", "", "node-1")).taints


def test_the_autoscaler_asks_again_and_gives_up_as_set():
    plane = with_delays(
        deployment(4),
        closed_budget(),
        autoscaler_eviction_retry_s=3,
        autoscaler_eviction_give_up_s=10,
        api_write_s=0.01,
    )
    VERBS["autoscaleDown"].do(plane, NODE, {})
    facts = plane.run_until(60 * S)
    refused = [f for f in facts if f.what is What.EVICTION_REFUSED]
    one = [f.t_ns / S for f in refused if f.subject == refused[0].subject]
    assert [round(b - a, 6) for a, b in pairwise(one)] == [3, 3]
    assert "will ask again in 3 s" in refused[0].text
    assert not plane.store.get(NODE).taints, "the node stays"


def test_the_autoscaler_looks_for_pods_and_bounds_their_grace_as_set():
    plane = with_delays(deployment(4), autoscaler_poll_s=7, autoscaler_grace_max_s=4, app_exit_s=60)
    VERBS["autoscaleDown"].do(plane, NODE, {})
    facts = plane.run_until(60 * S)
    evicted = first(facts, What.POD_EVICTED)
    killed = first(facts, What.CONTAINER_EXITED, evicted.subject)
    assert 4 * S <= killed.t_ns - evicted.t_ns < 4.2 * S
    assert first(facts, What.MACHINE_OFF).t_ns == (5 + 7) * S


def test_an_eviction_whose_pod_stays_counts_as_long_as_set():
    plane = with_delays(deployment(3), replace(closed_budget(), max_unavailable=1), budget_deletion_timeout_s=15)
    key, name = Key("PodDisruptionBudget", "default", "all"), pods(plane)[0].meta.name
    budget = plane.store.get(key)
    assert isinstance(budget.status, BudgetStatus)
    plane.core.put(replace(budget, status=replace(budget.status, disrupted=((name, 0),))), "eviction")
    plane.run_until(14 * S)
    assert plane.store.get(key).status.current_healthy == 2
    plane.run_until(16 * S)
    assert plane.store.get(key).status.current_healthy == 3


def test_a_drain_says_when_it_will_ask_again():
    plane = with_delays(deployment(4), service(), closed_budget(), drain_retry_s=8)
    VERBS["drain"].do(plane, NODE, {})
    refused = first(plane.run_until(30 * S), What.EVICTION_REFUSED)
    assert "(will retry after 8s)" in refused.text


def test_what_was_one_number_takes_a_range_or_a_distribution():
    went = set()
    for seed in range(5):
        delays = Delays().with_overrides({"node_delete_delay_s": {"mean": 20}, "drain_retry_s": [2, 9]})
        plane = cluster(deployment(4), seed=seed, nodes=2, delays=delays)
        VERBS["autoscaleDown"].do(plane, NODE, {})
        went.add(first(plane.run_until(300 * S), What.POD_EVICTED).t_ns // S)
    assert len(went) > 3


@pytest.mark.parametrize("name", REPEATED)
def test_what_is_repeated_takes_some_time(name):
    with pytest.raises(KflabError, match=rf"{name} must be 0\.001 s or more"):
        Delays().with_overrides({name: 0})


@pytest.mark.parametrize("grace", [0, 1.5, 1e6])
def test_grace_periods_are_whole_seconds(grace):
    with pytest.raises(KflabError, match="hard_eviction_grace_s must be a whole number from 1 to"):
        Delays().with_overrides({"hard_eviction_grace_s": grace})


def test_a_scenario_that_sets_one_wrongly_is_told_where():
    text = "kflab: scenario/v1\nextends: overview\ncluster:\n  delays:\n    hpa_sync_s: 0\n"
    with pytest.raises(KflabError, match="hpa_sync_s must be") as raised:
        load_text(text, "<stdin>")
    assert raised.value.place.line == 5


@pytest.mark.parametrize("skew_s", [0.25, 3])
def test_what_has_min_ready_seconds_is_available_when_its_controller_looks_again(skew_s):
    labels = {"app": "agent"}
    template = PodTemplate(labels, {}, PodSpec((container(),)))
    agent = DaemonSet(Meta("agent", "default"), selector=LabelSelector(labels), template=template, min_ready_s=6)
    plane = with_delays(agent, nodes=1, requeue_skew_s=skew_s)
    plane.delete_pod(pods(plane)[0].key, 0)
    plane.run_until(4 * S)
    (pod,) = pods(plane)
    looks_ns = pod.status.ready_since_ns + 6 * S + round(skew_s * S)
    key = Key("DaemonSet", "default", "agent")
    plane.run_until(looks_ns - 1)
    assert plane.store.get(key).observed["numberAvailable"] == 0
    plane.run_until(looks_ns)
    assert plane.store.get(key).observed["numberAvailable"] == 1


def first_usage(seed, fresh_s):
    """Seconds from a new pod's start until metrics-server knows what it uses."""
    delays = Delays().with_overrides({"cpu_reading_s": 8, "metrics_scrape_s": 10, "metrics_fresh_s": fresh_s})
    scaler = HorizontalPodAutoscaler(Meta("product", "default"), target=PRODUCT, max_replicas=3)
    plane = cluster(deployment(1), scaler, nodes=1, seed=seed, delays=delays)
    plane.delete_pod(pods(plane)[0].key, 0)
    plane.run_until(3 * S)
    (pod,) = pods(plane)
    while not plane.pod_metrics.usage([pod]):
        plane.run_until(plane.now_ns + S // 4)
    return (plane.now_ns - plane.runtime[pod.key].started_ns) / S


def test_a_new_containers_usage_is_known_sooner_where_less_is_fresh():
    late, soon = ([first_usage(seed, fresh_s) for seed in range(6)] for fresh_s in (9, 5))
    assert all(a <= b for a, b in zip(soon, late, strict=True))
    assert soon != late
