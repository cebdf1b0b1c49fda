"""metrics-server: how old the CPU figures are that a HorizontalPodAutoscaler sees.

cAdvisor in the kubelet reads a container's CPU counter every 10 s × (1 + U(0, 1)); metrics-server fetches each
kubelet's latest readings every 15 s; usage is the difference of the last two it got. A container's first usage is there
once it is read 10 to 15 s after its start, else with its second reading.

Source: google/cadvisor manager/container.go (nextHousekeepingInterval, jitter), k8s.io/kubernetes
pkg/kubelet/cadvisor/cadvisor_linux.go (defaultHousekeepingInterval 10 s), sigs.k8s.io/metrics-server pkg/storage/pod.go
(Store, freshContainerMinMetricsResolution) and manifests/base/deployment.yaml (--metric-resolution=15s).

Simplified: a pod's containers are read as one; quiet containers are read as often as busy ones; a fetch takes no time;
metrics-server always runs. Pods that were there at t = 0 are taken to have been read at t = 0. Only pods of workloads
that an HPA scales are read, and nothing happens in a cluster without HPA.
"""

from collections.abc import Iterator
from typing import ClassVar

from kflab.cluster.store import Change
from kflab.control.core import Controller, Core
from kflab.control.heap import Event, KubeletEvent
from kflab.control.hpa_calculator import PodUsage
from kflab.control.runtime import PodRuntime
from kflab.manifest.app_annotations import startup_cpu
from kflab.manifest.objects import Key, LabelSelector
from kflab.manifest.objects_autoscaler import HorizontalPodAutoscaler
from kflab.manifest.objects_pods import Pod
from kflab.manifest.objects_workloads import Deployment, ReplicaSet, StatefulSet
from kflab.records import dataclass

Scaled = Deployment | ReplicaSet | StatefulSet
"""Workloads that have a scale subresource."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A CPU counter, read."""

    t_ns: int
    used_ns: int
    started_ns: int
    """Start of the container that it counts for."""


@dataclass(frozen=True, slots=True)
class ReadCounter(KubeletEvent):
    """cAdvisor reads a pod's CPU counter."""

    room: ClassVar[str] = "podmetrics"
    key: Key
    number: int
    """Which series of readings of this pod."""


@dataclass(frozen=True, slots=True)
class Fetch(Event):
    """metrics-server fetches every kubelet's readings."""

    room: ClassVar[str] = "podmetrics"


class PodMetrics(Controller):
    """What the metrics API answers."""

    room = "podmetrics"
    kinds = ("HorizontalPodAutoscaler", "Pod")
    pods_gone = True

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._fetching = False
        self._reading: dict[Key, int] = {}
        """Pod whose counter is read → number of the series of readings."""
        self._latest: dict[Key, Reading] = {}
        """What cAdvisor read last."""
        self._last: dict[Key, Reading] = {}
        self._before: dict[Key, Reading] = {}
        """What metrics-server fetched last, and the reading before that one."""

    def changed(self, change: Change) -> None:
        """An HPA came, or a pod is gone."""
        if change.key.kind == "HorizontalPodAutoscaler":
            if change.old is None:
                self._begin()
        elif self._fetching and change.new is None:
            for memory in (self._reading, self._latest, self._last, self._before):
                memory.pop(change.key, None)

    def ground_changed(self, key: Key) -> None:
        """A container of a pod that an HPA's workload selects started: cAdvisor begins to read its counter."""
        if not self._fetching or self.core.quiet:
            return
        ground = self.core.runtime.get(key)
        if ground is None or ground.started_ns != self.core.now_ns:
            return
        pod = self.core.store.get(key)
        if isinstance(pod, Pod) and any(
            selector.matches(pod.meta.labels) for selector in self._selectors(key.namespace)
        ):
            self._watch(key, 0)

    def _begin(self) -> None:
        if not self._fetching:
            self._fetching = True
            period = max(1, self.core.spans["metrics_scrape_s"][0])
            phase = self.core.draws.control_between("metrics-phase", "", 0, 0, period)
            now = max(self.core.now_ns, 0)
            self.core.push_at(now + (phase - now) % period, Fetch())
        if not self.core.quiet:
            self._watch_all()

    def settled(self) -> None:
        """It is t = 0: pods that are there were read just now."""
        if self._fetching:
            self._watch_all()
            for key in self._reading:
                self._latest[key] = self._last[key] = self._counter(key, self.core.runtime[key])

    def _watch_all(self) -> None:
        for obj in self.core.store.of_kind("HorizontalPodAutoscaler"):
            workload = scaled_by(self.core, obj) if isinstance(obj, HorizontalPodAutoscaler) else None
            for pod in pods_of(self.core, workload) if workload is not None else ():
                ground = self.core.runtime.get(pod.key)
                if pod.key not in self._reading and ground is not None and ground.up:
                    self._watch(pod.key, self.core.delay("cpu_reading_s", pod.key))

    def _selectors(self, namespace: str) -> Iterator[LabelSelector]:
        for obj in self.core.store.of_kind("HorizontalPodAutoscaler", namespace):
            workload = scaled_by(self.core, obj) if isinstance(obj, HorizontalPodAutoscaler) else None
            if workload is not None:
                yield workload.selector

    def _watch(self, key: Key, delay_ns: int) -> None:
        """Begin to read a pod's counter; what was due for it before counts no more."""
        self._reading[key] = self._reading.get(key, 0) + 1
        self.core.push(delay_ns, ReadCounter(self.core.runtime[key].node, key, self._reading[key]))

    def handle(self, event: Event) -> None:
        """Read a counter, or fetch what was read."""
        if isinstance(event, ReadCounter):
            self._read(event)
            return
        if not self.core.store.count("HorizontalPodAutoscaler"):
            self._fetching = False
            for memory in (self._reading, self._latest, self._last, self._before):
                memory.clear()
            return
        self._fetch()
        self.core.push(max(1, self.core.spans["metrics_scrape_s"][0]), Fetch())

    def _read(self, event: ReadCounter) -> None:
        key = event.key
        if self._reading.get(key) != event.number:
            return
        ground = self.core.runtime.get(key)
        if ground is None or not ground.up:
            del self._reading[key]
            self._latest.pop(key, None)
            return
        self._latest[key] = self._counter(key, ground)
        self.core.push(self.core.delay("cpu_reading_s", key), event)

    def _counter(self, key: Key, ground: PodRuntime) -> Reading:
        """What the pod's CPU counter shows now."""
        assert self.core.signals is not None
        now, started = self.core.now_ns, ground.started_ns or 0
        used = self.core.signals.cpu_used(key, now)
        pod = self.core.store.get(key)
        if isinstance(pod, Pod):
            cores_milli, lasts_ns = startup_cpu(pod.meta.annotations)
            used += min(now - started, lasts_ns) * cores_milli // 1000
        return Reading(now, used, started)

    def _fetch(self) -> None:
        """Keep the readings of every kubelet that answers (pod.go, Store)."""
        last, before = self._last, self._before
        fresh, scrape = self.core.spans["metrics_fresh_s"][0], self.core.spans["metrics_scrape_s"][0]
        self._last, self._before = {}, {}
        for key, reading in self._latest.items():
            ground = self.core.runtime.get(key)
            if ground is None or not self.core.reachable(ground.node) or f"kubelet/{ground.node}" in self.core.stopped:
                continue
            self._last[key] = reading
            age = reading.t_ns - reading.started_ns
            old = last.get(key)
            if fresh <= age < scrape and ground.containers[0].starts == 1:
                self._before[key] = Reading(reading.started_ns, 0, reading.started_ns)
            elif old is not None and reading.started_ns < max(old.t_ns, 1):
                if reading.t_ns > old.t_ns:
                    self._before[key] = old
                elif key in before:
                    self._before[key] = before[key]

    def usage(self, pods: list[Pod]) -> dict[str, PodUsage]:
        """Name → usage of those pods of which it is known."""
        found = {}
        for pod in pods:
            old, new = self._before.get(pod.key), self._last.get(pod.key)
            if old is not None and new is not None:
                window = new.t_ns - old.t_ns
                # metrics-server divides by the window; the HPA rounds up to thousandths (MilliValue).
                milli = -(-max(0, new.used_ns - old.used_ns) * 1000 // window)
                found[pod.meta.name] = PodUsage(new.t_ns, window, milli)
        return found

    def warming(self, pods: list[Pod]) -> bool:
        """Whether a pod that was there at t = 0 has not been read since."""
        return any(
            pod.key not in self._before and (at := self._last.get(pod.key)) is not None and at.t_ns == 0 for pod in pods
        )


def scaled_by(core: Core, hpa: HorizontalPodAutoscaler) -> Scaled | None:
    """The workload that an HPA scales, if it is one that has replicas."""
    group, _, _ = hpa.target_version.rpartition("/")
    workload = core.store.get(hpa.target)
    return workload if isinstance(workload, Scaled) and group == "apps" else None


def pods_of(core: Core, workload: Scaled) -> list[Pod]:
    """Pods that match the workload's selector, whoever owns them: what its scale subresource says counts."""
    keys = core.index.pods_matching(workload.meta.namespace, workload.selector)
    found = [pod for key in keys if isinstance(pod := core.store.get(key), Pod)]
    return [pod for pod in found if workload.selector.matches(pod.meta.labels)]
