"""A story played again with one setting changed: what differs is the setting's, and nothing else does."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from kflab.cli import main
from kflab.errors import KflabError
from kflab.lab.commands import Act, Kill, Scale
from kflab.lab.running import Lab
from kflab.lab.session import session_of
from kflab.manifest.objects import Key, Meta
from kflab.manifest.objects_pods import PodSpec, PodTemplate, Toleration
from kflab.manifest.objects_workloads import DaemonSet, Deployment
from kflab.scenario.again import Change, Play, changed, end_of, offers, read_change
from kflab.scenario.again_nodes import toleration_patch, toleration_s
from kflab.scenario.again_plain import compare
from kflab.scenario.format import Scenario, load, load_text
from tests.scenario.test_tune import TEXT

S = 1_000_000_000
SCENARIOS = Path(__file__).parents[2] / "scenarios"


@pytest.fixture(scope="module")
def pod_delete() -> Scenario:
    return load(str(SCENARIOS / "pod-delete.yaml"))


def tree(scenario: Scenario, setting: str) -> dict[str, object]:
    out = io.StringIO()
    assert compare(scenario, setting, out, as_json=True) == 0
    return dict(json.loads(out.getvalue()))


def text(scenario: Scenario, setting: str, ascii_only: bool = False) -> str:
    out = io.StringIO()
    assert compare(scenario, setting, out, ascii_only=ascii_only) == 0
    return out.getvalue()


def test_as_it_was_shows_no_difference_at_all(pod_delete: Scenario) -> None:
    found = tree(pod_delete, "same")
    assert found["same"] is True
    assert found["was"] == found["then"]
    assert found["differences"] == []
    page = text(pod_delete, "same")
    assert "no difference at all" in page
    assert "≠" not in page


def test_a_pre_stop_saves_the_requests_that_a_delete_cost(pod_delete: Scenario) -> None:
    found = tree(pod_delete, "preStop=5")
    was, then = found["was"], found["then"]
    assert isinstance(was, dict)
    assert isinstance(then, dict)
    assert was["requests"]["sent"] == then["requests"]["sent"]
    assert was["requests"]["failed"] > 0
    assert was["billed"]["stale"] > 0
    assert then["requests"]["failed"] == then["requests"]["slowed"] == 0
    assert then["billed"] == {}
    assert then["recovered_s"] > was["recovered_s"] + 4  # the pod goes 5 s later
    assert found["workload"] == "default/Deployment/product"


def test_the_page_marks_what_differs_and_repeats_byte_for_byte(pod_delete: Scenario) -> None:
    page = text(pod_delete, "preStop=5")
    assert page == text(pod_delete, "preStop=5")
    lines = page.splitlines()
    failed = next(line for line in lines if "requests failed" in line)
    assert failed.split()[0] == "≠"
    assert failed.endswith("fewer")
    assert not next(line for line in lines if "requests sent" in line).lstrip().startswith("≠")
    rules = next(line for line in lines if "node-a rules" in line)
    assert rules.count("+0.135 s") == 2  # the observer knows as late as before: only its pod still answers
    assert " lost" in rules
    assert "Draws are addressed" in page


def test_ascii_draws_with_ascii_only(pod_delete: Scenario) -> None:
    assert text(pod_delete, "profile=5000-nodes", ascii_only=True).isascii()


def test_slower_rules_lose_more(pod_delete: Scenario) -> None:
    found = tree(pod_delete, "profile=5000-nodes")
    was, then = found["was"], found["then"]
    assert isinstance(was, dict)
    assert isinstance(then, dict)
    assert then["moved_s"] > was["moved_s"]
    assert then["requests"]["slowed"] > was["requests"]["slowed"]


def test_the_same_pod_of_the_workload_is_killed_though_its_name_differs(pod_delete: Scenario) -> None:
    first = Play(pod_delete.spec, 6 * S)
    first.run()
    session = session_of(first.lab)
    second = Play(changed(session, Change("preStop", "5")), 6 * S)
    second.run()
    (was,), (then,) = first.lab.journal.actions, second.lab.journal.actions
    assert isinstance(was.command, Kill)
    assert isinstance(then.command, Kill)
    assert was.command.pod != then.command.pod  # another template hash
    assert was.pod_of == then.pod_of == ("default/Deployment/product", 1)


def test_commands_of_a_lab_are_played_again_without_the_scenario_still_to_come(pod_delete: Scenario) -> None:
    lab = Lab(pod_delete.spec)
    lab.advance(2 * S)
    product = Key("Deployment", "default", "product")
    assert lab.do(Scale(product, 2)).ok
    lab.advance(4 * S)
    session = session_of(lab)
    assert [type(action.command) for action in session.spec.actions] == [Scale]
    assert (session.what, session.change_ns, session.changes) == ("product was scaled to 2", 2 * S, 1)
    again = Play(changed(session, Change("same")), lab.t_ns)
    again.run()
    assert again.lab.digest() == lab.digest()


def test_the_workload_of_a_lost_node_is_the_one_whose_pods_went() -> None:
    lab = Lab(replace(load(str(SCENARIOS / "pod-delete.yaml")).spec, actions=()))
    assert session_of(lab).what == ""
    lab.advance(2 * S)
    assert lab.do(Act("powerOff", Key("Node", "", "node-b"))).ok
    lab.advance(4 * S)
    workload = session_of(lab).workload
    assert isinstance(workload, Deployment)
    assert workload.meta.name == "product"


def test_only_what_would_change_something_is_offered(pod_delete: Scenario) -> None:
    lab = Lab(pod_delete.spec)
    lab.advance(6 * S)
    offered = {(change.name, change.value) for _, change, _ in offers(session_of(lab))}
    assert {("same", ""), ("preStop", "5"), ("mode", "ipvs"), ("profile", "laptop")} <= offered
    assert ("mode", "iptables") not in offered  # it has that
    assert ("readiness", "1") not in offered  # product has no readiness probe
    letters = [letter for letter, _, _ in offers(session_of(lab))]
    assert len(letters) == len(set(letters))


def test_a_mode_is_changed_from_the_start_where_a_configuration_is_given_and_where_none_is() -> None:
    given = TEXT.replace(
        "clients:\n",
        "  - name: proxy.yaml\n    text: |\n      apiVersion: kubeproxy.config.k8s.io/v1alpha1\n"
        "      kind: KubeProxyConfiguration\n      mode: nftables\nclients:\n",
    )
    for written in (TEXT, given):
        lab = Lab(load_text(written, "tuned.yaml").spec)
        lab.advance(3 * S)
        spec = changed(session_of(lab), Change("mode", "ipvs"))
        assert Lab(spec, traffic=False).book.config.mode == "ipvs"


@pytest.mark.parametrize("setting", ["", "preStop", "preStop=x", "preStop=-1", "preStop=99999", "mode=ebpf", "same=1",
                                     "readiness=0", "profile="])  # fmt: skip
def test_what_is_no_setting_is_told_in_one_line(setting: str) -> None:
    with pytest.raises(KflabError, match="expected preStop=N"):
        read_change(setting)


def test_after_a_nodes_loss_tolerance_and_grace_period_are_offered_and_bring_pods_and_traffic_back_sooner() -> None:
    scenario = load(str(SCENARIOS / "node-power-loss.yaml"))
    lab = Lab(scenario.spec)
    lab.advance(15 * S)
    session = session_of(lab)
    assert [str(change) for _, change, _ in offers(session)][:3] == [
        "as it was", "tolerationSeconds 30", "node-monitor-grace-period 20",
    ]  # fmt: skip
    assert not any(change.name == "preStop" for _, change, _ in offers(session)), "nobody stops a pod there"
    assert end_of(session) > 370 * S, "300 s of toleration after 50 s of grace"

    found = tree(scenario, "tolerationSeconds=30")
    was, then = found["was"], found["then"]
    assert isinstance(was, dict)
    assert isinstance(then, dict)
    assert 345 < was["ready_s"] < 375
    assert abs(was["ready_s"] - then["ready_s"] - 270) < 5, "300 s become 30 s, the start-up is another draw"
    assert was["requests"]["failed"] == then["requests"]["failed"], "the Ready condition ends the losses"

    sooner = tree(replace(scenario, duration_ns=90 * S), "node-monitor-grace-period=20")
    was, then = sooner["was"], sooner["then"]
    assert isinstance(was, dict)
    assert isinstance(then, dict)
    assert 25 < was["moved_s"] - then["moved_s"] < 35, "passes are 5 s apart"
    assert then["requests"]["failed"] < 0.6 * was["requests"]["failed"]


def test_a_toleration_of_something_else_stays_and_a_daemon_set_has_none_of_its_own() -> None:
    other = Toleration("gpu", "Equal", "yes", "NoSchedule")
    both = Toleration("node.kubernetes.io/unreachable", "Exists", "", "NoExecute", 600)
    shop = Deployment(Meta("shop", "default"), template=PodTemplate(spec=PodSpec(tolerations=(other, both))))
    assert toleration_s(shop) == 600
    patch = yaml.safe_load(toleration_patch(shop, 30))
    assert patch["spec"]["template"]["spec"]["tolerations"] == [
        {"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"},
        {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30},
        {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30},
    ]
    assert toleration_s(DaemonSet(Meta("agent", "default"))) is None


def test_elsewhere_a_nodes_settings_are_not_offered(pod_delete: Scenario) -> None:
    lab = Lab(pod_delete.spec)
    lab.advance(7 * S)
    names = {change.name for _, change, _ in offers(session_of(lab))}
    assert "preStop" in names
    assert not names & {"tolerationSeconds", "node-monitor-grace-period"}
    with pytest.raises(KflabError, match="N from 20"):
        read_change("node-monitor-grace-period=5")


def test_bad_settings_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    path = str(SCENARIOS / "pod-delete.yaml")
    for setting in ("speed=3", "readiness=1"):
        assert main(["replay", path, "--plain", "--compare", setting]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert main(["replay", path, "--plain", "--compare", "preStop=5", "--duration", "7s"]) == 0
    assert "both from 0 to 7 s" in capsys.readouterr().out
