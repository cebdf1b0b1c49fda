"""ClientIP affinity of one caller, told as xt_recent does it: a stamp at each endpoint, one connection at a time.

The other half of the property test of `affinity`.
"""

from dataclasses import field

from kflab.records import dataclass


@dataclass(slots=True)
class RecentLists:
    """When the caller was last seen at each endpoint."""

    seconds_ns: int
    stamps: dict[int, int] = field(default_factory=dict)
    changes: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    """(from, endpoints with a chain), ascending."""

    def take(self, t_ns: int, candidates: tuple[int, ...], drawn: int) -> int:
        """Give a connection its server: `--rcheck` at each endpoint in turn, else the draw; then `--set`."""
        while self.changes and self.changes[0][0] <= t_ns:
            listed = self.changes.pop(0)[1]
            self.stamps = {server: stamp for server, stamp in self.stamps.items() if server in listed}
        server = drawn
        for one in candidates:
            if one in self.stamps and not t_ns - self.seconds_ns > self.stamps[one]:
                server = one
                break
        self.stamps[server] = t_ns
        return server
