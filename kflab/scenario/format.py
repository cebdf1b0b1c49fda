"""The saved-scenario format, version 1: a YAML file → `LabSpec`, expectations and a duration.

A scenario may extend another; `manifests` lists and `expect`, `actions` replace those of the base, `cluster` and
scalars merge over it. Paths are relative to the file that names them. Each field that has fields of its own is read
beside this file: `cluster_fields`, `clients`, `actions`, `expectations`.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kflab.control.lbprofiles import PROFILES as LB_PROFILES
from kflab.control.profiles import PROFILES
from kflab.dataplane.cni import BRIDGE, CNI_PROFILES
from kflab.errors import KflabError, Place
from kflab.lab.handle import Tab
from kflab.lab.spec import FLOWS, POD_NETWORKS, ROUTED, TRAFFIC_MODES, LabSpec
from kflab.manifest.plain import load_plain
from kflab.records import dataclass
from kflab.scenario.acting import duration_ns
from kflab.scenario.actions import actions_of
from kflab.scenario.clients import clients_of
from kflab.scenario.cluster_fields import (
    MOST_NODES,
    MOST_RPS,
    calls_of_field,
    conntrack_of,
    delays_of,
    kernel_of,
    namespace_of,
    pins_of,
    timing_of,
)
from kflab.scenario.expectations import Expectation, expectations_of
from kflab.scenario.fields import Field, items, number, one_of, truth, whole
from kflab.scenario.library import Origin, find

FORMAT = "scenario/v1"

_FIELDS = (
    "title", "summary", "source", "seed", "duration", "manifests", "cluster", "clients", "actions", "expect", "timing",
    "traffic",
)  # fmt: skip
_PARTS = {
    "manifests": ("documents", "additions", "patches"),
    "cluster": (
        "pins", "delays", "nodes", "namespace", "cold", "profile", "loadBalancer", "conntrack", "calls", "kernel",
        "podNetwork", "cni",
    ),
    "traffic": ("rate", "url", "mode"),
}  # fmt: skip
"""Fields of the fields that merge over the base's; `timing` has those of the engine's Timing."""

_DEPTH = 8
"""How long a chain of `extends` may be."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario ready to run."""

    spec: LabSpec
    title: str
    summary: str
    duration_ns: int
    expectations: tuple[Expectation, ...]
    source: str = ""
    """Where the story is told by others: an issue, a post-mortem, a document."""


def load(name: str) -> Scenario:
    """Read a bundled scenario by name, or a file by path.

    Raises:
        KflabError: With the place, when the file is not a scenario of this version.
    """
    origin = find(name)
    return _build(origin, _read(origin, 0))


def load_text(text: str, name: str) -> Scenario:
    """Read a scenario from a text; relative names in it are looked up in the working folder."""
    origin = Origin(name, "stdin" if name == "<stdin>" else name, text, Path())
    return _build(origin, _read(origin, 0))


def _read(origin: Origin, depth: int) -> dict[str, Field]:
    if depth > _DEPTH:
        raise KflabError(f"scenarios extend each other more than {_DEPTH} deep", Place(origin.name))
    tree, place_of = load_plain(origin.text, origin.name)
    if not isinstance(tree, dict) or tree.get("kflab") != FORMAT:
        raise KflabError(f"not a scenario: expected `kflab: {FORMAT}`", Place(origin.name))
    fields: dict[str, Field] = {}
    if "extends" in tree:
        fields.update(_read(find(str(tree["extends"]), origin), depth + 1))
    for key, value in tree.items():
        if key in ("kflab", "extends"):
            continue
        if key not in _FIELDS:
            raise KflabError(f"unknown field {key!r}; expected one of {', '.join(_FIELDS)}", place_of((key,)))
        if key == "timing" or key in _PARTS:
            if not isinstance(value, dict):
                raise KflabError(f"{key} must be a mapping", place_of((key,)))
            for part, inner in value.items():
                fields[f"{key}.{part}"] = _field(inner, (key, part), place_of, origin)
        else:
            fields[key] = _field(value, (key,), place_of, origin)
    return fields


def _field(value: Any, path: tuple[str | int, ...], place_of: Callable[..., Place | None], origin: Origin) -> Field:
    def place_in(inner: tuple[str | int, ...]) -> Place:
        return place_of((*path, *inner)) or Place(origin.name)

    return Field(value, place_in(()), origin, place_in)


def _build(origin: Origin, fields: Mapping[str, Field]) -> Scenario:
    def get(key: str, default: Any) -> Any:
        return fields[key].value if key in fields else default

    def place(key: str) -> Place:
        return fields[key].place if key in fields else Place(origin.name)

    for key, field in fields.items():
        room, _, part = key.partition(".")
        if room in _PARTS and part not in _PARTS[room]:
            raise KflabError(f"unknown field {part!r} in {room}; expected {', '.join(_PARTS[room])}", field.place)
    tabs = _told_apart([tab for role in _PARTS["manifests"] for tab in _tabs(role, fields.get(f"manifests.{role}"))])
    if not any(tab.role == "documents" for tab in tabs):
        raise KflabError("the scenario has no manifests.documents", Place(origin.name))
    seed = get("seed", 7)
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**64:
        raise KflabError(f"seed {seed!r} must be a whole number from 0 to 2**64 - 1", place("seed"))
    spec = LabSpec(
        name=origin.short,
        title=str(get("title", origin.short)),
        tabs=tuple(tabs),
        seed=seed,
        pins=pins_of(get("cluster.pins", {}), place("cluster.pins")),
        delays=delays_of(fields.get("cluster.delays")),
        timing=timing_of(fields),
        clients=clients_of(fields.get("clients")),
        rate_rps=number(get("traffic.rate", 100.0), "rate", place("traffic.rate"), 0, MOST_RPS),
        url=str(get("traffic.url", "")),
        **conntrack_of(get("cluster.conntrack", {}), place("cluster.conntrack")),
        traffic_mode=one_of(get("traffic.mode", FLOWS), TRAFFIC_MODES, "traffic.mode", place("traffic.mode")),
        kernel=kernel_of(get("cluster.kernel", "6.1"), place("cluster.kernel")),
        pod_network=one_of(get("cluster.podNetwork", ROUTED), POD_NETWORKS, "podNetwork", place("cluster.podNetwork")),
        cni=one_of(get("cluster.cni", BRIDGE.name), CNI_PROFILES, "cni", place("cluster.cni")),
        nodes=whole(get("cluster.nodes", 0), "nodes", place("cluster.nodes"), 0, MOST_NODES),
        namespace=namespace_of(get("cluster.namespace", "default"), place("cluster.namespace")),
        cold=truth(get("cluster.cold", False), "cold", place("cluster.cold")),
        profile=one_of(get("cluster.profile", ""), PROFILES, "profile", place("cluster.profile"), none=""),
        load_balancer=one_of(
            get("cluster.loadBalancer", ""), LB_PROFILES, "loadBalancer", place("cluster.loadBalancer"), none=""
        ),
        **calls_of_field(fields.get("cluster.calls")),
        actions=actions_of(fields.get("actions")),
    )
    duration = duration_ns(get("duration", "60s"), place("duration"))
    return Scenario(
        spec=replace(spec, duration_ns=duration),
        title=spec.title,
        summary=str(get("summary", "")),
        source=str(get("source", "")),
        duration_ns=duration,
        expectations=expectations_of(fields.get("expect"), spec.clients),
    )


def _tabs(role: str, field: Field | None) -> list[Tab]:
    tabs = []
    for entry in items(field):
        assert field is not None
        if isinstance(entry, dict) and set(entry) == {"name", "text"}:  # a saved scenario carries its texts
            tabs.append(Tab(str(entry["name"]), str(entry["text"]), None, role))
            continue
        for name in field.origin.files(str(entry), field.place):
            found = field.origin.relative(name, field.place)
            tabs.append(_FromFile(name, found.text, str(found.path) if found.path else None, role))
    return tabs


class _FromFile(Tab):
    """A tab still named by the path that the scenario gives."""


def _told_apart(tabs: list[Tab]) -> list[Tab]:
    """Name files by their last part, or by their whole path where two would have the same name."""
    short = Counter(Path(tab.name).name if isinstance(tab, _FromFile) else tab.name for tab in tabs)
    named = []
    for tab in tabs:
        last = Path(tab.name).name
        name = last if isinstance(tab, _FromFile) and short[last] == 1 else tab.name
        named.append(Tab(name, tab.text, tab.path, tab.role))
    return named
