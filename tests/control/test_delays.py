"""Delays drawn from distributions, and the profiles of whole clusters."""

import pytest

from kflab.cluster.store import Store
from kflab.control.delays import Delays, LogNormal
from kflab.control.plane import ControlPlane
from kflab.control.profiles import PROFILES
from kflab.draws import Draws
from kflab.errors import KflabError
from kflab.lab.running import Lab
from kflab.scenario.format import load, load_text


def drawn(name: str, given: object, count: int = 4000) -> list[float]:
    plane = ControlPlane(Store(), Draws(3), Delays().with_overrides({name: given}))
    plane.core.quiet = False
    return sorted(plane.core.delay(name, f"pod-{n}") / 1e9 for n in range(count))


def test_a_log_normal_delay_has_its_median_and_99th_percentile() -> None:
    values = drawn("sandbox_s", {"p50": 0.5, "p99": 4})
    assert values[2000] == pytest.approx(0.5, rel=0.08)
    assert values[3960] == pytest.approx(4, rel=0.2)


def test_an_exponential_delay_has_its_mean() -> None:
    values = drawn("app_exit_s", {"mean": 2.0})
    assert sum(values) / len(values) == pytest.approx(2.0, rel=0.08)
    assert values[0] < 0.01


def test_a_range_is_uniform() -> None:
    values = drawn("app_listen_s", [1, 3])
    assert 1 <= values[0] < 1.01
    assert 2.99 < values[-1] <= 3
    assert values[2000] == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize(
    "given", [{"p50": 2, "p99": 1}, {"p50": 1}, {}, {"mean": 0}, {"mean": "x"}, {"p50": 1, "p99": 2, "mean": 3}]
)
def test_a_wrong_distribution_says_what_there_is(given: object) -> None:
    with pytest.raises(KflabError, match=r"log-normal.*exponential"):
        Delays().with_overrides({"sandbox_s": given})


def test_what_is_fixed_takes_no_distribution() -> None:
    with pytest.raises(KflabError, match="takes one number, not a distribution"):
        Delays().with_overrides({"minimum_grace_s": {"mean": 1}})


def test_every_profile_is_one_of_known_delays() -> None:
    assert set(PROFILES) == {"laptop", "small", "5000-nodes"}
    for profile in PROFILES.values():
        Delays().with_overrides(profile.delays)
    assert Delays().with_overrides(PROFILES["small"].delays) == Delays()
    assert Delays().with_overrides(PROFILES["5000-nodes"].delays).proxy_sync_s == LogNormal(5.0, 20.0)


def crashed(profile: str) -> float:
    """Seconds from a crash until every caller's rules are new."""
    text = f"kflab: scenario/v1\nextends: pod-crash\ncluster: {{profile: {profile}}}\nduration: 60s\nexpect: []\n"
    lab = Lab(load_text(text, "<stdin>").spec)
    lab.advance(60_000_000_000)
    knowledge = lab.knowledge()
    assert knowledge.t_ns is not None and knowledge.moved_ns is not None  # noqa: PT018 (both for the type checker)
    return (knowledge.moved_ns - knowledge.t_ns) / 1e9


def test_the_largest_clusters_learn_late() -> None:
    assert crashed("laptop") < 2.5
    assert crashed("5000-nodes") > 2.5


def test_a_scenario_names_a_profile_and_its_own_delays_go_over_it() -> None:
    text = "kflab: scenario/v1\nextends: overview\ncluster: {profile: 5000-nodes, delays: {proxy_sync_s: 0.5}}\n"
    lab = Lab(load_text(text, "<stdin>").spec)
    assert lab.delays.proxy_sync_s == (0.5, 0.5)
    assert lab.delays.proxy_watch_s == (0.02, 0.5)
    with pytest.raises(KflabError, match="expected one of laptop, small, 5000-nodes"):
        load_text("kflab: scenario/v1\nextends: overview\ncluster: {profile: big}\n", "<stdin>")
    assert load("overview").spec.profile == ""
