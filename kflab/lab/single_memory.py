"""What a single request meets of NGINX's memory: turns of its own, and the scores of pods as they are now.

It moves neither: it loads nobody, and the turns that traffic takes are not its own.
"""

from typing import TYPE_CHECKING

from kflab.dataplane.memory_view import BlankMemory, Scores
from kflab.engine.ewma import unpacked
from kflab.engine.types import Pick
from kflab.lab.choosers import Chooser
from kflab.manifest.objects import Key
from kflab.records import dataclass

if TYPE_CHECKING:
    from kflab.lab.running import Lab


@dataclass(frozen=True, slots=True)
class SingleMemory(BlankMemory):
    """A lab's memory, read for the n-th single request (from 0)."""

    lab: "Lab | None" = None
    number: int = 0
    draws: tuple[int, ...] = ()
    """32 bits for each try."""

    def round_robin(self, ingress: Key, upstream: str, try_number: int) -> int:
        """Place of the pod: the next in turn, or whom the scores give."""
        chooser = self._scored(ingress, upstream)
        if chooser is None:
            return self.number + try_number - 1
        return self._taken(chooser, try_number)[0]

    def scores(self, ingress: Key, upstream: str, try_number: int) -> Scores | None:
        """The scores of now."""
        chooser = self._scored(ingress, upstream)
        found = unpacked(self._taken(chooser, try_number)[1]) if chooser is not None else None
        return Scores(*found) if found else None

    def _scored(self, ingress: Key, upstream: str) -> Chooser | None:
        """The chooser of traffic that goes the same way by scores, if there is any."""
        assert self.lab is not None
        for chooser in self.lab.wiring.choosers:
            service = chooser.service
            if chooser.picker == Pick.EWMA and chooser.pod == ingress and service is not None and chooser.fan:
                if f"{service.namespace}-{service.name}-{chooser.service_port}" == upstream:
                    return chooser
        return None

    def _taken(self, chooser: Chooser, try_number: int) -> tuple[int, int]:
        assert self.lab is not None
        assert chooser.fan is not None
        scores, servers = self.lab.engine.memory.scores, chooser.fan.candidates
        tried, now_ns = set[int](), min(self.lab.t_ns, self.lab.engine.now_ns)
        place = word = 0
        for draw in self.draws[:try_number]:
            place, word = scores.take(chooser.index, servers, tried, draw, now_ns)
            tried.add(servers[place])
        return place, word
