"""Whatever is typed, the loader answers with findings."""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kflab.errors import KflabError
from kflab.manifest.apply import apply_document
from kflab.manifest.findings import Severity
from kflab.manifest.loader import Loaded, load
from kflab.manifest.patch import strategic_merge, three_way
from kflab.manifest.plain import load_plain
from kflab.manifest.schema import API_VERSIONS, FieldType, fields_of
from kflab.manifest.sources import SourceText, decode
from kflab.manifest.typed import to_object
from kflab.manifest.write import to_tree, to_yaml

QUICK = settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

BASE = """apiVersion: v1
kind: Service
metadata: {name: web, labels: {"a": b}}
spec:
  selector: &s {app: web}
  ports:
  - port: 80 # comment
    name: "http"
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Pod
  metadata: {name: p, labels: *s}
"""


def check(loaded: Loaded) -> None:
    """What must hold of every answer."""
    for finding in loaded.findings:
        assert "\n" not in finding.message
        assert (finding.severity is Severity.REFUSED) or not finding.assumption
        if finding.severity is Severity.REFUSED:
            assert finding.assumption
    if not loaded.errors:
        assert loaded.documents
    for document in loaded.documents:
        if document.obj is not None:
            assert document.obj.key == document.key
            tree = to_tree(document.obj)
            json.dumps(tree)
            to_yaml(document.obj)
            assert to_object(tree).key.name == document.key.name
            apply_document(document.obj, document.tree, document)


def error_of(action: Callable[[], object]) -> KflabError | None:
    """The KflabError that an action ends with; any other exception fails the test."""
    try:
        action()
    except KflabError as error:
        return error
    return None


def read(text: str) -> Loaded:
    return load([SourceText("f", text)])


@QUICK
@given(st.text())
def test_any_text(text: str) -> None:
    check(read(text))
    failure = error_of(lambda: load_plain(text, "f"))
    assert failure is None or failure.place is not None


@QUICK
@given(st.text(alphabet="-:?{}[]&*!|>'\"%@`#, \n\tab01~<.", max_size=60))
def test_yaml_like_text(text: str) -> None:
    check(read(text))
    check(read(text + "\n---\n" + BASE.split("---")[0]))


@QUICK
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    failure = error_of(lambda: check(read(decode(data, "f"))))
    assert failure is None or failure.place is not None


@QUICK
@given(st.integers(0, len(BASE)), st.integers(0, 12), st.text(max_size=4))
def test_a_text_with_a_piece_changed(at: int, removed: int, inserted: str) -> None:
    check(read(BASE[:at] + inserted + BASE[at + removed :]))


def values_of(known: FieldType, depth: int) -> st.SearchStrategy[Any]:
    """Mostly the right type, sometimes another."""
    wild: st.SearchStrategy[Any] = st.sampled_from(
        [None, 0, -1, 70000, 1.5, True, "", "a", "A b", "None", "25%", [], {}, [None], [{}], {"a": None}]
    )
    plain: dict[str, st.SearchStrategy[Any]] = {
        "text": st.sampled_from(
            ["a", "web", "10.0.0.1", "010.0.0.1", "None", "TCP", "Local", "ClientIP", "/x", "", "*.a"]
        ),
        "integer": st.sampled_from([0, 1, 80, 65535, 30080, -1, 70000, 2**40]),
        "number": st.floats(0, 9),
        "boolean": st.booleans(),
        "int_or_text": st.sampled_from([0, 80, "http", "25%", 99999]),
        "quantity": st.sampled_from(["100m", 1, "1Gi"]),
        "any": wild,
    }
    if known.form in plain:
        right = plain[known.form]
    elif depth <= 0:
        right = st.sampled_from([{}, None] if known.form != "list" else [[], None])
    elif known.form == "struct":
        right = tree_of(known.struct, depth - 1)
    else:
        assert known.of is not None
        inner = values_of(known.of, depth - 1)
        right = (
            st.lists(inner, max_size=2)
            if known.form == "list"
            else st.dictionaries(st.sampled_from(["a", "app", "x/y"]), inner, max_size=2)
        )
    return st.one_of(*[right] * 9, wild)


def tree_of(struct: str, depth: int) -> st.SearchStrategy[dict[str, Any]]:
    fields = {name: known for name, known in fields_of(struct).items() if name not in ("apiVersion", "kind")}

    def some(names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
        return st.fixed_dictionaries({name: values_of(fields[name], depth) for name in names})

    return st.lists(st.sampled_from(sorted(fields)), max_size=4, unique=True).flatmap(some)


objects = st.sampled_from(sorted(API_VERSIONS)).flatmap(
    lambda kind: tree_of(kind, 5).map(
        lambda tree: {
            **tree,
            "apiVersion": API_VERSIONS[kind],
            "kind": kind,
            "metadata": {**tree["metadata"], "name": "x"} if isinstance(tree.get("metadata"), dict) else {"name": "x"},
        }
    )
)


@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(objects, objects)
def test_objects_of_every_kind_with_odd_values(one: dict[str, Any], two: dict[str, Any]) -> None:
    check(read(json.dumps(one)))
    check(
        load(
            [SourceText("f", json.dumps(one))],
            [SourceText("p", json.dumps({**two, **{k: one[k] for k in ("kind", "apiVersion")}}))],
        )
    )
    failure = error_of(lambda: strategic_merge(one, two, one["kind"]))
    assert failure is None or "merge key" in failure.message
    three_way(two, one, one, one["kind"])


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(objects)
def test_applying_an_object_to_itself_is_no_change(tree: dict[str, Any]) -> None:
    """Live objects come back from their own text, whatever was defaulted on the way.

    Not so with nulls: creating takes one for "nothing", applying for "remove this".
    """
    text = json.dumps(tree)
    loaded = read(text.replace("null", '"x"'))
    for document in loaded.documents:
        if document.obj is not None and not loaded.assumptions:
            applied = apply_document(document.obj, document.tree, document)
            assert applied.refusals == ()
            assert applied.verb == "unchanged"
