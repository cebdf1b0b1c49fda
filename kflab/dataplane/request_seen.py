"""Who the receiver of each hop thinks is calling: the source address it gets, whose it is, and why it is not another.

A node rewrites the source where kube-proxy marks the packet (k/k pkg/proxy/iptables/proxier.go and its siblings:
KUBE-MARK-MASQ and KUBE-POSTROUTING, mark-for-masquerade, KUBE-LOOP-BACK); MASQUERADE then takes the address of the
interface the packet leaves by. NGINX opens connections of its own and names its caller in X-Forwarded-For
(ingress-nginx rootfs/etc/nginx/template/nginx.tmpl: $remote_addr, unless use-forwarded-headers is set); so does an
Application Load Balancer.
"""

from collections.abc import Sequence
from dataclasses import replace

from kflab.dataplane.addresses import family_of, is_loopback
from kflab.dataplane.cni import gateway
from kflab.dataplane.lb import INNER_ADDRESS
from kflab.dataplane.packets import Hop, Packet
from kflab.dataplane.request_record import Request
from kflab.dataplane.request_words import short_pod
from kflab.dataplane.world import World


def with_seen(world: World, request: Request, hops: Sequence[Hop]) -> tuple[Hop, ...]:
    """The hops of a request, each that moves a packet told who its receiver sees."""
    told: list[Hop] = []
    proxied = ""
    for hop in hops:
        if hop.number and hop.after is not None:
            if hop.before is not None and (hop.mover == "NGINX" or _at_front(world, hop, hop.before)):
                proxied = proxied or hop.before.src
            hop = replace(hop, seen=_seen(world, request, hop, hop.after, proxied))
        told.append(hop)
    return tuple(told)


def _at_front(world: World, hop: Hop, before: Packet) -> bool:
    """Whether a load balancer that speaks HTTP opened this connection (X-Forwarded-For: AWS docs, HTTP headers)."""
    return hop.mover == "load balancer" and world.alb_at(before.dst, hop.t_ns) is not None


def _seen(world: World, request: Request, hop: Hop, after: Packet, proxied: str) -> str:
    """One hop's sentence.

    Args:
        world: The cluster.
        request: For who calls.
        hop: The hop.
        after: The packet as it leaves.
        proxied: The caller that NGINX saw, when it opened this connection.
    """
    pod = world.pod_at(after.dst, hop.t_ns)
    receiver = f"pod {short_pod(pod)}" if pod else _place(world, hop, after)
    caller = _whose(world, request, hop, after.src)
    words = f"{receiver} {'see' if receiver.endswith('rules') else 'sees'} {after.src}, {caller}"
    before = hop.before
    if before is not None and hop.mover != "NGINX" and before.src != after.src:
        was = _whose(world, request, hop, before.src)
        words += f", not {before.src}, {was}: {_why_rewritten(world, hop, before, after)}"
    elif before is not None and hop.mover == "kernel DNAT":
        words += _why_kept(world, hop, before, after)
    if pod is not None and proxied and hop.mover != "resolver":
        words += f"; X-Forwarded-For says {proxied}"
    return words


def _place(world: World, hop: Hop, after: Packet) -> str:
    """What the packet comes to where that is no pod."""
    if world.lb_at(after.dst, hop.t_ns) is not None or world.alb_at(after.dst, hop.t_ns) is not None:
        return "the load balancer"
    node = world.node_of(after.dst)
    if node:
        return node
    return f"{hop.node}'s rules" if hop.node else after.dst


def _whose(world: World, request: Request, hop: Hop, address: str) -> str:
    """Whose an address is, in words."""
    if address == INNER_ADDRESS:
        return "the load balancer"
    if is_loopback(address):
        return f"{hop.node}'s loopback" if hop.node else "a loopback address"
    pod = world.pod_at(address, hop.t_ns)
    if pod is not None:
        return "the ingress" if world.ingress_config_at(pod, hop.t_ns) is not None else f"pod {short_pod(pod)}"
    node = world.node_of(address)
    if node:
        return f"{node} itself" if request.node == node and request.pod is None else node
    facts = world.facts_of(hop.node) if hop.node else None
    if facts is not None and address == gateway(facts.pod_cidrs, family_of(address)):
        return f"{hop.node}'s bridge"
    return "the client" if address == request.source else "an unknown host"


def _why_rewritten(world: World, hop: Hop, before: Packet, after: Packet) -> str:
    """Why the source is another, as a load balancer or kube-proxy had it."""
    if hop.mover == "load balancer":
        return "it comes from the load balancer's own address"
    if hop.mover == "CNI route":
        return "the CNI masquerades what leaves the pod network"
    if before.src == after.dst:
        return "hairpin, it calls itself, and its answer must come back through the node"
    known = world.ruleset_at(hop.node, hop.t_ns)
    rules = known.of(before.dst) if known is not None else None
    found = rules.deciding(before) if rules is not None else ()
    if rules is None or not found:
        return "the node masquerades it"
    own, config = found[0].port, rules.config
    if (before.dst, before.dport) != (own.cluster_ip, own.port):
        if own.external_local:
            return "a call from the cluster itself to an external address is masqueraded"
        return "externalTrafficPolicy Cluster masquerades it, so that the answer comes back through this node"
    if config.masquerade_all:
        return "masqueradeAll"
    pods = config.local_traffic(family_of(before.src), rules.facts.pod_cidrs)
    told = f" (pods are told {pods.words})" if pods is not None and pods.interface else f" {pods.cidr}" if pods else ""
    return f"the caller is outside the pod network{told}, so its call of a ClusterIP is masqueraded"


def _why_kept(world: World, hop: Hop, before: Packet, after: Packet) -> str:
    """Why the source is as it was, where that is not a matter of course; begins with a separator."""
    if before.sport != after.sport:
        return ", as before: hairpin, or its own node's address; only its port is drawn anew"
    known = world.ruleset_at(hop.node, hop.t_ns)
    found = known.of(before.dst).deciding(before) if known is not None else ()
    if not found or (before.dst, before.dport) == (found[0].port.cluster_ip, found[0].port.port):
        return ""
    return ": externalTrafficPolicy Local keeps it" if found[0].port.external_local else ""
