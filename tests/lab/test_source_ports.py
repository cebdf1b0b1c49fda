"""A node that masquerades many callers towards one pod runs out of source ports; one caller alone cannot do that."""

from dataclasses import replace
from pathlib import Path

import pytest

from kflab.errors import KflabError
from kflab.lab.handle import Tab
from kflab.lab.records import Record, record
from kflab.lab.running import Lab
from kflab.lab.spec import LabSpec
from kflab.scenario.format import load, load_text

S = 1_000_000_000
SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"


FAST = {"service_p50_ns": 100_000, "service_p99_ns": 300_000, "connect_timeout_ns": S}
"""The pod keeps up with all callers, its queue is not what is tested; and losses show after a second."""


def spec(n_callers: int, rate: float, kernel: tuple[int, int] = (6, 1)) -> LabSpec:
    """The bundled scenario with other callers and nothing that happens."""
    given = load(str(SCENARIOS / "snat-ports.yaml")).spec
    callers = [replace(given.clients[0], address=f"203.0.113.{n}", rate_rps=rate) for n in range(1, n_callers + 1)]
    return replace(given, clients=tuple(callers), actions=(), kernel=kernel, timing=FAST)


def kept(lab: Lab) -> list[Record]:
    rows: list[Record] = []
    lab.watch_rows(lambda found: rows.extend(record(found, i) for i in range(len(found)) if found.status[i] < 0))
    return rows


def test_six_busy_callers_exhaust_a_nodes_ports_and_the_request_says_so() -> None:
    lab = Lab(spec(6, 1500.0))
    lost = kept(lab)
    lab.advance(6 * S)
    assert lab.totals.failed == 0
    lab.advance(11 * S)
    assert lab.totals.ok == pytest.approx(64_512, rel=0.01)
    assert len(lost) > 5_000
    for one in lost[::2000]:
        trace = lab.reopener.open_record(one)
        last = trace.hops[-1]
        assert "node-1 had no free source port left towards 10.244.1.2:8080" in last.why
        assert last.outcome == "dropped"
        assert (trace.status, trace.latency_ns) == ("timeout", lab.engine.timing.connect_timeout_ns)
        assert not [hop for hop in trace.hops if hop.outcome == "mismatch"]
        assert not list(lab.conntrack.entries_of(one))  # an entry that is not confirmed is none
    assert "64512 of 64512 source ports in use towards 10.244.1.2:8080" in lab.terminal.run("conntrack -C").text
    counters = lab.terminal.run("conntrack -S --node node-1").text
    assert f"insert_failed={len(lost)} drop={len(lost)} early_drop=0" in counters
    assert "insert_failed=0 drop=0" in lab.terminal.run("conntrack -S --node node-2").text


def test_a_new_kernel_gives_ports_of_closed_connections_away() -> None:
    lab = Lab(spec(6, 1500.0, kernel=(6, 5)))
    lab.advance(10 * S)
    assert lab.totals.failed == 0
    assert lab.conntrack.count("node-1") < 65_500  # each new connection takes the place of an old entry
    assert any("one may be taken from a connection in TIME_WAIT" in text for text, _ in lab.assumptions)


def test_one_caller_has_not_ports_enough_of_its_own_and_nothing_is_followed() -> None:
    lab = Lab(spec(1, 9000.0))
    lab.advance(10 * S)
    assert lab.totals.failed == 0
    assert lab.engine.watch is None
    assert lab.engine.steps.ports is None
    assert not any("TIME_WAIT" in text for text, _ in lab.assumptions)


def test_two_callers_reuse_their_own_ports_before_the_nodes_run_out() -> None:
    lab = Lab(spec(2, 6000.0))
    lab.advance(12 * S)
    ((_, used),) = lab.conntrack.table("node-1").ports
    assert used == pytest.approx(2 * 28_232, rel=0.02)
    assert lab.totals.failed < 0.01 * lab.totals.ok


def test_the_story_does_not_depend_on_slabs() -> None:
    digests = set()
    for slab_ns in (S // 2, S // 7):
        lab = Lab(spec(6, 1500.0), slab_ns)
        lab.advance(9 * S)
        assert lab.engine.steps.ports is not None
        digests.add((lab.digest(), lab.totals.failed > 0))
    assert len(digests) == 1
    assert digests.pop()[1]


def test_callers_that_are_not_masqueraded_are_not_followed() -> None:
    given = spec(3, 100.0)
    text = given.tabs[0].text.replace("externalTrafficPolicy: Cluster", "externalTrafficPolicy: Local")
    lab = Lab(replace(given, tabs=(Tab("web.yaml", text, None),)))
    lab.advance(2 * S)
    assert lab.totals.ok > 100
    assert not lab.wiring.compiler.shared_destinations


@pytest.mark.parametrize("given", ["6.1", "'6'", "'six'", "[6, 1]"])
def test_a_kernel_is_a_release_in_quotes(given: str) -> None:
    text = f"kflab: scenario/v1\nmanifests:\n  documents: [{{name: a, text: ''}}]\ncluster:\n  kernel: {given}\n"
    with pytest.raises(KflabError, match="expected a Linux release in quotes") as error:
        load_text(text, "x.yaml")
    assert str(error.value).startswith("x.yaml:5:")


def test_the_kernel_and_the_limit_are_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lab = Lab(replace(spec(2, 10.0, kernel=(6, 12)), conntrack_max=5000))
    assert lab.journal.save("mine", lab).ok
    again = load("./mine.yaml").spec
    assert (again.kernel, again.conntrack_max) == ((6, 12), 5000)
