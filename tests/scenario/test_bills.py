"""Whatever a scenario loses stands on one bill, in one window, and the Gantt draws that window with that number."""

import io
import json
from dataclasses import replace
from typing import Any

import pytest

from kflab.control.facts import What
from kflab.lab.bill_words import fate_words, observer_words
from kflab.lab.running import Lab
from kflab.lab.spread import Spread
from kflab.manifest.objects import Key
from kflab.scenario.format import Scenario, load, load_text
from kflab.scenario.plain import play

S = 1_000_000_000

PICKED_BEFORE = ("in-flight", "stale", "kept-connection", "stale-udp-entry", "flow-ended", "node-lost", "idle-close")
"""Causes whose requests may have been on their way, or in hand, when their window began."""


def report(scenario: Scenario) -> dict[str, Any]:
    out = io.StringIO()
    play(scenario, out, as_json=True)
    return json.loads(out.getvalue())  # type: ignore[no-any-return]


def shortened(name: str, seconds: int | None, seed: int | None = None) -> Scenario:
    scenario = load(name)
    if seconds is not None:
        scenario = replace(scenario, duration_ns=seconds * S)
    return scenario if seed is None else replace(scenario, spec=replace(scenario.spec, seed=seed))


def check(tree: dict[str, Any]) -> None:
    autopsy = tree["autopsy"]
    bills, groups = autopsy["bills"], autopsy["gantt"]
    assert autopsy["not_explained"] == 0
    assert autopsy["failed"] == tree["requests"]["failed"] == sum(bill["failed"] for bill in bills)
    assert autopsy["slowed"] == sum(bill["slowed"] for bill in bills)
    assert all(sum(bill["outcomes"].values()) == bill["failed"] for bill in bills)
    events = {event["id"]: event for group in groups for event in group["events"]}
    for group in groups:
        assert group["lost"] == sum(event["lost"] for event in group["events"])
    for event in events.values():
        mine = [bill for bill in bills if bill["event"] == event["id"]]
        assert event["lost"] == sum(row["lost"] for row in event["rows"])
        assert event["lost"] == sum(bill["failed"] + bill["slowed"] for bill in mine), event["what"]
    for bill in bills:
        what = bill["text"]
        assert bill["from_s"] >= events[bill["event"]]["at_s"], what
        assert bill["from_s"] <= bill["first_s"] or bill["cause"] in PICKED_BEFORE, what
        if bill["until_s"] is not None:
            assert bill["last_s"] <= bill["until_s"], what
        if bill["observer"]:
            named = [row for row in events[bill["event"]]["rows"] if row["name"] == observer_words(bill["observer"])]
            assert bill["until_s"] in {row["knew_s"] for row in named}, what


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize(
    "name", ["rolling-update", "pod-crash", "pod-delete", "proxy-nftables", "inner-call", "job-workers"]
)
def test_bills_sum_to_what_was_lost_and_lie_where_the_gantt_says(name: str, seed: int | None) -> None:
    tree = report(shortened(name, 30, seed))
    check(tree)
    assert tree["autopsy"]["billed"] or (name, seed) != (name, None)


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("alb-prestop-5", None), ("crash-without-readiness", 45), ("dns-ndots-1", 30),
        ("grace-too-short", None), ("ingress-rollout", None), ("keepalive-clients", None), ("local-rollout", None),
        ("nlb-fast-rollout", None), ("node-power-loss-ingress", 60), ("rolling-update-ingress", None),
        ("udp-stale", None),
    ],
)  # fmt: skip
def test_so_they_do_for_every_cause(name: str, seconds: int | None) -> None:
    tree = report(shortened(name, seconds))
    check(tree)
    assert tree["autopsy"]["billed"]


def test_a_restart_that_is_listed_before_it_listens_is_not_billed_to_stale_rules() -> None:
    bills = report(shortened("crash-without-readiness", 45))["autopsy"]["bills"]
    stale, deaf = ([bill for bill in bills if bill["cause"] == cause] for cause in ("stale", "not-listening"))
    assert len(stale) == len(deaf) == 3
    for bill in deaf:
        crash = next(one for one in stale if one["pod"] == bill["pod"])
        assert crash["until_s"] <= bill["from_s"], "the rules had left it out before they listed it again"
        assert "on which nothing listens yet" in bill["text"]


TWO_SERVICES = """kflab: scenario/v1
title: Two Services lose their only pod at once
duration: 12s
manifests:
  documents:
  - name: app.yaml
    text: |
%s
clients:
- {url: 'http://shop/', from: default/caller, rate: 100}
- {url: 'http://cart/', from: default/caller, rate: 100}
actions:
- at: 2s
  scale: {workload: default/Deployment/shop, replicas: 0}
- at: 2s
  scale: {workload: default/Deployment/cart, replicas: 0}
"""

ONE = """
      apiVersion: apps/v1
      kind: Deployment
      metadata: {name: NAME}
      spec:
        selector: {matchLabels: {app: NAME}}
        template:
          metadata: {labels: {app: NAME}}
          spec: {containers: [{name: NAME, image: NAME, ports: [{containerPort: 8080}]}]}
      ---
      apiVersion: v1
      kind: Service
      metadata: {name: NAME}
      spec: {selector: {app: NAME}, ports: [{port: 80, targetPort: 8080}]}
      ---
"""

CALLER = """
      apiVersion: v1
      kind: Pod
      metadata: {name: caller}
      spec: {containers: [{name: caller, image: caller}]}
"""


def test_each_service_without_endpoints_has_a_bill_that_names_it() -> None:
    text = TWO_SERVICES % (ONE.replace("NAME", "shop") + ONE.replace("NAME", "cart") + CALLER)
    tree = report(load_text(text, "two.yaml"))
    check(tree)
    empty = [bill for bill in tree["autopsy"]["bills"] if bill["cause"] == "no-endpoints"]
    assert sorted(bill["service"] for bill in empty) == ["service/cart", "service/shop"]
    for bill in empty:
        assert bill["text"].startswith(f"{bill['service'].partition('/')[2]} has no ready endpoint: REJECT by node-")


def test_what_is_in_hand_at_a_sigkill_is_lost_then_and_its_request_says_so() -> None:
    lab = Lab(load("grace-too-short").spec)
    lab.advance(55 * S)
    (bill,) = lab.gantt.report().bills
    assert bill.title.endswith("when its grace period was over: SIGKILL")
    assert bill.until_ns is not None
    assert bill.until_ns - bill.from_ns > 4.9 * S, "from SIGTERM to SIGKILL: 5 s of grace"
    assert bill.trace is not None
    (lost,) = [hop for hop in lab.open_request(bill.trace).hops if hop.outcome == "reset"]
    assert "it was killed at the end of its grace period 45.0 s after the connection was opened" in lost.why


def test_a_process_that_was_told_to_go_has_not_crashed() -> None:
    lab = Lab(load("rolling-update-ingress").spec)
    lab.advance(10 * S)
    bills = [bill for bill in lab.gantt.report().bills if bill.trace is not None]
    told = [hop.why for bill in bills for hop in lab.open_request(bill.trace or 0).hops if hop.outcome == "refused"]
    assert told
    assert all("exited after SIGTERM" in why or "got SIGTERM" in why for why in told)


def test_what_took_most_of_a_long_window_is_named_and_is_what_the_gantt_says() -> None:
    """A hung pod stays in the rules for as long as its kubelet's probes take to fail: kube-proxy is not slow."""
    autopsy = report(shortened("pod-hang", 60))["autopsy"]
    (bill,) = autopsy["bills"]
    event = next(event for group in autopsy["gantt"] for event in group["events"] if event["id"] == bill["event"])
    noticed = next(row["knew_s"] for row in event["rows"] if row["kind"] == "kubelet")
    assert noticed - bill["from_s"] > 20
    assert bill["text"].endswith(f" hung, still Ready for {noticed - bill['from_s']:.1f} s")
    (quick,) = report(shortened("pod-crash", 10))["autopsy"]["bills"]
    assert quick["text"].endswith("crashed"), "a kubelet that looks every second is nothing to name"


def test_a_container_that_its_kubelet_stopped_has_not_crashed() -> None:
    """A liveness probe failed: SIGTERM, SIGKILL, and the container is started again in the same pod."""
    told = [(5 * S, What.SIGTERM_SENT), (35 * S, What.SIGKILL_SENT), (35 * S, What.CONTAINER_EXITED)]
    stopped = Spread(1, 5 * S, Key("Pod", "default", "web-0"), "node-1", True, False, marks=told)
    assert fate_words(stopped, 36 * S) == "was stopped by its kubelet"
    crashed = Spread(2, 5 * S, Key("Pod", "default", "web-0"), "node-1", True, False, marks=told[2:])
    assert fate_words(crashed, 36 * S) == "crashed"


def test_a_datagram_has_no_connect_to_wait_for() -> None:
    lab = Lab(load("udp-stale").spec)
    lab.advance(20 * S)
    titles = [bill.title for bill in lab.gantt.report().bills]
    assert any("got SIGTERM; no answer in 5 s ×" in title for title in titles)
    assert not any("connect" in title for title in titles)
