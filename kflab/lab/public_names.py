"""Names outside the cluster: what public DNS answers for load balancers and Ingresses."""

from typing import TYPE_CHECKING, cast

from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_network import Service

if TYPE_CHECKING:
    from kflab.lab.running import Lab


def public_names(lab: "Lab") -> dict[str, tuple[str, ...]]:
    """What public DNS answers: pinned names, host names of load balancers, and hosts of Ingresses."""
    names: dict[str, tuple[str, ...]] = {}
    for obj in lab.store.of_kind("Service"):
        address = lab.lb_address(obj.key)
        for entry in obj.load_balancer if isinstance(obj, Service) else ():
            if entry.hostname and address:
                names[entry.hostname] = (address,)
    nodes = tuple(ip for node in lab.store.of_kind("Node") for ip in cast(Node, node).internal_ips[:1])
    for one in lab.plane.albs.values():
        names[one.hostname] = (one.ip,)
    for wired in lab.wiring.wired:
        if wired.entry.alb is not None:
            names[wired.entry.host] = (lab.wiring.dialling.front_address(wired.entry),)
            continue
        if wired.entry.kind == "l7" and not wired.entry.balanced and nodes:
            if any(letter.isalpha() for letter in wired.entry.host):
                names[wired.entry.host] = nodes
            continue
        address = lab.lb_address(wired.entry.service)
        if wired.entry.kind == "l7" and address and any(letter.isalpha() for letter in wired.entry.host):
            names[wired.entry.host] = (address,)
    for name, service in lab.spec.pins.public_names.items():
        namespace, _, base = service.partition("/")
        address = lab.lb_address(Key("Service", namespace, base))
        if address:
            names[name] = (address,)
    return names
