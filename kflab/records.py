"""Dataclasses that cost the start of the program little: each method is compiled when it is first called.

`dataclasses.dataclass` compiles six methods for every frozen class while its module is imported: half a millisecond
each time, and kflab has more than five hundred of them, of which a run calls few. Here a method is compiled at its
first call, `__init__` when some objects have been made without, and then stands in the class like any other. A frozen
class with slots sets them straight, past its own guard, which halves the cost of making an object.

Fields, defaults and results are those of the standard module; its `field`, `fields`, `replace`, `asdict` and
`is_dataclass` work as ever, and either kind may be the base of the other. `eq`, `frozen` and `slots` are known;
whoever needs `order`, keyword-only fields or `InitVar` takes the standard decorator.

Source: Python's Lib/dataclasses.py (`_process_class`, `_hash_action`, `_add_slots`).
"""

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, InitVar
from reprlib import recursive_repr
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass  # the checker knows what it makes
else:

    def dataclass(cls: type | None = None, /, *, eq: bool = True, frozen: bool = False, slots: bool = False) -> Any:
        """Make a class a dataclass.

        Raises:
            TypeError: If a field without default follows one with a default, a frozen class inherits from one that
                is not, or the other way round, or a field is keyword-only or an `InitVar`.
            ValueError: If a default is mutable.
        """
        if cls is None:
            return lambda plain: _made(plain, eq, frozen, slots)
        return _made(cls, eq, frozen, slots)


def _made(cls: Any, eq: bool, frozen: bool, slots: bool) -> type:
    """The class with fields and methods; with slots it is a new one."""
    known = _inherited(cls, frozen)
    own = _own_fields(cls)
    known.update(own)
    for name, field in own.items():
        if isinstance(cls.__dict__.get(name), Field):
            if field.default is MISSING:
                delattr(cls, name)
            else:
                setattr(cls, name, field.default)
    cls.__dataclass_fields__ = known
    cls.__dataclass_params__ = _params(eq, frozen)
    fields = dataclasses.fields(cls)
    _refuse(cls, fields)
    if "__match_args__" not in cls.__dict__:
        cls.__match_args__ = tuple(field.name for field in fields if field.init)  # type: ignore[misc]
    made = _with_slots(cls, [field.name for field in fields]) if slots else cls
    _give_methods(made, eq, frozen, slots)
    return made


def _own_fields(cls: type) -> "dict[str, Field[Any]]":
    """Fields (and class variables) that the class itself annotates, as the standard module reads them.

    It reads them off a class with nothing but them, for which it need not compile anything.
    """
    annotations = _annotations(cls)
    values = {name: value for name, value in vars(cls).items() if name in annotations or isinstance(value, Field)}
    scope = {"__annotations__": annotations, "__doc__": cls.__name__, "__module__": cls.__module__, **values}
    bare: Any = type(cls.__name__, (), scope)
    dataclasses.dataclass(init=False, repr=False, eq=False, match_args=False)(bare)
    fields: dict[str, Field[Any]] = bare.__dataclass_fields__
    return fields


def _annotations(cls: type) -> dict[str, Any]:
    if sys.version_info >= (3, 14):  # they may name what only a type checker knows
        from annotationlib import Format, get_annotations

        return get_annotations(cls, format=Format.FORWARDREF)
    return cls.__annotations__


def _inherited(cls: type, frozen: bool) -> "dict[str, Field[Any]]":
    """Fields of the bases, the furthest first."""
    known: dict[str, Field[Any]] = {}
    frozen_bases = []
    for base in cls.__mro__[:0:-1]:
        fields = getattr(base, "__dataclass_fields__", None)
        if fields is not None:
            known.update(fields)
            frozen_bases.append(base.__dataclass_params__.frozen)  # type: ignore[attr-defined]
    if frozen_bases and any(frozen_bases) is not frozen:
        words = ("frozen", "a non-frozen") if frozen else ("non-frozen", "a frozen")
        raise TypeError(f"{cls.__name__}: cannot inherit {words[0]} dataclass from {words[1]} one")
    return known


_PARAMS: dict[tuple[bool, bool], Any] = {}
"""(eq, frozen) → what the standard module notes about such a class."""


def _params(eq: bool, frozen: bool) -> Any:
    if (eq, frozen) not in _PARAMS:
        like: Any = dataclasses.dataclass(init=False, repr=False, eq=False)(type("Like", (), {"__doc__": "Like"}))
        params = _PARAMS[eq, frozen] = like.__dataclass_params__
        params.init, params.repr, params.eq, params.frozen = True, True, eq, frozen
    return _PARAMS[eq, frozen]


def _refuse(cls: type, fields: "tuple[Field[Any], ...]") -> None:
    """Raise what the standard module raises when it writes `__init__`, and for what is not known here."""
    after = ""
    for field in fields:
        if field.kw_only:
            raise TypeError(f"{cls.__name__}.{field.name} is keyword-only: use the standard decorator")
        if field.init:
            if field.default is not MISSING or field.default_factory is not MISSING:
                after = field.name
            elif after:
                raise TypeError(f"{cls.__name__}: non-default argument {field.name!r} follows default {after!r}")
    for field in cls.__dataclass_fields__.values():  # type: ignore[attr-defined]
        if isinstance(field.type, InitVar):
            raise TypeError(f"{cls.__name__}.{field.name} is an InitVar: use the standard decorator")


def _with_slots(cls: type, names: list[str]) -> type:
    """The same class with a slot for each field that no base has a slot for."""
    if "__slots__" in cls.__dict__:
        raise TypeError(f"{cls.__name__} already specifies __slots__")
    had = {name for base in cls.__mro__[1:] for name in base.__dict__.get("__slots__", ())}
    scope = {name: value for name, value in cls.__dict__.items() if name not in ("__dict__", "__weakref__", *names)}
    scope["__slots__"] = tuple(name for name in names if name not in had)
    made = type(cls)(cls.__name__, cls.__bases__, scope)
    made.__qualname__ = cls.__qualname__
    return made


# --- methods --------------------------------------------------------------------------------------------------


def _give_methods(cls: Any, eq: bool, frozen: bool, slots: bool) -> None:
    own = cls.__dict__
    hashes = "__hash__" in own and not (own["__hash__"] is None and "__eq__" in own)
    if "__init__" not in own:
        cls.__init__ = _first_inits(cls)
    late = {"__repr__": _repr}
    if eq:
        late["__eq__"] = _eq
        if frozen and not hashes:
            late["__hash__"] = _hash
    for name, write in late.items():
        if name not in own or name == "__hash__":
            setattr(cls, name, _late(cls, name, write))
    if eq and not frozen and not hashes:
        cls.__hash__ = None  # equality by value of what may change: no key of a dict
    if frozen:
        for name, guard in zip(("__setattr__", "__delattr__"), _guards(cls), strict=True):
            if name in own:
                raise TypeError(f"cannot overwrite attribute {name} in class {cls.__name__}")
            setattr(cls, name, guard)
        if slots:  # copy and pickle would meet the guard
            for name, method in (("__getstate__", _getstate), ("__setstate__", _setstate)):
                if name not in own:
                    setattr(cls, name, method)


def _late(cls: type, name: str, write: Callable[[type], Callable[..., Any]]) -> Callable[..., Any]:
    """A method that writes the real one into its class when it is first called, and calls it."""

    def first(*args: Any, **named: Any) -> Any:
        return _settled(cls, name, write)(*args, **named)

    first.__name__, first.__qualname__ = name, f"{cls.__qualname__}.{name}"
    return first


def _settled(cls: type, name: str, write: Callable[[type], Callable[..., Any]]) -> Callable[..., Any]:
    """Write a method and put it into its class."""
    real = write(cls)
    real.__qualname__ = f"{cls.__qualname__}.{name}"
    real.__module__ = cls.__module__
    setattr(cls, name, real)
    return real


FEW = 16
"""Objects of a class that are made before its `__init__` is compiled: that costs as much as making thirty without."""


def _first_inits(cls: type) -> Callable[..., None]:
    """An `__init__` that fills the first objects field by field, then compiles the real one.

    Arguments that do not fit are left to the real one, which says what is wrong.
    """
    left = FEW
    fill: Callable[[Any, tuple[Any, ...], dict[str, Any]], bool] | None = None

    def __init__(self: Any, *args: Any, **named: Any) -> None:  # its name in a traceback
        nonlocal left, fill
        left -= 1
        fill = fill or _filler(cls)
        if left < 0 or not fill(self, args, named):
            _settled(cls, "__init__", _init)(self, *args, **named)
        elif hasattr(cls, "__post_init__"):
            self.__post_init__()

    __init__.__qualname__ = f"{cls.__qualname__}.__init__"
    return __init__


def _filler(cls: type) -> Callable[[Any, tuple[Any, ...], dict[str, Any]], bool]:
    """What sets the fields of one object; False when the arguments do not fit."""
    fields = dataclasses.fields(cls)
    names = [field.name for field in fields if field.init]
    allowed = set(names)
    plan = [(field, getattr(cls, field.name, None)) for field in fields]
    put = object.__setattr__ if cls.__dataclass_params__.frozen else setattr  # type: ignore[attr-defined]

    def fill(self: Any, args: tuple[Any, ...], named: dict[str, Any]) -> bool:
        given = dict(zip(names, args, strict=False))
        given.update(named)
        if len(args) > len(names) or len(given) < len(args) + len(named) or not given.keys() <= allowed:
            return False
        for field, slot in plan:
            name = field.name
            if name in given:
                value = given[name]
            elif field.default_factory is not MISSING:
                value = field.default_factory()
            elif field.default is not MISSING:
                value = field.default
            elif field.init:
                return False
            else:  # left to `__post_init__`
                continue
            if isinstance(slot, MemberDescriptorType):
                slot.__set__(self, value)
            elif name in given or field.init or field.default is MISSING:
                put(self, name, value)
        return True

    return fill


def _init(cls: type) -> Callable[..., Any]:
    frozen = cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
    scope: dict[str, Any] = {"__unset": MISSING, "__set": object.__setattr__}
    parameters, lines = ["self"], []
    for field in dataclasses.fields(cls):
        name, value = field.name, field.name
        slot: Any = getattr(cls, name, None)
        is_slot = isinstance(slot, MemberDescriptorType)
        if field.default_factory is not MISSING:
            scope[f"__make_{name}"] = field.default_factory
            value = f"__make_{name}()"
            if field.init:
                parameters.append(f"{name}=__unset")
                value += f" if {name} is __unset else {name}"
        elif field.default is not MISSING:
            scope[f"__default_{name}"] = field.default
            if field.init:
                parameters.append(f"{name}=__default_{name}")
            elif is_slot:  # a class without slots has the value already
                value = f"__default_{name}"
            else:
                continue
        elif field.init:
            parameters.append(name)
        else:  # left to `__post_init__`
            continue
        if frozen and is_slot:
            scope[f"__set_{name}"] = slot.__set__
            lines.append(f"__set_{name}(self, {value})")
        else:
            lines.append(f"__set(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
    if hasattr(cls, "__post_init__"):
        lines.append("self.__post_init__()")
    return _compiled(cls, f"__init__({', '.join(parameters)})", lines or ["pass"], scope)


def _repr(cls: type) -> Callable[..., Any]:
    shown = ", ".join(f"{field.name}={{self.{field.name}!r}}" for field in dataclasses.fields(cls) if field.repr)
    text = f'return self.__class__.__qualname__ + f"({shown})"'
    return recursive_repr()(_compiled(cls, "__repr__(self)", [text], {}))


def unguarded(cls: type) -> type:
    """A class with the same bases and slots that may be set: an object is filled as one of it, then told its class.

    Setting attributes of such an object is a third of the work of calling each slot's descriptor.
    """
    free = {"__setattr__": object.__setattr__, "__delattr__": object.__delattr__}
    return type(cls)(f"{cls.__name__}Unguarded", cls.__bases__, {"__slots__": cls.__dict__["__slots__"], **free})


def _eq(cls: type) -> Callable[..., Any]:
    names = [field.name for field in dataclasses.fields(cls) if field.compare]
    ours, theirs = _tuple("self", names), _tuple("other", names)
    lines = ["if other.__class__ is self.__class__:", f" return {ours} == {theirs}", "return NotImplemented"]
    return _compiled(cls, "__eq__(self, other)", lines, {})


def _hash(cls: type) -> Callable[..., Any]:
    fields = dataclasses.fields(cls)
    names = [field.name for field in fields if (field.compare if field.hash is None else field.hash)]
    return _compiled(cls, "__hash__(self)", [f"return hash({_tuple('self', names)})"], {})


def _tuple(of: str, names: list[str]) -> str:
    return f"({''.join(f'{of}.{name},' for name in names)})"


def _compiled(cls: type, head: str, lines: list[str], scope: dict[str, Any]) -> Callable[..., Any]:
    text = "\n".join([f"def {head}:", *(f" {line}" for line in lines)])
    exec(compile(text, f"<{cls.__module__}.{cls.__qualname__}>", "exec"), scope)
    method: Callable[..., Any] = scope[head.partition("(")[0]]
    return method


def _guards(cls: Any) -> tuple[Callable[..., None], Callable[..., None]]:
    names = frozenset(field.name for field in dataclasses.fields(cls))

    def __setattr__(self: Any, name: str, value: Any) -> None:  # its name in a traceback
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        super(cls, self).__setattr__(name, value)

    def __delattr__(self: Any, name: str) -> None:
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot delete field {name!r}")
        super(cls, self).__delattr__(name)

    return __setattr__, __delattr__


def _getstate(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _setstate(self: Any, state: list[Any]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)
