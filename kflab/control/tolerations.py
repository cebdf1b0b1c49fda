"""What admission adds to every pod: it tolerates a node that is not ready, or unreachable, for a while.

Source: k8s.io/kubernetes plugin/pkg/admission/defaulttolerationseconds/admission.go.
"""

from functools import lru_cache

from kflab.manifest.objects_pods import Toleration

UNREACHABLE = "node.kubernetes.io/unreachable"
NOT_READY = "node.kubernetes.io/not-ready"

Tolerations = tuple[Toleration, ...]


@lru_cache(maxsize=1024)
def with_defaults(tolerations: Tolerations, seconds: int) -> Tolerations:
    """Tolerations with those of both taints for `seconds`, where the pod says nothing about them itself."""
    added = tuple(
        Toleration(key, "Exists", "", "NoExecute", seconds) for key in (NOT_READY, UNREACHABLE)
        if not any(each.key in (key, "") and each.effect in ("NoExecute", "") for each in tolerations)
    )  # fmt: skip
    return (*tolerations, *added)
