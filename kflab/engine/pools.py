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
    via: int = -1
    """The virtual server that counts it (see `ipvs_entries`); -1 none."""
    pod_idle_ns: int = 0
    """How long its pod lets it idle before it closes it; 0: longer than anybody here."""

    def closing(self, now_ns: int, hop_ns: int) -> bool:
        """Whether a request sent over it now comes to a pod that has closed it: the FIN is on its way.

        The pod's wait begins when its answer sets out, one hop before NGINX has it, and the request travels a hop.
        """
        return self.pod_idle_ns > 0 and now_ns >= self.idle_since_ns + self.pod_idle_ns - 2 * hop_ns


@dataclass(slots=True)
class Pools:
    """The idle connections of every ingress server, oldest first."""

    idle: dict[int, list[Connection]] = field(default_factory=dict)
    gone: list[tuple[int, Connection]] = field(default_factory=list)
    """Connections with `via` that were closed, and when, until somebody has counted them."""
    any_closed_by_pods: bool = False
    """Whether any pod closes idle connections before NGINX does."""

    def take(self, ingress: int, key: tuple[str, int], now_ns: int, idle_ns: int) -> Connection | None:
        """Take the most recently used connection for `key` that has not idled out."""
        kept = self.idle.get(ingress)
        if not kept:
            return None
        self._expire(kept, now_ns, idle_ns)
        for place in range(len(kept) - 1, -1, -1):
            if kept[place].key == key:
                return kept.pop(place)
        return None

    def _expire(self, kept: list[Connection], now_ns: int, idle_ns: int) -> None:
        self._drop_closed(kept, now_ns)
        stale = 0
        while stale < len(kept) and now_ns - kept[stale].idle_since_ns >= idle_ns:
            self._close(kept[stale], kept[stale].idle_since_ns + idle_ns)
            stale += 1
        del kept[:stale]

    def _drop_closed(self, kept: list[Connection], now_ns: int) -> None:
        """Forget what pods have closed."""
        if self.any_closed_by_pods:
            for connection in [c for c in kept if c.pod_idle_ns and now_ns - c.idle_since_ns >= c.pod_idle_ns]:
                kept.remove(connection)
                self._close(connection, connection.idle_since_ns + connection.pod_idle_ns)

    def expire(self, now_ns: int, idle_ns: int) -> None:
        """Close every connection that has been idle for too long."""
        for kept in self.idle.values():
            self._expire(kept, now_ns, idle_ns)

    def _close(self, connection: Connection, t_ns: int) -> None:
        if connection.via >= 0:
            self.gone.append((t_ns, connection))

    def keep(self, ingress: int, connection: Connection, limit: int) -> None:
        """Keep a connection that became idle; above `limit` the least recently used one is closed."""
        if limit <= 0:
            return
        kept = self.idle.setdefault(ingress, [])
        self.any_closed_by_pods |= connection.pod_idle_ns > 0
        self._drop_closed(kept, connection.idle_since_ns)  # they count no more towards the limit
        kept.append(connection)
        if len(kept) > limit:
            self._close(kept.pop(0), connection.idle_since_ns)

    def drop_server(self, server: int, t_ns: int) -> None:
        """Close every idle connection to a server whose process is gone since `t_ns`, now."""
        for ingress, kept in self.idle.items():
            self.idle[ingress] = [connection for connection in kept if connection.server != server]
            for connection in kept:
                if connection.server == server:
                    self._close(connection, t_ns)

    def drop_ingress(self, ingress: int, t_ns: int) -> None:
        """Forget the pool of an ingress server that is gone since `t_ns`, now."""
        for connection in self.idle.pop(ingress, ()):
            self._close(connection, t_ns)

    def __iter__(self) -> Iterator[tuple[int, Connection]]:
        for ingress in sorted(self.idle):
            for connection in self.idle[ingress]:
                yield ingress, connection
