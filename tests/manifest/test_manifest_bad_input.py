"""Untrusted text: one clear line with a place, never a traceback, never code."""

import io
from pathlib import Path

import pytest

from kflab.errors import KflabError
from kflab.manifest import limits
from kflab.manifest.findings import Severity
from kflab.manifest.loader import load
from kflab.manifest.objects import Key
from kflab.manifest.plain import load_plain
from kflab.manifest.sources import SourceText, decode, read_paths

NAMED = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\n"


def only_error(text: str) -> str:
    errors = load([SourceText("f", text)]).errors
    assert len(errors) == 1, errors
    return f"{errors[0].place}: {errors[0].message}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kind: Pod\nmetadata:\n\tname: x\n", "f:3:1: a tab"),
        (NAMED + 'data:\n  a: "never closed\n  b: c\n', "f:6:6: the quote that opens here is never closed"),
        (NAMED + "data:\n  a: 1\n  a: 2\n", 'f:7:3: key "a" is already set in this map, on line 6'),
        (
            NAMED + "data:\n  yes: a\n  b: {yes: c}\n  'true': d\n",
            'f:8:3: key "true" is already set in this map, on line 6',
        ),
        (
            "kind: Widget\nmetadata: {name: w, generation: {a: 1}}\n",
            "f:2:21: metadata.generation: must be an integer, got a mapping",
        ),
        (
            "kind: Widget\nmetadata: {name: w, deletionGracePeriodSeconds: soon}\n",
            'f:2:49: metadata.deletionGracePeriodSeconds: must be an integer, got the string "soon"',
        ),
        ("", "f:1:1: no object at all"),
        ("# only\n---\n# comments\n", "f:1:1: no object at all"),
        ("a\0b", "f:1:2: the character U+0000 is not allowed"),
        ("- a\n- b\n", "f:1:1: an object (apiVersion, kind, metadata) was expected, here is a list"),
        ("just words\n", "f:1:1: an object"),
        ("kind: Pod\nx: &a [*a]\n", "f:2:8: anchor 'a' value contains itself"),
        ("kind: Pod\nx: *nowhere\n", "f:2:4: unknown anchor 'nowhere' referenced"),
        ("kind: Pod\nx: !!python/object/apply:os.system [id]\n", "f:2:4: the tag !!python/object/apply:os.system"),
        ("kind: Pod\nx: !run id\n", "f:2:4: the tag !run is not plain data"),
        pytest.param("kind: Pod\nx: " + "[" * 5000, "f:2:103: nested more than 100 levels deep", id="deep"),
        ("? [a, b]\n: c\n", "f:1:3: a list or mapping cannot be a key"),
        ("metadata: {name: x}\n", "f:1:1: kind: Required value"),
        ("apiVersion: v1\nkind: Pod\nspec: {}\n", "f:1:1: metadata.name: Required value: name or generateName"),
        (
            "kind: Pod\nmetadata: {name: 5}\n",
            "f:2:18: metadata.name: must be a string, got the number 5; put it in quotes",
        ),
        (NAMED + "data: [a\n", "f:6:1: while parsing a flow sequence"),
        ("a: b: c\n", 'f:1:5: a second ": " here'),
        (
            "spec:\n    replicas: 3\n  selector: {}\n",
            "f:3:3: this line begins in column 3, where no mapping above it begins: check the indentation",
        ),
        (
            "a:\n  - b: 1\n   c: 2\n",
            "f:3:4: this line begins in column 4 and is no item of the list that begins in line 2, column 3",
        ),
        ("a:\n  b: 1\n- c\n", "f:3:1: a list item among the keys of the mapping that begins in line 1, column 1"),
    ],
)
def test_what_is_wrong_and_where(text: str, expected: str) -> None:
    assert only_error(text).startswith(expected)


def test_an_alias_bomb_is_stopped_while_it_is_read() -> None:
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in range(1, 12):
        text += f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n"
    assert "excessive aliasing" in only_error(text)


def test_a_merge_bomb_is_stopped_too() -> None:
    text = "b0: &b0 {k: v}\n" + "".join(f"b{n}: &b{n} {{x: [{', '.join([f'*b{n - 1}'] * 9)}]}}\n" for n in range(1, 9))
    assert "excessive aliasing" in only_error(text)


def test_too_much_text_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big = tmp_path / "big.yaml"
    with big.open("wb") as file:
        file.truncate(200 * 2**20)
    with pytest.raises(KflabError, match="too large: 200 MiB; all manifests together may have 128 MiB"):
        read_paths([str(big)])
    monkeypatch.setattr("kflab.manifest.sources.MAX_TEXT_BYTES", 10)
    with pytest.raises(KflabError, match="too large"):
        read_paths(["-"], stdin=io.TextIOWrapper(io.BytesIO(b"x" * 11)))
    with pytest.raises(KflabError, match="too large"):
        read_paths(["-"], stdin=io.StringIO("x" * 11))


def test_too_many_collections_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kflab.manifest.reading.MAX_COLLECTIONS", 50)
    assert "more than 50 lists and mappings" in only_error("a: [" + "[]," * 60 + "]")


def test_bytes_that_are_no_text_name_the_place() -> None:
    with pytest.raises(KflabError, match=r"^f:2:3: not UTF-8 text: byte 0xff$"):
        decode("é: 1\nü:".encode() + b"\xff", "f")
    with pytest.raises(KflabError, match="a binary file"):
        decode(b"\x7fELF\x02\0\0\x80", "f")
    assert decode(b"\xef\xbb\xbfa: 1", "f") == "a: 1"
    assert decode("a: é".encode("utf-16"), "f") == "a: é"


def test_windows_line_ends_and_byte_order_marks_do_not_matter() -> None:
    text = "\ufeff" + (NAMED + "data:\n  a: b\n").replace("\n", "\r\n")
    loaded = load([SourceText("f", text)])
    assert not loaded.findings
    assert loaded.documents[0].tree["data"] == {"a": "b"}
    assert loaded.documents[0].marks.place(("data", "a")).line == 6


def test_json_with_tabs_and_surrogate_pairs_loads() -> None:
    text = '{\n\t"apiVersion": "v1",\n\t"kind": "ConfigMap",\n\t"metadata": {"name": "c"},\n\t'
    text += '"data": {"a": "\\ud83d\\ude00"}\n}'
    loaded = load([SourceText("f", text)])
    assert not loaded.errors
    assert loaded.documents[0].tree["data"] == {"a": "\U0001f600"}


def test_deep_json_of_that_sort_is_no_traceback() -> None:
    for depth in (200, 90_000):
        text = '{"a": "\\ud83d\\ude00", "b": ' + "[" * depth + "]" * depth + "}"
        assert only_error(text).startswith("f:1:")


def test_half_a_surrogate_pair_is_no_traceback() -> None:
    assert only_error('{"kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "\\ud800"}}').startswith("f:1:")
    assert only_error("a: 1\nb: \ud800").startswith("f:2:4: half of a surrogate pair")


def test_lists_are_flattened_whatever_they_are_called() -> None:
    text = "apiVersion: v1\nkind: List\nitems:\n- " + NAMED.replace("\n", "\n  ").rstrip() + "\n"
    text += "---\napiVersion: v1\nkind: ConfigMapList\nitems:\n- metadata: {name: d}\n  data:\n    k: v\n"
    loaded = load([SourceText("f", text)])
    assert [obj.key.name for obj in loaded.objects] == ["c", "d"]
    assert loaded.objects[1].kind == "ConfigMap"
    assert str(loaded.documents[0].marks.place(("metadata", "name"))) == "f:7:11"
    assert str(loaded.documents[1].marks.place(("data", "k"))) == "f:14:8"


def test_an_empty_list_is_no_object_at_all() -> None:
    assert "no object at all" in only_error("apiVersion: v1\nkind: List\nitems: []\n")


@pytest.mark.parametrize("name", ["[/]", "/[a-z]+(/|$)(.*)", "\x1b[31mred", "\u202eabc", "a b", "A", "x" * 254, "-a"])
def test_hostile_names_are_errors_and_stay_text(name: str) -> None:
    import json

    loaded = load([SourceText("f", json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}}))])
    errors = loaded.errors
    assert len(errors) == 1
    assert errors[0].path == ("metadata", "name")
    assert "\x1b" not in errors[0].message
    assert "\u202e" not in errors[0].message


def test_hostile_values_are_kept_as_data() -> None:
    text = (
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: i\n"
        "  annotations: {a: '[/] \u202e [@click=x]'}\n"
        "spec:\n  rules:\n  - http:\n      paths:\n      - path: /[a-z]+(/|$)(.*)\n"
        "        pathType: ImplementationSpecific\n"
        "        backend: {service: {name: s, port: {number: 80}}}\n"
    )
    loaded = load([SourceText("f", text)])
    assert not loaded.errors
    assert loaded.objects[0].meta.annotations == {"a": "[/] \u202e [@click=x]"}


def test_one_bad_text_does_not_hide_what_is_wrong_in_another() -> None:
    loaded = load([SourceText("a", "a:\n\tb"), SourceText("b", "kind: Pod\nmetadata: {name: A}\n")])
    assert [f.place.file for f in loaded.errors if f.place] == ["a", "b"]
    with pytest.raises(KflabError, match=r"^a:2:1: a tab"):
        loaded.raise_errors()


def test_kubectl_numbers_and_words() -> None:
    text = "[yes, No, on, 0644, 0x1F, 1:30, 2024-01-01, 1_000, 1e3, ~, '', .5, 08, 9223372036854775808, y]"
    tree, _ = load_plain(text, "f")
    assert tree == [
        True, False, True, 0o644, 31, "1:30", "2024-01-01", 1000, 1000.0, None, "", 0.5, 8.0, 9223372036854775808, True,
    ]  # fmt: skip


def test_a_plain_document_is_one_document() -> None:
    tree, place_of = load_plain("# c\na:\n  b: [1, 2]\n", "s.yaml")
    assert tree == {"a": {"b": [1, 2]}}
    assert str(place_of(("a", "b", 1))) == "s.yaml:3:10"
    assert str(place_of(("a", "missing"))) == "s.yaml:2:1"
    with pytest.raises(KflabError, match=r"s\.yaml:3:1: one document was expected"):
        load_plain("a: 1\n---\nb: 2\n", "s.yaml")
    assert load_plain("# nothing\n", "s.yaml")[0] is None


def test_a_folder_is_read_as_kubectl_does(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.yml").write_text(NAMED)
    (tmp_path / "readme.md").write_text("no")
    with pytest.raises(KflabError, match=r"these below it have some: .*sub \(or use -R\)"):
        read_paths([str(tmp_path)])
    assert [s.name for s in read_paths([str(tmp_path)], recursive=True)] == [str(tmp_path / "sub" / "b.yml")]
    (tmp_path / "z.json").write_text("{}")
    (tmp_path / "a.yaml").write_text(NAMED)
    assert [Path(s.name).name for s in read_paths([str(tmp_path)])] == ["a.yaml", "z.json"]
    with pytest.raises(KflabError, match=r'the path ".*nope" does not exist'):
        read_paths([str(tmp_path / "nope")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(KflabError, match=r"has no \*.json, \*.yaml, \*.yml files"):
        read_paths([str(tmp_path / "empty")])


def test_large_inputs_keep_their_trees_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kflab.manifest.loader.PACKED_ABOVE_BYTES", 10)
    pods = "".join(f"- apiVersion: v1\n  kind: Pod\n  metadata: {{name: p{n}, uid: u}}\n" for n in range(3))
    text = "kind: List\napiVersion: v1\nitems:\n" + pods + "---\n" + NAMED + "---\n" + NAMED.replace("c", "&x c", 1)
    loaded = load([SourceText("f", text)])
    assert not isinstance(loaded.documents[1].tree, dict)
    assert loaded.documents[1].tree["metadata"] == {"name": "p1", "uid": "u"}
    assert dict(loaded.documents[3].tree) == {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
    assert Key("Pod", "default", "p2") in loaded.observed_keys
    assert all(f.severity is not Severity.ERROR for f in loaded.findings)
    assert limits.PACKED_ABOVE_BYTES > 10
