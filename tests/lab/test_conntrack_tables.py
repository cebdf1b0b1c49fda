"""A node's conntrack table against the requests that made it."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kflab.dataplane.conntrack import tracked_by
from kflab.errors import KflabError
from kflab.lab import conntrack
from kflab.lab.commands import Kill, Run, Stop
from kflab.lab.handle import Tab
from kflab.lab.records import Record, record, status_text
from kflab.lab.running import Lab
from kflab.lab.spec import ClientSpec, LabSpec
from kflab.scenario.format import load, load_text

S = 1_000_000_000


def slow(name: str, rate: float = 4.0) -> Lab:
    """A bundled scenario with few requests."""
    spec = load(name).spec
    return Lab(replace(spec, clients=tuple(replace(client, rate_rps=rate) for client in spec.clients)))


@pytest.mark.parametrize("name", ["overview", "overview-defaults", "overview-keepalive"])
def test_counts_equal_the_entries_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conntrack, "LISTED", 10_000)
    monkeypatch.setattr(conntrack, "LISTED_PER_KIND", 10_000)
    lab = slow(name, 2.0)
    seen = set()
    for t_s in (5, 130):
        lab.advance(t_s * S)
        for node in ("node-a", "node-b"):
            table = lab.conntrack.table(node)
            assert len(table.entries) == table.count
            assert len({entry.tracked for entry in table.entries}) == table.count
            seen.add(table.count > 0)
    assert seen == {True}


def test_counts_equal_the_entries_named_while_a_pod_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conntrack, "LISTED", 10_000)
    monkeypatch.setattr(conntrack, "LISTED_PER_KIND", 10_000)
    lab = slow("overview", 20.0)
    lab.advance(5 * S)
    pod = next(key for key in lab.store.keys("Pod") if key.name.startswith("product-"))
    assert lab.do(Stop("kube-proxy/node-a")).ok  # its rules go on naming the pod
    assert lab.do(Kill(pod, "force")).ok
    states = set()
    for t_ms in (6_000, 12_000):
        lab.advance(t_ms * S // 1000)
        for node in ("node-a", "node-b"):
            table = lab.conntrack.table(node)
            assert len(table.entries) == table.count
            states |= {entry.life.state for entry in table.entries}
    assert {"TIME_WAIT", "SYN_SENT"} <= states


def test_an_opened_request_agrees_with_its_entries() -> None:
    lab = slow("overview-defaults")
    lab.advance(10 * S)
    one = list(lab.sampler.recent())[-1]
    trace = lab.reopener.open_record(one)
    entries = list(lab.conntrack.entries_of(one))
    dnat = next(hop for hop in trace.hops if hop.mover == "kernel DNAT")
    assert dnat.before is not None
    assert dnat.after is not None
    mine = next(entry.tracked for entry in entries if entry.tracked.node == dnat.node)
    assert mine.original == dnat.before
    assert (mine.reply.dst, mine.reply.dport) == (dnat.after.src, dnat.after.sport)
    printed = lab.do(Run(f"conntrack -L --node {dnat.node} --sport {dnat.before.sport} -n"))
    assert f"sport={dnat.before.sport} dport={dnat.before.dport} src={dnat.after.dst}" in printed.text


def test_entries_time_out_when_the_traffic_stops() -> None:
    lab = slow("overview", 20.0)
    lab.advance(10 * S)
    for stream in range(len(lab.wiring.wired)):
        lab.engine.set_rate(stream, 0.0, lab.t_ns)
    counts = []
    for t_s in (20, 125, 135):
        lab.advance(t_s * S)
        counts.append(lab.conntrack.count("node-a"))
    assert counts[0] > counts[1] > 0
    assert counts[2] == 0


def test_a_kept_connection_keeps_its_port_and_its_pod() -> None:
    lab = slow("overview-keepalive", 20.0)
    lab.advance(20 * S)
    kept = list(lab.engine.memory.pools)
    assert kept
    idle = {connection.source_port for _, connection in kept}
    assert 0 not in idle
    used = [one for one in lab.sampler.recent() if dict(one.extra)["kept"]]
    ports = {}
    for one in used[-50:]:
        found = tracked_by(lab.reopener.open_record(one).hops, lab.conntrack.node_of)
        upstream = next(each for each in found if each.original.destination == "10.96.100.50:80")
        ports.setdefault(upstream.original.source, set()).add(upstream.reply.source)
    assert all(len(pods) == 1 for pods in ports.values())
    assert {int(source.rpartition(":")[2]) for source in ports} & idle
    established = lab.do(Run("conntrack -L --node node-a -d 10.96.100.50 --state ESTABLISHED")).text
    assert all(f"sport={port} " in established for port in idle)


def test_a_curl_is_in_the_table() -> None:
    lab = slow("overview", 0.0)
    lab.advance(S)
    pod = next(key for key in lab.store.keys("Pod") if key.name.startswith("product-"))
    assert lab.do(Run(f"curl http://product-service/products --from default/{pod.name}")).ok
    assert "ESTABLISHED" in lab.do(Run("conntrack -L --node node-b -d 10.96.100.50")).text
    lab.advance(2 * S)
    assert " TIME_WAIT src=10.244.2." in lab.do(Run("conntrack -L --node node-b -d 10.96.100.50")).text


def test_the_maximum_follows_the_nodes_cpus_and_kube_proxys_configuration() -> None:
    node = """\
apiVersion: v1
kind: Node
metadata: {name: big}
status: {capacity: {cpu: "16"}, addresses: [{type: InternalIP, address: 10.0.0.1}]}
"""
    proxy = """\
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
conntrack: {maxPerCore: 1000, min: 2000, tcpEstablishedTimeout: 1h0m0s}
"""
    usual = Lab(LabSpec("a", (Tab("a.yaml", node, None),)))
    assert usual.conntrack.max_of("big") == 16 * 32_768
    configured = Lab(LabSpec("a", (Tab("a.yaml", node + proxy, None),)))
    assert configured.conntrack.max_of("big") == 16_000
    assert configured.conntrack.settings.tcp_s("ESTABLISHED") == 3_600


def endings(lab: Lab) -> Callable[[int, int], dict[str, int]]:
    """Count how requests that started in [from, to) seconds ended."""
    rows: list[Record] = []
    lab.watch_rows(lambda found: rows.extend(record(found, i) for i in range(len(found))))

    def count(from_s: int, to_s: int) -> dict[str, int]:
        return dict(Counter(status_text(one.status) for one in rows if from_s * S <= one.start_ns < to_s * S))

    return count


def test_a_udp_sender_stays_on_the_removed_pod_until_there_is_an_endpoint_again() -> None:
    lab = Lab(load("udp-stale").spec)
    count = endings(lab)
    lab.advance(9 * S)
    (sender,) = (node.name for node in lab.store.keys("Node") if "UNREPLIED" in shown(lab, node.name, "10.96."))
    first = shown(lab, sender, "10.96.")
    assert first.startswith("udp      17 29 src=10.244.")
    lab.advance(55 * S)
    assert shown(lab, sender, "10.96.").split()[4:] == first.split()[4:]
    lab.advance(80 * S)
    assert shown(lab, sender, "10.96.").split()[4:] != first.split()[4:]
    assert set(count(0, 10)) == {"200"}
    assert set(count(12, 60)) == {"timeout"}  # black-holed, although the rules reject
    assert set(count(63, 75)) == {"200"}
    assert lab.digest() == rerun("udp-stale", 80)


def test_without_a_fixed_port_the_same_sender_is_refused() -> None:
    spec = load("udp-stale").spec
    lab = Lab(replace(spec, clients=tuple(replace(client, client_port=0) for client in spec.clients)))
    count = endings(lab)
    lab.advance(60 * S)
    assert set(count(12, 50)) == {"refused"}


def test_a_replaced_dns_pod_costs_a_fixed_port_client_until_the_next_sync() -> None:
    text = (Path(__file__).resolve().parents[2] / "scenarios/udp-stale/statsd.yaml").read_text()
    text = text.replace("replicas: 1", "replicas: 2", 1)
    client = ClientSpec("udp://statsd:8125", 50.0, from_pod="default/Deployment/app", client_port=5353)
    lab = Lab(LabSpec("dns", (Tab("dns.yaml", text, None),), clients=(client,)))
    count = endings(lab)
    lab.advance(5 * S)
    flow = next(iter(lab.engine.memory.udp.flows.values()))
    pod = lab.wiring.servers[flow.server][3]
    assert pod is not None
    assert flow.replied
    assert lab.do(Kill(pod, "crash")).ok
    lab.advance(40 * S)
    moved = next(iter(lab.engine.memory.udp.flows.values()))
    assert moved.server != flow.server
    assert moved.created_ns < 8 * S  # kube-proxy's sync after the endpoint left
    assert set(count(0, 5)) == {"200"}
    assert set(count(10, 30)) == {"200"}
    assert sum(n for status, n in count(5, 8).items() if status != "200") > 0


def test_every_request_of_a_fixed_port_agrees_with_its_record() -> None:
    lab = Lab(load("udp-stale").spec)
    lab.advance(75 * S)
    traces = [lab.reopener.open_record(one) for one in list(lab.sampler.recent())[::50]]
    assert not [hop for trace in traces for hop in trace.hops if hop.outcome == "mismatch"]
    assert {hop.after.sport for trace in traces for hop in trace.hops if hop.after} == {43145}
    movers = [trace.hops[1].mover for trace in traces]
    assert movers[0] == "kernel DNAT"
    assert set(movers[1:]) == {"conntrack"}


@pytest.mark.parametrize(
    ("client", "words"),
    [
        ("{url: 'http://statsd:8125', from: default/Deployment/app, clientPort: 5}", "clientPort is for a client with"),
        ("{url: 'udp://statsd:8125', oneWay: true}", "oneWay is for a client with a udp:// url that runs in a pod"),
        ("{url: 'udp://statsd:8125', from: default/Deployment/app, clientPort: 0}", "whole number from 1 to 65535"),
    ],
)
def test_a_fixed_port_is_for_udp_from_a_pod(client: str, words: str) -> None:
    text = f"kflab: scenario/v1\nmanifests:\n  documents: [{{name: a, text: ''}}]\nclients:\n- {client}\n"
    with pytest.raises(KflabError, match=words) as error:
        load_text(text, "x.yaml")
    assert str(error.value).startswith("x.yaml:4:")


def shown(lab: Lab, node: str, dst: str) -> str:
    """The UDP line of a node's table whose destination begins so."""
    printed = lab.terminal.run(f"conntrack -L -p udp --node {node}").text
    return next((line for line in printed.splitlines() if f" dst={dst}" in line), "")


def rerun(name: str, to_s: int) -> str:
    lab = Lab(load(name).spec, slab_ns=S // 10)
    lab.advance(to_s * S)
    return lab.digest()


def limited(name: str = "overview-defaults", most: int = 600, rate: float = 40.0, slab_ns: int = S // 2) -> Lab:
    """A bundled scenario whose nodes track few connections."""
    spec = load(name).spec
    clients = tuple(replace(client, rate_rps=rate) for client in spec.clients)
    return Lab(replace(spec, clients=clients, conntrack_max=most), slab_ns)


def test_a_full_table_drops_first_packets_and_the_request_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conntrack, "LISTED", 10_000)
    monkeypatch.setattr(conntrack, "LISTED_PER_KIND", 10_000)
    lab = limited()
    rows: list[Record] = []
    lab.watch_rows(lambda found: rows.extend(record(found, i) for i in range(len(found))))
    lab.advance(20 * S)
    lost = [one for one in rows if not one.ok][::10]
    assert lost
    assert {status_text(one.status) for one in lost} == {"timeout"}
    assert {one.latency_ns for one in lost} == {lab.engine.timing.connect_timeout_ns}
    said = set()
    for one in lost:
        trace = lab.reopener.open_record(one)
        why = next(hop.why for hop in trace.hops if "table full, dropping packet" in hop.why)
        said |= {node for node in ("node-a", "node-b") if f"nf_conntrack on {node}" in why}
        assert not [hop for hop in trace.hops if hop.outcome == "mismatch"]
        assert trace.status == "timeout"
    assert "node-a" in said
    full = lab.conntrack.table("node-a")
    assert 600 <= full.count < 610  # what comes in a hundredth of a second may be above
    assert full.max == 600
    for node in ("node-a", "node-b"):
        table = lab.conntrack.table(node)
        assert len(table.entries) == table.count


def test_room_comes_back_when_entries_time_out() -> None:
    lab = limited("overview", 40, 4.0)
    count = endings(lab)
    lab.advance(135 * S)
    assert set(count(0, 3)) == {"200"}
    assert set(count(20, 110)) == {"timeout"}
    assert count(121, 128)["200"] > 0  # TIME_WAIT of the first ones is over after 120 s


def test_when_it_is_full_does_not_depend_on_slabs() -> None:
    digests = set()
    for slab_ns in (S // 2, S // 7):
        lab = limited(slab_ns=slab_ns)
        lab.advance(20 * S)
        digests.add(lab.digest())
    assert len(digests) == 1


def test_connections_that_are_open_go_on_while_the_table_is_full() -> None:
    lab = Lab(replace(load("udp-stale").spec, actions=(), conntrack_max=1))
    count = endings(lab)
    lab.advance(20 * S)
    assert lab.engine.steps.room is not None
    assert set(count(0, 15)) == {"200"}  # one entry on each node, and every datagram has it


def test_a_node_without_traffic_has_an_empty_table_and_asking_changes_nothing() -> None:
    asked, other = (Lab(load("udp-stale").spec) for _ in range(2))
    for lab in (asked, other):
        lab.advance(S)
    for node in asked.store.keys("Node"):
        asked.terminal.run(f"conntrack -L --node {node.name}")
    assert "0 of 131072" in asked.terminal.run("conntrack -C --node node-3").text
    for lab in (asked, other):
        lab.advance(70 * S)
    assert asked.digest() == other.digest()


def test_only_a_known_maximum_is_enforced() -> None:
    lab = slow("overview", 20.0)
    lab.advance(S)
    assert (
        "the maximum is not enforced: nobody says how many CPUs this node has"
        in lab.terminal.run("conntrack -C --node node-a").text
    )
    assert lab.engine.watch is None
    given = limited(rate=20.0)
    given.advance(S)
    assert "not enforced" not in given.terminal.run("conntrack -C --node node-a").text


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("{max: 0}", "conntrack.max 0 must be a whole number from 1"),
        ("{limit: 5}", "unknown field 'limit' of conntrack"),
    ],
)
def test_bad_limits_are_told(given: str, words: str) -> None:
    text = f"kflab: scenario/v1\nmanifests:\n  documents: [{{name: a, text: ''}}]\ncluster:\n  conntrack: {given}\n"
    with pytest.raises(KflabError, match=words) as error:
        load_text(text, "x.yaml")
    assert str(error.value).startswith("x.yaml:5:")
