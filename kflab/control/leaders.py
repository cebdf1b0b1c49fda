"""Leader election: when a restarted kube-controller-manager or kube-scheduler begins to act again.

A new process does not know how old the lease of the one before is: it waits a whole lease duration (15 s) from when it
first saw it, and tries every 2 s × (1 + U(0, 1.2)). One replica of each is assumed, and no release of the lease at exit
(both are upstream's defaults; k8s.io/client-go tools/leaderelection/leaderelection.go, tryAcquireOrRenew and acquire;
k8s.io/component-base config defaults). A leader that cannot renew for 10 s ends itself, so a longer outage of the API
server or etcd costs an election too. That its static pod may be in CrashLoopBackOff by then is not modelled.
"""

from typing import ClassVar

from kflab.control.core import Controller
from kflab.control.facts import What
from kflab.control.heap import Event
from kflab.manifest.objects import Key
from kflab.records import dataclass

LEADING = ("controller-manager", "scheduler")
"""Components of which only the holder of a lease acts."""


@dataclass(frozen=True, slots=True)
class Leads(Event):
    """A component has got its lease."""

    room: ClassVar[str] = "leaders"
    component: str


class Leaders(Controller):
    """Who leads."""

    room = "leaders"

    def elect(self, component: str) -> None:
        """A new process of a component waits for the lease from now on."""
        wait = self.core.delay("leader_election_s", component)
        self.core.electing[component] = self.core.now_ns + wait
        self.core.push(wait, Leads(component))

    def api_back(self, outage_ns: int) -> None:
        """Nobody could renew a lease for so long: whoever led has ended itself."""
        if outage_ns > self.core.spans["leader_renew_deadline_s"][0]:
            for component in LEADING:
                if component not in self.core.stopped:
                    self.elect(component)

    def handle(self, event: Event) -> None:
        """What waited for a leader goes on; what was held in memory only begins anew."""
        assert isinstance(event, Leads)
        name = event.component
        if self.core.electing.get(name) != self.core.now_ns:
            return  # it was stopped again, or has to wait anew
        del self.core.electing[name]
        text = f"{name} has got its lease and begins to act"
        self.core.fact(What.COMPONENT_STARTED, Key("Component", "", name), name, text)
        for controller in self.core.controllers.values():
            if controller.component == name:
                controller.restarted()
        self.core.release_component(name)
