"""The ledger's bands: from streams, choosers and counts to a chooser and its candidates, tier by tier.

Rows keep their places: a pod that has been listed keeps its row until it is gone and everybody knows.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

from kflab.control.lbprofiles import ONE_NODE, POD
from kflab.dataplane.ipvs_schedulers import CHOOSER, DEFAULT
from kflab.dataplane.world import LbInForce
from kflab.engine.types import Answer, Pick
from kflab.lab.choosers import Chooser, Wired
from kflab.lab.entries import Entry
from kflab.lab.snapshot import Band, Candidate, Series
from kflab.manifest.objects import Key
from kflab.manifest.objects_network import Service
from kflab.manifest.objects_pods import Pod

if TYPE_CHECKING:
    from kflab.lab.running import Lab
from kflab.lab.band_counts import Counts, spread
from kflab.lab.way_in_words import balancer_words, way_in, way_in_words

DNS_TTL = "TTL 60 s"
"""Route 53's TTL of a load balancer's alias record (AWS docs, Choosing between alias and non-alias records)."""

_BY = {Pick.ROUND_ROBIN: "round robin", Pick.EWMA: "ewma", Pick.PEER_DRAWN: "drawn"}
"""How NGINX picks a pod, in words."""


def caller_band(entry: Entry) -> str:
    """Id of the band of the workload that makes a call."""
    caller = entry.caller
    return f"client/calls/{caller.namespace}/{caller.kind}/{caller.name}" if caller is not None else ""


class Bands:
    """Builds bands; remembers the order of rows."""

    def __init__(self, lab: "Lab") -> None:
        self._lab = lab
        self._rows: dict[str, dict[int, None]] = {}
        """Band id → servers in the order in which they were first listed."""

    def build(self, counts: Counts) -> tuple[Band, ...]:
        """All bands in path order."""
        wired = self._lab.wiring.wired
        outside = [item for item in wired if not item.entry.inside]
        inside = [item for item in wired if item.entry.kind == "pod"]
        bands: list[Band] = []
        if outside:
            bands.append(self._client(outside, counts, "client/outside"))
            bands.extend(self._dns(outside))
            bands.extend(self._balancers(outside, counts))
            bands.extend(self._ingresses(outside, counts))
            bands.extend(self._routes(outside, counts))
        if inside:
            bands.append(self._client(inside, counts, "client/pod"))
        bands.extend(self._callers(counts))
        bands.extend(self._services(counts))
        return tuple(bands)

    # --- clients and DNS ------------------------------------------------------------------------------------

    def _client(self, wired: list[Wired], counts: Counts, band: str) -> Band:
        entries = [item.entry for item in wired]
        ids = [entry.index for entry in entries]
        urls = list(dict.fromkeys(entry.url for entry in entries))
        hosts = list(dict.fromkeys(f"{entry.scheme}://{entry.host}" for entry in entries))
        address = entries[0].client
        if band == "client/pod":
            n = len(entries)
            plural = "s" if n > 1 else ""
            if all(map(self._lab.wiring.clients.away, wired)):
                address = "gone, none Ready in its place"
            if all(entry.source is None for entry in entries):
                text = f"client pod {address} · {n} Service{plural} nobody else calls, 1/s each"
            else:
                text = f"client pod {address} · {urls[0] if n == 1 else f'{n} Services'}"
            short = f"client pod · {n} Service{plural}"
        elif len(urls) == 1:
            text, short = f"{address} · {urls[0]}", f"{address} · {entries[0].scheme}://…{entries[0].path}"
        elif len(hosts) == 1:
            text = f"{address} · {hosts[0]} · {len(urls)} paths"
            short = f"{hosts[0]} · {len(urls)} paths"
        else:
            text, short = f"{address} · {len(urls)} URLs on {len(hosts)} hosts", f"{len(urls)} URLs"
        sent = counts.total(counts.sent, ids)
        return Band(
            band, "client", "client", text, short, key=entries[0].client_pod, rate_rps=counts.rate(counts.sent, ids),
            series=Series(sent, counts.total(counts.sent, ())),
        )  # fmt: skip

    def _callers(self, counts: Counts) -> list[Band]:
        """One band per workload whose pods call others while they serve requests."""
        bands = []
        groups = self._grouped(list(self._lab.wiring.inner.callers()), lambda item: caller_band(item.entry))
        for band, items in groups.items():
            caller = cast(Key, items[0].entry.caller)
            callees = list(dict.fromkeys(item.entry.host for item in items))
            n = len(callees)
            what = f"calls {n} Services" if n > 1 else f"calls {callees[0]}"
            ids = [item.entry.index for item in items]
            sent = counts.total(counts.sent, ids)
            bands.append(
                Band(
                    band, "client", "caller", f"pods of {caller.name} · {what} for the requests they serve",
                    f"{caller.name} · {what}", key=caller, rate_rps=counts.rate(counts.sent, ids),
                    series=Series(sent, counts.total(counts.sent, ())),
                )
            )  # fmt: skip
        return bands

    def _dns(self, wired: list[Wired]) -> list[Band]:
        found: dict[str, Band] = {}
        for item in wired:
            host = item.entry.host
            address = self._lab.wiring.dialling.dialled(item.entry).rpartition(":")[0]
            if not host or host == address or not any(letter.isalpha() for letter in host) or not address:
                continue
            text = f"{host} → {address} · only choice"
            found.setdefault(
                host, Band(f"dns/{host}", "dns", "DNS", text, f"{host} → {address}", figure="cached", note=DNS_TTL,
                           parent="client/outside"),
            )  # fmt: skip
        return list(found.values())

    # --- load balancer and ingress --------------------------------------------------------------------------

    def _balancers(self, wired: list[Wired], counts: Counts) -> list[Band]:
        bands = []
        for band, items in self._grouped(wired, lambda item: item.lb.band if item.lb else "").items():
            entry, lb = items[0].entry, cast(Chooser, items[0].lb)
            if entry.alb is not None and entry.group is None:
                bands.append(self._answers_itself(band, items, counts))
                continue
            nodes = [key.name for key in self._lab.store.keys("Node") if entry.node in ("", key.name)]
            service = self._lab.store.get(entry.service)
            node_port = self._lab.wiring.dialling.node_port(entry)
            known = self._lab.wiring.dialling.balancer_at(entry, self._lab.t_ns)
            behind = {target.node.name for target in known.targets if target.healthy} if known else set()
            healthy = [node for node in nodes if node in behind] if entry.balanced else nodes
            entered = {node: [item.entries[node].index for item in items if node in item.entries] for node in nodes}
            total = sum(counts.rate(counts.chosen, ids) for ids in entered.values())
            expected = self._weights([lb], counts)
            rows = []
            for node in nodes:
                rate = counts.rate(counts.chosen, entered[node])
                share = expected.get(self._lab.wiring.index.place(node), 0.0)
                low, high = spread(share, total * counts.seconds)
                up = node in healthy
                obj = self._lab.store.get(Key("Node", "", node))
                note = "" if up else self._why_unhealthy(service, known)
                if up and not share and known is not None and known.profile.picks == ONE_NODE:
                    note = "stands by"
                rows.append(
                    Candidate(
                        Key("Node", "", node), node, "healthy" if up else "unhealthy",
                        next(iter(getattr(obj, "internal_ips", ())), ""), "", rate / total if total else None,
                        share if share else (0.0 if not up else None), low, high, rate, note=note,
                        series=self._entered(entered[node], counts) if up or rate else None, listed=up,
                    )
                )  # fmt: skip
            how = balancer_words(known.profile) if known else "the client picks a node"
            choice = f"{how}, {len(healthy)} of {len(nodes)}" if len(healthy) != 1 or len(nodes) > 1 else "only choice"
            ids = [index for group in entered.values() for index in group]
            front = self._lab.wiring.dialling.dialled(entry)
            short = f"{front} · {known.profile.short}" if known else front
            to = way_in(known.profile if known else None, node_port)
            title = "load balancer" if entry.balanced else "nodes"
            bands.append(
                Band(
                    band, "lb", title, f"{front} → {to} · {choice}", short, key=entry.service, rate_rps=total,
                    series=Series(counts.total(counts.chosen, ids), counts.total(counts.chosen, ())),
                    candidates=tuple(rows), parent="client/outside",
                )
            )  # fmt: skip
        return bands

    def _answers_itself(self, band: str, items: list[Wired], counts: Counts) -> Band:
        """An Application Load Balancer that has no target group for these requests."""
        entry, ids = items[0].entry, [item.entry.index for item in items]
        front, status = self._lab.wiring.dialling.dialled(entry), items[0].stream.front_answer
        text = f"{front} · {entry.host}{entry.path} → ALB answers {status} itself"
        sent = counts.total(counts.sent, ids)
        return Band(
            band, "lb", "load balancer", text, f"{front} · {status}", key=entry.ingress,
            rate_rps=counts.rate(counts.sent, ids), series=Series(sent, counts.total(counts.sent, ())),
            parent="client/outside",
        )  # fmt: skip

    @staticmethod
    def _entered(choosers: list[int], counts: Counts) -> Series:
        return Series(counts.total(counts.chosen, choosers), counts.total(counts.chosen, ()))

    def _why_unhealthy(self, service: object, known: LbInForce | None) -> str:
        if known is not None and known.profile.destination == POD:
            return "no pod there"
        controllers = [key for c in self._lab.controllers.all() for key in c.services]
        if isinstance(service, Service) and service.external_traffic_policy == "Local":
            return "no ingress pod" if service.key in controllers else "no local pod"
        return "check fails"

    def _ingresses(self, wired: list[Wired], counts: Counts) -> list[Band]:
        bands = []
        l7 = [item for item in wired if item.entry.kind == "l7"]
        for band, items in self._grouped(
            l7, lambda item: f"{item.entry.service.namespace}/{item.entry.service.name}"
        ).items():
            entry = items[0].entry
            choosers = [
                chooser for item in items for chooser in item.entries.values() if self._lab.wiring.reached(chooser)
            ]
            nodes = list(dict.fromkeys(chooser.place for chooser in choosers))
            service = cast(Service, self._lab.store.get(entry.service))
            node_port = self._lab.wiring.dialling.node_port(entry)
            target = self._target_port(service, entry.port.port)
            ports = {self._lab.wiring.servers[i][1] for c in choosers if c.fan for i in c.fan.candidates}
            target = ports.pop() if isinstance(target, str) and len(ports) == 1 else target
            where = f"DNAT on {nodes[0]}" if len(nodes) == 1 else f"DNAT on {len(nodes)} nodes"
            profile = self._lab.wiring.dialling.profile_of(entry)
            if profile is not None and profile.destination == POD:
                where = "straight to the pod"
            rows = self._pods(f"ingress/{band}", choosers, counts, entry.service)
            choice = "only choice" if len(rows) == 1 else "random"
            bands.append(
                Band(
                    f"ingress/{band}", "ingress", "ingress",
                    f"{way_in_words(profile, node_port)} → :{target} · {where}, {choice}",
                    f"{where}, {choice}", key=entry.service,
                    rate_rps=counts.rate(counts.chosen, [c.index for c in choosers]),
                    series=self._chosen(choosers, counts), candidates=rows,
                    parent=items[0].lb.band if items[0].lb else "client/outside", caller_nodes=tuple(nodes),
                )
            )  # fmt: skip
        return bands

    def _routes(self, wired: list[Wired], counts: Counts) -> list[Band]:
        l7 = [item for item in wired if item.entry.kind == "l7"]
        if not l7:
            return []
        tls = "NGINX ends TLS" if any(item.entry.scheme == "https" for item in l7) else "NGINX"
        routes = {}
        for item in l7:
            chooser = next(iter(item.upstreams.values()), None)
            backend = f"{chooser.service.name}:{chooser.service_port}" if chooser and chooser.service else "404"
            routes[item.entry.host, item.entry.path] = (backend, chooser, item)
        first = l7[0]
        parent = f"ingress/{first.entry.service.namespace}/{first.entry.service.name}"
        if len(routes) == 1:
            (_, path), (backend, chooser, item) = next(iter(routes.items()))
            choice = "only choice" if backend != "404" else "no rule matches"
            if backend != "404" and chooser is not None and chooser.by_peer and chooser.fan:
                n = len(chooser.fan.candidates)
                choice = "only choice" if n == 1 else f"{n} upstreams, {_BY[chooser.picker]}"
            text = f"{tls} · {path} → {backend} · {choice}"
            return [Band("route/0", "route", "", text, text, key=item.entry.ingress, parent=parent)]
        backends = list(dict.fromkeys(backend for backend, _, _ in routes.values()))
        plural = "s, each its own band" if len(backends) > 1 else ""
        text = f"{tls} · {len(routes)} paths → {len(backends)} Service{plural}"
        return [Band("route/0", "route", "", text, text, key=first.entry.ingress, parent=parent)]

    # --- Services -------------------------------------------------------------------------------------------

    def _services(self, counts: Counts) -> list[Band]:
        groups: dict[str, list[Chooser]] = {}
        for chooser in self._lab.wiring.choosers:
            if chooser.band.startswith("service/"):
                groups.setdefault(chooser.band, []).append(chooser)
        return [self._service(band, choosers, counts) for band, choosers in groups.items()]

    def _service(self, band: str, choosers: list[Chooser], counts: Counts) -> Band:
        first = choosers[0]
        key = cast(Key, first.service)
        service = self._lab.store.get(key)
        ip = service.cluster_ip if isinstance(service, Service) else ""
        target = self._target_port(service, first.service_port)
        reached = [chooser for chooser in choosers if self._lab.wiring.reached(chooser)]
        rows = self._pods(band, reached, counts, key)
        ports = {self._lab.wiring.servers[i][1] for c in reached if c.fan for i in c.fan.candidates}
        target = ports.pop() if isinstance(target, str) and len(ports) == 1 else target
        n_listed = sum(row.listed for row in rows)
        picks = CHOOSER[self._lab.wiring.compiler.turns.scheduler(first.virtual) or DEFAULT]
        fan = first.fan
        empty = fan is not None and not fan.candidates
        if fan is not None and not fan.candidates:
            how = {Answer.REJECTED: "no endpoints: rejected", Answer.NO_UPSTREAM: "no endpoints: 503"}.get(
                fan.answer, "no answer"
            )
        else:
            how = (
                "only choice"
                if n_listed == 1
                else "affinity"
                if first.sticky
                else _BY.get(first.picker, picks if first.picker == Pick.SCHEDULED else "random")
            )
        streams = list(dict.fromkeys(chooser.entry.index for chooser in reached))
        tries = counts.rate(counts.chosen, [chooser.index for chooser in reached])
        sent = counts.rate(counts.sent, streams)
        per_request = tries / sent if sent and first.kind == "upstream" else 1.0
        if per_request >= 1.005:
            how = f"{per_request:.2f} tries/request"
        external = ""
        if first.kind != "upstream" and not first.entry.inside:
            profile = self._lab.wiring.dialling.profile_of(first.entry)
            words = way_in_words(profile, self._lab.wiring.dialling.node_port(first.entry))
            external = f" · {words}"
            if profile and profile.destination == POD and not empty and n_listed > 1:
                how = balancer_words(profile)
        straight = " (by pod address)" if first.by_peer else ""
        callers = list(dict.fromkeys(chooser.place for chooser in reached if chooser.place))
        lost, text, word = self._lab.view.lost_in(key)
        return Band(
            band, "service", "Service", f"{key.name} {ip}:{first.service_port} → :{target}{external}{straight} · {how}",
            f"{key.name} {ip}:{first.service_port}", key=key, rate_rps=tries, tries_per_request=per_request,
            series=self._chosen(reached, counts), candidates=rows, footer=text if lost else "",
            footer_short=f"{lost:,} {word}" if lost else "", note="" if rows else "no pods",
            parent=self._comes_from(first),
            caller_nodes=tuple(callers),
        )  # fmt: skip

    def _comes_from(self, chooser: Chooser) -> str:
        """Id of the band before a Service's."""
        if chooser.kind == "upstream":
            return "route/0"
        if chooser.entry.kind == "call":
            return caller_band(chooser.entry)
        if chooser.entry.kind == "pod":
            return "client/pod"
        wired = self._lab.wiring.wired[chooser.entry.index]
        return wired.lb.band if wired.lb else "client/outside"

    def _target_port(self, service: object, port: int) -> int | str:
        found = next((p for p in service.ports if p.port == port), None) if isinstance(service, Service) else None
        return found.target if found else port

    def _chosen(self, choosers: list[Chooser], counts: Counts) -> Series:
        ids = [chooser.index for chooser in choosers]
        return Series(counts.total(counts.chosen, ids), counts.total(counts.chosen, ()))

    # --- rows -----------------------------------------------------------------------------------------------

    def _weights(self, choosers: list[Chooser], counts: Counts) -> dict[int, float]:
        """Expected share by candidate: each chooser's own shares, weighted by how many connections it decided."""
        rates = [counts.rate(counts.chosen, [chooser.index]) for chooser in choosers]
        if not any(rates):
            rates = [1.0] * len(choosers)
        total = sum(rates)
        expected: dict[int, float] = {}
        for chooser, rate in zip(choosers, rates, strict=True):
            if chooser.fan is None or not chooser.fan.candidates or not rate:
                continue
            weight = sum(chooser.fan.weights)
            for candidate, part in zip(chooser.fan.candidates, chooser.fan.weights, strict=True):
                expected[candidate] = expected.get(candidate, 0.0) + rate / total * part / weight
        return expected

    def _pods(self, band: str, choosers: list[Chooser], counts: Counts, service: Key) -> tuple[Candidate, ...]:
        wiring = self._lab.wiring
        expected = self._weights(choosers, counts)
        rows = self._rows.setdefault(band, {})
        rows.update(dict.fromkeys(sorted(expected)))
        known_pods = {wiring.servers[index][3] for index in rows}
        candidates = []
        total = sum(counts.rate(columns, rows) for columns in (counts.server_ok, counts.server_bad))
        listed_pods = {wiring.servers[index][3] for index in expected}
        spreads: dict[float | None, tuple[float, float]] = {}
        for index in list(rows):
            ip, _, _, pod = wiring.servers[index]
            if index not in expected and pod is not None and pod in listed_pods:
                del rows[index]  # the same pod by another port: the targetPort was changed
                continue
            obj = self._lab.store.get(pod) if pod else None
            listed = index in expected
            if not listed and obj is None and not self._recently(counts, index):
                del rows[index]
                continue
            rate = counts.rate_of(counts.server_ok, index) + counts.rate_of(counts.server_bad, index)
            share = expected.get(index)
            if share not in spreads:
                spreads[share] = spread(share or 0.0, total * counts.seconds)
            low, high = spreads[share]
            state, note, left = self._lab.view.pod_words(pod, obj)
            # The bin that is still filling counts here: a crash shows at once.
            failing = counts.lately(counts.server_bad, index)
            node = obj.spec.node_name if isinstance(obj, Pod) else ""
            seen = rate / total if total else None
            candidates.append(
                Candidate(
                    pod or Key("Endpoint", "", ip), pod.name if pod else ip, state, ip, node, seen, share, low, high,
                    rate, failing, obj.status.restarts if isinstance(obj, Pod) else 0, note,
                    left, counts.of_server(index), listed,
                )
            )  # fmt: skip
        for other in self._lab.view.pods_behind(service):
            if other.key not in known_pods:
                state, note, left = self._lab.view.pod_words(other.key, other)
                seen = 0.0 if total else None
                candidates.append(
                    Candidate(other.key, other.meta.name, state, other.ip, other.spec.node_name, seen, None,
                              restarts=other.status.restarts, note=note, left=left, listed=False)
                )  # fmt: skip
        return tuple(candidates)

    def _recently(self, counts: Counts, server: int) -> bool:
        """Whether anything went to a server within the lens (its row then stays)."""
        recent = (
            counts.total(counts.server_ok, [server])[-120:].sum()
            + counts.total(counts.server_bad, [server])[-120:].sum()
        )
        return bool(recent)

    @staticmethod
    def _grouped(wired: list[Wired], by: Callable[[Wired], str]) -> Mapping[str, list[Wired]]:
        groups: dict[str, list[Wired]] = {}
        for item in wired:
            groups.setdefault(by(item), []).append(item)
        groups.pop("", None)
        return groups
