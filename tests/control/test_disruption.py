"""PodDisruptionBudgets and the eviction API: who may go, and what the API server says when nobody may."""

from dataclasses import replace

import pytest
from control_clusters import HTTP_READY, LABELS, S, cluster, container, deployment, first, pods, service

from kflab.control.facts import What
from kflab.errors import KflabError
from kflab.manifest.loader import load
from kflab.manifest.objects import Key, LabelSelector, Meta
from kflab.manifest.objects_workloads import PodDisruptionBudget
from kflab.manifest.sources import SourceText
from kflab.manifest.write import to_yaml

BUDGET = Key("PodDisruptionBudget", "default", "product")


def budget(**fields):
    given = {"selector": LabelSelector(LABELS), **fields}
    return PodDisruptionBudget(Meta("product", "default"), **given)


def with_budget(replicas=3, box=None, **fields):
    return cluster(deployment(replicas, box=box), service(), budget(**fields))


def numbers(plane):
    status = plane.store.get(BUDGET).status
    return status.current_healthy, status.desired_healthy, status.expected_pods, status.disruptions_allowed


@pytest.mark.parametrize(
    ("replicas", "fields", "expected"),
    [
        (3, {"min_available": 2}, (3, 2, 3, 1)),
        (3, {"min_available": 5}, (3, 5, 3, 0)),
        (3, {"min_available": "50%"}, (3, 2, 3, 1)),
        (10, {"max_unavailable": "25%"}, (10, 7, 10, 3)),
        (3, {"max_unavailable": 1}, (3, 2, 3, 1)),
        (1, {"max_unavailable": "10%"}, (1, 0, 1, 1)),
        (3, {"max_unavailable": 0}, (3, 3, 3, 0)),
        (2, {}, (2, 0, 2, 2)),
    ],
)
def test_the_status_says_how_many_may_go(replicas, fields, expected):
    assert numbers(with_budget(replicas, **fields)) == expected


def test_one_eviction_is_allowed_the_next_is_429_until_the_replacement_is_ready():
    plane = with_budget(min_available=2)
    one, two, _ = (pod.key for pod in pods(plane))
    facts = plane.evict(one)
    assert [f.what for f in facts] == [What.POD_EVICTED, What.POD_DELETED]
    assert plane.store.get(one).terminating
    with pytest.raises(KflabError, match=r"would violate the pod.s disruption budget.*product needs 2 healthy"):
        plane.evict(two)
    assert "needs 2 healthy pods" in plane.disruption.refusal(two)
    facts = plane.run_until(15 * S)
    again = [f for f in facts if f.what is What.BUDGET_CHANGED]
    assert "allows 1 disruption: 3 healthy, 2 wanted" in again[-1].text
    plane.evict(two)


def test_an_eviction_whose_pod_does_not_go_counts_for_two_minutes():
    plane = with_budget(min_available=2)
    one = pods(plane)[0].key
    status = plane.store.get(BUDGET).status
    disrupted = replace(status, disruptions_allowed=0, disrupted=((one.name, 0),))
    plane.core.put(replace(plane.store.get(BUDGET), status=disrupted), "eviction")
    plane.run_until(119 * S)
    assert numbers(plane) == (2, 2, 3, 0)
    plane.run_until(121 * S)
    assert numbers(plane) == (3, 2, 3, 1)


def test_a_crashed_pod_uses_up_the_budget_and_may_itself_be_evicted_by_policy():
    plane = with_budget(min_available=3)
    crashed, other, _ = (pod.key for pod in pods(plane))
    plane.apps.loop(crashed, S // 10, 1, None)
    plane.run_until(6 * S)
    assert not plane.store.get(crashed).status.ready
    for key in (crashed, other):
        with pytest.raises(KflabError, match="needs 3 healthy pods and has 2"):
            plane.evict(key)

    allowing = with_budget(min_available=3, unhealthy_policy="AlwaysAllow")
    crashed = pods(allowing)[0].key
    allowing.apps.loop(crashed, S // 10, 1, None)
    allowing.run_until(6 * S)
    allowing.evict(crashed)
    assert allowing.store.get(crashed).terminating


def test_a_delete_does_not_ask_and_a_pending_pod_may_always_be_evicted():
    plane = with_budget(max_unavailable=0, box=container(readiness=HTTP_READY))
    one, two, _ = (pod.key for pod in pods(plane))
    plane.delete_pod(one)
    assert plane.store.get(one).terminating
    plane.evict(one)  # it is going already
    fresh = first(plane.run_until(S), What.POD_CREATED).subject
    assert plane.store.get(fresh).status.phase == "Pending"
    plane.evict(fresh)
    with pytest.raises(KflabError, match="would violate"):
        plane.evict(two)


def test_two_budgets_for_one_pod_are_an_error():
    second = PodDisruptionBudget(Meta("all", "default"), min_available=1, selector=LabelSelector())
    plane = cluster(deployment(), service(), budget(min_available=1), second)
    with pytest.raises(KflabError, match="more than one PodDisruptionBudget"):
        plane.evict(pods(plane)[0].key)


def test_a_budget_reads_and_writes_back():
    text = (
        "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: product}\nspec:\n  maxUnavailable: 25%\n"
        "  selector: {matchLabels: {app: product}}\n  unhealthyPodEvictionPolicy: AlwaysAllow\n"
    )
    (obj,) = load([SourceText("budget.yaml", text)]).objects
    assert (obj.max_unavailable, obj.min_available, obj.unhealthy_policy) == ("25%", None, "AlwaysAllow")
    (again,) = load([SourceText("again.yaml", to_yaml(obj))]).objects
    assert again.max_unavailable == "25%"
    assert again.selector == obj.selector
    bad = load([SourceText("bad.yaml", text.replace("25%", "some").replace("AlwaysAllow", "Never"))])
    found = {f.place.line: f.message for f in bad.findings if f.place}
    assert "must match the regex" in found[5] or "valid percent string" in found[5]
    assert 'Unsupported value: "Never"' in found[7]
