"""sessionAffinity ClientIP: a caller stays on its pod until the rules no longer list it or its entry timed out."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from kflab.engine.types import Finished
from kflab.lab.commands import Kill, SetLoad, SetMode
from kflab.lab.handle import Tab
from kflab.lab.records import Record, record
from kflab.lab.running import Lab
from kflab.lab.spec import ClientSpec, LabSpec
from kflab.scenario.opening import open_what

S = 1_000_000_000

MANIFESTS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 4
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: "web:1", ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  sessionAffinity: ClientIP
  ports: [{port: 80, targetPort: 8080}]
"""


@pytest.mark.parametrize("mode", ["iptables", "nftables", "ipvs"])
def test_one_caller_one_pod_and_a_new_one_when_it_dies(tmp_path: Path, mode: str) -> None:
    config = f"apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: {mode}\n---"
    (tmp_path / "web.yaml").write_text(config + MANIFESTS)
    lab = Lab(open_what([str(tmp_path / "web.yaml")]).spec)
    kept: list[Record] = []
    lab.watch_rows(lambda rows: kept.extend(record(rows, i) for i in range(len(rows))))
    lab.advance(20_000_000_000)
    first = {lab.wiring.servers[server][3] for row in kept for server in row.servers}
    assert len(first) == 1
    for row in kept:
        trace = lab.reopener.open_record(row)
        assert not [hop for hop in trace.hops if hop.outcome == "mismatch"]
    pod = first.pop()
    assert pod is not None
    assert lab.do(Kill(pod, "delete")).ok
    del kept[:]
    lab.advance(60_000_000_000)
    after = [lab.wiring.servers[row.servers[-1]][3] for row in kept if row.ok]
    assert pod not in after
    assert len(set(after)) == 1


TIMEOUT_2S = MANIFESTS.replace(
    "sessionAffinity: ClientIP", "sessionAffinity: ClientIP\n  sessionAffinityConfig: {clientIP: {timeoutSeconds: 2}}"
)


def with_pauses(
    tmp_path: Path, pause_s: float, step_s: float = 60.0, mode: str = "iptables"
) -> tuple[Lab, list[Record]]:
    """Six times a pause and 4 s of 20 requests a second."""
    (tmp_path / "web.yaml").write_text(TIMEOUT_2S)
    lab = Lab(open_what([str(tmp_path / "web.yaml")]).spec)
    kept: list[Record] = []
    lab.watch_rows(lambda rows: kept.extend(record(rows, i) for i in range(len(rows))))
    lab.do(SetMode(mode))
    lab.advance(70 * S)
    del kept[:]
    for _ in range(6):
        for factor, length_s in ((0.0, pause_s), (20.0, 4.0)):
            lab.do(SetLoad(factor))
            until = lab.t_ns + int(length_s * S)
            while lab.t_ns < until:
                lab.advance(min(until, lab.t_ns + int(step_s * S)))
    return lab, kept


def moves(kept: list[Record]) -> list[tuple[Record, Record]]:
    rows = sorted((row for row in kept if row.ok), key=lambda row: row.start_ns)
    return [(a, b) for a, b in pairwise(rows) if a.servers[-1] != b.servers[-1]]


def test_a_pause_longer_than_the_timeout_draws_a_caller_anew(tmp_path: Path) -> None:
    lab, kept = with_pauses(tmp_path, 5.0)
    moved = moves(kept)
    assert 1 < len(moved) <= 6
    assert all(b.start_ns - a.start_ns > 2 * S for a, b in moved)
    for _, first in moved:
        words = " ".join(hop.why for hop in lab.reopener.open_record(first).hops)
        assert re.search(r"affinity entry of [0-9.]+ ended [0-9.]+ s ago: drawn anew", words)
    for row in kept:
        trace = lab.reopener.open_record(row)
        assert not [hop for hop in trace.hops if hop.outcome == "mismatch"]
    later = lab.reopener.open_record(kept[-1])
    assert any(hop.chooser == "session affinity" for hop in later.hops)


def test_a_short_pause_moves_nobody(tmp_path: Path) -> None:
    _, kept = with_pauses(tmp_path, 1.0)
    assert len(kept) > 100
    assert moves(kept) == []


def test_affinity_does_not_depend_on_how_the_lab_is_advanced(tmp_path: Path) -> None:
    told = [[(row.start_ns, row.servers) for row in with_pauses(tmp_path, 5.0, step)[1]] for step in (60.0, 0.07)]
    assert told[0] == told[1]


def test_nftables_times_out_and_ipvs_waits_for_its_closed_connections(tmp_path: Path) -> None:
    assert moves(with_pauses(tmp_path, 5.0, mode="nftables")[1])
    assert moves(with_pauses(tmp_path, 5.0, mode="ipvs")[1]) == []
    assert moves(with_pauses(tmp_path, 130.0, mode="ipvs")[1])


def crowd(tmp_path: Path, mode: str, n_callers: int) -> Lab:
    """As many callers outside as that, each about once a second, to two pods through one node."""
    text = MANIFESTS.replace("replicas: 4", "replicas: 2").replace(
        "spec:\n  selector", "spec:\n  type: NodePort\n  selector"
    )
    text = text.replace("targetPort: 8080", "targetPort: 8080, nodePort: 30080")
    clients = tuple(
        ClientSpec("http://node-1:30080/", 1.0, name=f"c{n}", address=f"198.51.100.{n}") for n in range(n_callers)
    )
    lab = Lab(LabSpec("crowd", (Tab("a.yaml", text, None),), clients=clients, nodes=1))
    if mode != "iptables":
        assert lab.do(SetMode(mode)).ok
    lab.advance(6 * S)
    return lab


def moved(lab: Lab, to_s: int) -> float:
    """Share of connections, from now on, that went to another pod than their caller's one before."""
    last: dict[int, int] = {}
    count = [0, 0]

    def watch(rows: Finished) -> None:
        for stream, server in zip(rows.stream.tolist(), rows.try_server[:, 0].tolist(), strict=True):
            if stream in last:
                count[last[stream] != server] += 1
            last[stream] = server

    lab.watch_rows(watch)
    lab.advance(to_s * S)
    return count[1] / sum(count)


def test_more_callers_than_xt_recent_remembers_move_in_iptables_mode_only(tmp_path: Path) -> None:
    share = moved(crowd(tmp_path, "iptables", 250), 16)
    assert 0.05 < share < 0.35  # 200 of 250 are remembered
    assert moved(crowd(tmp_path, "nftables", 250), 16) == 0.0
    assert moved(crowd(tmp_path, "ipvs", 250), 16) == 0.0
    assert moved(crowd(tmp_path, "iptables", 100), 16) == 0.0


def test_a_forgotten_caller_is_opened_as_its_record(tmp_path: Path) -> None:
    lab = crowd(tmp_path, "iptables", 250)
    lab.advance(9 * S)
    opened = [lab.reopener.open_record(one) for one in list(lab.sampler.recent())[-300:]]
    assert not [hop for trace in opened for hop in trace.hops if hop.outcome == "mismatch"]
    said = [hop.why for trace in opened for hop in trace.hops if "full list of 100 callers (xt_recent)" in hop.why]
    assert len(said) > 10


def test_what_is_simplified_is_told(tmp_path: Path) -> None:
    def told(lab: Lab) -> str:
        return next(text for text, _ in lab.assumptions if "session affinity of default/web" in text)

    lab = crowd(tmp_path, "iptables", 1)
    assert "(Local and Cluster policy) has one entry for both" in told(lab)
    assert "persistence" not in told(lab)
    assert not [text for text, _ in Lab(open_what(["overview"]).spec).assumptions if "session affinity of" in text]


@pytest.mark.parametrize(("old", "new"), [("iptables", "ipvs"), ("ipvs", "iptables"), ("iptables", "nftables")])
def test_a_mode_knows_nothing_of_what_another_one_kept(tmp_path: Path, old: str, new: str) -> None:
    lab = crowd(tmp_path, old, 40)
    lab.advance(12 * S)
    assert moved(lab, 16) == 0.0
    assert lab.do(SetMode(new)).ok
    share = moved(lab, 26)
    assert 0.01 < share < 0.2  # each caller is drawn anew once, and one of two goes elsewhere
    assert moved(lab, 34) == 0.0
