"""upstream-keepalive-*: which connections NGINX keeps, as its ConfigMap says, and from when on."""

from small_labs import kept_rows
from test_nginx_timeouts import agrees, manifests

from kflab.lab.commands import Apply
from kflab.lab.handle import Tab
from kflab.lab.records import Record
from kflab.lab.running import Lab
from kflab.lab.spec import ClientSpec, LabSpec

S = 1_000_000_000


def config_map(**settings: str) -> str:
    data = ", ".join(f'upstream-keepalive-{name}: "{value}"' for name, value in settings.items())
    return f"""
apiVersion: v1
kind: Namespace
metadata: {{name: ingress-nginx}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: ingress-nginx-controller, namespace: ingress-nginx}}
data: {{{data}}}
"""


def lab_with(rate: float = 60.0, **settings: str) -> tuple[Lab, list[Record]]:
    tabs = (Tab("web.yaml", manifests(), None), Tab("nginx.yaml", config_map(**settings), None))
    lab = Lab(LabSpec("keepalive", tabs, clients=(ClientSpec("http://web.example.com/", rate, "out"),)))
    return lab, kept_rows(lab)


def over_kept(rows: list[Record]) -> float:
    """Part of the requests that went over a kept connection."""
    return sum(dict(row.extra).get("kept", 0) & 1 for row in rows) / len(rows)


def test_a_connection_serves_as_many_requests_as_the_config_map_says() -> None:
    usual, usual_rows = lab_with()
    few, few_rows = lab_with(requests="4")
    for lab in (usual, few):
        lab.advance(10 * S)
    assert over_kept(usual_rows) > 0.95
    assert 0.7 < over_kept(few_rows) <= 0.75, "three in four"
    agrees(few, few_rows[-1])


def test_connections_are_closed_when_they_idle_or_are_as_old_as_the_config_map_says() -> None:
    short, short_rows = lab_with(rate=0.5, timeout="1")
    old, old_rows = lab_with(time="2s")
    short.advance(60 * S)
    old.advance(20 * S)
    usual, usual_rows = lab_with(rate=0.5)
    usual.advance(60 * S)
    assert over_kept(short_rows) < 0.35 < 0.6 < over_kept(usual_rows)
    opened = [row.start_ns for row in old_rows if not dict(row.extra).get("kept", 0)]
    assert len(opened) >= 3 * (20 // 2 - 2), "each of three pods has a new connection every two seconds or so"


def test_a_changed_config_map_holds_from_nginx_reload_on() -> None:
    lab, rows = lab_with(requests="10000")
    lab.advance(5 * S)
    text = config_map(requests="1")
    assert lab.do(Apply((("nginx.yaml", text),))).ok
    lab.advance(20 * S)
    reloads = [fact.t_ns for fact in lab.facts if "reloaded" in fact.text]
    late = [row for row in rows if row.start_ns > reloads[-1] + S]
    early = [row for row in rows if S < row.start_ns < 5 * S]
    assert (over_kept(early) > 0.9, over_kept(late)) == (True, 0.0)


def test_what_nginx_would_not_take_is_said() -> None:
    lab, _ = lab_with(requests="many")
    assert any("upstream-keepalive-requests 'many'" in text for text, _ in lab.assumptions)
