"""Opening: intent and observation, what is made when it is missing, pins, applications as people publish them."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from control_clusters import LABELS, PRODUCT, SERVICE, S, cluster, deployment, endpoints, pods, ready, service, slices

from kflab.cluster.ipam import Pins
from kflab.cluster.store import Store
from kflab.control import made
from kflab.control.delays import Delays
from kflab.control.facts import What
from kflab.control.plane import ControlPlane, settle
from kflab.draws import Draws
from kflab.errors import KflabError
from kflab.manifest.objects import Key, LabelSelector, Meta
from kflab.manifest.objects_cluster import Node, Taint
from kflab.manifest.objects_network import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Ingress,
    IngressClass,
    LoadBalancerIngress,
    Service,
    ServicePort,
)
from kflab.manifest.objects_pods import ContainerStatus, Pod, PodStatus
from kflab.manifest.objects_workloads import DaemonSet, ReplicaSet, StatefulSet

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "manifests"


def given_pod(name: str, ip: str, *, ready: bool = True, node: str = "worker", owner: Key | None = None) -> Pod:
    template = deployment().template
    status = ContainerStatus("api", "running", "", ready, 2)
    return Pod(
        Meta(name, "default", {**LABELS, "pod-template-hash": "abc"}, uid=f"uid-{name}", owner=owner),
        spec=replace(template.spec, node_name=node),
        status=PodStatus("Running", (ip,), ("10.0.0.9",), ready, -5 * S, containers=(status,)),
    )


def dump(*objects):
    plane = ControlPlane(Store(), Draws(1))
    plane.load(objects, [obj.key for obj in objects])
    plane.settle()
    return plane


def test_observed_pods_keep_name_node_address_and_readiness():
    owner = Key("ReplicaSet", "default", "product-abc")
    one, two = given_pod("product-abc-aaaaa", "10.244.9.4", owner=owner), given_pod(
        "product-abc-bbbbb", "10.244.9.5", owner=owner, ready=False)  # fmt: skip
    plane = dump(deployment(2), service(cluster_ips=("10.96.7.7",)), one, two)
    found = {p.meta.name: (p.ip, p.spec.node_name, p.status.ready, p.status.restarts) for p in pods(plane)}
    assert found == {
        "product-abc-aaaaa": ("10.244.9.4", "worker", True, 2),
        "product-abc-bbbbb": ("10.244.9.5", "worker", False, 2),
    }
    assert plane.store.get(SERVICE).cluster_ips == ("10.96.7.7",)
    assert endpoints(plane) == {one.key: (True, True, False), two.key: (False, False, False)}
    assert any("worker" in text for text, _ in plane.assumptions)
    assert plane.store.get(owner).meta.owner == PRODUCT
    assert plane.next_ns() is None


def test_observed_workloads_with_too_few_pods_are_left_alone_until_something_changes():
    owner = Key("ReplicaSet", "default", "product-abc")
    one = given_pod("product-abc-aaaaa", "10.244.9.4", owner=owner)
    plane = dump(deployment(3), service(), one)
    assert [p.meta.name for p in pods(plane)] == ["product-abc-aaaaa"]
    plane.scale(PRODUCT, 4)
    plane.run_until(20 * S)
    assert len(ready(plane)) == 4
    assert one.key in {p.key for p in pods(plane)}


def test_an_observed_pod_lives_on_as_any_other():
    owner = Key("ReplicaSet", "default", "product-abc")
    one = given_pod("product-abc-aaaaa", "10.244.9.4", owner=owner)
    plane = dump(deployment(1), service(), one)
    plane.crash(one.key)
    plane.run_until(20 * S)
    assert plane.store.get(one.key).status.restarts == 3
    plane.delete_pod(one.key)
    plane.run_until(50 * S)
    assert [p.key == one.key for p in pods(plane)] == [False]
    assert len(ready(plane)) == 1


def test_a_finished_pod_of_a_dump_does_not_run_again():
    done = replace(given_pod("job-x", ""), status=PodStatus("Succeeded", containers=(ContainerStatus(
        "api", "terminated", "Completed", exit_code=0),)))  # fmt: skip
    plane = dump(done, service())
    assert plane.store.get(done.key).status.phase == "Succeeded"
    assert plane.runtime == {}
    assert endpoints(plane) == {}


def given_slice(managed: bool = False) -> EndpointSlice:
    labels = {"kubernetes.io/service-name": "product-service"}
    if managed:
        labels["endpointslice.kubernetes.io/managed-by"] = "endpointslice-controller.k8s.io"
    entry = Endpoint(("10.1.2.3",), ready=True)
    return EndpointSlice(Meta("mine", "default", labels), endpoints=(entry,), ports=(EndpointPort(8080),))


@pytest.mark.parametrize("managed", [True, False])
def test_a_given_slice_is_kept_while_no_pod_in_the_input_matches(managed):
    plane = cluster(service(), given_slice(managed))
    assert [s.endpoints[0].addresses for s in slices(plane)] == [("10.1.2.3",)]


def test_a_given_slice_of_a_service_without_selector_is_never_touched():
    plane = cluster(service(selector={}), given_slice(), deployment())
    assert [s.meta.name for s in slices(plane)] == ["mine"]


def test_slices_are_made_from_given_pods():
    plane = dump(service(), given_pod("product-1", "10.244.9.4"))
    assert [e.addresses for s in slices(plane) for e in s.endpoints] == [("10.244.9.4",)]


def test_pinned_addresses_go_to_the_nth_created_pod_and_to_nobody_else():
    pins = Pins(
        {"default/Deployment/product": ("10.244.1.2", "10.244.1.3")},
        {"default/product-service": "52.100.10.20"},
        lb_hostnames={"default/product-service": "lb.example.com"},
    )
    plane = cluster(deployment(2, name="other"), deployment(2), service(type="LoadBalancer"), nodes=1, pins=pins)
    assert {p.ip for p in pods(plane, app="product")} == {"10.244.1.2", "10.244.1.3"}
    first_created = pods(plane, app="product")[0]
    assert first_created.ip == "10.244.1.2"
    assert not {p.ip for p in pods(plane, app="other")} & {"10.244.1.2", "10.244.1.3"}
    assert plane.balancers[SERVICE].ips == ("52.100.10.20",)
    assert plane.store.get(SERVICE).load_balancer == (LoadBalancerIngress(hostname="lb.example.com"),)


def test_one_address_pinned_twice_is_refused():
    with pytest.raises(KflabError, match=r"10\.1\.1\.1 is pinned for"):
        cluster(pins=Pins({"a/Deployment/b": ("10.1.1.1",), "a/Deployment/c": ("10.1.1.1",)}))


def test_what_is_used_but_not_given_is_made_and_said():
    elsewhere = replace(deployment(), meta=Meta("product", "shop"))
    plane = settle([elsewhere], Draws(1))
    assert [k.name for k in plane.store.keys("Node")] == ["node-1", "node-2", "node-3"]
    assert plane.store.get(Key("Namespace", "", "shop")) is not None
    said = " ".join(text for text, _ in plane.assumptions)
    assert "shop" in said
    assert "node-1" in said
    assert all(override for _, override in plane.assumptions)


def test_given_nodes_decide_by_label_taint_and_readiness():
    def node(name, **fields):
        cidrs = {"a": "10.244.1.0/24", "b": "10.244.2.0/24", "c": "10.244.3.0/24", "d": "10.244.4.0/24"}
        base = Node(Meta(name, labels={"disk": name}), pod_cidrs=(cidrs[name],), internal_ips=("10.0.0.1",))
        return replace(base, **fields)

    nodes = [
        node("a", taints=(Taint("dedicated", "NoSchedule"),)), node("b", ready="False"), node("c", unschedulable=True),
        node("d"),
    ]  # fmt: skip
    plane = settle([*nodes, deployment(4)], Draws(1))
    assert {p.spec.node_name for p in pods(plane)} == {"d"}
    picky = settle([*nodes, deployment(1, node_selector={"disk": "a"})], Draws(1))
    assert [(p.status.phase, p.spec.node_name, p.status.reason) for p in pods(picky)] == [
        ("Pending", "", "Unschedulable")
    ]
    picky.apply([replace(nodes[0], taints=())])
    picky.run_until(20 * S)
    assert [p.spec.node_name for p in ready(picky)] == ["a"]


def test_pods_spread_over_nodes():
    plane = cluster(deployment(9), nodes=3)
    names = [p.spec.node_name for p in pods(plane)]
    assert [names.count(f"node-{i}") for i in (1, 2, 3)] == [3, 3, 3]


def test_stateful_and_daemon_sets_make_their_pods():
    template = deployment().template
    sts = StatefulSet(Meta("db", "default"), replicas=3, selector=LabelSelector(LABELS), template=template,
                      service_name="db")  # fmt: skip
    ds = DaemonSet(Meta("agent", "default"), selector=LabelSelector({"app": "agent"}),
                   template=replace(template, labels={"app": "agent"}))  # fmt: skip
    headless = Service(Meta("db", "default"), ports=(ServicePort(80, target=8080),), selector=LABELS,
                       cluster_ips=("None",))  # fmt: skip
    plane = cluster(sts, ds, headless, nodes=4)
    assert [p.meta.name for p in ready(plane, app="product")] == ["db-0", "db-1", "db-2"]
    assert sorted(p.spec.node_name for p in ready(plane, app="agent")) == [f"node-{i}" for i in (1, 2, 3, 4)]
    (piece,) = slices(plane, headless.key)
    assert sorted(e.hostname for e in piece.endpoints) == ["db-0", "db-1", "db-2"]
    assert "service.kubernetes.io/headless" in piece.meta.labels
    plane.delete_pod(Key("Pod", "default", "db-1"))
    plane.run_until(30 * S)
    assert [p.meta.name for p in ready(plane, app="product")] == ["db-0", "db-2", "db-1"]
    plane.scale(sts.key, 1)
    plane.run_until(60 * S)
    assert [p.meta.name for p in ready(plane, app="product")] == ["db-0"]


def test_a_bare_replica_set_adopts_pods_that_match():
    rs = ReplicaSet(Meta("web", "default"), replicas=2, selector=LabelSelector(LABELS), template=deployment().template)
    bare = Pod(Meta("lonely", "default", LABELS), spec=deployment().template.spec)
    plane = cluster(bare, rs)
    assert len(pods(plane)) == 2
    assert plane.store.get(bare.key).meta.owner == rs.key


def test_a_cold_cluster_starts_from_nothing():
    plane = ControlPlane(Store(), Draws(1))
    plane.load([deployment(), service()], cold=True)
    assert plane.now_ns == 0
    assert pods(plane) == []
    plane.run_until(30 * S)
    assert len(ready(plane)) == 3
    assert plane.facts


def test_large_services_have_slices_of_a_hundred():
    plane = cluster(deployment(250), service(), nodes=5)
    sizes = sorted(len(s.endpoints) for s in slices(plane))
    assert sum(sizes) == 250
    assert sizes[-1] <= 100
    assert all(s.meta.name.startswith("product-service-") for s in slices(plane))


# --- ingress controllers --------------------------------------------------------------------------------------


def test_an_ingress_that_nobody_serves_gets_a_controller_that_does():
    ingress = Ingress(Meta("web", "default"), ingress_class="internal")
    made_now = made.ingress_controllers([ingress])
    plane = cluster(ingress, *made_now.objects)
    assert "internal" in made_now.assumptions[0][0]
    assert any(name.startswith("ingress/ingress-nginx/") for name in plane.observers)
    assert plane.store.get(ingress.key).load_balancer[0].hostname
    assert made.ingress_controllers([ingress, *made_now.objects]).objects == ()


@pytest.mark.parametrize("image", ["registry.k8s.io/ingress-nginx/controller:v1.9.0", "nginx/nginx-ingress:5.0"])
def test_controllers_are_recognised_by_image(image):
    from control_clusters import container

    found = list(made.controllers_in([deployment(box=container(image=image))]))
    assert len(found) == 1
    assert list(made.controllers_in([deployment()])) == []


def test_a_missing_ingress_class_alone_is_made_for_the_controller_that_is_there():
    controller = made.ingress_controller(without_class=False)
    ingress = Ingress(Meta("web", "default"), ingress_class="nginx")
    made_now = made.ingress_controllers([ingress, *controller.objects])
    assert [type(obj) for obj in made_now.objects] == [IngressClass]


@pytest.mark.parametrize("seed", range(6))
def test_nginx_learns_of_endpoints_by_its_timer_and_of_routes_by_a_reload(seed):
    ingress = Ingress(Meta("web", "default"), ingress_class="nginx")
    plane = cluster(deployment(), service(), ingress, *made.ingress_controllers([ingress]).objects, seed=seed)
    name = next(name for name in plane.observers if name.startswith("ingress/"))
    plane.run_until(10 * S)
    start = plane.now_ns
    plane.apply([replace(ingress, ingress_class="nginx", meta=Meta("web", "default", {"x": "y"}))])
    plane.run_until(start + S)
    learned = plane.observers[name].versions[-1][0] - start
    assert 0.2 * S <= learned <= 0.7 * S
    plane.run_until(start + 20 * S)
    start = plane.now_ns
    plane.crash(pods(plane, app="product")[0].key)
    plane.run_until(start + 20 * S)
    when = [t - start for t, _ in plane.observers[name].versions if t > start]
    assert when
    assert when[0] <= 5.5 * S
    gaps = [b - a for a, b in pairwise(when)]
    assert all(gap >= 2.2 * S for gap in gaps)


def test_endpoints_wait_for_a_reload_that_takes_long():
    """One sync at a time: with thousands of Ingresses a reload takes many seconds (ingress-nginx #11046)."""
    ingress = Ingress(Meta("web", "default"), ingress_class="nginx")
    objects = (deployment(), service(), ingress, *made.ingress_controllers([ingress]).objects)
    plane = cluster(*objects, delays=Delays().with_overrides({"ingress_reload_s": 25}))
    name = next(name for name in plane.observers if name.startswith("ingress/"))
    plane.run_until(10 * S)
    plane.apply([replace(ingress, meta=Meta("web", "default", {"x": "y"}))])
    plane.run_until(12 * S)
    plane.crash(pods(plane, app="product")[0].key)
    left = next(f for f in plane.run_until(60 * S) if f.what is What.ENDPOINTS_WRITTEN)
    assert left.t_ns < 14 * S
    knew = next(t for t, revision in plane.observers[name].versions if revision >= left.revision)
    assert 35 * S < knew < 36.2 * S


def test_an_ingress_pod_that_dies_is_an_observer_no_longer():
    plane = cluster(*made.ingress_controller().objects)
    name = next(name for name in plane.observers if name.startswith("ingress/"))
    victim = Key("Pod", *name.split("/")[1:])
    plane.crash(victim)
    assert not plane.observers[name].running
    plane.run_until(5 * S)
    assert plane.observers[name].running


# --- applications ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("folder", "least"), [("guestbook", 6), ("online-boutique", 12), ("sock-shop", 13)])
def test_published_applications_settle(folder, least):
    if not (SHARED / folder).exists():
        pytest.skip("published manifests are not beside this checkout")
    loader = pytest.importorskip("kflab.manifest.loader")
    sources = pytest.importorskip("kflab.manifest.sources")
    loaded = loader.load(sources.read_paths([str(SHARED / folder)], True, None))
    objects = list(loaded.objects)
    extra = made.ingress_controllers(objects) + made.coredns(objects) + made.client_pod()
    plane = settle([*objects, *extra.objects], Draws(7))
    assert len(pods(plane)) >= least
    assert all(p.status.ready for p in pods(plane))
    selected = [s for s in plane.store.of_kind("Service") if isinstance(s, Service) and s.selector]
    served = {e.target for k in plane.store.keys("EndpointSlice") for e in plane.store.get(k).endpoints}
    assert selected
    assert served
    assert plane.next_ns() is None
