"""Every bundled scenario holds its expectations and prints the same bytes every time."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from kflab.errors import KflabError
from kflab.lab.commands import Kill, Save, Scale
from kflab.lab.running import Lab
from kflab.manifest.objects import Key
from kflab.scenario.expectations import Expectation
from kflab.scenario.format import Scenario, load
from kflab.scenario.library import bundled
from kflab.scenario.opening import open_what
from kflab.scenario.plain import play


def played(scenario: Scenario, **how: object) -> tuple[int, str]:
    out = io.StringIO()
    return play(scenario, out, **how), out.getvalue()  # type: ignore[arg-type]


@pytest.mark.parametrize("name", bundled())
def test_expectations_hold_and_output_repeats(name: str) -> None:
    code, text = played(load(name))
    assert code == 0, text[-1500:]
    assert "BROKEN" not in text
    bills = re.search(r"([\d,]+) lost = .* slowed; ([\d,]+) billed, ([\d,]+) not explained", text)
    if bills is None:
        assert " 0 failed " in text
    else:
        assert bills[1] == bills[2]
        assert bills[3] == "0", text[text.index("\nautopsy") :]
    assert played(load(name))[1] == text


def test_the_six_promised_scenarios_are_there() -> None:
    promised = {"overview", "overview-defaults", "overview-keepalive", "pod-crash", "pod-delete", "scale-up"}
    assert promised <= set(bundled())


def test_a_pods_share_is_its_part_of_the_services_answers() -> None:
    shares = {
        name: Expectation("podShare", low, high, pod=f"default/{name}", service="default/web")
        for name, low, high in (("web-1", 0.15, 0.184), ("web-4", 0.25, 0.3), ("web-9", 0, 1))
    }
    file = Path(__file__).parents[2] / "scenarios" / "local-uneven.yaml"
    code, text = played(replace(load(str(file)), expectations=tuple(shares.values())))
    assert code == 1
    said = [line.rpartition(": ")[2] for line in text.splitlines() if "expectation  " in line]
    assert said == ["held", "BROKEN", "BROKEN"]
    assert "podShare of default/web-9 in default/web ≤ 1: nothing measured" in text


def test_a_broken_expectation_exits_1() -> None:
    scenario = load("pod-crash")
    code, text = played(replace(scenario, expectations=(Expectation("requestsFailed", 0, 0),)))
    assert code == 1
    assert "BROKEN" in text


def test_json_report_has_facts_and_observers() -> None:
    code, text = played(load("pod-crash"), as_json=True)
    tree = json.loads(text)
    assert code == 0
    assert tree["requests"]["sent"] == sum(tree["requests"][k] for k in ("ok", "failed", "client_gone", "in_flight"))
    assert [fact["what"] for fact in tree["facts"]][:2] == ["container-exited", "kubelet-noticed"]
    assert tree["who_knew"]["moved_s"] > 0


def test_saved_lab_replays_to_the_same_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lab = Lab(load("overview").spec)
    lab.advance(1_234_567_890)
    pod = next(key for key in lab.store.keys("Pod") if key.name.startswith("product-"))
    assert lab.do(Kill(pod)).ok
    lab.advance(2_500_000_000)
    assert lab.do(Scale(Key("Deployment", "default", "product"), 5)).ok
    lab.advance(6_000_000_000)
    saved = lab.do(Save("mine"))
    assert saved.ok, saved.text
    again = Lab(load("./mine.yaml").spec)
    again.advance(6_000_000_000)
    assert again.digest() == lab.digest()


def test_save_refuses_to_overwrite_what_is_no_scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.yaml").write_text("my: notes\n")
    lab = Lab(load("overview").spec)
    assert not lab.do(Save("notes")).ok
    assert (tmp_path / "notes.yaml").read_text() == "my: notes\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kflab: scenario/v9\n", "expected `kflab: scenario/v1`"),
        ("kflab: scenario/v1\n", "no manifests.documents"),
        ("kflab: scenario/v1\nextends: overview\nseeed: 3\n", "s.yaml:3:"),
        ("kflab: scenario/v1\nextends: overview\nduration: soon\n", "not a duration"),
        ("kflab: scenario/v1\nextends: overview\nactions:\n- crash: x\n", "needs `at`"),
        ("kflab: scenario/v1\nextends: nowhere\n", "no scenario named 'nowhere'"),
        ("kflab: scenario/v1\nextends: overview\nexpect:\n- luck: {min: 1}\n", "unknown metric"),
    ],
)
def test_bad_scenarios_say_where_and_what(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(text)
    with pytest.raises(KflabError) as caught:
        load(str(file))
    assert said in str(caught.value)


def test_opening_a_name_that_is_nothing_says_what_was_meant_or_who_lists_them() -> None:
    with pytest.raises(KflabError, match="did you mean 'pod-crash'"):
        open_what(["pod-crush"])
    with pytest.raises(KflabError, match="kflab scenarios"):
        open_what(["no-such-thing"])
