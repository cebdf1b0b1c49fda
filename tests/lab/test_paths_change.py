"""Edited Ingresses and settings under traffic: paths change when NGINX learns, at one instant whatever the slabs."""

import pytest

from kflab.engine.types import Pick
from kflab.lab.commands import Apply, SetLoad, Start, Stop
from kflab.lab.handle import Tab
from kflab.lab.running import Lab
from kflab.lab.spec import LabSpec
from kflab.scenario.format import load

S = 10**9

EDITS = {
    "path": ("patches", "/products", "/other"),
    "upstream": ("patches", 'service-upstream: "true"', 'service-upstream: "false"'),
    "keepalive": ("additions", 'upstream-keepalive-connections: "0"', 'upstream-keepalive-connections: "320"'),
}


def edit(lab: Lab, name: str) -> Apply:
    role, old, new = EDITS[name]
    tab = next(tab for tab in lab.spec.tabs if tab.role == role)
    assert old in tab.text
    return Apply(((tab.name, tab.text.replace(old, new)),))


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_is_the_same_story_at_any_slab_length(name: str) -> None:
    def story(slab_ns: int, step_ns: int) -> str:
        lab = Lab(load("overview").spec, slab_ns=slab_ns)
        lab.advance(1_123_456_789)
        assert lab.do(edit(lab, name)).ok
        while lab.t_ns < 4 * S:
            lab.advance(min(4 * S, lab.t_ns + step_ns))
        return lab.digest()

    wanted = story(500_000_000, 4 * S)
    assert story(100_000_000, 33_333_333) == wanted
    assert story(37_000_001, S) == wanted


def test_a_path_taken_away_and_put_back_is_served_again() -> None:
    lab = Lab(load("overview").spec)
    lab.advance(S)
    assert lab.do(edit(lab, "path")).ok
    lab.advance(4 * S)
    failed = lab.totals.failed
    lab.advance(5 * S)
    assert lab.totals.failed - failed > 900, "nobody serves the path now"
    patches = next(tab for tab in lab.spec.tabs if tab.role == "patches")
    assert lab.do(Apply(((patches.name, patches.text),))).ok
    lab.advance(9 * S)
    failed = lab.totals.failed
    lab.advance(10 * S)
    assert lab.totals.failed == failed


def test_the_screen_shows_a_path_that_nobody_serves_any_more() -> None:
    lab = Lab(load("overview").spec)
    lab.advance(S)
    served = {band.id for band in lab.snapshot().bands}
    assert lab.do(edit(lab, "path")).ok
    lab.advance(4 * S)
    bands = {band.id: band for band in lab.snapshot().bands}
    assert "404 · no rule matches" in bands["route/0"].detail
    assert {name for name in served if name.startswith("service/")} - bands.keys() == {
        "service/default/product-service:80"
    }


def test_without_service_upstream_nginx_takes_turns_even_over_the_same_pods() -> None:
    lab = Lab(load("overview").spec)
    lab.advance(S)
    assert lab.do(edit(lab, "upstream")).ok
    lab.advance(4 * S)
    upstreams = [chooser for chooser in lab.wiring.choosers if chooser.kind == "upstream"]
    assert {chooser.picker for chooser in upstreams} == {Pick.ROUND_ROBIN}
    assert {int(lab.engine.choosers.pick[chooser.index]) for chooser in upstreams} == {Pick.ROUND_ROBIN}


BASE = """
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {type: LoadBalancer, selector: {app: a}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec: {containers: [{name: c, image: x, ports: [{containerPort: 8080}]}]}
"""

MORE = """---
apiVersion: v1
kind: Service
metadata: {name: b}
spec: {type: LoadBalancer, selector: {app: a}, ports: [{port: 81, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: c}
spec: {selector: {app: a}, ports: [{port: 82, targetPort: 8080}]}
"""


def test_a_new_load_balancer_is_called_from_when_the_cloud_has_made_it() -> None:
    def story(slab_ns: int) -> tuple[str, int]:
        lab = Lab(LabSpec("t", (Tab("t.yaml", BASE, None),)), slab_ns=slab_ns)
        lab.advance(1_123_456_789)
        assert lab.do(SetLoad(2.0)).ok
        assert lab.do(Apply((("t.yaml", BASE + MORE),))).ok
        lab.advance(300 * S)
        return lab.digest(), lab.totals.sent

    wanted = story(500_000_000)
    assert story(70_000_001) == wanted
    lab = Lab(LabSpec("t", (Tab("t.yaml", BASE + MORE, None),)))
    assert [entry.kind for entry in lab.entries()] == ["l4", "l4", "pod"]


def test_a_cold_lab_calls_services_once_the_client_pod_is_there() -> None:
    lab = Lab(LabSpec("t", (Tab("t.yaml", BASE + MORE, None),), cold=True))
    lab.advance(20 * S)
    pods = [entry for entry in lab.entries() if entry.kind == "pod"]
    assert [entry.service.name for entry in pods] == ["c"]
    assert pods[0].client
    sent, ok = lab.totals.sent, lab.totals.ok
    lab.advance(30 * S)
    assert lab.totals.sent > sent
    assert lab.totals.ok - ok == lab.totals.sent - sent


def test_a_stopped_kube_proxy_answers_no_health_check_of_local_policy() -> None:
    """healthCheckNodePort is served by kube-proxy itself (pkg/proxy/healthcheck), so its node leaves the balancer."""
    lab = Lab(load("overview").spec)
    balancer = next(iter(lab.plane.balancers.values()))
    assert balancer.healthy_at(lab.t_ns) == ("node-a",)
    assert lab.do(Stop("kube-proxy/node-a")).ok
    lab.advance(40 * S)
    assert balancer.healthy_at(lab.t_ns) == ()
    assert lab.do(Start("kube-proxy/node-a")).ok
    lab.advance(80 * S)
    assert balancer.healthy_at(lab.t_ns) == ("node-a",)
