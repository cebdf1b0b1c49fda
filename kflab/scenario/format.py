"""The saved-scenario format, version 1: a YAML file → `LabSpec`, expectations and a duration.

A scenario may extend another; `manifests` lists and `expect`, `actions` replace those of the base, `cluster` and
scalars merge over it. Paths are relative to the file that names them.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kflab.control.lbprofiles import PROFILES
from kflab.control.profiles import PROFILES as SPEEDS
from kflab.control.verbs import VERBS
from kflab.dataplane.addresses import canonical
from kflab.engine.finished import SLOW_BIN_NS, SLOW_NS
from kflab.errors import KflabError, Place
from kflab.lab.commands import Apply, Command, Kill, KillRandom, Scale, SetLoad, SetMode, Start, Stop
from kflab.lab.handle import Tab
from kflab.lab.spec import FLOWS, POD_NETWORKS, ROUTED, TRAFFIC_MODES, Action, ClientSpec, LabSpec, PinSpec
from kflab.manifest.objects import Key
from kflab.manifest.plain import load_plain
from kflab.manifest.typed import PROXY_MODES
from kflab.scenario.acting import LONGEST_NS, duration_ns, read_action, workload_key
from kflab.scenario.calls_file import MODES, calls_of, calls_of_text
from kflab.scenario.library import Origin, find
from kflab.scenario.patience import PATIENCE, patience_of

FORMAT = "scenario/v1"
MOST_NODES = 20_000
MOST_RPS = 10**8
"""Bounds of what a scenario or an option may ask for."""

NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""A namespace's name: a DNS label, RFC 1123."""

_DEPTH = 8
"""How long a chain of `extends` may be."""

PlaceOf = Callable[[tuple[str | int, ...]], Place]


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


WORKLOAD_METRICS = ("readyPods", "restarts", "allReadyAt", "leastPodShare")
"""Metrics that need a workload: pods ready at the end, restarts of its pods, when the last of them became ready (s),
and of the requests that its pods answered in the last 30 s the share of the pod that answered fewest (0 to 1)."""

CLIENT_METRICS = ("requestsFailed", "requestsSent", "attempts", "okShare")
"""Metrics that may be asked of one `client`, by its name."""

MOST_CONNECTIONS = 10_000
"""Connections that one client keeps open."""

MOST_SOCKETS = 1_000_000
"""WebSockets that one client keeps open."""

_LEAST_AGE_NS = 10_000_000

METRICS = (
    "requestsFailed", "requestsSent", "requestsEnded", "triesRefused", "trafficMovedWithin", "okShare",
    "podShare", "attempts", "slowestRequest", "requestsTook", "dnsQueriesPerRequest", "ingressLag", "socketsCut",
    *WORKLOAD_METRICS,
)  # fmt: skip
"""requestsEnded counts those that ended with `status` ("504", "refused", "reset", "timeout", "no route", "client
timeout", "not resolved"). A request counts once, however often its client sent it: attempts counts those.
slowestRequest: s, failed or not. requestsTook counts requests, however they ended, by their latency:
`from` (0.5 s or more) to below `to`, in steps of 10 ms. dnsQueriesPerRequest: queries that clients sent, by the
requests they sent. ingressLag: the longest time (s) from the EndpointSlice without a pod until NGINX is without it.
socketsCut: WebSockets that were cut. podShare is what part (0..1) `pod` has in all answers of the pods of `service`
since the start; pods that are gone count no more."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario ready to run."""

    spec: LabSpec
    title: str
    summary: str
    duration_ns: int
    expectations: tuple[Expectation, ...]
    source: str = ""
    """Where the story is told by others: an issue, a post-mortem, a document."""


def load(name: str) -> Scenario:
    """Read a bundled scenario by name, or a file by path.

    Raises:
        KflabError: With the place, when the file is not a scenario of this version.
    """
    origin = find(name)
    return _build(origin, _read(origin, 0))


def load_text(text: str, name: str) -> Scenario:
    """Read a scenario from a text; relative names in it are looked up in the working folder."""
    origin = Origin(name, "stdin" if name == "<stdin>" else name, text, Path())
    return _build(origin, _read(origin, 0))


@dataclass(frozen=True, slots=True)
class _Field:
    """A value with the place it was written at and the origin that relative paths in it belong to."""

    value: Any
    place: Place
    origin: Origin
    place_in: PlaceOf
    """Place of a path inside the value."""


_FIELDS = (
    "title",
    "summary",
    "source",
    "seed",
    "duration",
    "manifests",
    "cluster",
    "clients",
    "actions",
    "expect",
    "timing",
    "traffic",
)


def _read(origin: Origin, depth: int) -> dict[str, _Field]:
    if depth > _DEPTH:
        raise KflabError(f"scenarios extend each other more than {_DEPTH} deep", Place(origin.name))
    tree, place_of = load_plain(origin.text, origin.name)
    if not isinstance(tree, dict) or tree.get("kflab") != FORMAT:
        raise KflabError(f"not a scenario: expected `kflab: {FORMAT}`", Place(origin.name))
    fields: dict[str, _Field] = {}
    if "extends" in tree:
        fields.update(_read(find(str(tree["extends"]), origin), depth + 1))
    for key, value in tree.items():
        if key in ("kflab", "extends"):
            continue
        if key not in _FIELDS:
            raise KflabError(f"unknown field {key!r}; expected one of {', '.join(_FIELDS)}", place_of((key,)))
        if key in ("manifests", "cluster", "timing", "traffic"):
            if not isinstance(value, dict):
                raise KflabError(f"{key} must be a mapping", place_of((key,)))
            for part, inner in value.items():
                fields[f"{key}.{part}"] = _field(inner, (key, part), place_of, origin)
        else:
            fields[key] = _field(value, (key,), place_of, origin)
    return fields


def _field(value: Any, path: tuple[str | int, ...], place_of: Callable[..., Place | None], origin: Origin) -> _Field:
    def place_in(inner: tuple[str | int, ...]) -> Place:
        return place_of((*path, *inner)) or Place(origin.name)

    return _Field(value, place_in(()), origin, place_in)


def _build(origin: Origin, fields: Mapping[str, _Field]) -> Scenario:
    def get(key: str, default: Any) -> Any:
        return fields[key].value if key in fields else default

    def place(key: str) -> Place:
        return fields[key].place if key in fields else Place(origin.name)

    allowed = {
        "manifests": ("documents", "additions", "patches"),
        "cluster": (
            "pins",
            "delays",
            "nodes",
            "namespace",
            "cold",
            "profile",
            "loadBalancer",
            "conntrack",
            "calls",
            "kernel",
            "podNetwork",
        ),
        "traffic": ("rate", "url", "mode"),
    }
    for key, field in fields.items():
        room, _, part = key.partition(".")
        if room in allowed and part not in allowed[room]:
            raise KflabError(f"unknown field {part!r} in {room}; expected {', '.join(allowed[room])}", field.place)
    tabs = _told_apart([tab for role in allowed["manifests"] for tab in _tabs(role, fields.get(f"manifests.{role}"))])
    if not any(tab.role == "documents" for tab in tabs):
        raise KflabError("the scenario has no manifests.documents", Place(origin.name))
    pins = _mapping(get("cluster.pins", {}), "pins", place("cluster.pins"))
    unknown = sorted(str(key) for key in set(pins) - {"podIPs", "loadBalancerIPs", "publicNames"})
    if unknown:
        raise KflabError(
            f"unknown pin {unknown[0]!r}; expected podIPs, loadBalancerIPs, publicNames", place("cluster.pins")
        )
    seed = get("seed", 7)
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**64:
        raise KflabError(f"seed {seed!r} must be a whole number from 0 to 2**64 - 1", place("seed"))
    spec = LabSpec(
        name=origin.short,
        title=str(get("title", origin.short)),
        tabs=tuple(tabs),
        seed=seed,
        pins=_pins(pins, place("cluster.pins")),
        delays=dict(_mapping(get("cluster.delays", {}), "delays", place("cluster.delays"))),
        timing={key.partition(".")[2]: _nanoseconds(key, fields[key]) for key in fields if key.startswith("timing.")},
        clients=_clients(fields.get("clients")),
        rate_rps=_number(get("traffic.rate", 100.0), "rate", place("traffic.rate"), 0, MOST_RPS),
        url=str(get("traffic.url", "")),
        **_conntrack(get("cluster.conntrack", {}), place("cluster.conntrack")),
        traffic_mode=_traffic_mode(get("traffic.mode", FLOWS), place("traffic.mode")),
        kernel=_kernel(get("cluster.kernel", "6.1"), place("cluster.kernel")),
        pod_network=_one_of(get("cluster.podNetwork", ROUTED), POD_NETWORKS, "podNetwork", place("cluster.podNetwork")),
        nodes=_whole(get("cluster.nodes", 0), "nodes", place("cluster.nodes"), 0, MOST_NODES),
        namespace=_namespace(get("cluster.namespace", "default"), place("cluster.namespace")),
        cold=_truth(get("cluster.cold", False), "cold", place("cluster.cold")),
        profile=_profile(get("cluster.profile", ""), place("cluster.profile")),
        load_balancer=_load_balancer(get("cluster.loadBalancer", ""), place("cluster.loadBalancer")),
        **_calls(fields.get("cluster.calls")),
        actions=_actions(fields.get("actions")),
    )
    duration = duration_ns(get("duration", "60s"), place("duration"))
    return Scenario(
        spec=replace(spec, duration_ns=duration),
        title=spec.title,
        summary=str(get("summary", "")),
        source=str(get("source", "")),
        duration_ns=duration,
        expectations=_expectations(fields.get("expect"), spec.clients),
    )


def _conntrack(value: Any, place: Place) -> dict[str, Any]:
    """Sysctls of every node: `max` is nf_conntrack_max, `buckets` nf_conntrack_buckets."""
    given = _mapping(value, "conntrack", place)
    for key in given:
        if key not in ("max", "buckets"):
            raise KflabError(f"unknown field {key!r} of conntrack; expected max, buckets", place)
    return {f"conntrack_{key}": _whole(n, f"conntrack.{key}", place, 1, MOST_RPS) for key, n in given.items()}


def _one_of(value: Any, known: Sequence[str], what: str, place: Place) -> str:
    if value not in known:
        raise KflabError(f"{what} {value!r}: expected {' or '.join(known)}", place)
    return str(value)


def _kernel(value: Any, place: Place) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,3})\.(\d{1,3})", value) if isinstance(value, str) else None
    if match is None:
        raise KflabError(f"kernel {value!r}: expected a Linux release in quotes, such as '6.1'", place)
    return int(match[1]), int(match[2])


def _mapping(value: Any, what: str, place: Place) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise KflabError(f"{what} must be a mapping, not {value!r}", place)
    return value


def _number(value: Any, what: str, place: Place, low: float = -math.inf, high: float = math.inf) -> float:
    number = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    if not (math.isfinite(number) and low <= number <= high):
        bounds = f" from {low:g} to {high:g}" if math.isfinite(low) else ""
        raise KflabError(f"{what} {value!r} must be a number{bounds}", place)
    return number


def _whole(value: Any, what: str, place: Place, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise KflabError(f"{what} {value!r} must be a whole number from {low} to {high}", place)
    return value


def _namespace(value: Any, place: Place) -> str:
    if not NAMESPACE.fullmatch(str(value)):
        raise KflabError(f"namespace {value!r}: expected lower case letters, digits and '-', at most 63", place)
    return str(value)


def _profile(value: Any, place: Place) -> str:
    if value != "" and value not in SPEEDS:
        raise KflabError(f"profile {value!r}: expected one of {', '.join(SPEEDS)}", place)
    return str(value)


def _traffic_mode(value: Any, place: Place) -> str:
    if value not in TRAFFIC_MODES:
        raise KflabError(f"traffic.mode {value!r}: expected one of {', '.join(TRAFFIC_MODES)}", place)
    return str(value)


def _calls(field: _Field | None) -> dict[str, Any]:
    """Who calls whom: none, guess, a file, or the calls themselves."""
    if field is None or field.value in MODES:
        return {} if field is None else {"calls": field.value}
    if isinstance(field.value, str):
        found = field.origin.relative(field.value, field.place)
        return {"calls": "given", "given_calls": calls_of_text(found.text, found.name)}
    if not isinstance(field.value, dict):
        raise KflabError(f"calls must be none, guess, a file or a mapping, not {field.value!r}", field.place)
    return {"calls": "given", "given_calls": calls_of(field.value, field.place_in)}


def _load_balancer(value: Any, place: Place) -> str:
    if value != "" and value not in PROFILES:
        raise KflabError(f"loadBalancer {value!r}: expected one of {', '.join(PROFILES)}", place)
    return str(value)


def _truth(value: Any, what: str, place: Place) -> bool:
    if not isinstance(value, bool):
        raise KflabError(f"{what} {value!r} must be true or false", place)
    return value


def _nanoseconds(key: str, field: _Field) -> int:
    return _whole(field.value, key, field.place, 0, LONGEST_NS)


def _pins(pins: Mapping[str, Any], place: Place) -> PinSpec:
    parts = {key: _mapping(pins.get(key, {}), key, place) for key in ("podIPs", "loadBalancerIPs", "publicNames")}
    pod_ips: dict[str, tuple[str, ...]] = {}
    for owner, ips in parts["podIPs"].items():
        if not isinstance(ips, list) or not all(canonical(str(ip)) for ip in ips):
            raise KflabError(f"podIPs of {owner}: expected a list of IP addresses, not {ips!r}", place)
        pod_ips[str(owner)] = tuple(str(ip) for ip in ips)
    for service, ip in parts["loadBalancerIPs"].items():
        if not canonical(str(ip)):
            raise KflabError(f"loadBalancerIPs of {service}: {ip!r} is not an IP address", place)
    return PinSpec(
        pod_ips=pod_ips,
        load_balancer_ips={str(k): str(v) for k, v in parts["loadBalancerIPs"].items()},
        public_names={str(k): str(v) for k, v in parts["publicNames"].items()},
    )


def _list(field: _Field | None) -> list[Any]:
    if field is None:
        return []
    if not isinstance(field.value, list):
        raise KflabError("expected a list", field.place)
    return field.value


def _tabs(role: str, field: _Field | None) -> list[Tab]:
    tabs = []
    for entry in _list(field):
        assert field is not None
        if isinstance(entry, dict) and set(entry) == {"name", "text"}:  # a saved scenario carries its texts
            tabs.append(Tab(str(entry["name"]), str(entry["text"]), None, role))
            continue
        found = field.origin.relative(str(entry), field.place)
        tabs.append(_FromFile(str(entry), found.text, str(found.path) if found.path else None, role))
    return tabs


class _FromFile(Tab):
    """A tab still named by the path that the scenario gives."""


def _told_apart(tabs: list[Tab]) -> list[Tab]:
    """Name files by their last part, or by their whole path where two would have the same name."""
    short = Counter(Path(tab.name).name if isinstance(tab, _FromFile) else tab.name for tab in tabs)
    named = []
    for tab in tabs:
        last = Path(tab.name).name
        name = last if isinstance(tab, _FromFile) and short[last] == 1 else tab.name
        named.append(Tab(name, tab.text, tab.path, tab.role))
    return named


def _clients(field: _Field | None) -> tuple[ClientSpec, ...]:
    made = []
    for index, entry in enumerate(_list(field)):
        assert field is not None
        place_in, client = field.place_in, _client(entry, field.place)
        made.append(replace(client, **patience_of(entry, lambda *path, i=index, p=place_in: p((i, *path)))))
    return tuple(made)


def _client(entry: Any, place: Place) -> ClientSpec:
    if not isinstance(entry, dict) or "url" not in entry:
        raise KflabError("a client needs a url", place)
    known = {"name", "address", "url", "rate", "method", "from", "firstRequest", "clientPort", "oneWay"}
    known |= {"connections", "connectionAge", "lookups", "packetLoss", "sockets", *PATIENCE}
    for key in entry:
        if key not in known:
            raise KflabError(f"unknown field {key!r} of a client; expected {', '.join(sorted(known))}", place)
    rate = entry.get("rate", 100)
    if not isinstance(rate, (int, float)) or isinstance(rate, bool) or not 0 <= rate <= MOST_RPS:
        raise KflabError(f"rate {rate!r} must be a number of requests per second", place)
    client_port, one_way = entry.get("clientPort", 0), _truth(entry.get("oneWay", False), "oneWay", place)
    if "clientPort" in entry:
        _whole(client_port, "clientPort", place, 1, 65535)
    for key in ("clientPort", "oneWay"):
        if key in entry and not (str(entry["url"]).startswith("udp://") and entry.get("from")):
            raise KflabError(f"{key} is for a client with a udp:// url that runs in a pod (`from`)", place)
    connections, age_ns = _connections(entry, place)
    lookups, lost = _on_the_way(entry, place)
    sockets = _whole(entry.get("sockets", 0), "sockets", place, 0, MOST_SOCKETS)
    if sockets and (entry.get("from") or not str(entry["url"]).startswith(("http://", "https://"))):
        raise KflabError("sockets is for a client outside (no `from`) with an http:// or https:// url", place)
    first = _mapping(entry.get("firstRequest") or {}, "firstRequest", place)
    for key, port in first.items():
        if key not in ("clientPort", "upstreamPort"):
            raise KflabError(f"unknown field {key!r} of firstRequest; expected clientPort, upstreamPort", place)
        if port is not None:
            _whole(port, key, place, 1, 65535)
    return ClientSpec(
        url=str(entry["url"]),
        rate_rps=float(rate),
        name=str(entry.get("name", "client")),
        address=str(entry.get("address", "203.0.113.45")),
        method=str(entry.get("method", "GET")),
        from_pod=str(entry.get("from", "")),
        client_port=client_port,
        one_way=one_way,
        connections=connections,
        connection_age_ns=age_ns,
        sockets=sockets,
        lookups=lookups,
        lost_per_million=lost,
        first_client_port=first.get("clientPort"),
        first_upstream_port=first.get("upstreamPort"),
    )


def _on_the_way(entry: dict[Any, Any], place: Place) -> tuple[bool, int]:
    """Whether a client asks DNS for each request, and how many of a million packets it loses before it is connected."""
    for key in ("lookups", "packetLoss"):
        if key not in entry:
            continue
        if not entry.get("from") or str(entry["url"]).startswith("udp://") or "connections" in entry:
            raise KflabError(f"{key} is for a client in a pod (`from`) that opens a connection per request", place)
        other = next((name for name in PATIENCE if name in entry and name != "connectTimeout"), "")
        if other:
            raise KflabError(f"{key} is for a client without {other}", place)
    loss = _number(entry.get("packetLoss", 0), "packetLoss", place, 0, 1)
    return _truth(entry.get("lookups", False), "lookups", place), round(loss * 1_000_000)


def _connections(entry: dict[Any, Any], place: Place) -> tuple[int, int]:
    """How many connections a client keeps open (0: none), and how old each may become, ns (0: for ever)."""
    for key in ("connections", "connectionAge"):
        if key in entry and (not entry.get("from") or str(entry["url"]).startswith("udp://")):
            raise KflabError(f"{key} is for a client with an http:// or tcp:// url that runs in a pod (`from`)", place)
    if "connections" not in entry:
        if "connectionAge" in entry:
            raise KflabError("connectionAge is the age of kept connections; expected connections: N beside it", place)
        return 0, 0
    age_ns = duration_ns(entry["connectionAge"], place) if "connectionAge" in entry else 0
    if "connectionAge" in entry and age_ns < _LEAST_AGE_NS:
        raise KflabError(f"connectionAge {entry['connectionAge']!r} is too short; expected 10ms or more", place)
    return _whole(entry["connections"], "connections", place, 1, MOST_CONNECTIONS), age_ns


def _pod_target(value: Any, place: Place) -> tuple[Key, tuple[str, int] | None]:
    if isinstance(value, dict) and "workload" in value:
        workload_key(str(value["workload"]), place)
        return Key("Pod", "", ""), (
            str(value["workload"]),
            _whole(value.get("ordinal", 0), "ordinal", place, 0, 1_000_000),
        )
    if isinstance(value, dict) and "pod" in value:
        value = value["pod"]
    namespace, slash, name = str(value).partition("/")
    if not slash:
        namespace, name = "default", namespace
    return Key("Pod", namespace, name), None


def _actions(field: _Field | None) -> tuple[Action, ...]:
    made = []
    for index, entry in enumerate(_list(field)):
        assert field is not None
        within = field.place_in

        def place_of(*path: str, index: int = index, within: PlaceOf = within) -> Place:
            return within((index, *path))

        made.append(_action(entry, place_of))
    return tuple(made)


def _action(entry: Any, place_of: Callable[..., Place]) -> Action:
    place = place_of()
    if not isinstance(entry, dict) or "at" not in entry:
        raise KflabError("an action needs `at`", place)
    verbs = {
        "crash",
        "delete",
        "forceDelete",
        "crashRandom",
        "stop",
        "start",
        "scale",
        "load",
        "mode",
        "apply",
        "narrate",
        *VERBS,
    }
    extra = sorted(set(entry) - verbs - {"at", "say"})
    if extra:
        raise KflabError(
            f"unknown field {extra[0]!r} of an action; expected {', '.join(sorted(verbs))}", place_of(extra[0])
        )
    named = [verb for verb in verbs if verb in entry]
    if len(named) > 1:
        raise KflabError(f"an action does one thing, not {' and '.join(sorted(named))}", place)
    t_ns = duration_ns(entry["at"], place_of("at"))
    say = str(entry.get("say", ""))
    if not named or named[0] == "narrate":
        return Action(t_ns, SetLoad(-1.0), str(entry.get("narrate", say)))
    value, place = entry[named[0]], place_of(named[0])
    pod_of = None
    command: Command
    if named[0] in VERBS:
        command, pod_of = read_action(named[0], value, lambda *path: place_of(named[0], *path))
        return Action(t_ns, command, say, pod_of)
    match named[0]:
        case "crash" | "delete" | "forceDelete":
            pod, pod_of = _pod_target(value, place)
            command = Kill(pod, {"crash": "crash", "delete": "delete", "forceDelete": "force"}[named[0]])
        case "crashRandom":
            command = KillRandom()
        case "stop":
            command = Stop(str(value))
        case "start":
            command = Start(str(value))
        case "load":
            command = SetLoad(_number(value, "load", place, 0, 1000))
        case "mode":
            if value not in PROXY_MODES:
                raise KflabError(f"mode {value!r}: expected one of {', '.join(PROXY_MODES)}", place)
            command = SetMode(value)
        case "apply":
            if not isinstance(value, list) or not all(
                isinstance(tab, dict) and set(tab) == {"name", "text"} for tab in value
            ):
                raise KflabError("apply needs a list of texts, each with name and text", place)
            command = Apply(tuple((str(tab["name"]), str(tab["text"])) for tab in value))
        case _:
            if not isinstance(value, dict) or not {"workload", "replicas"} <= set(value):
                raise KflabError("scale needs workload and replicas", place)
            command = Scale(workload_key(str(value["workload"]), place), _replicas(value["replicas"], place))
    return Action(t_ns, command, say, pod_of)


def _replicas(value: Any, place: Place) -> int:
    return _whole(value, "replicas", place, 0, 1_000_000)


def _expectations(field: _Field | None, clients: tuple[ClientSpec, ...]) -> tuple[Expectation, ...]:
    known = {client.name for client in clients}
    found = []
    for entry in _list(field):
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
        None if low is None else _number(low, metric, place),
        None if high is None else _number(high, metric, place),
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
