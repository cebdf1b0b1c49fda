"""A controller's client asks the API server 20 times a second, 30 times at once: what takes longer by that."""

import pytest
from control_clusters import PRODUCT, S, cluster, container, deployment, pods, service

from kflab.control.delays import Delays
from kflab.control.facts import What


def big(replicas: int, **delays: float):
    return cluster(deployment(replicas, box=container()), service(), nodes=8, delays=Delays(**delays))


def times(plane, what: What) -> list[float]:
    return [fact.t_ns / S for fact in plane.facts if fact.what is what]


def test_a_replica_set_of_two_hundred_pods_takes_eight_seconds_to_be_made():
    plane = big(2)
    plane.scale(PRODUCT, 202)
    plane.run_until(20 * S)
    made = times(plane, What.POD_CREATED)
    assert len(made) == 200
    assert (200 - 30 - 5) / 20 < made[-1] - made[0] < 200 / 20
    assert sum(t - made[0] < 0.2 for t in made) in range(28, 36)
    assert sum(pod.status.ready for pod in pods(plane)) == 202


def test_as_long_as_to_be_deleted_and_none_is_deleted_twice():
    plane = big(202)
    plane.scale(PRODUCT, 2)
    plane.run_until(3 * S)
    half = len(times(plane, What.POD_DELETED))
    assert 60 < half < 110
    assert plane.store.get(PRODUCT).observed["replicas"] > 90
    plane.run_until(20 * S)
    gone = [fact.subject for fact in plane.facts if fact.what is What.POD_DELETED]
    assert len(gone) == len(set(gone)) == 200
    assert times(plane, What.POD_DELETED)[-1] == pytest.approx((200 - 30) / 20, abs=0.6)
    assert len(pods(plane)) == 2


def test_a_scale_that_is_taken_back_ends_what_it_had_set_out_to_delete_and_makes_as_many_anew():
    plane = big(102)
    plane.scale(PRODUCT, 2)
    plane.run_until(S)
    plane.scale(PRODUCT, 102)
    plane.run_until(40 * S)
    assert sum(pod.status.ready for pod in pods(plane)) == 102


def test_another_flag_is_another_pace():
    plane = big(2, controller_api_gap_s=0.01, controller_api_burst=100.0)
    plane.scale(PRODUCT, 202)
    plane.run_until(20 * S)
    made = times(plane, What.POD_CREATED)
    assert 0.9 < made[-1] - made[0] < 1.3


def test_thirty_pods_at_once_wait_for_nobody():
    plane = big(2)
    plane.scale(PRODUCT, 30)
    plane.run_until(20 * S)
    made = times(plane, What.POD_CREATED)
    assert made[-1] - made[0] < 0.2
