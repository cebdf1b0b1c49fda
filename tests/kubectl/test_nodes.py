"""kubectl cordon, uncordon and drain on the lab's command line."""

from kflab.kubectl.execute import run, run_line
from kflab.lab.commands import Act, Run
from kflab.lab.running import Lab
from kflab.manifest.objects import Key
from kflab.scenario.format import load
from kflab.tui.lab_words import parse

from .cluster import FakeLab, brief


def test_cordon_and_drain_reach_the_lab_with_their_options() -> None:
    store, lab = brief(), FakeLab()
    assert run_line("kubectl cordon node-b", store, lab) == "node/node-b cordoned\n"
    out = run_line("drain node/node-b --ignore-daemonsets --force --grace-period 5", store, lab)
    assert out.startswith("node/node-b cordoned\nevicting pod default/product")
    assert lab.done == [
        ("cordon", "node-b", ()),
        ("drain", "node-b", (("gracePeriod", 5_000_000_000), ("force", True), ("ignoreDaemonsets", True))),
    ]


def test_an_unknown_node_and_a_refusal() -> None:
    store = brief()
    assert run_line("cordon nobody", store, FakeLab()) == ('Error from server (NotFound): nodes "nobody" not found\n')
    lab = FakeLab()
    lab.refusal = 'unable to drain node "node-b" due to error: cannot delete …'
    outcome = run("drain node-b", store, lab)
    assert outcome.err == 'error: unable to drain node "node-b" due to error: cannot delete …\n'
    assert outcome.code == 1
    assert run_line("drain", store, FakeLab()) == "error: name a node: `drain NODE`\n"


def test_on_a_lab() -> None:
    lab = Lab(load("overview").spec)
    lab.advance(1_000_000_000)
    assert "node/node-b cordoned" in lab.run_words(["kubectl", "drain", "node-b", "--force"]).text
    assert "node-b   Ready,SchedulingDisabled" in lab.run_words(["kubectl", "get", "nodes"]).text
    assert lab.journal.actions[-1].command == Act("drain", Key("Node", "", "node-b"), (("force", True),))
    assert "node/node-b uncordoned" in lab.run_words(["kubectl", "uncordon", "node-b"]).text


def test_a_line_with_kubectls_options_is_kubectls_and_one_with_the_verbs_is_a_verb() -> None:
    assert parse("drain node-b --force") == Run("drain node-b --force")
    assert parse("drain node-b force=true") == Act("drain", Key("Node", "", "node-b"), (("force", True),))
