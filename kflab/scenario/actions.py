"""A scenario's `actions`: what happens when, as commands of the lab."""

from collections.abc import Callable
from typing import Any

from kflab.control.verbs import VERBS
from kflab.errors import KflabError, Place
from kflab.lab.commands import Apply, Command, Kill, KillRandom, Scale, SetLoad, SetMode, Start, Stop
from kflab.lab.spec import Action
from kflab.manifest.objects import Key
from kflab.manifest.typed import PROXY_MODES
from kflab.scenario.acting import duration_ns, read_action, workload_key
from kflab.scenario.fields import Field, PlaceOf, items, number, whole

_VERBS = {
    "crash", "delete", "forceDelete", "crashRandom", "stop", "start", "scale", "load", "mode", "apply", "narrate",
    *VERBS,
}  # fmt: skip


def actions_of(field: Field | None) -> tuple[Action, ...]:
    """Read the list, in its order.

    Raises:
        KflabError: With the place, for an action that is none.
    """
    made = []
    for index, entry in enumerate(items(field)):
        assert field is not None
        within = field.place_in

        def place_of(*path: str, index: int = index, within: PlaceOf = within) -> Place:
            return within((index, *path))

        made.append(_action(entry, place_of))
    return tuple(made)


def _action(entry: Any, place_of: Callable[..., Place]) -> Action:
    place = place_of()
    if not isinstance(entry, dict) or "at" not in entry:
        raise KflabError("an action needs `at`", place)
    extra = sorted(set(entry) - _VERBS - {"at", "say"})
    if extra:
        raise KflabError(
            f"unknown field {extra[0]!r} of an action; expected {', '.join(sorted(_VERBS))}", place_of(extra[0])
        )
    named = [verb for verb in _VERBS if verb in entry]
    if len(named) > 1:
        raise KflabError(f"an action does one thing, not {' and '.join(sorted(named))}", place)
    t_ns = duration_ns(entry["at"], place_of("at"))
    say = str(entry.get("say", ""))
    if not named or named[0] == "narrate":
        return Action(t_ns, SetLoad(-1.0), str(entry.get("narrate", say)), place=place)
    value, place = entry[named[0]], place_of(named[0])
    pod_of = None
    command: Command
    if named[0] in VERBS:
        command, pod_of = read_action(named[0], value, lambda *path: place_of(named[0], *path))
        return Action(t_ns, command, say, pod_of, place)
    match named[0]:
        case "crash" | "delete" | "forceDelete":
            pod, pod_of = _pod_target(value, place)
            command = Kill(pod, {"crash": "crash", "delete": "delete", "forceDelete": "force"}[named[0]])
        case "crashRandom":
            command = KillRandom()
        case "stop":
            command = Stop(str(value))
        case "start":
            command = Start(str(value))
        case "load":
            command = SetLoad(number(value, "load", place, 0, 1000))
        case "mode":
            if value not in PROXY_MODES:
                raise KflabError(f"mode {value!r}: expected one of {', '.join(PROXY_MODES)}", place)
            command = SetMode(value)
        case "apply":
            if not isinstance(value, list) or not all(
                isinstance(tab, dict) and set(tab) == {"name", "text"} for tab in value
            ):
                raise KflabError("apply needs a list of texts, each with name and text", place)
            command = Apply(tuple((str(tab["name"]), str(tab["text"])) for tab in value))
        case _:
            if not isinstance(value, dict) or not {"workload", "replicas"} <= set(value):
                raise KflabError("scale needs workload and replicas", place)
            command = Scale(workload_key(str(value["workload"]), place), _replicas(value["replicas"], place))
    return Action(t_ns, command, say, pod_of, place)


def _pod_target(value: Any, place: Place) -> tuple[Key, tuple[str, int] | None]:
    if isinstance(value, dict) and "workload" in value:
        workload_key(str(value["workload"]), place)
        return Key("Pod", "", ""), (
            str(value["workload"]),
            whole(value.get("ordinal", 0), "ordinal", place, 0, 1_000_000),
        )
    if isinstance(value, dict) and "pod" in value:
        value = value["pod"]
    namespace, slash, name = str(value).partition("/")
    if not slash:
        namespace, name = "default", namespace
    return Key("Pod", namespace, name), None


def _replicas(value: Any, place: Place) -> int:
    return whole(value, "replicas", place, 0, 1_000_000)
