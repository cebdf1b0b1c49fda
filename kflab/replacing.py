"""Frozen dataclasses copied at half of the cost and less: those that a pod's life copies by the dozen.

`dataclasses.replace` asks every field what it is, collects a dict and calls `__init__`, which sets each field through
the frozen class's guard. Here the copying is written out for each class and set of changed fields that come often, and
compiled, as the `dataclasses` module itself does with `__init__`. The result is equal in every respect; a class with
`__post_init__` or fields without `__init__` is refused.
"""

from collections.abc import Callable
from dataclasses import Field, fields
from typing import TYPE_CHECKING, Any, TypeVar

from kflab.records import unguarded

T = TypeVar("T")

if TYPE_CHECKING:
    from dataclasses import replace as replace  # the checker knows its fields
else:

    def replace(obj: Any, /, **changes: Any) -> Any:
        """Copy a dataclass instance with some fields changed.

        Raises:
            TypeError: If the class cannot be copied field by field or has no field of a given name.
        """
        copy = _COPIES.get((type(obj), *changes))
        if copy is None:
            copy = _COPIES[(type(obj), *changes)] = _first_copies(type(obj), tuple(changes))
        return copy(obj, *changes.values())


def copier(cls: type[T], *names: str) -> Callable[..., T]:
    """How to copy objects of one class with always the same fields changed: for places that thousands of pods pass.

    Args:
        cls: A dataclass with slots.
        names: The fields; their new values follow the object, in this order.

    Raises:
        TypeError: As `replace`.
    """
    return _copier(cls, names)


_COPIES: dict[tuple[Any, ...], Callable[..., Any]] = {}
"""(class, names of changed fields …) → how to copy."""


def _refuse(cls: type, known: tuple[Field[Any], ...]) -> None:
    if hasattr(cls, "__post_init__") or not all(field.init and not field.kw_only for field in known):
        raise TypeError(f"{cls.__name__} makes fields of its own: use the dataclasses module")


FEW = 8
"""Copies of one kind that are made slot by slot before their making is compiled, which costs as much as fifty."""


def _first_copies(cls: type, changed: tuple[str, ...]) -> Callable[..., Any]:
    """What makes the first copies, and then compiles what makes the others."""
    slots = _slots(cls, changed)
    left = FEW

    def copy(old: Any, *values: Any) -> Any:
        nonlocal left
        left -= 1
        if not left:
            _COPIES[(cls, *changed)] = _copier(cls, changed)
        new = dict(zip(changed, values, strict=True))
        made: Any = object.__new__(cls)
        for name, slot in slots.items():
            slot.__set__(made, new[name] if name in new else slot.__get__(old))
        return made

    return copy


def _slots(cls: type, changed: tuple[str, ...]) -> dict[str, Any]:
    """Each field's slot: its descriptor sets it without asking the frozen class."""
    known = fields(cls)
    _refuse(cls, known)
    slots = {field.name: getattr(cls, field.name) for field in known}
    for name in changed:
        if name not in slots:
            raise TypeError(f"{cls.__name__} has no field {name!r}; it has {', '.join(slots)}")
    return slots


def _copier(cls: type, changed: tuple[str, ...]) -> Callable[..., Any]:
    lines = [f"def copy(old, {', '.join(changed)}):", " made = new(free)"]
    lines += [f" made.{name} = {name if name in changed else f'old.{name}'}" for name in _slots(cls, changed)]
    scope: dict[str, Any] = {"new": object.__new__, "free": unguarded(cls), "cls": cls}
    exec("\n".join([*lines, " made.__class__ = cls", " return made"]), scope)
    made: Callable[..., Any] = scope["copy"]
    return made
