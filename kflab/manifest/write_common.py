"""What the writers of all kinds share."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from kflab.manifest.objects import Condition, Key, Labels, LabelSelector
from kflab.records import dataclass

Tree = dict[str, Any]

Start = datetime | None


class Whole(dict[str, Any]):
    """A map that replaces the one in the raw tree instead of being merged into it."""


@dataclass(frozen=True, slots=True)
class IfAbsent:
    """Typed in part only (literal variables, the seconds of a sleep): written just where the raw tree has nothing."""

    value: Any


def written(t_ns: int | None, start: Start) -> str | None:
    """A simulated time as RFC 3339, whole seconds as the API server keeps; None without a start."""
    if t_ns is None or start is None:
        return None
    return (start + timedelta(microseconds=t_ns // 1000)).strftime("%Y-%m-%dT%H:%M:%SZ")


def some(**fields: Any) -> Tree:
    """The fields that say something (false and 0 do, None and "" and empty collections do not)."""
    return {
        name: value
        for name, value in fields.items()
        if value is not None and value != "" and value != [] and value != {}
    }


def whole(labels: Labels) -> Whole | None:
    """A map that replaces the one in the raw tree; None for an empty one."""
    return Whole(labels) if labels else None


def selector_tree(selector: LabelSelector) -> Tree:
    """A label selector."""
    expressions = [some(key=e.key, operator=e.operator, values=list(e.values)) for e in selector.match_expressions]
    return some(matchLabels=whole(selector.match_labels), matchExpressions=expressions)


def observed_tree(observed: Mapping[str, int]) -> Tree:
    """Counts of a status; what is 0 is left out."""
    return {name: value for name, value in observed.items() if value}


def condition_tree(condition: Condition, start: Start) -> Tree:
    """One of status.conditions."""
    return some(
        lastTransitionTime=written(condition.since_ns, start),
        lastUpdateTime=written(condition.updated_ns, start),
        message=condition.message,
        reason=condition.reason,
        status=condition.status,
        type=condition.type,
    )


def reference_tree(target: Key | None) -> Tree | None:
    """An object's targetRef."""
    return some(kind=target.kind, name=target.name, namespace=target.namespace) if target else None
