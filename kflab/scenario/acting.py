"""Verbs as a scenario's actions and as words of the command line: reading only.

An action names its target alone (`powerOff: node-b`) or with options (`hang: {pod: default/shop-1, for: 30s}`); a pod
may be named by `workload` and `ordinal`. A line names them as words (`:hang shop-1 for=30s`).
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from kflab.control.verb import Value, Verb
from kflab.control.verbs import VERBS
from kflab.errors import KflabError, Place
from kflab.lab.commands import Act
from kflab.manifest.objects import Key

LONGEST_NS = 1 << 62
"""Longest duration: simulated time is int64 ns and must not overflow when delays are added (146 years)."""

PlaceOf = Callable[..., Place | None]

WORKLOADS = {
    "deployment": "Deployment", "deploy": "Deployment", "statefulset": "StatefulSet", "sts": "StatefulSet",
    "daemonset": "DaemonSet", "ds": "DaemonSet", "replicaset": "ReplicaSet", "rs": "ReplicaSet", "job": "Job",
}  # fmt: skip
"""kubectl's words for workloads, in lower case."""


def duration_ns(text: object, place: Place | None) -> int:
    """Read "12.4s", "500ms", "2m" or a plain number of seconds, exactly, as ns.

    Raises:
        KflabError: If it is none of these, or longer than simulated time can count.
    """
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        text = f"{text}s"
    match = re.fullmatch(r"(\d+)(?:\.(\d{1,9}))?(ns|us|ms|s|m|h)", str(text).strip())
    if not match:
        raise KflabError(f"{text!r} is not a duration; expected a form such as 12.4s, 500ms or 2m", place)
    unit = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}[match[3]]
    fraction = match[2] or ""
    length = int(match[1]) * unit + (int(fraction) * unit // 10 ** len(fraction) if fraction else 0)
    if length > LONGEST_NS:
        raise KflabError(f"the duration {text!r} is longer than simulated time can count (146 years)", place)
    return length


def workload_key(text: str, place: Place | None) -> Key:
    """Read "namespace/Kind/name".

    Raises:
        KflabError: If it is not of this form.
    """
    parts = text.split("/")
    if len(parts) != 3 or not all(parts):
        raise KflabError(f"{text!r} does not name a workload; expected namespace/Kind/name", place)
    return Key(parts[1], parts[0], parts[2])


def read_action(name: str, value: Any, place_of: PlaceOf) -> tuple[Act, tuple[str, int] | None]:
    """A verb of a scenario's action.

    Args:
        name: The verb.
        value: What stands behind it.
        place_of: Place of a field of the value.

    Returns:
        The command, and (workload, ordinal) where the pod is named so.

    Raises:
        KflabError: With the place, when it makes no sense.
    """
    verb = VERBS[name]
    fields = value if isinstance(value, dict) else {} if verb.target == "none" else {verb.target: value}
    if verb.target == "none" and value is not True and not isinstance(value, dict):
        raise KflabError(f"{name} takes true or its options, not {value!r}", place_of())
    naming = {"pod": ("pod", "workload", "ordinal"), "none": ()}.get(verb.target, (verb.target,))
    options: list[tuple[str, Value]] = []
    for field, given in fields.items():
        if field in verb.options:
            options.append((field, _option(verb, field, given, place_of(field))))
        elif field not in naming:
            expected = ", ".join((*naming, *verb.options))
            raise KflabError(f"unknown field {field!r} of {name}; expected {expected}", place_of(field))
    target, pod_of = _target(verb, fields, place_of)
    return Act(name, target, tuple(options)), pod_of


def _target(verb: Verb, fields: Mapping[str, Any], place_of: PlaceOf) -> tuple[Key | None, tuple[str, int] | None]:
    if verb.target == "none":
        return None, None
    if verb.target == "pod" and "workload" in fields:
        workload_key(str(fields["workload"]), place_of("workload"))
        ordinal = _option_value("whole", "ordinal", fields.get("ordinal", 0), place_of("ordinal"))
        return Key("Pod", "", ""), (str(fields["workload"]), int(ordinal))
    if fields.get(verb.target) in (None, ""):
        raise KflabError(f"{verb.name} needs a {verb.target}", place_of())
    return _named(verb, str(fields[verb.target]), place_of(verb.target)), None


def _named(verb: Verb, text: str, place: Place | None) -> Key:
    """A target's name as scenarios write it: namespaces may be left out but for workloads."""
    if verb.target == "workload":
        return workload_key(text, place)
    if verb.target == "node":
        return Key("Node", "", text.removeprefix("node/"))
    if verb.target == "component":
        return Key("Component", "", text)
    namespace, slash, name = text.partition("/")
    return Key(verb.target.capitalize(), namespace if slash else "", name if slash else namespace)


def _option(verb: Verb, name: str, value: Any, place: Place | None) -> Value:
    return _option_value(verb.options[name], name, value, place)


def _option_value(kind: str, name: str, value: Any, place: Place | None) -> Value:
    match kind:
        case "duration":
            return duration_ns(value, place)
        case "text":
            return str(value)
        case "truth":
            if not isinstance(value, bool):
                raise KflabError(f"{name} {value!r} must be true or false", place)
            return value
        case "whole":
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise KflabError(f"{name} {value!r} must be a whole number, 0 or more", place)
            return value
        case _:
            if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
                raise KflabError(f"{name} {value!r} must be a number", place)
            return value


def read_words(word: str, argument: str) -> Act:
    """A verb on the command line: `VERB TARGET [OPTION=VALUE …]`, the target as kubectl names it.

    Raises:
        KflabError: Saying what it takes.
    """
    verb = VERBS[word]
    words = argument.split()
    if verb.target != "none" and (not words or "=" in words[0]):
        raise KflabError(usage(verb))
    target = _typed(verb, words.pop(0)) if verb.target != "none" else None
    options = []
    for each in words:
        name, equals, text = each.partition("=")
        if not equals or name not in verb.options:
            raise KflabError(f"{each!r}: {usage(verb)}")
        options.append((name, _option(verb, name, _plain(verb.options[name], text), None)))
    return Act(verb.name, target, tuple(options))


def _typed(verb: Verb, text: str) -> Key:
    parts = text.split("/")
    if verb.target == "workload":
        if len(parts) == 2 and parts[0].lower() in WORKLOADS:
            return Key(WORKLOADS[parts[0].lower()], "", parts[1])
        return workload_key(text, None)
    if verb.target == "pod" and len(parts) == 2 and parts[0] in ("pod", "pods", "po"):
        parts = parts[1:]
    return _named(verb, text if verb.target in ("component", "node") else "/".join(parts), None)


def _plain(kind: str, text: str) -> Any:
    """A typed word as the scenario's YAML would give it."""
    if kind in ("number", "whole"):
        try:
            return int(text) if kind == "whole" else float(text)
        except ValueError:
            return text
    if kind == "truth":
        return {"true": True, "false": False}.get(text, text)
    return text


def usage(verb: Verb) -> str:
    """How a verb is typed: "hang POD [for=DURATION]"."""
    target = "" if verb.target == "none" else f" {verb.target.upper()}"
    options = "".join(f" [{name}={kind.upper()}]" for name, kind in verb.options.items())
    return f"{verb.name}{target}{options}"
