"""Files that say who calls whom: what they mean, and what is said of mistakes in them."""

from pathlib import Path

import pytest

from kflab.cli import main
from kflab.errors import KflabError
from kflab.lab.spec import GivenCall
from kflab.manifest.objects import Key
from kflab.scenario.calls_file import calls_of_text
from kflab.scenario.format import load_text

FRONT = Key("Deployment", "default", "front")


def test_all_forms_of_a_call() -> None:
    text = """\
default/Deployment/front:
  - cart:80
  - shop/stock
  - {service: ads, port: 9555, times: 2, onFailure: ignore}
"""
    cart, stock, ads = calls_of_text(text, "calls.yaml")
    assert (cart.caller, cart.service, cart.port) == (FRONT, Key("Service", "default", "cart"), 80)
    assert (stock.service, stock.port) == (Key("Service", "shop", "stock"), 0)
    assert ads == GivenCall(FRONT, Key("Service", "default", "ads"), 9555, 2, False, ads.place)
    assert str(ads.place) == "calls.yaml:4:5"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- cart:80", "c.yaml:1:1: expected a mapping from NAMESPACE/KIND/NAME of a workload to its calls"),
        ("front: [cart:80]", "c.yaml:1:1: 'front' does not name a caller; expected NAMESPACE/KIND/NAME"),
        ("default/Job/front: []", "c.yaml:1:1: 'default/Job/front' does not name a caller"),
        ("default/Deployment/front: cart", "c.yaml:1:27: calls of default/Deployment/front: expected a list"),
        ("default/Deployment/front:\n- http://cart", "c.yaml:2:3: 'http://cart' does not name a Service"),
        ("default/Deployment/front:\n- cart:70000", "c.yaml:2:3: 'cart:70000' does not name a Service"),
        ("default/Deployment/front:\n- {port: 80}", "c.yaml:2:3: a call needs a service"),
        ("default/Deployment/front:\n- {service: a, prt: 80}", "c.yaml:2:21: unknown field 'prt' of a call"),
        ("default/Deployment/front:\n- {service: a, times: 0}", "c.yaml:2:23: times 0 must be a whole number from 1"),
        ("default/Deployment/front:\n- {service: 'a:1', port: 2}", "c.yaml:2:26: the port is given twice"),
        ("default/Deployment/front:\n- {service: a, onFailure: retry}", "c.yaml:2:27: onFailure 'retry'"),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_their_place(text: str, said: str) -> None:
    with pytest.raises(KflabError) as caught:
        calls_of_text(text, "c.yaml")
    assert str(caught.value).startswith(said)


MANIFEST = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: front}
spec:
  selector: {matchLabels: {app: front}}
  template:
    metadata: {labels: {app: front}}
    spec: {containers: [{name: app, image: app, ports: [{containerPort: 80}], args: [--to=front-2:80]}]}
---
apiVersion: v1
kind: Service
metadata: {name: front}
spec: {selector: {app: front}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: front-2}
spec: {ports: [{port: 80}]}
"""


@pytest.mark.parametrize(
    ("option", "lines", "code"),
    [
        ("none", [], 0),
        ("guess", ["front → front-2:80"], 0),
        ("default/Deployment/front: [front-2]", ["front → front-2:80"], 0),
        ("default/Deployment/back: [front:80]", ["no workload default/Deployment/back in these manifests"], 2),
        ("default/Deployment/front: [back:80]", ["no Service default/back in these manifests"], 2),
        ("default/Deployment/front: [front-2:81]", ["Service default/front-2 has no TCP port 81; it has 80"], 2),
    ],
)
def test_the_option_of_the_command_line(
    option: str, lines: list[str], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest, calls = tmp_path / "app.yaml", tmp_path / "calls.yaml"
    manifest.write_text(MANIFEST)
    calls.write_text(option)
    named = option if option in ("none", "guess") else str(calls)
    assert main(["replay", str(manifest), "--plain", "--duration", "2s", "--calls", named]) == code
    out, err = capsys.readouterr()
    assert [line for line in lines if line not in out + err] == []
    if code:
        assert err.startswith(f"{calls}:1:")
        assert err.count("\n") == 1
    if not lines:
        assert "→ front-2" not in out


def test_a_traced_request_shows_the_calls_made_for_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = tmp_path / "app.yaml"
    manifest.write_text(MANIFEST)
    assert main(["trace", "http://front.default/", "-f", str(manifest)]) == 0
    out, _ = capsys.readouterr()
    assert "· 500 ·" in out.splitlines()[0]
    assert "✖ calls front-2:80 at" in out
    assert "refused in 0.0 ms" in out
    assert "KUBE-SERVICES" in out
    assert "the DNS lookup before a call" in out


def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "overview", "--plain", "--calls", "nowhere.yaml"]) == 2
    assert (
        "--calls 'nowhere.yaml': No such file or directory; expected none, guess or a file" in capsys.readouterr().err
    )


def test_a_scenario_names_calls_in_its_cluster() -> None:
    head = "kflab: scenario/v1\nmanifests: {documents: [{name: a.yaml, text: ''}]}\n"
    assert load_text(f"{head}cluster: {{calls: none}}", "s.yaml").spec.calls == "none"
    given = load_text(f"{head}cluster: {{calls: {{default/Deployment/front: [cart:80]}}}}", "s.yaml").spec
    assert given.calls == "given"
    assert given.given_calls[0].service.name == "cart"
    with pytest.raises(KflabError, match=r"s.yaml:3:46: 7 does not name a Service"):
        load_text(f"{head}cluster: {{calls: {{default/Deployment/front: [7]}}}}", "s.yaml")
    with pytest.raises(KflabError, match=r"s.yaml:3:18: calls must be none, guess, a file or a mapping"):
        load_text(f"{head}cluster: {{calls: 3}}", "s.yaml")
