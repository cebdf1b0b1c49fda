"""HorizontalPodAutoscaler controller: every 15 s, from CPU usage to a number of replicas.

Source: k8s.io/kubernetes pkg/controller/podautoscaler/horizontal.go (reconcileAutoscaler, rate_limiters.go); the
arithmetic is in `hpa_calculator`, the age of the figures in `podmetrics`. An HPA that was there at t = 0 is looked at
at a phase of its own, one that is made later 15 s after it was.

Simplified: other metrics than the pods' CPU scale nothing; a failure is told as an Event when it begins, not at every
look; before pods that were there at t = 0 have been read once the controller does nothing (their figures from before
would be those of the same load).
"""

from dataclasses import replace
from typing import ClassVar

from kflab.cluster.store import Change
from kflab.control.core import Controller, Core, address_of
from kflab.control.delays import SECOND_NS
from kflab.control.facts import What
from kflab.control.heap import Event
from kflab.control.hpa_calculator import (
    NoMetricsError,
    Rules,
    Wanted,
    group,
    limited,
    limited_by_rules,
    stabilised,
    wanted,
)
from kflab.control.podmetrics import PodMetrics, Scaled, pods_of, scaled_by
from kflab.manifest.objects import Key
from kflab.manifest.objects_autoscaler import HorizontalPodAutoscaler, ScalerCondition, ScalerStatus, ScalingRules
from kflab.manifest.objects_pods import Container, Pod
from kflab.manifest.quantities import milli_of
from kflab.records import dataclass

BY = "horizontal-pod-autoscaler"

CPU_METRIC = "cpu resource utilization (percentage of request)"
AVERAGE_METRIC = "cpu resource"

Past = list[tuple[int, int]]
"""(when, number), oldest first."""


@dataclass(frozen=True, slots=True)
class SyncAutoscaler(Event):
    """An HPA is taken from the work queue."""

    room: ClassVar[str] = "hpa"
    needs_api: ClassVar[bool] = True
    key: Key


class HpaController(Controller):
    """Scales workloads."""

    room = "hpa"
    kinds = ("HorizontalPodAutoscaler",)
    component = "controller-manager"

    def __init__(self, core: Core, metrics: PodMetrics) -> None:
        super().__init__(core)
        self._metrics = metrics
        self._looping: dict[Key, None] = {}
        self._recommended: dict[Key, Past] = {}
        self._added: dict[Key, Past] = {}
        self._taken: dict[Key, Past] = {}

    def _period(self) -> int:
        return max(1, self.core.spans["hpa_sync_s"][0])

    def changed(self, change: Change) -> None:
        """A new HPA joins the loop."""
        if change.old is not None or change.key in self._looping:
            return
        self._looping[change.key] = None
        if self.core.quiet:
            phase = self.core.draws.control_between("hpa-phase", address_of(change.key), 0, 0, self._period())
            self.core.push_at(phase, SyncAutoscaler(change.key))
        else:
            self.core.push(self.core.delay("watch_s", change.key) + self._period(), SyncAutoscaler(change.key))

    def restarted(self) -> None:
        """Recommendations and steps were kept in memory only."""
        for memory in (self._recommended, self._added, self._taken):
            memory.clear()

    def handle(self, event: Event) -> None:
        """Look at one HPA."""
        assert isinstance(event, SyncAutoscaler)
        hpa = self.core.store.get(event.key)
        if not isinstance(hpa, HorizontalPodAutoscaler):
            for memory in (self._looping, self._recommended, self._added, self._taken):
                memory.pop(event.key, None)
            return
        self.core.push(self._period(), event)
        workload = scaled_by(self.core, hpa)
        if workload is None:
            kind, name = hpa.target.kind, hpa.target.name
            error = f'{kind.lower()}s.{hpa.target_version.partition("/")[0]} "{name}" not found'
            text = f"the HPA controller was unable to get the target's current scale: {error}"
            status = self._with(hpa.status, "AbleToScale", "False", "FailedGetScale", text)
            self._write(hpa, status, "AbleToScale", error)
        elif not self._metrics.warming(pods_of(self.core, workload)):
            self._reconcile(hpa, workload)

    def _reconcile(self, hpa: HorizontalPodAutoscaler, workload: Scaled) -> None:
        current = workload.replicas
        text = "the HPA controller was able to get the target's current scale"
        status = self._with(hpa.status, "AbleToScale", "True", "SucceededGetScale", text)
        self._recommended.setdefault(hpa.key, [(self.core.now_ns, current)])
        use: Wanted | None = None
        why = ""
        if current == 0 and hpa.min_replicas != 0:
            text = "scaling is disabled since the replica count of the target is zero"
            status = self._with(status, "ScalingActive", "False", "ScalingDisabled", text)
            desired = current
        elif current > hpa.max_replicas:
            desired, why = hpa.max_replicas, "Current number of replicas above Spec.MaxReplicas"
        elif current < hpa.min_replicas:
            desired, why = hpa.min_replicas, "Current number of replicas below Spec.MinReplicas"
        else:
            try:
                use = self._wanted(hpa, workload)
            except NoMetricsError as error:
                text = f"the HPA was unable to compute the replica count: {error}"
                status = self._with(status, "ScalingActive", "False", "FailedGetResourceMetric", text)
                self._write(hpa, replace(status, current_replicas=current), "ScalingActive", str(error))
                return
            metric = AVERAGE_METRIC if use.utilization is None else CPU_METRIC
            text = f"the HPA was able to successfully calculate a replica count from {metric}"
            status = self._with(status, "ScalingActive", "True", "ValidMetricFound", text)
            # Where an earlier recommendation alone decides, upstream's reason is empty.
            above, below = f"{metric} above target", "All metrics below target"
            why = above if use.replicas > current else below if use.replicas < current else ""
            desired, status = self._normalised(hpa, status, current, use.replicas)
        if desired != current:
            self._rescale(hpa, workload, desired, why)
            text = f"the HPA controller was able to update the target scale to {desired}"
            status = self._with(status, "AbleToScale", "True", "SucceededRescale", text)
            status = replace(status, last_scale_ns=self.core.now_ns)
        status = replace(
            status,
            current_replicas=current,
            desired_replicas=desired,
            utilization=use.utilization if use is not None else None,
            average_milli=use.average_milli if use is not None else None,
        )
        self._write(hpa, status)

    def _wanted(self, hpa: HorizontalPodAutoscaler, workload: Scaled) -> Wanted:
        """What the metric asks for.

        Raises:
            NoMetricsError: When it cannot be told.
        """
        if hpa.cpu is None:
            raise NoMetricsError("the lab has none of its metrics")
        span = self.core.spans
        rules = Rules(
            self._tolerance(hpa.up),
            self._tolerance(hpa.down),
            initialization_ns=span["hpa_initialization_s"][0],
            readiness_delay_ns=span["hpa_readiness_delay_s"][0],
        )
        pods = pods_of(self.core, workload)
        usage = self._metrics.usage(pods)
        what = "failed to get cpu utilization: "
        if not usage:
            raise NoMetricsError(
                f"{what}unable to get metrics for resource cpu: no metrics returned from resource metrics API"
            )
        if not pods:
            raise NoMetricsError(f"{what}no pods returned by selector while calculating replica count")
        groups = group(pods, usage, self.core.now_ns, rules)
        requests: dict[str, int] = {}
        try:
            if hpa.cpu.utilization is not None and groups.ready:
                requests = {pod.meta.name: requested(pod) for pod in pods}
            return wanted(workload.replicas, hpa.cpu, groups, usage, requests, rules)
        except NoMetricsError as error:
            raise NoMetricsError(f"{what}{error}") from None

    def _tolerance(self, rules: ScalingRules | None) -> float:
        """Of one direction: the HPA's own or the controller's (horizontal.go, tolerancesForHpa)."""
        own = None if rules is None else rules.tolerance_milli
        return self.core.delays.hpa_tolerance if own is None else own / 1000

    def _normalised(
        self, hpa: HorizontalPodAutoscaler, status: ScalerStatus, current: int, desired: int
    ) -> tuple[int, ScalerStatus]:
        """The recommendation after stabilisation and limits, and the conditions that say so."""
        now, past = self.core.now_ns, self._recommended[hpa.key]
        own_s = self.core.spans["hpa_downscale_window_s"][0] // SECOND_NS
        up_s, down_s = 0, own_s
        if hpa.up is not None and hpa.down is not None:
            up_s = hpa.up.window_s or 0
            down_s = own_s if hpa.down.window_s is None else hpa.down.window_s
        past[:] = [entry for entry in past if entry[0] >= now - max(up_s, down_s) * SECOND_NS]
        if hpa.up is None or hpa.down is None:
            found = max([desired, *(n for _, n in past)])
            words = ("ScaleDownStabilized", "recent recommendations were higher than current one, applying the highest")
            words = (words[0], f"{words[1]} recent recommendation")
            after, limit = limited(current, found, hpa.min_replicas, hpa.max_replicas)
        else:
            found, words = stabilised(current, desired, past, up_s, down_s, now)
            steps = self._added.get(hpa.key, []), self._taken.get(hpa.key, [])
            bounds = hpa.min_replicas, hpa.max_replicas
            after, limit = limited_by_rules(current, found, bounds, (hpa.up, hpa.down), steps, now)
        past.append((now, desired))
        if found == desired:
            words = ("ReadyForNewScale", "recommended size matches current size")
        status = self._with(status, "AbleToScale", "True", *words)
        return after, self._with(status, "ScalingLimited", "False" if after == found else "True", *limit)

    def _rescale(self, hpa: HorizontalPodAutoscaler, workload: Scaled, desired: int, why: str) -> None:
        current, now = workload.replicas, self.core.now_ns
        meta = replace(workload.meta, generation=workload.meta.generation + 1)
        change = self.core.put(replace(workload, meta=meta, replicas=desired), BY)
        if hpa.up is not None and hpa.down is not None:
            memory = self._added if desired > current else self._taken
            rules = hpa.up if desired > current else hpa.down
            longest = max(policy.period_s for policy in rules.policies) * SECOND_NS
            steps = [entry for entry in memory.get(hpa.key, []) if entry[0] >= now - longest]
            memory[hpa.key] = [*steps, (now, abs(desired - current))]
        name = f"{workload.kind} {workload.meta.name}"
        text = f"{hpa.meta.name} scaled {name} from {current} to {desired}: {why or 'an earlier recommendation'}"
        revision = change.revision if change is not None else 0
        detail = f"New size: {desired}; reason: {why}"
        self.core.fact(What.AUTOSCALED, hpa.key, BY, text, revision, detail=detail)

    # --- status ---------------------------------------------------------------------------------------------------

    def _with(self, status: ScalerStatus, kind: str, truth: str, reason: str, message: str) -> ScalerStatus:
        """The status with a condition set; its time is when its truth changed (setConditionInList)."""
        old = next((c for c in status.conditions if c.type == kind), None)
        since = old.since_ns if old is not None and old.status == truth else self.core.now_ns
        new = ScalerCondition(kind, truth, reason, message, since)
        if old is None:
            return replace(status, conditions=(*status.conditions, new))
        return replace(status, conditions=tuple(new if c is old else c for c in status.conditions))

    def _write(self, hpa: HorizontalPodAutoscaler, status: ScalerStatus, failed: str = "", error: str = "") -> None:
        """Write the status where it differs; tell of a failure (of condition `failed`) when it is a new one."""
        if failed:
            now = next(c for c in status.conditions if c.type == failed)
            before = next((c for c in hpa.status.conditions if c.type == failed), None)
            if before is None or (before.reason, before.message) != (now.reason, now.message):
                text = f"{hpa.meta.name} cannot scale: {error}"
                self.core.fact(What.AUTOSCALER_FAILED, hpa.key, BY, text, detail=f"{now.reason}: {error}")
        if status != hpa.status:
            self.core.put(replace(hpa, status=status), BY)


def requested(pod: Pod) -> int:
    """CPU that a pod's containers and sidecars request, thousandths (calculatePodRequests).

    Raises:
        NoMetricsError: When one requests none.
    """
    total = 0
    sidecars = [c for c in pod.spec.init_containers if c.restart_policy == "Always"]
    for container in (*pod.spec.containers, *sidecars):
        milli = _cpu_request(container)
        if milli is None:
            raise NoMetricsError(f"missing request for cpu in container {container.name} of Pod {pod.meta.name}")
        total += milli
    return total


def _cpu_request(container: Container) -> int | None:
    return milli_of(container.requests["cpu"]) if "cpu" in container.requests else None
