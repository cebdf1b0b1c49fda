"""The autopsy as text and as JSON: what a reader of `kflab replay --plain` sees."""

import io
import json
from dataclasses import replace

import pytest

from kflab.lab.autopsy_values import GanttEvent, GanttRow
from kflab.scenario.format import Scenario, load
from kflab.scenario.gantt_text import ASCII_BARS, UNICODE_BARS, BarGlyphs, bar, latency
from kflab.scenario.plain import play

S = 1_000_000_000


def played(scenario: Scenario, **how: object) -> str:
    out = io.StringIO()
    play(scenario, out, **how)  # type: ignore[arg-type]
    return out.getvalue()


@pytest.fixture(scope="module")
def crash() -> Scenario:
    return replace(load("pod-crash"), duration_ns=8 * S)


def test_the_report_ends_with_bills_and_who_knew_when(crash: Scenario) -> None:
    text = played(crash).partition("\nautopsy\n")[2]
    lines = text.splitlines()
    assert lines[0].endswith("0 not explained")
    assert "node-a's rules were 0.385 s behind when product-" in lines[1]
    rows = {line.split("  ")[3]: line for line in lines if line.startswith("      ") and "█" in line}
    assert list(rows) == ["node-b kubelet", "EndpointSlice", "node-a rules", "node-b rules"]
    counts = [int(line.partition(" lost")[0].split()[-1]) for line in rows.values() if " lost" in line]
    assert sum(counts) == int(lines[0].split()[0])
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("ascii_only", [True, False])
def test_ascii_is_ascii_and_says_the_same(crash: Scenario, ascii_only: bool) -> None:
    part = played(crash, ascii_only=ascii_only).partition("\nautopsy\n")[2]
    assert part.isascii() == ascii_only
    assert "node-b rules" in part


def test_json_carries_bills_and_gantt(crash: Scenario) -> None:
    tree = json.loads(played(crash, as_json=True))["autopsy"]
    assert tree["failed"] + tree["slowed"] == tree["billed"] == sum(b["failed"] + b["slowed"] for b in tree["bills"])
    (bill,) = tree["bills"]
    assert (bill["cause"], bill["observer"], bill["from_s"]) == ("stale", "kube-proxy/node-a", 5.0)
    event = tree["gantt"][0]["events"][0]
    assert [row["kind"] for row in event["rows"]] == ["truth", "kubelet", "slice", "rules", "rules"]
    assert sum(row["lost"] for row in event["rows"]) == tree["billed"]


@pytest.mark.parametrize(
    ("gap", "knew", "glyphs", "drawn"),
    [
        (0, 5, UNICODE_BARS, ("", "█████")),
        (5, 10, UNICODE_BARS, ("·····", "█████")),
        (5, None, UNICODE_BARS, ("·····", "████▶")),
        (5, 5, UNICODE_BARS, ("·····", "▏")),
        (0, 0, ASCII_BARS, ("", "#")),
        (5, None, ASCII_BARS, (".....", "####>")),
    ],
)
def test_a_bar_is_as_long_as_its_gap(gap: int, knew: int | None, glyphs: BarGlyphs, drawn: tuple[str, str]) -> None:
    row = GanttRow("node-a rules", "rules", gap, knew, 0, "", True)
    event = GanttEvent(1, 0, "x crashed", None, "end", 10, None, 0, (row,))
    assert bar(row, event, 10, glyphs) == drawn


@pytest.mark.parametrize(
    ("ns", "words"),
    [(850_000, "0.85 ms"), (15_000_000, "15.0 ms"), (999_900_000, "999.9 ms"), (999_960_000, "1.00 s"),
     (60_000_400_000, "60.00 s")],
)  # fmt: skip
def test_what_took_a_second_or_more_is_told_in_seconds(ns: int, words: str) -> None:
    assert latency(ns) == words
