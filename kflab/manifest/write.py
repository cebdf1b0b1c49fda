"""Typed objects → trees and YAML, as `kubectl get -o yaml` prints them.

The raw tree gives what is not typed, the typed object everything else: defaults, what was allocated, status.
kubectl prints keys in alphabetical order (its YAML is made from JSON maps): apiVersion, kind, metadata, spec, status.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import yaml
from yaml.nodes import ScalarNode

from kflab.manifest.kinds import KINDS, Unmodelled
from kflab.manifest.objects import Key, KubeObject, Meta
from kflab.manifest.objects_workloads import DaemonSet, Deployment, StatefulSet
from kflab.manifest.scalars import resolve
from kflab.manifest.schema import ANY, API_VERSIONS, FieldType, fields_of
from kflab.manifest.write_common import IfAbsent, Whole, written
from kflab.manifest.write_kinds import WRITERS
from kflab.manifest.write_pods import template_tree

_OWNER_VERSIONS: Final = {**API_VERSIONS, "Node": "v1"}
_HIDDEN: Final = "(hidden)"


def to_tree(obj: KubeObject, start: datetime | None = None) -> dict[str, Any]:
    """The whole object as a tree.

    Args:
        obj: Any object.
        start: The moment that t = 0 stands for; without it simulated times are left out.

    Returns:
        A new tree; changing it changes nothing else.
    """
    tree = _copy(obj.raw, FieldType("struct", obj.kind) if obj.kind in KINDS else ANY) if obj.raw is not None else {}
    if not isinstance(obj, Unmodelled):
        tree["apiVersion"] = API_VERSIONS[obj.kind]
        tree["kind"] = obj.kind
    if obj.kind != "KubeProxyConfiguration":
        _overlay(tree, {"metadata": _metadata(obj.meta, start)})
        if not tree["metadata"].get("namespace") or not obj.meta.namespace:
            tree["metadata"].pop("namespace", None)
    writer: Callable[[Any, Any], dict[str, Any]] | None = WRITERS.get(obj.kind)
    if writer is not None:
        _overlay(tree, writer(obj, start))
    return tree


def whole_template(workload: Deployment | StatefulSet | DaemonSet) -> dict[str, Any]:
    """The pod template of a workload as `to_tree` has it, without the rest."""
    given = ((workload.raw or {}).get("spec") or {}).get("template")
    tree: dict[str, Any] = {}
    if given is not None:
        tree = _copy({"spec": {"template": given}}, FieldType("struct", workload.kind))
    _overlay(tree, {"spec": {"template": template_tree(workload.template)}})
    found: dict[str, Any] = tree["spec"]["template"]
    return found


def to_yaml(obj: KubeObject, start: datetime | None = None) -> str:
    """The whole object as kubectl prints it; values of Secrets are not shown.

    Args:
        obj: Any object.
        start: As for `to_tree`.
    """
    tree = to_tree(obj, start)
    if obj.kind == "Secret":
        for field in ("data", "stringData"):
            if isinstance(tree.get(field), dict):
                tree[field] = dict.fromkeys(tree[field], _HIDDEN)
        tree["metadata"].get("annotations", {}).pop("kubectl.kubernetes.io/last-applied-configuration", None)
    return tree_to_yaml(tree)


def tree_to_yaml(tree: Any, sort_keys: bool = True) -> str:
    """Any tree in kubectl's style; unsorted keys keep the tree's order (scenario files)."""
    return yaml.dump(tree, Dumper=_Dumper, allow_unicode=True, sort_keys=sort_keys, width=2**31 - 1)


def _metadata(meta: Meta, start: datetime | None) -> dict[str, Any]:
    tree: dict[str, Any] = {"name": meta.name, "namespace": meta.namespace or None, "uid": meta.uid or None}
    if meta.generation != 1:
        tree["generation"] = meta.generation
    tree["labels"] = Whole(meta.labels) or None
    tree["annotations"] = Whole(meta.annotations) or None
    tree["creationTimestamp"] = written(meta.creation_ns, start)
    if meta.deletion_ns is not None:
        tree["deletionGracePeriodSeconds"] = meta.grace_s
        tree["deletionTimestamp"] = written(meta.deletion_ns + (meta.grace_s or 0) * 1_000_000_000, start)
    if meta.owner is not None:
        tree["ownerReferences"] = [_owner(meta.owner)]
    return {name: value for name, value in tree.items() if value is not None}


def _owner(owner: Key) -> dict[str, Any]:
    return {
        "apiVersion": _OWNER_VERSIONS.get(owner.kind, "v1"),
        "blockOwnerDeletion": True,
        "controller": True,
        "kind": owner.kind,
        "name": owner.name,
    }


def _copy(value: Any, known: FieldType) -> Any:
    """A copy without nulls and, below known structs, without unknown fields, which the API server drops."""
    if isinstance(value, Mapping):
        if known.form == "struct":
            fields = fields_of(known.struct)
            return {name: _copy(v, fields[name]) for name, v in value.items() if name in fields and v is not None}
        return {name: _copy(entry, known.of or ANY) for name, entry in value.items()}
    if isinstance(value, list):
        return [_copy(entry, known.of or ANY) for entry in value]
    return value


def _overlay(tree: dict[str, Any], typed: Mapping[str, Any]) -> None:
    """Write `typed` over `tree`. Lists of the same length meet entry by entry, other lists are replaced."""
    for name, value in typed.items():
        kept = tree.get(name)
        if isinstance(value, IfAbsent):
            if tree.get(name) is None:
                tree[name] = _plain(value.value)
        elif isinstance(value, Whole):
            tree[name] = dict(value)
        elif isinstance(value, dict):
            if not isinstance(kept, dict):
                kept = tree[name] = {}
            _overlay(kept, value)
        elif isinstance(value, list) and isinstance(kept, list) and len(kept) == len(value):
            for position, entry in enumerate(value):
                if isinstance(entry, dict) and isinstance(kept[position], dict):
                    _overlay(kept[position], entry)
                else:
                    kept[position] = _plain(entry)
        else:
            tree[name] = _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, IfAbsent):
        value = value.value
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return value


class _Dumper(yaml.CSafeDumper):
    """Quotes and blocks as Go's YAML library writes them."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: _Dumper, text: str) -> ScalarNode:
    style = None
    if text and "\n" in text and not text.isspace():
        style = "|"
    elif text == "" or not isinstance(resolve(text), str):
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
