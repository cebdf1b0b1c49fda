"""Steps of the fact sheet's timelines (section 4) from one end to the other, each with the bounds of its delay.

Times are seconds after the event that starts the timeline. `test_control_timelines` has the branches of A, C and I,
`test_node_life` those of D and E, `test_hpa` the autoscaler's other cases.
"""

from dataclasses import replace
from itertools import pairwise

import pytest
from control_clusters import (
    HTTP_READY,
    PRODUCT,
    SERVICE,
    Load,
    S,
    cluster,
    container,
    deployment,
    endpoints,
    first,
    pods,
    ready,
    service,
)

from kflab.control import made
from kflab.control.delays import Delays
from kflab.control.facts import What
from kflab.manifest.objects import Key, Meta
from kflab.manifest.objects_autoscaler import CpuTarget, HorizontalPodAutoscaler
from kflab.manifest.objects_network import Ingress
from kflab.manifest.objects_pods import Probe
from kflab.manifest.objects_workloads import ReplicaSet

SEEN = 1.0 + 2 * 0.06 + 0.05 + 0.01
"""PLEG's next whole relist sees a container that started; then the first probe and the status write, seconds."""

NODES = {f"kube-proxy/node-{i}" for i in (1, 2, 3)}


def s(fact, start=0):
    """Seconds after `start` at which something happened."""
    return (fact.t_ns - start) / S


def acted(plane, act, for_s):
    """(start, facts of what is done and of what follows for so long)."""
    start = plane.now_ns
    return start, [*plane.said_by(act), *plane.run_until(start + int(for_s * S))]


def synced(facts, revision):
    """Observer → when its rules were first made from this revision or a later one, ns."""
    found = {}
    for fact in facts:
        if fact.what is What.RULES_SYNCED and fact.revision >= revision:
            found.setdefault(fact.subject.name, fact.t_ns)
    return found


def nodes_knew(facts, written):
    """Seconds from a slice's write until each node's rules have it; every node must have."""
    found = {name: t for name, t in synced(facts, written.revision).items() if name.startswith("kube-proxy/")}
    assert set(found) == NODES
    return [(t - written.t_ns) / S for t in found.values()]


def sizes(plane):
    return sorted(rs.replicas for rs in plane.store.of_kind("ReplicaSet") if isinstance(rs, ReplicaSet))


# --- A, from the second crash on --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("readiness", [None, HTTP_READY])
def test_a_container_that_crashes_again_waits_and_comes_back_step_by_step(seed, readiness):
    """A.6 to A.8: back-off, start, first probe, Ready, slice, every node's rules."""
    plane = cluster(deployment(box=container(readiness=readiness)), service(), seed=seed)
    victim = pods(plane)[seed % 3].key
    acted(plane, lambda: plane.crash(victim), 20)
    start, facts = acted(plane, lambda: plane.crash(victim), 60)

    waits = first(facts, What.BACK_OFF, victim)
    assert 0 < s(waits, start) <= 1.13
    begun = first(facts, What.CONTAINER_STARTED, victim)
    assert 10 <= s(begun, start) <= 10 + 15 + 2.7
    status = [f for f in facts if f.what is What.POD_STATUS_WRITTEN and f.subject == victim]
    gone, *back = status
    assert s(gone, start) <= 1.2
    returned = next(f for f in back if f.t_ns > begun.t_ns)
    # The first readiness probe is sent when the start is seen; without one the pod is ready then.
    assert 0.01 <= s(returned, begun.t_ns) <= SEEN
    listed = first(facts, What.ENDPOINTS_WRITTEN, after_ns=returned.t_ns)
    assert 0.005 <= s(listed, returned.t_ns) <= 0.05
    assert all(0.025 <= t <= 1.2 for t in nodes_knew(facts, listed))
    assert plane.store.get(victim).status.restarts == 2
    assert endpoints(plane)[victim] == (True, True, False)


@pytest.mark.parametrize("seed", range(6))
def test_ingress_nginx_leaves_a_crashed_pod_within_five_and_a_half_seconds(seed):
    """A.5 and, for a delete, C.3b: the controller's 3.33 s limit and the workers' poll come on top of the informer."""
    ingress = Ingress(Meta("web", "default"), ingress_class="nginx")
    objects = (deployment(), service(), ingress, *made.ingress_controllers([ingress]).objects)
    plane = cluster(*objects, seed=seed)
    nginx = plane.observers[next(name for name in plane.observers if name.startswith("ingress/"))]
    plane.run_until(9 * S + seed * 137_000_000)
    for act, latest in ((lambda p: plane.crash(p), 5.5), (lambda p: plane.delete_pod(p), 4.5)):
        victim = pods(plane, app="product")[0].key
        start, facts = acted(plane, lambda act=act, victim=victim: act(victim), 20)
        left = first(facts, What.ENDPOINTS_WRITTEN, after_ns=start).revision
        knew = next(t for t, revision in nginx.versions if revision >= left)
        assert 0.005 <= (knew - start) / S <= latest


# --- B ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_a_hung_pod_leaves_every_nodes_rules_and_a_pre_stop_is_part_of_its_kill(seed):
    """B: Ready=False after 21 to 31 s, then A.4 and A.5; the liveness kill runs preStop, then SIGTERM, then grace."""
    box = container(readiness=HTTP_READY, liveness=Probe("httpGet", 8080, "/live"), pre_stop_sleep_s=3)
    plane = cluster(deployment(box=box, grace_s=9), service(), seed=seed)
    victim = pods(plane)[0].key
    plane.run_until(5 * S + seed * 613_000_000)
    start, facts = acted(plane, lambda: plane.apps.hang(victim), 90)

    written = first(facts, What.POD_STATUS_WRITTEN, victim)
    assert 21 <= s(written, start) <= 31.1
    sliced = first(facts, What.ENDPOINTS_WRITTEN, after_ns=written.t_ns)
    assert 0.005 <= s(sliced, written.t_ns) <= 0.05
    assert all(0.025 <= t <= 1.2 for t in nodes_knew(facts, sliced))
    gave_up = first(facts, What.PROBE_GAVE_UP, victim)
    assert 21 <= s(gave_up, start) <= 31
    assert 3 <= s(first(facts, What.SIGTERM_SENT, victim), gave_up.t_ns) <= 3.03
    killed = first(facts, What.SIGKILL_SENT, victim)
    assert s(killed, gave_up.t_ns) == 9  # of which preStop took three
    again = first(facts, What.CONTAINER_STARTED, victim)
    assert 0.3 <= s(again, killed.t_ns) <= 1.5 + 1.13, "the first restart is at once"
    assert plane.store.get(victim).status.ready


# --- C ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_a_deleted_pod_is_counted_out_at_once_and_its_entry_goes_last(seed):
    """C.1 and C.5: the replacement does not wait for the old pod, and the object outlives the process."""
    plane = cluster(deployment(box=container(pre_stop_sleep_s=5)), service(), seed=seed)
    victim = pods(plane)[0].key
    start, facts = acted(plane, lambda: plane.delete_pod(victim), 0.2)
    made_now = first(facts, What.POD_CREATED)
    assert s(made_now, start) <= 0.1
    assert len(pods(plane)) == 4  # the terminating one is beyond replicas
    assert plane.store.get(victim).terminating
    facts += plane.run_until(start + 20 * S)
    exited, removed = (first(facts, what, victim) for what in (What.CONTAINER_EXITED, What.POD_REMOVED))
    assert 5.5 <= s(exited, start) <= 5.6
    assert 0.15 <= s(removed, exited.t_ns) <= 2.1
    dropped = first(facts, What.ENDPOINTS_WRITTEN, after_ns=removed.t_ns)
    assert 0.005 <= s(dropped, removed.t_ns) <= 0.05
    assert victim not in endpoints(plane)


@pytest.mark.parametrize("seed", range(4))
def test_when_all_pods_terminate_the_slice_keeps_them_as_serving(seed):
    """C.6: kube-proxy's fallback needs endpoints that serve and terminate, and none that is ready."""
    plane = cluster(deployment(box=container(pre_stop_sleep_s=10)), service(), seed=seed)
    plane.scale(PRODUCT, 0)
    plane.run_until(3 * S)
    assert set(endpoints(plane).values()) == {(False, True, True)}
    plane.run_until(20 * S)
    assert endpoints(plane) == {}


# --- D ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_new_connections_avoid_a_dead_node_within_sixty_seconds(seed):
    """D.3: after Ready=Unknown the slices, then the rules of the nodes that are left."""
    plane = cluster(seed=seed)
    plane.run_until(10 * S)
    start, facts = acted(plane, lambda: plane.machines.power_off("node-2"), 70)
    unknown = first(facts, What.NODE_READY_CHANGED, Key("Node", "", "node-2"))
    assert 39.6 <= s(unknown, start) <= 55.2
    sliced = first(facts, What.ENDPOINTS_WRITTEN, after_ns=unknown.t_ns)
    assert 0 < s(sliced, unknown.t_ns) <= 4
    knew = synced(facts, sliced.revision)
    alive = {name: t for name, t in knew.items() if name.startswith("kube-proxy/")}
    assert set(alive) == NODES - {"kube-proxy/node-2"}
    assert all(40 <= (t - start) / S <= 60 for t in alive.values())


# --- F ------------------------------------------------------------------------------------------------------------


def steps_of_new_pod(facts):
    """The pod that was made, and the facts of its creation, binding, start, status and slice."""
    pod = first(facts, What.POD_CREATED).subject
    created, scheduled, begun = (
        first(facts, what, pod) for what in (What.POD_CREATED, What.POD_SCHEDULED, What.CONTAINER_STARTED)
    )
    written = first(facts, What.POD_STATUS_WRITTEN, pod, after_ns=begun.t_ns)
    listed = first(facts, What.ENDPOINTS_WRITTEN, after_ns=written.t_ns)
    return pod, created, scheduled, begun, written, listed


@pytest.mark.parametrize("seed", range(8))
def test_a_replacement_goes_through_every_step_in_time(seed):
    """F: delete seen, created, bound, sandbox and CNI, start, probe, slice, every node's rules."""
    plane = cluster(deployment(box=container(readiness=HTTP_READY)), service(), seed=seed)
    plane.run_until(3 * S)
    old = pods(plane)[0].key
    start, facts = acted(plane, lambda: plane.delete_pod(old), 20)
    pod, created, scheduled, begun, written, listed = steps_of_new_pod(facts)
    assert 0.003 <= s(created, start) <= 0.06  # watch and sync of the ReplicaSet controller
    assert 0.003 <= s(scheduled, created.t_ns) <= 0.05  # an idle scheduler
    assert 0.405 <= s(begun, scheduled.t_ns) <= 1.53  # kubelet's watch, sandbox and CNI, container
    assert 0.01 <= s(written, begun.t_ns) <= SEEN
    assert 0.005 <= s(listed, written.t_ns) <= 0.05
    assert all(0.025 <= t <= 1.2 for t in nodes_knew(facts, listed))
    assert s(written, start) <= 5  # the pod start SLO
    assert endpoints(plane)[pod] == (True, True, False)


@pytest.mark.parametrize("replicas", [6, 30])
def test_many_pods_are_created_in_batches_that_double(replicas):
    """F: the slow start of manageReplicas, 1, 2, 4, 8, …: each batch waits for the one before."""
    plane = cluster(deployment(1), service())
    plane.run_until(3 * S)
    _, facts = acted(plane, lambda: plane.scale(PRODUCT, replicas + 1), 10)
    at = {}
    for fact in facts:
        if fact.what is What.POD_CREATED:
            at[fact.t_ns] = at.get(fact.t_ns, 0) + 1
    batches = list(at.values())
    whole = [1, 2, 4, 8, 16][: len(batches) - 1]
    assert batches[:-1] == whole
    assert batches[-1] == replicas - sum(whole)


@pytest.mark.parametrize("seed", range(3))
def test_pull_and_init_containers_come_between_the_sandbox_and_the_start(seed):
    """F: the image, then the init containers one after the other, then the container."""
    inits = tuple(container(name=name, image="product-api:v1", ports=()) for name in ("migrate", "warm"))
    delays = Delays().with_overrides({"image_pull_s": 12, "init_container_s": 2})
    plane = cluster(deployment(1, init_containers=inits), service(), seed=seed, delays=delays)
    plane.run_until(3 * S)
    _, facts = acted(plane, lambda: plane.scale(PRODUCT, 2), 60)
    _, _, scheduled, begun, written, _ = steps_of_new_pod(facts)
    pulled = first(facts, What.IMAGE_PULLING)
    assert 0.305 <= s(pulled, scheduled.t_ns) <= 1.03
    relists = 2 * 0.06, 2 * 1.12  # that find the ends of the init containers
    assert 12 + 2 * 2 + relists[0] + 0.1 <= s(begun, pulled.t_ns) <= 12 + 2 * 2 + relists[1] + 0.5
    assert 0.01 <= s(written, begun.t_ns) <= SEEN


def test_a_pod_that_fits_nowhere_stays_pending_until_there_is_room():
    """F: Pending; a pod that ends is an event that lets the scheduler look again."""
    plane = cluster(deployment(3, box=container(requests={"cpu": "5"})), service(), nodes=3)
    plane.run_until(3 * S)
    start, facts = acted(plane, lambda: plane.scale(PRODUCT, 4), 30)
    waiting = first(facts, What.POD_UNSCHEDULABLE)
    assert 0.003 <= s(waiting, start) <= 0.15
    assert not [f for f in facts if f.what is What.POD_SCHEDULED]
    old = next(p for p in pods(plane) if p.status.ready).key
    start, facts = acted(plane, lambda: plane.delete_pod(old), 20)
    removed = first(facts, What.POD_REMOVED, old)
    bound = first(facts, What.POD_SCHEDULED)
    assert 0 <= s(bound, removed.t_ns) <= 11  # back-off of at most 10 s, and the queue's flush


# --- G ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_a_rollout_of_ten_goes_on_by_one_old_for_each_new_available(seed):
    """G: +3 and -2 at once, +2 at once; then every pod that becomes available frees an old one, which runs C."""
    before = deployment(10, box=container(readiness=HTTP_READY))
    plane = cluster(before, service(), seed=seed)
    plane.run_until(3 * S)
    new = replace(before, template=replace(before.template, labels={"app": "product", "v": "2"}))
    start, facts = acted(plane, lambda: plane.apply([new]), 0.35)
    assert sizes(plane) == [5, 8]
    terminating = [p for p in pods(plane) if p.terminating]
    assert len(terminating) == 2
    assert len(ready(plane)) == 8
    facts += plane.run_until(start + 60 * S)

    told = [f for f in facts if f.what in (What.POD_CREATED, What.POD_DELETED, What.POD_STATUS_WRITTEN)]
    new_pods = {f.subject for f in told if f.what is What.POD_CREATED}
    available = created = deleted = 0
    deletions = [f.t_ns for f in told if f.what is What.POD_DELETED]
    for fact in told:
        available += fact.what is What.POD_STATUS_WRITTEN and fact.subject in new_pods and "is ready" in fact.text
        created += fact.what is What.POD_CREATED
        deleted += fact.what is What.POD_DELETED
        assert deleted <= 2 + available, "an old pod goes for each new one that is available"
        # The Deployment counts spec.replicas, so a new pod may come some ms before the old one goes that it stands for.
        going = sum(t_ns <= fact.t_ns + 60_000_000 for t_ns in deletions)
        assert 10 - going + created <= 13, "surge counts what does not terminate"
    assert (available, created, deleted) == (10, 10, 10)
    for gone in (f for f in facts if f.what is What.POD_DELETED):
        sigterm = first(facts, What.SIGTERM_SENT, gone.subject)
        sliced = first(facts, What.ENDPOINTS_WRITTEN, after_ns=gone.t_ns)
        assert 0.015 <= s(sigterm, gone.t_ns) <= 0.06
        assert 0 < s(sliced, gone.t_ns) <= 0.05, "a sync that another change asked for may carry it too"
    assert sizes(plane) == [0, 10]
    assert len(ready(plane, v="2")) == 10


# --- H ------------------------------------------------------------------------------------------------------------


def stepped(seed, replicas, load, **delays):
    """(plane, facts, start): CPU per pod is half of what is requested until `start`, then three times that."""
    hpa = HorizontalPodAutoscaler(
        Meta("product", "default"), target=PRODUCT, max_replicas=20, cpu=CpuTarget(utilization=50)
    )
    box = container(requests={"cpu": "1"}, readiness=HTTP_READY)
    plane = cluster(
        deployment(replicas, box=box), service(), hpa, nodes=4, seed=seed, delays=Delays().with_overrides(delays)
    )
    start = 60 * S + seed * 1_370_000_000
    plane.use_signals(Load(plane.core, load, 3 * load, start, start + 240 * S))
    return plane, plane.run_until(start + 900 * S), start


@pytest.mark.parametrize("seed", range(8))
def test_two_pods_under_three_times_the_load_are_six_in_every_step(seed):
    """H: metric, loop, replicas, F; a window that saw a part of the step asks for less, so a second look may follow."""
    plane, facts, start = stepped(seed, 2, 1.0)
    ups = [f for f in facts if f.what is What.AUTOSCALED and start < f.t_ns < start + 240 * S]
    # A reading of the higher counter: 0 to 20 s; its fetch: 0 to 15 s; the loop: 0 to 15 s.
    assert 0 < s(ups[0], start) <= 50
    previous = 2
    for up in ups:
        size = int(up.detail.split()[2].rstrip(";"))
        assert previous < size <= max(previous + 4, 2 * previous), "at most four more, or twice as many, in 15 s"
        previous = size
    assert previous == 6
    looks = [round(s(b, a.t_ns), 3) for a, b in pairwise(ups)]
    assert all(gap >= 15 and gap % 15 < 0.01 for gap in looks), "the loop's period"
    for up in ups:
        size = int(up.detail.split()[2].rstrip(";"))
        made_now = [f for f in facts if f.what is What.POD_CREATED and up.t_ns <= f.t_ns < up.t_ns + S]
        assert made_now, size
        for created in made_now:
            assert 0.003 <= s(created, up.t_ns) <= 0.3
            begun = first(facts, What.CONTAINER_STARTED, created.subject)
            listed = first(facts, What.ENDPOINTS_WRITTEN, after_ns=begun.t_ns)
            assert 0.4 <= s(begun, created.t_ns) <= 1.7
            assert s(listed, created.t_ns) <= 5
    downs = [f for f in facts if f.what is What.AUTOSCALED and f.t_ns > start + 240 * S]
    assert s(downs[0], start + 240 * S) >= 300
    assert plane.store.get(PRODUCT).replicas == 2


@pytest.mark.parametrize("seed", range(4))
def test_the_autoscalers_removals_come_at_once_and_each_pod_is_drained(seed):
    """H's end: the highest recommendation of 300 s holds; then every removed pod runs C."""
    plane, facts, start = stepped(seed, 2, 1.0)
    gone = [f for f in facts if f.what is What.POD_DELETED]
    assert len(gone) == 4
    assert all(f.t_ns > start + 540 * S for f in gone)
    for deleted in gone:
        assert 0.015 <= s(first(facts, What.SIGTERM_SENT, deleted.subject), deleted.t_ns) <= 0.06
        assert 0.005 <= s(first(facts, What.ENDPOINTS_WRITTEN, after_ns=deleted.t_ns), deleted.t_ns) <= 0.05
    assert len(pods(plane)) == 2


def test_a_pull_comes_on_top_of_the_autoscalers_reaction():
    """H: total 12 to 45 s, + pull + start of the application."""
    _, facts, start = stepped(3, 2, 1.0, image_pull_s=70)
    up = first(facts, What.AUTOSCALED, after_ns=start)
    pods_made = [f.subject for f in facts if f.what is What.POD_CREATED and f.t_ns < start + 240 * S]
    began = [s(first(facts, What.CONTAINER_STARTED, pod), up.t_ns) for pod in pods_made]
    fresh = [t for t in began if t > 60]
    assert fresh, "two of four nodes had no pod, so no image"
    assert min(fresh) >= 70.4


# --- I ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_a_service_over_ready_pods_is_usually_known_with_its_endpoints(seed):
    """I: address in the reply, slice written beside it; one sync carries both unless a kube-proxy was faster."""
    plane = cluster(deployment(), seed=seed)
    plane.run_until(4 * S)
    start, facts = acted(plane, lambda: plane.apply([service()]), 10)
    created, sliced = first(facts, What.APPLIED), first(facts, What.ENDPOINTS_WRITTEN)
    assert created.t_ns == start
    assert plane.store.get(SERVICE).cluster_ip
    assert 0.005 <= s(sliced, start) <= 0.05
    both = nodes_knew(facts, sliced)
    assert all(-0.03 <= t <= 1.2 for t in both)
    # A node whose first sync had the Service alone rejects until its next one.
    alone = [f for f in facts if f.what is What.RULES_SYNCED and created.revision <= f.revision < sliced.revision]
    assert {f.subject.name for f in alone} <= NODES | {"coredns"}
    assert all(s(f, start) <= 0.2 for f in alone)
    knew = [f for f in facts if f.what is What.RULES_SYNCED and f.subject.name == "coredns"]
    assert 0.005 <= s(knew[0], start) <= 0.03


def test_a_slow_scheduler_lets_pods_wait_to_be_bound():
    """The delay scheduler_s is what a pod waits for, beside its watch."""
    plane = cluster(delays=Delays().with_overrides({"scheduler_s": 3}))
    _, facts = acted(plane, lambda: plane.delete_pod(pods(plane)[0].key), 20)
    _, created, scheduled, *_ = steps_of_new_pod(facts)
    assert 3 <= s(scheduled, created.t_ns) <= 3.05
