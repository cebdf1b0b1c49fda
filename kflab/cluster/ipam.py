"""Addresses: who hands out which, from which range, in which order.

ClusterIPs and node ports come from two bands as in k8s.io/kubernetes pkg/registry/core/service/ipallocator
(KEP-3070) and portallocator (KEP-3668): automatic allocation uses the upper band, the lower one is left to
addresses that people write down. Pod addresses are handed out per node in turn, as the host-local CNI plugin does.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from socket import inet_ntoa

from kflab.cluster.checkpoint import Mutable
from kflab.errors import KflabError
from kflab.records import dataclass

SERVICE_CIDR = "10.96.0.0/16"
"""kubeadm uses 10.96.0.0/12; the lab's own range is its first /16."""

SERVICE_CIDR_V6 = "fd00:10:96::/112"
"""kind's IPv6 Service range; a cluster has it where its pods have IPv6 addresses."""

POD_CIDR = "10.244.0.0/16"
"""The usual pod network of kubeadm with flannel; each node gets a /24 of it."""

NODE_PORTS = (30000, 32767)
"""--service-node-port-range of kube-apiserver, both ends included."""

LB_CIDR = "198.51.100.0/24"
"""Addresses of made load balancers: documentation range TEST-NET-2 of RFC 5737."""

Draw = Callable[[str, int, int, int], int]
"""(object, n, low, high) → x with low ≤ x < high, the n-th draw for the object."""


@dataclass(frozen=True, slots=True)
class Pins:
    """Addresses and names that a scenario fixes."""

    pod_ips: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """"namespace/Kind/name" (or "namespace/name") of a workload → address of its n-th created pod."""
    lb_ips: Mapping[str, str] = field(default_factory=dict)
    """"namespace/name" of a Service → address behind its load balancer's name."""
    pod_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Workload, as for `pod_ips` → full name of its n-th created pod."""
    lb_hostnames: Mapping[str, str] = field(default_factory=dict)
    """"namespace/name" of a Service → the name its load balancer publishes."""

    @staticmethod
    def nth(table: Mapping[str, tuple[str, ...]], namespace: str, kind: str, name: str, ordinal: int) -> str:
        """The pinned value of a workload's pod, "" where there is none."""
        if not table:
            return ""
        pinned = table.get(f"{namespace}/{kind}/{name}") or table.get(f"{namespace}/{name}") or ()
        return pinned[ordinal] if 0 <= ordinal < len(pinned) else ""


class Band(Mutable):
    """A range of integers of which some are taken, with a lower part kept for explicit wishes.

    Args:
        first: Lowest number that may be handed out.
        size: How many there are.
        static: How many at the low end automatic allocation avoids while others are free.
    """

    def __init__(self, first: int, size: int, static: int) -> None:
        self.first, self.size, self.static = first, size, static
        self.taken: set[int] = set()

    def take(self, number: int) -> bool:
        """Reserve a wished number; False when it is taken already. Numbers outside the range are not tracked."""
        if number in self.taken:
            return False
        if self.first <= number < self.first + self.size:
            self.taken.add(number)
        return True

    def allocate(self, obj: str, draw: Draw) -> int:
        """A free number for `obj`, drawn from the upper band, then from the lower. -1 when none is left."""
        for low, high in ((self.first + self.static, self.first + self.size), (self.first, self.first + self.static)):
            if high <= low:
                continue
            start = draw(obj, 0, low, high)
            for step in range(high - low):
                number = low + (start - low + step) % (high - low)
                if number not in self.taken:
                    self.taken.add(number)
                    return number
        return -1

    def release(self, number: int) -> None:
        """Give a number back."""
        self.taken.discard(number)


class PodRange(Mutable):
    """One pod CIDR of a node: host-local's round robin behind the last address given.

    The first usable address is the bridge's. Source: containernetworking/plugins ipam/host-local/backend/allocator.
    """

    def __init__(self, cidr: str) -> None:
        self.network: IPv4Network | IPv6Network = ip_network(cidr)
        self.low = int(self.network.network_address) + 2
        self.high = int(self.network.broadcast_address) - (1 if self.network.version == 4 else 0)
        self.next = self.low
        self.taken: set[int] = set()

    def text(self, number: int) -> str:
        """An address of the range, written out."""
        if self.network.version == 4:
            return inet_ntoa(number.to_bytes(4, "big"))
        return str(IPv6Address(number))


class Allocator(Mutable):
    """All address ranges of one cluster.

    Args:
        pins: Reserved before anything else is handed out.
        draw: Where ClusterIPs and node ports come from.
    """

    def __init__(self, pins: Pins, draw: Draw, service_cidr: str = SERVICE_CIDR, pod_cidr: str = POD_CIDR) -> None:
        self.pins = pins
        self.draw = draw
        network = ip_network(service_cidr)
        usable = network.num_addresses - 2
        offset = min(max(16, usable // 16), 256)
        self.cluster_ips = Band(int(network.network_address) + 1, usable, offset)
        network_v6 = ip_network(SERVICE_CIDR_V6)
        self.cluster_ips_v6 = Band(int(network_v6.network_address) + 1, network_v6.num_addresses - 2, 256)
        self.dual_stack = False
        """Whether the cluster has Service ranges of both families: pods have addresses of both."""
        low, high = NODE_PORTS
        self.node_ports = Band(low, high - low + 1, min(max(16, (high - low + 1) // 32), 128))
        self.pod_ranges: dict[str, list[PodRange]] = {}
        self.reserved_pod_ips: set[int] = {int(ip_address(ip)) for pinned in pins.pod_ips.values() for ip in pinned}
        self._pod_network = ip_network(pod_cidr)
        self._pod_subnets: set[str] = set()
        self._next_subnet = 0
        self._lb_taken: set[str] = set(pins.lb_ips.values())
        self._next_lb = 10

    # --- pods -----------------------------------------------------------------------------------------------

    def add_node(self, node: str, pod_cidrs: tuple[str, ...]) -> None:
        """Know a node's pod CIDRs; a malformed one is a KflabError."""
        try:
            self.pod_ranges[node] = [PodRange(cidr) for cidr in pod_cidrs]
            self.have_ranges(pod_cidrs)
        except ValueError as problem:
            raise KflabError(f"node {node}: podCIDR {problem}") from problem
        self._pod_subnets.update(pod_cidrs)

    def reserve_pod_cidrs(self, pod_cidrs: tuple[str, ...]) -> None:
        """Keep written-down ranges out of what is handed out."""
        self._pod_subnets.update(pod_cidrs)

    def free_pod_cidr(self) -> str:
        """The next /24 of the pod network that no node has (kube-controller-manager --allocate-node-cidrs)."""
        base = int(self._pod_network.network_address)
        while True:
            cidr = f"{ip_address(base + 256 * self._next_subnet)}/24"
            self._next_subnet += 1
            if cidr not in self._pod_subnets:
                self._pod_subnets.add(cidr)
                return cidr

    def take_pod_ips(self, node: str, ips: tuple[str, ...]) -> None:
        """Mark addresses as used by a given pod, on whichever node's range they lie."""
        numbers = {int(ip_address(ip)) for ip in ips}
        ranges = self.pod_ranges.get(node, ())
        for pod_range in ranges:
            pod_range.taken.update(numbers)
        strays = {number for number in numbers if not any(own.low <= number <= own.high for own in ranges)}
        self.reserved_pod_ips |= strays  # another node may have their range: it must not hand them out again

    def allocate_pod_ips(self, node: str, pinned: str = "") -> tuple[str, ...]:
        """One address of each of the node's ranges; `pinned` replaces the first. () when a range is full."""
        found: list[str] = []
        for position, pod_range in enumerate(self.pod_ranges.get(node, ())):
            if pinned and position == 0:
                pod_range.taken.add(int(ip_address(pinned)))
                found.append(pinned)
                continue
            number = self._next_free(pod_range)
            if number < 0:
                self.release_pod_ips(node, tuple(found))
                return ()
            pod_range.taken.add(number)
            found.append(pod_range.text(number))
        return tuple(found)

    def _next_free(self, pod_range: PodRange) -> int:
        span = pod_range.high - pod_range.low + 1
        number = pod_range.next
        if number not in pod_range.taken and number not in self.reserved_pod_ips:
            pod_range.next = number + 1 if number < pod_range.high else pod_range.low
            return number
        for _ in range(min(span, len(pod_range.taken) + len(self.reserved_pod_ips) + 1)):
            if number not in pod_range.taken and number not in self.reserved_pod_ips:
                pod_range.next = pod_range.low + (number + 1 - pod_range.low) % span
                return number
            number = pod_range.low + (number + 1 - pod_range.low) % span
        return -1

    def release_pod_ips(self, node: str, ips: tuple[str, ...]) -> None:
        """Give a pod's addresses back."""
        for pod_range in self.pod_ranges.get(node, ()):
            pod_range.taken.difference_update(int(ip_address(ip)) for ip in ips)

    # --- Services -------------------------------------------------------------------------------------------

    @property
    def families(self) -> tuple[str, ...]:
        """Families that have a Service range, the default one first (kube-apiserver --service-cluster-ip-range)."""
        return ("IPv4", "IPv6") if self.dual_stack else ("IPv4",)

    def have_ranges(self, pod_cidrs: Iterable[str]) -> None:
        """The pod network has these ranges: one of IPv6 makes the cluster dual-stack. (kflab always has IPv4.)"""
        self.dual_stack = self.dual_stack or any(":" in cidr for cidr in pod_cidrs)

    def _band(self, ip: str) -> Band:
        return self.cluster_ips_v6 if ":" in ip else self.cluster_ips

    def take_cluster_ip(self, ip: str) -> bool:
        """Reserve a written-down ClusterIP; False when another Service has it."""
        return self._band(ip).take(int(ip_address(ip)))

    def allocate_cluster_ip(self, service: str, family: str = "IPv4") -> str:
        """A free ClusterIP of a family; "" when the range is exhausted."""
        if family == "IPv6":
            number = self.cluster_ips_v6.allocate(f"cluster-ip-v6/{service}", self.draw)
        else:
            number = self.cluster_ips.allocate(f"cluster-ip/{service}", self.draw)
        return "" if number < 0 else str(ip_address(number))

    def release_cluster_ip(self, ip: str) -> None:
        """Give a ClusterIP back."""
        self._band(ip).release(int(ip_address(ip)))

    def allocate_node_port(self, port: str) -> int:
        """A free node port for `port` ("namespace/name/port"); 0 when the range is exhausted."""
        return max(0, self.node_ports.allocate(f"node-port/{port}", self.draw))

    def allocate_lb_ip(self, service: str) -> str:
        """The address of a Service's load balancer: its pin, else the next made one."""
        pinned = self.pins.lb_ips.get(service, "")
        if pinned:
            return pinned
        base = int(ip_network(LB_CIDR).network_address)
        while True:
            ip = str(ip_address(base + self._next_lb))
            self._next_lb += 1
            if ip not in self._lb_taken:
                self._lb_taken.add(ip)
                return ip

    def restore(self, saved: "Allocator") -> None:
        """Go back to a copy made before: a write that was refused has allocated nothing."""
        vars(self).update(vars(saved))
