"""Frozen dataclasses made and copied at half of their cost and less: those that a pod's life makes by the dozen.

`dataclasses.replace` asks every field what it is, collects a dict and calls `__init__`, which sets each field through
the frozen class's guard. Here the copying is written out once for each class and set of changed fields, and compiled,
as the `dataclasses` module itself does with `__init__`. The result is equal in every respect; a class with
`__post_init__` or fields without `__init__` is refused.
"""

from collections.abc import Callable
from dataclasses import MISSING, Field, fields
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


def quick(cls: type[T]) -> type[T]:
    """Give a frozen dataclass with slots an `__init__` that sets its slots straight, at half the cost of its own.

    Arguments, defaults and results are the same; the objects are as frozen as before.

    Raises:
        TypeError: If the class makes fields of its own.
    """
    known = fields(cls)  # type: ignore[arg-type]  # only dataclasses come here
    _refuse(cls, known)
    scope: dict[str, Any] = {"unset": MISSING}
    parameters, lines = ["self"], []
    for field in known:
        name, value = field.name, field.name
        scope[f"set_{name}"] = getattr(cls, name).__set__
        if field.default_factory is not MISSING:
            scope[f"make_{name}"] = field.default_factory
            parameters.append(f"{name}=unset")
            value = f"make_{name}() if {name} is unset else {name}"
        elif field.default is not MISSING:
            scope[f"default_{name}"] = field.default
            parameters.append(f"{name}=default_{name}")
        else:
            parameters.append(name)
        lines.append(f" set_{name}(self, {value})")
    exec("\n".join([f"def __init__({', '.join(parameters)}) -> None:", *(lines or [" pass"])]), scope)
    init = scope["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    init.__module__ = cls.__module__
    cls.__init__ = init  # type: ignore[method-assign]  # as the dataclass decorator has just done
    return cls


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
