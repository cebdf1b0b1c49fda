"""Pod readiness gates of the AWS Load Balancer Controller: a pod is Ready only when its target is healthy.

In a namespace labelled elbv2.k8s.aws/pod-readiness-gate-inject: enabled the controller's webhook gives each new pod a
gate for every target group of IP targets whose Service selects it; pods that are there already keep what they have.
Whenever the controller reads a target group, it sets that condition by the target's health, and while some pod still
waits it looks again every 15 s. So a rollout goes on when targets are healthy, not when containers are ready.

Sources: kubernetes-sigs/aws-load-balancer-controller docs/deploy/pod_readiness_gate.md; pkg/inject/pod_readiness
Mutate; pkg/targetgroupbinding/resource_manager.go reconcileWithIPTargetType, updateTargetHealthPodConditionForPod,
updatePodAsHealthyForDeletedTGB; pkg/backend/endpoint_resolver.go (which pods it would register later).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Final

from kflab.cluster.store import Change
from kflab.control.alb import target_group_name
from kflab.control.core import Controller, Core
from kflab.control.endpoints import target_port
from kflab.control.heap import Event
from kflab.control.lbtargets import endpoints_of
from kflab.control.loadbalancers import LoadBalancer, Target
from kflab.control.podconditions import set_conditions
from kflab.manifest.objects import Key
from kflab.manifest.objects_network import Service
from kflab.manifest.objects_pods import Pod
from kflab.records import dataclass
from kflab.replacing import replace

if TYPE_CHECKING:
    from kflab.control.albsync import AlbSync
    from kflab.control.lbsync import LbSync

LABEL: Final = "elbv2.k8s.aws/pod-readiness-gate-inject"
PREFIX: Final = "target-health.elbv2.k8s.aws/"
BY: Final = "aws-load-balancer-controller"

_REGISTERING = ("False", "Elb.RegistrationInProgress", "Target registration is in progress")
_INITIAL = ("False", "Elb.InitialHealthChecking", "Initial health checks in progress")
_UNHEALTHY = ("False", "Target.FailedHealthChecks", "Health checks failed")
_HEALTHY = ("True", "", "")
_DELETED = ("True", "", "Target Group Binding is deleted")
"""(status, reason, message) of the condition: elasticloadbalancingv2 TargetHealth, and resource_manager.go."""


def gates_of(service: Service) -> tuple[str, ...]:
    """Condition types of the target groups of a Service of type LoadBalancer, one for each port."""
    space, name = service.meta.namespace, service.meta.name
    return tuple(
        f"{PREFIX}{target_group_name(space, name, space, name, str(port.port), 'ip')}" for port in service.ports
    )


def gate_of(group: Key) -> str:
    """Condition type of a TargetGroupBinding."""
    return f"{PREFIX}{group.name}"


def report(core: Core, balancer: LoadBalancer, known: frozenset[str]) -> bool:
    """Set the conditions of pods with this load balancer's gates, by the health of their targets.

    Args:
        core: The control plane.
        balancer: Whose targets were just read.
        known: Targets that were registered before.

    Returns:
        Whether some pod still waits for its gate, so that the controller looks again.
    """
    if not balancer.gates:
        return False
    waiting = False
    for target in balancer.targets.values():
        pod = core.store.get(target.pod) if target.pod is not None else None
        if isinstance(pod, Pod) and not target.draining and _own(pod, balancer):
            said = _said(target, target.name in known)
            _set(core, pod, _own(pod, balancer), said)
            waiting = waiting or said[0] != "True"
    return waiting or any(True for _ in _later(core, balancer))


def released(core: Core, balancer: LoadBalancer) -> None:
    """The target group is gone: pods do not wait for it any more."""
    if balancer.gates:
        for pod in core.store.of_kind("Pod", balancer.key.namespace):
            if isinstance(pod, Pod) and (own := _own(pod, balancer)):
                _set(core, pod, own, _DELETED)


def _own(pod: Pod, balancer: LoadBalancer) -> tuple[str, ...]:
    return tuple(gate for gate in balancer.gates if gate in pod.spec.readiness_gates)


def _said(target: Target, known: bool) -> tuple[str, str, str]:
    if not known:
        return _REGISTERING
    return _HEALTHY if target.healthy else _INITIAL if target.initial else _UNHEALTHY


def _later(core: Core, balancer: LoadBalancer) -> Iterator[Pod]:
    """Pods with its gates whose containers are not ready: no slice will tell that they have become so."""
    for _, entry in endpoints_of(core, balancer.service):
        pod = core.store.get(entry.target) if entry.target is not None else None
        if isinstance(pod, Pod) and not pod.status.containers_ready and _own(pod, balancer):
            yield pod


def _set(core: Core, pod: Pod, gates: tuple[str, ...], said: tuple[str, str, str]) -> None:
    set_conditions(core, pod, gates, said, BY, "AWS Load Balancer Controller")


@dataclass(frozen=True, slots=True)
class GateSettles(Event):
    """Before t = 0: the controller has found a pod's target healthy, or not."""

    room: ClassVar[str] = "lbgates"
    key: Key


class TargetGates(Controller):
    """The controller's webhook, and what it has long done by t = 0."""

    room = "lbgates"
    kinds = ("Pod",)

    def __init__(self, core: Core, balancers: "LbSync", albs: "AlbSync") -> None:
        super().__init__(core)
        self._balancers, self._albs = balancers, albs

    def admitted(self, pod: Pod) -> Pod:
        """A pod that is about to be made, with the gates it gets."""
        namespace = self.core.store.get(Key("Namespace", "", pod.meta.namespace))
        if namespace is None or namespace.meta.labels.get(LABEL) != "enabled" or pod.status.pod_ips:
            return pod
        gates = dict.fromkeys(pod.spec.readiness_gates)
        for service, own, _ in self._groups(pod.meta.namespace):
            if service.selector and service.selector.items() <= pod.meta.labels.items():
                gates.update(dict.fromkeys(own))
        if len(gates) == len(pod.spec.readiness_gates):
            return pod
        if self.core.quiet:
            text = f"pods in {pod.meta.namespace} have the readiness gates of the AWS Load Balancer Controller"
            self.core.assume(f"{text}: their load balancer was there before them", "create the pods first")
        return replace(pod, spec=replace(pod.spec, readiness_gates=tuple(gates)))

    def _groups(self, namespace: str) -> Iterator[tuple[Service, tuple[str, ...], int]]:
        """(Service, gates, its port or 0) of every target group of IP targets."""
        for balancer in self._balancers.balancers.values():
            if balancer.gates and balancer.service.namespace == namespace:
                service = self.core.store.get(balancer.service)
                if isinstance(service, Service):
                    yield service, balancer.gates, balancer.port
        if self.core.quiet:  # those of Ingresses are made at the end of settling
            for group in self._albs.wanted_groups():
                service = self.core.store.get(group.service)
                if group.profile.has_gates and isinstance(service, Service) and group.service.namespace == namespace:
                    yield service, (gate_of(group.key),), group.port

    def changed(self, change: Change) -> None:
        """Before t = 0 a pod's containers became ready."""
        pod = change.new
        if not isinstance(pod, Pod) or not pod.spec.readiness_gates:
            return
        if not self.core.quiet or not pod.status.containers_ready:
            return
        if any(gate.startswith(PREFIX) and pod.status.condition(gate) is None for gate in pod.spec.readiness_gates):
            self.core.push(self.core.delay("lb_target_s", pod.key), GateSettles(pod.key))

    def handle(self, event: Event) -> None:
        """Say whether the pod's target is healthy."""
        assert isinstance(event, GateSettles)
        pod, ground = self.core.store.get(event.key), self.core.runtime.get(event.key)
        if not isinstance(pod, Pod) or ground is None:
            return
        for service, gates, port in self._groups(pod.meta.namespace):
            own = tuple(gate for gate in gates if gate in pod.spec.readiness_gates)
            if own:
                answers = port_answers(service, pod, port, ground.listening)
                _set(self.core, self._fresh(pod), own, _HEALTHY if answers else _UNHEALTHY)

    def _fresh(self, pod: Pod) -> Pod:
        found = self.core.store.get(pod.key)
        assert isinstance(found, Pod)
        return found


def port_answers(service: Service, pod: Pod, port: int, listening: tuple[tuple[str, int], ...]) -> bool:
    """Whether a pod listens on the target of a Service's port (0: of its first)."""
    wanted = next((each for each in service.ports if port in (0, each.port)), None)
    number = target_port(wanted, pod) if wanted is not None else None
    return number is not None and ("TCP", number) in listening
