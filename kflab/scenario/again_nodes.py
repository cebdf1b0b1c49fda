"""What decides when a node that nobody hears of is given up, as settings of a story played again.

`node-monitor-grace-period` is a flag of kube-controller-manager: so long after it last saw a node's lease renewed its
node lifecycle controller writes Unknown, and the endpoints there are not ready any more (k8s.io/kubernetes
pkg/controller/nodelifecycle/node_lifecycle_controller.go). `tolerationSeconds` is the pods': so long after the taints
not-ready and unreachable they are deleted, and replaced (pkg/controller/tainteviction; 300 where the pod says nothing,
plugin/pkg/admission/defaulttolerationseconds).
"""

from typing import Any

from kflab.control.delays import Delays
from kflab.control.profiles import PROFILES
from kflab.control.tolerations import NOT_READY, UNREACHABLE, with_defaults
from kflab.lab.knowledge import CUTS_OFF
from kflab.lab.session import Session
from kflab.lab.spec import LabSpec
from kflab.manifest.objects_pods import Toleration
from kflab.manifest.objects_workloads import Deployment, StatefulSet
from kflab.manifest.write import tree_to_yaml

TOLERATION = "tolerationSeconds"
GRACE = "node-monitor-grace-period"

DEFAULT_TOLERATION_S = 300
"""--default-not-ready-toleration-seconds and --default-unreachable-toleration-seconds of kube-apiserver."""

LEAST_GRACE_S = 20
"""Below about 16 s a healthy node, whose lease is renewed every 10 s and looked at every 5 s, would be Unknown at
times, which is not modelled. Kubernetes advises over 45 s, the sum of HTTP2_READ_IDLE_TIMEOUT_SECONDS and
HTTP2_PING_TIMEOUT_SECONDS (pkg/controller/nodelifecycle/config/types.go)."""

AFTER_SILENCE_NS = 400_000_000_000
"""How long after a node was lost a story is played: Unknown after some 50 s, its pods are replaced 300 s later."""

_SILENT = (*CUTS_OFF, "isolate")
_BACK = ("heal", "powerOn")


def is_silent(session: Session) -> bool:
    """Whether the last change took a node, or its kubelet, away from the control plane."""
    return session.kind in _SILENT or (session.kind == "stop" and session.what.startswith("kubelet/"))


def about_silence(session: Session) -> bool:
    """Whether the last change took a node from the control plane or gave it back."""
    return is_silent(session) or session.kind in _BACK


def grace_s(spec: LabSpec) -> float:
    """The node-monitor-grace-period of a spec, seconds."""
    delays = Delays().with_overrides(PROFILES[spec.profile or "small"].delays).with_overrides(spec.delays)
    return delays.node_monitor_grace_s


def toleration_s(workload: object) -> int | None:
    """How long a workload's pods tolerate an unreachable node, seconds; -1: for ever; None: nobody may say.

    A DaemonSet's pods tolerate it for ever whatever the template says (daemonset_util.go
    AddOrUpdateDaemonPodTolerations).
    """
    if not isinstance(workload, Deployment | StatefulSet):
        return None
    there = with_defaults(workload.template.spec.tolerations, DEFAULT_TOLERATION_S)
    waits = [each.seconds for each in there if each.key in (UNREACHABLE, "") and each.effect in ("NoExecute", "")]
    return min((wait for wait in waits if wait is not None), default=-1)


def toleration_patch(workload: Deployment | StatefulSet, seconds: int) -> str:
    """The patch that lets a workload's pods tolerate both taints for so long.

    A strategic merge patch replaces the list of tolerations: those about anything else are written again.
    """
    own = [_tree(each) for each in workload.template.spec.tolerations if not _about_both(each)]
    both: list[dict[str, Any]] = [
        {"key": key, "operator": "Exists", "effect": "NoExecute", TOLERATION: seconds}
        for key in (NOT_READY, UNREACHABLE)
    ]
    tree = {
        "apiVersion": "apps/v1",
        "kind": workload.key.kind,
        "metadata": {"name": workload.key.name, "namespace": workload.key.namespace},
        "spec": {"template": {"spec": {"tolerations": [*own, *both]}}},
    }
    return tree_to_yaml(tree, sort_keys=False)


def _about_both(toleration: Toleration) -> bool:
    """A toleration of these two taints alone; one of every taint stays."""
    return toleration.key in (NOT_READY, UNREACHABLE) and toleration.effect in ("NoExecute", "")


def _tree(toleration: Toleration) -> dict[str, Any]:
    fields = {
        "key": toleration.key, "operator": toleration.operator, "value": toleration.value,
        "effect": toleration.effect, TOLERATION: toleration.seconds,
    }  # fmt: skip
    return {name: value for name, value in fields.items() if value not in ("", None)}
