"""proxy-connect-timeout, proxy-read-timeout and proxy-next-upstream: where they are given NGINX goes by them."""

from collections.abc import Sequence

import pytest
from small_labs import kept_rows

from kflab.dataplane.nginx_proxying import Proxying
from kflab.engine.types import Answer
from kflab.lab.commands import Act, Apply, Kill
from kflab.lab.handle import Tab
from kflab.lab.records import Record, status_text
from kflab.lab.running import Lab
from kflab.lab.spec import ClientSpec, LabSpec
from kflab.manifest.objects import Key

S = 1_000_000_000

TEXT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: c, image: "web:1", ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: web
  annotations: {NOTES}
spec:
  ingressClassName: nginx
  rules:
  - host: web.example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
"""

PREFIX = "nginx.ingress.kubernetes.io/"


def manifests(**settings: str) -> str:
    notes = ", ".join(f'{PREFIX}{name.replace("_", "-")}: "{value}"' for name, value in settings.items())
    return TEXT.replace("NOTES", notes)


def lab_with(method: str = "GET", **settings: str) -> tuple[Lab, list[Record]]:
    client = ClientSpec("http://web.example.com/", 100.0, "out", method=method)
    lab = Lab(LabSpec("nginx", (Tab("web.yaml", manifests(**settings), None),), clients=(client,)))
    return lab, kept_rows(lab)


def web_pods(lab: Lab) -> list[Key]:
    return [key for key in lab.store.keys("Pod") if key.name.startswith("web-")]


def failed_first(rows: Sequence[Record]) -> list[Record]:
    return [row for row in rows if row.answers[0] != Answer.OK]


def agrees(lab: Lab, row: Record) -> None:
    trace = lab.reopener.open_record(row)
    assert not [hop.why for hop in trace.hops if hop.outcome == "mismatch"]
    assert (trace.status, trace.tries, trace.latency_ns) == (status_text(row.status), row.tries, row.latency_ns)


def test_a_hung_pod_costs_the_read_timeout_that_the_ingress_names_and_a_later_one_counts_from_then_on() -> None:
    lab, rows = lab_with(proxy_read_timeout="4")
    lab.advance(2 * S)
    assert lab.do(Act("hang", web_pods(lab)[0])).ok
    lab.advance(12 * S)
    waited = failed_first(rows)
    assert waited
    assert {row.try_ends_ns[0] - row.try_starts_ns[0] for row in waited} == {4 * S}
    assert {row.status for row in waited} == {200}
    assert {row.tries for row in waited} <= {2, 3}  # in turn the second may be the same pod
    assert any("which hung; 4 s read timeout ×" in bill.title for bill in lab.gantt.report().bills)
    agrees(lab, waited[0])
    assert lab.do(Apply((("web.yaml", manifests(proxy_read_timeout="2")),))).ok
    lab.advance(30 * S)
    late = [row for row in failed_first(rows) if row.start_ns > 20 * S]
    assert {row.try_ends_ns[0] - row.try_starts_ns[0] for row in late} == {2 * S}


@pytest.mark.parametrize(
    ("settings", "tries"),
    [({}, 2), ({"proxy_next_upstream_tries": "1"}, 1), ({"proxy_next_upstream": "off"}, 1)],
)
def test_how_often_a_refused_connect_is_tried(settings: dict[str, str], tries: int) -> None:
    lab, rows = lab_with(**settings)
    lab.advance(2 * S)
    assert lab.do(Kill(web_pods(lab)[0], "crash")).ok
    lab.advance(8 * S)
    refused = [row for row in failed_first(rows) if row.answers[0] == Answer.REFUSED]
    assert refused
    assert {row.tries for row in refused} == {tries}
    assert {row.status for row in refused} == {200 if tries == 2 else 502}
    agrees(lab, refused[-1])


def test_a_post_is_sent_twice_only_where_the_ingress_allows_it() -> None:
    for word, status in (("error timeout", 504), ("error timeout non_idempotent", 200)):
        lab, rows = lab_with("POST", proxy_read_timeout="3", proxy_next_upstream=word)
        lab.advance(2 * S)
        assert lab.do(Act("hang", web_pods(lab)[0])).ok
        lab.advance(8 * S)
        assert {row.status for row in failed_first(rows)} == {status}


@pytest.mark.parametrize(
    ("given", "found", "said"),
    [
        ({}, Proxying(), 0),
        ({"proxy-connect-timeout": "7", "proxy-read-timeout": "x"}, Proxying(7), 0),
        ({"proxy-next-upstream": "error timeout http_502"}, Proxying(), 1),
        ({"proxy-next-upstream": "error"}, Proxying(), 1),
        ({"proxy-next-upstream": "http_503"}, Proxying(tries=1), 1),
        ({"proxy-next-upstream": "off", "proxy-next-upstream-tries": "2"}, Proxying(tries=1), 0),
        ({"proxy-next-upstream-tries": "0"}, Proxying(), 1),
        ({"proxy-next-upstream-tries": "5", "proxy-next-upstream-timeout": "9"}, Proxying(), 2),
        ({"retry-non-idempotent": "true"}, Proxying(non_idempotent=True), 0),
    ],
)
def test_what_is_read_and_what_is_said_to_be_left_out(given: dict[str, str], found: Proxying, said: int) -> None:
    made = Proxying().under(lambda name: given.get(name, ""), retry_key=True)
    assert (made.connect_s, made.read_s, made.tries, made.non_idempotent) == (
        found.connect_s, found.read_s, found.tries, found.non_idempotent,
    )  # fmt: skip
    assert len(made.left_out) == said


def test_what_is_left_out_is_an_assumption_of_the_lab() -> None:
    lab, _ = lab_with(proxy_next_upstream_timeout="10")
    told = [what for what, _ in lab.assumptions if "proxy-next-upstream-timeout" in what]
    assert told == ["Ingress default/web has proxy-next-upstream-timeout 10: tries go on for longer here"]
