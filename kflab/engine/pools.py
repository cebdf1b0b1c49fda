"""Kept upstream connections of ingress servers (nginx: ngx_http_upstream_keepalive_module.c).

A pool belongs to one ingress server and holds idle connections, newest last. nginx's balancer names the peer first and
the keepalive module then looks for an idle connection to that peer: with round robin over pods the peer is a pod, so a
kept connection only spares the handshake; with one ClusterIP as the only peer any idle connection will do, so traffic
stays on the pods it once reached. `key` says which: a server, or the chooser behind the ClusterIP.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field


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


@dataclass(slots=True)
class Pools:
    """The idle connections of every ingress server, oldest first."""

    idle: dict[int, list[Connection]] = field(default_factory=dict)

    def take(self, ingress: int, key: tuple[str, int], now_ns: int, idle_ns: int) -> Connection | None:
        """Take the most recently used connection for `key` that has not idled out."""
        kept = self.idle.get(ingress)
        if not kept:
            return None
        stale = 0
        while stale < len(kept) and now_ns - kept[stale].idle_since_ns >= idle_ns:
            stale += 1
        del kept[:stale]
        for place in range(len(kept) - 1, -1, -1):
            if kept[place].key == key:
                return kept.pop(place)
        return None

    def keep(self, ingress: int, connection: Connection, limit: int) -> None:
        """Keep a connection that became idle; above `limit` the least recently used one is closed."""
        if limit <= 0:
            return
        kept = self.idle.setdefault(ingress, [])
        kept.append(connection)
        if len(kept) > limit:
            del kept[0]

    def drop_server(self, server: int) -> None:
        """Close every idle connection to a server whose process is gone."""
        for ingress, kept in self.idle.items():
            self.idle[ingress] = [connection for connection in kept if connection.server != server]

    def drop_ingress(self, ingress: int) -> None:
        """Forget the pool of an ingress server that is gone."""
        self.idle.pop(ingress, None)

    def __iter__(self) -> Iterator[tuple[int, Connection]]:
        for ingress in sorted(self.idle):
            for connection in self.idle[ingress]:
                yield ingress, connection
