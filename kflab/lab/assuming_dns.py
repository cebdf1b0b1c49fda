"""What the lab takes for granted of cluster DNS: told where the user sees it."""

from collections.abc import Iterator

from kflab.cluster.store import Store
from kflab.control.corednspods import runs_coredns
from kflab.dataplane.dns import DOMAIN
from kflab.manifest.corefile import CONFIG_MAP, COREFILE, corefile_of, is_node_cache, problem_of
from kflab.manifest.objects import Key
from kflab.manifest.objects_config import ConfigMap
from kflab.manifest.objects_pods import Pod
from kflab.manifest.objects_workloads import DaemonSet, Deployment

_NAME = f"ConfigMap {CONFIG_MAP.namespace}/{CONFIG_MAP.name}"


def dns_assumptions(store: Store) -> Iterator[tuple[str, str]]:
    """Of CoreDNS by its Corefile, and of NodeLocal DNSCache."""
    pods = store.of_kind("Pod", CONFIG_MAP.namespace)
    there = any(runs_coredns(pod) for pod in pods if isinstance(pod, Pod))
    deployment = store.get(Key("Deployment", CONFIG_MAP.namespace, "coredns"))
    made = isinstance(deployment, Deployment) and deployment.raw is None  # which has been said already
    config_map = store.get(CONFIG_MAP)
    if isinstance(config_map, ConfigMap) and COREFILE in config_map.data:
        yield from _of_corefile(config_map)
    elif there and not made:
        yield (
            f"{_NAME} is not given: CoreDNS has kubeadm's Corefile: lameduck 5 s, nothing of the cluster cached",
            f"give {_NAME} with its {COREFILE}",
        )
    for daemon in store.of_kind("DaemonSet"):
        if isinstance(daemon, DaemonSet) and any(is_node_cache(each) for each in daemon.template.spec.containers):
            yield (
                f"DaemonSet {daemon.meta.namespace}/{daemon.meta.name} (NodeLocal DNSCache) is not modelled: its pods "
                "run, but other pods ask CoreDNS itself through Service kube-dns",
                "no other way is modelled",
            )


def _of_corefile(config_map: ConfigMap) -> Iterator[tuple[str, str]]:
    problem = problem_of(config_map)
    if problem:
        yield f"{_NAME}: {problem}; CoreDNS would not start, so kubeadm's Corefile counts", f"mend its {COREFILE}"
        return
    corefile = corefile_of(config_map)
    if corefile.left_out:
        names = ", ".join(corefile.left_out)
        yield f"{_NAME}: what {names} of its {COREFILE} would answer is not modelled", "no other way is modelled"
    if corefile.caches_s:
        yield (
            f"{_NAME}: CoreDNS may answer from its cache what was so up to {corefile.caches_s} s ago; here it answers "
            "from what it knows",
            "cache { disable success and denial of the cluster's domain }, as kubeadm has it",
        )
    if corefile.domain not in ("", DOMAIN):
        yield f"{_NAME}: the kubelets' clusterDomain is {corefile.domain} too", "no other way is modelled"
    if corefile.pods == "verified":
        text = f"{_NAME}: pods verified: any name like 10-0-0-1.default.pod.{corefile.domain} exists"
        yield text, "no other way is modelled"
