"""sessionAffinity ClientIP: a caller stays on its pod until the rules no longer list it or its entry timed out."""

import re
from itertools import pairwise
from pathlib import Path

from kflab.lab.commands import Kill, SetLoad, SetMode
from kflab.lab.records import Record, record
from kflab.lab.running import Lab
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


def test_one_caller_one_pod_and_a_new_one_when_it_dies(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(MANIFESTS)
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
