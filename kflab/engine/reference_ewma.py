"""The reference's scores of NGINX's peers: in plain floats, as ewma.lua has them."""

from collections.abc import Collection
from dataclasses import field
from math import exp

from kflab.engine.types import Fan
from kflab.records import dataclass

DECAY_S = 10.0


@dataclass(slots=True)
class PlainScores:
    """The dictionaries of one ingress pod: seconds, and when they were set."""

    ewma: dict[int, float] = field(default_factory=dict)
    touched_s: dict[int, float] = field(default_factory=dict)
    synced: dict[int, int] = field(default_factory=dict)
    """Chooser → which of its fans it has."""

    def score(self, server: int, now_s: float) -> float:
        return self.ewma.get(server, 0.0) * exp(-(now_s - self.touched_s.get(server, 0.0)) / DECAY_S)

    def update(self, server: int, took_s: float, now_s: float) -> None:
        since = self.touched_s.get(server, float("-inf"))
        part = exp(-(now_s - since) / DECAY_S)
        self.ewma[server] = self.ewma.get(server, 0.0) * part + took_s * (1 - part)
        self.touched_s[server] = now_s

    def next_sync_ns(self, chooser: int, fans: list[tuple[int, Fan]]) -> float:
        """When a chooser is to have other peers than it has."""
        place = self.synced.setdefault(chooser, 0) + 1
        return fans[place][0] if place < len(fans) else float("inf")

    def sync(self, chooser: int, fans: list[tuple[int, Fan]]) -> None:
        """Let a chooser have its next peers."""
        old = fans[self.synced[chooser]][1].candidates
        self.synced[chooser] += 1
        since_ns, fan = fans[self.synced[chooser]]
        if not old or not fan.candidates:
            return
        for server in [server for server in old if server not in fan.candidates]:
            self.ewma.pop(server, None)
            self.touched_s.pop(server, None)
        known = [self.ewma[server] for server in fan.candidates if server in self.ewma]
        for server in fan.candidates:
            if known and server not in old:
                self.ewma[server], self.touched_s[server] = sum(known) / len(known), since_ns // 1_000_000 / 1000

    def pick(self, peers: list[int], tried: Collection[int], u32: int, t_ns: int) -> int:
        now_s = t_ns // 1_000_000 / 1000
        left = [server for server in peers if server not in tried] or list(peers)
        if len(left) == 1:
            return left[0]
        number = u32 * len(left) * (len(left) - 1) >> 32
        for place, other in enumerate((number // (len(left) - 1), 1 + number % (len(left) - 1))):
            left[place], left[other] = left[other], left[place]
        return min(left[:2], key=lambda server: self.score(server, now_s))
