"""What was done since the start, written as a scenario whose replay tells the same story."""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kflab.control.verbs import VERBS
from kflab.dataplane.cni import BRIDGE
from kflab.errors import KflabError
from kflab.lab.commands import Act, Apply, Command, Kill, Result, Scale, SetLoad, SetMode, Start, Stop
from kflab.lab.patience import patience_tree, seconds_text
from kflab.lab.spec import FLOWS, KERNEL, ROUTED, Action, LabSpec
from kflab.manifest.write import tree_to_yaml

if TYPE_CHECKING:
    from kflab.lab.running import Lab


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that it is the old one or the new one, never half of either.

    Raises:
        KflabError: If it cannot be written; the old file is untouched.
    """
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, path.stat().st_mode & 0o777 if path.exists() else 0o644)
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise KflabError(f"cannot write {path}: {error.strerror}") from None


class Journal:
    """The commands that changed the lab, with their instants."""

    def __init__(self, spec: LabSpec) -> None:
        self._spec = spec
        self.actions: list[Action] = []

    def add(self, t_ns: int, command: Command, pod_of: tuple[str, int] | None = None) -> None:
        """Record a command that was carried out; `pod_of` as in `Action`."""
        self.actions.append(Action(t_ns, command, pod_of=pod_of))

    def as_tree(self, duration_ns: int) -> dict[str, Any]:
        """The scenario as plain data, in the order the format is documented in."""
        spec = self._spec
        manifests: dict[str, list[dict[str, str]]] = {}
        for tab in spec.tabs:
            manifests.setdefault(tab.role, []).append({"name": tab.name, "text": tab.text})
        tree: dict[str, Any] = {
            "kflab": "scenario/v1",
            "title": f"{spec.title or spec.name}, as saved",
            "seed": spec.seed,
            "duration": seconds_text(duration_ns),
            "manifests": manifests,
        }
        pins = {
            "podIPs": {key: list(ips) for key, ips in spec.pins.pod_ips.items()},
            "loadBalancerIPs": dict(spec.pins.load_balancer_ips),
            "publicNames": dict(spec.pins.public_names),
        }
        cluster = {
            "pins": {key: value for key, value in pins.items() if value},
            "delays": dict(spec.delays),
            "nodes": spec.nodes,
            "namespace": spec.namespace if spec.namespace != "default" else "",
            "cold": spec.cold,
            "profile": spec.profile,
            "loadBalancer": spec.load_balancer,
            "calls": _calls(spec) if spec.calls != "guess" else "",
            "conntrack": {
                name: value
                for name, value in (("max", spec.conntrack_max), ("buckets", spec.conntrack_buckets))
                if value
            },
            "podNetwork": spec.pod_network if spec.pod_network != ROUTED else "",
            "cni": spec.cni if spec.cni != BRIDGE.name else "",
            "kernel": "{}.{}".format(*spec.kernel) if spec.kernel != KERNEL else "",
        }
        tree["cluster"] = {key: value for key, value in cluster.items() if value}
        tree["timing"] = dict(spec.timing)
        tree["traffic"] = {"rate": spec.rate_rps, "url": spec.url} if not spec.clients else {}
        if spec.traffic_mode != FLOWS:
            tree["traffic"]["mode"] = spec.traffic_mode
        tree["clients"] = [_client(client) for client in spec.clients]
        tree["actions"] = [_action(action) for action in self.actions]
        return {key: value for key, value in tree.items() if value or key in ("seed",)}

    def save(self, name: str, lab: "Lab") -> Result:
        """Write the scenario file; a bare name becomes ./NAME.yaml."""
        if not name.strip():
            return Result(False, "save needs a name")
        path = Path(name if name.endswith((".yaml", ".yml")) else f"{name}.yaml")
        if path.exists() and not path.read_bytes()[:64].startswith(b"kflab: scenario/"):
            return Result(False, f"{path} exists and is no scenario; choose another name")
        write_atomically(path, tree_to_yaml(self.as_tree(lab.t_ns), sort_keys=False))
        return Result(True, f"{path} written: {len(self.actions)} actions in {lab.t_ns / 1e9:.1f} s")


def _calls(spec: LabSpec) -> Any:
    """Who calls whom, as the scenario format reads it back."""
    if spec.calls != "given":
        return spec.calls
    tree: dict[str, list[dict[str, Any]]] = {}
    for call in spec.given_calls:
        entry: dict[str, Any] = {"service": f"{call.service.namespace}/{call.service.name}"}
        entry |= {"port": call.port} if call.port else {}
        entry |= {"times": call.times} if call.times != 1 else {}
        entry |= {} if call.fatal else {"onFailure": "ignore"}
        tree.setdefault(f"{call.caller.namespace}/{call.caller.kind}/{call.caller.name}", []).append(entry)
    return tree


def _client(client: Any) -> dict[str, Any]:
    tree = {"name": client.name, "address": client.address, "url": client.url, "rate": client.rate_rps}
    if client.method != "GET":
        tree["method"] = client.method
    if client.from_pod:
        tree["from"] = client.from_pod
    if client.client_port:
        tree["clientPort"] = client.client_port
    if client.one_way:
        tree["oneWay"] = True
    if client.connections:
        tree["connections"] = client.connections
    if client.connection_age_ns:
        tree["connectionAge"] = seconds_text(client.connection_age_ns)
    tree |= patience_tree(client)
    if client.sockets:
        tree["sockets"] = client.sockets
    if client.lookups:
        tree["lookups"] = True
    if client.lost_per_million:
        tree["packetLoss"] = client.lost_per_million / 1_000_000
    if client.first_client_port is not None:
        tree["firstRequest"] = {"clientPort": client.first_client_port, "upstreamPort": client.first_upstream_port}
    return tree


def _action(action: Action) -> dict[str, Any]:
    tree: dict[str, Any] = {"at": seconds_text(action.t_ns)}
    match action.command:
        case Kill(pod, how):
            verb = {"crash": "crash", "delete": "delete", "force": "forceDelete"}[how]
            tree[verb] = {"pod": f"{pod.namespace}/{pod.name}"}
        case Stop(component):
            tree["stop"] = component
        case Start(component):
            tree["start"] = component
        case Scale(workload, replicas):
            tree["scale"] = {"workload": f"{workload.namespace}/{workload.kind}/{workload.name}", "replicas": replicas}
        case SetLoad(factor):
            tree["load"] = factor
        case SetMode(mode):
            tree["mode"] = mode
        case Apply(texts):
            tree["apply"] = [{"name": name, "text": text} for name, text in texts]
        case Act():
            tree[action.command.verb] = _act(action.command)
        case other:
            raise KflabError(f"{type(other).__name__} cannot be saved")
    return tree


def _act(command: Act) -> Any:
    """A verb's target and options, as the scenario format reads them back."""
    verb = VERBS[command.verb]
    options = {
        name: seconds_text(int(value)) if verb.options[name] == "duration" else value
        for name, value in command.options
    }  # fmt: skip
    key = command.target
    if key is None:
        return options or True
    name = "/".join(part for part in (key.namespace, key.kind if verb.target == "workload" else "", key.name) if part)
    return {verb.target: name, **options} if options else name
