"""Which addresses Services have, without their ports: worked out once per table, whatever the number of nodes."""

from collections import OrderedDict
from typing import Final, NamedTuple

from kflab.dataplane.service_table import ServiceTable

_KEPT: Final = 8
"""Tables (revisions) whose addresses are kept."""


class _Known(NamedTuple):
    table: ServiceTable
    """Kept so that its id is not given to another."""
    cluster: frozenset[str]
    all: frozenset[str]


_known: OrderedDict[int, _Known] = OrderedDict()


def _of(services: ServiceTable) -> _Known:
    known = _known.get(id(services))
    if known is None or known.table is not services:
        ports = [port for rules in services.values() for port in rules.ports]
        cluster = frozenset(port.cluster_ip for port in ports)
        others = (ip for port in ports for ip in (*port.external_ips, *port.lb_ips))
        known = _known[id(services)] = _Known(services, cluster, cluster.union(others))
        while len(_known) > _KEPT:
            _known.popitem(last=False)
    return known


def cluster_ips(services: ServiceTable) -> frozenset[str]:
    """The ClusterIP of every Service that has rules."""
    return _of(services).cluster


def virtual_ips(services: ServiceTable) -> frozenset[str]:
    """Every ClusterIP, external IP and captured load balancer IP."""
    return _of(services).all
