"""Is every field known and of its type? The first look at a tree, before values are judged.

An unknown field is what the API server warns of (`Warning: unknown field "spec.replica"`, apimachinery strict
decoding) and then drops; a wrong type makes decoding fail.
"""

from collections.abc import Mapping
from typing import Any

from kflab.manifest.findings import Path, Report, Severity, dotted, quoted
from kflab.manifest.schema import FieldType, did_you_mean, fields_of

_FORMS: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "int_or_text": (int, str),
    "quantity": (int, float, str),
}
_WANTED = {
    "text": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "int_or_text": "an integer or a string",
    "quantity": "a quantity",
    "struct": "a mapping",
    "map": "a mapping",
    "list": "a list",
}

INT64_FIELDS = frozenset(
    {"generation", "observedGeneration", "deletionGracePeriodSeconds", "terminationGracePeriodSeconds",
     "activeDeadlineSeconds", "tolerationSeconds", "seconds", "runAsUser", "runAsGroup", "fsGroup"}
)  # fmt: skip
"""Integers of 64 bits; all others have 32."""

LENIENT_STRUCTS = {"ServiceBackendPort"}
"""Structs whose wrong type is judged later: a bare number as `backend.service.port` is taken for its number."""

OLD_FIELDS = {
    "IngressSpec": {"backend"},
    "IngressBackend": {"serviceName", "servicePort"},
}
"""Fields of versions that are no longer served and that typed.py still reads; known only in those versions."""


def check_shape(tree: Mapping[str, Any], struct: str, report: Report, old_version: bool = False) -> None:
    """Report unknown fields as warnings and wrong types as errors, below the whole tree."""
    _Shape(report, old_version).struct(tree, struct, ())


class _Shape:
    def __init__(self, report: Report, old_version: bool) -> None:
        self.report = report
        self.old_version = old_version

    def struct(self, tree: Mapping[str, Any], struct: str, path: Path) -> None:
        fields = fields_of(struct)
        for name, value in tree.items():
            known = fields.get(name)
            if known is None:
                if not (self.old_version and name in OLD_FIELDS.get(struct, ())):
                    self._unknown(name, list(fields), (*path, name))
            elif type(value) is not known.surely and value is not None:
                self.value(value, known, path, name)

    def value(self, value: Any, known: FieldType, path: Path, step: str | int) -> None:
        form = known.form
        if form == "struct":
            if isinstance(value, dict):
                self.struct(value, known.struct, (*path, step))
            elif known.struct not in LENIENT_STRUCTS or isinstance(value, list):
                self._wrong(value, form, (*path, step))
        elif (plain := _FORMS.get(form)) is not None:
            kind = value.__class__
            if form == "integer" and (kind is int or (kind is float and value.is_integer())):
                if -(2**31) <= value < 2**31 or (step in INT64_FIELDS and -(2**63) <= value < 2**63):
                    return
                report, where = self.report, (*path, step)
                report.error(where, f"cannot unmarshal number {int(value)} into Go struct field of type int32")
                return
            if kind in plain:
                return
            self._wrong(value, form, (*path, step))
        elif form == "map":
            if not isinstance(value, dict):
                self._wrong(value, form, (*path, step))
                return
            of = known.of
            assert of is not None
            for name, entry in value.items():
                if type(entry) is not of.surely and entry is not None:
                    self.value(entry, of, (*path, step), name)
        elif form == "list":
            if not isinstance(value, list):
                self._wrong(value, form, (*path, step))
                return
            assert known.of is not None
            here = (*path, step)
            for position, entry in enumerate(value):
                if type(entry) is known.of.surely:
                    continue
                if entry is not None:
                    self.value(entry, known.of, here, position)
                elif known.of.form != "any":
                    self._wrong(entry, known.of.form, (*here, position))

    def _unknown(self, name: str, known: list[str], path: Path) -> None:
        report = self.report
        message = f"unknown field {quoted(dotted(path))}{did_you_mean(name, known)}"
        report.add(Severity.WARNING, path, message, at_key=True)

    def _wrong(self, value: Any, form: str, path: Path) -> None:
        hint = quotes_hint(value) if form == "text" else ""
        self.report.error(path, f"must be {_WANTED[form]}, got {described(value)}{hint}")


def quotes_hint(value: Any) -> str:
    """What to do where a text was meant."""
    if isinstance(value, bool):
        return "; put it in quotes (y, n, yes, no, on and off are booleans)"
    return "; put it in quotes" if isinstance(value, int | float) else ""


def described(value: Any) -> str:
    """What a value is, for a sentence."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, bool):
        return f"the boolean {quoted(value)}"
    if isinstance(value, int | float):
        return f"the number {value}"
    return "nothing" if value is None else f"the string {quoted(value)}"
