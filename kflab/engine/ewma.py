"""NGINX's `load-balance: ewma`: of two peers drawn, the one that answered sooner of late.

ingress-nginx keeps a score for each peer, ip:port, in dictionaries that all backends of a pod share. When a request is
over, the response time of its last try moves the score of that try's peer, the more the longer nobody was heard of it:
score × w + time × (1 − w), w = exp(−seconds since / 10). A peer is picked by its score as if it had answered at once
just now, score × w: who is left alone becomes more attractive. Of the peers that the request has not tried two are
drawn and the lower score wins. Peers that are new start at the mean of those that have a score; of those that are gone
it is forgotten.

Clocks count milliseconds, as NGINX's do. $upstream_connect_time is added once more by NGINX; a handshake takes no time
of its own here, so it is 0. Of errors on kept connections only the last one counts as tried. Weights are integers of 60
bits: a float's last bit may differ between machines.

Source: kubernetes/ingress-nginx rootfs/etc/nginx/lua/balancer/ewma.lua; balancer.lua (log, sync_backend).
"""

from bisect import insort
from collections.abc import Collection, Sequence
from dataclasses import field
from decimal import Decimal, localcontext
from functools import lru_cache
from typing import Final

from kflab.records import dataclass

DECAY_MS: Final = 10_000
"""ewma.lua, DECAY_TIME."""

_BITS: Final = 60
_ONE: Final = 1 << _BITS
_FINE: Final = 1024
"""Milliseconds that the finer of two tables of weights covers."""
_GUARD: Final = 192
"""Bits with which the tables are made."""
_SCORE_BITS: Final = 32
"""A score is milliseconds × 2³²."""
_MS: Final = 1_000_000
_MOST_US: Final = (1 << 30) - 1
"""Largest score that is written down, and the mark of no second peer."""


@lru_cache(maxsize=1)
def _tables() -> tuple[list[int], list[int]]:
    """Weights after 0, 1, … ms and after 0, 1024, 2048, … ms, in 2⁻⁶⁰, until they are 0."""
    with localcontext() as context:
        context.prec = 80
        step = int((Decimal(-1) / DECAY_MS).exp() * (1 << _GUARD))
    fine, now = [], 1 << _GUARD
    for _ in range(_FINE):
        fine.append(now >> _GUARD - _BITS)
        now = now * step >> _GUARD
    coarse, step, now = [], now, 1 << _GUARD
    while now >> _GUARD - _BITS:
        coarse.append(now >> _GUARD - _BITS)
        now = now * step >> _GUARD
    return fine, coarse


def weight(elapsed_ms: int) -> int:
    """Return exp(−elapsed / 10 s) in 2⁻⁶⁰; 1 where no time has passed."""
    fine, coarse = _tables()
    steps, rest = divmod(max(0, elapsed_ms), _FINE)
    return coarse[steps] * fine[rest] >> _BITS if steps < len(coarse) else 0


def pair(u32: int, n: int) -> tuple[int, int]:
    """Draw two different places of `n`, in order, by 32 random bits: the first two of a shuffle."""
    first, second = divmod(u32 * n * (n - 1) >> 32, n - 1)
    return first, 0 if second + 1 == first else second + 1


@dataclass(slots=True)
class Scores:
    """The dictionaries of all ingress pods, and which peers each chooser has synced."""

    of: dict[int, dict[int, tuple[int, int]]] = field(default_factory=dict)
    """Dictionary → server → (score, when it was last set, ms)."""
    dictionary: dict[int, int] = field(default_factory=dict)
    """Chooser that picks by scores → its dictionary."""
    peers: dict[int, tuple[int, ...]] = field(default_factory=dict)
    coming: list[tuple[int, int, tuple[int, ...]]] = field(default_factory=list)
    """(from_ns, chooser, its peers) not yet synced, ascending."""

    def use(self, chooser: int, dictionary: int, peers: tuple[int, ...]) -> None:
        """Let a chooser with these peers pick by a dictionary's scores; a negative one: no more."""
        self.dictionary.pop(chooser, None)
        self.peers.pop(chooser, None)
        if dictionary >= 0:
            self.dictionary[chooser], self.peers[chooser] = dictionary, peers

    def learn(self, chooser: int, from_ns: int, peers: tuple[int, ...]) -> None:
        """Let a chooser have these peers from `from_ns` on."""
        if chooser in self.dictionary:
            insort(self.coming, (from_ns, chooser, peers), key=lambda each: each[0])

    def forget(self, dictionary: int) -> None:
        """NGINX has ended: its memory is gone."""
        self.of.pop(dictionary, None)

    def take(
        self, chooser: int, servers: Sequence[int], tried: Collection[int], u32: int, t_ns: int
    ) -> tuple[int, int]:
        """Pick a peer for a try that starts now.

        Args:
            chooser: Who picks.
            servers: Its peers.
            tried: Those that the request has tried; where all are, none is left out.
            u32: 32 random bits.
            t_ns: Now.

        Returns:
            Place of the peer, and the scores it was picked by (`packed`).
        """
        self._sync(t_ns)
        known = self.of.get(self.dictionary.get(chooser, -1), {})
        left = [place for place, server in enumerate(servers) if server not in tried] or list(range(len(servers)))
        if len(left) == 1:
            return left[0], packed(_score(known, servers[left[0]], t_ns), None)
        first, second = (left[place] for place in pair(u32, len(left)))
        a, b = _score(known, servers[first], t_ns), _score(known, servers[second], t_ns)
        return (second, packed(b, a)) if b < a else (first, packed(a, b))

    def heard(self, chooser: int, server: int, took_ms: int, t_ns: int) -> None:
        """A request is over now whose last try, at `server`, took so long."""
        self._sync(t_ns)
        if chooser not in self.dictionary:
            return
        known = self.of.setdefault(self.dictionary[chooser], {})
        old, since_ms = known.get(server, (0, None))
        kept = 0 if since_ms is None else weight(t_ns // _MS - since_ms)
        known[server] = (old * kept + (took_ms << _SCORE_BITS) * (_ONE - kept) >> _BITS, t_ns // _MS)

    def _sync(self, t_ns: int) -> None:
        """Let choosers know the peers that they have by now."""
        while self.coming and self.coming[0][0] <= t_ns:
            from_ns, chooser, new = self.coming.pop(0)
            old, known = self.peers.get(chooser, ()), self.of.get(self.dictionary.get(chooser, -1), {})
            if chooser in self.dictionary:
                self.peers[chooser] = new
            if not old or not new:
                continue  # a balancer is made anew: ewma.lua's `new` looks at no scores
            for server in set(old) - set(new):
                known.pop(server, None)
            scores = [known[server][0] for server in new if server in known]
            for server in set(new) - set(old) if scores else ():
                known[server] = (sum(scores) // len(scores), from_ns // _MS)


def _score(known: dict[int, tuple[int, int]], server: int, t_ns: int) -> int:
    score, since_ms = known.get(server, (0, 0))
    return score * weight(t_ns // _MS - since_ms) >> _BITS


def packed(score: int, other: int | None) -> int:
    """Put the score of the peer taken and of the one passed over (None: there was none) into one word, never 0."""
    chosen = min(score * 1000 >> _SCORE_BITS, _MOST_US)
    passed = _MOST_US if other is None else min(other * 1000 >> _SCORE_BITS, _MOST_US - 1)
    return (chosen << 30 | passed) << 1 | 1


def unpacked(word: int) -> tuple[int, int | None] | None:
    """Take `packed` apart: scores in µs; None for 0."""
    if not word:
        return None
    passed = word >> 1 & _MOST_US
    return word >> 31, None if passed == _MOST_US else passed
