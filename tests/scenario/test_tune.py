"""`kflab tune`: the smallest setting that meets a budget, its patch, and the proof that it does."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kflab.cli import main
from kflab.errors import KflabError
from kflab.scenario.format import Scenario, load_text
from kflab.scenario.tune import Target, Tuned, read_target, tune
from kflab.scenario.tune_report import report
from kflab.scenario.tune_runs import Outcome, Runner

APP = """
      apiVersion: apps/v1
      kind: Deployment
      metadata: {name: shop}
      spec:
        replicas: 3
        selector: {matchLabels: {app: shop}}
        template:
          metadata: {labels: {app: shop}}
          spec:
            containers:
            - name: shop
              image: shop:1
              ports: [{containerPort: 8080}]
              readinessProbe: {tcpSocket: {port: 8080}}
      ---
      apiVersion: v1
      kind: Service
      metadata: {name: shop}
      spec:
        selector: {app: shop}
        ports: [{port: 80, targetPort: 8080}]
      ---
      apiVersion: v1
      kind: Pod
      metadata: {name: caller, labels: {app: caller}}
      spec:
        containers: [{name: caller, image: caller}]
"""

TEXT = f"""kflab: scenario/v1
title: Scale down under load
seed: 5
duration: 8s
manifests:
  documents:
  - name: app.yaml
    text: |{APP}
clients:
- {{url: 'http://shop/', from: default/caller, rate: 300}}
actions:
- at: 2s
  scale: {{workload: default/Deployment/shop, replicas: 1}}
"""


def scenario(**changes: str) -> Scenario:
    text = TEXT
    for old, new in changes.items():
        text = text.replace(old, new)
    return load_text(text, "tuned.yaml")


@pytest.fixture(scope="module")
def tuned() -> Tuned:
    return tune(scenario(), Target(0), ["preStop", "minReadySeconds"], seeds=3, runner=Runner(1))


def test_a_pre_stop_brings_errors_to_none_and_without_it_they_are_back(tuned: Tuned) -> None:
    assert tuned.chosen is not None
    assert [name for name, _ in tuned.chosen.choice] == ["preStop"]
    assert tuned.proof is not None
    assert tuned.without is not None
    assert tuned.proof.worst == 0
    assert min(outcome.failed for outcome in tuned.without.outcomes) > 0
    assert {outcome.seed for outcome in tuned.proof.outcomes}.isdisjoint(tuned.seeds), "the proof takes fresh seeds"


def test_the_value_below_the_smallest_does_not_do(tuned: Tuned) -> None:
    assert tuned.chosen is not None
    (_, step) = tuned.chosen.choice[0]
    below = next(row for row in tuned.rows if row.choice == ((("preStop", step - 1),) if step > 1 else ()))
    assert not below.met


def test_the_patch_makes_the_scenario_lossless(
    tuned: Tuned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "patch.yaml").write_text(tuned.patch)
    patched = TEXT.replace("clients:", "  patches: [patch.yaml]\nclients:") + "expect:\n- requestsFailed: {equals: 0}\n"
    (tmp_path / "patched.yaml").write_text(patched)
    assert main(["replay", str(tmp_path / "patched.yaml"), "--plain"]) == 0
    assert "held" in capsys.readouterr().out


def test_the_table_is_the_same_on_any_number_of_processes() -> None:
    lines = [report(tune(scenario(), Target(0), ["preStop"], seeds=2, runner=Runner(jobs))) for jobs in (1, 2)]
    assert lines[0] == lines[1]
    assert any("preStop sleep" in line and line.endswith("smallest") for line in lines[0])
    assert any(line.startswith("proof, 2 fresh seeds: 0 errors with it") for line in lines[0])


def test_what_cannot_be_met_is_said_with_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tuned.yaml"
    path.write_text(TEXT)
    code = main(["tune", str(path), "--over", "minReadySeconds", "--seeds", "1", "--jobs", "1"])
    assert code == 1
    assert "no choice of these settings meets errors=0" in capsys.readouterr().out


def test_a_budget_that_is_met_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tuned.yaml"
    path.write_text(TEXT)
    assert main(["tune", str(path), "--target", "errors=50%", "--seeds", "1", "--jobs", "1", "-o", "json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["patch"] == ""
    assert tree["chosen"]["settings"] == {}


def test_a_long_pre_stop_gets_the_grace_period_it_needs() -> None:
    found = scenario(
        **{"            containers:": "            terminationGracePeriodSeconds: 2\n            containers:"}
    )
    result = tune(found, Target(0), ["preStop"], seeds=1, runner=Runner(1))
    assert result.chosen is not None
    assert "terminationGracePeriodSeconds: " in patch_of(result, 5)


def patch_of(result: Tuned, seconds: int) -> str:
    from kflab.scenario.tune_settings import patch_text

    return patch_text(result.workload, {"preStop": seconds})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--target", "errors"], "--target 'errors': expected errors=N or errors=N%, for example errors=0"),
        (["--target", "latency=3"], "expected errors=N"),
        (["--over", "preStopp"], "--over preStopp: no such setting; expected some of preStop,"),
        (["--workload", "default/Deployment/none"], "default/Deployment/none is no Deployment"),
        (["--seeds", "0"], "--seeds 0 must be from 1 to 1000"),
        (["--over", "readiness", "--workload", "shop"], "'shop' does not name a workload"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tuned.yaml"
    path.write_text(TEXT)
    assert main(["tune", str(path), *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_without_a_workload_in_its_actions_it_asks_for_one() -> None:
    with pytest.raises(KflabError, match="name one with --workload"):
        tune(scenario(**{"  scale: {workload: default/Deployment/shop, replicas: 1}": "  load: 2"}), Target(0))


def test_an_error_in_a_process_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(TEXT.replace("replicas: 1}", "replicas: 1}\n- at: 3s\n  crash: default/nobody"))
    words = [sys.executable, "-m", "kflab", "tune", str(path), "--over", "preStop", "--seeds", "1", "--jobs", "2"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "the scenario's action at 3 s failed" in done.stderr


def test_targets_are_read_as_numbers_or_shares() -> None:
    half = Outcome(1, 5, 1000, 2.0, 0)
    assert read_target("errors=5").met([half])
    assert not read_target("errors=4").met([half])
    assert read_target("errors=0.5%").met([half])
    assert not read_target("errors=0.4%").met([half])
    assert not read_target("errors=100%").met([Outcome(1, 0, 1000, None, 0)]), "a rollout without end meets nothing"
