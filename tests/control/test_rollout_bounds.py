"""A Deployment's bounds hold at every instant, whatever befalls it.

What Kubernetes keeps, and what is checked after every event (k8s.io/kubernetes pkg/controller/deployment/rolling.go,
sync.go):

- Surge. The sizes asked of its ReplicaSets sum up to `replicas` + maxSurge at most, except while a change of
  `replicas` has not reached them all: each says in `deployment.kubernetes.io/desired-replicas` for which it was sized.
  The pods themselves may be more for a moment, because one ReplicaSet creates before another has deleted, and pods
  that are being deleted do not count at all. No ReplicaSet creates a pod beyond the size that it has, or had within
  the last second: a batch that is on its way still arrives.
- Availability. Of pods that are ready and not being deleted there are `replicas` - maxUnavailable at least, less one
  for every pod that something else took since all was well. A change of `replicas` asks for that number only once it
  has been reached: proportional scaling does not look at availability.

All is well when no pod is out of order, every ReplicaSet's status says what is so, and the bound holds.
"""

from dataclasses import replace

from control_clusters import PRODUCT, S, cluster, container, deployment, pods, service
from hypothesis import given, settings
from hypothesis import strategies as st

from kflab.control.rollout import bounds
from kflab.control.set_revisions import DESIRED
from kflab.control.verbs import VERBS
from kflab.errors import KflabError
from kflab.manifest.objects_pods import Pod
from kflab.manifest.objects_workloads import Deployment, ReplicaSet, RollingUpdate

limit = st.one_of(st.integers(0, 3), st.sampled_from(["0%", "25%", "50%", "100%"]))

action = st.one_of(
    st.tuples(st.just("image"), st.integers(1, 4)),
    st.tuples(st.just("scale"), st.integers(0, 12)),
    st.tuples(st.sampled_from(["delete", "force", "exit", "oomKill", "evict"]), st.integers(0, 30)),
    st.tuples(st.sampled_from(["undo", "restart", "pauseRollout", "resumeRollout"]), st.just(0)),
)

story = st.lists(st.tuples(st.integers(0, 9000), action), min_size=1, max_size=8)
"""(ms to wait, what to do then)."""


class Watch:
    """Looks at the Deployment after every event."""

    def __init__(self, plane):
        self.plane = plane
        self.taken = 0
        self.scaled = False
        self.revision = -1

    def sets(self):
        return [rs for rs in self.plane.store.of_kind("ReplicaSet") if isinstance(rs, ReplicaSet)]

    def good(self) -> list[Pod]:
        return [pod for pod in pods(self.plane) if pod.status.ready and not pod.terminating]

    def well(self) -> bool:
        """Nothing is on its way that the controllers do not know of."""
        each = [pod for pod in pods(self.plane) if pod.meta.owner is not None]
        truth = self.plane.runtime
        lying = any(pod.status.ready and not (pod.key in truth and truth[pod.key].up) for pod in each)
        counts = all(
            rs.observed.get("availableReplicas", 0)
            == sum(pod.status.ready and not pod.terminating and pod.meta.owner == rs.key for pod in each)
            for rs in self.sets()
        )
        return counts and not lying and not any(pod.terminating for pod in each)

    def look(self) -> None:
        """Check both bounds; without a write since the last look nothing is different."""
        if self.plane.store.revision == self.revision:
            return
        self.revision = self.plane.store.revision
        wanted = self.plane.store.get(PRODUCT)
        assert isinstance(wanted, Deployment)
        allowed = bounds(wanted)
        running = [rs for rs in self.sets() if rs.replicas > 0]
        asked = sum(rs.replicas for rs in running)
        if all(rs.meta.annotations.get(DESIRED) == str(wanted.replicas) for rs in running):
            assert asked <= wanted.replicas + allowed.surge
        floor = wanted.replicas - allowed.unavailable
        there = len(self.good())
        if there >= floor and self.well():
            self.taken, self.scaled = 0, False
        if not self.scaled:
            assert there >= floor - self.taken


def act(plane, watch, what, number):
    """Do one thing, if it can be done now."""
    wanted = plane.store.get(PRODUCT)
    if what == "image":
        box = container(image=f"product-api:v{number}")
        spec = replace(wanted.template.spec, containers=(box,))
        plane.apply([replace(wanted, template=replace(wanted.template, spec=spec))])
        return
    if what == "scale":
        watch.scaled |= number != wanted.replicas
        plane.scale(PRODUCT, number)
        return
    try:
        if what in ("undo", "restart", "pauseRollout", "resumeRollout"):
            VERBS[what].do(plane, PRODUCT, {})
            return
        there = [pod.key for pod in pods(plane)]
        if not there:
            return
        key = there[number % len(there)]
        if what in ("delete", "force"):
            plane.delete_pod(key, 0 if what == "force" else None)
        else:
            VERBS[what].do(plane, key, {})
        watch.taken += 1
    except KflabError:  # no such revision, paused already, no container runs
        return


@settings(max_examples=60, deadline=None)
@given(replicas=st.integers(1, 8), surge=limit, unavailable=limit, told=story, seed=st.integers(0, 1000))
def test_kills_scales_and_rollouts_in_any_order_keep_the_bounds(replicas, surge, unavailable, told, seed):
    strategy = RollingUpdate(max_surge=surge, max_unavailable=unavailable)
    plane = cluster(deployment(replicas, strategy=strategy), service(), nodes=2, seed=seed)
    watch = Watch(plane)
    for wait_ms, (what, number) in told:
        until = plane.now_ns + wait_ms * 1_000_000
        while (due := plane.next_ns()) is not None and due <= until:
            plane.step()
            watch.look()
        plane.run_until(until)
        act(plane, watch, what, number)
        watch.look()
    if plane.store.get(PRODUCT).paused:
        VERBS["resumeRollout"].do(plane, PRODUCT, {})
    end = plane.now_ns + 900 * S
    while (due := plane.next_ns()) is not None and due <= end:
        plane.step()
        watch.look()
    wanted = plane.store.get(PRODUCT)
    assert len(watch.good()) == len(pods(plane)) == wanted.replicas
    assert {pod.spec.containers[0].image for pod in pods(plane)} <= {wanted.template.spec.containers[0].image}


@settings(max_examples=20, deadline=None)
@given(replicas=st.integers(1, 8), told=story, seed=st.integers(0, 1000))
def test_a_replica_set_never_creates_beyond_its_size(replicas, told, seed):
    plane = cluster(deployment(replicas), service(), nodes=2, seed=seed)
    watch = Watch(plane)
    sizes = {}

    def look():
        now = plane.now_ns
        for rs in watch.sets():
            lately = [(t_ns, size) for t_ns, size in sizes.get(rs.key, ()) if t_ns > now - S][-50:]
            sizes[rs.key] = [*lately, (now, rs.replicas)]
            mine = sum(pod.meta.owner == rs.key and not pod.terminating for pod in pods(plane))
            before, there[rs.key] = there.get(rs.key, 0), mine
            assert mine <= max(before, *(size for _, size in sizes[rs.key]))

    there = {}
    for wait_ms, (what, number) in told:
        until = plane.now_ns + wait_ms * 1_000_000
        while (due := plane.next_ns()) is not None and due <= until:
            plane.step()
            look()
        plane.run_until(until)
        act(plane, watch, what, number)
        look()
