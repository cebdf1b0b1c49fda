"""Completions of a half-typed line."""

from collections.abc import Iterable
from itertools import pairwise

from kflab.cluster.store import Store
from kflab.kubectl.commands import TOOLS
from kflab.kubectl.kinds import find, names
from kflab.kubectl.parse import COMMANDS, ROLLOUTS
from kflab.kubectl.parse_filters import FILTERS

LIMIT = 50
"""Most completions offered."""

_OPTIONS = {
    "get": ("-n", "-A", "-l", "-o", "--show-labels"),
    "describe": ("-n", "-A", "-l"),
    "logs": ("-n", "-l", "--tail", "--since"),
    "scale": ("-n", "--replicas"),
    "delete": ("-n", "-l", "--force"),
    "drain": ("--ignore-daemonsets", "--force", "--grace-period"),
    "port-forward": ("-n",),
    "curl": ("--from", "-v", "-i", "-H", "-X"),
    "iptables-save": ("--node", "-t"),
    "nft": ("--node",),
    "ipvsadm": ("-Sn", "--node"),
    "ipset": ("--node",),
    "conntrack": ("--node", "-L", "-C", "-p", "-s", "-d", "--sport", "--dport", "--state", "-n"),
}


def completions(line: str, store: Store, namespace: str = "default") -> tuple[str, ...]:
    """Whole lines that complete what was typed, in order of their names.

    Args:
        line: What stands before the cursor.
        store: Names come from here.
        namespace: Where to look without -n.

    Returns:
        Full replacements of `line`, so that each begins with it; () where nothing is known.
    """
    before, _, stage = line.rpartition("|")
    lead = f"{before}|" if before else ""
    words = stage.split()
    typing = "" if not stage or stage[-1].isspace() else words.pop()
    head = lead + (stage[: len(stage) - len(typing)] if typing else stage)
    if before:
        found: Iterable[str] = () if words else FILTERS
    else:
        found = _candidates(words, typing, store, namespace)
    return tuple(head + word for word in sorted(set(found)) if word.startswith(typing) and word != typing)[:LIMIT]


def _candidates(words: list[str], typing: str, store: Store, namespace: str) -> Iterable[str]:
    if words[:1] in (["kubectl"], ["k"]):
        words = words[1:]
    elif not words:
        return (*COMMANDS, "kubectl")
    if not words:
        return COMMANDS
    verb, given = words[0], words[1:]
    if given and given[-1] in ("-n", "--namespace"):
        return [key.name for key in store.keys("Namespace")]
    if given and given[-1] in ("-o", "--output"):
        return ("wide", "yaml", "json", "name")
    if given and given[-1] == "--node":
        return [key.name for key in store.keys("Node")]
    if typing.startswith("-"):
        return _OPTIONS.get(verb, ())
    for option, value in pairwise(given):
        if option in ("-n", "--namespace"):
            namespace = value
    if given and given[-1] == "--from":
        return [f"{key.namespace}/{key.name}" for key in store.keys("Pod")] + ["client"]
    plain = _plain(given)
    if verb in ("get", "describe") or (verb == "delete" and plain):
        return _objects(plain, typing, store, namespace)
    if verb == "delete":
        return ("pod",)
    if verb in ("logs", "port-forward", "exec"):
        return () if plain else _pods_and_workloads(store, namespace, prefixed=verb == "port-forward")
    if verb == "scale":
        workloads = [obj for kind in ("Deployment", "StatefulSet") for obj in store.of_kind(kind, namespace)]
        return [f"{obj.kind.lower()}/{obj.meta.name}" for obj in workloads] if not plain else ("--replicas=",)
    if verb in ("nft", "ipvsadm", "ipset"):
        return () if given else [tool.partition(" ")[2] for tool in TOOLS if tool.startswith(f"{verb} ")]
    if verb in ("cordon", "uncordon", "drain"):
        return [key.name for key in store.keys("Node")]
    if verb == "rollout":
        return [f"deployment/{obj.meta.name}" for obj in store.of_kind("Deployment", namespace)] if plain else ROLLOUTS
    return ()


def _plain(given: list[str]) -> list[str]:
    """Words that are neither options nor their values."""
    valued = {"-n", "--namespace", "-l", "-o", "--tail", "--since", "-c", "--replicas"}
    return [
        word
        for previous, word in zip(["", *given], given, strict=False)
        if not word.startswith("-") and previous not in valued
    ]


def _objects(plain: list[str], typing: str, store: Store, namespace: str) -> Iterable[str]:
    if not plain and "/" not in typing:
        return names()
    word = plain[0] if plain else typing.partition("/")[0]
    found: list[str] = []
    for resource in find(word.partition(",")[0], store):
        kind = "Service" if resource.kind == "Endpoints" else resource.kind
        objects = store.of_kind(kind, namespace if resource.namespaced else None)
        found += [obj.meta.name for obj in objects]
    return found if plain else [f"{word}/{name}" for name in found]


def _pods_and_workloads(store: Store, namespace: str, *, prefixed: bool) -> Iterable[str]:
    pods = [obj.meta.name for obj in store.of_kind("Pod", namespace)]
    workloads = [
        f"{obj.kind.lower()}/{obj.meta.name}"
        for kind in ("Deployment", "StatefulSet", "Service")
        for obj in store.of_kind(kind, namespace)
    ]
    return [*(f"pod/{name}" if prefixed else name for name in pods), *workloads]
