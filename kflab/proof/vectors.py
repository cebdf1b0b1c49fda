"""Run vector files through the ordinary code path: what kflab says against what the real thing does.

The kind of a file is told by its content: a JSON list of kube-proxy vectors (packet flows or rule texts), or an object
with `format: kflab-ingress-vectors`. No vector is special: an altered expectation fails.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TextIO, TypeVar

from kflab.errors import KflabError, Place
from kflab.exits import FAILED, OK
from kflab.proof.case import Case, Vector
from kflab.proof.ingress_vectors import run_ingress
from kflab.proof.kube_proxy_vectors import run_flows, run_rules
from kflab.proof.mode_vectors import ModeCase, run_flows_in, run_rules_in

T = TypeVar("T")


def read_vectors(path: Path) -> tuple[Callable[[Vector], Iterator[Case]], Sequence[Vector]]:
    """Read a file and choose how its vectors are run.

    Raises:
        KflabError: If it is no readable vector file.
    """
    place = Place(str(path))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise KflabError(f"cannot read: {error.strerror or error}", place) from error
    except (ValueError, RecursionError) as error:
        raise KflabError(f"not JSON: {error}", place) from error
    if isinstance(content, dict) and content.get("format") == "kflab-ingress-vectors":
        return run_ingress, _listed(content.get("vectors"), place)
    vectors = _listed(content, place)
    if vectors and all("flows" in vector for vector in vectors):
        return run_flows, vectors
    if vectors and all("kind" in vector and "expect" in vector for vector in vectors):
        return run_rules, vectors
    raise KflabError(
        "not a vector file kflab knows: expected kube-proxy flow or rule vectors, or ingress vectors", place
    )


def _listed(value: object, place: Place) -> Sequence[Vector]:
    if not isinstance(value, list) or not all(
        isinstance(item, dict) and isinstance(item.get("id"), str) for item in value
    ):
        raise KflabError("not a vector file: expected a list of vectors, each with an id", place)
    return value


def conform(paths: Sequence[str], out: TextIO, mode: str = "iptables") -> int:
    """Run vector files and print each failing case, then `N passed, N failed`.

    In nftables and ipvs mode each case that does not apply is printed with its reason, and the last line is
    `N passed, M not applicable, K failed`.

    Args:
        paths: Vector files.
        out: Where to print.
        mode: kube-proxy's mode.

    Returns:
        0 if all passed, 1 if any failed.

    Raises:
        KflabError: For a malformed file.
    """
    if mode != "iptables":
        return _conform_in(mode, paths, out)
    passed = failed = 0
    for name in paths:
        run, vectors = read_vectors(Path(name))
        for vector in vectors:
            for case in _cases(run, vector, name):
                if case.passed:
                    passed += 1
                    continue
                failed += 1
                out.write(f"✖ {case.name}\n    expected {case.expected}\n    found    {case.found}\n")
    out.write(f"{passed} passed, {failed} failed\n")
    return FAILED if failed else OK


def _conform_in(mode: str, paths: Sequence[str], out: TextIO) -> int:
    """The same in a mode that the vectors were not made for."""
    passed = failed = apart = 0
    sources: dict[str, str] = {}
    for name in paths:
        run, vectors = read_vectors(Path(name))
        for vector in vectors:
            for found in _cases_in(mode, run, vector, name):
                case = found.case
                if not case.passed:
                    failed += 1
                    out.write(f"✖ {case.name}\n    expected {case.expected}\n    found    {case.found}\n")
                elif found.not_applicable:
                    apart += 1
                    sources[found.not_applicable] = found.source
                    out.write(f"– {case.name}: {found.not_applicable}\n")
                else:
                    passed += 1
    if sources:
        out.write(f"not applicable in {mode} mode:\n")
        out.writelines(f"    {reason}: {source}\n" for reason, source in sources.items())
    out.write(f"{passed} passed, {apart} not applicable, {failed} failed\n")
    return FAILED if failed else OK


def _cases_in(mode: str, run: Callable[[Vector], Iterator[Case]], vector: Vector, name: str) -> Iterator[ModeCase]:
    """Run one vector in a mode; other than kube-proxy's vectors do not depend on it."""
    if run is run_flows:
        yield from _guarded(run_flows_in(mode, vector), vector, name)
    elif run is run_rules:
        yield from _guarded(run_rules_in(mode, vector), vector, name)
    else:
        for case in _cases(run, vector, name):
            yield ModeCase(case)


def _cases(run: Callable[[Vector], Iterator[Case]], vector: Vector, name: str) -> Iterator[Case]:
    """Run one vector; fields that are missing or of a wrong type make the file malformed."""
    yield from _guarded(run(vector), vector, name)


def _guarded(cases: Iterator[T], vector: Vector, name: str) -> Iterator[T]:
    try:
        yield from cases
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        what = f"missing field {error}" if isinstance(error, KeyError) else str(error)
        raise KflabError(f"vector {vector['id']!r} is malformed: {what}", Place(name)) from error
