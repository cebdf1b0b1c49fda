"""`kubectl port-forward`, its list and its end, and what a request to a forwarded port meets."""

from kflab.cluster.store import Store
from kflab.errors import KflabError
from kflab.kubectl.commands import PortForward, StopForward
from kflab.kubectl.curl import CurlAnswer
from kflab.kubectl.env import Env
from kflab.kubectl.hostile import printable
from kflab.kubectl.lookup import kubelet_refusal, pods_behind
from kflab.kubectl.outcome import Outcome
from kflab.kubectl.portforward import Forward, remote_port
from kflab.manifest.objects_network import Service
from kflab.manifest.objects_pods import Pod


def port_forward(command: PortForward, store: Store, env: Env) -> Outcome:
    """Begin forwarding; the lab keeps it until the pod is gone or it is stopped.

    Raises:
        KflabError: In kubectl's words, if there is no such pod or port, or the pod does not run.
    """
    if command.target is None:
        active = env.forwards.active()
        lines = [f"127.0.0.1:{forward.local} -> {forward.pod}:{forward.port}\n" for forward in active]
        return Outcome("".join(lines) or "No port is forwarded.\n")
    obj, pods = pods_behind(command.target, command.namespace or env.namespace, store, env)
    if not pods:
        raise KflabError(f"timed out waiting for the condition: no pod behind {printable(str(obj.key))}")
    pod = pods[0]
    if pod.status.phase != "Running":
        raise KflabError(f"unable to forward port because pod is not running. Current status={pod.status.phase}")
    refusal = kubelet_refusal(pod, f"portForward/{pod.meta.namespace}/{pod.meta.name}", store, env)
    if refusal:
        return Outcome("", refusal, 1)
    service = obj if isinstance(obj, Service) else None
    out = ""
    for local, remote in command.ports:
        port = remote_port(pod, service, remote)
        wanted = env.forwards.free_port() if local is None else local
        env.forwards.add(Forward(wanted, pod.key, port, pod.meta.uid))
        out += f"Forwarding from 127.0.0.1:{wanted} -> {port}\nForwarding from [::1]:{wanted} -> {port}\n"
    return Outcome(out)


def stop_forward(command: StopForward, env: Env) -> Outcome:
    """End one forward, as ctrl+c does.

    Raises:
        KflabError: If the port is not forwarded.
    """
    forward = env.forwards.drop(command.local)
    if forward is None:
        raise KflabError(f"port {command.local} is not forwarded")
    return Outcome(f"Stopped forwarding 127.0.0.1:{forward.local} -> {forward.pod}:{forward.port}\n")


def reach(local: int, store: Store, env: Env) -> Forward | CurlAnswer | Outcome:
    """What a connection to a local port meets.

    Returns:
        The forward, when it can carry the request; a refusal, when nothing listens on the port; or what port-forward
        prints as it loses its pod, API server or kubelet (the connection is accepted, then closed).
    """
    forward = env.forwards.get(local)
    if forward is None:
        return CurlAnswer("refused")
    pod = store.get(forward.pod)
    if not isinstance(pod, Pod) or pod.meta.uid != forward.uid or not env.running("apiserver"):
        env.forwards.drop(local)
        return Outcome("", f"Handling connection for {local}\nerror: lost connection to pod\n", 1)
    if kubelet_refusal(pod, "", store, env):
        return Outcome("", f"Handling connection for {local}\nerror: lost connection to pod\n", 1)
    return forward
