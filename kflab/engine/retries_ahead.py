"""Whether a client may send a request again within the slab that comes: then its attempts are taken in order of time.

Elsewhere every request of such a client ends well or later than the slab, and the steps take it with all others at
once. What is asked is on the safe side: a server that does not answer is enough, whoever would meet it.
"""

from typing import TYPE_CHECKING

import numpy as np

from kflab.engine.deadlines import deadlines
from kflab.engine.memory import NEVER, Col, Stage
from kflab.engine.types import Behaviour, Int64Array

if TYPE_CHECKING:
    from kflab.engine.paths import Paths
    from kflab.engine.steps import Steps


class RetriesAhead:
    """Looks before each slab; keeps what changes with paths and choosers alone."""

    def __init__(self) -> None:
        self._known: tuple[Paths, int] | None = None
        self._servers: Int64Array = np.zeros(0, dtype=np.int64)
        self._always = True

    def may_begin(self, steps: "Steps", now_ns: int, end_ns: int) -> bool:
        """Whether an attempt of a client that tries again may fail, and be known to have failed, before `end_ns`."""
        if steps.cut is not None or steps.memory.hangs or steps.choosers.n_scheduled:
            return True
        if self._known is None or self._known[0] is not steps.paths or self._known[1] != steps.choosers.changes:
            self._look(steps)
        if self._always or bool((steps.memory.behaviour[self._servers] != Behaviour.LISTENS).any()):
            return True
        paths = steps.paths
        if bool((np.minimum(paths.timeout, paths.attempt_timeout)[paths.retries] < end_ns - now_ns).any()):
            return True
        return self._in_flight(steps, end_ns)

    def _look(self, steps: "Steps") -> None:
        """List every server that such requests may be sent to; and whether some may have none to go to."""
        paths, choosers = steps.paths, steps.choosers
        self._known = paths, choosers.changes
        self._always, servers = False, set()
        for stream in np.flatnonzero(paths.retries).tolist():
            if paths.calling[stream] or paths.no_route[stream] or paths.front_answer[stream]:
                self._always = True
                return
            nodes = self._candidates(steps, int(paths.lb[stream])) if paths.balanced[stream] else {paths.place[stream]}
            for node in nodes:
                found = self._candidates(steps, paths.entries.get_one(stream, int(node)))
                servers |= found
                if paths.is_l7[stream]:
                    for ingress in found:
                        servers |= self._candidates(steps, paths.upstream_of.get((stream, ingress), -1))
            if self._always:
                return
        self._servers = np.array(sorted(servers), dtype=np.int64)

    def _candidates(self, steps: "Steps", chooser: int) -> set[int]:
        """What a chooser lists or will list; where it may list nothing a request may fail at any time."""
        fans = steps.choosers.fans(chooser) if chooser >= 0 else ()
        self._always |= not fans or any(not fan.candidates for fan in fans)
        return {candidate for fan in fans for candidate in fan.candidates}

    @staticmethod
    def _in_flight(steps: "Steps", end_ns: int) -> bool:
        """Whether one that is under way may fail before `end_ns`."""
        m, used, behaviour = steps.memory.flights.m, steps.memory.flights.used, steps.memory.behaviour
        rows = np.flatnonzero(m[Col.DUE, :used] != NEVER)
        rows = rows[steps.paths.retries[m[Col.STREAM, rows]]]
        if not len(rows):
            return False
        over = m[Col.STAGE, rows] == Stage.ANSWER
        bad = over & (m[Col.STATUS, rows] != 200) & (m[Col.DUE, rows] < end_ns)
        last = np.maximum(m[Col.TRIES, rows] - 1, 0)
        for servers in (m[Col.SERVER0 + last, rows], m[Col.INGRESS, rows]):
            bad |= ~over & (servers >= 0) & (behaviour[servers] != Behaviour.LISTENS)
        return bool(bad.any() or (deadlines(steps, rows) < end_ns).any())
