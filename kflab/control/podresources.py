"""What a pod requests of a node's resources, in whole units: milli-CPUs, bytes, pods.

Source: k8s.io/component-helpers resource/helpers.go (PodRequests, AggregateContainerRequests: containers and sidecars
run together, an init container beside the sidecars started before it; the larger of both, and the overhead);
k8s.io/apimachinery pkg/api/resource/quantity.go; k8s.io/kubernetes pkg/apis/core/v1/defaults.go (SetDefaults_Pod: a
limit stands for a missing request). Resources of the whole pod (spec.resources) are not looked at.
"""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import lru_cache
from math import ceil

from kflab.manifest.objects_pods import Container, PodSpec
from kflab.records import dataclass

RESOURCES = ("cpu", "memory")
"""Resources that are counted; of others, as of GPUs and ephemeral storage, nodes have enough here."""

UNASKED = (100, 200 * 1024 * 1024)
"""What scores count for a container without requests: 0.1 CPU, 200 MiB (k/k pkg/scheduler/util/pod_resources.go)."""

_SUFFIXES = {
    "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "": Fraction(1),
    **{letter: Fraction(1000**n) for n, letter in enumerate("kMGTPE", 1)},
    **{f"{letter}i": Fraction(1024**n) for n, letter in enumerate("KMGTPE", 1)},
}  # fmt: skip


@lru_cache(maxsize=4096)
def amount(resource: str, quantity: str) -> int:
    """A quantity in whole units, rounded up: CPUs in thousandths, anything else as it is; never below 0."""
    number = quantity.rstrip("numkKMGTPEi")
    scale = _SUFFIXES[quantity[len(number) :]] * (1000 if resource == "cpu" else 1)
    return max(0, ceil(Fraction(number) * scale))


def shown(resource: str, units: int) -> str:
    """Whole units as a short quantity: 1500 of cpu is 1500m, 2147483648 of memory 2Gi."""
    if resource == "cpu":
        return f"{units}m" if units % 1000 else str(units // 1000)
    for n, letter in ((3, "Gi"), (2, "Mi"), (1, "Ki")):
        if units and units % 1024**n == 0:
            return f"{units // 1024**n}{letter}"
    return str(units)


@dataclass(frozen=True, slots=True)
class Requests:
    """A pod's part of a node: (milli-CPUs, bytes of memory)."""

    asked: tuple[int, int] = (0, 0)
    """For the filter and the balance."""
    counted: tuple[int, int] = (0, 0)
    """For LeastAllocated: containers that ask for nothing count as `UNASKED`."""


@lru_cache(maxsize=64)
def _nothing(containers: int) -> Requests:
    return Requests((0, 0), (containers * UNASKED[0], containers * UNASKED[1]))


def requests_of(spec: PodSpec) -> Requests:
    """What the scheduler counts for a pod."""
    if spec.overhead or spec.init_containers:
        return Requests(_total(spec, (0, 0)), _total(spec, UNASKED))
    for container in spec.containers:
        if container.requests or container.limits:
            return Requests(_total(spec, (0, 0)), _total(spec, UNASKED))
    return _nothing(len(spec.containers))


def _total(spec: PodSpec, unasked: tuple[int, int]) -> tuple[int, int]:
    together, largest = [0, 0], [0, 0]
    for container in spec.init_containers:
        own = _of(container, unasked)
        for i in range(2):
            if container.restart_policy == "Always":
                together[i] += own[i]
                largest[i] = max(largest[i], together[i])
            else:
                largest[i] = max(largest[i], together[i] + own[i])
    for container in spec.containers:
        own = _of(container, unasked)
        together = [together[0] + own[0], together[1] + own[1]]
    sandbox = _units(dict(spec.overhead), (0, 0))
    return (max(together[0], largest[0]) + sandbox[0], max(together[1], largest[1]) + sandbox[1])


def _of(container: Container, unasked: tuple[int, int]) -> tuple[int, int]:
    asked = container.requests
    return _units({**dict(container.limits), **asked} if container.limits else asked, unasked)


def _units(quantities: Mapping[str, str], unasked: tuple[int, int]) -> tuple[int, int]:
    cpu, memory = (
        amount(name, quantities[name]) if name in quantities else none
        for name, none in zip(RESOURCES, unasked, strict=True)
    )
    return cpu, memory


def asks(specs: Iterable[PodSpec]) -> bool:
    """Whether any of these pods requests CPU or memory."""
    return any(requests_of(spec).asked != (0, 0) for spec in specs)
