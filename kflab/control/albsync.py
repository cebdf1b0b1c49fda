"""The AWS Load Balancer Controller's Ingresses: Application Load Balancers come, change and go.

The controller itself is taken to run: its pods are not looked at. Source: kubernetes-sigs/aws-load-balancer-controller
controllers/ingress/group_controller.go (a changed Ingress, Service or class builds the group's model anew and deploys
it; then the status of its Ingresses gets the load balancer's name).
"""

from bisect import bisect_right
from dataclasses import field, replace
from typing import ClassVar

from kflab.cluster.checkpoint import Mutable
from kflab.cluster.store import Change
from kflab.control import alb
from kflab.control.alb import AlbModel, TargetGroup
from kflab.control.core import Controller, Core
from kflab.control.facts import What
from kflab.control.heap import Event
from kflab.control.lbsync import LbSync
from kflab.manifest.objects import Key
from kflab.manifest.objects_network import Ingress, IngressClass, LoadBalancerIngress, Service
from kflab.records import dataclass

BY = "aws-load-balancer-controller"


@dataclass(frozen=True, slots=True)
class IngressesRead(Event):
    """The controller builds its models anew and deploys what changed."""

    room: ClassVar[str] = "albsync"
    needs_api: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class AlbMade(Event):
    """AWS has made a load balancer."""

    room: ClassVar[str] = "albsync"
    needs_api: ClassVar[bool] = True
    key: Key


@dataclass(slots=True)
class Alb(Mutable):
    """One Application Load Balancer that is there."""

    key: Key
    hostname: str
    ip: str
    """The A record behind its name."""
    versions: list[tuple[int, AlbModel]] = field(default_factory=list)
    """(since, listeners and rules), ascending."""

    @property
    def model(self) -> AlbModel:
        """As it is now."""
        return self.versions[-1][1]

    def at(self, t_ns: int) -> AlbModel:
        """As it was at an instant."""
        i = bisect_right(self.versions, t_ns, key=lambda version: version[0])
        return self.versions[max(0, i - 1)][1]


class AlbSync(Controller):
    """All Application Load Balancers; their target groups are `LbSync`'s."""

    room = "albsync"
    kinds = ("Ingress", "IngressClass", "Service")

    def __init__(self, core: Core, balancers: LbSync) -> None:
        super().__init__(core)
        self._balancers = balancers
        self.albs: dict[Key, Alb] = {}
        self._ordered: dict[Key, None] = {}
        self._due = False

    def changed(self, change: Change) -> None:
        """What load balancers are made of changed."""
        if self.core.quiet or self._due or not self._concerned(change):
            return
        self._due = True
        self.core.push(self.core.delay("lb_target_s", "alb"), IngressesRead())

    def _concerned(self, change: Change) -> bool:
        old, new = change.old, change.new
        if isinstance(old, Ingress) and isinstance(new, Ingress):
            return replace(old, load_balancer=new.load_balancer) != new
        if isinstance(new or old, Service):
            return any(rule.service == change.key for one in self.albs.values() for rule in one.model.rules)
        return True

    def handle(self, event: Event) -> None:
        """Build the models, or take over what AWS has made."""
        if isinstance(event, AlbMade):
            self._ordered.pop(event.key, None)
            model = next((each for each in self._read() if each.key == event.key and not each.problem), None)
            if model is not None:
                self._deploy(model)
            return
        self._due = False
        models = self._read()
        wanted = {model.key for model in models}
        for key in [key for key in self.albs if key not in wanted]:
            self._remove(self.albs.pop(key))
        for model in models:
            if model.problem:
                text = f"the AWS Load Balancer Controller could not build the model of {model.problem}"
                self.core.fact(What.APPLIED, model.ingresses[0], BY, text)
            elif model.key in self.albs:
                if self.albs[model.key].model != model:
                    self._deploy(model)
            elif model.key not in self._ordered:
                self._ordered[model.key] = None
                self.core.push(self.core.delay("cloud_lb_s", model.key), AlbMade(model.key))

    def _read(self) -> tuple[AlbModel, ...]:
        store = self.core.store
        ingresses = [obj for obj in store.of_kind("Ingress") if isinstance(obj, Ingress)]
        classes = [obj for obj in store.of_kind("IngressClass") if isinstance(obj, IngressClass)]

        def service(key: Key) -> Service | None:
            found = store.get(key)
            return found if isinstance(found, Service) else None

        reading = alb.read(ingresses, classes, service)
        for text in reading.left_out:
            self.core.assume(text, "no other way")
        return reading.models

    def wanted_groups(self) -> tuple[TargetGroup, ...]:
        """Target groups as the Ingresses of now want them, made or not."""
        return tuple(group for model in self._read() if not model.problem for group in model.groups)

    def _deploy(self, model: AlbModel) -> None:
        """Let AWS be as the model says, and the Ingresses tell its name."""
        core = self.core
        known = self.albs.get(model.key)
        if known is None:
            known = self.albs[model.key] = Alb(model.key, self._hostname(model), self._address(model))
        old = {group.key for group in known.model.groups} if known.versions else set()
        known.versions.append((core.now_ns, model))
        for group in model.groups:
            self._balancers.have_group(group.key, group.service, group.port, group.profile, known.hostname, known.ip)
        for key in old - {group.key for group in model.groups}:
            self._balancers.drop(key)
        entry = LoadBalancerIngress(hostname=known.hostname)
        for key in model.ingresses:
            ingress = core.store.get(key)
            if isinstance(ingress, Ingress) and ingress.load_balancer != (entry,):
                core.put(replace(ingress, load_balancer=(entry,)), BY)
        text = f"Application Load Balancer {model.key.name} has {len(model.rules)} rules"
        core.fact(What.APPLIED, model.key, BY, text, core.store.revision)

    def _remove(self, gone: Alb) -> None:
        for group in gone.model.groups:
            self._balancers.drop(group.key)
        text = f"Application Load Balancer {gone.key.name} was deleted"
        self.core.fact(What.APPLIED, gone.key, BY, text, self.core.store.revision)

    def _hostname(self, model: AlbModel) -> str:
        """What a dump's status says, else NAME-ID.REGION.elb.amazonaws.com, "internal-" before an internal one's."""
        for key in model.ingresses:
            ingress = self.core.store.get(key)
            given = ingress.load_balancer if isinstance(ingress, Ingress) else ()
            for entry in given:
                if entry.hostname:
                    return entry.hostname
        number = self.core.draws.control_u64("alb-id", model.key.name, 0) % 10**10
        return f"{'internal-' if model.internal else ''}{model.key.name}-{number}.us-east-1.elb.amazonaws.com"

    def _address(self, model: AlbModel) -> str:
        names = [f"{key.namespace}/{key.name}" for key in model.ingresses]
        pinned = next((ip for name in names if (ip := self.core.pins.lb_ips.get(name, ""))), "")
        return pinned or self.core.addresses.allocate_lb_ip(model.key.name)

    # --- opening --------------------------------------------------------------------------------------------

    def finish_settling(self) -> None:
        """By t = 0 AWS has made everything."""
        for model in self._read():
            if model.problem:
                text = f"the AWS Load Balancer Controller refuses (FailedBuildModel): {model.problem}; there is no ALB"
                self.core.assume(text, "change the Ingress")
                continue
            self._deploy(model)
            for key in model.ingresses:
                self._assume(key, model)

    def _assume(self, key: Key, model: AlbModel) -> None:
        name = f"Ingress {key.namespace}/{key.name}"
        text = f"{name} gets an AWS Application Load Balancer, {model.key.name}: the AWS Load Balancer Controller runs"
        self.core.assume(text, "give it another ingressClassName")
        if model.internal:
            text = f"{name} asks for no internet-facing ALB, so it is internal: clients reach it from inside the VPC"
            self.core.assume(text, "annotation alb.ingress.kubernetes.io/scheme: internet-facing")

    def forget_before(self, t_ns: int) -> None:
        """Drop rules that were replaced before `t_ns`."""
        for known in self.albs.values():
            i = bisect_right(known.versions, t_ns, key=lambda version: version[0])
            del known.versions[: max(0, i - 1)]
