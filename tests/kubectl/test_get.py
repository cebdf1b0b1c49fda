"""`kubectl get`: the columns, letter for letter."""

import dataclasses
import json

import pytest

from kflab.cluster.store import Store
from kflab.kubectl.ages import human_duration
from kflab.kubectl.execute import run, run_line
from kflab.manifest.objects import Key, Meta
from kflab.manifest.objects_config import ConfigMap, Secret
from kflab.manifest.objects_network import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Ingress,
    IngressRule,
    Service,
    ServicePort,
)
from kflab.manifest.objects_pods import ContainerStatus
from kflab.manifest.objects_workloads import Deployment

from .cluster import MINUTE, NAMES, OLD, SECOND, FakeLab, brief, pod


@pytest.fixture(scope="module")
def store() -> Store:
    return brief()


@pytest.fixture
def lab() -> FakeLab:
    return FakeLab()


def test_service_of_the_brief(store: Store, lab: FakeLab) -> None:
    assert run_line("kubectl get svc product-service", store, lab) == (
        "NAME              TYPE        CLUSTER-IP     EXTERNAL-IP   PORT(S)   AGE\n"
        "product-service   ClusterIP   10.96.100.50   <none>        80/TCP    5m\n"
    )


def test_load_balancer_shows_node_port_and_a_shortened_name(store: Store, lab: FakeLab) -> None:
    narrow = run_line("get svc -n ingress-nginx", store, lab).splitlines()[1]
    assert narrow.split() == [
        "ingress-nginx-controller", "LoadBalancer", "10.96.12.7", "a1b2c3d4e5f6....", "443:30443/TCP", "5m",
    ]  # fmt: skip
    wide = run_line("get svc -n ingress-nginx -o wide", store, lab).splitlines()[1]
    assert wide.split()[3] == "a1b2c3d4e5f6.elb.eu-central-1.amazonaws.com"
    assert wide.endswith("5m    app=ingress-nginx")


def test_endpoints_come_with_the_deprecation_warning(store: Store, lab: FakeLab) -> None:
    assert run_line("kubectl get endpoints product-service", store, lab) == (
        "Warning: v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\n"
        "NAME              ENDPOINTS                                            AGE\n"
        "product-service   10.244.2.25:8080,10.244.2.26:8080,10.244.2.27:8080   5m\n"
    )


def test_more_than_three_endpoints_are_counted_and_unready_ones_left_out(lab: FakeLab) -> None:
    store = brief()
    ends = tuple(Endpoint((f"10.244.2.{i}",), i % 7 != 0, True, False) for i in range(1, 12))
    slice_key = Key("EndpointSlice", "default", "product-service-x7k2p")
    old = store.get(slice_key)
    assert isinstance(old, EndpointSlice)
    store.put(dataclasses.replace(old, endpoints=ends), 0, "test")
    text = run_line("get ep product-service", store, lab)
    # Ten are ready; the Endpoints object sorts addresses as text, so .1, .10, .11 come first.
    assert "10.244.2.1:8080,10.244.2.10:8080,10.244.2.11:8080 + 7 more..." in text
    assert "10.244.2.1,10.244.2.2,10.244.2.3 + 8 more..." in run_line("get endpointslices", store, lab)


def test_ingress(store: Store, lab: FakeLab) -> None:
    assert run_line("kubectl get ingress", store, lab) == (
        "NAME          CLASS   HOSTS             ADDRESS        PORTS     AGE\n"
        "api-ingress   nginx   api.example.com   52.100.10.20   80, 443   5m\n"
    )


def test_ingress_with_many_hosts_counts_rules(lab: FakeLab) -> None:
    store = Store()
    rules = tuple(IngressRule(f"h{i}.example.com") for i in range(5))
    store.put(Ingress(Meta("many", "default"), rules=rules), 0, "test")
    store.put(Ingress(Meta("none", "default")), 0, "test")
    text = run_line("get ing", store, lab)
    assert "h0.example.com,h1.example.com,h2.example.com + 2 more..." in text
    assert text.splitlines()[2].split() == ["none", "<none>", "*", "80", "0s"]


def test_pods_wide(store: Store, lab: FakeLab) -> None:
    lines = run_line("get po -o wide", store, lab).splitlines()
    assert lines[0].split("  ")[0] == "NAME"
    assert lines[0].endswith("IP            NODE     NOMINATED NODE   READINESS GATES")
    assert lines[1].split() == [
        NAMES[0], "1/1", "Running", "0", "5m", "10.244.2.25", "node-b", "<none>", "<none>",
    ]  # fmt: skip


def test_a_crashed_pod_says_why_and_how_often(lab: FakeLab) -> None:
    store = Store()
    waiting = ContainerStatus("api", "waiting", "CrashLoopBackOff", False, 3, OLD, -20 * SECOND, 137)
    store.put(pod("p", "10.0.0.1", "n", status=waiting, ready=False), 0, "test")
    errored = ContainerStatus("api", "terminated", "Error", False, 0, OLD, -SECOND, 137)
    store.put(pod("q", "10.0.0.2", "n", status=errored, ready=False), 0, "test")
    gone = Meta("r", "default", {"app": "x"}, deletion_ns=0, creation_ns=OLD)
    store.put(pod("r", "10.0.0.3", "n", meta=gone), 0, "test")
    rows = [line.split() for line in run_line("get pods", store, lab).splitlines()[1:]]
    assert rows[0] == ["p", "0/1", "CrashLoopBackOff", "3", "(20s", "ago)", "5m"]
    assert rows[1] == ["q", "0/1", "Error", "0", "5m"]
    assert rows[2] == ["r", "1/1", "Terminating", "0", "5m"]


def test_several_kinds_get_their_prefix_and_an_empty_line(store: Store, lab: FakeLab) -> None:
    text = run_line("kubectl get deploy,ing", store, lab)
    assert "deployment.apps/product " in text
    assert "\n\nNAME " in text
    assert "ingress.networking.k8s.io/api-ingress" in text


def test_all_namespaces_sorted_by_namespace(store: Store, lab: FakeLab) -> None:
    lines = run_line("get pods -A --no-headers", store, lab).splitlines()
    assert [line.split()[0] for line in lines] == ["default"] * 3 + ["ingress-nginx"] * 2
    assert run_line("get nodes -A", store, lab).startswith("NAME ")


def test_labels_and_selectors(store: Store, lab: FakeLab) -> None:
    assert run_line("get pods -l app=product --show-labels", store, lab).splitlines()[1].endswith("app=product")
    assert len(run_line("get pods -l 'app in (product,x),!canary' -o name", store, lab).splitlines()) == 3
    assert run_line("get pods -l app!=product", store, lab) == "No resources found in default namespace.\n"
    assert run_line("get pods --field-selector=spec.nodeName=node-a", store, lab).startswith("No resources")


def test_names_and_what_is_missing(store: Store, lab: FakeLab) -> None:
    outcome = run("get svc product-service nope", store, lab)
    assert outcome.err == 'Error from server (NotFound): services "nope" not found\n'
    assert outcome.out.splitlines()[1].startswith("product-service ")
    assert outcome.code == 1
    assert run_line("get deploy/x", store, lab) == 'Error from server (NotFound): deployments.apps "x" not found\n'
    assert run_line("get pods -n nowhere", store, lab) == "No resources found in nowhere namespace.\n"
    assert run_line("get events -A", store, lab) == "No resources found\n"
    assert run_line("get podz", store, lab).startswith('error: the server doesn\'t have a resource type "podz"')


def test_name_output(store: Store, lab: FakeLab) -> None:
    assert run_line("get svc,deploy -o name", store, lab) == "service/product-service\ndeployment.apps/product\n"


def test_json_of_endpoints_is_the_api_object(store: Store, lab: FakeLab) -> None:
    pytest.importorskip("kflab.manifest.write")
    tree = json.loads(run("get ep product-service -o json", store, lab).out)
    assert tree["kind"] == "Endpoints"
    assert [entry["ip"] for entry in tree["subsets"][0]["addresses"]] == ["10.244.2.25", "10.244.2.26", "10.244.2.27"]
    assert tree["subsets"][0]["ports"] == [{"port": 8080, "protocol": "TCP"}]


def test_yaml_of_several_objects_is_a_list_that_loads_again(store: Store, lab: FakeLab) -> None:
    pytest.importorskip("kflab.manifest.write")
    from kflab.manifest.loader import load
    from kflab.manifest.sources import SourceText

    text = run("get svc,po -A -o yaml", store, lab).out
    loaded = load([SourceText("dump", text, None)])
    assert {(obj.kind, obj.meta.name) for obj in loaded.objects} >= {("Service", "product-service"), ("Pod", NAMES[0])}


def test_values_of_secrets_are_never_printed(lab: FakeLab) -> None:
    store = Store()
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": '{"data":{"key":"aHVzaA=="}}'}
    raw = {"data": {"key": "aHVzaA=="}, "metadata": {"annotations": annotations}}
    store.put(Secret(Meta("s", "default", annotations=annotations), raw), 0, "test")
    for line in ("get secret s -o yaml", "get secret s -o json", "get secrets -A -o yaml", "describe secret s"):
        text = run_line(line, store, lab)
        assert "aHVzaA" not in text
        assert "name: s" in text.lower() or '"name": "s"' in text or "Name:" in text
    assert run_line("get secrets", store, lab).splitlines()[1].split() == ["s", "Opaque", "1", "0s"]


def test_nodes_deployments_config_maps(store: Store, lab: FakeLab) -> None:
    assert run_line("get no", store, lab).splitlines()[1].split() == ["node-a", "Ready", "<none>", "5m", "v1.33.0"]
    assert run_line("get deploy", store, lab).splitlines()[1].split() == ["product", "3/3", "3", "3", "5m"]
    one = Store()
    one.put(ConfigMap(Meta("c", "default"), data={"a": "1", "b": "2"}), 0, "test")
    assert run_line("get cm", one, lab).splitlines()[1].split() == ["c", "2", "0s"]


def test_headless_and_external_name(lab: FakeLab) -> None:
    store = Store()
    store.put(Service(Meta("db", "default"), ports=(ServicePort(5432),), cluster_ips=("None",)), 0, "test")
    store.put(Service(Meta("ext", "default"), type="ExternalName", external_name="example.org"), 0, "test")
    store.put(Service(Meta("lb", "default"), type="LoadBalancer", ports=(ServicePort(80),)), 0, "test")
    rows = [line.split() for line in run_line("get svc", store, lab).splitlines()[1:]]
    assert rows[0] == ["db", "ClusterIP", "None", "<none>", "5432/TCP", "0s"]
    assert rows[1] == ["ext", "ExternalName", "<none>", "example.org", "<none>", "0s"]
    assert rows[2][3] == "<pending>"


def test_get_all_in_kubectls_order(store: Store, lab: FakeLab) -> None:
    lines = run_line("get all", store, lab).splitlines()
    firsts = [line.split("/")[0] for line in lines if "/" in line.split(" ")[0]]
    assert list(dict.fromkeys(firsts)) == ["pod", "service", "deployment.apps", "replicaset.apps"]


def test_hostile_names_stay_on_their_line_and_steer_nothing(lab: FakeLab) -> None:
    store = Store()
    labels = {"a": "[/]\x1b[2J", "b": "x\ty\nz\u202e"}
    store.put(Deployment(Meta("evil", "default", labels)), 0, "test")
    lines = run_line("get deploy --show-labels", store, lab).splitlines()
    assert len(lines) == 2
    assert r"a=[/]\x1b[2J,b=x\ty\nz\u202e" in lines[1]


def test_stopped_api_server_refuses(store: Store, lab: FakeLab) -> None:
    lab.stopped.add("apiserver")
    assert run_line("get pods", store, lab).startswith("The connection to the server localhost:6443 was refused")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"), (-1, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (125, "2m5s"), (599, "9m59s"),
        (600, "10m"), (10799, "179m"), (10800, "3h"), (11100, "3h5m"), (28799, "7h59m"), (28800, "8h"), (172799, "47h"),
        (172800, "2d"), (180000, "2d2h"), (691199, "7d23h"), (691200, "8d"), (63071999, "729d"), (63072000, "2y"),
        (63158400, "2y1d"), (252288000, "8y"),
    ],
)  # fmt: skip
def test_ages(seconds: int, text: str) -> None:
    assert human_duration(seconds * SECOND) == text


def test_an_endpoint_slice_without_ports_or_endpoints(lab: FakeLab) -> None:
    store = Store()
    meta = Meta("s", "default", {"kubernetes.io/service-name": "svc"}, creation_ns=-MINUTE)
    store.put(EndpointSlice(meta), 0, "test")
    store.put(EndpointSlice(dataclasses.replace(meta, name="t"), ports=(EndpointPort(None),)), 0, "test")
    rows = [line.split() for line in run_line("get endpointslices", store, lab).splitlines()[1:]]
    assert rows == [["s", "IPv4", "<unset>", "<unset>", "60s"], ["t", "IPv4", "*", "<unset>", "60s"]]
