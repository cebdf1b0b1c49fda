"""Carrying out commands: each at the lab's present instant, recorded, and told to whoever follows what happens."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kflab.control.facts import Fact
from kflab.control.verbs import VERBS
from kflab.errors import KflabError
from kflab.lab import applying
from kflab.lab.applying import Tree
from kflab.lab.commands import (
    Act,
    Apply,
    Command,
    Kill,
    KillRandom,
    Result,
    Run,
    Save,
    Scale,
    SetLoad,
    SetMode,
    Start,
    Stop,
)
from kflab.lab.session import place_of
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod

if TYPE_CHECKING:
    from kflab.lab.running import Lab


class Obeying:
    """Does what a command says, on one lab."""

    def __init__(self, lab: "Lab") -> None:
        self._lab = lab
        self._random_kills = 0
        self._left: dict[Key, Tree] = {}
        """Last-applied of documents that left the text: kubectl keeps it on the live object."""

    def do(self, command: Command) -> Result:
        """Carry out a command now. Bad ones are answered, not raised."""
        try:
            return self._do(command)
        except KflabError as error:
            return Result(False, str(error))

    def _do(self, command: Command) -> Result:
        match command:
            case Kill(pod, how):
                return self._kill(pod, how)
            case KillRandom():
                return self._kill_random()
            case Stop(component) | Start(component):
                return self._switch(component, isinstance(command, Stop))
            case Scale(workload, replicas):
                what = f"{workload.name} was scaled to {replicas}"
                self._carry_out(command, "scale", workload, what, lambda: self._lab.plane.scale(workload, replicas))
                return Result(True, f"{workload.kind.lower()}.apps/{workload.name} scaled")
            case Apply(texts):
                return self._apply(texts)
            case SetLoad(factor):
                return self._set_load(factor)
            case SetMode(mode):
                return self._set_mode(command, mode)
            case Act():
                return self._act(command)
            case Save(name):
                return self._lab.journal.save(name, self._lab)
            case Run(line):
                return self._lab.terminal.run(line)
            case _:
                raise KflabError(f"{type(command).__name__} is for the player, not for the lab")

    def _carry_out(
        self,
        command: Command,
        kind: str,
        subject: Key | None,
        what: str,
        work: Callable[[], Sequence[Fact]],
        kubelet: str = "",
    ) -> None:
        """Do something, and only then record that it was done: what is refused leaves no trace."""
        revision, pod_of = self._lab.store.revision, place_of(self._lab, command)
        facts = work()
        self._lab.begin(kind, subject, what, kubelet, revision)
        self._lab.journal.add(self._lab.t_ns, command, pod_of)
        self._lab.hear(facts)

    def _act(self, command: Act) -> Result:
        """A verb, on a target that is looked up in the lab's own namespace where none is named."""
        verb = VERBS.get(command.verb)
        if verb is None:
            raise KflabError(f"no verb {command.verb!r}; there are {', '.join(VERBS)}")
        key = command.target or Key("", "", "")
        if verb.target in ("pod", "workload", "service") and not key.namespace:
            key = key._replace(namespace=self._lab.spec.namespace)
        store = self._lab.store
        if verb.target in ("pod", "node", "workload", "service") and store.get(key) is None:
            return Result(False, f'Error from server (NotFound): {key.kind.lower()}s "{key.name}" not found')
        known = Act(command.verb, key if verb.target != "none" else None, command.options)
        pod = store.get(key) if verb.notices else None
        node = pod.spec.node_name if isinstance(pod, Pod) else ""
        said = verb.said.format(name=key.name)
        plane, options = self._lab.plane, dict(command.options)
        subject = self._component_key(key.name) if verb.target == "component" else key
        subject = subject if verb.target != "none" else None
        self._carry_out(known, verb.name, subject, said, lambda: verb.do(plane, key, options), node)
        return Result(True, said)

    def _kill(self, key: Key, how: str) -> Result:
        if not key.namespace:
            key = key._replace(namespace=self._lab.spec.namespace)
        pod = self._lab.store.get(key)
        if not isinstance(pod, Pod):
            return Result(False, f'Error from server (NotFound): pods "{key.name}" not found')
        word = {"crash": "crashed", "delete": "was deleted", "force": "was force-deleted"}[how]
        plane = self._lab.plane

        def end() -> Sequence[Fact]:
            return plane.crash(key) if how == "crash" else plane.delete_pod(key, 0 if how == "force" else None)

        self._carry_out(Kill(key, how), how, key, f"{key.name} {word}", end, pod.spec.node_name)
        if how == "crash":
            return Result(True, f"{key.name}: container exited with 137")
        return Result(True, f'pod "{key.name}" {"force " if how == "force" else ""}deleted')

    def _kill_random(self) -> Result:
        """Crash a ready application pod: an endpoint of a Service, outside kube-system, no ingress controller."""
        endpoints = {
            endpoint.target for obj in self._lab.store.of_kind("EndpointSlice")
            for endpoint in getattr(obj, "endpoints", ()) if endpoint.target and endpoint.ready is not False
        }  # fmt: skip
        pods = [
            obj.key for obj in self._lab.store.of_kind("Pod")
            if isinstance(obj, Pod) and obj.status.ready and not obj.terminating and obj.key in endpoints
            and obj.meta.namespace != "kube-system" and not self._lab.controllers.is_pod(obj.key)
        ]  # fmt: skip
        if not pods:
            return Result(False, "no ready application pod to crash")
        chosen = pods[self._lab.draws.control_between("random-kill", "lab", self._random_kills, 0, len(pods))]
        self._random_kills += 1
        return self._kill(chosen, "crash")

    def _switch(self, component: str, stop: bool) -> Result:
        word = "stopped" if stop else "started"
        plane = self._lab.plane
        command, kind = (Stop(component), "stop") if stop else (Start(component), "start")
        work = plane.stop if stop else plane.start
        what = f"{component} was {word}"
        self._carry_out(command, kind, self._component_key(component), what, lambda: work(component))
        return Result(True, f"{component} {word}")

    @staticmethod
    def _component_key(component: str) -> Key | None:
        _, slash, node = component.partition("/")
        return Key("Node", "", node) if slash else None

    def _set_load(self, factor: float) -> Result:
        if not 0 <= factor <= 1000:
            return Result(False, f"load factor {factor:g} must be from 0 to 1000")
        self._lab.journal.add(self._lab.t_ns, SetLoad(factor))
        self._lab.load_factor = factor
        for wired in self._lab.wiring.wired:
            self._lab.wiring.set_rate(wired, wired.entry.rate_rps * factor, self._lab.t_ns)
        return Result(True, f"load ×{factor:g}")

    def _set_mode(self, command: Command, mode: str) -> Result:
        """A new mode in kube-proxy's configuration, and its DaemonSet restarted."""
        from kflab.lab import mode_switch

        lab = self._lab
        made = mode_switch.configuration(lab, mode)
        before = len(lab.plane.proxies.configs) - 1
        what = f"kube-proxy's mode was set to {mode}"
        self._carry_out(command, "mode", made.key, what, lambda: lab.plane.apply((made,)))
        return Result(True, mode_switch.answer(lab, before))

    def _apply(self, texts: tuple[tuple[str, str], ...]) -> Result:
        from kflab.lab import mode_switch

        if not self._lab.running("apiserver"):
            host = "the connection to the server kflab was refused - did you specify the right host or port?"
            return Result(False, host)
        unknown = [name for name, _ in texts if name not in {tab.name for tab in self._lab.tabs}]
        if unknown:
            there = ", ".join(tab.name for tab in self._lab.tabs)
            return Result(False, f"no text named {unknown[0]!r}; there are {there}")
        tabs = applying.with_texts(self._lab.tabs, texts)
        # The live object keeps kubectl's last-applied annotation when its document leaves the text.
        known = {**self._left, **self._lab.last_applied}
        prepared = applying.prepare(tabs, self._lab.spec.namespace, self._lab.store, known, self._lab.last_applied)
        if prepared.refused:
            first = prepared.refused[0]
            more = f" (and {len(prepared.refused) - 1} more)" if len(prepared.refused) > 1 else ""
            return Result(False, f"{first.message}{more}; nothing was applied", prepared.refused)
        before = len(self._lab.plane.proxies.configs) - 1
        restarts = mode_switch.changed_configs(self._lab, prepared.objects)
        if prepared.objects:
            names = ", ".join(str(obj.key) for obj in prepared.objects[:3])
            more = f" and {len(prepared.objects) - 3} more" if len(prepared.objects) > 3 else ""
            what, objects = f"{names}{more} was applied", prepared.objects
            kind = "mode" if restarts else "apply"
            self._carry_out(Apply(texts), kind, objects[0].key, what, lambda: self._lab.plane.apply(objects))
        else:
            self._lab.journal.add(self._lab.t_ns, Apply(texts))
        self._lab.tabs = tabs
        self._left = {key: tree for key, tree in known.items() if key not in prepared.applied}
        self._lab.last_applied = prepared.applied
        text = f"{prepared.configured} configured, {prepared.created} created, {prepared.unchanged} unchanged"
        if prepared.removed:
            gone = ", ".join(str(key) for key in prepared.removed)
            text += f"; {gone} left the text and stays in the cluster (apply deletes nothing)"
        if len(self._lab.plane.proxies.configs) - 1 > before:
            text += f". {mode_switch.summary(self._lab, before)}"
        return Result(True, text)
