"""The vector runner on the shared vectors, and that it cannot be fooled."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from kflab.errors import KflabError
from kflab.proof.vectors import conform

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "conformance"
KUBE_PROXY = ["kube-proxy/visible.json", "kube-proxy/rules-visible.json"]


def need(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"shared vectors {name} are not beside the checkout")
    return path


def run(path: Path) -> tuple[int, list[str]]:
    out = io.StringIO()
    try:
        code = conform([str(path)], out)
    except KflabError as error:
        return 2, str(error).splitlines()  # as `kflab conform` does: the line on standard error, exit 2
    return code, out.getvalue().splitlines()


@pytest.mark.parametrize(("name", "count"), zip(KUBE_PROXY, (273, 25), strict=True))
def test_all_kube_proxy_vectors_pass(name: str, count: int) -> None:
    code, lines = run(need(name))
    assert lines == [f"{count} passed, 0 failed"]
    assert code == 0


def test_all_ingress_vectors_pass() -> None:
    code, lines = run(need("ingress/visible.json"))
    assert lines == ["214 passed, 0 failed"]
    assert code == 0


def test_every_altered_ingress_expectation_fails(tmp_path: Path) -> None:
    content = json.loads(need("ingress/visible.json").read_text())
    for vector in content["vectors"]:
        for request in vector["requests"]:
            request["expect"]["status"] += 1
            request["expect"].pop("alternatives", None)
    path = tmp_path / "altered.json"
    path.write_text(json.dumps(content))
    assert run(path)[1][-1] == "0 passed, 214 failed"


def altered(vector: dict[str, Any]) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(vector))
    if "flows" in copy:
        for flow in copy["flows"]:
            expect = flow["expect"]
            if expect["endpoints"]:
                expect["endpoints"] = expect["endpoints"][:-1] or ["192.0.2.1:1"]
                expect["endpoints"] = [*expect["endpoints"], "192.0.2.2:2"]
            else:
                expect["verdict"] = "none" if expect["verdict"] != "none" else "drop"
    elif copy["kind"] == "tables":
        copy["expect"]["nat"]["rules"].pop()
    elif copy["kind"] == "chains":
        next(iter(next(iter(copy["expect"].values())).values())).append("-A X -j Y")
    else:
        key = "chain" if copy["kind"] == "chain-names" else "text"
        copy["expect"][0][key] += "0"
    return copy


@pytest.mark.parametrize("name", KUBE_PROXY)
def test_every_altered_expectation_fails(name: str, tmp_path: Path) -> None:
    vectors = [altered(vector) for vector in json.loads(need(name).read_text())]
    path = tmp_path / "altered.json"
    path.write_text(json.dumps(vectors))
    code, lines = run(path)
    assert code == 1
    cases = sum(len(vector.get("flows", [0])) for vector in vectors)
    assert lines[-1] == f"0 passed, {cases} failed"


def test_a_repeat_that_should_stick_fails_when_it_may_go_anywhere(tmp_path: Path) -> None:
    vectors = json.loads(need(KUBE_PROXY[0]).read_text())
    chosen = next(vector for vector in vectors if vector["id"] == "affinity-cluster-ip")
    chosen["flows"] = chosen["flows"][:1]
    chosen["flows"][0]["then"][0]["endpoint"] = "any"
    path = tmp_path / "repeat.json"
    path.write_text(json.dumps([chosen]))
    assert run(path)[0] == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1]",
        "{}",
        '[{"id": "x"}]',
        '[{"id": "x", "flows": [{}]}]',
        '[{"id": "x", "kind": "tables", "expect": {}}]',
    ],
)
def test_a_malformed_file_is_one_line_and_exit_2(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    code, lines = run(path)
    assert code == 2
    assert len(lines) == 1
    assert lines[0].startswith(str(path))


def test_a_missing_file_is_one_line_and_exit_2(tmp_path: Path) -> None:
    code, lines = run(tmp_path / "none.json")
    assert code == 2
    assert len(lines) == 1
