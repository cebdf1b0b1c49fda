"""Strategic merge patches, and kubectl apply's three-way merge.

Source: apimachinery pkg/util/strategicpatch/patch.go (mergeMap, mergeSliceWithoutSpecialElements,
normalizeElementOrder, CreateThreeWayMergePatch) and cli-runtime's apply. Kinds without known types merge as JSON merge
patches (RFC 7386), as kubectl does for custom resources. Trees given in are never changed.
"""

from collections.abc import Mapping
from typing import Any

from kflab.errors import KflabError
from kflab.manifest.findings import Path
from kflab.manifest.marks import NoMarks, Origin, Placer
from kflab.manifest.schema import ANY, FieldType, fields_of, struct_of

_DIRECTIVE = "$patch"
_RETAIN = "$retainKeys"
_DELETE_VALUES = "$deleteFromPrimitiveList/"
_ORDER = "$setElementOrder/"


def strategic_merge(base_tree: Mapping[str, Any], patch_tree: Mapping[str, Any], kind: str) -> dict[str, Any] | None:
    """Apply a patch to a tree.

    Args:
        base_tree: The object; its apiVersion tells which kind of that name it is.
        patch_tree: The patch, with the directives `$patch: delete|replace|merge`, `$retainKeys`,
            `$setElementOrder/FIELD` and `$deleteFromPrimitiveList/FIELD`; null removes a field.
        kind: Kind of the object.

    Returns:
        The patched tree, or None when the patch deletes the object.

    Raises:
        KflabError: If an entry of a keyed list lacks its key.
    """
    nowhere = NoMarks()
    return merge_traced(base_tree, Origin(nowhere, ()), patch_tree, nowhere, kind)


def merge_traced(
    base_tree: Mapping[str, Any], origin: Origin, patch_tree: Mapping[str, Any], places: Placer, kind: str
) -> dict[str, Any] | None:
    """As `strategic_merge`, and note in `origin` (which is changed) whose text each value is from."""
    if patch_tree.get(_DIRECTIVE) == "delete":
        return None
    struct = struct_of(kind, str(base_tree.get("apiVersion") or ""))
    return _Merge(places).mapping(base_tree, patch_tree, FieldType("struct", struct) if struct else ANY, origin, ())


class _Merge:
    def __init__(self, places: Placer) -> None:
        self.places = places

    def mapping(
        self, base: Mapping[str, Any], patch: Mapping[str, Any], known: FieldType, origin: Origin, path: Path
    ) -> dict[str, Any]:
        directive = patch.get(_DIRECTIVE)
        if directive == "replace":
            origin.placer, origin.path, origin.children = self.places, path, {}
            return {name: _clean(value) for name, value in patch.items() if name != _DIRECTIVE and value is not None}
        if directive == "delete":
            origin.children = {}
            return {}
        result = dict(base)
        for name, value in patch.items():
            if name.startswith("$"):
                self._directive(result, name, value)
            elif value is None:
                result.pop(name, None)
                origin.children.pop(name, None)
            else:
                child = origin.children.get(name) or Origin(origin.placer, (*origin.path, name))
                kept = result.get(name)
                of = _field_type(known, name)
                if isinstance(kept, dict) and isinstance(value, dict):
                    result[name] = self.mapping(kept, value, of, child, (*path, name))
                elif isinstance(kept, list) and isinstance(value, list) and of.merge_key:
                    result[name] = self.keyed_list(kept, value, of, child, (*path, name))
                elif isinstance(kept, list) and isinstance(value, list) and of.merge_set:
                    result[name] = kept + [entry for entry in value if entry not in kept]
                else:
                    child = Origin(self.places, (*path, name))
                    result[name] = _clean(value)
                origin.children[name] = child
        return result

    def keyed_list(self, base: list[Any], patch: list[Any], known: FieldType, origin: Origin, path: Path) -> list[Any]:
        if any(isinstance(entry, dict) and entry.get(_DIRECTIVE) == "replace" for entry in patch):
            origin.placer, origin.path, origin.children = self.places, path, {}
            return [_clean(entry) for entry in patch if not (isinstance(entry, dict) and _DIRECTIVE in entry)]
        key = known.merge_key
        rows = [
            (entry, origin.children.get(i) or Origin(origin.placer, (*origin.path, i))) for i, entry in enumerate(base)
        ]
        for position, entry in enumerate(patch):
            here = (*path, position)
            if not isinstance(entry, dict) or key not in entry:
                raise KflabError(f"entry does not contain declared merge key: {key}", self.places.place(here))
            found = next((i for i, (e, _) in enumerate(rows) if isinstance(e, dict) and e.get(key) == entry[key]), None)
            if entry.get(_DIRECTIVE) == "delete":
                if found is not None:
                    del rows[found]
            elif found is None:
                rows.append((_clean(entry), Origin(self.places, here)))
            else:
                kept, child = rows[found]
                rows[found] = (self.mapping(kept, entry, known.of or ANY, child, here), child)
        origin.children = {i: child for i, (_, child) in enumerate(rows)}
        return [entry for entry, _ in rows]

    def _directive(self, result: dict[str, Any], name: str, value: Any) -> None:
        if name == _RETAIN and isinstance(value, list):
            for field in [field for field in result if field not in value]:
                del result[field]
        elif name.startswith(_DELETE_VALUES) and isinstance(value, list):
            field = name.removeprefix(_DELETE_VALUES)
            if isinstance(result.get(field), list):
                result[field] = [entry for entry in result[field] if entry not in value]
        # $setElementOrder only matters beside server-side changes, which a patch file here never races with.


def three_way(
    last_applied: Mapping[str, Any] | None, live: Mapping[str, Any], new: Mapping[str, Any], kind: str
) -> dict[str, Any]:
    """What `kubectl apply` makes of the live object.

    Fields that were applied before and are no longer written go; fields that are written win; all others (defaults,
    allocated addresses, what controllers set) stay.

    Args:
        last_applied: What was applied last (the annotation `last-applied-configuration`); None: nothing was.
        live: The object as the API server has it.
        new: The object as written now.
        kind: Kind of the object.

    Returns:
        The tree to be stored. Status is kept from `live`.
    """
    struct = struct_of(kind, str(new.get("apiVersion") or live.get("apiVersion") or ""))
    known = FieldType("struct", struct) if struct else ANY
    written = {name: value for name, value in new.items() if name != "status"}
    before = {name: value for name, value in (last_applied or {}).items() if name != "status"}
    return _three_way_map(before, live, written, known)


def _three_way_map(
    last: Mapping[str, Any], live: Mapping[str, Any], new: Mapping[str, Any], known: FieldType
) -> dict[str, Any]:
    result = {name: value for name, value in live.items() if name not in last or new.get(name) is not None}
    for name, value in new.items():
        if value is None:
            result.pop(name, None)  # an explicit null removes, as kubectl sends it
            continue
        kept, before, of = live.get(name), last.get(name), _field_type(known, name)
        if isinstance(kept, dict) and isinstance(value, dict):
            result[name] = _three_way_map(before if isinstance(before, dict) else {}, kept, value, of)
        elif isinstance(kept, list) and isinstance(value, list) and of.merge_key:
            result[name] = _three_way_list(before if isinstance(before, list) else [], kept, value, of)
        elif isinstance(kept, list) and isinstance(value, list) and of.merge_set:
            gone = [entry for entry in before or () if entry not in value]
            result[name] = value + [entry for entry in kept if entry not in value and entry not in gone]
        else:
            result[name] = _clean(value)
    return result


def _three_way_list(last: list[Any], live: list[Any], new: list[Any], known: FieldType) -> list[Any]:
    """Entries matched by key: written ones in their order, live ones that were never applied keep their place."""
    key = known.merge_key
    of = known.of or ANY

    def find(entries: list[Any], value: Any) -> dict[str, Any] | None:
        return next((e for e in entries if isinstance(e, dict) and e.get(key) == value), None)

    merged: list[tuple[Any, int]] = []  # entry, its position in the live list (-1: new)
    for entry in new:
        value = entry.get(key) if isinstance(entry, dict) else None
        kept = find(live, value)
        if kept is None:
            merged.append((_clean(entry), -1))
        else:
            merged.append((_three_way_map(find(last, value) or {}, kept, entry, of), live.index(kept)))
    values = [entry.get(key) if isinstance(entry, dict) else None for entry in new]
    for position, entry in enumerate(live):
        value = entry.get(key) if isinstance(entry, dict) else None
        if value in values or find(last, value) is not None:
            continue
        # normalizeElementOrder: before the first written entry that stands later in the live list.
        later = next((i for i, (_, at) in enumerate(merged) if at > position), len(merged))
        merged.insert(later, (entry, position))
    return [entry for entry, _ in merged]


def _field_type(known: FieldType, name: str) -> FieldType:
    if known.form == "struct":
        return fields_of(known.struct).get(name, ANY)
    return known.of or ANY


def _clean(value: Any) -> Any:
    """A copy of a patch's piece without directives and nulls, for a place where nothing was."""
    if isinstance(value, dict):
        return {name: _clean(v) for name, v in value.items() if not name.startswith("$") and v is not None}
    if isinstance(value, list):
        return [_clean(entry) for entry in value if not (isinstance(entry, dict) and entry.get(_DIRECTIVE) == "delete")]
    return value
