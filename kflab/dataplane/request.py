"""Take ONE request through every hop and tell what moved it, by which rule, and who wrote that rule.

The same walk serves `kflab trace` (draws given, nothing recorded) and an opened request of a running lab (the draws the
batch used, and its record: picks and hops come from the walk and agree with the record, times come from the record).
"""

from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from kflab.dataplane import request_steps as steps
from kflab.dataplane.addresses import address_number
from kflab.dataplane.alb import route as route_at_alb
from kflab.dataplane.dns import resolve
from kflab.dataplane.memory_view import BlankMemory, MemoryView
from kflab.dataplane.nginx import Route, route
from kflab.dataplane.packets import Hop, Packet, RequestTrace
from kflab.dataplane.request_back import Connection, Leg, way_back
from kflab.dataplane.request_record import (
    CLIENT_GONE,
    OK,
    REFUSED,
    REJECTED,
    RESET,
    TIMEOUT,
    UNREACHABLE,
    Choices,
    Record,
    Request,
    TryRecord,
)
from kflab.dataplane.request_seen import with_seen
from kflab.dataplane.request_words import NO_NEIGHBOUR, fate_words, seconds, short_pod
from kflab.dataplane.rule_match import split_destination
from kflab.dataplane.world import HANGS, LISTENS, REFUSES, AlbInForce, ConfigInForce, LbInForce, World
from kflab.errors import KflabError
from kflab.manifest.objects import Key
from kflab.records import dataclass

__all__ = ["Choices", "Record", "Request", "TryRecord", "parse_url", "trace_request"]

NOT_MODELLED: Final = ("TLS handshake time", "TCP retransmission", "bandwidth and MTU")
"""Said with every trace; the first only where there is TLS."""

_NOT_RETRIED: Final = frozenset({"POST", "LOCK", "PATCH"})
"""Methods NGINX does not try again once they were sent (nginx documentation, proxy_next_upstream non_idempotent)."""

_NOT_PROXIED: Final = frozenset({8443, 10254})
"""Ports of a controller pod that are not NGINX's: admission webhook, metrics and health (ingress-nginx deploy.yaml)."""

_FRONT_ANSWERS: Final = {"refused": "502", "reset": "502", "timeout": "504"}
"""What an HTTP load balancer answers for its target (AWS docs, Troubleshoot your Application Load Balancers)."""

_ENDINGS: Final = {"refused": "refused", "reset": "closed the connection", "timeout": "did not answer in time"}

_WORDS: Final = {
    REFUSED: "refused", REJECTED: "refused", RESET: "reset", TIMEOUT: "timeout", UNREACHABLE: UNREACHABLE,
    CLIENT_GONE: CLIENT_GONE,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """A URL taken apart."""

    scheme: str
    host: str
    """As sent in the Host header, with the port where the URL has one."""
    name: str
    """Name or address to resolve."""
    port: int
    path: str
    """With query."""


def parse_url(url: str) -> Target:
    """Take a URL apart; without a scheme it is http, as curl reads it.

    Raises:
        KflabError: If it has no host, an invalid port or another scheme than http, https or tcp.
    """
    text = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise KflabError(f"{url!r} is not a URL: {error}") from error
    scheme = parts.scheme.lower()
    if scheme not in {"http", "https", "tcp"} or not parts.hostname:
        raise KflabError(f"{url!r} is not a URL kflab can follow: expected http://HOST/PATH or https://HOST/PATH")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    default = 443 if scheme == "https" else 80
    return Target(scheme, parts.netloc.rpartition("@")[2], parts.hostname, port or default, path)


def trace_request(
    world: World,
    request: Request,
    choices: Choices,
    memory: MemoryView | None = None,
    record: Record | None = None,
) -> RequestTrace:
    """Walk one request.

    Args:
        world: Who knew what, and what answered, at each time.
        request: What was asked.
        choices: The draws.
        memory: Round-robin positions, kept connections, affinity; None: nothing happened before.
        record: How it went, for a request that happened; None: outcomes follow from `world`, times stay open.

    Raises:
        KflabError: If the URL cannot be followed.
    """
    return _Walker(world, request, choices, memory or BlankMemory(), record).trace()


class _Walker:
    """State of one walk: hops so far, connections opened, how it ended."""

    def __init__(
        self, world: World, request: Request, choices: Choices, memory: MemoryView, record: Record | None
    ) -> None:
        self.world, self.request, self.choices, self.memory = world, request, choices, memory
        self.record = record
        self.target = parse_url(request.url)
        self.hops: list[Hop] = []
        self.connections: list[Connection] = []
        self.tries = 0
        self.waits_s: tuple[int | None, int | None] = (None, None)
        self.status = ""
        self.untouched = False
        """No Service rule of the caller's node took its packet."""
        self.near = request.node
        """The node that the packet is sent on from; "" outside."""
        self.fronted = False
        """A load balancer that speaks HTTP waits for the answer."""
        self.accepted = False
        """Of the last try, where nothing is on record: a connection was made, and its process says nothing."""

    def trace(self) -> RequestTrace:
        """Walk, and put everything together."""
        self._go()
        record, request = self.record, self.request
        finish = record.finish_ns if record else None
        latency = None if finish is None else finish - request.t_start_ns
        answered = bool(self.hops) and self.status.isdigit() and bool(self.connections)
        return RequestTrace(
            stream=request.stream,
            number=request.number,
            method=request.method,
            url=request.url,
            source=request.shown,
            t_start_ns=request.t_start_ns,
            latency_ns=latency,
            status=record.status if record and record.status else self.status,
            tries=len(record.tries) if record else self.tries,
            hops=with_seen(self.world, request, self.hops),
            back=way_back(self.connections) if answered else (),
            parts=_parts(record, latency),
            not_modelled=NOT_MODELLED if self.target.scheme == "https" else NOT_MODELLED[1:],
            proxy_waits_s=self.waits_s,
        )

    def _add(self, hop: Hop, try_number: int = 1) -> int:
        """Append a hop and number it from 1; a remark keeps number 0."""
        number = 0 if hop.number == 0 else 1 + sum(item.number > 0 for item in self.hops)
        self.hops.append(replace(hop, number=number, try_number=try_number))
        return number

    def _mismatch(self, text: str) -> None:
        """The walk must equal the record; where it does not, the trace says so instead of hiding it."""
        self._add(Hop(0, "kflab", why=f"this walk differs from the record: {text}", outcome="mismatch"))

    # --- to the first node ---------------------------------------------------------------------------------------

    def _go(self) -> None:
        request, t = self.request, self.request.t_start_ns
        address, words = self._resolve(t)
        if not address:
            self.status = "no such host"
            return
        port = request.connect_to[1] if request.connect_to else self.target.port
        packet: Packet | None = Packet(request.source, request.source_port, address, port, request.protocol)
        assert packet is not None
        self._add(steps.call(self.world, request, packet, words, t))
        self.connections.append(Connection(packet, []))
        if request.node:
            packet = self._node_rules(request.node, packet, self.choices.entry, self._entry_ns(), passing=True)
        balanced_to = ""
        front = self.world.alb_at(packet.dst, t) if packet is not None else None
        if packet is not None and front is not None:
            packet, balanced_to = self._at_front(front, self._leave(packet))
        elif packet is not None and self.world.lb_at(packet.dst, t) is not None:
            packet, balanced_to = self._balance(self._leave(packet))
        if packet is not None and (balanced_to or self._enters_a_node(packet)) and not self._at_a_pod(packet):
            node = balanced_to or self.world.node_of(packet.dst)
            there = self.world.pod_at(packet.dst, t, packet.dport)  # in the node's own network
            packet = self._node_rules(node, packet, self.choices.entry, self._entry_ns(), passing=there is not None)
        if packet is not None:
            self._arrive(packet)
        elif self.status != "no such host" and (self.fronted or not self.status.isdigit()):
            self.tries = 1
        if self.fronted:
            self._front_answers()

    def _leave(self, packet: Packet) -> Packet:
        """Out of the cluster: a pod's source becomes its node's address."""
        if self.request.pod is None:
            return packet
        step = steps.leave_cluster(self.world, self.request.node, packet, self.request.t_start_ns)
        number = self._add(step.hop)
        after = step.after or packet
        self.connections[-1].legs.append(Leg(step.hop.where, self.request.node, packet, after, number))
        return after

    def _entry_ns(self) -> int:
        record = self.record
        return record.entry_ns if record is not None and record.entry_ns is not None else self.request.t_start_ns

    def _enters_a_node(self, packet: Packet) -> bool:
        """Whether the packet now comes to a node's address from elsewhere: that node's rules decide."""
        node = self.world.node_of(packet.dst)
        facts = self.world.facts_of(node) if node else None
        return facts is not None and packet.dst in facts.ips and node != self.request.node

    def _resolve(self, t: int) -> tuple[str, str]:
        """The address to dial ("" where the name does not exist), and the words; adds a pod's DNS hop."""
        request, name = self.request, self.target.name
        if request.connect_to:
            return request.connect_to[0], "the address was given; DNS is not asked"
        if address_number(name) is not None:
            return name, ""
        dns = self.world.dns_at(t)
        by_coredns = request.pod is not None and not request.node_dns
        found = resolve(dns, name, request.pod.namespace if request.pod is not None and by_coredns else None)
        if by_coredns:
            asked = steps.ask_coredns(self.world, request, found, dns, self.choices.entry, t)
            if asked.outcome and self.record is not None:
                known = f"{asked.why}; this client has asked before and knows the address"
                asked = replace(asked, outcome="", why=known)
            self._add(asked)
            if asked.outcome:
                self._add(Hop(0, "DNS", why="no answer: the name is not resolved", outcome="no such host", t_ns=t))
                return "", ""
        if not found.addresses:
            why = f"no such host: {found.words}"
            if request.node_dns:
                why = f"{why} (by its dnsPolicy the pod asks its node's resolvers, which know no Services)"
            self._add(Hop(0, "DNS", why=why, outcome="no such host", t_ns=t))
            return "", ""
        choice = "only choice" if len(found.addresses) == 1 else f"the first of {len(found.addresses)}"
        return found.addresses[0], f"DNS answered {found.addresses[0]}; {choice}"

    def _at_a_pod(self, packet: Packet) -> bool:
        """Whether the load balancer sent it to a pod itself (IP targets): no Service rule is met on the way in."""
        last = self.hops[-1]
        return last.mover == steps.BALANCER and any(key.kind in ("Pod", "Endpoint") for key in last.touches)

    def _lb_ns(self) -> int:
        record = self.record
        return record.lb_ns if record is not None and record.lb_ns is not None else self.request.t_start_ns

    def _balance(self, packet: Packet) -> tuple[Packet | None, str]:
        """Through the load balancer: the packet after it, and the node it comes to."""
        balancer = self.world.lb_at(packet.dst, self._lb_ns())
        if balancer is None:
            self.status = "timeout"
            return None, ""
        return self._through(balancer, packet)

    def _at_front(self, front: AlbInForce, packet: Packet) -> tuple[Packet | None, str]:
        """Through an Application Load Balancer: by its rules to a target group, or it answers itself."""
        t, target = self._lb_ns(), self.target
        front = self.world.alb_at(packet.dst, t) or front
        found = route_at_alb(front.model, packet.dport, target.scheme, target.host, target.path)
        group = front.groups.get(found.group) if found.group is not None else None
        if group is not None:
            self.fronted = True
            return self._through(group, packet, found.why)
        self._add(steps.front_answers(front, packet, found, t))
        self.status = "refused" if found.kind == "refused" else str(found.status)
        self.connections[-1].acceptor = steps.BALANCER
        return None, ""

    def _front_answers(self) -> None:
        """An HTTP load balancer tells the client how its target failed; it does not try another."""
        code = _FRONT_ANSWERS.get(self.status, "")
        if not code:
            return
        shown = self.record.status if self.record is not None and self.record.status else code
        why = f"the load balancer answers {shown} itself: its target {_ENDINGS[self.status]}; it tries no other"
        self._add(Hop(0, steps.BALANCER, why=why, outcome=shown))
        self.status = code

    def _through(self, balancer: LbInForce, packet: Packet, rule: str = "") -> tuple[Packet | None, str]:
        """To a target of a load balancer; `rule` says why of this target group."""
        record, t = self.record, self._lb_ns()
        turn = record.node if record is not None and balancer.profile.takes_turns else ""
        step = steps.balance(balancer, packet, self.choices.flow_hash, self.choices.entry, t, rule, turn)
        number = self._add(step.hop)
        if step.after is None:
            self.status = step.ending
            return None, ""
        copies = balancer.profile.copies
        self.connections[-1].legs.append(Leg(step.hop.where, "", packet, step.after, number, copies))
        if record is not None and record.node and record.node != step.node:
            self._mismatch(f"it has node {record.node}")
        return step.after, step.node

    def _node_rules(
        self, node: str, packet: Packet, draw: int, t: int, *, try_number: int = 1, passing: bool = False
    ) -> Packet | None:
        """Apply a node's rules; None where the packet ends there (`status` says how).

        `passing`: a packet that no rule takes goes on, as one that a pod sends to another pod.
        """
        outage = self.world.outage_of(node, t) if len(self.connections) == 1 and node != self.request.node else ""
        if outage:
            told_ns = self._no_route_ns(node, t) if self.request.node else None
            self._add(steps.node_lost(node, packet, outage, t, told_ns), try_number)
            self.status = "timeout" if told_ns is None else UNREACHABLE
            return None
        if len(self.connections) == 1:
            self.near = node
        if self._dropped_on(try_number) == node:
            self._add(steps.table_full(node, packet, t), try_number)
            self.status = "timeout"
            return None
        tracked = self.memory.tracked(node, packet)
        if tracked:
            host, port = split_destination(tracked)
            after = Packet(packet.src, packet.sport, host, port, packet.protocol)
            hop = steps.conntrack_hop(node, packet, after, self.world.pod_at(host, t), t)
            self.connections[-1].legs.append(Leg(hop.where, node, packet, after, self._add(hop, try_number)))
            return after
        earlier = (hop for hop in reversed(self.hops) if hop.node == node and hop.mover == steps.KERNEL)
        before = next((hop for hop in earlier if hop.try_number == try_number - 1), None)
        connection = try_number if len(self.connections) > 1 else 0
        step = steps.node_rules(self.world, self.memory, node, packet, draw, t, before, connection)
        if passing and step.untouched:
            self.untouched = True
            last = self.hops[-1]
            if (
                last.mover not in (steps.KERNEL, steps.ROUTE)
                and self.world.pod_at(packet.dst, t, packet.dport) is not None
            ):
                whose = (
                    "a pod's own address" if self.world.pod_at(packet.dst, t) else "a node's address, and a pod's too"
                )
                why = f"{last.why}; {whose}: no Service rule takes it, the CNI's route delivers it"
                self.hops[-1] = replace(last, why=why, mover=steps.ROUTE)
            return packet
        if step.after is not None and self._found_no_port(try_number):
            step = steps.no_port(node, step)
        number = self._add(step.hop, try_number)
        if step.after is None:
            self.status = step.ending
            return None
        self.connections[-1].legs.append(Leg(step.hop.where, node, packet, step.after, number))
        return step.after

    def _dropped_on(self, try_number: int) -> str:
        """The node whose full conntrack table dropped the connection being opened; "" for none."""
        return self.memory.dropped_on(try_number if len(self.connections) > 1 else 0)

    def _found_no_port(self, try_number: int) -> bool:
        """Whether the connection being opened was dropped because no source port was free for it."""
        return self.memory.found_no_port(try_number if len(self.connections) > 1 else 0)

    def _arrive(self, packet: Packet) -> None:
        """At the address after the first rules: an ingress controller, or the pod that answers."""
        t = self._entry_ns()
        record = self.record
        pod = self.world.pod_at(packet.dst, t, packet.dport)
        config = self.world.ingress_config_at(pod, t) if pod is not None and packet.dport not in _NOT_PROXIED else None
        if pod is not None and config is not None:
            if record is not None and record.ingress and record.ingress != packet.destination:
                self._mismatch(f"it has ingress {record.ingress}")
            listens = self._answer(packet, t) == OK
            # NGINX has taken what it tried pods for, also where the client's own connection ended before its answer.
            if record.status.isdigit() or record.tries if record is not None else listens:
                self.connections[-1].acceptor = "ingress, NGINX"
                self.connections[-1].acceptor_node = self.near = self.world.node_of(packet.dst)
                self._ingress(packet, pod, config)
                return
        self.tries = 1
        tried = record.tries[0] if record is not None and record.tries else None
        answer = self._end_try(packet, tried, 1, t)
        self.status = "200" if answer == OK else _WORDS.get(answer, answer)

    # --- through NGINX ---------------------------------------------------------------------------------------------

    def _ingress(self, packet: Packet, pod: Key, known: ConfigInForce) -> None:
        t, node = self._entry_ns(), self.world.node_of(packet.dst)
        found = self._route(known)
        if found.kind != "proxy":
            self._add(steps.nginx_answers(pod, node, packet, found, known, t))
            self.status = str(found.status)
            return
        allowed = len(self.record.tries) if self.record else found.proxying.tries
        self.waits_s = found.proxying.connect_s, found.proxying.read_s
        answer = ""
        for number in range(1, allowed + 1):
            self.tries, self.accepted = number, False
            tried = self.record.tries[number - 1] if self.record else None
            answer = self._try(packet, pod, known, found, number, tried)
            if answer == OK:
                self.status = "200"
                return
            sent = answer == RESET or self.accepted
            once = self.request.method in _NOT_RETRIED and not found.proxying.non_idempotent
            if self.record is None and sent and once:
                break
        self.status = "504" if answer == TIMEOUT else "502"
        shown = self.record.status if self.record else self.status
        count = f"{self.tries} tries" if self.tries != 1 else "1 try"
        why = f"NGINX answers {shown} itself: {count} failed"
        if not shown.isdigit():
            self.status = shown
            why = f"the client's own connection ended before NGINX had an answer: {shown}; {count} had failed by then"
        self._add(Hop(0, "ingress, NGINX", node=node, why=why, outcome=shown, touches=(pod,)), self.tries)
        del self.connections[1:]

    def _try(
        self, packet: Packet, pod: Key, known: ConfigInForce, found: Route, number: int, tried: TryRecord | None
    ) -> str:
        t = tried.start_ns if tried else self.request.t_start_ns
        node = self.world.node_of(packet.dst)
        current = (self.world.ingress_config_at(pod, t) or known) if number > 1 else known
        if current is not known:
            found = self._rerouted(current, found)
        port = self.choices.port_of(number)
        step = steps.nginx_connects(
            pod, node, packet, found, current, number, port, self.memory, t, self._last_ending()
        )
        number_of_hop = self._add(step.hop, number)
        del self.connections[1:]
        self.connections.append(Connection(step.sent, []))
        arrived: Packet | None = step.sent
        if step.kept is not None:
            arrived = step.kept
            if found.service_upstream:
                target = self.world.pod_at(step.kept.dst, t, step.kept.dport)
                number_of_hop = self._add(steps.conntrack_hop(node, step.sent, step.kept, target, t), number)
            self.connections[-1].legs.append(Leg(f"{node}, kernel", node, step.sent, step.kept, number_of_hop))
        elif found.service_upstream:
            arrived = self._node_rules(node, step.sent, self.choices.backend_of(number), t, try_number=number)
        if arrived is None:
            return REFUSED if self.status == "refused" else TIMEOUT
        return self._end_try(arrived, tried, number, t)

    def _route(self, known: ConfigInForce) -> Route:
        target, asked = self.target, self.request
        return route(known.config, target.scheme, target.host, target.path, method=asked.method, client=asked.source)

    def _rerouted(self, known: ConfigInForce, before: Route) -> Route:
        """The route under a newer configuration: NGINX's Lua balancer reads its peers at each try."""
        now = self._route(known)
        return now if now.kind == "proxy" and now.backend == before.backend else before

    def _last_ending(self) -> str:
        ending = next((hop.outcome for hop in reversed(self.hops) if hop.outcome), "")
        return {"timeout": "a timeout", "dropped": "a timeout"}.get(ending, "an error")

    # --- the end of a try ------------------------------------------------------------------------------------------

    def _end_try(self, packet: Packet, tried: TryRecord | None, number: int, t: int) -> str:
        """Mark how a try ended: on the hop that delivered it, or as a remark after it. Returns the answer."""
        if tried is not None and tried.server and tried.server != packet.destination:
            self._mismatch(f"it has {tried.server}")
        full = self._dropped_on(number)
        answer = tried.answer if tried else TIMEOUT if full else self._answer(packet, t)
        pod = self.world.pod_at(packet.dst, t, packet.dport)
        name = f"pod {short_pod(pod)}" if pod else packet.destination
        if answer == OK:
            last = max(i for i, hop in enumerate(self.hops) if hop.number)
            status = self.record.status if self.record else "200"
            self.hops[last] = replace(self.hops[last], outcome=status)
            self.connections[-1].acceptor = name
            self.connections[-1].acceptor_node = self.world.node_of(packet.dst)
            return OK
        what = _WORDS.get(answer, answer)
        end = tried.end_ns if tried else t
        if answer == UNREACHABLE and not tried:
            end += self._no_route_ns(self.world.node_of(packet.dst), t) or 0
        took = f" in {seconds(end - (tried.start_ns if tried else t))}" if tried or answer == UNREACHABLE else ""
        by_rule = next((hop for hop in reversed(self.hops) if hop.number), None)
        node = by_rule.node if by_rule is not None and by_rule.mover == steps.KERNEL else ""
        known = self.world.ruleset_at(node, t) if node else None
        fate = self.world.fate_of(pod, end) if pod else None
        reason = fate_words(fate, t, node, known) or _plain_reason(what)
        outage = self._outage(packet, t)
        if outage and what == "timeout":
            reason = outage
        elif what == "timeout" and fate is None and self.world.behaviour_at(packet.dst, packet.dport, t) == LISTENS:
            reason = "it had not answered yet when its caller waited no longer"
        elif what == "reset" and fate is None and self.world.behaviour_at(packet.dst, packet.dport, t) == LISTENS:
            reason = "it had closed this connection, idle for as long as it lets one be, and its FIN was on the way"
        if what == "timeout" and self._bypassed(packet):
            reason = (
                f"{self.near} did not hide the client, so the pod answers it directly, which it discards (k/k #97081)"
            )
        if what == CLIENT_GONE:
            reason = "the process that asked ended first, so nobody was there to hear of an answer"
        if what == UNREACHABLE:
            reason = f"{outage}; {NO_NEIGHBOUR}"
        if full:
            reason = f"nf_conntrack on {full}: table full, dropping packet"
        elif self.untouched and pod is None and what == "timeout":
            reason = "no Service rule takes it, so it is routed as it is, and nobody has this address"
        verb = {"timeout": "timed out", UNREACHABLE: "no route to host", CLIENT_GONE: "in hand"}.get(what, what)
        self._add(
            Hop(
                0,
                name,
                node=self.world.node_of(packet.dst),
                before=packet,
                why=f"{verb}{took}: {reason}",
                touches=(pod,) if pod else (),
                t_ns=end,
                outcome=what,
            ),
            number,
        )
        return answer

    def _outage(self, packet: Packet, t: int) -> str:
        """Which end of the way to a pod is off the network; "" when both are on it, or it is one node."""
        there = self.world.node_of(packet.dst)
        if not there or there == self.near:
            return ""
        for node in (there, self.near):
            words = self.world.outage_of(node, t) if node else ""
            if words:
                return f"{node} {words}"
        return ""

    def _bypassed(self, packet: Packet) -> bool:
        """Whether a pod's answer does not come back through the node that rewrote where a client outside had dialled.

        It comes from the pod's own address then, and the client discards it (k/k pkg/proxy/ipvs/proxier.go,
        syncEndpoint: IPVS, Local policy, no endpoint on the node).
        """
        if self.request.node or len(self.connections) > 1 or not self.connections[-1].legs:
            return False
        leg = self.connections[-1].legs[-1]
        there = self.world.node_of(packet.dst)
        return bool(leg.node and there) and there != leg.node and leg.after.src == leg.before.src

    def _no_route_ns(self, there: str, t: int) -> int | None:
        """How long a connect to a node off the network waits until its caller's own node says that nobody is there.

        A client outside the cluster is behind a router, and hears nothing; nor does a datagram's sender.
        """
        if self.request.protocol != "TCP" or not self.near:
            return None
        return self.world.no_route_ns(self.near, there, t)

    def _answer(self, packet: Packet, t: int) -> str:
        self.accepted = False
        if self._outage(packet, t):
            asks = bool(self.request.node) or len(self.connections) > 1  # in the cluster, or NGINX
            told_ns = self._no_route_ns(self.world.node_of(packet.dst), t) if asks else None
            return TIMEOUT if told_ns is None else UNREACHABLE
        if self._bypassed(packet):
            return TIMEOUT
        behaviour = self.world.behaviour_at(packet.dst, packet.dport, t)
        self.accepted = behaviour == HANGS
        return {LISTENS: OK, REFUSES: REFUSED}.get(behaviour, TIMEOUT)


def _plain_reason(what: str) -> str:
    reasons = {
        "refused": "nothing listens there",
        "timeout": "nobody answers at this address",
        "reset": "the pod went away before it answered",
    }
    return reasons.get(what, "no answer")


def _parts(record: Record | None, latency: int | None) -> tuple[tuple[str, int], ...]:
    """Latency split: what failed tries took, by how they failed; queue, service; network (with NGINX) is the rest."""
    if record is None or latency is None:
        return ()
    lost = {"refused": 0, "reset": 0, "timeout": 0, UNREACHABLE: 0, CLIENT_GONE: 0}
    for tried in record.tries:
        name = _WORDS.get(tried.answer)
        if name is not None:
            lost[name] += tried.end_ns - tried.start_ns
    network = latency - sum(lost.values()) - record.queue_ns - record.service_ns
    failed = [(name, lost[name]) for name in lost if lost[name]]
    return (*failed, ("queue", record.queue_ns), ("service", record.service_ns), ("network", network))
