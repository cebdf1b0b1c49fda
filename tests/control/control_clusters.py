"""Small clusters for the control room's tests, and words for reading what happened in them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from kflab.cluster.ipam import Pins
from kflab.control import made
from kflab.control.delays import Delays
from kflab.control.facts import Fact, What
from kflab.control.ground_signals import GroundSignals
from kflab.control.plane import ControlPlane, settle
from kflab.draws import Draws
from kflab.manifest.objects import Key, KubeObject, LabelSelector, Meta
from kflab.manifest.objects_network import EndpointSlice, Service, ServicePort
from kflab.manifest.objects_pods import Container, ContainerPort, Pod, PodSpec, PodTemplate, Probe
from kflab.manifest.objects_workloads import Deployment, RollingUpdate

S = 1_000_000_000
MS = 1_000_000

LABELS = {"app": "product"}
PRODUCT = Key("Deployment", "default", "product")
SERVICE = Key("Service", "default", "product-service")


def container(**fields: object) -> Container:
    return replace(Container("api", "product-api:v1", (ContainerPort(8080),)), **fields)


def deployment(
    replicas: int = 3,
    box: Container | None = None,
    strategy: RollingUpdate | None = None,
    name: str = "product",
    **spec: object,
) -> Deployment:
    labels = {"app": name}
    pods = replace(PodSpec((box or container(),)), **spec)
    return Deployment(
        Meta(name, "default", labels),
        replicas=replicas,
        selector=LabelSelector(labels),
        template=PodTemplate(labels, {}, pods),
        strategy=strategy or RollingUpdate(),
    )


def service(**fields: object) -> Service:
    base = Service(Meta("product-service", "default"), ports=(ServicePort(80, target=8080),), selector=LABELS)
    return replace(base, **fields)


def cluster(
    *objects: KubeObject,
    nodes: int = 3,
    seed: int = 7,
    delays: Delays | None = None,
    pins: Pins | None = None,
    observed: Iterable[Key] = (),
) -> ControlPlane:
    """A settled cluster of `nodes` made nodes."""
    everything = objects or (deployment(), service())
    return settle((*made.nodes(nodes).objects, *everything), Draws(seed), observed, delays, pins)


def pods(plane: ControlPlane, **labels: str) -> list[Pod]:
    found = [p for p in plane.store.of_kind("Pod") if isinstance(p, Pod)]
    return [p for p in found if labels.items() <= p.meta.labels.items()]


def ready(plane: ControlPlane, **labels: str) -> list[Pod]:
    return [p for p in pods(plane, **labels) if p.status.ready and not p.terminating]


def slices(plane: ControlPlane, of: Key = SERVICE) -> list[EndpointSlice]:
    return [s for s in plane.store.of_kind("EndpointSlice") if isinstance(s, EndpointSlice) and s.service == of]


def endpoints(plane: ControlPlane, of: Key = SERVICE) -> dict[Key | None, tuple[bool | None, bool | None, bool | None]]:
    """(ready, serving, terminating) by pod."""
    return {e.target: (e.ready, e.serving, e.terminating) for piece in slices(plane, of) for e in piece.endpoints}


def first(facts: Sequence[Fact], what: What, subject: Key | None = None, after_ns: int = -(10**18)) -> Fact:
    """The first fact of a kind; fails the test when there is none."""
    for fact in facts:
        if fact.what is what and fact.t_ns >= after_ns and (subject is None or fact.subject == subject):
            return fact
    raise AssertionError(f"no {what} {subject or ''} after {after_ns} among {[f.what for f in facts]}")


def times(facts: Iterable[Fact], what: What) -> list[int]:
    return [fact.t_ns for fact in facts if fact.what is what]


HTTP_READY = Probe("httpGet", 8080, "/ready")


class Load(GroundSignals):
    """Every pod uses an equal share of `before` CPUs, from `from_ns` on of `after`, from `until_ns` on of `before`."""

    def __init__(self, core, before, after=None, from_ns=1 << 62, until_ns=1 << 62):
        super().__init__(core)
        self.rates, self.at, self.until = (before, before if after is None else after), from_ns, until_ns
        self.used, self.seen = {}, {}

    def cpu_used(self, pod, t_ns):
        since = self.seen.get(pod, max(0, self._core.store.get(pod).meta.creation_ns))
        low, high = max(since, self.at), min(t_ns, self.until)
        busy = (t_ns - since) * self.rates[0] + max(0, high - low) * (self.rates[1] - self.rates[0])
        ready = sum(p.status.ready for p in self._core.store.of_kind("Pod"))
        self.used[pod] = self.used.get(pod, 0) + int(busy / max(1, ready))
        self.seen[pod] = t_ns
        return self.used[pod]
