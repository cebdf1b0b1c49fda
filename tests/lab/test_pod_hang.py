"""A pod hangs under traffic: requests wait, are served when it goes on, and open as they happened."""

from dataclasses import replace

from kflab.engine.types import Answer
from kflab.lab.commands import Act
from kflab.lab.records import Record, record
from kflab.lab.running import Lab
from kflab.manifest.objects import Key
from kflab.scenario.format import load

S = 1_000_000_000


def hung(for_s: int, post: bool = False, **spec: object) -> tuple[Lab, Key, list[Record]]:
    """The overview with a product pod that hangs from 5 s on; its finished requests are added as the lab advances."""
    scenario = load("overview").spec
    client = replace(scenario.clients[0], rate_rps=200.0, method="POST" if post else "GET")
    lab = Lab(replace(scenario, clients=(client,), **spec))
    kept: list[Record] = []
    lab.watch_rows(lambda rows: kept.extend(record(rows, i) for i in range(len(rows))))
    pod = next(key for key in lab.store.keys("Pod") if key.name.startswith("product-"))
    lab.advance(5 * S)
    assert lab.do(Act("hang", pod, (("for", for_s * S),))).ok
    return lab, pod, kept


def at(lab: Lab, rows: list[Record], pod: Key) -> list[Record]:
    """Requests whose first try went to a pod."""
    return [row for row in rows if row.servers and lab.wiring.servers[row.servers[0]][3] == pod]


def test_what_waited_is_served_when_the_process_goes_on() -> None:
    lab, pod, rows = hung(20)
    lab.advance(24 * S)
    assert not [row for row in at(lab, rows, pod) if row.start_ns > 5 * S]
    lab.advance(40 * S)
    waited = [row for row in at(lab, rows, pod) if 5 * S < row.start_ns < 25 * S]
    assert len(waited) > 1000
    assert all(row.ok and row.tries == 1 and row.finish_ns > 25 * S for row in waited)
    assert lab.totals.failed == 0
    for row in waited[::100]:
        trace = lab.reopener.open_record(row)
        assert trace.latency_ns == row.latency_ns
        assert dict(trace.parts)["queue"] > 0


def test_nginx_waits_its_read_timeout_then_tries_a_get_elsewhere_and_answers_504_to_a_post() -> None:
    for post in (False, True):
        lab, pod, rows = hung(200, post)
        lab.advance(80 * S)
        waited = [row for row in at(lab, rows, pod) if 5 * S < row.start_ns < 19 * S]
        assert waited
        assert all(row.answers[0] == Answer.TIMEOUT for row in waited)
        assert all(row.try_ends_ns[0] - row.try_starts_ns[0] == 60 * S for row in waited)
        assert {row.status for row in waited} == ({504} if post else {200, 504})
        assert all(row.tries == 1 for row in waited) == post
        trace = lab.reopener.open_record(waited[-1])
        assert any("hung" in hop.why and "timed out in 60.0 s" in hop.why for hop in trace.hops)


def test_a_full_accept_queue_drops_syns() -> None:
    scenario = load("overview").spec
    annotated = '    metadata: {annotations: {kflab.dev/backlog: "9"}}\n    spec:\n'
    tabs = tuple(
        replace(tab, text=tab.text.replace("    spec:\n", annotated)) if "5-deployment" in tab.name else tab
        for tab in scenario.tabs
    )  # fmt: skip
    lab, pod, rows = hung(30, tabs=tabs)
    lab.advance(60 * S)
    tried = [row for row in at(lab, rows, pod) if 6 * S < row.start_ns < 29 * S]
    dropped = [row for row in tried if row.answers[0] == Answer.TIMEOUT]
    assert all(row.try_ends_ns[0] - row.try_starts_ns[0] == 5 * S for row in dropped)
    first = [row for row in at(lab, rows, pod) if row.start_ns > 5 * S and row.answers[0] == Answer.OK]
    assert len([row for row in first if row.start_ns < 29 * S]) == 10, "one more than the backlog waits"


def test_an_ingress_controller_is_not_made_to_hang() -> None:
    lab = Lab(load("overview").spec)
    pod = next(key for key in lab.store.keys("Pod") if key.name.startswith("ingress-nginx-controller"))
    result = lab.do(Act("hang", pod))
    assert not result.ok
    assert "not modelled" in result.text
