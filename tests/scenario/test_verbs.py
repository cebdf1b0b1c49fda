"""Verbs: the same deed by a scenario's action, by the command line and from a saved lab."""

import io
from pathlib import Path

import pytest

from kflab.errors import KflabError
from kflab.lab.commands import Act, Save
from kflab.lab.running import Lab
from kflab.manifest.objects import Key
from kflab.scenario.acting import read_words
from kflab.scenario.format import load, load_text
from kflab.scenario.plain import play
from kflab.tui.lab_words import parse

PROXY = Key("Component", "", "kube-proxy/node-b")


def scenario(action: str) -> str:
    return f"kflab: scenario/v1\nextends: overview\nduration: 5s\nactions:\n- at: 1s\n  {action}\n"


def test_an_action_a_line_and_a_command_are_one_deed() -> None:
    (action,) = load_text(scenario("bounce: kube-proxy/node-b"), "<stdin>").spec.actions
    assert action.command == parse(":bounce kube-proxy/node-b") == Act("bounce", PROXY)
    lab = Lab(load_text(scenario("bounce: {component: kube-proxy/node-b}"), "<stdin>").spec)
    lab.advance(5_000_000_000)
    told = [text for _, _, text in lab.take_lines()]
    assert {"kube-proxy/node-b was stopped", "kube-proxy/node-b was started"} <= set(told)
    assert lab.knowledge().what.startswith("that kube-proxy/node-b was restarted")


def test_a_saved_verb_replays_to_the_same_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lab = Lab(load("overview").spec)
    lab.advance(1_500_000_000)
    assert lab.do(Act("bounce", PROXY)).ok
    lab.advance(4_000_000_000)
    assert lab.do(Save("mine")).ok
    again = Lab(load("./mine.yaml").spec)
    again.advance(4_000_000_000)
    assert again.digest() == lab.digest()


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("bounce:", "bounce needs a component"),
        ("bounce: {component: apiserver, by: 3}", "<stdin>:6:38: unknown field 'by' of bounce; expected component"),
        ("boounce: apiserver", "unknown field 'boounce' of an action; expected apply, "),
    ],
)
def test_a_wrong_action_is_told_with_its_place(action: str, said: str) -> None:
    with pytest.raises(KflabError) as caught:
        load_text(scenario(action), "<stdin>")
    assert said in str(caught.value)


def test_a_wrong_line_says_how_it_is_typed() -> None:
    for argument in ("", "apiserver by=3"):
        with pytest.raises(KflabError, match="bounce COMPONENT"):
            read_words("bounce", argument)
    result = Lab(load("overview").spec).do(Act("bounce", Key("Component", "", "nobody")))
    assert not result.ok
    assert "no component 'nobody'" in result.text


def test_a_source_is_printed() -> None:
    text = "kflab: scenario/v1\nextends: overview\nsource: 'k/k #43576'\nduration: 1s\nexpect: []\n"
    out = io.StringIO()
    assert play(load_text(text, "<stdin>"), out) == 0
    assert "\nafter k/k #43576\n" in out.getvalue()
