"""What the clients of an entry connect to: a Service's address, a node's port, or a load balancer."""

from collections.abc import Callable

from kflab.control.lbprofiles import LbProfile
from kflab.control.loadbalancers import LoadBalancer
from kflab.control.plane import ControlPlane
from kflab.dataplane.packets import join_host_port
from kflab.dataplane.world import LbInForce
from kflab.lab.balancing import in_force
from kflab.lab.entries import Entry
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_network import Service


class Dialling:
    """Whom clients connect to.

    Args:
        plane: Control plane, for load balancers.
        lb_address: Address of a Service's load balancer.
    """

    def __init__(self, plane: ControlPlane, lb_address: Callable[[Key], str]) -> None:
        self._plane, self._store, self._lb_address = plane, plane.store, lb_address

    def dialled(self, entry: Entry) -> str:
        """ip:port that the client connects to; ":port" where it picks a node itself."""
        if entry.alb is not None:
            one = self._plane.albs.get(entry.alb)
            return join_host_port(one.ip, entry.listener) if one is not None else ""
        service = self._store.get(entry.service)
        if not isinstance(service, Service):
            return ""
        if entry.inside:
            return join_host_port(service.cluster_ip, entry.port.port)
        if not entry.balanced:
            node = self._store.get(Key("Node", "", entry.node)) if entry.node else None
            address = next(iter(node.internal_ips), "") if isinstance(node, Node) else ""
            return f":{self.node_port(entry)}" if not address else join_host_port(address, self.node_port(entry))
        return join_host_port(self._lb_address(entry.service), entry.port.port)

    def node_port(self, entry: Entry) -> int:
        """The NodePort of the Service port dialled, as allocated."""
        service = self._store.get(entry.service)
        ports = service.ports if isinstance(service, Service) else ()
        return next((port.node_port for port in ports if port.port == entry.port.port), 0)

    def profile_of(self, entry: Entry) -> LbProfile | None:
        """Whose load balancer an entry's traffic passes; None without one."""
        balancer = self._balancer(entry)
        return balancer.profile if balancer is not None else None

    def _balancer(self, entry: Entry) -> LoadBalancer | None:
        # What starts in a pod dials the ClusterIP: by its own node's rules, past the Service's load balancer.
        if entry.inside or not entry.balanced or (entry.alb is not None and entry.group is None):
            return None
        return self._plane.balancers.get(entry.balancer)

    def front_address(self, entry: Entry) -> str:
        """Where clients of an entry's load balancer connect."""
        one = self._plane.albs.get(entry.alb) if entry.alb is not None else None
        return one.ip if one is not None else self._lb_address(entry.service)

    def balancer_at(self, entry: Entry, t_ns: int) -> LbInForce | None:
        """The load balancer that an entry's traffic passes; None without one."""
        balancer = self._balancer(entry)
        if balancer is None:
            return None
        return in_force(self._store, balancer, self.front_address(entry), t_ns)
