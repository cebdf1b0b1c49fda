"""Frozen dataclasses copied at half of the cost and less: those that a pod's life copies by the dozen.

`dataclasses.replace` asks every field what it is, collects a dict and calls `__init__`, which sets each field through
the frozen class's guard. Here the copying is written out once for each class and set of changed fields, and compiled,
as the `dataclasses` module itself does with `__init__`. The result is equal in every respect; a class with
`__post_init__` or fields without `__init__` is refused.
"""

from collections.abc import Callable
from dataclasses import Field, fields
from typing import TYPE_CHECKING, Any, TypeVar

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
            copy = _COPIES[(type(obj), *changes)] = _copier(type(obj), tuple(changes))
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


def _copier(cls: type, changed: tuple[str, ...]) -> Callable[..., Any]:
    known = fields(cls)
    _refuse(cls, known)
    names = [field.name for field in known]
    for name in changed:
        if name not in names:
            raise TypeError(f"{cls.__name__} has no field {name!r}; it has {', '.join(names)}")
    # A slot's descriptor sets it without asking the frozen class.
    slots = {f"set_{name}": getattr(cls, name).__set__ for name in names}
    lines = [f"def copy(old, {', '.join(changed)}):", " made = new(cls)"]
    lines += [f" set_{name}(made, {name if name in changed else f'old.{name}'})" for name in names]
    scope: dict[str, Any] = {"new": object.__new__, "cls": cls, **slots}
    exec("\n".join([*lines, " return made"]), scope)
    made: Callable[..., Any] = scope["copy"]
    return made
