"""CoreDNS' own pods: how long they go on after SIGTERM, and which ports they open, as their Corefile says.

Of manifests without ConfigMap kube-system/coredns kubeadm's Corefile counts. Annotations of the pod come first.
"""

from kflab.cluster.store import Store
from kflab.control.runtime import Ports
from kflab.manifest.app_annotations import DELAYS
from kflab.manifest.corefile import CONFIG_MAP, Corefile, corefile_of, is_coredns
from kflab.manifest.objects import Labels
from kflab.manifest.objects_pods import Container, Pod


def runs_coredns(pod: Pod) -> bool:
    """Whether a pod is one of cluster DNS."""
    return pod.meta.namespace == CONFIG_MAP.namespace and any(is_coredns(each) for each in pod.spec.containers)


def corefile_in(store: Store) -> Corefile:
    """What CoreDNS goes by in a cluster."""
    return corefile_of(store.get(CONFIG_MAP))


def behaviour(store: Store, pod: Pod) -> Labels:
    """A pod's annotations about its application; those of CoreDNS with its lameduck."""
    given = pod.meta.annotations
    if not runs_coredns(pod):
        return given
    lameduck = corefile_in(store).lameduck_ms
    if not lameduck:
        return given
    return {DELAYS["app_stop_listening_s"]: f"{lameduck}ms", DELAYS["app_exit_s"]: f"{lameduck}ms", **given}


def open_ports(store: Store, container: Container, ports: Ports) -> Ports:
    """Which of the ports that a container of CoreDNS declares, or is probed at, are really open."""
    if not is_coredns(container):
        return ports
    corefile = corefile_in(store)
    return tuple(each for each in ports if corefile.listens(each[1]))
