"""The scenario's own steps: what is narrated and done at their instants."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from kflab.errors import KflabError
from kflab.lab.commands import Act, Command, Kill, SetLoad
from kflab.lab.spec import Action
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod

if TYPE_CHECKING:
    from kflab.lab.running import Lab


class Script:
    """The steps that a scenario still has before it.

    Args:
        lab: The lab that they happen in.
        actions: In any order.
    """

    def __init__(self, lab: "Lab", actions: Sequence[Action]) -> None:
        self._lab = lab
        self._actions = sorted(actions, key=lambda action: action.t_ns)
        self.narration = ""
        """What the scenario said last."""
        self.narrated_ns = 0

    @property
    def next_ns(self) -> int | None:
        """When the next step is due; None: there is none."""
        return self._actions[0].t_ns if self._actions else None

    def take_due(self, t_ns: int) -> Action | None:
        """The next step that is due until `t_ns`, which is no longer before it then."""
        return self._actions.pop(0) if self._actions and self._actions[0].t_ns <= t_ns else None

    def carry_out(self, action: Action) -> None:
        """Carry out a step of the scenario.

        Raises:
            KflabError: With the step's place, if it cannot be done.
        """
        if action.say:
            self.narration = action.say
            self.narrated_ns = self._lab.t_ns
            self._lab.say("scenario", action.say)
        command = action.command
        if isinstance(command, SetLoad) and command.factor < 0:
            return  # a narration without a deed
        failed = f"the scenario's action at {action.t_ns / 1e9:g} s failed"
        try:
            if isinstance(command, Kill) and action.pod_of is not None:
                command = replace(command, pod=self._pod_of(*action.pod_of))
            elif isinstance(command, Act) and action.pod_of is not None:
                command = replace(command, target=self._pod_of(*action.pod_of))
        except KflabError as error:
            raise KflabError(f"{failed}: {error.message}", action.place) from error
        result = self._lab.do(command)
        if not result.ok:
            raise KflabError(f"{failed}: {result.text}{self._expected(command)}", action.place)

    def _expected(self, command: Command) -> str:
        """How a pod that is not there would have been named; "" for anything else."""
        key = command.pod if isinstance(command, Kill) else command.target if isinstance(command, Act) else None
        about_pod = isinstance(command, Kill) or (key is not None and key.kind == "Pod")
        if key is None or not about_pod or self._lab.store.get(key._replace(kind="Pod")) is not None:
            return ""
        namespace = key.namespace or self._lab.spec.namespace
        return (
            f" in namespace {namespace!r}; expected NAMESPACE/POD of a pod that is there by then, or "
            "{workload: NAMESPACE/KIND/NAME, ordinal: N}"
        )

    def _pod_of(self, workload: str, ordinal: int) -> Key:
        namespace, kind, name = workload.split("/")
        owner = Key(kind, namespace, name)
        pods = [
            obj.key for obj in self._lab.store.of_kind("Pod", namespace)
            if isinstance(obj, Pod) and not obj.terminating and self._lab.workload_of(obj) == owner
        ]  # fmt: skip
        if ordinal >= len(pods):
            raise KflabError(f"{workload} has {len(pods)} pods, no ordinal {ordinal}")
        return pods[ordinal]
