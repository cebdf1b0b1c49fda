"""`kflab tune`: the smallest setting that meets a budget, its patch, and the proof that it does."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from kflab.cli import main
from kflab.errors import KflabError
from kflab.lab.commands import Act
from kflab.lab.running import Lab
from kflab.manifest.objects import Key
from kflab.manifest.objects_workloads import StatefulSet
from kflab.manifest.patch import strategic_merge
from kflab.scenario.format import Scenario, load_text
from kflab.scenario.opening import open_what
from kflab.scenario.tune import Row, Target, Tuned, read_target, tune
from kflab.scenario.tune_report import as_json, report
from kflab.scenario.tune_runs import Job, Outcome, Runner, run_job
from kflab.scenario.tune_settings import SETTINGS, patch_text, patch_tree, settings_of, values

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


def test_a_stateful_set_that_waits_between_its_pods_has_not_rolled_out() -> None:
    """With minReadySeconds 20 a second pod may only go 20 s after the first new one was ready."""
    kind = {
        "kind: Deployment": "kind: StatefulSet",
        "        replicas: 3": "        serviceName: shop\n        replicas: 3",
    }
    acts = {"scale: {workload: default/Deployment/shop, replicas: 1}": "restart: {workload: default/StatefulSet/shop}"}
    key = Key("StatefulSet", "default", "shop")
    rolled = scenario(**kind, **acts, **{"rate: 300": "rate: 20"})
    workload = Lab(rolled.spec, traffic=False).store.get(key)
    assert isinstance(workload, StatefulSet)
    outcome = run_job(Job(rolled.spec, rolled.duration_ns, key, patch_text(workload, {"minReadySeconds": 20}), 5))
    assert outcome.rollout_s is not None
    assert outcome.rollout_s > 40


class Scripted(Runner):
    """Runs that lose a request unless preStop is long enough: seeds from 7 on ask for more."""

    def run(self, jobs: Sequence[Job], tell: Callable[[int], None]) -> list[Outcome]:
        self.done += len(jobs)
        return [self._outcome(job) for job in jobs]

    @staticmethod
    def _outcome(job: Job) -> Outcome:
        slept = int(job.patch.rpartition("seconds: ")[2] or 0) if job.patch else 0
        return Outcome(job.seed, int(slept < (9 if job.seed >= 7 else 2)), 1000, 5.0 + slept, 1)


class OnlyGrace(Runner):
    """Runs that lose a request unless the grace period is 60 s or longer, whatever else is changed."""

    def run(self, jobs: Sequence[Job], tell: Callable[[int], None]) -> list[Outcome]:
        self.done += len(jobs)
        return [self._outcome(job) for job in jobs]

    @staticmethod
    def _outcome(job: Job) -> Outcome:
        found = re.search(r"terminationGracePeriodSeconds: (\d+)", job.patch)
        grace = int(found[1]) if found else 30
        # A rollout that is a little shorter where a sleep is chosen must not make that the smaller change.
        return Outcome(job.seed, int(grace < 60), 1000, 99.0 - job.patch.count("sleep"), 1)


def test_a_pre_stop_that_works_by_the_grace_period_it_brings_is_not_the_smallest() -> None:
    result = tune(scenario(), Target(0), seeds=2, runner=OnlyGrace(1))
    assert result.chosen is not None
    assert result.chosen.choice == (("terminationGracePeriodSeconds", 6),)
    assert "sleep" not in result.patch
    lines = report(result)
    assert "smallest found: terminationGracePeriodSeconds 60" in lines
    # The table says what a long sleep really changes.
    assert any(line.startswith("  preStop sleep 60 s, grace 90 s ") for line in lines)
    asleep = next(row for row in as_json(result)["table"] if row["settings"].get("preStop") == 60)
    assert asleep["settings"]["terminationGracePeriodSeconds"] == 90


HOOKED = {
    "ports: [{containerPort: 8080}]": (
        "ports: [{containerPort: 8080}]\n              lifecycle: {preStop: {exec: {command: [nginx, -s, quit]}}}"
    )
}


def test_a_pre_stop_hook_that_is_there_is_replaced_not_made_two_of() -> None:
    """The API server refuses a hook with two handlers, so a patch that only adds `sleep` could not be applied."""
    result = tune(scenario(**HOOKED), Target(0), ["preStop"], seeds=1, runner=Scripted(1))
    assert result.chosen is not None
    patch = patch_tree(result.workload, values(result.settings, result.chosen.choice))
    hook = {"exec": {"command": ["nginx", "-s", "quit"]}}
    written = {"spec": {"template": {"spec": {"containers": [{"name": "shop", "lifecycle": {"preStop": hook}}]}}}}
    merged = strategic_merge({"apiVersion": "apps/v1", **written}, patch, "Deployment")
    assert merged is not None
    (container,) = merged["spec"]["template"]["spec"]["containers"]
    assert list(container["lifecycle"]["preStop"]) == ["sleep"]
    assert any(line.startswith("it replaces the preStop hook of shop") for line in report(result))


def test_a_chosen_grace_period_is_never_shorter_than_the_chosen_sleep() -> None:
    """validateSleepAction refuses such a pair."""
    workload = tune(scenario(), Target(0), ["preStop"], seeds=1, runner=Scripted(1)).workload
    settings = settings_of(workload, ["preStop", "terminationGracePeriodSeconds"])
    pair = values(settings, (("preStop", 60), ("terminationGracePeriodSeconds", 1)))
    assert pair == {"preStop": 60, "terminationGracePeriodSeconds": 60}


def test_the_report_fits_80_columns_however_many_settings_a_choice_has(tuned: Tuned) -> None:
    tuned = replace(tuned, settings=settings_of(tuned.workload, list(SETTINGS)))
    every = tuple((setting.name, len(setting.steps) - 1) for setting in tuned.settings)
    outcome = Outcome(5, 1_234_567, 9_999_999, 1234.5, 3)
    tuned.chosen = Row(every, (outcome,) * 3, False)
    tuned.rows = [*tuned.rows, tuned.chosen, Row(every[:-1], (outcome,), False)]
    lines = report(tuned)
    assert max(map(len, lines)) <= 80
    assert any(line.endswith("smallest") for line in lines)
    assert any("terminationGracePeriodSeconds 150" in line for line in lines)
    assert any("given up early" in line for line in lines)


def test_in_a_pipe_each_choice_is_told_on_a_line_of_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tuned.yaml"
    path.write_text(TEXT)
    words = ["tune", str(path), "--over", "preStop,preStop", "--seeds", "1", "--jobs", "1", "-o", "patch"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert out.startswith("apiVersion: apps/v1\nkind: Deployment\n")
    lines = err.splitlines()
    assert lines[0].startswith("tuning: 1 runs; as written: ")
    assert any("preStop sleep 60 s, grace 90 s: 0 lost in the worst of 1" in line for line in lines)
    assert "\x1b" not in err
    assert "preStop sleep 60 s, preStop" not in err, "a setting named twice is one"


MANIFESTS = "\n".join(line[6:] for line in APP.strip("\n").splitlines()) + "\n"


def test_manifests_that_nothing_happens_in_are_tuned_for_a_rolling_restart(tmp_path: Path) -> None:
    path = tmp_path / "app.yaml"
    path.write_text(MANIFESTS)
    result = tune(open_what([str(path)]), Target(0), ["preStop"], seeds=1, runner=Scripted(1))
    (action,) = result.scenario.spec.actions
    assert action.command == Act("restart", Key("Deployment", "default", "shop"))
    assert "nothing happens in it: Deployment shop is restarted at 5 s" in report(result)


def test_of_several_workloads_the_message_names_some(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "app.yaml"
    path.write_text(MANIFESTS + "---\n" + MANIFESTS.replace("shop", "cart"))
    assert main(["tune", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.rstrip().endswith("--workload namespace/Kind/name: default/Deployment/shop, default/Deployment/cart")


def test_a_setting_that_the_workload_has_not_is_said_to_be_left_out() -> None:
    without_probe = scenario(**{"              readinessProbe: {tcpSocket: {port: 8080}}\n": ""})
    result = tune(without_probe, Target(0), ["readiness", "preStop"], seeds=1, runner=Scripted(1))
    assert "left out, Deployment shop has nothing of it to change: readiness" in report(result)


def test_requests_that_hang_when_a_run_ends_are_counted_as_they_end() -> None:
    """Their connects time out 5 s after the pod is gone, when the rollout is long over."""
    gone = scenario(**{"  scale: {workload: default/Deployment/shop, replicas: 1}": "  powerOff: {node: node-2}"})
    spec = replace(gone.spec, actions=(replace(gone.spec.actions[0], t_ns=7_000_000_000),))
    outcome = run_job(Job(spec, gone.duration_ns, Key("Deployment", "default", "shop"), "", 5))
    assert outcome.failed > 50


def test_seeds_that_disprove_a_choice_join_the_search() -> None:
    kept: list[str] = []

    def tell(line: str, measured: bool = False) -> None:
        kept.extend([line] * measured)

    result = tune(scenario(), Target(0), ["preStop"], seeds=2, runner=Scripted(1), tell=tell)
    assert "preStop sleep 2 s: fresh seeds disproved it" in kept
    assert result.chosen is not None
    assert values(result.settings, result.chosen.choice) == {"preStop": 9}
    assert result.seeds == (5, 6, 7, 8)
    assert result.proof is not None
    assert [outcome.seed for outcome in result.proof.outcomes] == [9, 10]
    assert result.proved
