"""Take one first packet through a node in IPVS mode: with a draw (`ipvs_walk`), or all draws at once (`ipvs_fan`).

The answers are those of `walk.walk` and `walk.fan`. The way (net/netfilter/ipvs/ip_vs_core.c, ip_vs_xmit.c):

- From elsewhere: nat PREROUTING marks; kube-ipvs0 has the address, so filter INPUT is next, then IPVS at the end of the
  input hook picks a server and sends the packet out again through filter OUTPUT and nat POSTROUTING.
- From the node: nat OUTPUT marks; IPVS takes it right there (priority dstnat + 2), before filter OUTPUT.
- A virtual server without a usable server answers with ICMP port unreachable (ip_vs_leave): refused.
"""

from collections.abc import Iterator
from fractions import Fraction
from typing import Final, NamedTuple

from kflab.dataplane import iptables_names as names
from kflab.dataplane.addresses import IPV4
from kflab.dataplane.ipvs import IpvsSource
from kflab.dataplane.ipvs_port import VirtualServer
from kflab.dataplane.ipvs_rules import MatchSet, NotFromBridge, OnlyProto, SrcNotLocal, ToVirtualServer
from kflab.dataplane.ipvs_schedulers import RealServer, pick, shares, turn_words
from kflab.dataplane.memory_view import Turn
from kflab.dataplane.packets import Alternative, Packet, Verdict
from kflab.dataplane.rule_match import Flow, hits
from kflab.dataplane.rules import Match, RecentSet, Rule, Unknown
from kflab.dataplane.walk import FanEndpoint, FanOut, Recent, Taken, Walk
from kflab.records import dataclass

_ONE: Final = Fraction(1)

_STOPS: Final = {"DROP": Verdict.DROP, "REJECT": Verdict.REJECT}

_TERMINAL: Final = frozenset({"ACCEPT", "DROP", "REJECT", "MASQUERADE"})


@dataclass(frozen=True, slots=True)
class IpvsTaken(Taken):
    """A virtual server or real server that a packet took; `rule` carries its line, and `RecentSet` under affinity."""

    def text(self, family: str = IPV4) -> str:
        """As `ipvsadm -Sn` prints it."""
        return self.rule.matches[0].saved(family)


class _Way(NamedTuple):
    """One way a packet may go."""

    verdict: Verdict
    flow: Flow
    chance: Fraction
    masquerade: bool = False
    path: tuple[Taken, ...] = ()
    sticky: bool = False


class _Reader:
    """Reads a node's rules for one packet."""

    def __init__(
        self, source: IpvsSource, packet: Packet, recent: Recent | None, draw: int | None, turn: Turn | None = None
    ) -> None:
        self.source, self.packet, self.recent, self.draw, self.turn = source, packet, recent, draw, turn
        self.turn_words = ""
        self.virtual = source.virtual_server(packet)
        self.path: list[Taken] = []

    # --- iptables ------------------------------------------------------------------------------------------------

    def chain(self, table: str, name: str, flow: Flow) -> str:
        """Walk a chain; the terminal target's name, "" at its end."""
        chain = self.source.chain_for(table, name, self.packet)
        for rule in chain.rules if chain is not None else ():
            target = rule.target
            if target is None or not all(self._holds(match, flow) for match in rule.matches):
                continue
            mark, length = flow.mark, len(self.path)
            self.path.append(Taken(table, name, rule))
            if target.name == "MARK":
                flow.set_mark(target.argument)
            elif target.name == "RETURN":
                return ""
            elif target.name in _TERMINAL:
                return target.name
            else:
                end = self.chain(table, target.name, flow)
                if end:
                    return end
                if flow.mark == mark:
                    del self.path[length:]
        return ""

    def _holds(self, match: Match, flow: Flow) -> bool:
        if isinstance(match, MatchSet):
            packet = flow.packet
            ip = packet.src if match.fields.startswith("src") else packet.dst
            entries = self.source.entries(match.set, self.packet)
            return any(entry.has(ip, flow.protocol, packet.dport, packet.src) for entry in entries)
        if isinstance(match, OnlyProto):
            return flow.protocol == match.name
        if isinstance(match, SrcNotLocal):
            return not flow.src_local
        if isinstance(match, ToVirtualServer):
            virtual = self.virtual
            return virtual is not None and match == ToVirtualServer.of(
                virtual.protocol.lower(), virtual.address, virtual.port
            )
        return isinstance(match, NotFromBridge) or hits((match,), flow)

    # --- the whole way -------------------------------------------------------------------------------------------

    def go(self) -> Iterator[_Way]:
        """Every way the packet may go."""
        flow = Flow(self.packet, self.source.is_local(self.packet.src), self.source.is_local(self.packet.dst))
        self.chain("nat", "OUTPUT" if flow.src_local else "PREROUTING", flow)
        marked = tuple(self.path)
        self.path = []
        end = ""
        if not flow.src_local:
            end = self.chain("filter", "INPUT" if flow.dst_local else "FORWARD", flow)
        elif self.virtual is None:
            end = self.chain("filter", "OUTPUT", flow)
            if flow.dst_local and end not in _STOPS:
                end = self.chain("filter", "INPUT", flow) or end
        if end in _STOPS:
            yield _Way(_STOPS[end], flow, _ONE, path=tuple(self.path))
        elif self.virtual is None or not flow.dst_local:
            verdict = Verdict.ACCEPT if end == "ACCEPT" and flow.dst_local else Verdict.NONE
            yield _Way(verdict, flow, _ONE, path=tuple(self.path) if verdict is Verdict.ACCEPT else ())
        else:
            yield from self._scheduled(self.virtual, flow, marked)

    def _scheduled(self, virtual: VirtualServer, flow: Flow, marked: tuple[Taken, ...]) -> Iterator[_Way]:
        line = IpvsTaken("ipvs", virtual.name, Rule((Unknown(virtual.saved()),), None))
        choices, sticky = self._choices(virtual)
        if not choices:
            yield _Way(Verdict.REJECT, flow, _ONE, path=(line,))
        for server, chance in choices:
            matches: list[Match] = [Unknown(virtual.saved_server(server))]
            if virtual.persistent_s:
                matches.append(RecentSet(virtual.remembered(server)))
            taken = (*marked, line, IpvsTaken("ipvs", virtual.name, Rule(tuple(matches), None)))
            yield self._sent(flow.copy(), server, _Way(Verdict.DNAT, flow, chance, path=taken, sticky=sticky))

    def _choices(self, virtual: VirtualServer) -> tuple[tuple[tuple[RealServer, Fraction], ...], bool]:
        """Servers with their chances, and whether affinity decided."""
        if virtual.persistent_s and self.recent is not None:
            for server in virtual.servers:
                seen = self.recent(virtual.remembered(server), self.packet.src, virtual.persistent_s)
                # A draining server's template has expired (sysctl expire_quiescent_template, set by kube-proxy).
                if seen and server.weight > 0:
                    return ((server, _ONE),), True
        if self.draw is None:
            return shares(virtual.scheduler, virtual.servers, self.packet), False
        usable = shares(virtual.scheduler, virtual.servers, self.packet)
        for server, chance in usable:
            if self.turn is not None and server.text == self.turn.destination:
                self.turn_words = turn_words(virtual.scheduler, self.turn, len(usable))
                # Where connections were counted, no other could have been taken.
                return ((server, chance if self.turn.load is None else _ONE),), False
        picked = pick(virtual.scheduler, virtual.servers, self.packet, self.draw)
        return ((picked,) if picked else ()), False

    def _sent(self, flow: Flow, server: RealServer, way: _Way) -> _Way:
        """Out of IPVS: filter OUTPUT, then nat POSTROUTING, unless the server is the node itself."""
        flow.packet = Packet(self.packet.src, self.packet.sport, server.address, server.port, self.packet.protocol)
        twin = Flow(flow.packet, flow.src_local, self.source.is_local(server.address))
        twin.mark, twin.rewritten = flow.mark, True
        way = way._replace(flow=twin)
        here = self.source.on_node_itself(server.address)
        if here and not twin.src_local:
            return way
        self.path = []
        if self.chain("filter", "OUTPUT", twin) in _STOPS:
            return way._replace(verdict=Verdict.DROP, path=tuple(self.path), chance=_ONE)
        self.path = []
        if self.chain("nat", "POSTROUTING", twin) == "MASQUERADE":
            return way._replace(masquerade=True, path=(*way.path, *self.path))
        return way


def _alternative(found: FanEndpoint, chosen: tuple[str, int], counted: bool) -> Alternative:
    """A server beside the one taken; `counted`: by their connections, which gave it no chance."""
    destination, mine = Packet("", 0, found.address, found.port).destination, (found.address, found.port) == chosen
    if not counted:
        return Alternative(destination, found.chance, found.target, chosen=mine)
    note = "" if mine else "more connections, or as many and later in the list"
    return Alternative(destination, Fraction(int(mine)), found.target, chosen=mine, note=note)


def ipvs_walk(
    source: IpvsSource,
    packet: Packet,
    draw: int,
    *,
    recent: Recent | None = None,
    explain: bool = True,
    turn: Turn | None = None,
) -> Walk:
    """Take one packet through the rules.

    Args:
        source: The rules, e.g. a node's `IpvsRuleSet`.
        packet: First packet of a connection, as it arrives at (or leaves) the node.
        draw: Unsigned 32-bit word; stands for the scheduler's state where that is memory (see `ipvs_schedulers`).
        recent: Memory of persistence, asked by `VirtualServer.remembered`; None: nobody was seen before.
        explain: Whether to work out the alternatives.
        turn: Whom the scheduler took, where that is on record; the draw otherwise tells it.
    """
    reader = _Reader(source, packet, recent, draw, turn)
    way = next(reader.go())
    target = None
    alternatives: tuple[Alternative, ...] = ()
    if way.verdict is Verdict.DNAT:
        endpoint = source.endpoint(packet, way.flow.packet.dst, way.flow.packet.dport)
        target = endpoint.target if endpoint else None
        if explain and not way.sticky:
            chosen = (way.flow.packet.dst, way.flow.packet.dport)
            endpoints = ipvs_fan(source, packet, recent=recent).endpoints
            counted = bool(reader.turn_words) and turn is not None and turn.load is not None
            alternatives = tuple(_alternative(found, chosen, counted) for found in endpoints)
    own = tuple(taken for taken in way.path if taken.table != "nat" or taken.chain.startswith("KUBE-"))
    named = (taken.chain for taken in own if taken.table == "ipvs" or taken.chain.startswith("KUBE-"))
    return Walk(
        verdict=way.verdict,
        packet=way.flow.packet,
        masquerade=way.masquerade,
        chains=tuple(name for name in dict.fromkeys(named) if name != names.MARK_MASQ),
        taken=own,
        chance=_ONE if way.sticky or way.verdict is not Verdict.DNAT else way.chance,
        alternatives=alternatives,
        target=target,
        sticky=way.sticky,
        family=source.family,
        turn=reader.turn_words if way.verdict is Verdict.DNAT else "",
    )


def ipvs_fan(source: IpvsSource, packet: Packet, *, recent: Recent | None = None) -> FanOut:
    """Work out everything the rules may do with a packet, with exact chances.

    Args:
        source: The rules.
        packet: First packet of a connection.
        recent: Memory of persistence; None: nobody was seen before.
    """
    reader = _Reader(source, packet, recent, None)
    ways = list(reader.go())
    affinity_s = reader.virtual.persistent_s if reader.virtual is not None else 0
    reached = [way for way in ways if way.verdict is Verdict.DNAT]
    if not reached:
        return FanOut(ways[0].verdict, affinity_s=affinity_s)
    endpoints = []
    for way in reached:
        after = way.flow.packet
        known = source.endpoint(packet, after.dst, after.dport)
        endpoints.append(
            FanEndpoint(after.dst, after.dport, way.chance, known.target if known else None, way.masquerade)
        )
    return FanOut(Verdict.DNAT, tuple(endpoints), affinity_s)
