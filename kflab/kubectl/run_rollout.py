"""`kubectl rollout` and `kubectl set image`.

Source: k8s.io/kubectl pkg/cmd/rollout, pkg/cmd/set/set_image.go, pkg/polymorphichelpers (rollout_status.go,
history.go). `rollout status` reports once and does not wait.
"""

from kflab.cluster.store import Store
from kflab.control.progress import PROGRESSING, TIMED_OUT, condition
from kflab.control.set_revisions import CHANGE_CAUSE, revision_of
from kflab.errors import KflabError
from kflab.kubectl.commands import Rollout, SetImage
from kflab.kubectl.describe_pod import describe_template
from kflab.kubectl.env import Env
from kflab.kubectl.hostile import printable
from kflab.kubectl.kinds import Resource
from kflab.kubectl.lookup import named, resource
from kflab.kubectl.outcome import Outcome
from kflab.kubectl.printers import seen
from kflab.kubectl.rollout_sets import status_of_set
from kflab.kubectl.tabular import Writer
from kflab.manifest.objects import KubeObject
from kflab.manifest.objects_workloads import DaemonSet, Deployment, ReplicaSet, StatefulSet

_VERBS = {
    "restart": ("restart", "restarted"),
    "undo": ("undo", "rolled back"),
    "pause": ("pauseRollout", "paused"),
    "resume": ("resumeRollout", "resumed"),
}
"""kubectl's word → the lab's verb, and what kubectl prints."""


def rollout(command: Rollout, store: Store, env: Env) -> Outcome:
    """Run `kubectl rollout`.

    Raises:
        KflabError: In kubectl's words, for what does not roll.
    """
    kind = resource(command.target.resource, store)
    obj = named(kind, command.namespace or env.namespace, command.target.name, store, env)
    if command.verb == "status":
        return _status(obj, kind)
    if command.verb == "history":
        return _history(obj, kind, command.revision, store)
    if not isinstance(obj, Deployment | StatefulSet | DaemonSet):
        raise KflabError(f"{kind.qualified} {printable(obj.meta.name)} cannot be rolled out: only workloads are")
    verb, word = _VERBS[command.verb]
    options = [("toRevision", command.revision)] if command.revision else []
    before = store.get(obj.key)
    refused = env.act_on_workload(verb, obj.key, options)
    if refused:
        return Outcome("", f"error: {printable(refused)}\n", 1)
    if command.verb == "undo" and store.get(obj.key) is before:
        word = f"skipped rollback (current template already matches revision {command.revision})"
    return Outcome(f"{kind.prefix}/{printable(obj.meta.name)} {word}\n")


def set_image(command: SetImage, store: Store, env: Env) -> Outcome:
    """Run `kubectl set image`; what is already so is not written again."""
    kind = resource(command.target.resource, store)
    obj = named(kind, command.namespace or env.namespace, command.target.name, store, env)
    for container, image in command.images:
        refused = env.act_on_workload("setImage", obj.key, [("container", container), ("image", image)])
        if refused:
            return Outcome("", f"error: {printable(refused)}\n", 1)
    if store.get(obj.key) == obj:
        return Outcome()
    return Outcome(f"{kind.prefix}/{printable(obj.meta.name)} image updated\n")


def _status(obj: KubeObject, kind: Resource) -> Outcome:
    if isinstance(obj, StatefulSet | DaemonSet):
        return Outcome(status_of_set(obj))
    if not isinstance(obj, Deployment):
        raise KflabError(f"no status viewer has been implemented for {kind.kind}")
    name = printable(obj.meta.name)
    updated, available, total = seen(obj, "updatedReplicas"), seen(obj, "availableReplicas"), seen(obj, "replicas")
    waiting = f'Waiting for deployment "{name}" rollout to finish'
    if seen(obj, "observedGeneration") < obj.meta.generation:
        return Outcome("Waiting for deployment spec update to be observed...\n")
    progress = condition(obj.conditions, PROGRESSING)
    if progress is not None and progress.reason == TIMED_OUT:
        return Outcome("", f'error: deployment "{name}" exceeded its progress deadline\n', 1)
    if updated < obj.replicas:
        return Outcome(f"{waiting}: {updated} out of {obj.replicas} new replicas have been updated...\n")
    if total > updated:
        return Outcome(f"{waiting}: {total - updated} old replicas are pending termination...\n")
    if available < updated:
        return Outcome(f"{waiting}: {available} of {updated} updated replicas are available...\n")
    return Outcome(f'deployment "{name}" successfully rolled out\n')


def _history(obj: KubeObject, kind: Resource, revision: int, store: Store) -> Outcome:
    if isinstance(obj, Deployment):
        owned = [rs for rs in store.of_kind("ReplicaSet", obj.meta.namespace) if rs.meta.owner == obj.key]
        sets = [rs for rs in owned if isinstance(rs, ReplicaSet) and revision_of(rs)]
        templates = {revision_of(rs): rs.template for rs in sets}
        causes = {revision_of(rs): rs.meta.annotations.get(CHANGE_CAUSE, "") for rs in sets}
    elif isinstance(obj, StatefulSet | DaemonSet):
        templates = {each.number: each.template for each in obj.revisions}
        causes = {each.number: each.cause for each in obj.revisions}
    else:
        raise KflabError(f"no history viewer has been implemented for {kind.kind}")
    head = f"{kind.prefix}/{printable(obj.meta.name)} "
    out = Writer()
    if revision:
        if revision not in templates:
            raise KflabError(f"unable to find the specified revision {revision}")
        describe_template(out, templates[revision])
        return Outcome(f"{head}with revision #{revision}\n{out.text()}\n")
    out.line(0, "REVISION", "CHANGE-CAUSE")
    for number in sorted(templates):
        out.line(0, str(number), printable(causes[number] or "<none>"))
    return Outcome(f"{head}\n{out.text()}\n")
