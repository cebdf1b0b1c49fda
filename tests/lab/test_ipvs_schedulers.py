"""IPVS's counting schedulers in a lab: what an opened request, the bands and the shares say, and UDP's timeout."""

import re

import pytest

from kflab.lab.commands import SetLoad, SetMode
from kflab.lab.handle import Tab
from kflab.lab.records import Record, record
from kflab.lab.running import Lab
from kflab.lab.spec import LabSpec

S = 1_000_000_000

MANIFESTS = """
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: ipvs
ipvs: {{scheduler: {scheduler}, udpTimeout: {udp}}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080, protocol: {protocol}}}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 4
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec: {{containers: [{{name: c, image: x, ports: [{{containerPort: 8080, protocol: {protocol}}}]}}]}}
"""


def opened(scheduler: str, protocol: str = "TCP", udp: str = "0s", step_s: float = 60.0) -> tuple[Lab, list[Record]]:
    """Ten seconds of some hundred requests a second from a pod."""
    text = MANIFESTS.format(scheduler=scheduler, protocol=protocol, udp=udp)
    lab = Lab(LabSpec("schedulers", (Tab("web.yaml", text, "", "file"),)))
    rows: list[Record] = []
    lab.watch_rows(lambda found: rows.extend(record(found, i) for i in range(len(found))))
    lab.do(SetLoad(300.0))
    while lab.t_ns < 10 * S:
        lab.advance(min(10 * S, lab.t_ns + int(step_s * S)))
    return lab, rows


WHY = {
    "lc": r"lc: \d+ active \+ \d+ inactive against \d+ \+ \d+",
    "wlc": r"wlc: \d+ active \+ \d+ inactive against \d+ \+ \d+",
    "sed": r"sed: \d+ active against \d+",
    "nq": r"nq: \d+ active against \d+",
}


@pytest.mark.parametrize("scheduler", sorted(WHY))
def test_an_opened_request_says_why_its_pod_was_taken(scheduler: str) -> None:
    lab, rows = opened(scheduler)
    assert not [text for text, _ in lab.assumptions if "scheduler" in text]
    assert len(rows) > 1000
    for one in rows[::50]:
        trace = lab.reopener.open_record(one)
        assert not [hop for hop in trace.hops if hop.outcome == "mismatch"]
        why = next(hop.why for hop in trace.hops if "virtual server" in hop.why)
        told = re.search(WHY[scheduler], why)
        assert told, why
        mine, other = (tuple(map(int, re.findall(r"\d+", part))) for part in told[0].split("against"))
        cost = [256 * load[0] + (load[1] if len(load) > 1 else 0) for load in (mine, other)]
        assert cost[0] <= cost[1]
        assert (mine == other) == ("first in the list" in why)
        hop = next(hop for hop in trace.hops if "virtual server" in hop.why)
        assert [one.chance for one in sorted(hop.alternatives, key=lambda one: one.chosen)] == [0, 0, 0, 1]


def test_the_screen_names_the_scheduler_and_not_luck() -> None:
    lab, _ = opened("sed")
    snapshot = lab.snapshot()
    assert any("shortest expected delay" in band.detail for band in snapshot.bands)
    group = next(one for one in snapshot.shares if one.title == "web")
    assert (group.word, group.why.split(":")[0]) == ("structural", "shortest expected delay")


def test_counts_do_not_depend_on_how_the_lab_is_advanced() -> None:
    told = [[(one.start_ns, one.servers, one.extra) for one in opened("lc", step_s=step)[1]] for step in (60.0, 0.07)]
    assert told[0] == told[1]


@pytest.mark.parametrize(("udp", "remembered_s"), [("0s", 300), ("2s", 2)])
def test_udp_timeout_of_the_configuration_bounds_what_is_counted(udp: str, remembered_s: int) -> None:
    lab, rows = opened("lc", "UDP", udp)
    last = dict(rows[-1].extra)
    loads = [virtual.counts.load(server) for virtual in lab.engine.memory.schedulers.servers for server in range(4)]
    assert last["loads0"]
    assert sum(load.active for load in loads) == 0
    recent = [one for one in rows if one.start_ns > (10 - remembered_s) * S]
    assert abs(sum(load.inactive for load in loads) - len(recent)) < 10


def test_a_lab_that_leaves_ipvs_mode_and_comes_back_counts_anew() -> None:
    lab, rows = opened("lc")
    lab.do(SetLoad(30.0))
    assert lab.do(SetMode("nftables")).ok
    lab.advance(90 * S)
    assert not lab.engine.memory.schedulers.open
    told = lab.do(SetMode("ipvs"))
    assert "lc scheduler counts connections (least connections)" in told.text
    del rows[:]
    lab.advance(170 * S)
    late = [one for one in rows if one.start_ns > 165 * S]
    assert len(late) > 100
    assert all(dict(one.extra)["loads0"] for one in late)
    assert all(one.ok for one in late)
    trace = lab.reopener.open_record(late[-1])
    assert not [hop for hop in trace.hops if hop.outcome == "mismatch"]
