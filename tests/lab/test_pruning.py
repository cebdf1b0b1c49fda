"""A lab that runs for long keeps no more than what can still be asked for."""

from dataclasses import replace

import pytest

from kflab.errors import KflabError
from kflab.lab import pruning
from kflab.lab.commands import Kill, KillRandom, Start, Stop
from kflab.lab.running import Lab
from kflab.lab.spec import ClientSpec, LabSpec
from kflab.scenario.format import load

S = 1_000_000_000


def spec(rate_rps: float = 5.0) -> LabSpec:
    whole = load("overview").spec
    clients: tuple[ClientSpec, ...] = tuple(replace(client, rate_rps=rate_rps) for client in whole.clients)
    return replace(whole, clients=clients)


def sizes(lab: Lab) -> dict[str, int]:
    """Lengths of everything that once grew with time."""
    world, store = lab.world, lab.store
    return {
        "facts": len(lab.plane.facts),
        "log": len(store.changes(0)),
        "past": sum(len(entries) for entries in store._past.values()),
        "observers": sum(len(observer.versions) for observer in lab.plane.observers.values()),
        "balancers": sum(len(balancer.versions) for balancer in lab.plane.balancers.values()),
        "tables": len(lab.book._tables),
        "sets": len(lab.book._sets),
        "fans": len(lab.book._fans._fans),
        "configs": len(lab.wiring.configs),
        "listened": sum(len(entries) for entries in world._listened.values()),
        "fates": sum(len(entries) for entries in world._fates.values()),
        "addresses": len(world._by_ip),
    }


def run(lab: Lab, minutes: int, every_s: int = 10, how: str = "crash") -> None:
    end = lab.t_ns + minutes * 60 * S
    while lab.t_ns < end:
        if how == "crash":
            lab.do(KillRandom())  # refused while no application pod is ready
        else:
            pods = [key for key in lab.store.keys("Pod") if key.name.startswith("product-")]
            lab.do(Kill(pods[0], how))
        lab.advance(lab.t_ns + every_s * S)


@pytest.mark.parametrize("how", ["crash", "delete"])
def test_twenty_minutes_of_kills_keep_no_more_than_ten(how: str) -> None:
    lab = Lab(spec())
    run(lab, 10, how=how)
    early = sizes(lab)
    run(lab, 10, how=how)
    late = sizes(lab)
    for name, size in late.items():
        assert size <= 1.25 * early[name] + 16, f"{name} grew from {early[name]} to {size}"


def test_forgetting_changes_neither_story_nor_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    def told() -> tuple[str, list[tuple[int, str, str]]]:
        lab = Lab(spec())
        run(lab, 6, every_s=25)
        return lab.digest(), lab.take_lines()

    pruned = told()
    monkeypatch.setattr(pruning, "EVERY_NS", 1 << 60)
    assert told() == pruned


def test_sampled_requests_open_alike_with_and_without_forgetting(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened() -> list[object]:
        lab = Lab(spec(rate_rps=2.0))  # few requests: the sample reaches minutes back
        run(lab, 5, every_s=20)
        assert min(one.start_ns for _, one in lab.sampler.traces) < lab.t_ns - 100 * S
        return [lab.open_request(trace_id) for trace_id, _ in lab.sampler.traces]

    pruned = opened()
    monkeypatch.setattr(pruning, "EVERY_NS", 1 << 60)
    assert opened() == pruned


def test_a_request_opens_until_it_leaves_the_sample() -> None:
    lab = Lab(spec())
    lab.advance(2 * S)
    first = lab.sampler.traces[0][0]
    while lab.sampler.find(first) is not None:
        assert lab.open_request(first).hops
        lab.advance(lab.t_ns + 5 * S)
    with pytest.raises(KflabError, match="too old to be opened"):
        lab.open_request(first)


def test_a_stopped_kube_proxy_keeps_its_old_rules_however_long() -> None:
    lab = Lab(spec())
    lab.advance(S)
    lab.do(Stop("kube-proxy/node-a"))
    before = lab.rules_text("node-a")
    run(lab, 6, how="delete")
    assert lab.rules_text("node-a") == before
    assert lab.rules_text("node-b") != before
    assert len(lab.store.changes(0)) < 2_000, "a stopped observer does not hold the history back"
    lab.do(Start("kube-proxy/node-a"))
    lab.advance(lab.t_ns + 5 * S)
    pods = [obj.ip for obj in lab.store.of_kind("Pod") if obj.meta.name.startswith("product-")]  # type: ignore[attr-defined]
    assert any(f"{ip}:8080" in lab.rules_text("node-a") for ip in pods)


def test_curls_are_kept_in_bounds() -> None:
    lab = Lab(spec())
    lab.advance(S)
    answers = [lab.terminal.run("curl https://api.example.com/products").trace_id for _ in range(410)]
    assert len(lab.singles._kept) == 400
    assert answers[-1] is not None
    assert lab.open_request(answers[-1]).hops
    with pytest.raises(KflabError, match="too old"):
        lab.open_request(answers[0] or 0)
