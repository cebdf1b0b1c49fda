"""HorizontalPodAutoscaler: its CPU target, how fast it may scale, and what it last saw."""

from kflab.manifest.objects import NO_KEY, Key, KubeObject
from kflab.records import dataclass


@dataclass(frozen=True, slots=True)
class CpuTarget:
    """A metric of an HPA: the CPU that its pods use on average. One of the two targets is given."""

    utilization: int | None = None
    """Per cent of what the pods request."""
    average_milli: int | None = None
    """Thousandths of a CPU per pod."""


@dataclass(frozen=True, slots=True)
class ScalingPolicy:
    """At most `value` Pods or Percent in `period_s`."""

    type: str
    value: int
    period_s: int


@dataclass(frozen=True, slots=True)
class ScalingRules:
    """HPAScalingRules of one direction; `select` is Max, Min or Disabled. `window_s` None: the controller's own."""

    policies: tuple[ScalingPolicy, ...]
    window_s: int | None = None
    select: str = "Max"
    tolerance_milli: int | None = None
    """How far use ÷ target may be from 1 in this direction before anything is done, thousandths; None: the
    controller's own."""


@dataclass(frozen=True, slots=True)
class ScalerCondition:
    """One of AbleToScale, ScalingActive, ScalingLimited."""

    type: str
    status: str
    reason: str
    message: str
    since_ns: int = 0


@dataclass(frozen=True, slots=True)
class ScalerStatus:
    """HorizontalPodAutoscalerStatus. Usage is None where no metric was to be had."""

    current_replicas: int = 0
    desired_replicas: int = 0
    utilization: int | None = None
    """Per cent of the requests; only for a target that is one."""
    average_milli: int | None = None
    last_scale_ns: int | None = None
    conditions: tuple[ScalerCondition, ...] = ()


@dataclass(frozen=True, slots=True)
class HorizontalPodAutoscaler(KubeObject):
    """autoscaling/v2 HorizontalPodAutoscaler, as far as it scales by CPU."""

    target: Key = NO_KEY
    """spec.scaleTargetRef."""
    target_version: str = "apps/v1"
    """Its apiVersion."""
    min_replicas: int = 1
    max_replicas: int = 1
    cpu: CpuTarget | None = CpuTarget(utilization=80)
    """None: none of its metrics is the pods' CPU."""
    left_out: tuple[str, ...] = ()
    """Metrics that the lab has not: they scale nothing."""
    up: ScalingRules | None = None
    """None, as `down` then is: no spec.behavior."""
    down: ScalingRules | None = None
    status: ScalerStatus = ScalerStatus()
