"""YAML text → plain trees with the span of each document, safely and in one pass over the parser's events.

Only libyaml's event stream is used, never PyYAML's constructors: no tag can call code, a tree is bounded while it
is built, and no object per mark is kept (marks.py finds positions later by reading one span again).
"""

import re
from collections.abc import Callable, Generator, Iterator
from typing import Any, Final

import yaml
from yaml._yaml import CParser
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from kflab.errors import KflabError, Place
from kflab.manifest.limits import MAX_ALIASED_NODES, MAX_COLLECTIONS, MAX_DEPTH
from kflab.manifest.scalars import Scalar, key_text, resolve
from kflab.records import dataclass

_CORE: Final = "tag:yaml.org,2002:"
_TEXT_TAGS: Final = frozenset({"!", _CORE + "str", _CORE + "binary", _CORE + "timestamp"})
_PLAIN_TAGS: Final = frozenset(_CORE + name for name in ("int", "float", "bool", "null"))
_COLLECTION_TAGS: Final = frozenset({None, "!", _CORE + "map", _CORE + "seq", _CORE + "omap", _CORE + "set"})
_UNPRINTABLE: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What YAML 1.1 §5.1 does not allow in a stream."""
_REMEMBERED: Final = 100_000
"""Scalars kept for sharing equal values; above that new ones are made each time."""


@dataclass(frozen=True, slots=True)
class Span:
    """A node's piece of a text: characters [start, end), and where it starts (line and column from 0)."""

    start: int
    end: int
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Parsed:
    """One document."""

    tree: Any
    span: Span
    items: tuple[Span, ...]
    """Spans of the entries of a top-level `items` list."""
    entry: bool = False
    """It is one entry of a document's `items` list, handed out before the document itself."""


class Reader:
    """Reads documents from one text.

    Args:
        text: The text, without byte order mark.
        name: What places call it.

    Raises:
        KflabError: If the text cannot be encoded.
    """

    def __init__(self, text: str, name: str) -> None:
        self._text = text
        self._name = name
        try:
            self._next: Callable[[], Any] = CParser(text).get_event
        except UnicodeEncodeError as error:
            line = text.count("\n", 0, error.start) + 1
            column = error.start - text.rfind("\n", 0, error.start)
            raise KflabError("half of a surrogate pair is no character", Place(name, line, column)) from None
        self._collections = 0
        self._scalars: dict[str, Scalar] = {}
        self._strings: dict[str, str] = {}
        self._keys: dict[str, str] = {}
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._open_anchors: set[str] = set()
        self._nodes = 0
        self._aliased = 0
        self._item_spans: list[Span] = []

    def documents(self, entries: bool = False) -> Iterator[Parsed]:
        """Every document that is not empty.

        Args:
            entries: Hand out each object of a top-level `items` list as soon as it is read, and the document itself
                later without them, so that a long list is never held whole.

        Raises:
            KflabError: With line and column, for anything that is not safe, bounded YAML.
        """
        try:
            while True:
                event = self._next()
                kind = event.__class__
                if kind is DocumentStartEvent:
                    yield from self._document(entries)
                elif kind is StreamEndEvent:
                    return
        except yaml.YAMLError as error:
            raise _explain(error, self._text, self._name) from None

    def _document(self, entries: bool) -> Iterator[Parsed]:
        self._anchors.clear()
        self._aliased = 0
        self._item_spans = []
        event = self._next()
        start = event.start_mark
        if entries and event.__class__ is MappingStartEvent and event.tag is None and not event.anchor:
            tree = yield from self._root(event)
        else:
            tree = self._node(event, 0)
        end = self._next().start_mark  # DocumentEnd starts after the last token, comments included
        if tree is not None:
            span = Span(start.index, end.index, start.line, start.column)
            yield Parsed(tree, span, tuple(self._item_spans))

    def _root(self, event: Any) -> Generator[Parsed, None, dict[str, Any]]:
        """As `_mapping` for a document's root, handing out the objects of its `items` one by one."""
        tree: dict[str, Any] = {}
        merged: list[tuple[Any, Any]] = []
        while True:
            event = self._next()
            if event.__class__ is MappingEndEvent:
                self._merge(tree, merged)
                return tree
            key = self._key(event)
            value_event = self._next()
            if key == "<<":
                merged.append((value_event, self._node(value_event, 1)))
                continue
            if key in tree:
                raise self._error(event, f'key "{key}" is already set in this map')
            if key != "items" or value_event.__class__ is not SequenceStartEvent or value_event.anchor:
                tree[key] = self._node(value_event, 1)
                continue
            kept: list[Any] = []
            spans: list[Span] = []
            event = self._next()
            while event.__class__ is not SequenceEndEvent:
                mark = event.start_mark
                entry = self._node(event, 2)
                event = self._next()
                span = Span(mark.index, event.start_mark.index, mark.line, mark.column)
                if isinstance(entry, dict) and entry.get("kind") and entry.get("apiVersion"):
                    yield Parsed(entry, span, (), entry=True)
                else:  # an API list's entry: its kind is said by the list
                    kept.append(entry)
                    spans.append(span)
            tree[key] = kept
            self._item_spans = spans

    def _node(self, event: Any, depth: int) -> Any:
        self._nodes += 1
        kind = event.__class__
        if kind is ScalarEvent:
            value = self._scalar(event)
            if event.anchor:
                self._anchors[event.anchor] = (value, 1)
            return value
        if kind is AliasEvent:
            return self._alias(event)
        return self._collection(event, depth)

    def _collection(self, event: Any, depth: int) -> Any:
        anchor = event.anchor
        before = self._nodes
        if event.tag not in _COLLECTION_TAGS:
            raise self._bad_tag(event)
        if depth >= MAX_DEPTH:
            raise self._error(event, f"nested more than {MAX_DEPTH} levels deep")
        self._collections += 1
        if self._collections > MAX_COLLECTIONS:
            raise self._error(event, f"more than {MAX_COLLECTIONS:,} lists and mappings")
        if anchor:
            self._anchors.pop(anchor, None)
            self._open_anchors.add(anchor)
        tree: Any
        if event.__class__ is MappingStartEvent:
            tree = self._mapping(depth)
        else:
            assert event.__class__ is SequenceStartEvent
            tree = self._sequence(depth)
        if anchor:
            self._open_anchors.discard(anchor)
            self._anchors[anchor] = (tree, self._nodes - before + 1)
        return tree

    def _mapping(self, depth: int) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        merged: list[tuple[Any, Any]] = []
        written: dict[str, Any] = {}
        get_event, keys, scalars = self._next, self._keys, self._scalars
        quick = 0
        while True:
            event = get_event()
            kind = type(event)
            # Nearly all keys and values are scalars that were seen before: the short ways are for those.
            if kind is ScalarEvent and event.implicit[0] and event.value in keys and not event.anchor:
                key = keys[event.value]
                quick += 1
            elif kind is MappingEndEvent:
                break
            else:
                key = self._key(event)
                if key == "<<" and kind is ScalarEvent and event.implicit[0]:
                    value_event = get_event()
                    merged.append((value_event, self._node(value_event, depth + 1)))
                    continue
            value_event = get_event()
            if key in tree:
                first = written[key].start_mark.line + 1
                raise self._error(event, f'key "{key}" is already set in this map, on line {first}')
            written[key] = event
            kind = type(value_event)
            if kind is ScalarEvent:
                if value_event.implicit[0] and value_event.value in scalars and not value_event.anchor:
                    tree[key] = scalars[value_event.value]
                    quick += 1
                else:
                    tree[key] = self._node(value_event, depth + 1)
            elif depth == 0 and key == "items" and kind is SequenceStartEvent:
                tree[key] = self._top_items(value_event)
            else:
                tree[key] = self._node(value_event, depth + 1)
        self._nodes += quick
        if merged:
            self._merge(tree, merged)
        return tree

    def _merge(self, tree: dict[str, Any], merged: list[tuple[Any, Any]]) -> None:
        """Take over what `<<` refers to; own keys win (YAML 1.1 merge key)."""
        for event, value in merged:
            for part in value if isinstance(value, list) else [value]:
                if not isinstance(part, dict):
                    raise self._error(event, "map merge requires map or sequence of maps as the value")
                for key, inherited in part.items():
                    tree.setdefault(key, inherited)

    def _sequence(self, depth: int) -> list[Any]:
        tree: list[Any] = []
        while True:
            event = self._next()
            if event.__class__ is SequenceEndEvent:
                return tree
            tree.append(self._node(event, depth + 1))

    def _top_items(self, event: Any) -> Any:
        """As `_node` for a sequence, noting the span of every entry (the objects of a `List`)."""
        if event.anchor or event.tag not in _COLLECTION_TAGS:
            return self._node(event, 1)
        self._nodes += 1
        self._collections += 1
        tree: list[Any] = []
        spans: list[Span] = []
        last: Span | None = None
        while True:
            event = self._next()
            mark = event.start_mark
            if last is not None:
                spans.append(Span(last.start, mark.index, last.line, last.column))
            if event.__class__ is SequenceEndEvent:
                self._item_spans = spans
                return tree
            last = Span(mark.index, mark.index, mark.line, mark.column)
            tree.append(self._node(event, 2))

    def _key(self, event: Any) -> str:
        self._nodes += 1
        if event.__class__ is ScalarEvent:
            value: Any = self._scalar(event)
            if event.anchor:
                self._anchors[event.anchor] = (value, 1)
        elif event.__class__ is AliasEvent:
            value = self._alias(event)
            if isinstance(value, dict | list):
                raise self._error(event, "a list or mapping cannot be a key")
        else:
            raise self._error(event, "a list or mapping cannot be a key")
        key = value if value.__class__ is str else key_text(value)
        if event.__class__ is ScalarEvent and event.implicit[0] and key != "<<" and len(self._keys) < _REMEMBERED:
            self._keys[event.value] = key
        return key

    def _scalar(self, event: Any) -> Scalar:
        text: str = event.value
        tag = event.tag
        if tag is None:
            if not event.implicit[0]:
                return self._strings.setdefault(text, text) if len(self._strings) < _REMEMBERED else text
        elif tag in _TEXT_TAGS:
            return text
        elif tag not in _PLAIN_TAGS:
            raise self._bad_tag(event)
        try:
            return self._scalars[text]
        except KeyError:
            value = resolve(text)
            if len(self._scalars) < _REMEMBERED:
                self._scalars[text] = value
            return value

    def _alias(self, event: Any) -> Any:
        name = event.anchor
        if name in self._open_anchors:
            raise self._error(event, f"anchor '{name}' value contains itself")
        known = self._anchors.get(name)
        if known is None:
            raise self._error(event, f"unknown anchor '{name}' referenced")
        value, size = known
        self._aliased += size
        self._nodes += size  # so that an anchor around aliases counts what they stand for
        if self._aliased > MAX_ALIASED_NODES:
            raise self._error(event, "document contains excessive aliasing")
        return value

    def _bad_tag(self, event: Any) -> KflabError:
        tag: str = event.tag
        shown = "!!" + tag.removeprefix(_CORE) if tag.startswith(_CORE) else tag
        return self._error(event, f"the tag {shown} is not plain data; nothing is ever constructed from tags")

    def _error(self, event: Any, message: str) -> KflabError:
        mark = event.start_mark
        return KflabError(message, Place(self._name, mark.line + 1, mark.column + 1))


def _explain(error: yaml.YAMLError, text: str, name: str) -> KflabError:
    """libyaml's message with its place, and the usual reason where there is one."""
    if not isinstance(error, yaml.MarkedYAMLError):
        found = _UNPRINTABLE.search(text)
        at = found.start() if found else 0
        place = Place(name, text.count("\n", 0, at) + 1, at - (text.rfind("\n", 0, at) + 1) + 1)
        what = f"the character U+{ord(text[at]):04X} is not allowed in YAML" if found else str(error)
        binary = " (a binary file?)" if "\0" in text[:8192] else ""
        return KflabError(f"{what}{binary}", place)
    mark = error.problem_mark or error.context_mark
    problem = error.problem or "not YAML"
    context = error.context or ""
    if mark is None:
        return KflabError(problem, Place(name))
    if "quoted scalar" in context and error.context_mark is not None and "end of stream" in problem:
        mark, problem, context = error.context_mark, "the quote that opens here is never closed", ""
    elif "'\\t'" in problem or text[mark.index : mark.index + 1] == "\t":
        problem, context = "a tab: YAML indents with spaces only", ""
    elif "mapping values are not allowed" in problem:
        problem, context = 'a second ": " here; check the indentation, or put the value in quotes', ""
    elif "block" in context and not text[text.rfind("\n", 0, mark.index) + 1 : mark.index].strip():
        problem, context = _misplaced(text[mark.index : mark.index + 2] == "- ", error, mark.column + 1), ""
    message = f"{context}, {problem}" if context else problem
    return KflabError(message, Place(name, mark.line + 1, mark.column + 1))


def _misplaced(item: bool, error: yaml.MarkedYAMLError, column: int) -> str:
    """Why a line does not go on with the mapping or list above it: nearly always its indentation."""
    opened = error.context_mark
    above = f"that begins in line {opened.line + 1}, column {opened.column + 1}" if opened is not None else "above"
    if "collection" in (error.context or ""):
        return f"this line begins in column {column} and is no item of the list {above}: check the indentation"
    if item:
        return f"a list item among the keys of the mapping {above}: check the indentation"
    return f"this line begins in column {column}, where no mapping above it begins: check the indentation"
