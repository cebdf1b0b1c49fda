"""Live objects as kubectl prints them."""

from dataclasses import replace
from datetime import UTC, datetime

from kflab.manifest.loader import load
from kflab.manifest.objects import Key, Meta
from kflab.manifest.objects_network import LoadBalancerIngress, Service
from kflab.manifest.objects_pods import Container, ContainerPort, ContainerStatus, Pod, PodSpec, PodStatus
from kflab.manifest.objects_workloads import Deployment
from kflab.manifest.sources import SourceText
from kflab.manifest.typed import to_object
from kflab.manifest.write import to_tree, to_yaml

MADE = Pod(
    Meta("web-7d4-x2x4b", "default", {"app": "web"}, uid="u", owner=Key("ReplicaSet", "default", "web-7d4")),
    spec=PodSpec((Container("c", "i", (ContainerPort(80, "http"),), pre_stop_sleep_s=3),), node_name="node-a"),
    status=PodStatus(
        "Running", ("10.244.1.10",), ("10.0.1.50",), True,
        containers=(ContainerStatus("c", "running", "", True, 1, 5, exit_code=137),),
    ),
)  # fmt: skip


def test_a_made_pod_shows_everything_that_is_known_of_it() -> None:
    assert to_yaml(MADE).startswith(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  labels:\n    app: web\n  name: web-7d4-x2x4b\n"
    )
    tree = to_tree(MADE)
    assert list(tree["metadata"]["ownerReferences"][0].values()) == ["apps/v1", True, True, "ReplicaSet", "web-7d4"]
    assert tree["status"]["podIP"] == "10.244.1.10"
    status = tree["status"]["containerStatuses"][0]
    assert (status["restartCount"], status["lastState"]["terminated"]["exitCode"]) == (1, 137)
    assert {c["type"]: c["status"] for c in tree["status"]["conditions"]}["Ready"] == "True"
    again = to_object(tree)
    assert isinstance(again, Pod)
    assert again.spec == MADE.spec
    assert again.meta == MADE.meta


def test_times_are_written_when_zero_has_a_moment() -> None:
    tree = to_tree(
        replace(MADE, meta=replace(MADE.meta, creation_ns=-90_000_000_000)), datetime(2024, 1, 1, tzinfo=UTC)
    )
    assert tree["metadata"]["creationTimestamp"] == "2023-12-31T23:58:30Z"
    assert "creationTimestamp" not in to_tree(MADE)["metadata"]


def test_what_a_controller_changed_wins_over_the_text_and_the_rest_stays() -> None:
    text = """apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {a: b}}
spec:
  replica: 9
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      volumes: [{name: v, emptyDir: {}}]
      containers: [{name: c, image: i, env: [{name: A, valueFrom: {fieldRef: {fieldPath: x}}}, {name: B, value: q}]}]
"""
    deployment = load([SourceText("f", text)]).objects[0]
    assert isinstance(deployment, Deployment)
    scaled = replace(deployment, replicas=5, meta=replace(deployment.meta, labels={"z": "1"}), observed={"replicas": 5})
    tree = to_tree(scaled)
    assert tree["spec"]["replicas"] == 5
    assert "replica" not in tree["spec"]
    assert tree["metadata"]["labels"] == {"z": "1"}
    assert tree["status"] == {"replicas": 5}
    pod = tree["spec"]["template"]["spec"]
    assert pod["volumes"] == [{"name": "v", "emptyDir": {}}]
    assert [variable["name"] for variable in pod["containers"][0]["env"]] == ["A", "B"]
    assert deployment.raw is not None
    assert deployment.raw["spec"]["replicas"] == 2


def test_a_services_allocations_and_status_show() -> None:
    text = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {type: LoadBalancer, ports: [{port: 80}]}\n"
    service = load([SourceText("f", text)]).objects[0]
    assert isinstance(service, Service)
    live = replace(
        service, cluster_ips=("10.96.0.1",), load_balancer=(LoadBalancerIngress("52.1.1.1"),),
        ports=(replace(service.ports[0], node_port=31000),),
    )  # fmt: skip
    text = to_yaml(live)
    assert "  clusterIP: 10.96.0.1\n  clusterIPs:\n  - 10.96.0.1\n" in text
    assert "  ports:\n  - nodePort: 31000\n    port: 80\n    protocol: TCP\n    targetPort: 80\n" in text
    assert text.endswith("status:\n  loadBalancer:\n    ingress:\n    - ip: 52.1.1.1\n      ipMode: VIP\n")


def test_texts_are_quoted_as_kubectl_quotes_them_and_secrets_hidden() -> None:
    text = (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n"
        "data: {a: 'yes', b: '80', c: \"\", d: \"x\\ny\\n\", e: 1.2.3.4}\n"
        "---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {password: aHVudGVyMg==}\n"
    )
    config, secret = load([SourceText("f", text)]).objects
    assert 'data:\n  a: "yes"\n  b: "80"\n  c: ""\n  d: |\n    x\n    y\n  e: 1.2.3.4\n' in to_yaml(config)
    assert "aHVudGVyMg" not in to_yaml(secret)
    assert "password: (hidden)" in to_yaml(secret)
