"""Load balancers that take turns, from their targets in service to the engine's memory of turns."""

from collections.abc import Mapping
from dataclasses import field

from kflab.engine.engine import Engine
from kflab.engine.schedulers import Scheduler
from kflab.manifest.objects import Key
from kflab.records import dataclass


@dataclass(slots=True)
class _Listener:
    index: int
    virtual: dict[str, int] = field(default_factory=dict)
    """Zone → its virtual server in the engine."""
    targets: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Zone → targets, as the engine was told last."""


class BalancerTurns:
    """The listeners whose turns traffic takes.

    Args:
        engine: Has their memory.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._listeners: dict[tuple[Key, int], _Listener] = {}

    def of(self, balancer: Key, port: int, targets: Mapping[str, tuple[int, ...]], t_ns: int) -> int:
        """Let a listener of a load balancer send to these targets from `t_ns` on, in turn within each zone.

        Args:
            balancer: Its Service.
            port: The listener's.
            targets: Zone → places in service, in order of registration.
            t_ns: From when.

        Returns:
            Its index in the engine.
        """
        known = self._listeners.get((balancer, port))
        if known is None:
            known = self._listeners[balancer, port] = _Listener(self._engine.add_zoned_turns())
        for zone in sorted({*known.targets, *targets}):
            places = targets.get(zone, ())
            if known.targets.get(zone) == places:
                continue
            if zone not in known.virtual:
                known.virtual[zone] = self._engine.add_virtual_server(graceful=False)
            virtual = known.virtual[zone]
            for place in places:
                self._engine.put_in_zone(known.index, place, virtual)
            # The one added last stands first in a virtual server's list.
            self._engine.list_destinations(virtual, t_ns, Scheduler.RR, places[::-1])
            known.targets[zone] = places
        return known.index
