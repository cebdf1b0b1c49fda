"""A virtual server that takes turns, told as the kernel does it: a linked list and a pointer, one connection at a time.

The other half of the property test of `schedulers`; for destinations that are deleted at once, without connections.
"""

from dataclasses import field

from kflab.records import dataclass

HEAD = "head"


@dataclass(slots=True)
class TurnTaker:
    """rr, or wrr, which starts over at each change."""

    starts_over: bool = False
    ring: list[object] = field(default_factory=lambda: [HEAD])
    """The circular list: its head, then the destinations, the last added first."""
    pointer: object = HEAD
    changes: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    """(from, destinations in the order of adding), ascending."""

    def take(self, t_ns: int) -> int:
        """Give a connection at `t_ns` its server."""
        self.write_until(t_ns)
        place = self.ring.index(self.pointer)
        following = [one for one in self.ring[place + 1 :] + self.ring[: place + 1] if one != HEAD]
        self.pointer = following[0]
        assert isinstance(self.pointer, int)
        return self.pointer

    def write_until(self, t_ns: int) -> None:
        """Carry out the changes up to `t_ns`, itself included."""
        while self.changes and self.changes[0][0] <= t_ns:
            self._write(self.changes.pop(0)[1])

    def _write(self, servers: tuple[int, ...]) -> None:
        before = list(self.ring)
        for server in servers:
            if server not in self.ring:
                self.ring.insert(1, server)
        for one in self.ring[1:]:
            if one not in servers:
                if self.pointer == one:
                    self.pointer = self.ring[self.ring.index(one) - 1]
                self.ring.remove(one)
        if self.starts_over and self.ring != before:
            self.pointer = HEAD
