"""How far a rollout or a Job has come, in words."""

import pytest

from kflab.lab.rollouts import progress
from kflab.manifest.objects import Condition, Meta
from kflab.manifest.objects_workloads import DaemonSet, Deployment, Job, RollingUpdate, StatefulSet

META = Meta("web", "default", generation=2)


def seen(updated, available, there):
    return {"observedGeneration": 2, "updatedReplicas": updated, "availableReplicas": available, "replicas": there}


@pytest.mark.parametrize(
    ("obj", "words"),
    [
        (Deployment(META, replicas=3, observed={}), "its controller has not seen it yet, 3 wanted"),
        (Deployment(META, replicas=10, observed=seen(3, 9, 12)), "3 of 10 updated"),
        (Deployment(META, replicas=10, observed=seen(10, 8, 12)), "2 old left"),
        (Deployment(META, replicas=10, observed=seen(10, 8, 10)), "8 of 10 available"),
        (Deployment(META, replicas=10, paused=True, observed=seen(3, 9, 12)), "paused, 3 of 10 updated"),
        (Deployment(META, replicas=10, observed=seen(10, 10, 10)), ""),
        (StatefulSet(META, replicas=5, partition=3, observed=seen(1, 5, 5)), "1 of 2 updated"),
        (StatefulSet(META, replicas=5, partition=3, observed=seen(2, 5, 5)), ""),
        (StatefulSet(META, replicas=5, update_type="OnDelete", observed=seen(0, 5, 5)), ""),
        (StatefulSet(META, replicas=5, update_type="OnDelete", observed=seen(0, 4, 5)), "4 of 5 available"),
        (Job(META, completions=9, observed={"succeeded": 3, "failed": 2}), "3 of 9 succeeded, 2 failed"),
        (Job(META, completions=None, suspend=True), "suspended, 0 of 1 succeeded"),
        (Job(META, conditions=(Condition("Complete", "True"),)), ""),
        (None, ""),
    ],
)
def test_what_is_still_waited_for(obj, words):
    assert progress(obj) == words


def test_a_daemon_set_that_is_replaced_by_hand_waits_for_nobody():
    counts = {"observedGeneration": 2, "desiredNumberScheduled": 4, "currentNumberScheduled": 4, "numberAvailable": 4}
    by_hand = DaemonSet(META, update=RollingUpdate("OnDelete", 0, 1), observed=counts)
    assert progress(by_hand) == ""
    assert progress(DaemonSet(META, observed={**counts, "updatedNumberScheduled": 1})) == "1 of 4 updated"
