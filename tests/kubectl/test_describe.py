"""`kubectl describe`: kubectl's layout."""

from kflab.cluster.store import Store
from kflab.control.facts import Fact, What
from kflab.kubectl.execute import run, run_line
from kflab.manifest.objects import Key, Meta
from kflab.manifest.objects_network import Endpoint, EndpointPort, EndpointSlice

from .cluster import NAMES, SECOND, FakeLab, brief, pod


def test_ingress_of_the_brief() -> None:
    text = run_line("kubectl describe ingress api-ingress", brief(), FakeLab())
    backends = "product-service:80 (10.244.2.25:8080,10.244.2.26:8080,10.244.2.27:8080)"
    assert text == (
        "Name:             api-ingress\n"
        "Labels:           <none>\n"
        "Namespace:        default\n"
        "Address:          52.100.10.20\n"
        "Ingress Class:    nginx\n"
        "Default backend:  <default>\n"
        "TLS:\n"
        "  api-tls terminates api.example.com\n"
        "Rules:\n"
        "  Host             Path  Backends\n"
        "  ----             ----  --------\n"
        "  api.example.com  \n"
        f"                   /products   {backends}\n"
        "Annotations:       nginx.ingress.kubernetes.io/service-upstream: true\n"
        "Events:            <none>\n"
    )


def test_service_of_the_brief() -> None:
    text = run_line("describe svc product-service", brief(), FakeLab())
    assert text == (
        "Name:                     product-service\n"
        "Namespace:                default\n"
        "Labels:                   <none>\n"
        "Annotations:              <none>\n"
        "Selector:                 app=product\n"
        "Type:                     ClusterIP\n"
        "IP Family Policy:         SingleStack\n"
        "IP Families:              IPv4\n"
        "IP:                       10.96.100.50\n"
        "IPs:                      10.96.100.50\n"
        "Port:                     <unset>  80/TCP\n"
        "TargetPort:               8080/TCP\n"
        "Endpoints:                10.244.2.25:8080,10.244.2.26:8080,10.244.2.27:8080\n"
        "Session Affinity:         None\n"
        "Internal Traffic Policy:  Cluster\n"
        "Events:                   <none>\n"
    )


def test_missing_backend_is_said_where_it_matters() -> None:
    store = brief()
    store.delete(Key("Service", "default", "product-service"), 0, "test")
    text = run_line("describe ing api-ingress", store, FakeLab())
    assert 'product-service:80 (<error: services "product-service" not found>)' in text


def test_nothing_ready_differs_from_no_slice() -> None:
    store = brief()
    key = Key("EndpointSlice", "default", "product-service-x7k2p")
    labels = {"kubernetes.io/service-name": "product-service"}
    unready = EndpointSlice(
        Meta(key.name, "default", labels),
        endpoints=(Endpoint(("10.244.2.25",), False),),
        ports=(EndpointPort(8080),),
    )
    store.put(unready, 0, "test")
    assert "\nEndpoints:                \n" in run_line("describe svc product-service", store, FakeLab())
    store.delete(key, 0, "test")
    assert "\nEndpoints:                <none>\n" in run_line("describe svc product-service", store, FakeLab())


def test_pod_with_its_events() -> None:
    store = brief()
    about = Key("Pod", "default", NAMES[0])
    lab = FakeLab(now_ns=10 * SECOND)
    lab.happened.append(Fact(2 * SECOND, What.CONTAINER_EXITED, about, "kernel", "exited"))
    lab.happened.append(Fact(3 * SECOND, What.CONTAINER_STARTED, about, "kubelet node-b", "started"))
    lines = run_line(f"describe pod {NAMES[0]}", store, lab).splitlines()
    assert f"Name:             {NAMES[0]}" in lines
    assert "Node:             node-b/10.0.1.51" in lines
    assert "Controlled By:  ReplicaSet/product-7c9d8f6b5" in lines
    assert "    Port:           8080/TCP" in lines
    assert "  Ready                       True " in lines
    assert lines[-1].split() == ["Normal", "Started", "7s", "kubelet", "Started", "container", "api"]
    assert not any("exited" in line for line in lines[-2:])


def test_prefix_finds_all_that_begin_so() -> None:
    text = run_line("describe pod product", brief(), FakeLab())
    assert text.count("\nNamespace:") == 3
    outcome = run("describe svc nope", brief(), FakeLab())
    assert outcome.text == 'Error from server (NotFound): services "nope" not found\n'
    assert outcome.code == 1


def test_deployment_node_endpoints() -> None:
    store = brief()
    text = run_line("describe deployment product", store, FakeLab())
    assert "Replicas:               3 desired | 3 updated | 3 total | 3 available | 0 unavailable" in text
    assert "  Available      True    MinimumReplicasAvailable" in text
    assert "\n  Containers:\n   api:\n    Image:         product-api:v1\n" in text
    assert "NewReplicaSet:   product-7c9d8f6b5 (3/3 replicas created)" in text
    node = run_line("describe node node-b", store, FakeLab())
    assert "  InternalIP:  10.0.1.51" in node
    assert "Non-terminated Pods:  (3 in total)" in node
    endpoints = run_line("describe ep product-service", store, FakeLab())
    assert "  Addresses:          10.244.2.25,10.244.2.26,10.244.2.27" in endpoints
    assert "    <unset>  8080  TCP" in endpoints


def test_hostile_annotation_is_shown_escaped() -> None:
    store = Store()
    meta = Meta("p", "default", annotations={"note": "\x1b]0;owned\x07[@click=x]"})
    store.put(pod("p", "10.0.0.1", "n", meta=meta), 0, "test")
    text = run_line("describe pod p", store, FakeLab())
    assert "\x1b" not in text
    assert r"note: \x1b]0;owned\x07[@click=x]" in text
