"""The editor's texts: checked as they are typed, applied as `kubectl apply` would, all documents or none."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from typing import Any

from kflab.cluster.store import Store
from kflab.lab.commands import Finding
from kflab.lab.handle import Tab
from kflab.manifest import findings as manifest_findings
from kflab.manifest.apply import apply_document
from kflab.manifest.findings import Severity
from kflab.manifest.loader import Loaded, load
from kflab.manifest.objects import Key, KubeObject
from kflab.manifest.sources import SourceText
from kflab.records import dataclass

Tree = Mapping[str, Any]

_WORD = re.compile(r"\"[^\"]*\"|'[^']*'|[^\s,\[\]{}#]+")
"""What a finding's place begins: a quoted text, or everything up to a blank or a bracket."""


def load_tabs(tabs: Sequence[Tab], namespace: str) -> Loaded:
    """Read all tabs: documents and additions, with the patches merged over them."""
    texts = [SourceText(tab.name, tab.text, tab.path) for tab in tabs if tab.role != "patches"]
    patches = [SourceText(tab.name, tab.text, tab.path) for tab in tabs if tab.role == "patches"]
    return load(texts, patches, default_namespace=namespace)


def with_texts(tabs: Sequence[Tab], texts: Sequence[tuple[str, str]]) -> tuple[Tab, ...]:
    """The tabs with edited texts put in."""
    edited = dict(texts)
    return tuple(Tab(tab.name, edited.get(tab.name, tab.text), tab.path, tab.role) for tab in tabs)


def shown(found: manifest_findings.Finding, tabs: Sequence[Tab] = ()) -> Finding:
    """A finding as faces take it; with the tabs at hand it says how long the word is that it is about."""
    length = 1
    place = found.place
    tab = next((tab for tab in tabs if place is not None and tab.name == place.file), None)
    if tab is not None and place is not None:
        lines = tab.text.splitlines()
        line = lines[place.line - 1] if place.line <= len(lines) else ""
        word = _WORD.match(line, min(place.column - 1, len(line)))
        length = max(1, len(word[0])) if word else 1
    return Finding(found.severity.word, found.message, place, length)


def check_tabs(tabs: Sequence[Tab], texts: Sequence[tuple[str, str]], namespace: str) -> tuple[Finding, ...]:
    """What looks wrong in edited texts, worst first, then in order of the texts; what is merely unusual is left out."""
    edited = with_texts(tabs, texts)
    loaded = load_tabs(edited, namespace)
    wrong = [found for found in loaded.findings if found.severity > Severity.INFO]
    ordered = sorted(wrong, key=lambda found: -found.severity)
    return tuple(shown(found, edited) for found in ordered)


@dataclass(slots=True)
class Prepared:
    """What an apply would write, or why it is refused."""

    objects: tuple[KubeObject, ...] = ()
    """Objects that differ from the live ones, in order of the texts."""
    created: int = 0
    configured: int = 0
    unchanged: int = 0
    removed: tuple[Key, ...] = ()
    """Documents that were applied before and are no longer in the texts; they stay in the cluster."""
    refused: tuple[Finding, ...] = ()
    applied: dict[Key, Tree] = field(default_factory=dict)
    """What becomes last-applied."""


def prepare(
    tabs: Sequence[Tab],
    namespace: str,
    store: Store,
    last_applied: Mapping[Key, Tree],
    in_text: Collection[Key],
) -> Prepared:
    """Work out an apply without doing it; nothing is written when any document is refused.

    Args:
        tabs: The texts.
        namespace: Of documents that name none.
        store: What is live.
        last_applied: What was applied last, also of documents that have left the text since.
        in_text: Keys of the documents that were applied the last time.
    """
    loaded = load_tabs(tabs, namespace)
    bad = [found for found in loaded.findings if found.severity >= Severity.REFUSED]
    if bad:
        return Prepared(refused=tuple(shown(found) for found in bad))
    result = Prepared()
    objects: list[KubeObject] = []
    refused: list[Finding] = []
    documents = {document.key: document for document in loaded.documents}
    for key, document in documents.items():
        result.applied[key] = document.tree
        live = store.get(key)
        if live is not None and last_applied.get(key) == document.tree:
            result.unchanged += 1
            continue
        done = apply_document(live, last_applied.get(key), document)
        refused.extend(shown(item) for item in done.refusals)
        result.created += done.verb == "created"
        result.configured += done.verb == "configured"
        result.unchanged += done.verb == "unchanged"
        if done.obj is not None and done.verb != "unchanged":
            objects.append(done.obj)
    if refused:
        return Prepared(refused=tuple(refused))
    result.objects = tuple(objects)
    result.removed = tuple(key for key in in_text if key not in documents and store.get(key) is not None)
    return result
