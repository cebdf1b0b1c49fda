"""The EndpointSlice controller's own settings: batches, size of a slice, and slices that somebody else changed."""

from dataclasses import replace

import pytest

from kflab.control.delays import Delays
from kflab.control.facts import What
from kflab.errors import KflabError
from tests.control.control_clusters import MS, S, cluster, deployment, endpoints, ready, service, slices, times


def deletes(batch: object) -> list[int]:
    """When slices are written after two pods are deleted, 300 ms apart; both take long to end."""
    box = deployment(replicas=4, grace_s=60)
    plane = cluster(box, service(), delays=Delays().with_overrides({"endpointslice_batch_s": batch, "app_exit_s": 20}))
    first, second = ready(plane)[:2]
    facts = [*plane.delete_pod(first.key), *plane.run_until(300 * MS)]
    facts += [*plane.delete_pod(second.key), *plane.run_until(5 * S)]
    out = {pod.key for pod in (first, second)}
    assert {key for key, (is_ready, _, _) in endpoints(plane).items() if not is_ready} >= out
    return times(facts, What.ENDPOINTS_WRITTEN)


def test_changes_of_pods_are_written_together_after_the_batch_period() -> None:
    assert min(deletes(0)) <= 50 * MS
    written = deletes(1)
    assert min(written) >= 1 * S
    assert min(written) <= 1 * S + 50 * MS
    # Both deletes in one write; what comes later is about the pods made in their place.
    assert sum(t_ns < 1300 * MS for t_ns in written) == 1


def test_a_batch_period_may_be_drawn() -> None:
    assert 500 * MS <= min(deletes([0.5, 0.9])) <= 950 * MS


def test_a_change_of_the_service_does_not_wait_for_the_batch() -> None:
    plane = cluster(delays=Delays().with_overrides({"endpointslice_batch_s": 10}))
    facts = plane.apply([replace(service(), publish_not_ready=True, selector={"app": "nobody"})])
    facts = [*facts, *plane.run_until(2 * S)]
    assert min(times(facts, What.ENDPOINTS_WRITTEN)) <= 50 * MS
    assert not endpoints(plane)


@pytest.mark.parametrize(("most", "sizes"), [(100, [5]), (2, [2, 2, 1])])
def test_a_slice_takes_so_many_endpoints(most: int, sizes: list[int]) -> None:
    plane = cluster(deployment(replicas=5), service(), delays=Delays().with_overrides({"endpoints_per_slice": most}))
    assert sorted((len(piece.endpoints) for piece in slices(plane)), reverse=True) == sizes
    assert sum(bool(is_ready) for is_ready, _, _ in endpoints(plane).values()) == 5


@pytest.mark.parametrize("given", [0, 1001, 2.5])
def test_a_size_that_the_flag_refuses_is_refused(given: float) -> None:
    with pytest.raises(KflabError, match="whole number from 1 to 1,000"):
        Delays().with_overrides({"endpoints_per_slice": given})


def test_a_slice_that_somebody_else_wrote_or_removed_is_as_it_was_after_a_second() -> None:
    plane = cluster()
    (before,) = slices(plane)
    plane.core.put(replace(before, endpoints=before.endpoints[:1]), "user")
    plane.run_until(900 * MS)
    assert len(endpoints(plane)) == 1
    plane.run_until(1100 * MS)
    assert set(endpoints(plane)) == {entry.target for entry in before.endpoints}
    (piece,) = slices(plane)
    plane.core.remove(piece.key, "user")
    plane.run_until(2200 * MS)
    assert set(endpoints(plane)) == {entry.target for entry in before.endpoints}
