"""How a slab's tries are taken: by steps, in order of time (`eventwise`), or with their calls in bulk (`chains`)."""

from kflab.engine import chains
from kflab.engine.calls import calling_rows
from kflab.engine.memory import Col
from kflab.engine.retries_ahead import RetriesAhead
from kflab.engine.steps import Steps
from kflab.engine.types import Pick


class Taking:
    """Chooses for each slab: the same comes of it either way, in more or less time.

    Args:
        steps: The engine's steps.
        slab_ns: Longest slab.
    """

    def __init__(self, steps: Steps, slab_ns: int) -> None:
        self._steps, self._slab_ns = steps, slab_ns
        self.many_calls = False
        """Whether calls between pods came thick enough in the last slab to be taken in bulk."""
        self._bulk_from_ns = 0
        self.calls_changed_ns = 0
        """When what is called for requests was last changed."""
        self._retries = RetriesAhead()

    def in_order(self, now_ns: int, end_ns: int) -> bool:
        """Whether tries must be taken one event after the other (see `eventwise`)."""
        steps, memory = self._steps, self._steps.memory
        if len(steps.in_order) or memory.schedulers.open or steps.choosers.n_scored:
            return True
        lossy = steps.ports is not None or steps.room is not None
        lossy |= steps.neighbours is not None and steps.cut is not None
        in_bulk = not lossy and self._calls_in_bulk()
        paths = steps.paths
        kept = paths.any_keepalive or paths.any_connections
        if memory.n_shared or kept or (paths.calls and not in_bulk):
            return True
        if paths.any_retry and (lossy or self._retries.may_begin(steps, now_ns, end_ns)):
            return True
        if memory.hangs and paths.least_patience < self._slab_ns:
            return True  # a slab's tries at a hanging server are put in order of time when all of them are known
        if not steps.choosers.n_round_robin:
            return False
        servers, failing = steps.choosers.turn_servers()
        return failing or lossy or steps.cut is not None or bool(memory.behaviour[servers].any())

    def _calls_in_bulk(self) -> bool:
        """Whether there are so many calls between pods that `chains` is worth it, and nothing it cannot do.

        It cannot: let connections wait at a server that hangs, pick in turns, let clients give up, solve a slab where a
        hop takes no time.
        """
        steps, memory = self._steps, self._steps.memory
        if not self.many_calls or memory.hangs or memory.n_shared or steps.paths.any_deadline:
            return False
        m, calling = memory.flights.m, calling_rows(memory)
        if (m[Col.START, calling] < self.calls_changed_ns).any():
            return False  # what is called for them has changed while they wait
        at_random = steps.choosers.pick[steps.paths.call_choosers] == Pick.RANDOM
        return bool(at_random.all()) and min(steps.timing.same_node_ns, steps.timing.cross_node_ns) > 0

    def weigh_calls(self, rows: int, rounds: int, now_ns: int, end_ns: int) -> None:
        """Decide how the next slab's requests and calls are taken: the same comes of it, in less time."""
        if rounds:
            self.many_calls = rows >= rounds * chains.WORTH
            self._bulk_from_ns = 0 if self.many_calls else end_ns + chains.AGAIN_NS
        elif end_ns >= self._bulk_from_ns:
            self.many_calls = rows * 1_000_000_000 >= chains.FROM_PER_S * (end_ns - now_ns)
