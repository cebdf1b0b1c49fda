"""A scenario's `clients`: where each comes from, what it asks for, how it connects."""

from dataclasses import replace
from typing import Any

from kflab.errors import KflabError, Place
from kflab.lab.spec import ClientSpec
from kflab.scenario.acting import duration_ns
from kflab.scenario.cluster_fields import MOST_RPS
from kflab.scenario.fields import Field, items, mapping, number, truth, whole
from kflab.scenario.patience import PATIENCE, patience_of

MOST_CONNECTIONS = 10_000
"""Connections that one client keeps open."""

MOST_SOCKETS = 1_000_000
"""WebSockets that one client keeps open."""

_LEAST_AGE_NS = 10_000_000


def clients_of(field: Field | None) -> tuple[ClientSpec, ...]:
    """Read the list, in its order.

    Raises:
        KflabError: With the place, for a client that is none.
    """
    made = []
    for index, entry in enumerate(items(field)):
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
    client_port, one_way = entry.get("clientPort", 0), truth(entry.get("oneWay", False), "oneWay", place)
    if "clientPort" in entry:
        whole(client_port, "clientPort", place, 1, 65535)
    for key in ("clientPort", "oneWay"):
        if key in entry and not (str(entry["url"]).startswith("udp://") and entry.get("from")):
            raise KflabError(f"{key} is for a client with a udp:// url that runs in a pod (`from`)", place)
    connections, age_ns = _connections(entry, place)
    lookups, lost = _on_the_way(entry, place)
    sockets = whole(entry.get("sockets", 0), "sockets", place, 0, MOST_SOCKETS)
    if sockets and (entry.get("from") or not str(entry["url"]).startswith(("http://", "https://"))):
        raise KflabError("sockets is for a client outside (no `from`) with an http:// or https:// url", place)
    first = mapping(entry.get("firstRequest") or {}, "firstRequest", place)
    for key, port in first.items():
        if key not in ("clientPort", "upstreamPort"):
            raise KflabError(f"unknown field {key!r} of firstRequest; expected clientPort, upstreamPort", place)
        if port is not None:
            whole(port, key, place, 1, 65535)
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
    loss = number(entry.get("packetLoss", 0), "packetLoss", place, 0, 1)
    return truth(entry.get("lookups", False), "lookups", place), round(loss * 1_000_000)


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
    return whole(entry["connections"], "connections", place, 1, MOST_CONNECTIONS), age_ns
