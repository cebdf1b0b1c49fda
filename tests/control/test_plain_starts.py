"""A cluster that settles is what it would be had every pod been started step by step."""

from dataclasses import replace

from control_clusters import cluster, container, deployment, pods, service

from kflab.control import made
from kflab.control.plane import ControlPlane
from kflab.manifest.objects import Key, KubeObject
from kflab.manifest.objects_pods import Container, ContainerPort, Probe
from kflab.manifest.objects_workloads import Deployment

STEPWISE = {"kflab.dev/exit-after": "1s"}
"""Says nothing about starting, but makes a pod one that is looked at closely."""


def stepwise(obj: KubeObject) -> KubeObject:
    if not isinstance(obj, Deployment):
        return obj
    return replace(obj, template=replace(obj.template, annotations=STEPWISE))


def everything_of(plane: ControlPlane) -> dict[str, object]:
    """Pods as the API, their nodes and their kubelets have them, apart from annotations and names of the template."""
    found: dict[str, object] = {}
    for i, pod in enumerate(pods(plane)):
        worker, ground = plane.status.workers.get(pod.key), plane.runtime.get(pod.key)
        on_node = None if ground is None else (ground.ips, ground.containers, ground.listening, ground.started_ns)
        kept = None if worker is None else (worker.containers, worker.startup_passed, worker.seen_ns, worker.ready)
        found[f"pod {i}"] = (pod.status, pod.spec.node_name, pod.meta.creation_ns, on_node, kept)
    ready = [[(e.addresses, e.ready) for e in obj.endpoints] for obj in plane.store.of_kind("EndpointSlice")]
    return {**found, "endpoints": ready, "due": [t_ns for t_ns, _ in plane.pending()]}


def both(*objects: KubeObject, **how: object) -> tuple[dict[str, object], dict[str, object]]:
    return everything_of(cluster(*objects, **how)), everything_of(cluster(*map(stepwise, objects), **how))


def test_a_plain_pod_is_the_same_as_one_started_step_by_step():
    short, long = both(deployment(7), service())
    assert short == long
    assert "Running" in repr(short["pod 6"])


def test_also_with_two_containers_and_beside_pods_that_are_probed():
    two = deployment(4, name="two")
    sidecar = Container("log", "log:1", (ContainerPort(9000),))
    spec = two.template.spec
    two = replace(two, template=replace(two.template, spec=replace(spec, containers=(*spec.containers, sidecar))))
    probed = deployment(3, container(readiness=Probe(action="httpGet", port=8080, path="/")), name="probed")
    short, long = both(deployment(3), two, probed, service())
    assert short == long


def test_also_where_a_node_has_no_address_left():
    nodes = [replace(node, pod_cidrs=("10.9.0.0/30",)) for node in made.nodes(1).objects]
    short, long = both(*nodes, deployment(3), nodes=0)
    assert short == long
    states = [entry for name, entry in short.items() if name.startswith("pod")]
    assert sum("phase='Pending'" in repr(entry) for entry in states) == 2, "the range has one address for pods"


def test_also_where_a_pod_fits_nowhere():
    nodes = [replace(node, allocatable={"pods": "4"}) for node in made.nodes(2).objects]
    short, long = both(*nodes, deployment(11), service(), nodes=0)
    assert short == long
    assert sum("Unschedulable" in repr(entry) for entry in short.values()) == 3


def test_a_pod_that_is_not_needed_any_more_leaves_nothing_behind():
    """Two Deployments, of which one is asked for no pods: nothing of it runs, and its addresses are not kept."""
    plane = cluster(deployment(3), deployment(0, name="none"), service())
    assert len(pods(plane)) == len(plane.runtime) == len(plane.status.workers) == 3
    assert all(plane.store.get(Key("Pod", key.namespace, key.name)) for key in plane.runtime)
