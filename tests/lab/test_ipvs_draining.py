"""IPVS: who leaves a Service keeps its connections with weight 0 and gets no new ones, until it has none left."""

from pathlib import Path

import pytest

from kflab.lab.choosers import Wired
from kflab.lab.commands import Scale, SetLoad
from kflab.lab.records import Record, record
from kflab.lab.running import Lab
from kflab.manifest.objects import Key
from kflab.scenario.format import load_text

API = (Path(__file__).parents[2] / "scenarios/keepalive-clients/api.yaml").read_text()
S = 1_000_000_000

SCENARIO = """
kflab: scenario/v1
title: Pods leave a Service
seed: 7
duration: 30s
cluster: {nodes: 3}
clients:
- {name: web, from: default/web, url: http://api/orders, rate: 100, connections: 20}
- {name: batch, from: default/batch, url: http://api/orders, rate: 100}
actions:
- at: 10s
  scale: {workload: default/Deployment/api, replicas: 2}
manifests:
  documents:
"""


def opened(scheduler: str, service: str = "") -> tuple[Lab, list[Record]]:
    """`web` keeps its connections, `batch` opens one for each request; at 10 s two of four pods are deleted."""
    config = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
    config += f"mode: ipvs\nipvs: {{scheduler: {scheduler}}}"
    text = SCENARIO
    api = API.replace("spec:\n  selector: {app: api}\n", f"spec:\n  selector: {{app: api}}\n  {service}\n")
    for name, document in (("config.yaml", config), ("api.yaml", api)):
        text += f"  - name: {name}\n    text: |\n" + "".join(f"      {line}\n" for line in document.splitlines())
    lab = Lab(load_text(text, "draining.yaml").spec)
    rows: list[Record] = []
    lab.watch_rows(lambda found: rows.extend(record(found, i) for i in range(len(found))))
    return lab, rows


def wired_of(lab: Lab, client: str) -> Wired:
    return next(one for one in lab.wiring.wired if one.entry.client_pod == Key("Pod", "default", client))


def weightless(lab: Lab, client: str) -> set[str]:
    """ip:port of weight 0 on the node of a client's pod, as `ipvsadm -Sn` prints them there."""
    place = wired_of(lab, client).stream.place
    result = lab.run_words(["ipvsadm", "-Sn", "--node", lab.wiring.places[place]])
    assert result.ok
    return {line.split()[4] for line in result.text.splitlines() if line.endswith(" -w 0")}


def pods_met(lab: Lab, rows: list[Record], client: str, since_ns: int) -> set[str]:
    """ip:port of every pod that a client's requests went to."""
    stream = wired_of(lab, client).entry.index
    found = [one for one in rows if one.stream == stream and one.start_ns >= since_ns]
    assert found
    return {lab.wiring.index.address(one.servers[-1]) for one in found}


@pytest.mark.parametrize("scheduler", ["rr", "lc"])
def test_a_terminating_endpoint_keeps_its_connections_and_gets_no_new_ones(scheduler: str) -> None:
    lab, rows = opened(scheduler)
    lab.advance(10 * S)
    everybody = pods_met(lab, rows, "web", 0)
    assert len(everybody) == 4
    assert weightless(lab, "web") == set()
    assert [text for text, _ in lab.assumptions if "ipvs.tcpTimeout" in text and "900 s" in text]
    lab.advance(14 * S)  # the processes run until 15 s, the rules know since 12 s at the latest
    leaving = weightless(lab, "web")
    assert len(leaving) == 2
    assert leaving == weightless(lab, "batch")
    assert pods_met(lab, rows, "web", 12 * S) == everybody
    assert pods_met(lab, rows, "batch", 12 * S) == everybody - leaving
    assert all(one.ok for one in rows if one.start_ns >= 12 * S)
    lab.advance(17 * S)
    assert pods_met(lab, rows, "web", 16 * S) == everybody - leaving
    assert weightless(lab, "web") == leaving  # their last connections are still remembered
    snapshot = {node.key.name: node.draining for node in lab.snapshot().nodes}
    assert set(snapshot.values()) == {0, 2}


def test_without_any_connection_left_it_is_deleted_within_a_minute() -> None:
    lab, _ = opened("lc")
    lab.advance(14 * S)
    leaving = weightless(lab, "batch")
    lab.do(SetLoad(0.01))
    lab.advance(130 * S)  # TIME_WAIT lasts 120 s after the last answer, which came at 10 s or later
    assert weightless(lab, "batch") == leaving
    lab.advance(200 * S)  # 15 s + 120 s, and kube-proxy looks every minute
    assert weightless(lab, "batch") == set()
    assert weightless(lab, "web") == set()


def test_under_session_affinity_a_client_leaves_a_terminating_endpoint_that_still_remembers_it() -> None:
    lab, rows = opened("rr", "sessionAffinity: ClientIP")
    lab.advance(10 * S)
    used = pods_met(lab, rows, "batch", 0)
    assert len(used) == 1
    assert lab.do(Scale(Key("Deployment", "default", "api"), 1)).ok
    lab.advance(30 * S)
    (now,) = pods_met(lab, rows, "batch", 20 * S)
    assert now not in used
    assert weightless(lab, "batch") == used
