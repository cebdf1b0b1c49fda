"""Clients that keep connections, as a user meets them: the scenario field, an opened request, conntrack, saving."""

from pathlib import Path

import pytest

from kflab.errors import KflabError
from kflab.lab.running import Lab
from kflab.scenario.format import load, load_text

SCENARIOS = Path(__file__).parents[2] / "scenarios"


@pytest.fixture(scope="module")
def lab() -> Lab:
    lab = Lab(load(str(SCENARIOS / "keepalive-clients.yaml")).spec)
    lab.advance(14_000_000_000)
    return lab


def test_an_opened_request_says_since_when_its_connection_is_open(lab: Lab) -> None:
    kept = [one for one in lab.sampler.recent() if dict(one.extra)["kept"]]
    trace = lab.reopener.open_record(kept[-1])
    opened_s = dict(kept[-1].extra)["opened_ns"] / 1e9
    told = [hop.why for hop in trace.hops if hop.mover == "conntrack"]
    assert told == [f"conntrack: over the connection opened at {opened_s:.1f} s; no rule is asked, it stays on its pod"]
    assert trace.status == "200"


def test_requests_are_answered_by_pods_that_left_the_rules(lab: Lab) -> None:
    listed = {server for version in lab.engine.connections(0) for server in version[:1]}
    late = [one for one in lab.sampler.recent() if one.start_ns > 12_000_000_000]
    assert all(one.ok for one in late)
    assert {one.servers[0] for one in late} - listed


def test_conntrack_lists_each_connection_once_on_the_client_s_node(lab: Lab) -> None:
    node = next(iter(lab.wiring.wired[0].entries))
    entries = [e for e in lab.conntrack.table(node, "TCP").entries if e.life.state == "ESTABLISHED"]
    assert len(entries) == 20
    assert len({e.tracked.original.sport for e in entries}) == 20
    assert lab.conntrack.count(node) == 20


def test_the_lab_says_what_it_assumes(lab: Lab) -> None:
    assert any("20 connections" in text for text, _ in lab.assumptions)


def test_a_saved_lab_keeps_them(tmp_path: Path) -> None:
    scenario = load(str(SCENARIOS / "grpc-scale-up-max-age.yaml"))
    small = Lab(scenario.spec)
    path = tmp_path / "again.yaml"
    assert small.journal.save(str(path), small).ok
    assert load(str(path)).spec.clients == scenario.spec.clients


CLIENT = "kflab: scenario/v1\nmanifests: {{documents: [{{name: a.yaml, text: ''}}]}}\nclients:\n- {{{fields}}}\n"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ("url: http://x/, connections: 4", "runs in a pod"),
        ("url: 'udp://x:53', from: default/a, connections: 4", "runs in a pod"),
        ("url: http://x/, from: default/a, connections: 0", "connections 0 must be a whole number from 1"),
        ("url: http://x/, from: default/a, connectionAge: 30s", "expected connections: N"),
        ("url: http://x/, from: default/a, connections: 4, connectionAge: 1ms", "expected 10ms or more"),
    ],
)
def test_nonsense_is_refused_with_its_place(fields: str, words: str) -> None:
    with pytest.raises(KflabError, match=words) as caught:
        load_text(CLIENT.format(fields=fields), "mine.yaml")
    assert caught.value.place is not None
