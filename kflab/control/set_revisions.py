"""Revisions of a Deployment: the number each of its ReplicaSets carries.

Source: k8s.io/kubernetes pkg/controller/deployment/util/deployment_util.go (SetNewReplicaSetAnnotations, MaxRevision,
SetDeploymentRevision), sync.go getNewReplicaSet. The other annotations of a Deployment are copied as well, but for the
ones that skipCopyAnnotation names.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from kflab.manifest.objects import KubeObject
from kflab.manifest.objects_workloads import Deployment, ReplicaSet
from kflab.manifest.pieces import kept_like

HASH: Final = "pod-template-hash"

REVISION: Final = "deployment.kubernetes.io/revision"

HISTORY: Final = "deployment.kubernetes.io/revision-history"
"""Earlier revisions of a ReplicaSet that was rolled back to, comma-separated."""

DESIRED: Final = "deployment.kubernetes.io/desired-replicas"
"""Annotation by which a change of `replicas` is told from a rollout (isScalingEvent)."""

MAX: Final = "deployment.kubernetes.io/max-replicas"
"""Annotation with `replicas` + maxSurge when a ReplicaSet was last sized: the whole that its share is of."""

CHANGE_CAUSE: Final = "kubernetes.io/change-cause"

_NOT_COPIED: Final = frozenset({
    "kubectl.kubernetes.io/last-applied-configuration", REVISION, HISTORY, DESIRED, MAX,
    "deprecated.deployment.rollback.to",
})  # fmt: skip


def revision_of(obj: KubeObject) -> int:
    """The revision in an object's annotations; 0 where there is none."""
    text = obj.meta.annotations.get(REVISION, "")
    return int(text) if text.isdigit() else 0


def annotations_of_new(deployment: Deployment, new: ReplicaSet | None, old: Iterable[ReplicaSet]) -> dict[str, str]:
    """Annotations that the new ReplicaSet should have.

    Args:
        deployment: The Deployment.
        new: Its new ReplicaSet as it is; None: about to be made.
        old: All its other ReplicaSets.
    """
    number = max((revision_of(rs) for rs in old), default=0) + 1
    copied = {name: value for name, value in deployment.meta.annotations.items() if name not in _NOT_COPIED}
    if new is None:
        return {**copied, REVISION: str(number)}
    found = {**new.meta.annotations, **copied}
    before = revision_of(new)
    if before < number:
        found[REVISION] = str(number)
        if before:
            earlier = [*filter(None, found.get(HISTORY, "").split(",")), str(before)]
            found[HISTORY] = ",".join(earlier)
    return found


def template_tree(tree: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """What a ReplicaSet keeps of its Deployment's text: the template, so that an undo brings all of it back."""
    tree = tree or {}
    template = (tree.get("spec") or {}).get("template")
    return None if template is None else kept_like(tree, {"spec": {"template": template}})


def with_template(tree: Mapping[str, Any] | None, earlier: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """A Deployment's text with the pod template of an earlier ReplicaSet in it."""
    if tree is None:
        return None
    spec = {name: value for name, value in (tree.get("spec") or {}).items() if name != "template"}
    template = ((earlier or {}).get("spec") or {}).get("template")
    return {**tree, "spec": spec if template is None else {**spec, "template": template}}
