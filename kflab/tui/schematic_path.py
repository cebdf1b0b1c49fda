"""The one path that the schematic draws: which bands it is made of, in which words, and where a request went on it."""

import re
from collections.abc import Iterator, Mapping

from kflab.dataplane.packets import Hop, RequestTrace
from kflab.lab.snapshot import Band, Candidate, Snapshot
from kflab.manifest.objects import Key
from kflab.records import dataclass

_FAILED_TRIES = frozenset({"refused", "timeout", "no route", "reset", "dropped", "rejected"})
_PORT = re.compile(r":(\d+)")


@dataclass(frozen=True, slots=True)
class Path:
    """Entry → Service. Tiers that the path lacks are None."""

    client: Band | None
    dns: Band | None
    lb: Band | None
    ingress: Band | None
    services: tuple[tuple[Band | None, Band], ...]
    """(route, Service) of every Service behind the same chooser, in the snapshot's order."""
    service: Band | None
    """The selected one of `services`."""
    dead_end: Band | None = None
    """A route that leads to no Service, where there is no `service`: NGINX answers by itself."""

    @property
    def route(self) -> Band | None:
        """The route to the selected Service, or the one that leads nowhere."""
        if self.service is None:
            return self.dead_end
        return next((route for route, band in self.services if band is self.service), None)

    @property
    def entry_rps(self) -> float:
        """What enters; every weight of a wire is a share of it."""
        for band in (self.client, self.lb, self.ingress, self.service):
            if band is not None and band.rate_rps > 0:
                return band.rate_rps
        return 0.0

    @property
    def caller_nodes(self) -> tuple[str, ...]:
        """Nodes where the drawn Service's choice is made, else where the ingress pods run."""
        if self.service is not None and self.service.caller_nodes:
            return self.service.caller_nodes
        if self.ingress is not None:
            return tuple(dict.fromkeys(pod.node for pod in self.ingress.candidates if pod.node))
        return ()

    def bands(self) -> Iterator[Band]:
        """Every band on it, in order."""
        for band in (self.client, self.dns, self.lb, self.ingress, self.route, self.service):
            if band is not None:
                yield band


def service_bands(snapshot: Snapshot) -> list[Band]:
    """The bands that end a path."""
    return [band for band in snapshot.bands if band.kind == "service"]


def holds(band: Band, key: Key) -> bool:
    """Whether an object is the band's own or one of its candidates."""
    return band.key == key or any(candidate.key == key for candidate in band.candidates)


def find_path(snapshot: Snapshot, wanted: str = "") -> Path:
    """Choose and read a path.

    Args:
        snapshot: Of the lab.
        wanted: Id of a service band; "" (or one that is gone) takes the Service with the last change, else the first.

    Returns:
        The path; all None where the snapshot has no bands.
    """
    parents = _parents(snapshot)
    services = service_bands(snapshot)
    chosen = next((band for band in services if band.id == wanted), None)
    subject = snapshot.knowledge.subject
    if chosen is None and subject is not None:
        chosen = next((band for band in services if holds(band, subject)), None)
    if chosen is None:
        chosen = services[0] if services else None
    end = chosen or (snapshot.bands[-1] if snapshot.bands else None)
    tiers = _tiers(end, parents)
    client = tiers.get("client")
    dns = tiers.get("dns")
    if dns is None and client is not None:
        dns = next((band for band in snapshot.bands if band.kind == "dns" and band.parent == client.id), None)
    lb, ingress = tiers.get("lb"), tiers.get("ingress")
    together: list[tuple[Band | None, Band]] = []
    last = ingress or lb or client
    for band in services:
        other = _tiers(band, parents)
        beside = last is not None and all(other.get(kind) is tiers.get(kind) for kind in ("client", "lb", "ingress"))
        if band is chosen or beside:
            together.append((other.get("route"), band))
    dead_end = tiers.get("route") if chosen is None else None
    return Path(client, dns, lb, ingress, tuple(together), chosen, dead_end)


_ORDER = ("client", "dns", "lb", "ingress", "route", "service")


def _parents(snapshot: Snapshot) -> dict[str, Band]:
    """The band above each one; where a band names none, the nearest earlier one of a tier before its own."""
    by_id = {band.id: band for band in snapshot.bands}
    parents: dict[str, Band] = {}
    last: dict[str, Band] = {}
    for band in snapshot.bands:
        above = by_id.get(band.parent)
        if above is None and band.kind in _ORDER:
            tiers_before = _ORDER[: _ORDER.index(band.kind)]
            above = next((last[kind] for kind in reversed(tiers_before) if kind in last), None)
        if above is not None:
            parents[band.id] = above
        last[band.kind] = band
    return parents


def _tiers(band: Band | None, parents: Mapping[str, Band]) -> dict[str, Band]:
    """Bands from this one up to the client, by kind."""
    tiers: dict[str, Band] = {}
    while band is not None and band.kind not in tiers:
        tiers[band.kind] = band
        band = parents.get(band.id)
    return tiers


# --- words ----------------------------------------------------------------------------------------------------


def parts(detail: str) -> list[str]:
    """A band's detail, split at its dots."""
    return [part.strip() for part in detail.split(" · ") if part.strip()]


def service_label(band: Band) -> str:
    """``product-service:80``: the Service's name and the port callers use."""
    name = band.key.name if band.key is not None else band.id.rpartition("/")[2].partition(":")[0]
    port = band.id.rpartition("/")[2].partition(":")[2]
    if not port:
        found = _PORT.search(band.detail)
        port = found.group(1) if found else ""
    return f"{name}:{port}" if port else name


def service_address(band: Band) -> str:
    """The ClusterIP without its port; "" where the detail gives none."""
    for word in band.detail.split():
        address = word.rpartition(":")[0] or word
        if address.count(".") == 3 and address.replace(".", "").isdigit():
            return address
        if word.startswith("[") or address.count(":") > 1:
            return address.strip("[]")
    return ""


def is_upstream(band: Band) -> bool:
    """Whether NGINX goes straight to pods here, so that no NAT to a Service happens."""
    return (
        band.title.lower().startswith("upstream")
        or "(by pod address)" in band.detail
        or any(word in ("round robin", "upstream") or word.startswith("round robin") for word in parts(band.detail))
    )


def emptiness(band: Band) -> str:
    """What callers get where a Service has no endpoints."""
    return next((word for word in parts(band.detail) if word.startswith("no ")), "no endpoints: rejected")


def chooser_word(band: Band) -> str:
    """How it chooses: random, round robin, flow hash, only choice…"""
    if is_upstream(band):
        return "round robin"
    words = parts(band.detail)
    known = ("random", "round robin", "flow hash", "hash", "one node", "sticky", "affinity", "only choice", "least")
    for word in reversed(words):
        for way in known:
            if way in word:
                return "random" if way == "random" else word.partition(",")[0]
    return "random"


def black_hole(snapshot: Snapshot, candidate: Candidate) -> bool:
    """Whether tries to a failing candidate time out (nobody answers) instead of being refused.

    What finished tries met is asked first; without any, a pod whose sandbox is gone answers nothing at all.
    """
    for trace in reversed(snapshot.traces):
        for met in reversed(trace.tries):
            if met.pod == candidate.name and met.outcome in _FAILED_TRIES:
                return met.outcome in ("timeout", "no route", "dropped")
    return candidate.state == "gone" or "no answer" in candidate.note


# --- the way of one request ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Way:
    """Where one request went on the path: hop numbers by place."""

    start: tuple[int, ...]
    """Hops between client and load balancer (or node)."""
    lb: tuple[int, ...]
    entry: tuple[int, ...]
    """DNAT to an ingress pod."""
    ingress: Key | None
    """The ingress pod it reached."""
    route: tuple[int, ...]
    """Hops that NGINX (or the calling pod) made towards the Service."""
    pods: tuple[tuple[Key, tuple[int, ...], bool], ...]
    """(endpoint, hops to it, answered), in the order of the tries."""

    @property
    def reached_service(self) -> bool:
        return bool(self.pods or self.route)


def way_of(trace: RequestTrace, path: Path) -> Way:
    """Find the places of a request's hops on a path, by the addresses its packets were given."""
    targets = _addresses(path.lb)
    ingress_pods = _addresses(path.ingress)
    endpoints = _addresses(path.service)
    start: list[int] = []
    lb: list[int] = []
    entry: list[int] = []
    route: list[int] = []
    ingress: Key | None = None
    pods: dict[Key, list[int]] = {}
    failed: set[Key] = set()
    for hop in trace.hops:
        to = hop.after.dst if hop.after is not None else hop.before.dst if hop.before is not None else ""
        where = hop.where.lower()
        pod = endpoints.get(to) or _touched(hop, endpoints)
        if pod is not None and "load balancer" not in where:
            numbers = pods.setdefault(pod, [])
            if hop.number and hop.number not in numbers and (hop.after is not None or not numbers):
                numbers.append(hop.number)
            if hop.outcome in _FAILED_TRIES:
                failed.add(pod)
            elif hop.outcome:
                failed.discard(pod)
        elif not hop.number:
            continue
        elif "load balancer" in where:
            lb.append(hop.number)
            if pod is not None:  # IP targets: it reached the pod itself
                pods.setdefault(pod, [])
        elif to in ingress_pods:
            entry.append(hop.number)
            ingress = ingress_pods[to]
        elif "nginx" in where or "ingress" in where:
            route.append(hop.number)
        elif not start and (hop.number == 1 or where.startswith("client")):
            start.append(hop.number)
        elif to in targets:
            lb.append(hop.number)
        else:
            (route if pods or ingress is not None else start).append(hop.number)
    if trace.status.isdigit() and trace.status < "500" and pods:
        failed.discard(next(reversed(pods)))
    return Way(
        tuple(start),
        tuple(lb),
        tuple(entry),
        ingress,
        tuple(route),
        tuple((key, tuple(numbers), key not in failed) for key, numbers in pods.items()),
    )


def _addresses(band: Band | None) -> dict[str, Key]:
    return {} if band is None else {one.address: one.key for one in band.candidates if one.address}


def _touched(hop: Hop, endpoints: Mapping[str, Key]) -> Key | None:
    """The endpoint that a remark without a packet is about."""
    if hop.after is not None or hop.before is not None:
        return None
    return next((key for key in hop.touches if key in endpoints.values()), None)


def path_of_trace(snapshot: Snapshot, trace: RequestTrace) -> str:
    """Id of the service band that a request went to; "" where none matches."""
    reached = {hop.after.dst for hop in trace.hops if hop.after is not None}
    reached_keys = {key for hop in trace.hops for key in hop.touches}
    for band in service_bands(snapshot):
        if any(one.address in reached for one in band.candidates if one.address):
            return band.id
    for band in service_bands(snapshot):
        if band.key is not None and band.key in reached_keys:
            return band.id
    return ""
