"""Texts → documents with objects and findings."""

import re
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from datetime import datetime
from functools import cached_property
from typing import Any

from kflab.collector import held_off
from kflab.errors import KflabError, Place
from kflab.manifest.crosscheck import check_together
from kflab.manifest.findings import Finding, Report, Severity
from kflab.manifest.kinds import Unmodelled
from kflab.manifest.limits import MAX_TEXT_BYTES, PACKED_ABOVE_BYTES
from kflab.manifest.marks import Marks, MergedMarks, Origin, Placer
from kflab.manifest.objects import Key, KubeObject
from kflab.manifest.patch import merge_traced
from kflab.manifest.pieces import Piece, pieces_of
from kflab.manifest.schema import modelled_kind
from kflab.manifest.shape import described, quotes_hint
from kflab.manifest.sources import SourceText
from kflab.manifest.typed import key_of, to_object
from kflab.manifest.typed_common import Tree, moment_of
from kflab.manifest.validate import validate
from kflab.records import dataclass

_MOMENT = re.compile(
    r'(?:creationTimestamp|startTime|startedAt|finishedAt|lastTransitionTime)"?\s*:\s*'
    r'"?(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)'
)


@dataclass(frozen=True, slots=True)
class Document:
    """One object as it was written, patches merged in."""

    key: Key
    tree: Tree
    """The merged tree, defaults not filled in. Of very large inputs it is made again at each first use."""
    marks: Placer
    source: SourceText
    obj: KubeObject | None
    """None when an ERROR was found in it."""
    observed: bool
    """A dump's object, to be taken as it stands: it has a uid, a resourceVersion or a non-empty status (Node: not the
    status, whose addresses are input), or it is an EndpointSlice."""
    patched: bool = False

    @property
    def place(self) -> Place:
        """Where the object begins."""
        return self.marks.place(())


@dataclass(frozen=True)  # without slots: the properties are computed once
class Loaded:
    """Everything that was read."""

    documents: tuple[Document, ...]
    """In order of the texts; an object that is given again later is there twice."""
    findings: tuple[Finding, ...]
    """In order of the texts."""

    @cached_property
    def objects(self) -> tuple[KubeObject, ...]:
        """The typed objects; of an object given more than once the last, at the place of the first."""
        last: dict[Key, KubeObject] = {}
        for document in self.documents:
            if document.obj is not None:
                last[document.key] = document.obj
        return tuple(last.values())

    @cached_property
    def observed_keys(self) -> frozenset[Key]:
        """Keys of the objects that are taken as they stand."""
        last = {document.key: document.observed for document in self.documents}
        return frozenset(key for key, observed in last.items() if observed)

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity is Severity.ERROR)

    @property
    def assumptions(self) -> tuple[Finding, ...]:
        """The findings under whose `assumption` the lab goes on."""
        return tuple(f for f in self.findings if f.assumption)

    def document(self, key: Key) -> Document | None:
        """The document that counts for a key: the last one."""
        return self._by_key.get(key)

    @cached_property
    def _by_key(self) -> dict[Key, Document]:
        return {document.key: document for document in self.documents}

    def raise_errors(self) -> None:
        """Raise the first ERROR, if there is one.

        Raises:
            KflabError: With its place.
        """
        for finding in self.findings:
            if finding.severity is Severity.ERROR:
                raise finding.error()


def load(
    sources: Sequence[SourceText],
    patches: Sequence[SourceText] = (),
    default_namespace: str = "default",
    require_objects: bool = True,
) -> Loaded:
    """Read manifests.

    Args:
        sources: The texts. An object of a later text replaces the same object of an earlier one.
        patches: Strategic merge patches, merged into the raw trees in order, before types are checked.
        default_namespace: For namespaced objects that name none.
        require_objects: Whether no object at all is an ERROR.

    Returns:
        Documents and findings. Nothing is raised for bad input: it is a finding of severity ERROR.
    """
    loading = _Loading(default_namespace, _latest_moment(sources), sum(len(s.text) for s in sources))
    if loading.size + sum(len(p.text) for p in patches) > MAX_TEXT_BYTES:
        place = Place(sources[0].name) if sources else None
        message = f"too large: all manifests together may have {MAX_TEXT_BYTES // 2**20} MiB"
        return Loaded((), (Finding(Severity.ERROR, message, place),))
    with held_off() if loading.size > PACKED_ABOVE_BYTES else nullcontext():
        loading.read_patches(patches)
        for source in sources:
            loading.read(source)
        loading.finish(sources, require_objects)
    return Loaded(tuple(loading.documents), tuple(loading.findings))


class _Loading:
    def __init__(self, default_namespace: str, now: datetime | None, size: int) -> None:
        self.default_namespace = default_namespace
        self.now = now
        self.size = size
        self.documents: list[Document] = []
        self.findings: list[Finding] = []
        self.patches: dict[Key, list[Piece]] = {}
        self.used_patches: set[Key] = set()

    def read_patches(self, patches: Sequence[SourceText]) -> None:
        for source in patches:
            for piece in self._pieces(source):
                key = key_of(piece.tree, self.default_namespace)
                if self._named(piece, key):
                    self.patches.setdefault(key, []).append(piece)

    def read(self, source: SourceText) -> None:
        for piece in self._pieces(source):
            key = key_of(piece.tree, self.default_namespace)
            if self._named(piece, key):
                self._object(key, piece)

    def finish(self, sources: Sequence[SourceText], require_objects: bool) -> None:
        for key, pieces in self.patches.items():
            if key not in self.used_patches:
                for piece in pieces:
                    self._error(piece.marks.place(()), f"this patch is for {key}{_in(key)}, which is not given", key)
        if require_objects and not self.documents and not any(f.severity is Severity.ERROR for f in self.findings):
            place = Place(sources[0].name) if sources else None
            self._error(place, "no object at all: nothing but comments or empty documents")
        self.findings += check_together(self.documents)
        order = {source.name: position for position, source in enumerate(sources)}
        for pieces in self.patches.values():
            for piece in pieces:
                order.setdefault(piece.source.name, len(order))
        self.findings.sort(
            key=lambda f: (order.get(f.place.file, len(order)), f.place.line, f.place.column) if f.place else (-1, 0, 0)
        )
        for document in self.documents:
            if isinstance(document.marks, Marks):
                document.marks.forget()

    def _pieces(self, source: SourceText) -> Iterator[Piece]:
        try:
            yield from pieces_of(source, long=self.size > PACKED_ABOVE_BYTES)
        except KflabError as error:
            self._error(error.place, error.message)

    def _named(self, piece: Piece, key: Key) -> bool:
        """Whether a piece says what it is; else an ERROR is noted."""
        tree = piece.tree
        metadata = tree.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        if not isinstance(tree.get("kind"), str) or not tree["kind"]:
            self._error(piece.marks.place(("kind",)), "kind: Required value: an object needs kind and metadata.name")
        elif metadata is not None and not isinstance(metadata, dict):
            self._error(piece.marks.place(("metadata",)), f"metadata: must be a mapping, got {described(metadata)}")
        elif name is not None and not isinstance(name, str):
            message = f"metadata.name: must be a string, got {described(name)}"
            self._error(piece.marks.place(("metadata", "name")), message + quotes_hint(name))
        elif not key.name:
            message = "metadata.name: Required value: name or generateName is required"
            self._error(piece.marks.place(("metadata", "name")), message)
        else:
            return True
        return False

    def _object(self, key: Key, piece: Piece) -> None:
        tree: Tree = piece.tree
        marks: Placer = piece.marks
        patches = self.patches.get(key, ())
        if patches:
            self.used_patches.add(key)
            origin = Origin(marks, ())
            marks = MergedMarks(origin)
            for patch in patches:
                try:
                    merged = merge_traced(tree, origin, patch.tree, patch.marks, piece.tree["kind"])
                except KflabError as error:
                    self._error(error.place, error.message, key)
                    return
                if merged is None:
                    return  # $patch: delete
                tree = merged
        report = Report(key, marks)
        validate(tree, report)
        self.findings += report.findings
        obj = None
        kept: Tree = tree if patches else piece.kept(packed=self.size > PACKED_ABOVE_BYTES)
        if not report.failed:
            obj = to_object(tree, marks.place, default_namespace=self.default_namespace, now=self.now, raw=kept)
            if isinstance(obj, Unmodelled):
                message = f"{obj.given_kind} {key.name}: kept and shown, this kind has no behaviour in the lab"
                self.findings.append(Finding(Severity.INFO, message, marks.place(()), (), key))
        if isinstance(marks, Marks) and self.size > PACKED_ABOVE_BYTES:
            marks.forget()
        self.documents.append(Document(key, kept, marks, piece.source, obj, is_observed(tree), bool(patches)))

    def _error(self, place: Place | None, message: str, key: Key | None = None) -> None:
        self.findings.append(Finding(Severity.ERROR, message, place, (), key))


def is_observed(tree: Tree) -> bool:
    """Whether an object comes from a running cluster and is taken as it stands."""
    metadata = tree.get("metadata") or {}
    if isinstance(metadata, dict) and (metadata.get("uid") or metadata.get("resourceVersion")):
        return True
    kind = tree.get("kind")
    if kind == "EndpointSlice":
        return modelled_kind("EndpointSlice", str(tree.get("apiVersion") or "")) is not None
    return kind != "Node" and _says_something(tree.get("status"))


def _says_something(value: Any) -> bool:
    """Not empty all the way down: `status: {loadBalancer: {}}` is what a dry run prints."""
    if isinstance(value, dict):
        return any(_says_something(v) for v in value.values())
    if isinstance(value, list):
        return any(_says_something(v) for v in value)
    return value is not None and value != ""


def _latest_moment(sources: Sequence[SourceText]) -> datetime | None:
    """The newest time in dumps: the moment they show, which becomes t = 0."""
    newest = ""
    for source in sources:
        for found in _MOMENT.finditer(source.text):
            newest = max(newest, found[1])
    return moment_of(newest) if newest else None


def _in(key: Key) -> str:
    return f" in namespace {key.namespace}" if key.namespace else ""
