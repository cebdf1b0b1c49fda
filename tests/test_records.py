"""Dataclasses that compile their methods late are, from outside, those of the standard module."""

import copy
import dataclasses
import pickle
from collections.abc import Callable, Iterator
from dataclasses import field
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from kflab import records
from kflab.control.heap import Event
from kflab.manifest.objects import Key

KINDS: list[dict[str, bool]] = [
    {"frozen": True, "slots": True},
    {"frozen": True},
    {"slots": True},
    {},
    {"frozen": True, "slots": True, "eq": False},
    {"eq": False},
]


def classes(decorate: Callable[..., Any], **kind: bool) -> SimpleNamespace:
    """The same classes, made by either decorator."""

    @decorate(**kind)
    class Base:
        room: ClassVar[str] = "hall"
        name: str
        labels: dict[str, str] = field(default_factory=dict)
        size: int = 3

        @property
        def long(self) -> str:
            return self.name * self.size

    @decorate(**kind)
    class Child(Base):
        size: int = 4
        noted: tuple[str, ...] = field(default=(), compare=False)
        secret: str = field(default="s", repr=False, metadata={"why": "told nobody"})
        made: int = field(default=9, init=False)

    @decorate(**kind)
    class Own:
        """With methods of its own."""

        n: int

        def __repr__(self) -> str:
            return f"<{self.n}>"

        def __hash__(self) -> int:
            return 7

        def __post_init__(self) -> None:
            if self.n < 0:
                raise ValueError(f"n {self.n} must not be negative")

    @decorate(**kind)
    class Empty:
        pass

    return SimpleNamespace(Base=Base, Child=Child, Own=Own, Empty=Empty)


def outcome(what: Callable[[], Any]) -> Any:
    """A value, or the error in words."""
    try:
        return what()
    except Exception as error:  # any: it is compared with that of the other decorator
        return type(error).__name__, str(error).replace("tests.test_records.", "")


def uses(made: SimpleNamespace) -> Iterator[tuple[str, Callable[[], Any]]]:
    base, child, own, empty = made.Base, made.Child, made.Own, made.Empty
    yield "repr", lambda: repr(child("a", {"k": "v"}, 2, ("n",), "x"))
    yield "repr of own", lambda: repr(own(3))
    yield "repr without fields", lambda: repr(empty())
    yield "defaults", lambda: [getattr(child("a"), each.name) for each in dataclasses.fields(child)]
    yield "names", lambda: [each.name for each in dataclasses.fields(child("a"))]
    yield "metadata", lambda: [dict(each.metadata) for each in dataclasses.fields(child)]
    yield "factory", lambda: base("a").labels is base("a").labels
    yield "named", lambda: base(name="a", size=1).long
    yield "missing", lambda: base()
    yield "too many", lambda: base("a", {}, 1, 2, 3)
    yield "unknown", lambda: base("a", nmae="b")
    yield "not for __init__", lambda: child("a", made=1)
    yield "checked after", lambda: own(-1)
    yield "equal", lambda: base("a", {}, 3) == base("a")
    yield "not equal", lambda: base("a") == base("b")
    yield "left out of it", lambda: child("a", noted=("x",)) == child("a")
    yield "other class", lambda: base("a") == child("a")
    yield "other type", lambda: base("a").__eq__(3)
    yield "without fields equal", lambda: empty() == empty()
    yield "hash", lambda: (hash(own(1)), base.__hash__ is None)
    yield "hash of values", lambda: hash(base("a", ("k",))) == hash(base("a", ("k",)))
    yield "hash of what has none", lambda: hash(base("a", {}))
    yield "assign", lambda: setattr(base("a"), "name", "b")
    yield "assign what is no field", lambda: type(outcome(lambda: setattr(base("a"), "other", "b")))
    yield "delete", lambda: delattr(base("a"), "name")
    yield "replace", lambda: repr(dataclasses.replace(base("a"), size=5))
    yield "asdict", lambda: dataclasses.asdict(child("a", {"k": "v"}))
    yield "copy", lambda: repr(copy.copy(child("a", {"k": "v"}, 1)))
    yield "class variable", lambda: (base.room, base("a").room)
    yield "match", lambda: child.__match_args__
    yield "slots", lambda: (getattr(base, "__slots__", None), getattr(child, "__slots__", None))
    yield "own attributes", lambda: hasattr(base("a"), "__dict__")
    yield "is one", lambda: (dataclasses.is_dataclass(base), dataclasses.is_dataclass(base("a")))
    yield "parameters", lambda: (base.__dataclass_params__.frozen, base.__dataclass_params__.eq)
    yield "names of its class", lambda: (child.__qualname__, child.__module__, child.__init__.__qualname__)


@pytest.mark.parametrize("few", [0, 1_000_000], ids=["compiled", "not yet compiled"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_it_behaves_as_the_standard_dataclass(kind: dict[str, bool], few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "FEW", few)
    ours, theirs = classes(records.dataclass, **kind), classes(dataclasses.dataclass, **kind)
    for (what, mine), (_, standard) in zip(uses(ours), uses(theirs), strict=True):
        for _ in range(2):  # the first call compiles, the second is the method's own
            assert outcome(mine) == outcome(standard), what


def late(cls: type) -> set[str]:
    """Methods that are not compiled yet."""
    return {name for name, method in vars(cls).items() if getattr(method, "__closure__", None) and name in METHODS}


METHODS = {"__init__", "__repr__", "__eq__", "__hash__"}


def test_a_method_is_compiled_at_its_first_call_and_the_making_after_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "FEW", 2)
    made = classes(records.dataclass, frozen=True, slots=True).Base
    assert late(made) == METHODS
    assert made("a", ()) == made("a", ())
    assert late(made) == METHODS - {"__eq__"}
    equal, third = made.__eq__, made("a", ())
    assert late(made) == {"__repr__", "__hash__"}
    init = made.__init__
    assert third == made("a", ())
    assert (made.__init__, made.__eq__) == (init, equal)


def test_a_base_of_either_kind() -> None:
    ours = classes(records.dataclass, frozen=True, slots=True).Base
    theirs = classes(dataclasses.dataclass, frozen=True, slots=True).Base
    for base, decorate in ((ours, dataclasses.dataclass), (theirs, records.dataclass)):

        @decorate(frozen=True, slots=True)
        class Child(base):  # type: ignore[misc, valid-type]
            more: int = 1

        made = Child("a", more=2)
        assert (made.name, made.labels, made.size, made.more) == ("a", {}, 3, 2)
        assert hash(Child("a", ())) == hash(Child("a", ()))
        with pytest.raises(dataclasses.FrozenInstanceError):
            made.name = "b"
        with pytest.raises(TypeError, match="cannot inherit non-frozen dataclass from a frozen one"):
            decorate(type("Loose", (base,), {}))


def test_what_it_does_not_know_is_refused_when_the_class_is_made() -> None:
    with pytest.raises(TypeError, match="non-default argument 'b' follows default 'a'"):

        @records.dataclass
        class Order:
            a: int = 1
            b: int  # type: ignore[misc]

    with pytest.raises(TypeError, match=r"Named\.a is keyword-only: use the standard decorator"):

        @records.dataclass
        class Named:
            a: int = field(kw_only=True)

    with pytest.raises(TypeError, match=r"Given\.a is an InitVar: use the standard decorator"):

        @records.dataclass
        class Given:
            a: dataclasses.InitVar[int]

    with pytest.raises(ValueError, match="mutable default"):

        @records.dataclass
        class Shared:
            a: list[int] = []


def test_kflabs_own_travel_between_processes() -> None:
    key = Key("Pod", "shop", "web-0")
    again = pickle.loads(pickle.dumps(key))
    assert again == key
    assert {again: 1}[key] == 1
    assert Event() == Event()
