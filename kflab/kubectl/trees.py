"""`-o yaml` and `-o json`: objects as the API server would send them."""

import json
from collections.abc import Sequence
from typing import Any

from kflab.kubectl.ages import EPOCH, rfc3339
from kflab.kubectl.events import Event
from kflab.kubectl.sheet import LAST_APPLIED
from kflab.manifest.kinds import Unmodelled
from kflab.manifest.objects import KubeObject, Meta
from kflab.manifest.objects_config import Secret

Tree = dict[str, Any]


def to_yaml(objects: Sequence[KubeObject], *, as_list: bool) -> str:
    """Objects as YAML: one alone, or a `List`."""
    from kflab.manifest.write import to_yaml as write_yaml  # here, so that tables never pay for the YAML library

    texts = [write_yaml(_plain(obj), EPOCH) for obj in objects]
    if not as_list:
        return texts[0]
    items = "".join("- " + text.rstrip("\n").replace("\n", "\n  ") + "\n" for text in texts)
    head = "apiVersion: v1\nitems:" + ("\n" if items else " []\n")
    return f'{head}{items}kind: List\nmetadata:\n  resourceVersion: ""\n'


def to_json(objects: Sequence[KubeObject], *, as_list: bool) -> str:
    """Objects as JSON, indented by four as kubectl does."""
    from kflab.manifest.write import to_tree

    trees = [_without_values(obj, to_tree(_plain(obj), EPOCH)) for obj in objects]
    whole = {"apiVersion": "v1", "items": trees, "kind": "List", "metadata": {"resourceVersion": ""}}
    return json.dumps(whole if as_list else trees[0], indent=4, ensure_ascii=False) + "\n"


def _without_values(obj: KubeObject, tree: Tree) -> Tree:
    """Values of Secrets are never shown, as in `to_yaml`; nor the copy of them in last-applied."""
    if isinstance(obj, Secret):
        for field in ("data", "stringData"):
            if isinstance(tree.get(field), dict):
                tree[field] = dict.fromkeys(tree[field], "(hidden)")
        tree["metadata"].get("annotations", {}).pop(LAST_APPLIED, None)
    return tree


def _plain(obj: KubeObject) -> KubeObject:
    """Events exist only here; the manifest room writes them as it writes any tree."""
    if not isinstance(obj, Event):
        return obj
    return Unmodelled(obj.meta, _event(obj), None, given_kind=obj.kind, api_version="v1")


def _meta(meta: Meta) -> Tree:
    tree: Tree = {"creationTimestamp": rfc3339(meta.creation_ns)}
    if meta.labels:
        tree["labels"] = {key: meta.labels[key] for key in sorted(meta.labels)}
    return {**tree, "name": meta.name, "namespace": meta.namespace}


def _event(obj: Event) -> Tree:
    about = {"kind": obj.about.kind, "name": obj.about.name, "namespace": obj.about.namespace}
    return {
        "apiVersion": "v1",
        "involvedObject": about,
        "kind": "Event",
        "lastTimestamp": rfc3339(obj.t_ns),
        "message": obj.message,
        "metadata": _meta(obj.meta),
        "reason": obj.reason,
        "source": {"component": obj.source},
        "type": obj.type,
    }
