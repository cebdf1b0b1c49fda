"""What becomes of flows to targets that are unhealthy or deregistered, by whose load balancer it is."""

from collections import Counter

import numpy as np
import pytest

from kflab.control.facts import FLOW_ENDS, What
from kflab.engine.types import Finished
from kflab.lab.bills import Cause
from kflab.lab.commands import Act, Kill
from kflab.lab.handle import Tab
from kflab.lab.records import record
from kflab.lab.running import Lab
from kflab.lab.spec import LabSpec, PinSpec
from kflab.manifest.objects import Key

S = 10**9
_AWS = "service.beta.kubernetes.io/aws-load-balancer-"

POD = """
apiVersion: v1
kind: Pod
metadata: {name: web-N, labels: {app: web}}
spec:
  nodeName: node-N
  containers:
  - name: web
    image: x
    ports: [{containerPort: 8080}]
    readinessProbe: {httpGet: {path: /healthz, port: 8080}}
---
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web, annotations: {ANNOTATIONS}}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
"""
INGRESS = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: web
  annotations:
    alb.ingress.kubernetes.io/target-type: ip
    alb.ingress.kubernetes.io/target-group-attributes: deregistration_delay.timeout_seconds=DELAY
spec:
  ingressClassName: alb
  defaultBackend: {service: {name: web, port: {number: 80}}}
"""

SLOW = {"service_p50_ns": 10 * S, "service_p99_ns": 15 * S}


def lab_of(name: str = "", annotations: str = "", more: str = "", url: str = "http://web.example.com/") -> Lab:
    text = POD.replace("N", "1") + POD.replace("N", "2") + SERVICE.replace("ANNOTATIONS", annotations) + more
    spec = LabSpec(
        "flows", (Tab("web.yaml", text, None),), load_balancer=name, rate_rps=10.0, nodes=2, timing=SLOW, url=url,
        pins=PinSpec(public_names={"web.example.com": "default/web"}),
    )  # fmt: skip
    return Lab(spec)


def run(lab: Lab, *until: int) -> Finished:
    parts: list[Finished] = []
    lab.watch_rows(parts.append)
    for seconds in until:
        lab.advance(seconds * S)
    names = [name for name in Finished.__slots__ if name != "extra"]
    whole = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    extra = {name: np.concatenate([part.extra[name] for part in parts]) for name in parts[0].extra}
    return Finished(**whole, extra=extra)


def ends(lab: Lab) -> list[tuple[What, float, str]]:
    return [(fact.what, fact.t_ns / S, fact.detail) for fact in lab.facts if fact.what in FLOW_ENDS]


def causes(lab: Lab) -> Counter[str]:
    found: Counter[str] = Counter()
    for bill in lab.autopsy.bills:
        found[bill.cause] += bill.lost
    return found


@pytest.mark.parametrize("resets", [True, False])
def test_an_nlb_resets_the_flows_of_a_target_that_turned_unhealthy(resets: bool) -> None:
    attribute = "target_health_state.unhealthy.connection_termination.enabled=false"
    lab = lab_of("aws-nlb", "" if resets else f"{_AWS}target-group-attributes: {attribute}")
    lab.advance(20 * S)
    assert lab.do(Act("failReadiness", Key("Pod", "default", "web-2"))).ok
    rows = run(lab, 60)
    if not resets:
        assert ends(lab) == []
        assert -3 not in rows.status
        return
    (end,) = ends(lab)
    assert (end[0], end[2]) == (What.FLOWS_RESET, "node-2")
    reset = rows.status == -3
    assert reset.sum() > 10
    assert np.abs(rows.finish_ns[reset] / S - end[1]).max() < 0.001
    assert causes(lab)[Cause.FLOW_ENDED] == reset.sum()
    assert Cause.UNKNOWN not in causes(lab)
    i = int(np.flatnonzero(reset)[0])
    trace = lab.reopener.open_record(record(rows, i))
    assert not [hop.why for hop in trace.hops if hop.outcome == "mismatch"]
    titles = [bill.title for bill in lab.gantt.report().bills if bill.cause == Cause.FLOW_ENDED]
    assert titles == ["load balancer web ended its connections to node-2"]


def test_not_where_it_fails_open() -> None:
    lab = lab_of("aws-nlb")
    lab.advance(20 * S)
    for name in ("web-1", "web-2"):
        assert lab.do(Act("failReadiness", Key("Pod", "default", name))).ok
    lab.advance(80 * S)
    assert lab.plane.balancers[Key("Service", "default", "web")].healthy() == ()
    assert len(ends(lab)) == 1  # the first to go; with the second all are unhealthy


@pytest.mark.parametrize(
    ("delay", "status"),
    [(5, {200, 502}), (300, {200})],
)
def test_an_alb_answers_502_for_what_lasts_longer_than_the_deregistration_delay(delay: int, status: set[int]) -> None:
    """The pod stops listening in its readiness alone: it is deregistered, and goes on serving."""
    lab = lab_of("aws-nlb", more=INGRESS.replace("DELAY", str(delay)), url="")
    lab.advance(20 * S)
    assert lab.do(Act("failReadiness", Key("Pod", "default", "web-2"))).ok
    rows = run(lab, 90)
    front = rows.only(np.isin(rows.stream, [w.stream.index for w in lab.wiring.wired if w.entry.alb is not None]))
    assert set(front.status.tolist()) == status
    told = [end for end in ends(lab) if end[2] == "default/web-2"]
    if delay == 300:
        assert told == []
        return
    ((_, t_s, _),) = told
    cut = front.status == 502
    assert cut.sum() > 5
    assert np.abs(front.finish_ns[cut] / S - t_s).max() < 0.001
    assert causes(lab)[Cause.FLOW_ENDED] >= cut.sum()
    assert Cause.UNKNOWN not in causes(lab)


@pytest.mark.parametrize("ends_them", [True, False])
def test_an_nlb_leaves_flows_to_deregistered_targets_unless_told_to_end_them(ends_them: bool) -> None:
    attributes = "deregistration_delay.timeout_seconds=5"
    if ends_them:
        attributes += ",deregistration_delay.connection_termination.enabled=true"
    lab = lab_of("aws-nlb-ip", f"'{_AWS}target-group-attributes': '{attributes}'")
    lab.advance(20 * S)
    assert lab.do(Act("failReadiness", Key("Pod", "default", "web-2"))).ok
    rows = run(lab, 90)
    assert (-3 in rows.status) is ends_them
    assert [end[2] for end in ends(lab)] == (["default/web-2"] if ends_them else [])
    assert Cause.UNKNOWN not in causes(lab)


def test_gcps_draining_ends_in_silence_after_30_s() -> None:
    lab = lab_of("gcp")
    lab.advance(20 * S)
    assert lab.do(Act("autoscaleDown", Key("Node", "", "node-2"), (("delay", 200 * S),))).ok
    lab.advance(60 * S)
    ((what, t_s, target),) = ends(lab)
    assert (what, target) == (What.FLOWS_DROPPED, "node-2")
    assert 51 <= t_s <= 55


def test_a_pod_that_is_gone_has_no_flows_to_end() -> None:
    lab = lab_of("aws-nlb", more=INGRESS.replace("DELAY", "20"), url="")
    lab.advance(5 * S)
    assert lab.do(Kill(Key("Pod", "default", "web-2"), "delete")).ok
    lab.advance(90 * S)
    assert [end for end in ends(lab) if end[2] == "default/web-2"] == []
