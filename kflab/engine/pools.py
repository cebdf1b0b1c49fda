"""Kept upstream connections of ingress servers (nginx: ngx_http_upstream_keepalive_module.c).

A pool belongs to one ingress server and holds idle connections, newest last. nginx's balancer names the peer first and
the keepalive module then looks for an idle connection to that peer: with round robin over pods the peer is a pod, so a
kept connection only spares the handshake; with one ClusterIP as the only peer any idle connection will do, so traffic
stays on the pods it once reached. `key` says which: a server, or the chooser behind the ClusterIP.
"""

from collections.abc import Iterator
from dataclasses import field, replace

from kflab.records import dataclass


@dataclass(frozen=True, slots=True)
class Connection:
    """An idle connection; its worker is the one that accepted it."""

    key: tuple[str, int]
    """("server", server) or ("chooser", chooser)."""
    server: int
    worker: int
    idle_since_ns: int
    source_port: int = 0
    """The ingress server's port, from the try that opened it."""
    via: int = -1
    """The virtual server that counts it (see `ipvs_entries`); -1 none."""
    pod_idle_ns: int = 0
    """How long its pod lets it idle before it closes it; 0: longer than anybody here."""
    opened_ns: int = 0
    uses: int = 1
    """Requests that it served."""

    def closing(self, now_ns: int, hop_ns: int) -> bool:
        """Whether a request sent over it now comes to a pod that has closed it: the FIN is on its way.

        The pod's wait begins when its answer sets out, one hop before NGINX has it, and the request travels a hop.
        """
        return self.pod_idle_ns > 0 and now_ns >= self.idle_since_ns + self.pod_idle_ns - 2 * hop_ns


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """What an ingress server keeps (ingress-nginx ConfigMap, upstream-keepalive-*; defaults: config.go)."""

    connections: int = 320
    """Idle ones at most; 0: it keeps none."""
    idle_ns: int = 60_000_000_000
    time_ns: int = 3_600_000_000_000
    """An older connection is not kept after its request."""
    requests: int = 10_000
    """A connection that served so many is not kept."""


@dataclass(slots=True)
class Pool:
    """The idle connections of one ingress server; found by key without a look at the others."""

    idle: dict[int, Connection] = field(default_factory=dict)
    """Number → connection, oldest first."""
    of_key: dict[tuple[str, int], list[int]] = field(default_factory=dict)
    """Key → numbers of its connections, oldest first."""
    next_number: int = 0

    def put(self, connection: Connection) -> None:
        """Add a connection, newest of all."""
        self.idle[self.next_number] = connection
        self.of_key.setdefault(connection.key, []).append(self.next_number)
        self.next_number += 1

    def newest(self, key: tuple[str, int]) -> Connection | None:
        """Take out the newest connection of a key."""
        numbers = self.of_key.get(key)
        return self.idle.pop(numbers.pop()) if numbers else None

    def oldest(self) -> Connection:
        """Take out the oldest connection of all; there is one."""
        return self.out(next(iter(self.idle)))

    def out(self, number: int) -> Connection:
        """Take out one connection."""
        connection = self.idle.pop(number)
        self.of_key[connection.key].remove(number)
        return connection

    def __len__(self) -> int:
        return len(self.idle)

    def __iter__(self) -> Iterator[Connection]:
        return iter(self.idle.values())


@dataclass(slots=True)
class Pools:
    """The idle connections of every ingress server."""

    of: dict[int, Pool] = field(default_factory=dict)
    """Ingress server → its connections."""
    gone: list[tuple[int, Connection]] = field(default_factory=list)
    """Connections with `via` that were closed, and when, until somebody has counted them."""
    any_closed_by_pods: bool = False
    """Whether any pod closes idle connections before NGINX does."""
    usual: PoolLimits = PoolLimits()
    limits: dict[int, PoolLimits] = field(default_factory=dict)
    """Ingress server → what it keeps, where that is not as `usual`."""

    def limits_of(self, ingress: int) -> PoolLimits:
        """What an ingress server keeps."""
        return self.limits.get(ingress, self.usual)

    def take(self, ingress: int, key: tuple[str, int], now_ns: int) -> Connection | None:
        """Take the most recently used connection for `key` that has not idled out."""
        kept = self.of.get(ingress)
        if kept is None:
            return None
        self._expire(kept, now_ns, self.limits_of(ingress).idle_ns)
        return kept.newest(key)

    def _expire(self, kept: Pool, now_ns: int, idle_ns: int) -> None:
        self._drop_closed(kept, now_ns)
        while kept and now_ns - next(iter(kept)).idle_since_ns >= idle_ns:
            stale = kept.oldest()
            self._close(stale, stale.idle_since_ns + idle_ns)

    def _drop_closed(self, kept: Pool, now_ns: int) -> None:
        """Forget what pods have closed."""
        if self.any_closed_by_pods:
            waits = ((number, one.pod_idle_ns, now_ns - one.idle_since_ns) for number, one in kept.idle.items())
            for number in [number for number, pod_ns, idle_ns in waits if pod_ns and idle_ns >= pod_ns]:
                closed = kept.out(number)
                self._close(closed, closed.idle_since_ns + closed.pod_idle_ns)

    def expire(self, now_ns: int) -> None:
        """Close every connection that has been idle for too long."""
        for ingress, kept in self.of.items():
            self._expire(kept, now_ns, self.limits_of(ingress).idle_ns)

    def _close(self, connection: Connection, t_ns: int) -> None:
        if connection.via >= 0:
            self.gone.append((t_ns, connection))

    def keep(self, ingress: int, connection: Connection) -> None:
        """Keep a connection that became idle, unless it is too old; of too many the least recently used is closed.

        Source: nginx ngx_http_upstream_keepalive_module.c, ngx_http_upstream_free_keepalive_peer.
        """
        limits = self.limits_of(ingress)
        if limits.connections <= 0:
            return
        age_ns = connection.idle_since_ns - connection.opened_ns
        if connection.uses >= limits.requests or age_ns > limits.time_ns:
            self._close(connection, connection.idle_since_ns)
            return
        kept = self.of.setdefault(ingress, Pool())
        self.any_closed_by_pods |= connection.pod_idle_ns > 0
        self._drop_closed(kept, connection.idle_since_ns)  # they count no more towards the limit
        kept.put(connection)
        while len(kept) > limits.connections:
            self._close(kept.oldest(), connection.idle_since_ns)

    def stand_still(self, stood_ns: int) -> None:
        """Let no connection be older than it was so long ago."""
        for kept in self.of.values():
            for number, one in kept.idle.items():
                kept.idle[number] = replace(one, idle_since_ns=one.idle_since_ns + stood_ns)

    def drop_server(self, server: int, t_ns: int) -> None:
        """Close every idle connection to a server whose process is gone since `t_ns`, now."""
        for kept in self.of.values():
            for number, connection in tuple(kept.idle.items()):
                if connection.server == server:
                    self._close(kept.out(number), t_ns)
            kept.of_key = {key: numbers for key, numbers in kept.of_key.items() if numbers}

    def drop_ingress(self, ingress: int, t_ns: int) -> None:
        """Forget the pool of an ingress server that is gone since `t_ns`, now."""
        for connection in self.of.pop(ingress, ()):
            self._close(connection, t_ns)

    def __iter__(self) -> Iterator[tuple[int, Connection]]:
        for ingress in sorted(self.of):
            for connection in self.of[ingress]:
                yield ingress, connection
