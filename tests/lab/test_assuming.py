"""What is taken for granted of applications is said, with how to say otherwise."""

from kflab.cluster.store import Store
from kflab.control.delays import Delays
from kflab.engine.types import Timing
from kflab.lab.assuming import app_assumptions, client_assumptions, gate_assumptions
from kflab.lab.assuming_nodes import static_assumptions
from kflab.lab.spec import ClientSpec
from kflab.manifest.objects import Key, Meta
from kflab.manifest.objects_pods import MIRROR, Container, LifecycleHandler, Pod, PodSpec, Probe


def said(*pods: Pod, **delays: object) -> list[tuple[str, str]]:
    store = Store()
    for pod in pods:
        store.put(pod, 0, "user")
    return list(app_assumptions(store, lambda pod: pod.meta.owner, Delays().with_overrides(delays)))


def pod(name: str, *containers: Container, inits: tuple[Container, ...] = (), **meta: object) -> Pod:
    return Pod(Meta(name, "default", **meta), spec=PodSpec(containers, inits))  # type: ignore[arg-type]


def test_each_assumption_names_its_workloads_once() -> None:
    owner = Key("Deployment", "default", "shop")
    probed = Container("web", readiness=Probe("exec"))
    found = dict(said(pod("shop-1", probed, owner=owner), pod("shop-2", probed, owner=owner), pod("alone", probed)))
    text = "Deployment default/shop, Pod default/alone: exec probes succeed while the container runs"
    assert list(found) == [text] or list(found) == [
        "Pod default/alone, Deployment default/shop: exec probes succeed while the container runs"
    ]


def test_init_containers_and_hooks_but_not_sidecars_and_sleeps() -> None:
    sidecar = Container("proxy", restart_policy="Always")
    assert said(pod("a", Container("web", pre_stop_sleep_s=5), inits=(sidecar,))) == []
    found = said(pod("b", Container("web", pre_stop_hook=True), inits=(Container("migrate"), sidecar)))
    assert [text for text, _ in found] == [
        "Pod default/b: init containers end well",
        "Pod default/b: a preStop hook that is no sleep takes 0.5 to 2 s",
    ]
    assert [how for _, how in found][1] == "annotate the pod with kflab.dev/pre-stop: 5s"
    (start,) = said(pod("c", Container("web", post_start=LifecycleHandler("exec"))))
    assert start[0] == "Pod default/c: a postStart hook that is no sleep takes 0.5 to 2 s and ends well"
    assert said(pod("d", Container("web", post_start=LifecycleHandler("sleep", 4)))) == []


def test_what_a_scenario_sets_is_what_is_said() -> None:
    hook = Container("web", pre_stop_hook=True)
    [(text, _)] = said(pod("b", hook), pre_stop_exec_s=4)
    assert text == "Pod default/b: a preStop hook that is no sleep takes 4 s"
    [(text, _)] = said(pod("b", hook), pre_stop_exec_s=[1.5, 3])
    assert text.endswith("takes 1.5 to 3 s")


def test_what_is_written_is_not_assumed() -> None:
    hook = Container("web", pre_stop_hook=True, readiness=Probe("httpGet", 80))
    assert said(pod("c", hook, annotations={"kflab.dev/pre-stop": "3s"})) == []


def test_a_gate_that_nobody_here_sets_is_said_with_who_does() -> None:
    store = Store()
    for i, gate in enumerate(
        ("example.com/ok", "cloud.google.com/load-balancer-neg-ready", "target-health.elbv2.k8s.aws/a")
    ):
        spec = PodSpec((Container("web"),), readiness_gates=(gate,))
        store.put(Pod(Meta(f"d-{i}", "default"), spec=spec), 0, "test")
    kept = {"target-health.elbv2.k8s.aws/a"}
    until = "; here a pod is not Ready until somebody does"
    assert [text.removesuffix(until) for text, _ in gate_assumptions(store, lambda pod: None, kept)] == [
        "readiness gate example.com/ok of Pod default/d-0: a controller of yours sets it",
        "readiness gate cloud.google.com/load-balancer-neg-ready of Pod default/d-1: GKE's NEG controller sets it, "
        "which is not modelled",
    ]


def test_a_client_that_is_one_pod_of_a_workload_says_so() -> None:
    assert list(client_assumptions([ClientSpec("http://shop/", 1.0, "web")], Timing())) == []
    [(text, _)] = client_assumptions([ClientSpec("http://shop/", 1.0, "web", from_pod="default/web")], Timing())
    assert text.startswith("client web is default/web: it sends until its process exits")
    [(text, how)] = client_assumptions(
        [ClientSpec("http://shop/", 1.0, "web", from_pod="default/Deployment/web")], Timing()
    )
    assert text.startswith("client web is one pod of default/Deployment/web at a time")
    assert "NAMESPACE/POD" in how


def test_mirror_pods_of_the_control_plane_are_said_to_be_pictures_of_it() -> None:
    store = Store()
    store.put(Pod(Meta("web-node-2", "default", annotations={MIRROR: "0f"}), spec=PodSpec((Container("web"),))), 0, "t")
    assert [text.partition(":")[0] for text, _ in static_assumptions(store)] == ["1 mirror pod"]
    store.put(Pod(Meta("etcd-cp", "kube-system", annotations={MIRROR: "1f"}), spec=PodSpec((Container("e"),))), 0, "t")
    assert [text.partition(":")[0] for text, _ in static_assumptions(store)] == ["2 mirror pods", "mirror pods of etcd"]
