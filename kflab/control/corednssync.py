"""CoreDNS: its kubernetes plugin watches Services and EndpointSlices and answers from what it has.

One observer for all CoreDNS pods: their watches differ by milliseconds. Source: coredns
plugin/kubernetes/controller.go; lifecycle 1.7, 4I.
"""

from typing import ClassVar

from kflab.cluster.store import Change
from kflab.control.core import Controller, Core
from kflab.control.facts import What
from kflab.control.heap import Event
from kflab.control.observers import Observer
from kflab.manifest.objects import Key
from kflab.records import dataclass

NAME = "coredns"


@dataclass(frozen=True, slots=True)
class DnsLearned(Event):
    """A watch event is in CoreDNS' index."""

    room: ClassVar[str] = "corednssync"
    revision: int


class CorednsSync(Controller):
    """The cluster's DNS."""

    room = "corednssync"
    kinds = ("Service", "EndpointSlice")

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self.observer = Observer(NAME, NAME)
        core.observers[NAME] = self.observer
        self._last_ns = 0

    def changed(self, change: Change) -> None:
        """Queue what its informers will hear."""
        if self.core.quiet:
            return
        arrival = self.core.now_ns + self.core.delay("coredns_watch_s", NAME)
        if self.core.has_reconnects:
            arrival = max(arrival, self.core.reconnected_ns(NAME))
        self._last_ns = max(self._last_ns, arrival)
        self.core.push_at(self._last_ns, DnsLearned(change.revision))

    def handle(self, event: Event) -> None:
        """Answers are from this revision now."""
        assert isinstance(event, DnsLearned)
        self.observer.learn(self.core.now_ns, event.revision)
        change = next(iter(self.core.store.changes(event.revision - 1)), None)
        about = f"the new state of {change.key}" if change is not None else "a new state"
        self.core.fact(
            What.RULES_SYNCED, Key("Observer", "", NAME), NAME, f"CoreDNS answers from {about}", event.revision
        )

    def finish_settling(self) -> None:
        """It knows everything."""
        self.observer.learn(self.core.now_ns - 1_000_000_000, self.core.store.revision)
