"""The steps of a request, one function each: what happens to the packet, and the hop that tells it."""

from dataclasses import replace
from fractions import Fraction
from typing import Final

from kflab.control.lbprofiles import LB_ADDRESS, NODE_PORT, ONE_NODE, POD
from kflab.dataplane.alb import AlbRoute
from kflab.dataplane.cni import masquerade_port, masquerade_source, masquerade_words
from kflab.dataplane.dns import ClusterDns, Resolution
from kflab.dataplane.ipvs_schedulers import CHOOSER, COUNTING
from kflab.dataplane.lb import flow_hash as hash_of_flow
from kflab.dataplane.lb import in_service, pick_target, shares, source_at_target, target_alternatives
from kflab.dataplane.memory_view import KeptConnection, MemoryView, Scores
from kflab.dataplane.modes import remembered, walk_in
from kflab.dataplane.nginx import DRAWN, EWMA, Route
from kflab.dataplane.packets import Alternative, Hop, Packet, Verdict
from kflab.dataplane.request_record import UNREACHABLE, Request
from kflab.dataplane.request_words import (
    NO_NEIGHBOUR,
    balancing_words,
    chain_path,
    config_writer,
    lb_writer,
    of_rule,
    ordinal,
    rules_writer,
    seconds,
    short_pod,
)
from kflab.dataplane.rule_match import split_destination
from kflab.dataplane.walk import Walk
from kflab.dataplane.world import AlbInForce, ConfigInForce, LbInForce, RulesInForce, World, same_family
from kflab.manifest.objects import Key
from kflab.records import dataclass

KERNEL: Final = "kernel DNAT"
ROUTE: Final = "CNI route"
NGINX: Final = "NGINX"
BALANCER: Final = "load balancer"
CLIENT: Final = "client"
SOCKET: Final = "socket"

DNS_PORT: Final = 53
_DNS_SERVICES: Final = (Key("Service", "kube-system", "kube-dns"), Key("Service", "kube-system", "coredns"))
"""Where a pod's resolv.conf points: the kubelet's clusterDNS, kube-dns in kubeadm clusters."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a step did. `after` None: the packet ends here, and the caller sees `ending`."""

    hop: Hop
    after: Packet | None
    ending: str = ""
    """"refused" or "timeout"."""
    untouched: bool = False
    """No rule took the packet."""
    node: str = ""
    """Node that a load balancer sent it to."""


def call(world: World, request: Request, packet: Packet, dns_words: str, t_ns: int) -> Hop:
    """The caller dials."""
    kind = CLIENT if not request.node else f"pod {short_pod(request.pod)}" if request.pod else request.node
    touches: tuple[Key, ...] = (request.pod,) if request.pod else ()
    if request.node and not request.pod:
        touches = (Key("Node", "", request.node),)
    balancer = world.lb_at(packet.dst, t_ns)
    front = world.alb_at(packet.dst, t_ns)
    if balancer is not None:
        touches = (*touches, balancer.service.key)
    elif front is not None:
        touches = (*touches, *front.model.ingresses)
    return Hop(
        1,
        kind,
        node=request.node,
        after=packet,
        chooser="only choice",
        mover=CLIENT if not request.node else SOCKET,
        why=dns_words or "the URL has an address: DNS is not asked",
        touches=touches,
        t_ns=t_ns,
    )


def ask_coredns(world: World, request: Request, found: Resolution, dns: ClusterDns, draw: int, t_ns: int) -> Hop:
    """A pod's resolver asks CoreDNS through its Service: UDP, DNATed on the pod's own node."""
    service = next((dns.services[key] for key in _DNS_SERVICES if key in dns.services), None)
    why = f"resolv.conf search list: {found.words}"
    pod = request.pod
    where = f"pod {short_pod(pod)}" if pod else request.node
    touches: tuple[Key, ...] = (pod,) if pod else ()
    server = same_family(request.source, service.cluster_ips) if service else ""
    if service is None or not server:
        return Hop(1, where, node=request.node, mover="resolver", why=f"{why} (no kube-dns Service)", touches=touches)
    query = Packet(request.source, request.source_port, server, DNS_PORT, "UDP")
    known = world.ruleset_at(request.node, t_ns)
    if known is not None and known.removed:
        why += " (a real query would time out now: there are no Service rules here; not modelled)"
    taken = walk_in(known.of(query.dst), query, draw) if known else None
    rejected = taken is not None and taken.verdict is Verdict.REJECT
    if rejected:
        why = f"{service.meta.name} has no endpoint: the query is rejected, the resolver fails at once"
    return Hop(
        1,
        where,
        node=request.node,
        before=query,
        after=None if rejected else taken.packet if taken else query,
        outcome="refused" if rejected else "",
        chooser=_chooser(taken) if taken else "",
        chance=taken.chance if taken else Fraction(1),
        alternatives=taken.alternatives if taken else (),
        mover="resolver",
        chains=taken.chains if taken else (),
        rules=taken.rules if taken else (),
        writer=rules_writer(request.node, known) if known else "",
        why=why,
        touches=(*touches, service.key, *((taken.target,) if taken and taken.target else ())),
        t_ns=t_ns,
    )


def front_answers(front: AlbInForce, packet: Packet, found: AlbRoute, t_ns: int) -> Hop:
    """An Application Load Balancer answers by itself: 404, 503, a redirect; or nothing listens on the port."""
    where = f" to {found.location}" if found.location else ""
    why = (
        found.why if found.kind == "refused" else f"the load balancer itself answers {found.status}{where}: {found.why}"
    )
    outcome = "refused" if found.kind == "refused" else str(found.status)
    ingresses = (found.rule.ingress,) if found.rule is not None else front.model.ingresses
    return Hop(1, BALANCER, before=packet, mover=BALANCER, why=why, outcome=outcome, touches=ingresses, t_ns=t_ns)


def balance(
    balancer: LbInForce, packet: Packet, value: int | None, draw: int, t_ns: int, rule: str = "", turn: str = ""
) -> Step:
    """The load balancer picks a target; what it rewrites is its profile's.

    Args:
        balancer: As it was then.
        packet: As the client sent it.
        value: u32 of the choice; None: the packet's flow hash.
        draw: u32 by which one of several pods on a node is taken (IP targets).
        t_ns: When.
        rule: Why this target group, of a load balancer that has several.
        turn: The node that had its turn, where that is on record; else the choice is told by `value`.
    """
    profile, address = balancer.profile, packet.dst
    listener = balancer.port or packet.dport
    port = next((item for item in balancer.service.ports if item.port == listener), None)
    service = balancer.service.key
    if port is None or (profile.destination == NODE_PORT and not port.node_port):
        text, ending = f"the load balancer has no listener on port {packet.dport}", "refused"
        if port is not None:
            text = f"{profile.title}: its targets are NodePorts, and the Service has none"
            text, ending = f"{text} (allocateLoadBalancerNodePorts: false)", "timeout"
        hop = Hop(1, BALANCER, before=packet, mover=BALANCER, why=text, outcome=ending, touches=(service,), t_ns=t_ns)
        return Step(hop, None, ending)
    if value is None:
        value = hash_of_flow(packet)
    target = pick_target(balancer.targets, value, profile, address, draw)
    if turn:
        serving = in_service(balancer.targets, profile, address)
        target = next((one for one in serving if one.node.name == turn), target)
    if target is None:
        why = balancing_words(balancer, address) if balancer.targets else "no target is registered"
        ending = "503" if profile.http else "timeout"
        why = f"the load balancer itself answers {ending}: {why}" if profile.http else why
        hop = Hop(1, BALANCER, before=packet, mover=BALANCER, why=why, outcome=ending, touches=(service,), t_ns=t_ns)
        return Step(hop, None, ending)
    source = source_at_target(profile, packet.src, address, packet.protocol)
    sport = packet.sport if source == packet.src else masquerade_port(packet, value)
    if profile.destination == LB_ADDRESS:
        after = packet
    elif profile.destination == POD:
        after = Packet(source, sport, target.address, target.port_of(port.port), packet.protocol)
    else:
        after = Packet(source, sport, target.address, port.node_port, packet.protocol)
    shown = port.port if profile.destination == POD else port.node_port
    parts = shares(balancer.targets, profile, address)
    return Step(
        Hop(
            1,
            BALANCER,
            before=packet,
            after=after,
            chooser=profile.picks if len(parts) > 1 or profile.picks == ONE_NODE else "only choice",
            chance=parts[target],
            alternatives=target_alternatives(balancer.targets, shown, target, profile, address),
            mover=BALANCER,
            writer=lb_writer(balancer),
            why="; ".join(
                filter(None, (rule, balancing_words(balancer, address, source if source != packet.src else "")))
            ),
            touches=(service, target.node, *((target.pod,) if target.pod else ())),
            t_ns=t_ns,
        ),
        after,
        node=target.node.name,
    )


def _chooser(taken: Walk) -> str:
    if taken.sticky:
        return "session affinity"
    if taken.turn and len(taken.alternatives) > 1:
        return CHOOSER[taken.turn.partition(":")[0]]
    return "random" if len(taken.alternatives) > 1 else "only choice"


def node_rules(
    world: World,
    memory: MemoryView,
    node: str,
    packet: Packet,
    draw: int,
    t_ns: int,
    before: Hop | None = None,
    connection: int = 0,
) -> Step:
    """A node's kernel applies the rules kube-proxy wrote there.

    Args:
        world: The cluster.
        memory: For session affinity.
        node: The node.
        packet: As it arrives.
        draw: u32.
        t_ns: When: the rules of that time decide.
        before: The hop of the try before through this node's rules, to say what is the same.
        connection: The client's (0), or the number of NGINX's try.
    """
    known = world.ruleset_at(node, t_ns)
    where = f"{node}, kernel" if node else "kernel"
    node_key = Key("Node", "", node)
    if known is None:
        text = "kube-proxy has not written rules here yet: the packet goes astray"
        hop = Hop(
            1, where, node, packet, None, mover="kernel", why=text, outcome="timeout", touches=(node_key,), t_ns=t_ns
        )
        return Step(hop, None, "timeout", untouched=True)

    rules = known.of(packet.dst)

    def seen(name: str, client: str, seconds: int) -> bool:
        of = remembered(rules, packet, name)
        return of is not None and memory.seen(node, client, of[0].service, of[0].port, of[1], t_ns)

    taken = walk_in(rules, packet, draw, recent=seen, turn=memory.turn(connection))
    if taken.verdict is not Verdict.DNAT:
        return _not_delivered(known, node, packet, taken, t_ns)
    after, masked = _masquerade(world, node, taken, draw)
    path = chain_path(taken)
    same = before is not None and before.writer == rules_writer(node, known)
    anew = "the next turn" if taken.turn else "a new draw"
    if taken.turn.partition(":")[0] in COUNTING:
        anew = "the counts of that moment"
    why = f"DNAT · same rules, {anew}" if same else f"DNAT · {path}, rules {known.revision}"
    why += f" · {taken.turn}" if taken.turn and len(taken.alternatives) > 1 else ""
    deciding = [on_node.port for on_node in rules.deciding(packet)]
    for port in () if taken.sticky else deciding:
        ended_ns = memory.affinity_ended(node, packet.src, port.service, port.port, t_ns)
        if ended_ns is not None:
            ago_s = (t_ns - ended_ns) / 1e9
            why += f" · affinity entry of {packet.src} ended {ago_s:.1f} s ago: drawn anew"
        elif memory.affinity_forgotten(node, packet.src, port.service, port.port, t_ns):
            why += f" · {packet.src} was dropped from its endpoint's full list of 100 callers (xt_recent): drawn anew"
    touches = [node_key]
    touches.extend(dict.fromkeys(port.service for port in deciding))
    if taken.target:
        touches.append(taken.target)
    hop = Hop(
        1,
        where,
        node=node,
        before=packet,
        after=after,
        chooser=_chooser(taken),
        chance=taken.chance,
        alternatives=taken.alternatives,
        mover=KERNEL,
        chains=taken.chains,
        rules=taken.rules,
        writer=rules_writer(node, known),
        why=why + masked,
        touches=tuple(touches),
        t_ns=t_ns,
    )
    return Step(hop, after)


def _masquerade(world: World, node: str, taken: Walk, draw: int) -> tuple[Packet, str]:
    """The packet after POSTROUTING, and the words for it."""
    packet = taken.packet
    facts = world.facts_of(node)
    if not taken.masquerade or facts is None:
        return packet, ""
    there = world.node_of(packet.dst)
    node_ip = same_family(packet.dst, facts.primary_ips)
    local = there == node and packet.dst not in facts.ips
    source = masquerade_source(world.cni, node_ip, facts.pod_cidrs, local)
    sport = masquerade_port(packet, draw)
    after = Packet(source, sport, packet.dst, packet.dport, packet.protocol)
    whose = masquerade_words(world.cni, local)
    if source == packet.src:
        return after, f"; then MASQUERADE: the source stays {source} ({whose}), its port is drawn anew"
    return after, f"; then MASQUERADE: the pod sees {source} ({whose}), not {packet.src}"


def leave_cluster(world: World, node: str, packet: Packet, t_ns: int) -> Step:
    """A pod's packet leaves the pod network: the CNI plugin's own masquerade gives it the node's address."""
    facts = world.facts_of(node)
    source = same_family(packet.dst, facts.primary_ips) if facts else packet.src
    after = Packet(source or packet.src, packet.sport, packet.dst, packet.dport, packet.protocol)
    hop = Hop(
        1,
        f"{node}, kernel",
        node=node,
        before=packet,
        after=after,
        chooser="only choice",
        mover=ROUTE,
        writer=f"CNI plugin on {node} (profile {world.cni.name})",
        why="no Service rule takes it; it leaves the pod network, and the CNI masquerades it to the node's address",
        touches=(Key("Node", "", node),),
        t_ns=t_ns,
    )
    return Step(hop, after)


def _not_delivered(known: RulesInForce, node: str, packet: Packet, taken: Walk, t_ns: int) -> Step:
    ending = "timeout"
    if taken.verdict in {Verdict.REJECT, Verdict.DROP}:
        why = of_rule(taken)
        ending = "refused" if taken.verdict is Verdict.REJECT else "timeout"
    elif known.removed:
        local = known.of(packet.dst).is_local(packet.dst)
        ending = "refused" if local else "timeout"
        end = "nothing on the node listens there: RST" if local else "routed as any other packet"
        why = f"no Service rules here: kube-proxy restarted in another mode and has not written its own; {end}"
    elif known.of(packet.dst).is_local(packet.dst):
        why = "no Service rule takes it and nothing on the node listens there: RST"
        ending = "refused"
    else:
        why = "no Service rule takes it: routed as any other packet"
    services = dict.fromkeys(on_node.port.service for on_node in known.of(packet.dst).deciding(packet))
    hop = Hop(
        1,
        f"{node}, kernel",
        node=node,
        before=packet,
        mover="kernel",
        chains=taken.chains,
        rules=taken.rules,
        writer=rules_writer(node, known),
        why=why,
        touches=(Key("Node", "", node), *services),
        t_ns=t_ns,
        outcome="dropped" if taken.verdict is Verdict.DROP else ending,
    )
    return Step(hop, None, ending, untouched=taken.verdict in {Verdict.NONE, Verdict.ACCEPT})


def nginx_answers(pod: Key, node: str, packet: Packet, found: Route, known: ConfigInForce, t_ns: int) -> Hop:
    """NGINX answers by itself: 404, 503 or a redirect."""
    where = f" to {found.location}" if found.location else ""
    return Hop(
        1,
        "ingress, NGINX",
        node=node,
        before=packet,
        mover=NGINX,
        writer=config_writer(pod, known),
        why=f"NGINX itself answers {found.status}{where}: {found.why}",
        touches=tuple(key for key in (pod, found.ingress, found.service) if key is not None),
        t_ns=t_ns,
        outcome=str(found.status),
    )


@dataclass(frozen=True, slots=True)
class Connected:
    """NGINX's connection towards a backend."""

    hop: Hop
    sent: Packet
    kept: Packet | None = None
    """Over a kept connection: the packet as it reaches the pod, by conntrack alone."""


def nginx_connects(
    pod: Key,
    node: str,
    packet: Packet,
    found: Route,
    known: ConfigInForce,
    try_number: int,
    source_port: int,
    memory: MemoryView,
    t_ns: int,
    after_what: str = "",
) -> Connected:
    """NGINX picks a peer and connects, or reuses a connection.

    Args:
        pod: The ingress controller's pod.
        node: Its node.
        packet: The client's connection as NGINX accepted it.
        found: The route.
        known: The configuration in force.
        try_number: From 1.
        source_port: Of the new connection.
        memory: Round-robin position, kept connections.
        t_ns: When the try starts.
        after_what: What the try before ended with, "" on the first.
    """
    peers = found.upstreams
    peer = peers[found.peer_index(memory.round_robin(pod, found.backend, try_number))]
    kept = memory.kept_connection(pod, found.backend, try_number)
    scores = memory.scores(pod, found.backend, try_number)
    sport = kept.source_port if kept and kept.source_port else source_port
    sent = Packet(packet.dst, sport, peer.address, peer.port)
    reached = _kept(sent, kept, found) if kept else None
    alternatives: tuple[Alternative, ...] = ()
    if len(peers) > 1:
        parts = found.weights or (1,) * len(peers)
        chances = tuple(Fraction(part, sum(parts)) for part in parts)
        alternatives = tuple(
            Alternative(item.text, chance, item.target, chosen=item == peer)
            for item, chance in zip(peers, chances, strict=True)
        )
    touches = [key for key in (pod, found.ingress, found.service, peer.target) if key is not None]
    return Connected(
        Hop(
            1,
            "ingress, NGINX",
            node=node,
            before=packet,
            after=reached if reached is not None and not found.service_upstream else sent,
            chooser=_peer_chooser(found),
            chance=next((one.chance for one in alternatives if one.chosen), Fraction(1)),
            alternatives=alternatives,
            mover=NGINX,
            writer=config_writer(pod, known),
            why=_nginx_why(found, known, try_number, kept, after_what) + _scores_words(scores),
            touches=tuple(touches),
            t_ns=t_ns,
        ),
        sent,
        reached,
    )


def _peer_chooser(found: Route) -> str:
    """What picks one of NGINX's peers, in words."""
    if len(found.upstreams) == 1:
        return "only choice"
    if found.hash_key is not None:
        return "consistent hash"
    return {EWMA: "ewma", DRAWN: "drawn from its subset"}.get(found.balancing, "round robin")


def _scores_words(scores: Scores | None) -> str:
    """By which scores NGINX's ewma took a peer."""
    if scores is None:
        return ""
    if scores.passed_us is None:
        return f"; ewma: the only one not tried yet, score {_score(scores.taken_us)}"
    return f"; ewma: score {_score(scores.taken_us)}, the other one drawn has {_score(scores.passed_us)}"


def _score(score_us: int) -> str:
    return f"{score_us / 1000:.3g} ms" if score_us else "0"


def _kept(sent: Packet, kept: KeptConnection, found: Route) -> Packet:
    host, port = split_destination(kept.address)
    return Packet(sent.src, sent.sport, host, port or sent.dport)


def _nginx_why(found: Route, known: ConfigInForce, try_number: int, kept: KeptConnection | None, after: str) -> str:
    if try_number > 1:
        text = f"{ordinal(try_number)} try of {found.proxying.tries}, after {after}"
    else:
        ends = "TLS ends; " if found.tls_ended else ""
        host = "any host" if found.host == "_" else "host ✓"
        text = f"{ends}{host} and {found.path} ✓"
    if kept is not None:
        return f"{text}; a kept connection: conntrack keeps it on its pod, no rule is asked"
    if try_number > 1:
        return text
    if found.service_upstream:
        return (
            f"{text}; a new connection to the ClusterIP: NGINX did not ask DNS, it read the ClusterIP from the API, "
            "and CoreDNS would have answered the same"
        )
    return (
        f"{text}; a new connection straight to a pod: NGINX did not ask DNS, it read the pod addresses from the "
        "EndpointSlices; no Service rule is met"
    )


def table_full(node: str, packet: Packet, t_ns: int) -> Hop:
    """The kernel drops a first packet before any rule: its entry finds no room, and none whose place it could take.

    The first words are the kernel's own log line (net/netfilter/nf_conntrack_core.c, __nf_conntrack_alloc, early_drop).
    """
    return Hop(
        1,
        f"{node}, kernel",
        node=node,
        before=packet,
        mover="kernel",
        why=f"nf_conntrack on {node}: table full, dropping packet: the eight hash buckets it looks into hold no entry "
        "that is not ASSURED; no rule is asked, the caller times out",
        outcome="dropped",
        touches=(Key("Node", "", node),),
        t_ns=t_ns,
    )


def node_lost(node: str, packet: Packet, outage: str, t_ns: int, no_route_ns: int | None = None) -> Hop:
    """A packet comes to a node that is off the network: nobody answers, not even with an error.

    `no_route_ns`: how long it takes the caller's own node to say so; None: it never does.
    """
    if no_route_ns is not None:
        why = f"no route to host in {seconds(no_route_ns)}: {node} {outage}; {NO_NEIGHBOUR}"
        there, ended = (Key("Node", "", node),), t_ns + no_route_ns
        return Hop(1, node, node=node, before=packet, mover="nobody", why=why, outcome=UNREACHABLE, touches=there,
                   t_ns=ended)  # fmt: skip
    return Hop(
        1,
        node,
        node=node,
        before=packet,
        mover="nobody",
        why=f"{node} {outage}: the SYN is lost, and so is each time it is sent again; the caller times out",
        outcome="timeout",
        touches=(Key("Node", "", node),),
        t_ns=t_ns,
    )


def no_port(node: str, step: Step) -> Step:
    """The kernel drops a first packet after its rules: MASQUERADE finds no source port that makes it unique.

    The entry cannot be confirmed then (net/netfilter/nf_nat_core.c, get_unique_tuple: "we will end up with a final
    duplicate in __nf_conntrack_confirm and drop the packet").

    Args:
        node: The node that masquerades.
        step: What its rules did.
    """
    assert step.after is not None
    way, _, _ = step.hop.why.partition("; then MASQUERADE")
    lack = f"{node} had no free source port left towards {step.after.destination} as {step.after.src}"
    why = f"{way}; then MASQUERADE: {lack}; packet dropped (insert_failed), the caller times out"
    return Step(replace(step.hop, after=None, why=why, outcome="dropped"), None, "timeout")


def conntrack_hop(node: str, sent: Packet, kept: Packet, target: Key | None, t_ns: int) -> Hop:
    """A later packet of a connection to a ClusterIP: conntrack rewrites it as it did the first."""
    stays = "an established connection stays on its pod"
    if sent.protocol == "UDP":
        stays = "datagrams from this source port stay on the endpoint of their entry until it ends"
    touches = (Key("Node", "", node), *((target,) if target else ()))
    return Hop(
        1,
        f"{node}, kernel",
        node=node,
        before=sent,
        after=kept,
        chooser="only choice",
        mover="conntrack",
        why=f"conntrack: {stays}, whatever the rules say now",
        touches=touches,
        t_ns=t_ns,
    )
