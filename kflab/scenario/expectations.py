"""What a scenario's `expect` asks for: metrics with bounds."""

from typing import Any

from kflab.engine.finished import SLOW_BIN_NS, SLOW_NS
from kflab.errors import KflabError, Place
from kflab.lab.spec import ClientSpec
from kflab.records import dataclass
from kflab.scenario.acting import duration_ns, workload_key
from kflab.scenario.fields import Field, items, number

WORKLOAD_METRICS = ("readyPods", "restarts", "allReadyAt", "leastPodShare")
"""Metrics that need a workload: pods ready at the end, restarts of its pods, when the last of them became ready (s),
and of the requests that its pods answered in the last 30 s the share of the pod that answered fewest (0 to 1)."""

CLIENT_METRICS = ("requestsFailed", "requestsSent", "attempts", "okShare")
"""Metrics that may be asked of one `client`, by its name."""

METRICS = (
    "requestsFailed", "requestsSent", "requestsEnded", "triesRefused", "trafficMovedWithin", "okShare",
    "podShare", "attempts", "slowestRequest", "requestsTook", "dnsQueriesPerRequest", "ingressLag", "socketsCut",
    *WORKLOAD_METRICS,
)  # fmt: skip
"""requestsEnded counts those that ended with `status` ("504", "refused", "reset", "timeout", "no route", "client
timeout", "not resolved"; "client gone": its process ended first, which is no failure).
A request counts once, however often its client sent it: attempts counts those.
slowestRequest: s, failed or not. requestsTook counts requests, however they ended, by their latency:
`from` (0.5 s or more) to below `to`, in steps of 10 ms. dnsQueriesPerRequest: queries that clients sent, by the
requests they sent. ingressLag: the longest time (s) from the EndpointSlice without a pod until NGINX is without it.
socketsCut: WebSockets that were cut. podShare is what part (0..1) `pod` has in all answers of the pods of `service`
since the start; pods that are gone count no more."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """One line of `expect`. `low` and `high` bound the measured figure, either may be None."""

    metric: str
    """requestsFailed, requestsSent, triesRefused, trafficMovedWithin (s), readyPods, okShare (0..1)."""
    low: float | None = None
    high: float | None = None
    workload: str = ""
    status: str = ""
    """Of requestsEnded: how they ended."""
    pod: str = ""
    service: str = ""
    """Of podShare, each as NAMESPACE/NAME: the part of this pod in all answers of the Service's pods."""
    client: str = ""
    """Of `CLIENT_METRICS`: only the requests of this client."""
    from_ns: int = 0
    to_ns: int = 0
    """Of requestsTook: latencies from the one to below the other."""

    def __str__(self) -> str:
        about = f" of {self.workload}" if self.workload else f" {self.status}" if self.status else ""
        about = f" of {self.pod} in {self.service}" if self.pod else about
        about = f" of {self.client}" if self.client else about
        about = f" {self.from_ns / 1e9:g} to {self.to_ns / 1e9:g} s" if self.to_ns else about
        if self.low is not None and self.low == self.high:
            return f"{self.metric}{about} = {self.low:g}"
        low = f"{self.low:g} ≤ " if self.low is not None else ""
        high = f" ≤ {self.high:g}" if self.high is not None else ""
        return f"{low}{self.metric}{about}{high}"


def expectations_of(field: Field | None, clients: tuple[ClientSpec, ...]) -> tuple[Expectation, ...]:
    """Read the list, in its order.

    Raises:
        KflabError: With the place, for an expectation that is none, or of a client that is not among these.
    """
    known = {client.name for client in clients}
    found = []
    for entry in items(field):
        assert field is not None
        one = _expectation(entry, field.place)
        if one.client and one.client not in known:
            raise KflabError(f"no client is named {one.client!r}; there are {', '.join(sorted(known))}", field.place)
        found.append(one)
    return tuple(found)


def _expectation(entry: Any, place: Place) -> Expectation:
    if not isinstance(entry, dict) or len(entry) != 1:
        raise KflabError("an expectation is one metric with its bounds", place)
    metric, bounds = next(iter(entry.items()))
    if metric not in METRICS:
        raise KflabError(f"unknown metric {metric!r}; expected one of {', '.join(METRICS)}", place)
    if metric == "trafficMovedWithin":
        return Expectation(metric, None, duration_ns(bounds, place) / 1e9)
    if not isinstance(bounds, dict):
        raise KflabError(f"{metric} needs bounds: equals, min or max", place)
    for key in bounds:
        if key not in ("equals", "min", "max", "workload", "status", "pod", "service", "client", "from", "to"):
            raise KflabError(f"unknown bound {key!r}; expected equals, min, max", place)
    if "client" in bounds and metric not in CLIENT_METRICS:
        raise KflabError(f"{metric} is not counted by client; {', '.join(CLIENT_METRICS)} are", place)
    if not {"equals", "min", "max"} & set(bounds):
        raise KflabError(f"{metric} needs bounds: equals, min or max", place)
    if metric in WORKLOAD_METRICS:
        workload_key(str(bounds.get("workload", "")), place)
    if (metric == "requestsEnded") != bool(bounds.get("status")):
        raise KflabError("requestsEnded, and no other metric, needs a status: 504, refused, reset, timeout, …", place)
    for key in ("pod", "service"):
        if (metric == "podShare") != bool(bounds.get(key)):
            raise KflabError("podShare, and no other metric, needs a pod and a service", place)
        if bounds.get(key) and not all(str(bounds[key]).partition("/")[::2]):
            raise KflabError(f"{key} {bounds[key]!r}: expected NAMESPACE/NAME", place)
    from_ns, to_ns = _latencies(metric, bounds, place)
    low, high = bounds.get("equals", bounds.get("min")), bounds.get("equals", bounds.get("max"))
    return Expectation(
        metric,
        None if low is None else number(low, metric, place),
        None if high is None else number(high, metric, place),
        str(bounds.get("workload", "")),
        str(bounds.get("status", "")),
        str(bounds.get("pod", "")),
        str(bounds.get("service", "")),
        str(bounds.get("client", "")),
        from_ns,
        to_ns,
    )


def _latencies(metric: str, bounds: dict[Any, Any], place: Place) -> tuple[int, int]:
    """The latencies that requestsTook counts, ns."""
    if not {"from", "to"} & set(bounds) and metric != "requestsTook":
        return 0, 0
    if metric != "requestsTook" or not {"from", "to"} <= set(bounds):
        raise KflabError("requestsTook, and no other metric, needs from and to: durations", place)
    low, high = duration_ns(bounds["from"], place), duration_ns(bounds["to"], place)
    if not SLOW_NS <= low < high or low % SLOW_BIN_NS or high % SLOW_BIN_NS:
        raise KflabError("requestsTook: expected 0.5 s or more, from below to, both in steps of 10 ms", place)
    return low, high
