"""Garbage collector: what an object that is gone owned goes too.

Deletes take effect at once here; in reality they pass the collector's queue within milliseconds. It is part of
kube-controller-manager: while that is stopped, orphans stay. Source: k8s.io/kubernetes pkg/controller/garbagecollector.
"""

from typing import ClassVar

from kflab.control.core import Controller, Core
from kflab.control.heap import MANAGER, Event
from kflab.control.pods import mark_deleted
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod
from kflab.records import dataclass

BY = "garbage-collector"


@dataclass(frozen=True, slots=True)
class OwnerGone(Event):
    """An owner was deleted while nobody collected."""

    room: ClassVar[str] = "garbage"
    needs_api: ClassVar[bool] = True
    owner: Key


class GarbageCollector(Controller):
    """Goes on with what waited for it."""

    room = "garbage"
    component = MANAGER

    def handle(self, event: Event) -> None:
        """Collect now, unless the owner is back under its name."""
        assert isinstance(event, OwnerGone)
        if self.core.store.get(event.owner) is None:
            collect(self.core, event.owner)


def collect(core: Core, owner: Key) -> None:
    """Delete what an owner that is gone owned, in order of creation; while nobody does that, later."""
    if core.waits(MANAGER):
        core.push(0, OwnerGone(owner))
        return
    for key in core.index.owned_by(owner):
        obj = core.store.get(key)
        if isinstance(obj, Pod):
            mark_deleted(core, obj, None, BY)
        elif obj is not None:
            core.remove(key, BY)
