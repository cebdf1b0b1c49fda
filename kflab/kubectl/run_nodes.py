"""`kubectl cordon`, `uncordon` and `drain`.

Source: k8s.io/kubectl pkg/cmd/drain/drain.go. drain reports what it begins and does not wait for the evictions.
"""

from kflab.cluster.store import Store
from kflab.kubectl.commands import TendNode
from kflab.kubectl.env import Env
from kflab.kubectl.hostile import printable
from kflab.kubectl.lookup import ApiError, named, resource
from kflab.kubectl.outcome import Outcome
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_pods import Pod


def tend_node(command: TendNode, store: Store, env: Env) -> Outcome:
    """Run it for each node named."""
    out = err = ""
    for name in command.names:
        try:
            node = named(resource("node", store), "", name, store, env)
        except ApiError as error:
            err += f"Error from server {error.message}\n"
            continue
        assert isinstance(node, Node)
        done = "uncordoned" if command.verb == "uncordon" else "cordoned"
        already = "already " if node.unschedulable == (command.verb != "uncordon") else ""
        refused = env.act_on_node(command.verb, name, command.options)
        if refused:
            err += f"error: {printable(refused)}\n"
            continue
        out += f"node/{printable(name)} {already}{done}\n"
        if command.verb == "drain":
            out += "".join(f"evicting pod {pod}\n" for pod in _leaving(name, store))
    return Outcome(out, err, 1 if err else 0)


def _leaving(node: str, store: Store) -> list[str]:
    """Pods that a drain evicts: all but those of DaemonSets."""
    return [
        printable(f"{pod.meta.namespace}/{pod.meta.name}") for pod in store.of_kind("Pod")
        if isinstance(pod, Pod) and pod.spec.node_name == node
        and not (pod.meta.owner is not None and pod.meta.owner.kind == "DaemonSet")
    ]  # fmt: skip
