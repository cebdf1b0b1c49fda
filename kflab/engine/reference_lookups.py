"""Lookups and lost SYNs of one request at a time, told as the resolver and the kernel do it.

The other half of the test of `lookups`: packets are drawn one by one from the same words.
"""

from collections.abc import Callable, Sequence

from kflab.draws import Draws
from kflab.engine.lookups import (
    DNS_ATTEMPTS,
    LINEAR_SYN_TIMES_NS,
    SYN_TIMES_NS,
    threshold,
)
from kflab.engine.types import Behaviour, Stream

Meets = Callable[[int, int], tuple[int, int]]
"""(when, draw) -> (a Behaviour, the way there in ns) of the endpoint of kube-dns that a query comes to."""


class Lookup:
    """The questions of one request, asked one after another.

    Args:
        draws: Addressed random numbers.
        stream: Of the request.
        number: Its number.
        answer_ns: How long CoreDNS takes.
        timeout_ns: How long it is waited for.
    """

    def __init__(self, draws: Draws, stream: Stream, number: int, answer_ns: int, timeout_ns: int) -> None:
        self._draws, self._stream, self._number = draws, stream, number
        self._answer_ns, self._timeout_ns = answer_ns, timeout_ns
        self._turn = 0
        self._attempt = 0
        self.known = 0

    def ask(self, t_ns: int, meets: Meets) -> int:
        """Ask once at `t_ns`; return when the resolver goes on."""
        words = self._draws.block(self._stream.index, self._number, 1, (1 << 20) + self._turn)[0].tolist()
        self._turn += 1
        what, way_ns = meets(t_ns, words[1] >> 32)
        if words[0] >> 32 < threshold(self._stream.lost_per_million, 4):
            what = Behaviour.SILENT
        if what == Behaviour.LISTENS:
            self.known, self._attempt = self.known + 1, 0
            return t_ns + 2 * way_ns + self._answer_ns
        self._attempt += 1
        return t_ns + (2 * way_ns if what == Behaviour.REFUSES else self._timeout_ns)

    @property
    def failed(self) -> bool:
        """Whether the resolver has given up."""
        return self._attempt == DNS_ATTEMPTS

    @property
    def done(self) -> bool:
        """Whether every name was answered."""
        return self.known == self._stream.names


def syn_wait_ns(draws: Draws, stream: Stream, number: int) -> int | None:
    """How long after the first SYN the one is sent that arrives and is answered; None: none of those there are."""
    lost = threshold(stream.lost_per_million, 2)
    words: Sequence[int] = draws.block(stream.index, number, 1, (1 << 20) - 1)[0].tolist()
    chances = [part for word in words for part in (word >> 32, word & 0xFFFFFFFF)]
    times = LINEAR_SYN_TIMES_NS if stream.linear_syns else SYN_TIMES_NS
    return next((t for t, chance in zip(times, chances, strict=False) if chance >= lost), None)
