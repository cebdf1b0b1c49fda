"""Where requests enter, case by case: each finished request can be opened, and `curl` finds what the streams find."""

import pytest

from kflab.lab.handle import Tab
from kflab.lab.records import Record, record
from kflab.lab.running import Lab
from kflab.lab.spec import LabSpec

S = 10**9

APP = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: a}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  replicas: 2
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec: {containers: [{name: c, image: x, ports: [{containerPort: 8080}, {containerPort: 5353, protocol: UDP}]}]}
---
"""

CONTROLLER = """
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: one}
spec: {controller: k8s.io/one}
---
apiVersion: v1
kind: Service
metadata: {name: one, namespace: ing}
spec: {type: TYPE, selector: {app: one}, ports: [{name: http, port: 80, targetPort: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: one, namespace: ing}
spec:
  replicas: 2
  selector: {matchLabels: {app: one}}
  template:
    metadata: {labels: {app: one}}
    spec:
      containers:
      - name: controller
        image: registry.k8s.io/ingress-nginx/controller:v1.15.1
        args: [/nginx-ingress-controller, --controller-class=k8s.io/one, --ingress-class=one]
        ports: [{containerPort: 80}]
---
"""

INGRESS = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: i}
spec:
  ingressClassName: one
  rules:
  - http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
"""


def lab_of(text: str) -> Lab:
    return Lab(LabSpec("t", (Tab("t.yaml", text, None),)))


def rows_of(lab: Lab, to_ns: int) -> list[Record]:
    kept: list[Record] = []
    lab.watch_rows(lambda rows: kept.extend(record(rows, i) for i in range(len(rows))))
    lab.advance(to_ns)
    return kept


def assert_opens(lab: Lab, rows: list[Record]) -> None:
    assert rows
    for row in rows[:100]:
        trace = lab.reopener.open_record(row)
        assert trace.url == lab.entries()[row.stream].url
        assert not [hop.why for hop in trace.hops if hop.outcome in ("mismatch", "no such host")]


@pytest.mark.parametrize("host", ["", "a.example.com"])
def test_a_controller_behind_node_ports_is_dialled_at_a_node(host: str) -> None:
    ingress = INGRESS.replace("- http", f"- host: {host}\n    http") if host else INGRESS
    lab = lab_of(APP + CONTROLLER.replace("TYPE", "NodePort") + ingress)
    entry = lab.entries()[0]
    assert entry.kind == "l7"
    assert entry.host == (host or "10.0.1.11")
    rows = rows_of(lab, 2 * S)
    assert all(row.ok for row in rows)
    assert_opens(lab, rows)
    assert lab.run_words(["curl", entry.url]).ok


def test_a_controller_without_a_way_in_gets_nothing_and_says_so() -> None:
    lab = lab_of(APP + CONTROLLER.replace("TYPE", "ClusterIP") + INGRESS)
    assert [(entry.kind, entry.service.name) for entry in lab.entries()] == [("pod", "web")]
    assert any("leads to its controller ing/one" in text for text, _ in lab.assumptions)


def test_udp_requests_can_be_opened() -> None:
    dns = "apiVersion: v1\nkind: Service\nmetadata: {name: NAME}\nspec: {TYPE selector: {app: a}, ports: [{port: 53, protocol: UDP, targetPort: 5353}]}\n---\n"  # noqa: E501
    inside, outside = dns.replace("NAME", "d1").replace("TYPE", ""), dns.replace("NAME", "d2")
    lab = lab_of(APP + inside + outside.replace("TYPE", "type: LoadBalancer,"))
    rows = rows_of(lab, 5 * S)
    assert {lab.entries()[row.stream].scheme for row in rows} == {"udp", "http"}
    assert_opens(lab, [row for row in rows if lab.entries()[row.stream].scheme == "udp"])


def test_curl_names_the_pod_that_answered() -> None:
    headless = "apiVersion: v1\nkind: Service\nmetadata: {name: h}\nspec: {clusterIP: None, selector: {app: a}}\n---\n"
    lab = lab_of(APP + headless + CONTROLLER.replace("TYPE", "NodePort") + INGRESS)
    lab.advance(S)
    through_nginx = lab.run_words(["curl", lab.entries()[0].url])
    assert '"pod": "a-' in through_nginx.text
    straight = lab.run_words(["curl", "http://h:8080/", "--from", "default/client"])
    assert '"pod": "a-' in straight.text


def test_pods_that_share_a_node_s_address_each_answer_on_their_own_ports() -> None:
    text = ""
    for name, port in (("h1", 9001), ("h2", 9002)):
        text += f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{selector: {{app: {name}}}, ports: [{{port: 80, targetPort: {port}}}]}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec: {{hostNetwork: true, containers: [{{name: c, image: x, ports: [{{containerPort: {port}}}]}}]}}
---
"""
    lab = lab_of(text)
    node = "10.0.1.11"
    assert [lab.world.behaviour_at(node, port, 0) for port in (9001, 9002, 9003)] == [
        "listens", "listens", "refuses",
    ]  # fmt: skip
    assert lab.world.pod_at(node, 0) is None


def test_nginx_that_hashes_the_uri_sends_one_url_to_one_pod() -> None:
    hashed = "metadata: {name: i, annotations: {nginx.ingress.kubernetes.io/upstream-hash-by: $request_uri}}"
    lab = lab_of(APP + CONTROLLER.replace("TYPE", "NodePort") + INGRESS.replace("metadata: {name: i}", hashed))
    rows = rows_of(lab, 2 * S)
    assert len({server for row in rows for server in row.servers}) == 1
    assert_opens(lab, rows)
