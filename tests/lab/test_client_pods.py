"""Clients in pods: what ends with their process, who goes on, and from where."""

from dataclasses import replace

import pytest

from kflab.engine.retrying import attempt_of
from kflab.engine.types import Answer
from kflab.lab.commands import Act, Kill, Scale, SetMode
from kflab.lab.records import Record
from kflab.lab.running import Lab
from kflab.lab.spec import AUTO, FLOWS
from kflab.manifest.objects import Key
from tests.lab.small_labs import S, direct, kept_rows, pods

APP = Key("Deployment", "default", "app")
NODES = "cluster: {nodes: 3}\n"


def slow(ms: int = 40) -> str:
    return f"timing: {{service_p50_ns: {ms * 1_000_000}, service_p99_ns: {2 * ms * 1_000_000}}}\n"


def lines_of(lab: Lab) -> list[tuple[int, str]]:
    return [(t_ns, what) for t_ns, who, what in lab.take_lines() if who == "client app"]


def gone(rows: list[Record]) -> list[Record]:
    return [one for one in rows if one.status == -Answer.CLIENT_GONE]


def opens_as_it_was(lab: Lab, one: Record) -> None:
    trace = lab.reopener.open_record(one)
    assert not [hop for hop in trace.hops if hop.outcome == "mismatch"], (one, trace.hops)
    if not attempt_of(one.number):
        assert trace.latency_ns == one.latency_ns
    assert trace.latency_ns == one.finish_ns - one.start_ns + dict(one.extra)["lookup_ns"]
    assert sum(ns for _, ns in trace.parts) == one.latency_ns


@pytest.mark.parametrize("mode", ["iptables", "nftables", "ipvs"])
@pytest.mark.parametrize("service", ["type: ClusterIP", "sessionAffinity: ClientIP"])
def test_a_replacement_sends_from_its_own_address_and_node_when_it_is_ready(mode: str, service: str) -> None:
    lab = direct(rate=200, service=service, more=NODES + slow())
    every, [wired] = kept_rows(lab), lab.wiring.wired
    if mode != "iptables":
        lab.do(SetMode(mode))
        lab.advance(20 * S)
    start, failed = lab.t_ns, lab.totals.failed
    lab.advance(start + 5 * S)
    first, node = wired.homes[-1], wired.homes[-1].node
    assert lab.do(Act("cordon", Key("Node", "", node))).ok
    lab.do(Kill(pods(lab, "app")[0], "delete"))
    lab.advance(start + 30 * S)
    [(gone_ns, went), (back_ns, came)] = lines_of(lab)
    second = wired.homes[-1]
    assert went == f"its process in {first.pod.name} is gone, and its requests in hand with it"
    assert came.startswith(f"sends from {second.pod.name}, {second.address} on {second.node}; ")
    assert second.node != node
    assert second.address != first.address
    pod = lab.store.get(second.pod)
    assert pod.status.ready_since_ns <= back_ns
    rows = [one for one in every if one.start_ns >= start]
    ended = gone(rows)
    assert len(ended) > 3
    assert {one.finish_ns for one in ended} == {gone_ns}
    assert not [one for one in rows if gone_ns < one.start_ns < back_ns]
    assert all(one.ok for one in rows if one.status != -Answer.CLIENT_GONE)
    places = lab.wiring.places
    assert {places[one.node] for one in rows if one.start_ns < gone_ns} == {node}
    assert {places[one.node] for one in rows if one.start_ns > back_ns} == {second.node}
    for one in [*ended, *rows[:40], *rows[-40:]]:
        opens_as_it_was(lab, one)
        before = one.start_ns < gone_ns
        home = first if before else second
        assert lab.reopener.open_record(one).source == f"pod default/{home.pod.name}"
        assert lab.reopener.row(0, one).source.startswith(f"{home.address}:")
    assert lab.reopener.open_record(ended[0]).status == "client gone"
    totals = lab.totals
    assert totals.gone == len(ended)
    assert totals.sent == totals.ok + totals.failed + totals.gone + totals.in_flight == len(every) + totals.in_flight
    assert totals.failed == failed
    assert bool(lab.autopsy.bills) == bool(failed)


def test_a_crash_stops_it_until_its_container_runs_again_in_the_same_pod() -> None:
    lab = direct(rate=200, more=NODES + slow())
    rows, [wired] = kept_rows(lab), lab.wiring.wired
    lab.advance(5 * S)
    lab.do(Kill(pods(lab, "app")[0], "crash"))
    lab.advance(20 * S)
    [(gone_ns, _), (back_ns, came)] = lines_of(lab)
    assert gone_ns == 5 * S
    assert came == f"sends from {wired.homes[0].pod.name} again"
    assert len({home.address for home in wired.homes}) == 1
    assert back_ns < 10 * S
    assert len(gone(rows)) > 3
    assert not [one for one in rows if gone_ns <= one.start_ns < back_ns]
    assert [one for one in rows if one.start_ns >= back_ns]


def test_of_several_replicas_the_oldest_that_is_ready_goes_on_at_once() -> None:
    lab = direct(rate=200, more=NODES)
    rows, [wired] = kept_rows(lab), lab.wiring.wired
    lab.do(Scale(APP, 3))
    lab.advance(10 * S)
    others = sorted(
        (lab.store.get(key) for key in pods(lab, "app") if key != wired.homes[0].pod),
        key=lambda pod: (pod.meta.creation_ns, pod.meta.name),
    )
    lab.do(Kill(wired.homes[0].pod, "crash"))
    lab.advance(12 * S)
    assert wired.entry.client_pod == others[0].key
    assert wired.entry.client == others[0].ip
    [_, (back_ns, _)] = lines_of(lab)
    assert back_ns == 10 * S
    assert len([one for one in rows if one.start_ns > 10 * S]) > 300


def test_a_node_that_is_lost_takes_its_client_along_until_the_pod_is_made_elsewhere() -> None:
    lab = direct(rate=50, more=NODES)
    rows, [wired] = kept_rows(lab), lab.wiring.wired
    lab.advance(5 * S)
    node = wired.homes[0].node
    assert lab.do(Act("powerOff", Key("Node", "", node))).ok
    lab.advance(60 * S)
    assert not [one for one in rows if 5 * S <= one.start_ns]
    assert lab.wiring.clients.away(wired)
    [client] = [band for band in lab.snapshot().bands if band.kind == "client"]
    assert client.detail.startswith("client pod gone, none Ready in its place · ")
    assert lab.do(Act("deleteVM", Key("Node", "", node))).ok
    lab.advance(150 * S)
    assert not lab.wiring.clients.away(wired)
    assert wired.homes[-1].node != node
    [client] = [band for band in lab.snapshot().bands if band.kind == "client"]
    assert client.detail.startswith(f"client pod {wired.homes[-1].address} · ")
    assert [band.caller_nodes for band in lab.snapshot().bands if band.kind == "service"] == [(wired.homes[-1].node,)]
    late = [one for one in rows if one.start_ns > 120 * S]
    assert late
    assert all(one.ok for one in late[-100:])


def test_open_connections_and_retries_to_come_end_with_the_process() -> None:
    more = ", connections: 4, retries: 3, backoff: {base: 500ms, max: 2s}"
    lab = direct(rate=200, client=more, more=NODES + slow(), replicas=1)
    rows = kept_rows(lab)
    lab.advance(5 * S)
    before = {kept.port for kept in lab.engine.memory.connections.current.values()}
    assert len(before) == 4
    lab.do(Kill(pods(lab)[0], "crash"))
    lab.advance(5 * S + 100_000_000)
    lab.do(Kill(pods(lab, "app")[0], "crash"))
    lab.advance(5 * S + 200_000_000)
    assert not lab.engine.memory.connections.current
    assert lab.totals.in_flight == 0
    lab.advance(20 * S)
    never_sent = [one for one in gone(rows) if one.start_ns == one.finish_ns]
    assert never_sent
    for one in gone(rows):
        opens_as_it_was(lab, one)
    words = [hop.why for hop in lab.reopener.open_record(never_sent[0]).hops]
    assert words[-1] == "its process ended before it had sent anything for this attempt"
    assert lab.totals.sent == lab.totals.ok + lab.totals.failed + lab.totals.gone + lab.totals.in_flight


def test_a_lookup_that_was_under_way_is_told() -> None:
    lab = direct(rate=100, client=", lookups: true, packetLoss: 0.3", more=NODES)
    rows = kept_rows(lab)
    lab.advance(5 * S)
    lab.do(Kill(pods(lab, "app")[0], "crash"))
    lab.advance(15 * S)
    words = set()
    for one in gone(rows):
        opens_as_it_was(lab, one)
        words.add(lab.reopener.open_record(one).hops[-1].why)
    assert {"its process ended while it asked DNS", "its process ended while it waited to send a SYN again"} <= words


@pytest.mark.parametrize("slab_ms", [7, 100])
def test_the_story_does_not_depend_on_slabs(slab_ms: int) -> None:
    lab = direct(rate=200, client=", connections: 3", more=NODES + slow())
    lab.slab_ns = lab.engine.slab_ns = slab_ms * 1_000_000
    lab.advance(5 * S)
    lab.do(Kill(pods(lab, "app")[0], "delete"))
    lab.advance(25 * S)
    other = direct(rate=200, client=", connections: 3", more=NODES + slow())
    other.advance(5 * S)
    other.do(Kill(pods(other, "app")[0], "delete"))
    for t_s in range(6, 26):
        other.advance(t_s * S)
    assert lab.digest() == other.digest()


def test_counting_stops_where_a_client_goes_and_comes_and_the_story_is_that_of_flows() -> None:
    of = direct(
        rate=300, more=NODES + "actions:\n- {at: 8.3s, delete: {workload: default/Deployment/app, ordinal: 0}}\n"
    )
    flows, counts = (Lab(replace(of.spec, traffic_mode=mode)) for mode in (FLOWS, AUTO))
    for lab in (flows, counts):
        lab.advance(40 * S)
    assert counts.counting.requests > 3000
    assert counts.totals.gone == flows.totals.gone
    for name in ("sent", "ok", "failed", "in_flight"):
        assert getattr(flows.totals, name) == getattr(counts.totals, name), name
    told = [lines_of(lab) for lab in (flows, counts)]
    assert told[0] == told[1]
    assert len(told[0]) == 2
    for t_ns, _ in told[0]:
        assert not any(start < t_ns < end for start, end in counts.counting.spans())
