"""StatefulSets: pods in order, new templates from the highest ordinal down, and what stays when the order is broken."""

from dataclasses import replace
from itertools import pairwise

from control_clusters import LABELS, S, cluster, container, first, pods, ready, times
from hypothesis import given, settings
from hypothesis import strategies as st

from kflab.control.facts import What
from kflab.manifest.objects import Key, LabelSelector, Meta
from kflab.manifest.objects_pods import PodSpec, PodTemplate, Probe
from kflab.manifest.objects_workloads import StatefulSet

DB = Key("StatefulSet", "default", "db")
HASH = "controller-revision-hash"


def stateful_set(replicas=3, image="db:v1", **fields):
    template = PodTemplate(LABELS, {}, PodSpec((container(image=image),)))
    return StatefulSet(
        Meta("db", "default"), replicas=replicas, selector=LabelSelector(LABELS), template=template, **fields
    )


def image_of(pod):
    return pod.spec.containers[0].image


def images(plane):
    return {pod.meta.name: image_of(pod) for pod in pods(plane)}


def roll(plane, image):
    now = plane.store.get(DB)
    template = replace(now.template, spec=replace(now.template.spec, containers=(container(image=image),)))
    return plane.apply([replace(now, template=template)])


def deleted(facts):
    return [fact.subject.name for fact in facts if fact.what is What.POD_DELETED]


def test_a_new_template_goes_from_the_highest_ordinal_down_one_ready_pod_at_a_time():
    plane = cluster(stateful_set())
    roll(plane, "db:v2")
    facts = plane.run_until(200 * S)
    assert deleted(facts) == ["db-2", "db-1", "db-0"]
    for before, after in ((2, 1), (1, 0)):
        back = first(facts, What.POD_CREATED, Key("Pod", "default", f"db-{before}"))
        assert back.t_ns < first(facts, What.POD_DELETED, Key("Pod", "default", f"db-{after}")).t_ns
    assert set(images(plane).values()) == {"db:v2"}
    db = plane.store.get(DB)
    assert db.current_revision == db.update_revision == pods(plane)[0].meta.labels[HASH]
    assert db.observed["updatedReplicas"] == 3
    assert plane.next_ns() is None


def test_a_partition_keeps_the_lower_ordinals_also_when_they_are_made_again():
    plane = cluster(stateful_set(4, partition=2))
    roll(plane, "db:v2")
    plane.run_until(200 * S)
    assert images(plane) == {"db-0": "db:v1", "db-1": "db:v1", "db-2": "db:v2", "db-3": "db:v2"}
    plane.delete_pod(Key("Pod", "default", "db-0"))
    plane.run_until(300 * S)
    assert images(plane)["db-0"] == "db:v1"
    plane.apply([replace(plane.store.get(DB), partition=0)])
    plane.run_until(500 * S)
    assert set(images(plane).values()) == {"db:v2"}


def test_on_delete_changes_only_the_pods_that_somebody_deletes():
    plane = cluster(stateful_set(update_type="OnDelete"))
    roll(plane, "db:v2")
    assert deleted(plane.run_until(100 * S)) == []
    plane.delete_pod(Key("Pod", "default", "db-1"))
    plane.run_until(200 * S)
    assert images(plane) == {"db-0": "db:v1", "db-1": "db:v2", "db-2": "db:v1"}


def test_max_unavailable_takes_so_many_at_once():
    plane = cluster(stateful_set(6, max_unavailable="50%", partition=0))
    roll(plane, "db:v2")
    least = 6
    facts = []
    while (due := plane.next_ns()) is not None and due < 300 * S:
        facts += plane.step()
        least = min(least, len(ready(plane)))
    assert least == 3
    assert deleted(facts)[:3] == ["db-5", "db-4", "db-3"]
    assert set(images(plane).values()) == {"db:v2"}
    assert any("maxUnavailable" in text for text, _ in plane.assumptions)


def test_min_ready_seconds_space_the_rollout():
    plane = cluster(stateful_set(min_ready_s=20))
    facts = [*roll(plane, "db:v2"), *plane.run_until(300 * S)]
    gone = times(facts, What.POD_DELETED)
    assert len(gone) == 3
    assert all(after - before > 21 * S for before, after in pairwise(gone))
    assert plane.store.get(DB).observed["availableReplicas"] == 3


def test_scaling_goes_one_by_one_in_order_and_all_at_once_when_parallel():
    ordered, parallel = cluster(stateful_set(1)), cluster(stateful_set(1, pod_management="Parallel"))
    spans = {}
    for name, plane in (("ordered", ordered), ("parallel", parallel)):
        up = [*plane.scale(DB, 4), *plane.run_until(60 * S)]
        made = [(fact.t_ns, fact.subject.name) for fact in up if fact.what is What.POD_CREATED]
        assert [pod for _, pod in made] == ["db-1", "db-2", "db-3"]
        down = [*plane.scale(DB, 1), *plane.run_until(200 * S)]
        assert deleted(down) == ["db-3", "db-2", "db-1"]
        went = times(down, What.POD_DELETED)
        spans[name] = (made[-1][0] - made[0][0], went[-1] - went[0])
    assert spans["parallel"] == (0, 0)
    assert min(spans["ordered"]) > S


def test_a_broken_new_template_stops_at_the_first_pod_and_going_back_needs_that_pod_deleted():
    """kubernetes.io/docs/concepts/workloads/controllers/statefulset, "Forced rollback"; k/k issue 67250."""
    plane = cluster(stateful_set())
    now = plane.store.get(DB)
    broken = container(image="db:v2", readiness=Probe("httpGet", 8080, "/ready", initial_delay_s=1_000_000))
    never = replace(now.template, spec=replace(now.template.spec, containers=(broken,)))
    plane.apply([replace(now, template=never)])
    plane.run_until(100 * S)
    assert sorted(pod.meta.name for pod in ready(plane)) == ["db-0", "db-1"]
    plane.apply([replace(plane.store.get(DB), template=now.template)])
    plane.run_until(200 * S)
    assert len(ready(plane)) == 2
    plane.delete_pod(Key("Pod", "default", "db-2"))
    plane.run_until(300 * S)
    assert set(images(plane).values()) == {"db:v1"}


def test_going_back_to_an_old_template_uses_its_old_revision_with_a_new_number():
    plane = cluster(stateful_set())
    names = []
    for n, image in enumerate(("db:v2", "db:v1", "db:v3")):
        names.append(plane.store.get(DB).update_revision)
        roll(plane, image)
        plane.run_until((n + 1) * 200 * S)
    db = plane.store.get(DB)
    names.append(db.update_revision)
    assert names[0] == names[2]
    assert len({*names}) == 3
    assert [(revision.name, revision.number) for revision in db.revisions] == [
        (names[1], 2), (names[0], 3), (names[3], 4),
    ]  # fmt: skip


def test_pods_of_a_dump_keep_their_revision_and_are_not_replaced():
    plane = cluster(stateful_set())
    upstream = [
        replace(pod, meta=replace(pod.meta, labels={**pod.meta.labels, HASH: "db-7f9c8d"})) for pod in pods(plane)
    ]
    given_set = replace(stateful_set(), current_revision="db-7f9c8d", update_revision="db-7f9c8d")
    opened = cluster(given_set, *upstream, observed=[DB, *(pod.key for pod in upstream)])
    opened.run_until(60 * S)
    assert {pod.meta.uid for pod in pods(opened)} == {pod.meta.uid for pod in upstream}
    facts = [*roll(opened, "db:v2"), *opened.run_until(300 * S)]
    assert deleted(facts) == ["db-2", "db-1", "db-0"]


def test_ordinals_start_where_the_manifest_says():
    plane = cluster(stateful_set(2, start_ordinal=5))
    assert sorted(images(plane)) == ["db-5", "db-6"]


@settings(max_examples=40, deadline=None)
@given(
    replicas=st.integers(1, 5), seed=st.integers(0, 1000), policy=st.sampled_from(["OrderedReady", "Parallel"]),
    deeds=st.lists(st.tuples(st.integers(1, 40), st.sampled_from(["kill", "scale", "roll"]), st.integers(0, 5)),
                   max_size=6),
)  # fmt: skip
def test_the_order_holds_at_every_instant_under_kills_scales_and_rollouts(replicas, seed, policy, deeds):
    plane = cluster(stateful_set(replicas, pod_management=policy), nodes=2, seed=seed)
    wanted = image = None
    now, killed = 0, 0

    def run(until):
        while (due := plane.next_ns()) is not None and due <= until:
            before = {pod.meta.name: pod for pod in pods(plane)}
            facts = plane.step()
            for fact in facts:
                if fact.what is What.POD_CREATED and policy == "OrderedReady":
                    ordinal = int(fact.subject.name.rpartition("-")[2])
                    lower = [before.get(f"db-{n}") for n in range(ordinal)]
                    assert all(pod is not None and pod.status.ready and not pod.terminating for pod in lower)
                if fact.what is What.POD_DELETED and policy == "OrderedReady" and fact.by != "user":
                    assert sum(pod.terminating for pod in before.values()) <= killed

    for wait, deed, number in deeds:
        now += wait * S
        run(now)
        plane.run_until(now)
        if deed == "scale":
            plane.scale(DB, number)
            wanted = number
        elif deed == "roll":
            image = f"db:v{number + 2}"
            roll(plane, image)
        elif (pod := plane.store.get(Key("Pod", "default", f"db-{number}"))) is not None and not pod.terminating:
            killed += 1
            plane.delete_pod(pod.key)
    run(now + 2000 * S)
    size = replicas if wanted is None else wanted
    assert images(plane) == {f"db-{n}": image or "db:v1" for n in range(size)}
    assert len(ready(plane)) == size
    assert plane.next_ns() is None


@settings(max_examples=25, deadline=None)
@given(replicas=st.integers(1, 6), most=st.one_of(st.none(), st.integers(1, 4), st.sampled_from(["30%", "100%"])),
       partition=st.integers(0, 6), seed=st.integers(0, 1000))  # fmt: skip
def test_a_rollout_never_has_more_than_max_unavailable_pods_away(replicas, most, partition, seed):
    plane = cluster(stateful_set(replicas, max_unavailable=most, partition=partition), seed=seed)
    roll(plane, "db:v2")
    allowed = 1 if most is None else most if isinstance(most, int) else max(1, int(most[:-1]) * replicas // 100)
    while (due := plane.next_ns()) is not None and due < 2000 * S:
        plane.step()
        assert len(ready(plane)) >= replicas - allowed
    assert [image_of(pod) for pod in sorted(pods(plane), key=lambda pod: pod.meta.name)] == [
        "db:v1" if n < partition else "db:v2" for n in range(replicas)
    ]
