"""Clients that ask DNS for each request and lose packets, as a user meets them."""

from pathlib import Path

import pytest
from small_labs import direct, kept_rows

from kflab.engine.types import Answer
from kflab.errors import KflabError
from kflab.lab.commands import Act
from kflab.lab.running import Lab
from kflab.manifest.objects import Key
from kflab.scenario.format import load, load_text

SCENARIOS = Path(__file__).parents[2] / "scenarios"
S = 1_000_000_000


@pytest.fixture(scope="module")
def lossy() -> tuple[Lab, list]:
    """A lab of which every tenth packet before a connection is lost, and its requests."""
    lab = direct(rate=40, client=", lookups: true, packetLoss: 0.1")
    rows = kept_rows(lab)
    lab.advance(60 * S)
    return lab, rows


def extra(one, name: str) -> int:
    return dict(one.extra)[name]


def one_where(rows, found):
    return next(one for one in rows if found(one))


def told(lab, one) -> list[str]:
    return [hop.why for hop in lab.reopener.open_record(one).hops]


def test_an_opened_request_equals_its_row_and_tells_what_was_asked(lossy) -> None:
    lab, rows = lossy
    for one in rows[-300:]:
        trace = lab.reopener.open_record(one)
        assert trace.latency_ns == one.latency_ns == sum(ns for _, ns in trace.parts)
        assert not [hop for hop in trace.hops if hop.outcome == "mismatch"], one
        assert trace.t_start_ns == one.finish_ns - one.latency_ns
    late = one_where(rows, lambda one: one.ok and extra(one, "asked") >> 24 == 1 and not extra(one, "waited_ns"))
    words = told(lab, late)
    assert words[0].startswith("asked DNS for 1 name, A and AAAA: 4 queries in 5.00")
    assert words[0].endswith("1 × 5 s without an answer")
    assert words[1] == "DNS answered it"
    assert dict(lab.reopener.open_record(late).parts)["lookup"] > 5 * S


def test_a_syn_that_was_sent_again_and_a_name_that_was_not_resolved_are_told(lossy) -> None:
    lab, rows = lossy
    again = one_where(rows, lambda one: one.ok and extra(one, "waited_ns") == S)
    assert "a SYN or its answer was lost; the one sent 1 s after the first was answered" in told(lab, again)
    nameless = one_where(rows, lambda one: one.status == -Answer.NO_NAME)
    trace = lab.reopener.open_record(nameless)
    assert trace.status == "not resolved"
    assert [hop.why for hop in trace.hops][-1] == "no answer: the name is not resolved"
    assert len(trace.hops) == 2, "no packet was sent to the Service"
    assert nameless.tries == 0


def test_all_that_was_late_or_lost_is_billed(lossy) -> None:
    lab, rows = lossy
    causes = {bill.cause for bill in lab.autopsy.bills}
    assert causes == {"dns-no-answer", "syn-lost"}
    late = [one for one in rows if one.ok and one.latency_ns >= S]
    assert lab.totals.slowed == len(late)
    assert lab.engine.finished.took_between(5 * S, 6 * S) == sum(5 * S <= one.latency_ns < 6 * S for one in rows)


@pytest.mark.parametrize("whose", ["the caller's", "a server's"])
def test_a_node_that_goes_dark_meanwhile_explains_the_rest(whose: str) -> None:
    lab = direct(rate=40, client=", lookups: true, packetLoss: 0.1")
    lab.advance(12 * S)
    caller = lab.wiring.places[lab.wiring.wired[0].stream.place]
    nodes = {run.node for key, run in lab.plane.runtime.items() if key.name.startswith("web-")}
    node = caller if whose == "the caller's" else min(nodes - {caller})
    assert lab.do(Act("powerOff", Key("Node", "", node))).ok
    lab.advance(45 * S)
    causes = {bill.cause for bill in lab.autopsy.bills}
    assert "not-explained" not in causes
    assert causes >= {"dns-no-answer", "syn-lost"}
    assert whose == "the caller's" or causes & {"node-lost", "stale"}


def test_a_failed_lookup_leaves_no_connection_in_conntrack() -> None:
    lab = direct(rate=40, client=", lookups: true, packetLoss: 1")
    lab.advance(20 * S)
    assert lab.totals.by_status["not resolved"] > 300
    node = next(iter(lab.wiring.wired[0].entries))
    assert lab.conntrack.table(node, "TCP").entries == ()


def one_caller(host: str, spec: str = "") -> str:
    """A scenario with a Service, and a pod with these fields that calls it by a name."""
    return f"""
kflab: scenario/v1
manifests:
  documents:
  - name: a.yaml
    text: |
      {{apiVersion: v1, kind: Service, metadata: {{name: web}}, spec: {{selector: {{a: b}}, ports: [{{port: 80}}]}}}}
      ---
      {{apiVersion: v1, kind: Pod, metadata: {{name: me}}, spec: {{{spec}containers: [{{name: c, image: "c:1"}}]}}}}
clients:
- {{from: default/me, url: "http://{host}/", lookups: true}}
"""


@pytest.mark.parametrize(
    ("host", "ndots", "names"),
    [
        ("web", "", 1),
        ("web.default", "", 2),
        ("web.default.svc.cluster.local", "", 4),
        ("web.default.svc.cluster.local.", "", 1),
        ("web.default.svc.cluster.local", "1", 1),
        ("web.default", "1", 3),
        ("web", "1", 1),
    ],
)
def test_how_many_names_are_asked_follows_from_dots_and_search_list(host: str, ndots: str, names: int) -> None:
    spec = f"dnsConfig: {{options: [{{name: ndots, value: '{ndots}'}}]}}, " if ndots else ""
    lab = Lab(load_text(one_caller(host, spec), "test").spec)
    assert lab.wiring.wired[0].stream.names == names


def test_the_lab_says_what_it_assumes_and_saves_it(tmp_path: Path) -> None:
    scenario = load(str(SCENARIOS / "dns-lost-packet.yaml"))
    lab = Lab(scenario.spec)
    assumed = [text for text, _ in lab.assumptions]
    assert any("asks DNS for every request as glibc does" in text for text in assumed)
    assert any("loses 0.1 % of the packets" in text for text in assumed)
    path = tmp_path / "again.yaml"
    assert lab.journal.save(str(path), lab).ok
    assert load(str(path)).spec.clients == scenario.spec.clients


CLIENT = "kflab: scenario/v1\nmanifests: {{documents: [{{name: a.yaml, text: ''}}]}}\nclients:\n- {{{fields}}}\n"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("url: http://web, lookups: true", "lookups is for a client in a pod"),
        ("url: http://web, from: default/x, packetLoss: 0.1, connections: 3", "opens a connection per request"),
        ("url: udp://web, from: default/x, packetLoss: 0.1", "packetLoss is for a client in a pod"),
        ("url: http://web, from: default/x, packetLoss: 0.1, retries: 2", "packetLoss is for a client without retries"),
        ("url: http://web, from: default/x, packetLoss: 2", "packetLoss 2 must be a number from 0 to 1"),
        ("url: http://web, from: default/x, lookups: often", "lookups 'often' must be true or false"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(fields: str, said: str) -> None:
    with pytest.raises(KflabError, match=r"^s\.yaml:\d+:\d+: ") as caught:
        load_text(CLIENT.format(fields=fields), "s.yaml")
    assert said in str(caught.value)


def test_a_pod_that_does_not_ask_cluster_dns_is_refused() -> None:
    with pytest.raises(KflabError, match="does not ask cluster DNS"):
        Lab(load_text(one_caller("web", "dnsPolicy: Default, "), "s.yaml").spec)


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ("{from: 1s, min: 1}", "needs from and to"),
        ("{from: 2s, to: 1s, min: 1}", "from below to"),
        ("{from: 100ms, to: 1s, min: 1}", "0.5 s or more"),
    ],
)
def test_latencies_that_cannot_be_counted_are_refused(bounds: str, said: str) -> None:
    with pytest.raises(KflabError, match=said):
        load_text(f"kflab: scenario/v1\nextends: pod-crash\nexpect:\n- requestsTook: {bounds}\n", "s.yaml")
