"""`kflab trace --rules`: take a request's packets through the dump of a real node's rules."""

import json
from collections.abc import Callable, Mapping
from typing import TextIO
from urllib.parse import urlsplit

from kflab import exits
from kflab.dataplane.addresses import canonical, family_of
from kflab.dataplane.dump import read_text
from kflab.dataplane.dump_meeting import Known
from kflab.dataplane.dump_outcome import Exploration
from kflab.dataplane.dump_read import explore_rules, read_rules
from kflab.dataplane.dump_sets import read_sets
from kflab.dataplane.dump_text import render_text, to_tree
from kflab.dataplane.packets import Packet
from kflab.dataplane.world import node_facts
from kflab.errors import KflabError
from kflab.lab.entries import OUTSIDE_CLIENT
from kflab.lab.running import Lab
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_pods import Pod
from kflab.records import dataclass
from kflab.scenario.tracing import source_key, traced

_PORTS = {"http": 80, "https": 443}

_PROTOCOLS = {"udp": "UDP", "sctp": "SCTP"}

_SOURCE_PORT = 40000


@dataclass(frozen=True, slots=True)
class RulesAsked:
    """What the command line says about a dump."""

    file: str
    node: str
    """A node of the manifests, or a node's own addresses, separated by commas."""
    in_interface: str = ""
    out_interface: str = ""
    sets: str = ""
    """File with the output of `ipset save`."""


def trace_rules(
    lab_of: Callable[[], Lab],
    asked: RulesAsked,
    url: str,
    source: str,
    method: str,
    output: str,
    stdio: tuple[TextIO, TextIO],
) -> int:
    """Walk a request's packets through a node's dump and print it.

    Args:
        lab_of: Opens the manifests; not called where addresses are all that is needed.
        asked: The dump and its node.
        url: What is called: with an address in it, one packet to that address; with a name, the packets of the
            whole request that meet this node's rules.
        source: Who calls: as `kflab trace --from`, or an address.
        method: For requests by name.
        output: text or json.
        stdio: Standard input and output.

    Raises:
        KflabError: If any of it makes no sense.
    """
    stdin, out = stdio
    opened: list[Lab] = []

    def lab() -> Lab:
        if not opened:
            opened.append(lab_of())
        return opened[0]

    text, name = read_text(asked.file, stdin)
    rules = read_rules(text, name)
    own = _addresses(asked.node)
    if not own:
        node = lab().store.get(Key("Node", "", asked.node))
        if not isinstance(node, Node):
            there = ", ".join(key.name for key in lab().store.keys("Node")[:8])
            raise KflabError(
                f"no node named {asked.node!r}; there are {there} (or give --node the node's own addresses: 10.0.0.5,…)"
            )
        facts = node_facts(node)
        own = (*facts.ips, *facts.extra_ips)
    sets: Mapping[str, tuple[str, ...]] = read_sets(*read_text(asked.sets)) if asked.sets else {}
    named = "" if _addresses(asked.node) else asked.node
    known = Known(named, own, asked.in_interface, asked.out_interface, sets)
    packets = _packets(lab, asked.node, url, source, method)
    walks = [explore_rules(rules, packet, known) for packet in packets]
    _print(walks, named or own[0], output, out)
    return exits.OK


def _print(walks: list[Exploration], node: str, output: str, out: TextIO) -> None:
    if output == "json":
        trees = [to_tree(walk) for walk in walks]
        out.write(json.dumps(trees[0] if len(trees) == 1 else trees, indent=2) + "\n")
    else:
        out.write("\n".join(render_text(walk, f"rules of {node}") for walk in walks))


def _addresses(text: str) -> tuple[str, ...]:
    """Addresses, or () where it is no list of addresses."""
    found = tuple(canonical(piece) for piece in text.split(","))
    return found if all(found) else ()


def _packets(lab: Callable[[], Lab], node: str, url: str, source: str, method: str) -> list[Packet]:
    """First packets of the connections that meet the node's rules."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise KflabError(f"{url!r} is no URL: {error}") from None
    if canonical(host):
        port = port if port is not None else _PORTS.get(parts.scheme, 0)
        if not port:
            raise KflabError(f"{url!r}: give a port")
        destination = canonical(host)
        sender = _sender(lab, source, family_of(destination))
        if family_of(sender) != family_of(destination):
            raise KflabError(f"{sender} cannot call {destination}: they are of two address families")
        return [Packet(sender, _SOURCE_PORT, destination, port, _PROTOCOLS.get(parts.scheme, "TCP"))]
    trace = traced(lab(), url, source, method)
    found = [
        hop.before
        for hop in trace.hops
        if hop.node == node and hop.before is not None and hop.mover in ("kernel DNAT", "kernel")
    ]
    if not found:
        met = ", ".join(dict.fromkeys(hop.node for hop in trace.hops if hop.node and hop.mover.startswith("kernel")))
        raise KflabError(f"this request meets no rules of {node}" + (f", but those of {met}" if met else ""))
    return list(dict.fromkeys(found))


def _sender(lab: Callable[[], Lab], source: str, family: str) -> str:
    if canonical(source):
        return canonical(source)
    key = source_key(source)
    if key is None:
        return OUTSIDE_CLIENT if family == "IPv4" else "2001:db8:ffff::45"
    obj = lab().store.get(key)
    ips = obj.status.pod_ips if isinstance(obj, Pod) else obj.internal_ips if isinstance(obj, Node) else None
    if ips is None:
        raise KflabError(f"--from {source}: there is no such {key.kind.lower()}")
    found = next((ip for ip in ips if family_of(ip) == family), "")
    if not found:
        raise KflabError(f"--from {source}: it has no {family} address")
    return canonical(found)
