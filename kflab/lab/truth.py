"""When each server answered, as the engine was told: the ground truth that a lost try is held against.

A *silence* is a stretch in which a server does not take requests, from the change that began it to the one that ended
it; refusing, then being nobody's address, is one silence.
"""

from dataclasses import field

import numpy as np

from kflab.engine.types import Behaviour, Int64Array
from kflab.records import dataclass

OPEN = (1 << 62) - 1
"""End of a silence that has none yet."""


@dataclass(slots=True)
class ServerTruth:
    """Changes of one server's behaviour, ascending."""

    times: list[int] = field(default_factory=list)
    states: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    """Per entry: when the silence it belongs to began; -1 while it listens."""
    ever: bool = False
    """It has listened once."""
    columns: tuple[Int64Array, Int64Array, Int64Array] | None = None
    """The three lists as arrays; None after a change."""

    def add(self, t_ns: int, state: int) -> None:
        """Take in a change; the same behaviour again is none."""
        if self.states and self.states[-1] == state:
            return
        silent = state != Behaviour.LISTENS
        goes_on = silent and self.states and self.states[-1] != Behaviour.LISTENS
        start = (self.starts[-1] if goes_on else t_ns) if silent else -1
        self.ever = self.ever or not silent
        self.times.append(t_ns)
        self.states.append(state)
        self.starts.append(start)
        self.columns = None

    def arrays(self) -> tuple[Int64Array, Int64Array, Int64Array]:
        """(times, states, starts), (n,) int64 each."""
        if self.columns is None:
            self.columns = (
                np.array(self.times, dtype=np.int64),
                np.array(self.states, dtype=np.int64),
                np.array(self.starts, dtype=np.int64),
            )
        return self.columns

    def end_of(self, start_ns: int) -> int:
        """When the silence that began at `start_ns` ended; `OPEN` while it goes on."""
        ends = (t for t, begun in zip(self.times, self.starts, strict=True) if begun == -1 and t > start_ns)
        return next(ends, OPEN)

    def listened_before(self, t_ns: int) -> bool:
        """Whether it answered at any instant before `t_ns` that is still remembered."""
        return any(begun == -1 and t < t_ns for t, begun in zip(self.times, self.starts, strict=True))

    def forget_before(self, t_ns: int) -> None:
        """Drop what was over before `t_ns`, but the last change and whether it ever listened."""
        keep = next((i for i, t in enumerate(self.times) if t > t_ns), len(self.times)) - 1
        # One more: a silence is only told from "never listened" by the entry before it.
        drop = max(0, keep - 1)
        del self.times[:drop], self.states[:drop], self.starts[:drop]
        self.columns = None


class Truth:
    """Every server's changes."""

    def __init__(self) -> None:
        self._servers: dict[int, ServerTruth] = {}

    def add(self, told: list[tuple[int, int, int]]) -> None:
        """Take in (t_ns, server, Behaviour), ascending in time per server."""
        for t_ns, server, state in told:
            self.of(server).add(t_ns, state)

    def of(self, server: int) -> ServerTruth:
        """One server's changes."""
        found = self._servers.get(server)
        if found is None:
            found = self._servers[server] = ServerTruth()
        return found

    def met(self, servers: Int64Array, arrive_ns: Int64Array, end_ns: Int64Array) -> tuple[Int64Array, ...]:
        """What tries met.

        Args:
            servers: Whom each was sent to, (n,); -1 none.
            arrive_ns: When each came there, (n,).
            end_ns: When its caller knew how it ended, (n,).

        Returns:
            (state, silence, later), (n,) int64 each: the `Behaviour` at arrival; when the silence began that explains
            the try, -1 where none does; 1 where that silence began after the arrival, so the request was in hand.
        """
        state = np.full(len(servers), Behaviour.LISTENS, dtype=np.int64)
        silence = np.full(len(servers), -1, dtype=np.int64)
        later = np.zeros(len(servers), dtype=np.int64)
        for server in np.unique(servers[servers >= 0]).tolist():
            mine = np.flatnonzero(servers == server)
            times, states, starts = self.of(server).arrays()
            if not len(times):
                continue
            at = np.searchsorted(times, arrive_ns[mine], side="right") - 1
            known = np.maximum(at, 0)
            state[mine] = np.where(at >= 0, states[known], Behaviour.LISTENS)
            silence[mine] = np.where(at >= 0, starts[known], -1)
            after = at + 1
            listening = state[mine] == Behaviour.LISTENS
            comes = listening & (after < len(times))
            after = np.minimum(after, len(times) - 1)
            comes &= (times[after] <= end_ns[mine]) & (starts[after] >= 0)
            silence[mine] = np.where(comes, starts[after], silence[mine])
            later[mine] = comes
        return state, silence, later

    def forget_before(self, t_ns: int) -> None:
        """Drop what was over before `t_ns`."""
        for one in self._servers.values():
            one.forget_before(t_ns)
