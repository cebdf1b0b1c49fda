"""Who calls whom behind the front door, as a person writes it: a scenario's `cluster.calls`, or the file of --calls.

    default/Deployment/frontend:
      - cartservice:7070                      # a Service of the caller's namespace
      - shop/currencyservice:7000             # of another one
      - {service: adservice, port: 9555, times: 2, onFailure: ignore}

Every request that a pod of the workload serves makes these calls, one after another. `port` may be left out where the
Service has one TCP port only; `times` is 1 and `onFailure` is `fail` unless told otherwise.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kflab.errors import KflabError, Place
from kflab.lab.calls import WORKLOADS
from kflab.lab.spec import GivenCall
from kflab.manifest.objects import Key
from kflab.manifest.plain import load_plain

MOST_TIMES = 100
"""Calls of one kind that a request may make."""

MODES = ("guess", "none")

_SHORT = re.compile(r"(?:([a-z0-9][a-z0-9-]*)/)?([a-z0-9][a-z0-9-]*)(?::(\d{1,5}))?\Z")

PlaceOf = Callable[[tuple[str | int, ...]], Place]


def load_calls(path: str) -> tuple[GivenCall, ...]:
    """Read a file of calls.

    Raises:
        KflabError: With the place, if it cannot be read or is no such file.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise KflabError(f"--calls {path!r}: {error.strerror}; expected none, guess or a file of calls") from None
    except UnicodeDecodeError:
        raise KflabError("not UTF-8 text; expected a file of calls", Place(path)) from None
    return calls_of_text(text, path)


def calls_of_text(text: str, name: str) -> tuple[GivenCall, ...]:
    """Read the text of such a file; `name` is what places call it.

    Raises:
        KflabError: With the place, if it is no such text.
    """
    tree, place_of = load_plain(text, name)
    return calls_of(tree, lambda path: place_of(path) or Place(name))


def calls_of(tree: Any, place_of: PlaceOf) -> tuple[GivenCall, ...]:
    """Read the calls out of a tree; `place_of` gives the place of a path in it.

    Raises:
        KflabError: With the place, if something is not as expected.
    """
    if not isinstance(tree, dict):
        raise KflabError("expected a mapping from NAMESPACE/KIND/NAME of a workload to its calls", place_of(()))
    found = []
    for name, calls in tree.items():
        caller = _caller(str(name), place_of((name,)))
        if not isinstance(calls, list):
            raise KflabError(f"calls of {name}: expected a list such as [cart:80]", place_of((name,)))
        found += [_call(caller, call, place_of((name, i)), lambda *part, n=name, i=i: place_of((n, i, *part)))
                  for i, call in enumerate(calls)]  # fmt: skip
    return tuple(found)


def _caller(name: str, place: Place) -> Key:
    parts = name.split("/")
    if len(parts) != 3 or not all(parts) or parts[1] not in WORKLOADS:
        kinds = ", ".join(WORKLOADS)
        raise KflabError(f"{name!r} does not name a caller; expected NAMESPACE/KIND/NAME, KIND one of {kinds}", place)
    return Key(parts[1], parts[0], parts[2])


def _call(caller: Key, value: Any, place: Place, place_in: Callable[..., Place]) -> GivenCall:
    if not isinstance(value, dict):
        service, port = _service(caller, value, place)
        return GivenCall(caller, service, port, place=place)
    for key in value:
        if key not in ("service", "port", "times", "onFailure"):
            raise KflabError(
                f"unknown field {key!r} of a call; expected service, port, times, onFailure", place_in(key)
            )
    if "service" not in value:
        raise KflabError("a call needs a service", place)
    service, port = _service(caller, value["service"], place_in("service"))
    if "port" in value:
        if port:
            raise KflabError("the port is given twice", place_in("port"))
        port = _whole(value["port"], "port", 65535, place_in("port"))
    times = _whole(value.get("times", 1), "times", MOST_TIMES, place_in("times") if "times" in value else place)
    on_failure = value.get("onFailure", "fail")
    if on_failure not in ("fail", "ignore"):
        raise KflabError(f"onFailure {on_failure!r}: expected fail or ignore", place_in("onFailure"))
    return GivenCall(caller, service, port, times, on_failure == "fail", place)


def _service(caller: Key, value: Any, place: Place) -> tuple[Key, int]:
    short = _SHORT.match(str(value)) if isinstance(value, str) else None
    if short is None or int(short[3] or 1) not in range(1, 65536):
        raise KflabError(f"{value!r} does not name a Service; expected [NAMESPACE/]NAME[:PORT]", place)
    return Key("Service", short[1] or caller.namespace, short[2]), int(short[3] or 0)


def _whole(value: Any, what: str, high: int, place: Place) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= high:
        raise KflabError(f"{what} {value!r} must be a whole number from 1 to {high}", place)
    return value
