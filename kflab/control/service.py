"""Service controller of the cloud provider, and the API server's clean-up: LoadBalancer status, released addresses.

Source: k8s.io/cloud-provider controllers/service/controller.go; what is published follows the profile (surroundings).
"""

from typing import ClassVar

from kflab.cluster.store import Change
from kflab.control.admission import release_service
from kflab.control.core import Controller, Core
from kflab.control.facts import What
from kflab.control.heap import Event
from kflab.control.surroundings import look_around, published
from kflab.manifest.objects import Key
from kflab.manifest.objects_network import Service
from kflab.records import dataclass
from kflab.replacing import replace

BY = "cloud-controller"


@dataclass(frozen=True, slots=True)
class CloudMade(Event):
    """The cloud has made a Service's load balancer and its controller writes the status."""

    room: ClassVar[str] = "service"
    needs_api: ClassVar[bool] = True
    key: Key


class ServiceController(Controller):
    """Orders load balancers."""

    room = "service"
    kinds = ("Service",)

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._ordered: dict[Key, None] = {}

    def changed(self, change: Change) -> None:
        """A Service wants a load balancer, or is gone."""
        new = change.new
        if isinstance(new, Service):
            if self.core.quiet:
                # Opening gives intended Services their load balancer, and leaves observed ones as they are.
                return
            if new.type == "LoadBalancer" and not new.load_balancer and new.key not in self._ordered:
                self._ordered[new.key] = None
                self.core.push(self.core.delay("cloud_lb_s", new.key), CloudMade(new.key))
        elif isinstance(change.old, Service):
            release_service(self.core, change.old)

    def handle(self, event: Event) -> None:
        """Publish the load balancer's name."""
        assert isinstance(event, CloudMade)
        self._ordered.pop(event.key, None)
        service = self.core.store.get(event.key)
        if not isinstance(service, Service) or service.type != "LoadBalancer" or service.load_balancer:
            return
        look_around(self.core)
        entry = published(self.core, service)
        change = self.core.put(replace(service, load_balancer=(entry,)), BY)
        if change is not None:
            text = f"the cloud made the load balancer of {service.meta.name}: {entry.hostname or entry.ip}"
            self.core.fact(What.APPLIED, event.key, BY, text, change.revision)
