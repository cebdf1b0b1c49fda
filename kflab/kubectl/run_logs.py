"""`kubectl logs`.

Source: k8s.io/kubectl pkg/cmd/logs/logs.go, pkg/polymorphichelpers/logsforobject.go (which pod of a workload, which
container by default, the lines on standard error).
"""

from kflab.cluster.store import Store
from kflab.errors import KflabError
from kflab.kubectl.commands import Logs
from kflab.kubectl.env import Env
from kflab.kubectl.hostile import printable
from kflab.kubectl.kinds import PODS
from kflab.kubectl.logs import log_lines
from kflab.kubectl.lookup import is_ingress_controller, kubelet_refusal, listed, matching, pods_behind
from kflab.kubectl.outcome import Outcome
from kflab.manifest.objects_pods import Pod

SELECTOR_TAIL = 10
"""Lines per pod with -l unless --tail says otherwise (logs.go)."""


def logs(command: Logs, store: Store, env: Env) -> Outcome:
    """Run `kubectl logs`.

    Raises:
        KflabError: In kubectl's words, for a missing pod or container.
    """
    namespace = command.namespace or env.namespace
    err = ""
    tail = command.tail
    if command.target is None:
        found = matching(listed(PODS, namespace, store, env), command.selector)
        pods = [pod for pod in found if isinstance(pod, Pod)]
        tail = SELECTOR_TAIL if tail is None else tail
        if not pods:
            return Outcome("", f"No resources found in {printable(namespace)} namespace.\n")
    else:
        obj, pods = pods_behind(command.target, namespace, store, env)
        if not pods:
            raise KflabError(f"timed out waiting for the condition: no pod behind {printable(str(obj.key))}")
        if len(pods) > 1:
            err += f"Found {len(pods)} pods, using pod/{printable(pods[0].meta.name)}\n"
        pods = pods[:1]
    out = ""
    code = 0
    for pod in pods:
        name, note = _container(pod, command.container)
        err += note
        path = f"containerLogs/{pod.meta.namespace}/{pod.meta.name}/{name}"
        refusal = kubelet_refusal(pod, path, store, env) or _not_started(pod, name, command.previous)
        if refusal:
            err += refusal
            code = 1
            continue
        if command.previous:
            err += "the lab keeps no output of a container before its restart\n"
            continue
        lines = log_lines(
            env.access_log(pod.key),
            ingress=is_ingress_controller(pod),
            now_ns=env.now_ns,
            since_ns=command.since_ns,
            tail=tail,
        )
        lead = f"[pod/{pod.meta.name}/{name}] " if command.prefix else ""
        out += "".join(f"{printable(lead)}{line}\n" for line in lines)
    if command.follow:
        err += "(-f shows what there is; the trace pane follows)\n"
    return Outcome(out, err, code)


def _container(pod: Pod, wanted: str) -> tuple[str, str]:
    """Name of the container to show, and what kubectl says about having chosen it."""
    names = [container.name for container in pod.spec.containers]
    init = [container.name for container in pod.spec.init_containers]
    if wanted:
        if wanted not in (*names, *init):
            raise KflabError(f"container {printable(wanted)} is not valid for pod {printable(pod.meta.name)}")
        return wanted, ""
    default = pod.meta.annotations.get("kubectl.kubernetes.io/default-container", "")
    if default in names:
        return default, ""
    if not names:
        raise KflabError(f"pod {printable(pod.meta.name)} has no containers")
    if len(names) + len(init) > 1:
        everything = ", ".join([*names, *(f"{name} (init)" for name in init)])
        return names[0], printable(f'Defaulted container "{names[0]}" out of: {everything}') + "\n"
    return names[0], ""


def _not_started(pod: Pod, name: str, previous: bool) -> str:
    """The kubelet's refusal for a container without output; "" if it has some."""
    state = next((state for state in pod.status.containers if state.name == name), None)
    where = f'container "{name}" in pod "{pod.meta.name}"'
    if not pod.spec.node_name:
        return printable(f"Error from server (BadRequest): pod {pod.meta.name} does not have a host assigned") + "\n"
    if previous and (state is None or not state.restarts):
        text = f'previous terminated container "{name}" in pod "{pod.meta.name}" not found'
        return printable(f"Error from server (BadRequest): {text}") + "\n"
    if not previous and state is not None and state.state == "waiting" and not state.restarts:
        return printable(f"Error from server (BadRequest): {where} is waiting to start: {state.reason}") + "\n"
    return ""
