"""Endpoints, derived from EndpointSlices, and how kubectl shortens lists of addresses.

What rules are made from are EndpointSlices. The Endpoints object of a Service says the same: ready addresses,
not-ready addresses, ports; terminating pods are left out.

Source: k8s.io/kubernetes pkg/controller/endpoint/endpoints_controller.go; api/v1/endpoints/util.go RepackSubsets
(grouping by ports, order of addresses); kubectl pkg/describe formatEndpointSlices; pkg/printers/internalversion
formatEndpoints, formatDiscoveryPorts.
"""

from collections.abc import Sequence

from kflab.cluster.store import Store
from kflab.dataplane.packets import join_host_port
from kflab.manifest.objects import Key, Meta
from kflab.manifest.objects_network import EndpointPort, Endpoints, EndpointSlice, EndpointSubset, Service

SHOWN = 3
"""How many addresses, ports or hosts kubectl prints before "+ N more..."."""


def slices_of(service: Key, store: Store) -> tuple[EndpointSlice, ...]:
    """The slices of a Service by name, as the API server lists them."""
    found = [
        obj
        for obj in store.of_kind("EndpointSlice", service.namespace)
        if isinstance(obj, EndpointSlice) and obj.service == service
    ]
    return tuple(sorted(found, key=lambda obj: obj.meta.name))


def endpoints_of(service: Service, store: Store) -> Endpoints | None:
    """The Endpoints object of a Service; None for one without selector and without slices (nothing makes it)."""
    slices = slices_of(service.key, store)
    if not slices and not service.selector:
        return None
    by_ports: dict[tuple[EndpointPort, ...], tuple[list[tuple[str, Key | None, str]], ...]] = {}
    for part in slices:
        if part.address_type == "FQDN":
            continue
        ports = tuple(sorted(part.ports, key=lambda port: (port.name, port.port or 0, port.protocol)))
        ready, not_ready = by_ports.setdefault(ports, ([], []))
        for endpoint in part.endpoints:
            if endpoint.terminating and not service.publish_not_ready:
                continue
            where = ready if endpoint.ready is not False else not_ready
            where.extend((address, endpoint.target, endpoint.node_name) for address in endpoint.addresses[:1])
    subsets = tuple(
        EndpointSubset(tuple(sorted(ready, key=_by_ip)), tuple(sorted(not_ready, key=_by_ip)), ports)
        for ports, (ready, not_ready) in by_ports.items()
        if ready or not_ready
    )
    labels = dict(service.meta.labels)
    if service.headless:
        labels["service.kubernetes.io/headless"] = ""
    labels["endpoints.kubernetes.io/managed-by"] = "endpoint-controller"  # since v1.33
    created = min((part.meta.creation_ns for part in slices), default=service.meta.creation_ns)
    meta = Meta(service.meta.name, service.meta.namespace, labels=labels, creation_ns=created)
    return Endpoints(meta, subsets=subsets)


def _by_ip(entry: tuple[str, Key | None, str]) -> bytes:
    # RepackSubsets compares addresses as bytes of their text: 10.0.0.10 comes before 10.0.0.9.
    return entry[0].encode()


def all_endpoints(store: Store, namespace: str | None) -> tuple[Endpoints, ...]:
    """Endpoints of every Service of a namespace (None: of all), in order of creation."""
    found = (endpoints_of(obj, store) for obj in store.of_kind("Service", namespace) if isinstance(obj, Service))
    return tuple(endpoints for endpoints in found if endpoints is not None)


def with_more(shown: Sequence[str], total: int) -> str:
    """`a,b,c + 4 more...`."""
    text = ",".join(shown)
    return f"{text} + {total - SHOWN} more..." if total > SHOWN else text


def endpoints_text(endpoints: Endpoints) -> str:
    """The ENDPOINTS column of `kubectl get endpoints`."""
    found: list[str] = []
    for subset in endpoints.subsets:
        if not subset.ports:
            found.extend(address for address, _, _ in subset.addresses)
        for port in subset.ports:
            found.extend(join_host_port(address, port.port or 0) for address, _, _ in subset.addresses)
    return with_more(found[:SHOWN], len(found)) or "<none>"


def slice_ports_text(part: EndpointSlice) -> str:
    """The PORTS column of `kubectl get endpointslices`."""
    found = [str(port.port) if port.port is not None else port.name or "*" for port in part.ports]
    return with_more(found[:SHOWN], len(found)) or "<unset>"


def slice_addresses_text(part: EndpointSlice) -> str:
    """The ENDPOINTS column of `kubectl get endpointslices`."""
    found = [address for endpoint in part.endpoints for address in endpoint.addresses]
    return with_more(found[:SHOWN], len(found)) or "<unset>"


def ready_text(slices: Sequence[EndpointSlice], port_name: str) -> str:
    """Ready addresses behind one Service port, as `describe service` and `describe ingress` print them.

    `<none>` without slices, but "" where slices exist and nothing in them is ready: kubectl's own difference.
    """
    if not slices:
        return "<none>"
    found: list[str] = []
    for part in slices:
        ready = [endpoint.addresses[0] for endpoint in part.endpoints if endpoint.ready is not False]
        if not part.ports:
            found.extend(ready)
        for port in part.ports:
            if port.name == port_name:
                found.extend(join_host_port(address, port.port or 0) for address in ready)
    return with_more(found[:SHOWN], len(found))
