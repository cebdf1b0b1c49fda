"""kube-proxy vectors: packet flows and rule texts, in iptables mode."""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from kflab.dataplane.addresses import canonical
from kflab.dataplane.iptables import RuleSet, ServiceTable, compile_service
from kflab.dataplane.iptables_names import chain_hash
from kflab.dataplane.node_facts import ZONE_LABEL, NodeFacts
from kflab.dataplane.packets import Packet, join_host_port
from kflab.dataplane.proxy_config import ProxyConfig
from kflab.dataplane.rules import RecentSet, probability_text
from kflab.dataplane.walk import FanOut, Recent, Walk, fan, walk
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_network import EndpointSlice, Service
from kflab.proof.case import Case, Vector, objects_of

_SOURCE_PORT = 40000


def rule_set_of(vector: Vector) -> RuleSet:
    """The node's rules that a vector describes: its manifests seen by its kube-proxy."""
    given: Mapping[str, Any] = vector["proxy"]
    objects = objects_of(vector["manifests"], vector["id"])
    node = next((item for item in objects if isinstance(item, Node) and item.meta.name == given["node_name"]), None)
    config = ProxyConfig(
        cluster_cidrs=(given["cluster_cidr"],) if given["cluster_cidr"] else (),
        masquerade_all=given["masquerade_all"],
        localhost_node_ports=given["localhost_nodeports"],
        node_port_addresses=tuple(given["nodeport_addresses"]),
        feature_gates=dict(given.get("feature_gates", {})),
        nfacct=given.get("nfacct", False),
        random_fully=given.get("random_fully", True),
        conntrack_tcp_be_liberal=given.get("conntrack_tcp_be_liberal", False),
    )
    facts = NodeFacts(
        name=given["node_name"],
        ips=tuple(canonical(ip) for ip in given["node_ips"]),
        zone=node.meta.labels.get(ZONE_LABEL, "") if node else "",
        primary_ips=(canonical(given["node_ip"]),),
        pod_cidrs=node.pod_cidrs if node else (),
    )
    family: str = vector["family"]
    slices: dict[Key, list[EndpointSlice]] = {}
    for item in objects:
        if isinstance(item, EndpointSlice):
            slices.setdefault(item.service, []).append(item)
    services = (item for item in objects if isinstance(item, Service))
    compiled = (compile_service(service, slices.get(service.key, ()), family) for service in services)
    return RuleSet(facts, config, ServiceTable(compiled, family), family)


# --- flows -------------------------------------------------------------------------------------------------------


def run_flows(vector: Vector) -> Iterator[Case]:
    """Send the first packets of a flow vector."""
    rules = rule_set_of(vector)
    for flow in vector["flows"]:
        packet = Packet(
            canonical(flow["source_ip"]),
            _SOURCE_PORT,
            canonical(flow["dest_ip"]),
            flow["dest_port"],
            flow["protocol"],
        )
        expect = flow["expect"]
        wanted = _told(expect["verdict"], expect["endpoints"], expect["masquerade"])
        found = _of_fan(fan(rules, packet))
        if wanted == found and flow.get("then"):
            wanted, found = _repeats(rules, packet, flow["then"], expect["endpoints"])
        yield Case(f"{vector['id']}: {flow['name']}", wanted, found)


def _told(verdict: str, endpoints: list[str], masquerade: bool) -> str:
    where = f" to {', '.join(sorted(endpoints))}" if endpoints else ""
    return f"{verdict}{where}{', masqueraded' if masquerade else ''}"


def _of_fan(found: FanOut) -> str:
    endpoints = [join_host_port(item.address, item.port) for item in found.endpoints]
    shares = {item.chance for item in found.endpoints}
    text = _told(found.verdict, endpoints, found.masquerade)
    if len(shares) > 1:
        text += f", unequal shares {', '.join(str(item.chance) for item in found.endpoints)}"
    return text


class _Seen:
    """The `recent` lists of one node: who came to which endpoint chain when (xt_recent)."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], int] = {}

    def at(self, now_s: int) -> Recent:
        def seen(chain: str, source: str, seconds: int) -> bool:
            last = self._last.get((chain, source))
            return last is not None and now_s - last <= seconds

        return seen

    def remember(self, taken: Walk, source: str, now_s: int) -> None:
        for rule in taken.taken:
            for match in rule.rule.matches:
                if isinstance(match, RecentSet):
                    self._last[match.name, source] = now_s


def _repeats(rules: RuleSet, packet: Packet, then: list[Vector], endpoints: list[str]) -> tuple[str, str]:
    """Further connections of one client, whatever endpoint the first one drew."""
    wanted, found = [], []
    for i in range(len(endpoints)):
        memory, now = _Seen(), 0
        draw = ((2 * i + 1) << 32) // (2 * len(endpoints))
        before = walk(rules, packet, draw)
        memory.remember(before, packet.src, now)
        for repeat in then:
            now += repeat["after_seconds"]
            expected = [before.packet.destination] if repeat["endpoint"] == "same" else endpoints
            may = fan(rules, packet, recent=memory.at(now))
            wanted.append(f"after {now} s {', '.join(sorted(expected))}")
            reached = sorted(join_host_port(item.address, item.port) for item in may.endpoints)
            found.append(f"after {now} s {', '.join(reached)}")
            before = walk(rules, packet, draw, recent=memory.at(now))
            memory.remember(before, packet.src, now)
    return "; ".join(wanted), "; ".join(found)


# --- rule texts --------------------------------------------------------------------------------------------------


def run_rules(vector: Vector) -> Iterator[Case]:
    """Compare rule texts, chain names or probability texts."""
    kind, expect = vector["kind"], vector["expect"]
    if kind == "tables":
        yield _tables(vector, expect)
    elif kind == "chains":
        yield _chains(vector, expect)
    elif kind == "chain-names":
        wanted = [item["chain"] for item in expect]
        found = [
            item["prefix"] + chain_hash(item["service_port"], item["protocol"], item.get("endpoint", ""))
            for item in expect
        ]
        yield Case(vector["id"], *_difference(wanted, found))
    elif kind == "probabilities":
        wanted = [item["text"] for item in expect]
        found = [probability_text(Fraction(1, item["n"])) for item in expect]
        yield Case(vector["id"], *_difference(wanted, found))
    else:
        raise ValueError(f"unknown kind {kind!r}")


def _tables(vector: Vector, expect: Vector) -> Case:
    tables = rule_set_of(vector).tables()
    wanted, found = [], []
    for table, content in expect.items():
        wanted += [f"{table} :{name}" for name in content["chains"]] + [f"{table} {line}" for line in content["rules"]]
        chains = tables.get(table, ())
        found += [f"{table} :{chain.name}" for chain in chains]
        found += [f"{table} {rule.written(chain.name)}" for chain in chains for rule in chain.rules]
    if set(tables) != set(expect):
        found.append(f"tables {', '.join(tables)}")
        wanted.append(f"tables {', '.join(expect)}")
    return Case(vector["id"], *_difference(wanted, found))


def _chains(vector: Vector, expect: Vector) -> Case:
    tables = rule_set_of(vector).tables()
    known = {(table, chain.name): chain for table, chains in tables.items() for chain in chains}
    wanted, found = [], []
    for table, chains in expect.items():
        for name, lines in chains.items():
            wanted += [f"{table} {line}" for line in lines]
            chain = known.get((table, name))
            found += [f"{table} {rule.written(name)}" for rule in (chain.rules if chain else ())]
    return Case(vector["id"], *_difference(wanted, found))


def _difference(wanted: list[str], found: list[str]) -> tuple[str, str]:
    """The first line that differs, so that a failure can be read."""
    if wanted == found:
        return "", ""
    for i in range(max(len(wanted), len(found))):
        left = wanted[i] if i < len(wanted) else "(nothing more)"
        right = found[i] if i < len(found) else "(nothing more)"
        if left != right:
            return f"line {i + 1}: {left}", f"line {i + 1}: {right}"
    return "\n".join(wanted), "\n".join(found)
