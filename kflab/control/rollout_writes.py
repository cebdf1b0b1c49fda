"""What `kubectl rollout` and `kubectl set image` write: restart, pause, resume, undo, a new image.

Source: k8s.io/kubectl pkg/polymorphichelpers (objectrestarter.go, objectpauser.go, objectresumer.go, rollback.go),
pkg/cmd/rollout/rollout_restart.go, pkg/cmd/set/set_image.go. Messages are kubectl's.
"""

from collections.abc import Sequence
from dataclasses import replace

from kflab.control.admission import require_api
from kflab.control.core import Core
from kflab.control.dates import rfc3339
from kflab.control.deployment import DeploymentController
from kflab.control.facts import Fact, What
from kflab.control.names import template_hash
from kflab.control.set_revisions import HASH, revision_of, with_template
from kflab.errors import KflabError
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Container
from kflab.manifest.objects_workloads import DaemonSet, Deployment, StatefulSet

USER = "user"

RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"

Workload = Deployment | StatefulSet | DaemonSet


def workload_of(core: Core, key: Key) -> Workload:
    """The workload with this key.

    Raises:
        KflabError: In kubectl's words, when it is not there or does not roll.
    """
    found = core.store.get(key)
    if found is None:
        raise KflabError(f'Error from server (NotFound): {key.kind.lower()}s.apps "{key.name}" not found')
    if not isinstance(found, Workload):
        raise KflabError(f"{key}: only Deployments, StatefulSets and DaemonSets roll out")
    return found


def restart(core: Core, key: Key) -> Sequence[Fact]:
    """kubectl rollout restart: a date in the template's annotations makes new pods.

    Raises:
        KflabError: When it is not there, is paused, or was restarted within this second.
    """
    require_api(core)
    old = workload_of(core, key)
    if isinstance(old, Deployment) and old.paused:
        raise KflabError(f"can't restart paused deployment (run rollout resume first): {key.name}")
    annotations = {**old.template.annotations, RESTARTED_AT: rfc3339(core.now_ns)}
    if annotations == old.template.annotations:
        raise KflabError(
            f"failed to create patch for {key.name}: if restart has already been triggered within the past second, "
            "please wait before attempting to trigger another"
        )
    return _write(core, old, replace(old, template=replace(old.template, annotations=annotations)), "restarted")


def set_paused(core: Core, key: Key, paused: bool) -> Sequence[Fact]:
    """kubectl rollout pause or resume.

    Raises:
        KflabError: When it is not there, is no Deployment, or is so already.
    """
    require_api(core)
    old = workload_of(core, key)
    if not isinstance(old, Deployment):
        raise KflabError(f'{_plural(key)}.apps "{key.name}" {"pausing" if paused else "resuming"} is not supported')
    if old.paused == paused:
        raise KflabError(f'deployments.apps "{key.name}" is {"already" if paused else "not"} paused')
    return _write(core, old, replace(old, paused=paused), "paused" if paused else "resumed")


def set_image(core: Core, key: Key, container: str, image: str) -> Sequence[Fact]:
    """kubectl set image; `container` "*" means all.

    Raises:
        KflabError: When workload or container is not there.
    """
    require_api(core)
    old = workload_of(core, key)
    spec = old.template.spec

    def changed(boxes: tuple[Container, ...]) -> tuple[Container, ...]:
        return tuple(replace(box, image=image) if container in ("*", box.name) else box for box in boxes)

    names = [box.name for box in (*spec.containers, *spec.init_containers)]
    if container != "*" and container not in names:
        raise KflabError(f'unable to find container named "{container}"; {key.name} has {", ".join(names)}')
    new = replace(spec, containers=changed(spec.containers), init_containers=changed(spec.init_containers))
    if new == spec:
        return ()
    return _write(core, old, replace(old, template=replace(old.template, spec=new)), f"got the image {image}")


def undo(core: Core, deployments: DeploymentController, key: Key, to_revision: int = 0) -> Sequence[Fact]:
    """kubectl rollout undo: the template of an earlier revision again; 0 means the one before.

    Raises:
        KflabError: When it is not there, is paused, or has no such revision.
    """
    require_api(core)
    old = workload_of(core, key)
    if not isinstance(old, Deployment):
        return _undo_set(core, old, to_revision)
    if old.paused:
        raise KflabError(
            "you cannot rollback a paused deployment; resume it first with 'kubectl rollout resume' and try again"
        )
    sets = {revision_of(rs): rs for rs in deployments.replica_sets(old) if revision_of(rs)}
    if to_revision and to_revision not in sets:
        raise KflabError(f"unable to find specified revision {to_revision} in history")
    if not to_revision and len(sets) < 2:
        raise KflabError(f'no rollout history found for deployment "{key.name}"')
    number = to_revision or sorted(sets)[-2]
    rs = sets[number]
    labels = {name: value for name, value in rs.template.labels.items() if name != HASH}
    template = replace(rs.template, labels=labels)
    new = replace(old, template=template, raw=with_template(old.raw, rs.raw))
    if template_hash(new, template) == template_hash(old, old.template):
        return ()
    deployments.adopted[(key, template_hash(new, template))] = rs.key
    return _write(core, old, new, f"rolled back to revision {number}")


def _undo_set(core: Core, old: StatefulSet | DaemonSet, to_revision: int) -> Sequence[Fact]:
    """The template of an earlier ControllerRevision again (rollback.go, StatefulSetRollbacker, DaemonSetRollbacker)."""
    if not to_revision and len(old.revisions) <= 1:
        raise KflabError("no last revision to roll back to")
    wanted = old.revisions[-2].number if not to_revision else to_revision
    revision = next((each for each in old.revisions if each.number == wanted), None)
    if revision is None:
        raise KflabError(f"unable to find specified revision {to_revision} in history")
    new = replace(old, template=revision.template, raw=with_template(old.raw, revision.raw))
    if template_hash(new, new.template) == template_hash(old, old.template):
        return ()
    return _write(core, old, new, f"rolled back to revision {wanted}")


def _write(core: Core, old: Workload, new: Workload, word: str) -> Sequence[Fact]:
    before = len(core.facts)
    meta = replace(old.meta, generation=old.meta.generation + 1)
    change = core.put(replace(new, meta=meta), USER)
    if change is not None:
        core.fact(What.APPLIED, old.key, USER, f"{old.key} {word}", change.revision)
    return core.told_since(before)


def _plural(key: Key) -> str:
    return f"{key.kind.lower()}s"
