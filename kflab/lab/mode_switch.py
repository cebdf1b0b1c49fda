"""Setting kube-proxy's mode in a running lab: the changed configuration, and what it means for callers."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kflab.control.proxyrollout import settings_of
from kflab.dataplane.ipvs_schedulers import CHOOSER, COUNTING, DEFAULT
from kflab.dataplane.mode_change import Changed, changes
from kflab.dataplane.modes import MODES
from kflab.engine.schedulers import SCHEDULERS
from kflab.errors import KflabError
from kflab.manifest.objects import Key, KubeObject
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_config import KubeProxyConfiguration
from kflab.manifest.objects_pods import Pod
from kflab.manifest.typed import to_object

if TYPE_CHECKING:
    from kflab.lab.running import Lab

KEY = Key("KubeProxyConfiguration", "", "kube-proxy")

_EMPTY = {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration"}

_MEANWHILE = {
    True: "While a new one starts, its node has no Service rules: calls to ClusterIPs time out, NodePorts are refused.",
    False: "Until its first sync a node keeps the rules it has.",
}
"""By whether the new mode's kube-proxy removes the old mode's rules at its start (server_linux.go platformCleanup)."""

_LEFT_BEHIND = {
    "ipvs": "IPVS's virtual servers, kube-ipvs0 and its filter chains stay until `kube-proxy --cleanup` or a reboot. "
    "iptables mode's DNAT comes first, so that is felt at ClusterIPs alone: on a real node one whose Service loses its "
    "endpoints is still sent to the last ones, one of a deleted Service too, and a port that a Service lacks is still "
    "refused (not modelled: here iptables mode's rules alone decide).",
    "iptables": "filter KUBE-EXTERNAL-SERVICES stays until `kube-proxy --cleanup` or a reboot: on a real node what it "
    "refuses or drops now at NodePorts and external addresses, for want of endpoints (or of ones on the node, with "
    "policy Local), it goes on refusing or dropping when there are some (not modelled). ClusterIPs are not affected.",
}
"""By the old mode, where the new one is of the same kind and removes nothing of it.

nat's chains have the same names in both and are written anew; KUBE-EXTERNAL-SERVICES is iptables mode's alone. Filter
INPUT jumps to it before IPVS sees a packet (hook priorities: NF_IP_PRI_FILTER 0, IPVS at NF_IP_PRI_NAT_SRC - 2; k/k
pkg/proxy/iptables/proxier.go, iptablesJumpChains). What the node itself sends is IPVS's before filter OUTPUT.
"""


def configuration(lab: "Lab", mode: str) -> KubeProxyConfiguration:
    """kube-proxy's configuration as it is now, but for its mode.

    Raises:
        KflabError: For an unknown mode, or the one it has.
    """
    if mode not in MODES:
        raise KflabError(f"no kube-proxy mode {mode!r}; there are {', '.join(MODES)}")
    live = lab.store.get(KEY)
    tree: Mapping[str, Any] = live.raw if live is not None and live.raw is not None else _EMPTY
    made = to_object({**tree, "mode": mode})
    assert isinstance(made, KubeProxyConfiguration)
    if mode == lab.book.config.mode:
        raise KflabError(f"kube-proxy's configuration says {mode} already")
    return made


def changed_configs(lab: "Lab", objects: tuple[KubeObject, ...]) -> bool:
    """Whether an apply is of nothing but a kube-proxy configuration that restarts kube-proxy."""
    return all(
        isinstance(obj, KubeProxyConfiguration) and settings_of(obj) != settings_of(lab.plane.proxies.configs[-1])
        for obj in objects
    )


def told(lab: "Lab", before: int) -> tuple[tuple[str, str], ...]:
    """What a changed configuration does now, and what it changes for callers: (about what, in words).

    Args:
        lab: After the change.
        before: Number of the configuration before.
    """
    old, new = lab.book.settings(before).mode, lab.book.config.mode
    restart = "its pods are replaced one node at a time."
    if old == new:
        return ((f"kube-proxy restarts in {new} mode", restart),)
    cleans = "nftables" in (old, new)
    lines = [(f"kube-proxy restarts in {new} mode", f"{restart} {_MEANWHILE[cleans]}")]
    if (old, new) == ("ipvs", "nftables"):
        words = "on a real node those that IPVS carries end with its virtual servers; here they go on (not modelled)."
    else:
        words = "they go on; conntrack has their addresses."
    lines.append(("established connections", words))
    if not cleans:
        lines.append(("left behind", _LEFT_BEHIND[old]))
    if new == "ipvs":
        lines.append(("shares", _schedules(lab.book.config.ipvs_scheduler or DEFAULT)))
    lines += [(found.reason.words, f"{found}.") for found in _changes(lab, before)]
    return tuple(lines)


def _schedules(scheduler: str) -> str:
    if scheduler in COUNTING:
        how = f"counts connections ({CHOOSER[scheduler]})"
    elif scheduler in SCHEDULERS:
        how = "takes turns"
    else:
        return f"IPVS's {scheduler} scheduler hashes ({CHOOSER[scheduler]})."
    return f"IPVS's {scheduler} scheduler {how}: each node's virtual servers have their own."


def answer(lab: "Lab", before: int) -> str:
    """All of `told`, one line each."""
    return "\n".join(f"{about}: {words}" for about, words in told(lab, before))


def summary(lab: "Lab", before: int) -> str:
    """`told` in one line."""
    (about, words), *_ = told(lab, before)
    kinds = [found.reason.words for found in _changes(lab, before)]
    return f"{about}: {words}" + (f" Answered otherwise then: {'; '.join(kinds)}." if kinds else "")


def _changes(lab: "Lab", before: int) -> tuple[Changed, ...]:
    """What a node's callers get otherwise, by its rules under the configuration before and the present one."""
    node, revision = _a_node(lab), lab.store.last_rule_change
    number = len(lab.plane.proxies.configs) - 1
    old, new = (lab.book.rule_set(node, revision, config) for config in (before, number))
    return changes(old, new, _pod_on(lab, node))


def _a_node(lab: "Lab") -> str:
    """A node by whose rules somebody calls; the first one otherwise."""
    calling = sorted(lab.wiring.calling())
    names = [name.partition("/")[2] for name in calling if name.startswith("kube-proxy/")]
    return next(iter(names), next((key.name for key in lab.store.keys("Node")), ""))


def _pod_on(lab: "Lab", node: str) -> str:
    """Address of a pod on a node that has an own one."""
    here = lab.store.get(Key("Node", "", node))
    own = here.internal_ips if isinstance(here, Node) else ()
    pods = (pod for pod in lab.store.of_kind("Pod") if isinstance(pod, Pod) and pod.spec.node_name == node)
    return next((pod.ip for pod in pods if pod.ip and pod.ip not in own), "")
