"""Revisions of a StatefulSet's or DaemonSet's template, and the label by which their pods are told apart.

Upstream keeps each as a ControllerRevision object; here they are part of the workload's own record, so they outlive
the controller's process as those do. Source: k8s.io/kubernetes pkg/controller/history/controller_history.go,
pkg/controller/statefulset/stateful_set_control.go (getStatefulSetRevisions, truncateHistory),
pkg/controller/daemon/update.go (constructHistory, cleanupHistory).
"""

from collections.abc import Sequence

from kflab.cluster.checkpoint import Mutable
from kflab.control.names import template_hash
from kflab.control.set_revisions import CHANGE_CAUSE, template_tree
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod
from kflab.manifest.objects_workloads import DaemonSet, Revision, StatefulSet

HASH = "controller-revision-hash"
"""Label of pods: a StatefulSet's revision by name (NAME-HASH), a DaemonSet's by hash alone."""


class Hashes(Mutable):
    """Our hash of each workload's present template, worked out once per template."""

    def __init__(self) -> None:
        self._known: dict[Key, tuple[StatefulSet | DaemonSet, str]] = {}

    def of(self, workload: StatefulSet | DaemonSet) -> str:
        """The hash of a workload's template."""
        known = self._known.get(workload.key)
        if known is not None and known[0].template is workload.template and known[0].raw is workload.raw:
            return known[1]
        code = template_hash(workload, workload.template)
        self._known[workload.key] = (workload, code)
        return code

    def forget(self, key: Key) -> None:
        """The workload is gone."""
        self._known.pop(key, None)


def history(workload: StatefulSet | DaemonSet, code: str, pods: Sequence[Pod]) -> tuple[Revision, ...]:
    """The workload's revisions by number, the present template's last.

    A template that it had before moves to the end under its old name and a new number.

    Args:
        workload: With the revisions as they were.
        code: Our hash of its present template.
        pods: Its pods. While nothing is known of a workload yet, its given pods' label names the first revision: a dump
            has upstream's hashes, and its pods are not to be replaced for that.
    """
    old = workload.revisions
    if old and old[-1].code == code:
        return old
    same = next((revision for revision in old if revision.code == code), None)
    name = same.name if same is not None else f"{workload.meta.name}-{code}"
    if same is None and isinstance(workload, DaemonSet):
        name = code
    if not old:
        given = workload.update_revision if isinstance(workload, StatefulSet) else ""
        labels = [pod.meta.labels[HASH] for pod in pods if HASH in pod.meta.labels]
        name = given or (labels[-1] if labels else name)
    number = old[-1].number + 1 if old else 1
    cause = workload.meta.annotations.get(CHANGE_CAUSE, "") if same is None else same.cause
    new = Revision(name, number, workload.template, code, template_tree(workload.raw), cause)
    return (*(revision for revision in old if revision is not same), new)


def shortened(found: tuple[Revision, ...], live: frozenset[str], limit: int) -> tuple[Revision, ...]:
    """Without the oldest revisions beyond revisionHistoryLimit that no pod and no status names."""
    spare = [revision.name for revision in found[:-1] if revision.name not in live]
    gone = frozenset(spare[: max(0, len(spare) - limit)])
    return tuple(revision for revision in found if revision.name not in gone)


def is_of(pod: Pod, name: str) -> bool:
    """Whether a pod is of a revision; a given pod without the label counts as of the one asked about."""
    return pod.meta.labels.get(HASH, name) == name
