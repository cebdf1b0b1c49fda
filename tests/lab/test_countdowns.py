"""What runs down stands beside its object: grace period, back-off, pulls, init containers."""

from dataclasses import replace
from itertools import pairwise

from kflab.lab.commands import Act, Kill, Result
from kflab.lab.countdowns import countdown, seconds_left
from kflab.lab.running import Lab
from kflab.lab.snapshot import Candidate
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod
from kflab.scenario.format import load

S = 1_000_000_000


def shop(name: str = "grace-too-short") -> tuple[Lab, list[Key]]:
    """A lab of the shop, without its scenario's own actions, and its pods."""
    spec = replace(load(name).spec, actions=())
    lab = Lab(spec)
    return lab, sorted(key for key in lab.store.keys("Pod") if key.name.startswith("shop-"))


def row(lab: Lab, pod: Key) -> Candidate:
    """A pod's row of the topology."""
    rows = [row for band in lab.snapshot().bands if band.kind == "service" for row in band.candidates]
    return next(row for row in rows if row.key == pod)


def ok(result: Result) -> None:
    assert result.ok, result.text


def test_a_terminating_pod_counts_its_grace_period_down() -> None:
    lab, pods = shop()
    lab.advance(2 * S)
    ok(lab.do(Kill(pods[0], "delete")))
    seen = []
    for t_s in (3, 12, 27, 31.5):
        lab.advance(round(t_s * S) + 1)
        seen.append((row(lab, pods[0]).state, row(lab, pods[0]).left, row(lab, pods[0]).note))
    assert seen == [
        ("terminating", "ends in 29s", "29 s of grace left"),
        ("terminating", "ends in 20s", "20 s of grace left"),
        ("terminating", "ends in 5s", "5 s of grace left"),
        ("terminating", "ends in 1s", "1 s of grace left"),
    ]
    names = [pod for node in lab.snapshot().nodes for pod in node.pods if pod.key == pods[0]]
    assert names[0].left == "ends in 1s"


def test_back_off_counts_down_and_says_when_it_is_over() -> None:
    lab, pods = shop()
    ok(lab.do(Act("crashLoop", Key("Pod", "default", pods[0].name), (("after", S),))))
    words = []
    for t_s in range(1, 60):
        lab.advance(t_s * S)
        left = row(lab, pods[0]).left
        if left and (not words or words[-1] != left):
            words.append(left)
    runs = [int(word.removeprefix("backoff ").removesuffix("s")) for word in words if word.startswith("backoff")]
    down = [two - one for one, two in pairwise(runs)]
    assert down.count(-1) >= len(down) - 2, "second by second, but for the two new series"
    assert [two for one, two in pairwise([0, *runs]) if two > one] in ([9, 19, 39], [10, 20, 40], [9, 20, 39])
    assert {"restart due", "restarting"} <= set(words)
    assert all(len(word) <= 11 for word in words)


def test_a_hung_pod_is_called_hung_though_the_api_says_ready() -> None:
    lab, pods = shop()
    ok(lab.do(Act("hang", pods[1])))
    lab.advance(S)
    pod = lab.store.get(pods[1])
    assert isinstance(pod, Pod)
    assert pod.status.ready
    assert (row(lab, pods[1]).state, row(lab, pods[1]).note) == ("hung", "connections are made and wait")


def test_a_pod_that_waits_for_an_image_says_so() -> None:
    lab, _ = shop()
    ok(lab.do(Act("registryDown")))
    for _ in range(2):
        lab.advance(lab.t_ns + S)
    ok(lab.run_words(["scale", "deploy/shop", "--replicas=4"]))
    lab.advance(lab.t_ns + 4 * S)
    fresh = [obj for obj in lab.store.of_kind("Pod") if isinstance(obj, Pod) and obj.meta.name.startswith("shop-")]
    ready = [countdown(lab.plane, pod) for pod in fresh]
    assert ready.count(("", "")) == 4, "shop:v1 is on every node: nobody has to pull"


def test_seconds_are_rounded_up() -> None:
    assert [seconds_left(t, 10 * S) for t in (10 * S + 1, 11 * S, 11 * S + 1, 10 * S, 9 * S)] == [1, 1, 2, 0, 0]
