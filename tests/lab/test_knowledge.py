"""What the sentence above the ledger says when changes overlap, or when there is nothing to learn."""

import pytest

from kflab.errors import KflabError
from kflab.lab.commands import Kill, Run, Scale, Start, Stop
from kflab.lab.running import Lab
from kflab.lab.thread import LabThread
from kflab.manifest.objects import Key
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
