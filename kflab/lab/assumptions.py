"""All that a lab takes for granted of what is there, with what would change it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kflab.dataplane.conntrack import buckets_for
from kflab.engine.snat import EVICTS_FROM
from kflab.lab.assuming import (
    app_assumptions,
    autoscaler_assumptions,
    client_assumptions,
    gate_assumptions,
    proxy_assumptions,
)
from kflab.lab.assuming_dns import dns_assumptions
from kflab.lab.assuming_nodes import (
    affinity_assumptions,
    cni_assumptions,
    conntrack_assumptions,
    ipvs_assumptions,
    network_assumptions,
    static_assumptions,
)
from kflab.lab.balancing import simplifications
from kflab.lab.counting import ASSUMED, OVERRIDE
from kflab.lab.spec import AUTO
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod

if TYPE_CHECKING:
    from kflab.lab.running import Lab


NGINX_PROFILE = "v1.15.1"
"""The release of ingress-nginx that controllers behave as."""


def part_assumptions(scenario: str) -> Iterator[tuple[str, str]]:
    """Of a folder that holds the parts of a scenario file beside it: fragments and patches are no manifests."""
    if scenario:
        yield (
            f"these files are parts of scenario {scenario}, which puts them together with its patches; here they are "
            "read as they stand",
            f"kflab {scenario}",
        )


def modelling_assumptions(lab: "Lab") -> Iterator[tuple[str, str]]:
    """What the lab takes for granted of things that are there."""
    for controller in lab.controllers.all():
        images = {image for key in controller.pods for image in _images(lab, key)}
        for image in sorted(images):
            if not image.partition("@")[0].endswith(f":{NGINX_PROFILE}"):
                name = f"{controller.key.namespace}/{controller.key.name}"
                text = f"ingress controller {name} behaves as ingress-nginx {NGINX_PROFILE}"
                yield (f"{text}, though its image is {image}", "no other profile is modelled")
    yield from simplifications(lab.store, lab.plane.balancers)
    yield from app_assumptions(lab.store, lab.workload_of, lab.delays)
    yield from static_assumptions(lab.store)
    yield from dns_assumptions(lab.store)
    gates = {gate for balancer in lab.plane.balancers.values() for gate in balancer.gates}
    yield from gate_assumptions(lab.store, lab.workload_of, gates)
    yield from autoscaler_assumptions(lab.store)
    pods = [pod for one in lab.controllers.all() for pod in one.pods[:1]]
    configs = (lab.wiring.configs.at(f"ingress/{pod.namespace}/{pod.name}", lab.t_ns) for pod in pods)
    yield from proxy_assumptions(config for config in configs if config is not None)
    yield from client_assumptions(lab.spec.clients, lab.engine.timing)
    yield from affinity_assumptions(lab.store, lab.book.config.mode)
    yield from network_assumptions(lab.spec.pod_network, lab.spec.actions, lab.engine.timing)
    yield from cni_assumptions(lab.cni, lab.spec.actions)
    yield from ipvs_assumptions(lab.book.config, lab.spec.clients)
    most = lab.spec.conntrack_max
    yield from conntrack_assumptions(most, lab.spec.conntrack_buckets or buckets_for(most))
    if lab.spec.traffic_mode == AUTO:
        yield ASSUMED, OVERRIDE
    if lab.wiring.compiler.shared_destinations:
        release = "{}.{}".format(*lab.spec.kernel)
        may = "may be taken from" if lab.spec.kernel >= EVICTS_FROM else "stays with"
        yield (
            f"nodes run Linux {release}: when MASQUERADE looks for a free source port, one {may} a connection in "
            "TIME_WAIT",
            "cluster: {kernel: '6.6'}" if lab.spec.kernel < EVICTS_FROM else "cluster: {kernel: '6.1'}",
        )
    guessed: dict[Key, str] = {}
    for key, runtime in lab.plane.runtime.items():
        pod = lab.store.get(key)
        if runtime.assumed and isinstance(pod, Pod):
            ports = ", ".join(f"{port}/{protocol}" for protocol, port in runtime.listening)
            guessed.setdefault(lab.workload_of(pod) or key, ports)
    for owner, ports in guessed.items():
        yield (
            f"{owner.kind} {owner.namespace}/{owner.name} declares no port: it listens on {ports or 'none'}, the "
            "targetPorts of Services that select it",
            "declare containerPorts, or annotate the pod with kflab.dev/listens",
        )


def _images(lab: "Lab", key: Key) -> tuple[str, ...]:
    pod = lab.store.get(key)
    return tuple(container.image for container in pod.spec.containers) if isinstance(pod, Pod) else ()
