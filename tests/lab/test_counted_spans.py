"""`traffic.mode: auto`: requests are counted while nothing changes, and the story is that of flows."""

import io
import json
from dataclasses import replace

import pytest
from small_labs import S, direct

from kflab.errors import KflabError
from kflab.lab.commands import Kill
from kflab.lab.counting import SETTLE_NS
from kflab.lab.running import Lab
from kflab.lab.spec import AUTO, LabSpec
from kflab.scenario.format import load_text
from kflab.scenario.plain import play

RESTART = "actions:\n- {at: 8.3s, restart: default/Deployment/web}\n"


def spec(more: str = "", mode: str = AUTO, rate: float = 400.0) -> LabSpec:
    return replace(direct(rate=rate, more=more).spec, traffic_mode=mode)


def played(of: LabSpec, until_s: float, step_ns: int = 60 * S) -> Lab:
    lab = Lab(of)
    end_ns = int(until_s * S)
    while lab.t_ns < end_ns:
        lab.advance(min(end_ns, lab.t_ns + step_ns))
    return lab


def test_a_restart_costs_what_it_costs_with_flows() -> None:
    """A connection per request at random: the same requests are lost, the same pods answer as many of the others."""
    flows, counts = played(spec(RESTART, "flows"), 40), played(spec(RESTART), 40)
    assert counts.counting.requests > 5000
    assert flows.totals.failed > 0
    for name in ("sent", "ok", "failed", "lost_tries", "in_flight", "by_status"):
        assert getattr(flows.totals, name) == getattr(counts.totals, name), name
    assert flows.shares() == counts.shares()
    assert flows.percentiles(35 * S, 40 * S) == counts.percentiles(35 * S, 40 * S)
    bills = [[(bill.cause, bill.failed) for bill in lab.autopsy.bills] for lab in (flows, counts)]
    assert bills[0] == bills[1]


def test_changes_are_followed() -> None:
    lab = played(spec(RESTART), 40)
    spans = lab.counting.spans()
    assert spans[0][0] <= 3 * S
    assert spans[0][1] == 8_300_000_000
    assert spans[-1][1] == lab.t_ns
    for fact in lab.facts:
        assert not any(start < fact.t_ns + SETTLE_NS and fact.t_ns < end for start, end in spans), fact
    assert sum(end - start for start, end in spans) == lab.counting.counted_ns()
    whole_seconds = sum(lab.counting.followed.values())
    assert 40 - whole_seconds - 1 <= lab.counting.counted_ns() / S <= 40 - whole_seconds


@pytest.mark.parametrize("step_ms", [37, 250, 7000])
def test_pace_changes_nothing(step_ms: int) -> None:
    whole, stepped = played(spec(RESTART), 20), played(spec(RESTART), 20, step_ms * 1_000_000)
    assert stepped.digest() == whole.digest()
    assert stepped.counting.spans() == whole.counting.spans()
    assert stepped.totals == whole.totals


def test_a_command_that_nobody_foresaw_replays_the_same(tmp_path: object) -> None:
    live = Lab(spec())
    live.advance(6_400_000_000)
    pod = next(key for key in live.store.keys("Pod") if key.name.startswith("web"))
    assert live.do(Kill(pod, "crash")).ok
    live.advance(15 * S)
    tree = live.journal.as_tree(live.t_ns)
    assert tree["traffic"]["mode"] == "auto"
    again = played(load_text(json.dumps(tree), "saved").spec, 15)
    assert again.digest() == live.digest()
    assert again.counting.spans() == live.counting.spans()
    assert live.counting.spans()[0][1] == 6_400_000_000
    assert live.totals.failed > 0


def test_tables_that_may_fill_up_are_followed() -> None:
    small, large = (replace(spec(rate=200.0), conntrack_max=most) for most in (40_000, 60_000))
    lab = played(small, 5)
    assert lab.counting.requests == 0
    assert lab.counting.followed["conntrack tables may come near their maximum"] == 5
    assert played(large, 5).counting.counted_ns() == 5 * S


def test_the_screen_is_told() -> None:
    lab = Lab(spec(RESTART))
    lab.advance(5_050_000_000)
    snapshot = lab.snapshot()
    assert snapshot.counting
    assert "requests are counted" in "".join(span.text for span in snapshot.story)
    assert snapshot.rate_rps == pytest.approx(400, rel=0.3)
    assert snapshot.p50_ns is not None
    lab.advance(9 * S)
    assert not lab.snapshot().counting


def test_the_screen_is_told_why_requests_are_followed() -> None:
    lab = Lab(replace(spec(), conntrack_max=20_000))
    lab.advance(5 * S)
    why = "conntrack tables may come near their maximum"
    assert lab.snapshot().followed == why
    assert "".join(span.text for span in lab.snapshot().story) == f"requests are followed one by one: {why}"
    lab = Lab(spec(RESTART))
    lab.advance(5 * S)
    assert lab.snapshot().followed == ""
    lab.advance(8_350_000_000)
    assert lab.snapshot().followed == "something has just happened"
    lab = Lab(spec(mode="flows"))
    lab.advance(5 * S)
    assert lab.snapshot().followed == ""


def test_a_narration_comes_before_the_words_about_counting() -> None:
    lab = Lab(spec("actions:\n- {at: 4s, narrate: Look at the shares.}\n"))
    lab.advance(5 * S)
    assert lab.snapshot().counting
    assert lab.snapshot().narration == "Look at the shares."
    assert not lab.snapshot().story


def test_the_report_says_what_was_counted_and_why_not_the_rest() -> None:
    scenario = replace(load_text("kflab: scenario/v1\nmanifests: {documents: [{name: a, text: 'kind: List'}]}", "t"),
                       spec=spec(RESTART), duration_ns=20 * S)  # fmt: skip
    out = io.StringIO()
    play(scenario, out)
    assert "assumed: requests are counted while nothing changes" in out.getvalue()
    assert "to 8.3 s" in out.getvalue()
    assert "followed one by one: the control plane had something to do" in out.getvalue()
    out = io.StringIO()
    play(scenario, out, as_json=True)
    tree = json.loads(out.getvalue())["counted"]
    assert tree["requests"] > 1000
    assert tree["spans_s"][0][1] == 8.3


def test_other_modes_are_refused_with_their_place() -> None:
    text = "kflab: scenario/v1\nmanifests: {documents: [{name: a, text: x}]}\ntraffic:\n  mode: fluid\n"
    with pytest.raises(KflabError, match=r"traffic\.mode 'fluid': expected one of flows, auto") as caught:
        load_text(text, "t.yaml")
    assert caught.value.place is not None
    assert caught.value.place.line == 4
