"""How long a scenario's client waits and how often it tries: `timeout`, `attemptTimeout`, `connectTimeout`,
`keepaliveTimeout`, `retries`, `retryOn`, `backoff`, `retryBudget`.

`timeout` and `attemptTimeout` are what Gateway API's HTTPRoute calls timeouts `request` and `backendRequest`; `retryOn`
has Envoy's words (router filter, x-envoy-retry-on); `retryBudget` is Gateway API's retryConstraint with its defaults.
"""

from collections.abc import Callable
from typing import Any

from kflab.engine.types import MAX_RETRIES, Retry, Timing
from kflab.errors import KflabError, Place
from kflab.lab.patience import SERVER_ERRORS
from kflab.scenario.acting import duration_ns

_TIMES = {
    "timeout": "timeout_ns",
    "attemptTimeout": "attempt_timeout_ns",
    "connectTimeout": "connect_timeout_ns",
    "keepaliveTimeout": "keepalive_timeout_ns",
}
PATIENCE = (*_TIMES, "retries", "retryOn", "backoff", "retryBudget")

_WORDS = ("connect-failure", "reset", "timeout", "5xx")
_IDEMPOTENT = ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE")
_LEAST_NS = 1_000_000
_MOST_RATE = 1_000_000

PlaceOf = Callable[..., Place]
"""Path inside the client → where it is written."""


def patience_of(entry: dict[Any, Any], place: PlaceOf) -> dict[str, Any]:
    """Read these fields of a client, as fields of `ClientSpec`.

    Raises:
        KflabError: With the place, for what makes no sense.
    """
    given = [key for key in PATIENCE if key in entry]
    if not given:
        return {}
    if str(entry["url"]).startswith("udp://"):
        raise KflabError(f"{given[0]} is for a client with an http://, https:// or tcp:// url", place(given[0]))
    found: dict[str, Any] = {name: _time(entry[key], key, place(key)) for key, name in _TIMES.items() if key in entry}
    longest = Timing().read_timeout_ns
    if found.get("connect_timeout_ns", 0) >= longest:
        raise KflabError(
            f"connectTimeout {entry['connectTimeout']!r} is too long; expected less than {longest // 10**9} s",
            place("connectTimeout"),
        )
    if "keepaliveTimeout" in entry and "connections" not in entry:
        raise KflabError(
            "keepaliveTimeout is of kept connections; expected connections: N beside it", place("keepaliveTimeout")
        )
    for key in ("retryOn", "backoff", "retryBudget"):
        if key in entry and "retries" not in entry:
            raise KflabError(f"{key} is about retries; expected retries: N beside it", place(key))
    if entry.get("retries", 0) != 0:
        found["retry"] = _retry(entry, place)
    return found


def _retry(entry: dict[Any, Any], place: PlaceOf) -> Retry:
    attempts = _whole(entry["retries"], "retries", 0, MAX_RETRIES, place("retries"))
    idempotent = str(entry.get("method", "GET")) in _IDEMPOTENT
    # A client should not send again by itself what is not idempotent (RFC 9110, 9.2.2), unless nothing was sent.
    usual = ["connect-failure", "reset", "timeout", 502, 503, 504] if idempotent else ["connect-failure"]
    words = entry.get("retryOn", usual)
    if not isinstance(words, list) or not words:
        raise KflabError(f"retryOn {words!r} must be a list of {', '.join(_WORDS)} or statuses", place("retryOn"))
    statuses: set[int] = set()
    for i, word in enumerate(words):
        if word == "5xx":
            statuses |= SERVER_ERRORS
        elif str(word).isdigit() and 400 <= int(str(word)) < 600:
            statuses.add(int(str(word)))
        elif word not in _WORDS:
            raise KflabError(
                f"retryOn {word!r}: expected one of {', '.join(_WORDS)}, or a status from 400 to 599",
                place("retryOn", i),
            )
    return Retry(
        attempts, "connect-failure" in words, "reset" in words, "timeout" in words, frozenset(statuses),
        *_backoff(entry, place), *_budget(entry, place),
    )  # fmt: skip


def _backoff(entry: dict[Any, Any], place: PlaceOf) -> tuple[int, int]:
    """The bound of the first wait, and how far it grows: ten times unless said (Envoy's default)."""
    value = entry.get("backoff", {})
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        value = {"base": value}
    if not isinstance(value, dict) or not set(value) <= {"base", "max"}:
        raise KflabError(f"backoff {value!r}: expected a duration, or base and max", place("backoff"))
    base = duration_ns(value["base"], place("backoff")) if "base" in value else Retry(1).backoff_ns
    most = duration_ns(value["max"], place("backoff")) if "max" in value else 10 * base
    if most < base:
        raise KflabError(f"backoff: max {value['max']!r} is less than base", place("backoff"))
    return base, most


def _budget(entry: dict[Any, Any], place: PlaceOf) -> tuple[int, int, int]:
    """Percent (-1: no budget), interval and rate."""
    if "retryBudget" not in entry:
        return -1, Retry(1).budget_interval_ns, Retry(1).budget_min_rate
    value = entry["retryBudget"]
    if isinstance(value, int) and not isinstance(value, bool):
        value = {"percent": value}
    if not isinstance(value, dict) or not set(value) <= {"percent", "interval", "minRetryRate"}:
        raise KflabError(
            f"retryBudget {value!r}: expected a percentage, or percent, interval and minRetryRate", place("retryBudget")
        )
    percent = _whole(value.get("percent", 20), "percent", 0, 100, place("retryBudget"))
    rate = _whole(value.get("minRetryRate", 10), "minRetryRate", 0, _MOST_RATE, place("retryBudget"))
    return percent, _time(value.get("interval", "10s"), "interval", place("retryBudget")), rate


def _time(value: object, what: str, place: Place) -> int:
    t_ns = duration_ns(value, place)
    if t_ns < _LEAST_NS:
        raise KflabError(f"{what} {value!r} is too short; expected 1ms or more", place)
    return t_ns


def _whole(value: object, what: str, low: int, high: int, place: Place) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise KflabError(f"{what} {value!r} must be a whole number from {low} to {high}", place)
    return value
