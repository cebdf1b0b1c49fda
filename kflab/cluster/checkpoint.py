"""Copies of running state: what a checkpoint is made of.

State is plain containers, `Mutable` objects and immutable values. Only the first two are copied; frozen objects
(Kubernetes objects, events, facts) are shared, which is what makes a checkpoint cheap.
"""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

T = TypeVar("T")


class Mutable:
    """Base of every object whose attributes change while the lab runs."""

    __slots__ = ()


def clone(value: T, memo: dict[int, Any] | None = None) -> T:
    """Copy running state; whatever refers to one object twice still does in the copy.

    Args:
        value: A `Mutable`, list, dict or set (copied through), or anything else (shared: it must be immutable).
        memo: Copies made so far by id; entries put in beforehand replace objects.
    """
    result: T = _clone(value, {} if memo is None else memo)
    return result


def _clone(value: Any, memo: dict[int, Any]) -> Any:
    how = _HOW.get(type(value))
    if how is None:
        how = _HOW[type(value)] = _clone_object if isinstance(value, Mutable) else _share
    return how(value, memo)


def _share(value: Any, memo: dict[int, Any]) -> Any:
    return memo.get(id(value), value)


def _clone_list(value: list[Any], memo: dict[int, Any]) -> list[Any]:
    if id(value) not in memo:
        copy: list[Any] = []
        memo[id(value)] = copy
        copy.extend(_clone(item, memo) for item in value)
    found: list[Any] = memo[id(value)]
    return found


def _clone_dict(value: dict[Any, Any], memo: dict[int, Any]) -> dict[Any, Any]:
    if id(value) not in memo:
        copy: dict[Any, Any] = {}
        memo[id(value)] = copy
        for key, item in value.items():
            copy[key] = _clone(item, memo)
    found: dict[Any, Any] = memo[id(value)]
    return found


def _clone_set(value: set[Any], memo: dict[int, Any]) -> set[Any]:
    if id(value) not in memo:
        memo[id(value)] = set(value)
    found: set[Any] = memo[id(value)]
    return found


def _clone_object(value: Mutable, memo: dict[int, Any]) -> Any:
    if id(value) in memo:
        return memo[id(value)]
    copy = object.__new__(type(value))
    memo[id(value)] = copy
    names = [f.name for f in fields(value)] if is_dataclass(value) else list(vars(value))
    for name in names:
        try:
            own = object.__getattribute__(value, name)
        except AttributeError:  # it is made when it is first asked for
            continue
        setattr(copy, name, _clone(own, memo))
    return copy


_HOW: dict[type, Callable[[Any, dict[int, Any]], Any]] = {
    list: _clone_list,
    dict: _clone_dict,
    set: _clone_set,
}
