"""`kubectl scale` and `kubectl delete pod`.

Source: k8s.io/kubectl pkg/cmd/scale/scale.go, pkg/cmd/delete/delete.go.
"""

from kflab.cluster.store import Store
from kflab.errors import KflabError
from kflab.kubectl.commands import DeletePods, ScaleTo
from kflab.kubectl.env import Env
from kflab.kubectl.hostile import printable
from kflab.kubectl.kinds import PODS
from kflab.kubectl.lookup import ApiError, listed, matching, named, resource
from kflab.kubectl.outcome import Outcome
from kflab.manifest.objects_workloads import Deployment, ReplicaSet, StatefulSet

FORCE_WARNING = (
    "Warning: Immediate deletion does not wait for confirmation that the running resource has been terminated. "
    "The resource may continue to run on the cluster indefinitely.\n"
)


def scale(command: ScaleTo, store: Store, env: Env) -> Outcome:
    """Run `kubectl scale`.

    Raises:
        KflabError: For a kind that cannot be scaled.
    """
    namespace = command.namespace or env.namespace
    out = err = ""
    for target in command.targets:
        kind = resource(target.resource, store)
        try:
            obj = named(kind, namespace, target.name, store, env)
        except ApiError as error:
            err += f"Error from server {error.message}\n"
            continue
        if not isinstance(obj, Deployment | ReplicaSet | StatefulSet):
            raise KflabError(f"could not find the scale subresource of {kind.qualified}: only workloads can be scaled")
        if command.current is not None and command.current != obj.replicas:
            err += f"error: Expected replicas to be {command.current}, was {obj.replicas}\n"
            continue
        refused = env.scale(obj.key, command.replicas)
        if refused:
            err += f"Error from server: {printable(refused)}\n"
        else:
            out += f"{kind.prefix}/{printable(obj.meta.name)} scaled\n"
    return Outcome(out, err, 1 if err else 0)


def delete_pods(command: DeletePods, store: Store, env: Env) -> Outcome:
    """Run `kubectl delete pod`; it does not wait, so that the screen shows the pod terminating."""
    namespace = command.namespace or env.namespace
    names = [target.name for target in command.targets]
    if command.selector:
        names = [obj.meta.name for obj in matching(listed(PODS, namespace, store, env), command.selector)]
        if not names:
            return Outcome("No resources found\n")
    out, err = "", FORCE_WARNING if command.force else ""
    code = 0
    for name in names:
        try:
            pod = named(PODS, namespace, name, store, env)
        except ApiError as error:
            err += f"Error from server {error.message}\n"
            code = 1
            continue
        refused = env.kill(pod.key, "force" if command.force else "delete")
        if refused:
            err += f"Error from server: {printable(refused)}\n"
            code = 1
        else:
            out += f'pod "{printable(name)}" {"force deleted" if command.force else "deleted"}\n'
    return Outcome(out, err, code)
