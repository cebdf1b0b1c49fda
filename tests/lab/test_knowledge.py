"""What the sentence above the ledger says when changes overlap, or when there is nothing to learn."""

import pytest

from kflab.errors import KflabError
from kflab.lab.commands import Act, Kill, Run, Scale, Start, Stop
from kflab.lab.running import Lab
from kflab.lab.thread import LabThread
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod
from kflab.scenario.format import load

S = 10**9


def product_pod(lab: Lab) -> Key:
    return next(key for key in lab.store.keys("Pod") if key.name.startswith("product-"))


def test_a_component_that_missed_nothing_is_not_said_to_catch_up_for_ever() -> None:
    lab = Lab(load("overview").spec)
    lab.advance(S)
    assert lab.do(Stop("kubelet/node-b")).ok
    lab.advance(2 * S)
    assert lab.do(Start("kubelet/node-b")).ok
    lab.advance(20 * S)
    assert lab.snapshot().story == ()


def test_scaling_takes_no_credit_for_an_earlier_crash() -> None:
    lab = Lab(load("overview").spec)
    lab.advance(2 * S)
    assert lab.do(Kill(product_pod(lab))).ok
    lab.advance(2 * S + 100_000_000)
    assert lab.do(Scale(Key("Deployment", "kube-system", "coredns"), 1)).ok
    lab.advance(6 * S)
    incident = lab.knowing.incident
    assert incident is not None
    assert {service.name for service in incident.services} <= {"kube-dns"}
    assert incident.moved_ns is None


def test_a_command_that_ends_the_lab_answers_whoever_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = LabThread(load("overview").spec)

    def broken(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(Lab, "do", broken)
    with pytest.raises(KflabError, match="the lab has stopped: a defect"):
        handle.submit(Run("kubectl get pods")).result(timeout=10)
    with pytest.raises(RuntimeError, match="a defect"):
        handle.close()


def said(lab: Lab) -> str:
    return "".join(span.text for span in lab.snapshot().story)


def test_a_rollout_says_how_far_it_is_and_when_it_is_over() -> None:
    lab = Lab(load("overview").spec)
    workload = Key("Deployment", "default", "product")
    lab.advance(2 * S)
    assert lab.do(Act("restart", workload)).ok
    seen = []
    while len(seen) < 400 and "rolled out" not in said(lab):
        lab.advance(lab.t_ns + S // 20)
        seen.append(said(lab).partition(": ")[2].partition(";")[0])
    steps = list(dict.fromkeys(seen))
    order = [step for step in steps if "updated" in step]
    assert order == ["0 of 3 updated", "1 of 3 updated", "2 of 3 updated"]
    status = lab.do(Run("kubectl rollout status deployment product"))
    assert "successfully rolled out" in status.text
    after = float(said(lab).removeprefix("◆ product: rolled out in ").removesuffix(" s"))
    assert 3 < after < 15, "three pods, one after the other"
    assert lab.knowledge().what.endswith("· over")
    lab.advance(lab.t_ns + 30 * S)
    assert "rolled out" not in said(lab)


def pods_on(lab: Lab, node: str) -> int:
    pods = [lab.store.get(key) for key in lab.store.keys("Pod")]
    return sum(isinstance(pod, Pod) and pod.spec.node_name == node for pod in pods)


def test_a_drain_says_how_many_pods_it_waits_for() -> None:
    lab = Lab(load("overview").spec)
    lab.advance(2 * S)
    there = pods_on(lab, "node-b")
    assert lab.do(Act("drain", Key("Node", "", "node-b"))).ok
    assert said(lab).startswith(f"◇ node-b: {there} pods left; the drain of node-b began 0.0")
    assert lab.knowledge().what.endswith(f"· {there} pods left")
    while "drained" not in said(lab):
        lab.advance(lab.t_ns + S)
    assert pods_on(lab, "node-b") == 0
