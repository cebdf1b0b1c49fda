"""Where each field of a tree is written, found when asked.

A mark per scalar kept as an object would cost many times the text. So only the span of each document is kept, and the
first question reads that span again and remembers its positions until `forget`.
"""

from dataclasses import field
from typing import Any, Protocol

import yaml
from yaml._yaml import CParser
from yaml.events import (
    AliasEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from kflab.errors import Place
from kflab.manifest.findings import Path
from kflab.manifest.reading import Span
from kflab.manifest.scalars import key_text, resolve
from kflab.manifest.sources import SourceText
from kflab.records import dataclass

_Spot = tuple[int, int]


class Placer(Protocol):
    """Finds positions of fields. A field that nobody wrote has the place of the nearest one around it."""

    def place(self, path: Path) -> Place:
        """Where the value is written; for a list or mapping under a key, where that key is."""
        ...

    def key_place(self, path: Path) -> Place:
        """Where the key is written; for a list entry, where the entry is."""
        ...


class Marks:
    """Positions of one document (or of one entry of a `List`)."""

    __slots__ = ("_index", "_source", "_span")

    def __init__(self, source: SourceText, span: Span) -> None:
        self._source = source
        self._span = span
        self._index: dict[Path, tuple[_Spot, _Spot]] | None = None

    @property
    def source(self) -> SourceText:
        return self._source

    @property
    def span(self) -> Span:
        return self._span

    def place(self, path: Path) -> Place:
        return self._find(path, 1)

    def key_place(self, path: Path) -> Place:
        return self._find(path, 0)

    def forget(self) -> None:
        """Drop the remembered positions; the next question reads the text again."""
        self._index = None

    def _find(self, path: Path, which: int) -> Place:
        if not path:
            return Place(self._source.name, self._span.line + 1, self._span.column + 1)
        if self._index is None:
            self._index = _read_positions(self._source.text, self._span)
        spots = self._index.get(path)
        if spots is None:
            return self._find(path[:-1], which)
        line, column = spots[which]
        return Place(self._source.name, line + 1, column + 1)


@dataclass(slots=True)
class Origin:
    """One node of a merged tree: whose text its value is from, and at which path there.

    Children that are not listed follow the same text.
    """

    placer: Placer
    path: Path
    children: dict[str | int, "Origin"] = field(default_factory=dict)


class MergedMarks:
    """Positions of a tree that was merged from several texts: where the winning value is written."""

    __slots__ = ("_root",)

    def __init__(self, root: Origin) -> None:
        self._root = root

    def place(self, path: Path) -> Place:
        placer, inner = self._resolve(path)
        return placer.place(inner)

    def key_place(self, path: Path) -> Place:
        placer, inner = self._resolve(path)
        return placer.key_place(inner)

    def _resolve(self, path: Path) -> tuple[Placer, Path]:
        node = self._root
        for depth, step in enumerate(path):
            child = node.children.get(step)
            if child is None:
                return node.placer, node.path + path[depth:]
            node = child
        return node.placer, node.path


class NoMarks:
    """Stands in for trees that no text was written for."""

    def place(self, path: Path) -> Place:
        return Place("<made>")

    def key_place(self, path: Path) -> Place:
        return Place("<made>")


def _read_positions(text: str, span: Span) -> dict[Path, tuple[_Spot, _Spot]]:
    """Positions of every node of a span: path → (of the key, of the value), counted from 0 in the whole text."""
    index: dict[Path, tuple[_Spot, _Spot]] = {}
    # Blanks keep the first line's columns, so that a block mapping that starts after "- " is one when read alone.
    parser = CParser(" " * span.column + text[span.start : span.end])
    try:
        for _ in range(2):  # stream start, document start
            parser.get_event()
        _walk(parser, parser.get_event(), (), None, index, span.line)
    except yaml.YAMLError:
        pass  # what follows the piece may not be YAML by itself; what was read until then is right
    return index


def _walk(
    parser: Any,
    event: Any,
    path: Path,
    key_spot: _Spot | None,
    index: dict[Path, tuple[_Spot, _Spot]],
    first_line: int,
) -> None:
    mark = event.start_mark
    spot = (mark.line + first_line, mark.column)
    kind = event.__class__
    nested = kind is MappingStartEvent or kind is SequenceStartEvent
    index[path] = (key_spot or spot, key_spot if nested and key_spot else spot)
    if kind is ScalarEvent or kind is AliasEvent:
        return
    position = 0
    while True:
        event = parser.get_event()
        if kind is MappingStartEvent:
            if event.__class__ is MappingEndEvent:
                return
            mark = event.start_mark
            key = _key(event)
            _walk(parser, parser.get_event(), (*path, key), (mark.line + first_line, mark.column), index, first_line)
        else:
            if event.__class__ is SequenceEndEvent:
                return
            _walk(parser, event, (*path, position), None, index, first_line)
            position += 1


def _key(event: Any) -> str:
    if event.__class__ is not ScalarEvent:
        return ""
    value = event.value
    return key_text(resolve(value)) if event.implicit[0] and event.tag is None else str(value)
