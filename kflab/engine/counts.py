"""Counts mode: how many requests went where, without a row for each.

For streams that open a new connection per request the picks are independent, so the numbers at each fork are
multinomial: a chain of binomials whose cost does not depend on how many requests there are. Round robin splits
exactly, the remainder to the next in turn. Within one period the rules and behaviours are constant; queues and times
are not modelled here. Kept connections are not independent: such streams need flows.

For one stream and one period by itself; a running engine counts the draws of flows instead (`counting`).

The samplers are Hörmann's transformed rejections (BTRS: "The generation of binomial random variates", J. Stat. Comput.
Simul. 46, 1993; PTRS: "The transformed rejection method for generating Poisson random variables", Insurance:
Mathematics and Economics 12, 1993), written on addressed 64-bit words. Proposals use IEEE double +, -, ×, ÷ and square
root in Python, acceptance uses `decimal` (correctly rounded logarithms), so that every machine draws the same numbers.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from math import floor, gcd, sqrt

from kflab.draws import Draws
from kflab.engine.step_state import STATUS_OF
from kflab.engine.types import Answer, Behaviour, Fan, Pick, Stream
from kflab.errors import KflabError
from kflab.records import dataclass

_CONTEXT = Context(prec=40)
_SMALL = 10
"""Below this mean the rejection's constants do not hold (Hörmann 1993); the inverse is short there."""

_HALF_LN_TAU = Decimal("0.9189385332046727417803297364056176398614")
"""½ ln 2π."""


class Words:
    """An endless sequence of addressed words for one purpose."""

    def __init__(self, draws: Draws, purpose: str, obj: str) -> None:
        self._source: Iterator[int] = (draws.control_u64(purpose, obj, n) for n in range(1 << 62))

    def unit(self) -> float:
        """Draw a double in (0, 1): 53 bits, never an end."""
        return ((next(self._source) >> 11) + 0.5) / float(1 << 53)

    def unit_decimal(self) -> Decimal:
        """Draw a 64-bit fraction in (0, 1)."""
        return (Decimal(next(self._source)) + Decimal("0.5")) / Decimal(1 << 64)


def _ln_factorial(n: int) -> Decimal:
    """Return ln n! to some 20 digits: exact below 64, Stirling's series above."""
    if n < 64:
        product = 1
        for factor in range(2, n + 1):
            product *= factor
        return Decimal(product).ln()
    x = Decimal(n)
    series = 1 / (12 * x) - 1 / (360 * x**3) + 1 / (1260 * x**5) - 1 / (1680 * x**7)
    return (x + Decimal("0.5")) * x.ln() - x + _HALF_LN_TAU + series


def binomial(words: Words, n: int, p: Fraction) -> int:
    """Draw how many of `n` independent events of chance `p` happen."""
    if n <= 0 or p <= 0:
        return 0
    if p >= 1:
        return n
    if p > Fraction(1, 2):
        return n - binomial(words, n, 1 - p)
    with localcontext(_CONTEXT):
        chance = Decimal(p.numerator) / Decimal(p.denominator)
        odds = chance / (1 - chance)
        if n * p < _SMALL:
            term, k, u = (1 - chance) ** n, 0, words.unit_decimal()
            while u > term and k < n:
                u -= term
                term = term * odds * (n - k) / (k + 1)
                k += 1
            return k
        return _btrs(words, n, float(chance), odds.ln())


def _btrs(words: Words, n: int, p: float, ln_odds: Decimal) -> int:
    spread = sqrt(n * p * (1.0 - p))
    b = 1.15 + 2.53 * spread
    a = -0.0873 + 0.0248 * b + 0.01 * p
    centre = n * p + 0.5
    quick = 0.92 - 4.2 / b
    alpha = (2.83 + 5.1 / b) * spread
    mode = floor((n + 1) * p)
    at_mode = _ln_factorial(mode) + _ln_factorial(n - mode)
    while True:
        u, v = words.unit() - 0.5, words.unit()
        us = 0.5 - abs(u)
        k = floor((2.0 * a / us + b) * u + centre)
        if us >= 0.07 and v <= quick:
            return k
        if not 0 <= k <= n:
            continue
        height = Decimal(v * alpha / (a / (us * us) + b)).ln()
        if height <= at_mode - _ln_factorial(k) - _ln_factorial(n - k) + (k - mode) * ln_odds:
            return k


def poisson(words: Words, mean: Fraction) -> int:
    """Draw how many arrivals a Poisson stream has where `mean` are expected."""
    if mean <= 0:
        return 0
    with localcontext(_CONTEXT):
        exact = Decimal(mean.numerator) / Decimal(mean.denominator)
        if mean < _SMALL:
            term, k, u = (-exact).exp(), 0, words.unit_decimal()
            while u > term and k < 1000:
                u -= term
                k += 1
                term = term * exact / k
            return k
        return _ptrs(words, exact)


def _ptrs(words: Words, mean: Decimal) -> int:
    mu = float(mean)
    b = 0.931 + 2.53 * sqrt(mu)
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    quick = 0.9277 - 3.6224 / (b - 2.0)
    while True:
        u, v = words.unit() - 0.5, words.unit()
        us = 0.5 - abs(u)
        k = floor((2.0 * a / us + b) * u + mu + 0.43)
        if us >= 0.07 and v <= quick:
            return k
        if k < 0 or (us < 0.013 and v > us):
            continue
        height = Decimal(v * inverse_alpha / (a / (us * us) + b)).ln()
        if height <= k * mean.ln() - mean - _ln_factorial(k):
            return k


def multinomial(words: Words, n: int, weights: Sequence[int]) -> tuple[int, ...]:
    """Split `n` events over weights."""
    left, total = n, sum(weights)
    parts: list[int] = []
    for weight in weights:
        part = binomial(words, left, Fraction(weight, total)) if total else 0
        parts.append(part)
        left, total = left - part, total - weight
    return tuple(parts)


def in_turn(n: int, weights: Sequence[int], start: int) -> tuple[int, ...]:
    """Split `n` picks of a round robin that stands at position `start` of its run."""
    divisor = gcd(*weights)
    run = sum(weights) // divisor
    full, rest = divmod(n, run)
    begins = [sum(weights[:place]) // divisor for place in range(len(weights))]
    parts = []
    for begin, weight in zip(begins, weights, strict=True):
        extra = sum((begin + step - start) % run < rest for step in range(weight // divisor))
        parts.append(full * (weight // divisor) + extra)
    return tuple(parts)


@dataclass(slots=True)
class Counts:
    """What became of the requests of one stream in one period."""

    sent: int = 0
    status: dict[int, int] = field(default_factory=dict)
    """Status (as in `types.Finished`) → requests."""
    server_ok: dict[int, int] = field(default_factory=dict)
    server_bad: dict[int, int] = field(default_factory=dict)
    """Server → tries refused or timed out."""
    node: dict[int, int] = field(default_factory=dict)
    ingress: dict[int, int] = field(default_factory=dict)

    def _add(self, table: dict[int, int], key: int, n: int) -> None:
        if n:
            table[key] = table.get(key, 0) + n


def arrivals_between(draws: Draws, stream: Stream, start_ns: int, end_ns: int) -> int:
    """Draw how many requests of a stream start in [start, end)."""
    words = Words(draws, "counts-arrivals", f"{stream.index} {start_ns} {end_ns}")
    return poisson(words, Fraction(stream.rate_rps) * Fraction(end_ns - start_ns, 10**9))


def count(
    draws: Draws,
    stream: Stream,
    n: int,
    fans: Mapping[int, Fan],
    behaviour: Sequence[int],
    picks: Mapping[int, int],
    period: int = 0,
) -> Counts:
    """Count what becomes of `n` requests under constant rules.

    Args:
        draws: Addressed random numbers.
        stream: A stream that opens a new connection per request.
        n: How many requests.
        fans: Chooser → the fan in force; a missing one knows nothing.
        behaviour: Per server.
        picks: Chooser → how it picks; a flow hash over many ports is as good as random here.
        period: Part of the address of every draw: use another one for another span of time.

    Raises:
        KflabError: If the stream keeps connections.
    """
    if stream.keepalive or stream.connections:
        raise KflabError(f"stream {stream.index} keeps connections: its picks are not independent, use flows")
    if stream.names or stream.lost_per_million:
        raise KflabError(f"stream {stream.index} asks DNS or loses packets: use flows")
    return _Counting(draws, stream, fans, behaviour, picks, period).run(n)


class _Counting:
    def __init__(
        self,
        draws: Draws,
        stream: Stream,
        fans: Mapping[int, Fan],
        behaviour: Sequence[int],
        picks: Mapping[int, int],
        period: int,
    ) -> None:
        self.draws, self.stream, self.fans = draws, stream, fans
        self.behaviour, self.picks, self.period = behaviour, picks, period
        self.counts = Counts()

    def _split(self, what: str, chooser: int, n: int) -> tuple[dict[int, int], int]:
        """Split connections over a chooser's candidates; the answer is that of an empty fan."""
        fan = self.fans.get(chooser, Fan(answer=Answer.TIMEOUT)) if chooser >= 0 else Fan(answer=Answer.TIMEOUT)
        if not fan.candidates:
            return {}, fan.answer
        address = f"{self.stream.index} {chooser} {self.period} {what}"
        if self.picks.get(chooser) in (Pick.ROUND_ROBIN, Pick.SCHEDULED):
            run = sum(fan.weights) // gcd(*fan.weights)
            start = self.draws.control_between("counts-turn", address, 0, 0, run)
            parts = in_turn(n, fan.weights, start)
        else:
            parts = multinomial(Words(self.draws, "counts", address), n, fan.weights)
        return dict(zip(fan.candidates, parts, strict=True)), Answer.NONE

    def run(self, n: int) -> Counts:
        stream, counts = self.stream, self.counts
        counts.sent = n
        nodes = {stream.place: n}
        if stream.front_answer:
            counts._add(counts.status, stream.front_answer, n)
            return counts
        if stream.kind in ("l7", "l4"):
            nodes, answer = self._split("lb", stream.lb, n)
            if not nodes:
                counts._add(counts.status, self._status(answer), n)
        for node, at_node in nodes.items():
            counts._add(counts.node, node, at_node)
            chooser = dict(stream.entries).get(node, -1)
            targets, answer = self._split(f"node {node}", chooser, at_node)
            if not targets:
                counts._add(counts.status, self._status(answer), at_node)
            for server, there in targets.items():
                if stream.kind == "l7":
                    self._at_ingress(server, there)
                else:
                    self._at_server(server, there)
        return counts

    def _status(self, answer: int) -> int:
        """What the client is told of an ending: its socket's error, or the code of an HTTP front."""
        return int(STATUS_OF[answer]) if self.stream.http_front else -answer

    def _at_server(self, server: int, n: int) -> None:
        counts, behaviour = self.counts, self.behaviour[server]
        listens = behaviour == Behaviour.LISTENS
        bad = self._status(Answer.REFUSED if behaviour == Behaviour.REFUSES else Answer.TIMEOUT)
        counts._add(counts.server_ok if listens else counts.server_bad, server, n)
        counts._add(counts.status, 200 if listens else bad, n)

    def _at_ingress(self, ingress: int, n: int) -> None:
        counts, stream, behaviour = self.counts, self.stream, self.behaviour[ingress]
        counts._add(counts.ingress, ingress, n)
        if behaviour != Behaviour.LISTENS:
            counts._add(counts.status, -(Answer.TIMEOUT if behaviour == Behaviour.SILENT else Answer.REFUSED), n)
            return
        if stream.no_route:
            counts._add(counts.status, 404, n)
            return
        chooser = dict(stream.upstreams).get(ingress, -1)
        for number in range(1, stream.tries + 1):
            last = number == stream.tries
            targets, answer = self._split(f"ingress {ingress} try {number}", chooser, n)
            if chooser < 0 or answer == Answer.NO_UPSTREAM:
                counts._add(counts.status, 503, n)
                return
            if not targets:
                if last:
                    counts._add(counts.status, 504 if answer == Answer.TIMEOUT else 502, n)
                continue
            n = 0
            for server, there in targets.items():
                if self.behaviour[server] == Behaviour.LISTENS:
                    counts._add(counts.server_ok, server, there)
                    counts._add(counts.status, 200, there)
                    continue
                counts._add(counts.server_bad, server, there)
                # After a read timeout, as of a pod that hangs, only what is idempotent is tried again.
                ends = last or (self.behaviour[server] == Behaviour.HANGS and not stream.idempotent)
                n += 0 if ends else there
                if ends:
                    refused = self.behaviour[server] == Behaviour.REFUSES
                    counts._add(counts.status, 502 if refused else 504, there)


def chi_square_limit(degrees: int, z: float = 4.0) -> float:
    """Return a chi-square value that luck exceeds with the chance of `z` standard deviations (Wilson-Hilferty)."""
    return degrees * (1 - 2 / (9 * degrees) + z * sqrt(2 / (9 * degrees))) ** 3
