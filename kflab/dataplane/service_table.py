"""All compiled Services of one revision, indexed by what a packet carries.

A table is immutable. The next revision's shares everything with it but the Services that changed and a small
overlay of the index, so keeping several revisions alive costs little.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from kflab.dataplane.addresses import IPV4
from kflab.dataplane.service_ports import PortRules, ServiceRules
from kflab.manifest.objects import Key

K = TypeVar("K")
V = TypeVar("V")

_OVERLAY_MAX = 512
"""Entries of an overlay before it is merged into a new base: bounds both the copy per change and the lookup."""


class _Layered(Generic[K, V]):
    """A mapping made of a shared base and a small overlay; None in the overlay hides a base entry."""

    __slots__ = ("_base", "_over")

    def __init__(self, base: dict[K, V], over: dict[K, V | None] | None = None) -> None:
        self._base = base
        self._over: dict[K, V | None] = over or {}

    def get(self, key: K) -> V | None:
        if key in self._over:
            return self._over[key]
        return self._base.get(key)

    def flat(self) -> dict[K, V]:
        """The mapping as one dict, not to be changed."""
        if not self._over:
            return self._base
        merged = dict(self._base)
        for key, value in self._over.items():
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = value
        return merged

    def differing(self, other: "_Layered[K, V]") -> list[K]:
        """Keys whose values are not the same object in both; few steps where both share a base."""
        if self._base is other._base:
            keys = dict.fromkeys((*self._over, *other._over))
            return [key for key in keys if self.get(key) is not other.get(key)]
        mine, theirs = self.flat(), other.flat()
        changed = [key for key, value in mine.items() if theirs.get(key) is not value]
        return [*changed, *(key for key in theirs if key not in mine)]

    def changed(self, changes: Mapping[K, V | None]) -> "_Layered[K, V]":
        over = {**self._over, **changes}
        if len(over) <= _OVERLAY_MAX:
            return _Layered(self._base, over)
        return _Layered(_Layered(self._base, over).flat())


def _counted(known: _Layered[K, int], deltas: Mapping[K, int]) -> _Layered[K, int]:
    """Counts with deltas added; what is counted no more is left out."""
    changes = {key: (known.get(key) or 0) + delta or None for key, delta in deltas.items() if delta}
    return known.changed(changes) if changes else known


Destination = tuple[str, str, int]
"""(address, protocol, port)."""


def _destinations(port: PortRules) -> tuple[Destination, ...]:
    addresses = dict.fromkeys((port.cluster_ip, *port.external_ips, *port.lb_ips))
    return tuple((address, port.protocol, port.port) for address in addresses)


class ServiceTable(Mapping[Key, ServiceRules]):
    """Services of one revision and family: a mapping by key with an index by destination."""

    __slots__ = (
        "_by_destination",
        "_by_health_port",
        "_by_node_port",
        "_cluster_ips",
        "_len",
        "_other_ips",
        "_services",
        "family",
        "n_endpoints",
    )

    def __init__(self, services: Iterable[ServiceRules] = (), family: str = IPV4) -> None:
        by_key: dict[Key, ServiceRules] = {}
        destinations: dict[Destination, list[PortRules]] = {}
        node_ports: dict[tuple[str, int], list[PortRules]] = {}
        health_ports: dict[int, list[PortRules]] = {}
        cluster_ips: Counter[str] = Counter()
        other_ips: Counter[str] = Counter()
        self.family = family
        self.n_endpoints = 0
        for rules in sorted(services, key=lambda item: item.key):
            by_key[rules.key] = rules
            self.n_endpoints += rules.n_endpoints
            for port in rules.ports:
                cluster_ips[port.cluster_ip] += 1
                other_ips.update((*port.external_ips, *port.lb_ips))
                for destination in _destinations(port):
                    destinations.setdefault(destination, []).append(port)
                if port.node_port:
                    node_ports.setdefault((port.protocol, port.node_port), []).append(port)
                if port.health_port:
                    health_ports.setdefault(port.health_port, []).append(port)
        self._services: _Layered[Key, ServiceRules] = _Layered(by_key)
        self._len = len(by_key)
        self._cluster_ips: _Layered[str, int] = _Layered(dict(cluster_ips))
        self._other_ips: _Layered[str, int] = _Layered(dict(other_ips))
        self._by_destination = _Layered({key: tuple(ports) for key, ports in destinations.items()})
        self._by_node_port = _Layered({key: tuple(ports) for key, ports in node_ports.items()})
        self._by_health_port = _Layered({key: tuple(ports) for key, ports in health_ports.items()})

    @classmethod
    def of(cls, services: Mapping[Key, ServiceRules], family: str = IPV4) -> "ServiceTable":
        """The mapping itself if it is a table already."""
        return services if isinstance(services, ServiceTable) else cls(services.values(), family)

    def __getitem__(self, key: Key) -> ServiceRules:
        rules = self._services.get(key)
        if rules is None:
            raise KeyError(key)
        return rules

    def __contains__(self, key: object) -> bool:
        """Whether there is a Service of that key."""
        return isinstance(key, Key) and self._services.get(key) is not None

    def __iter__(self) -> Iterator[Key]:
        """Keys in order of namespace and name, as rules are printed."""
        return iter(sorted(self._services.flat()))

    def __len__(self) -> int:
        return self._len

    def at(self, address: str, protocol: str, port: int) -> tuple[PortRules, ...]:
        """Service ports with this ClusterIP, external IP or load balancer IP, in order of namespace and name."""
        return self._by_destination.get((address, protocol, port)) or ()

    def at_node_port(self, protocol: str, port: int) -> tuple[PortRules, ...]:
        """Service ports with this NodePort."""
        return self._by_node_port.get((protocol, port)) or ()

    def at_health_port(self, port: int) -> tuple[PortRules, ...]:
        """Service ports with this health check node port."""
        return self._by_health_port.get(port) or ()

    def has_cluster_ip(self, address: str) -> bool:
        """Whether it is the ClusterIP of a Service that has rules."""
        return self._cluster_ips.get(address) is not None

    def has_other_ip(self, address: str) -> bool:
        """Whether it is an external IP or a captured load balancer IP of a Service."""
        return self._other_ips.get(address) is not None

    def differing(self, other: "ServiceTable") -> list[Key]:
        """Keys of Services that are not the same compiled value in both, removed and new ones among them."""
        return sorted(self._services.differing(other._services))

    def with_changes(self, changes: Mapping[Key, ServiceRules | None]) -> "ServiceTable":
        """The next revision's table.

        Args:
            changes: New compiled value of every Service that changed; None for removed ones.
        """
        table = ServiceTable.__new__(ServiceTable)
        table.family = self.family
        table.n_endpoints = self.n_endpoints
        table._len = self._len
        destinations: dict[Destination, None] = {}
        node_ports: dict[tuple[str, int], None] = {}
        health_ports: dict[int, None] = {}
        cluster_ips: Counter[str] = Counter()
        other_ips: Counter[str] = Counter()
        for key, new in changes.items():
            old = self._services.get(key)
            table.n_endpoints += (new.n_endpoints if new else 0) - (old.n_endpoints if old else 0)
            table._len += (new is not None) - (old is not None)
            for rules, count in ((old, -1), (new, 1)):
                for port in rules.ports if rules else ():
                    cluster_ips[port.cluster_ip] += count
                    for ip in (*port.external_ips, *port.lb_ips):
                        other_ips[ip] += count
                    destinations.update(dict.fromkeys(_destinations(port)))
                    node_ports[port.protocol, port.node_port] = None
                    health_ports[port.health_port] = None

        new_ports = [port for new in changes.values() for port in (new.ports if new else ())]

        def patched(known: tuple[PortRules, ...] | None, added: Iterable[PortRules]) -> tuple[PortRules, ...] | None:
            kept = (port for port in known or () if port.service not in changes)
            return tuple(sorted((*kept, *added), key=lambda port: port.order)) or None

        table._services = self._services.changed(changes)
        table._cluster_ips = _counted(self._cluster_ips, cluster_ips)
        table._other_ips = _counted(self._other_ips, other_ips)
        table._by_destination = self._by_destination.changed(
            {
                at: patched(self._by_destination.get(at), [port for port in new_ports if at in _destinations(port)])
                for at in destinations
            }
        )
        table._by_node_port = self._by_node_port.changed(
            {
                at: patched(self._by_node_port.get(at), [p for p in new_ports if (p.protocol, p.node_port) == at])
                for at in node_ports
                if at[1]
            }
        )
        table._by_health_port = self._by_health_port.changed(
            {
                at: patched(self._by_health_port.get(at), [port for port in new_ports if port.health_port == at])
                for at in health_ports
                if at
            }
        )
        return table
