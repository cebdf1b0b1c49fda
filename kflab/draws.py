"""Random numbers with addresses: the one module of kflab that makes them.

Every draw is Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) under a key made
from the seed. The counter is the draw's address, so nothing depends on the order in which draws are asked for:

* traffic: (number of the request, attempt, stream, TRAFFIC) gives four 64-bit words, served as `engine.types.Choice`
  says; attempt 0 is the first try.
* control: (n, 128-bit hash of purpose and object, CONTROL).

Durations go through inverse-CDF tables of 65,536 equally likely values. They are computed with IEEE-754 double
additions, multiplications, divisions and square roots only, each its own numpy call: those are correctly rounded, hence
the same on every machine, unlike numpy's `log` and `exp`.
"""

from functools import cached_property, lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

UInt64Array = NDArray[np.uint64]
Int64Array = NDArray[np.int64]
Float64Array = NDArray[np.float64]

_MASK = (1 << 64) - 1
_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_ROUNDS = 10

_TRAFFIC = 1
_CONTROL = 2
"""Fourth word of the counter: keeps the two families of addresses apart."""

_SCALAR_ROWS = 12
"""Up to this many scattered rows the plain-Python rounds cost less than 250 numpy calls (measured, 15 µs a row)."""

_SMALL_BLOCK = 64
"""Up to this many words are computed without numpy's generator as long as there is none."""

_FOREHANDED = 1000
"""So many control draws one by one cost what importing numpy's generator costs (8 ms; measured, 10 µs each)."""

TABLE_SIZE = 1 << 16
"""Values per duration table; a draw uses the 16 high bits of its word."""

_LN2 = 0.6931471805599453
_Z99 = 2.3263478740408408
"""The 99th percentile of the standard normal distribution."""


class Draws:
    """Addressed draws of one seed. Stateless to the caller: the same question has the same answer for ever.

    Args:
        seed: Any integer; only its value matters.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        digest = blake2b(str(seed).encode(), digest_size=16, person=b"kflab seed").digest()
        self._key = (int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little"))
        self._announced = 0
        self._ahead: tuple[str, str, int, list[int]] = ("", "", 0, [])
        """(purpose, object, n of the first, words) of draws that are about to be asked for."""

    def control_u64(self, purpose: str, obj: str, n: int = 0) -> int:
        """Draw 64 bits for the control plane.

        Args:
            purpose: What the draw decides, e.g. "pod-name".
            obj: The object it is about, e.g. "default/product".
            n: How often this was drawn before for the same purpose and object.
        """
        known_purpose, known_obj, first, words = self._ahead
        if obj == known_obj and purpose == known_purpose and 0 <= n - first < len(words):
            return words[n - first]
        low, high = _control_address(purpose, obj)
        return philox((n & _MASK, low, high, _CONTROL), self._key)[0]

    def look_ahead(self, purpose: str, obj: str, first: int, count: int) -> None:
        """Compute the control draws n = first … first + count - 1 at once, for what two cost one by one.

        It changes no draw, only what the next ones cost. A run that draws little does without.
        """
        self._announced += count
        if self._announced <= _FOREHANDED and "_generator" not in vars(self):
            return
        low, high = _control_address(purpose, obj)
        words = self._blocks(first | low << 64 | high << 128 | _CONTROL << 192, count)
        self._ahead = (purpose, obj, first, words[::4].tolist())

    def control_between(self, purpose: str, obj: str, n: int, low: int, high: int) -> int:
        """Draw an integer with low ≤ x < high (multiply-shift: the bias is below 2⁻⁶⁴ of the range).

        Raises:
            ValueError: If the range is empty; the message gives it.
        """
        if high <= low:
            raise ValueError(f"no integer between {low} and {high}")
        return low + (self.control_u64(purpose, obj, n) * (high - low) >> 64)

    @cached_property
    def _generator(self) -> "np.random.Philox":
        """Made with the first larger block: `numpy.random` takes 8 ms to import, and the first frame needs little."""
        return np.random.Philox(key=np.array(self._key, dtype=np.uint64), counter=0)

    @cached_property
    def _state(self) -> Any:
        return self._generator.state

    def block(self, stream: int, first: int, count: int, attempt: int = 0) -> UInt64Array:
        """Draw the words of consecutive requests.

        Returns:
            Shape (count, 4); row i is request `first + i`. A fresh array.
        """
        if count <= _SMALL_BLOCK and "_generator" not in vars(self):
            return self.rows(stream, np.arange(first, first + count), attempt)
        return self._blocks(first | attempt << 64 | stream << 128 | _TRAFFIC << 192, count).reshape(count, 4)

    def _blocks(self, counter: int, count: int) -> UInt64Array:
        """The words of `count` blocks from a counter on, four for each."""
        counter -= 1  # numpy's generator adds one to the counter before each block of four words
        self._state["state"]["counter"][:] = [counter >> shift & _MASK for shift in (0, 64, 128, 192)]
        self._state["buffer_pos"] = 4
        self._generator.state = self._state
        words: UInt64Array = self._generator.random_raw(4 * count)
        return words

    def rows(self, stream: "Int64Array | int", numbers: Int64Array, attempts: "Int64Array | int" = 0) -> UInt64Array:
        """Draw the words of arbitrary requests; row i equals `block(stream[i], numbers[i], 1, attempts[i])[0]`.

        Args:
            stream: One stream, or one per row.
            numbers: Request numbers, shape (k,).
            attempts: One attempt, or one per row; 0 is the first try.

        Returns:
            Shape (k, 4).
        """
        count = len(numbers)
        if count <= _SCALAR_ROWS:
            streams = np.broadcast_to(np.asarray(stream, dtype=np.int64), (count,))
            tries = np.broadcast_to(np.asarray(attempts, dtype=np.int64), (count,))
            words = [
                philox((number, attempt, index, _TRAFFIC), self._key)
                for number, attempt, index in zip(numbers.tolist(), tries.tolist(), streams.tolist(), strict=True)
            ]
            return np.array(words, dtype=np.uint64).reshape(count, 4)
        # What is the same for all rows stays one number for the rounds in which it is.
        counter = tuple(np.atleast_1d(word).astype(np.uint64) for word in (numbers, attempts, stream, _TRAFFIC))
        return _philox_array(counter, self._key)

    def __deepcopy__(self, memo: dict[int, object]) -> "Draws":
        """Share it: draws have no state a copy could disturb."""
        return self


@lru_cache(maxsize=4096)
def _control_address(purpose: str, obj: str) -> tuple[int, int]:
    """The middle words of the counter: the same for every draw about one object."""
    address = blake2b(purpose.encode() + b"\0" + obj.encode(), digest_size=16, person=b"kflab control").digest()
    return int.from_bytes(address[:8], "little"), int.from_bytes(address[8:], "little")


@lru_cache(maxsize=64)
def _round_keys(key: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """The keys of all rounds."""
    (k0, k1), (w0, w1) = key, _WEYL
    return tuple(((k0 + n * w0) & _MASK, (k1 + n * w1) & _MASK) for n in range(_ROUNDS))


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Compute one block of Philox4x64-10 in plain integers."""
    c0, c1, c2, c3 = counter
    m0, m1 = _MULTIPLIERS
    mask = _MASK
    for k0, k1 in _round_keys(key):
        first, second = c0 * m0, c2 * m1
        c0, c1, c2, c3 = (second >> 64) ^ c1 ^ k0, second & mask, (first >> 64) ^ c3 ^ k1, first & mask
    return c0, c1, c2, c3


def _high_product(values: UInt64Array, factor: int) -> UInt64Array:
    """Return the high 64 bits of values × factor, from 32-bit halves."""
    half, low_mask = np.uint64(32), np.uint64(0xFFFFFFFF)
    factor_low, factor_high = np.uint64(factor & 0xFFFFFFFF), np.uint64(factor >> 32)
    low, high = values & low_mask, values >> half
    middle = high * factor_low + (low * factor_low >> half)
    other = low * factor_high + (middle & low_mask)
    product: UInt64Array = high * factor_high + (middle >> half) + (other >> half)
    return product


def _philox_array(counter: tuple[UInt64Array, ...], key: tuple[int, int]) -> UInt64Array:
    """Compute blocks of Philox4x64-10 for many counters; shape (k, 4).

    Args:
        counter: Its four words, each of shape (k,), or (1,) where it is the same for all; the first one of shape (k,).
        key: Of the generator.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        high0, low0 = _high_product(c0, _MULTIPLIERS[0]), c0 * np.uint64(_MULTIPLIERS[0])
        high1, low1 = _high_product(c2, _MULTIPLIERS[1]), c2 * np.uint64(_MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ np.uint64(k0), low1, high0 ^ c3 ^ np.uint64(k1), low0
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return np.stack((c0, c1, c2, c3)).T


@lru_cache(maxsize=64)
def duration_table(kind: str, **params: int) -> Int64Array:
    """Make an inverse-CDF table: 65,536 equally likely durations, ascending, read-only, cached.

    Args:
        kind: "exponential" (mean_ns), "lognormal" (p50_ns, p99_ns) or "constant" (ns).
        params: Its parameters, in ns (or any other integer unit).

    Raises:
        ValueError: If the kind is not known, or a log-normal's p99 is below its p50.
    """
    if kind == "constant":
        table = np.full(TABLE_SIZE, params["ns"], dtype=np.int64)
    elif kind == "exponential":
        # u is the middle of each of 65,536 equal cells, so 1 - u runs through the same values: -ln(1 - u).
        quantiles = -_ln(_middles()[::-1])
        # Cells cut the long tail short; scaling restores the mean exactly to the asked one.
        scaled = np.rint(quantiles * (float(params["mean_ns"]) / _exact_mean(quantiles)))
        table = scaled.astype(np.int64)
    elif kind == "lognormal":
        p50_ns, p99_ns = params["p50_ns"], params["p99_ns"]
        if p99_ns < p50_ns or p50_ns <= 0:
            raise ValueError(f"log-normal needs 0 < p50 ≤ p99, not {p50_ns} and {p99_ns}")
        sigma = float(_ln(np.array([p99_ns / p50_ns]))[0]) / _Z99
        table = np.rint(_exp(_normal_quantiles() * sigma) * float(p50_ns)).astype(np.int64)
    else:
        raise ValueError(f"no duration table of kind {kind!r}")
    table.setflags(write=False)
    return table


def _middles() -> Float64Array:
    """Return (i + ½) / 65,536, exact in binary."""
    return (np.arange(TABLE_SIZE, dtype=np.float64) + 0.5) / float(TABLE_SIZE)


def _exact_mean(values: Float64Array) -> float:
    """Average in integers: numpy's float sum adds in an order that depends on the CPU."""
    return int(np.rint(values * 2.0**40).astype(np.int64).sum()) / (TABLE_SIZE * 2.0**40)


def _horner(coefficients: tuple[float, ...], x: Float64Array) -> Float64Array:
    """Evaluate a polynomial, highest power first, one rounded operation at a time."""
    result = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        result *= x
        result += coefficient
    return result


def _ln(x: Float64Array) -> Float64Array:
    """Natural logarithm from basic operations (atanh series on the mantissa), within a few last bits."""
    mantissa, exponent = np.frexp(x)  # mantissa in [½, 1)
    s = (mantissa - 0.75) / (mantissa + 0.75)
    series = _horner(tuple(1.0 / k for k in range(33, 0, -2)), s * s)
    ln_three_quarters = -0.2876820724517809
    return series * s * 2.0 + ln_three_quarters + exponent.astype(np.float64) * _LN2


def _exp(x: Float64Array) -> Float64Array:
    """Exponential from basic operations (Taylor series after taking out powers of two)."""
    power = np.rint(x / _LN2)
    rest = x - power * _LN2
    coefficients = [1.0]
    for k in range(1, 15):
        coefficients.append(coefficients[-1] / k)
    result: Float64Array = np.ldexp(_horner(tuple(reversed(coefficients)), rest), power.astype(np.int32))
    return result


_CENTRE = (
    (2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
     13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.387132872796366608),
    (5226.495278852545925, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867,
     5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1.0),
)  # fmt: skip
_TAIL = (
    (7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177, 1.27045825245236838258,
     3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734),
    (1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966, 0.14810397642748007459,
     0.68976733498510000455, 1.6763848301838038494, 2.05319162663775882187, 1.0),
)  # fmt: skip
"""Rational approximations of the normal quantile: Wichura, algorithm AS 241 (PPND16), Applied Statistics 37 (1988).
The far tail's third pair is not needed: the outermost cell of a table is 2⁻¹⁷, where sqrt(-ln p) is 3.43 < 5."""


@lru_cache(maxsize=1)
def _normal_quantiles() -> Float64Array:
    """Return the standard normal quantile of the middle of each cell."""
    middles = _middles() - 0.5
    quantiles = np.empty_like(middles)
    central = np.abs(middles) <= 0.425
    q = middles[central]
    r = 0.180625 - q * q
    quantiles[central] = q * _horner(_CENTRE[0], r) / _horner(_CENTRE[1], r)
    q = middles[~central]
    depth = np.sqrt(-_ln(0.5 - np.abs(q))) - 1.6
    quantiles[~central] = np.copysign(_horner(_TAIL[0], depth) / _horner(_TAIL[1], depth), q)
    return quantiles
