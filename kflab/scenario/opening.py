"""From what a user names on the command line to something that runs: a scenario, a file, a folder, standard input."""

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kflab.control.lbprofiles import PROFILES
from kflab.control.profiles import PROFILES as SPEEDS
from kflab.errors import KflabError, did_you_mean
from kflab.lab.handle import Tab
from kflab.lab.spec import LabSpec
from kflab.manifest.sources import read_paths
from kflab.scenario.calls_file import MODES, load_calls
from kflab.scenario.cluster_fields import MOST_NODES, MOST_RPS, NAMESPACE
from kflab.scenario.format import FORMAT, Scenario, load, load_text
from kflab.scenario.library import bundled

PLAIN_DURATION_NS = 60_000_000_000
"""How long plain manifests are replayed unless told otherwise."""


def open_what(
    what: Sequence[str],
    *,
    recursive: bool = False,
    namespace: str = "",
    nodes: int = 0,
    seed: int | None = None,
    rate_rps: float | None = None,
    url: str = "",
    cold: bool = False,
    load_balancer: str = "",
    calls: str = "",
    profile: str = "",
    traffic_mode: str = "",
) -> Scenario:
    """Open a bundled scenario by name, a scenario file, or any manifests as `kubectl apply -f` would.

    Args:
        what: Names as given; one name, or several files and folders.
        recursive: Also read folders below a given folder.
        namespace: Of objects that name none; "": the scenario's, or default.
        nodes: Make this many Nodes; 0: the scenario's word.
        seed: Instead of the scenario's.
        rate_rps: Requests per second from outside, instead of the scenario's.
        url: Send traffic from outside to this URL only.
        cold: Start from nothing instead of a settled cluster.
        traffic_mode: One of `spec.TRAFFIC_MODES`; "": the scenario's.
        profile: How fast the cluster is; "": the scenario's, or `small`.
        calls: "none", "guess" or a file of calls (see `calls_file`); "": the scenario's word, or guess.
        load_balancer: Name of the profile of Services' load balancers; "": the scenario's, or what manifests tell.

    Raises:
        KflabError: If nothing of that name can be read, or an option is out of its bounds.
    """
    if nodes < 0 or nodes > MOST_NODES:
        raise KflabError(f"--nodes {nodes} must be from 0 to {MOST_NODES}")
    if rate_rps is not None and not 0 <= rate_rps <= MOST_RPS:
        raise KflabError(f"--rate {rate_rps:g} must be from 0 to {MOST_RPS} requests per second")
    if seed is not None and not 0 <= seed < 2**64:
        raise KflabError(f"--seed {seed} must be a whole number from 0 to 2**64 - 1")
    if namespace and not NAMESPACE.fullmatch(namespace):
        raise KflabError(f"-n {namespace!r} is not a namespace: lower case letters, digits and '-', at most 63")
    if profile and profile not in SPEEDS:
        raise KflabError(f"--profile {profile!r}: expected one of {', '.join(SPEEDS)}")
    if load_balancer and load_balancer not in PROFILES:
        raise KflabError(f"--load-balancer {load_balancer!r}: expected one of {', '.join(PROFILES)}")
    scenario = _scenario(what)
    if scenario is None:
        sources = read_paths(list(what), recursive=recursive, stdin=sys.stdin)
        if list(what) == ["-"] and re.search(rf"^kflab: {FORMAT}\s*$", sources[0].text[:4096], re.M):
            scenario = load_text(sources[0].text, "<stdin>")
    if scenario is None:
        tabs = tuple(Tab(source.name, source.text, str(source.path) if source.path else None) for source in sources)
        name = "stdin" if what[0] == "-" else Path(what[0]).resolve().stem
        spec = LabSpec(name=name, tabs=tabs, duration_ns=None, part_of=_scenario_beside(what))
        scenario = Scenario(spec, name, "", PLAIN_DURATION_NS, ())
    spec = replace(
        scenario.spec,
        seed=scenario.spec.seed if seed is None else seed,
        nodes=nodes or scenario.spec.nodes,
        namespace=namespace or scenario.spec.namespace,
        cold=cold or scenario.spec.cold,
        profile=profile or scenario.spec.profile,
        traffic_mode=traffic_mode or scenario.spec.traffic_mode,
        load_balancer=load_balancer or scenario.spec.load_balancer,
    )
    if calls in MODES:
        spec = replace(spec, calls=calls, given_calls=())
    elif calls:
        spec = replace(spec, calls="given", given_calls=load_calls(calls))
    if url:
        spec = replace(spec, url=url, clients=())
    if rate_rps is not None:
        clients = tuple(replace(client, rate_rps=rate_rps / len(spec.clients)) for client in spec.clients)
        spec = replace(spec, rate_rps=rate_rps, clients=clients)
    return replace(scenario, spec=spec)


def _scenario_beside(what: Sequence[str]) -> str:
    """The scenario file with a folder's name beside it, if that uses the folder's files."""
    folder = Path(what[0])
    if len(what) != 1 or not folder.is_dir():
        return ""
    for suffix in (".yaml", ".yml"):
        path = folder.with_name(f"{folder.name}{suffix}")
        if folder.name and path.is_file():
            with path.open("rb") as file:
                head = file.read(65536)
            if f"kflab: {FORMAT}".encode() in head and f"{folder.name}/".encode() in head:
                return str(path)
    return ""


def _scenario(what: Sequence[str]) -> Scenario | None:
    """The scenario named, or None when manifests are meant."""
    if len(what) != 1:
        return None
    name = what[0]
    if name == "-":
        return None
    path = Path(name)
    if path.is_file() and path.suffix in (".yaml", ".yml"):
        with path.open("rb") as file:
            if f"kflab: {FORMAT}".encode() in file.read(4096):
                return load(name if "/" in name else f"./{name}")
        return None
    if not path.exists() and "/" not in name:
        if name in bundled():
            return load(name)
        hint = did_you_mean(name, bundled()) or "; `kflab scenarios` lists what is built in"
        raise KflabError(f"no file, folder or scenario named {name!r}{hint}")
    return None
