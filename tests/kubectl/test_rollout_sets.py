"""StatefulSets and DaemonSets as kubectl shows them while a new template goes out."""

from dataclasses import replace

import pytest

from kflab.control import made
from kflab.control.plane import settle
from kflab.control.verbs import VERBS
from kflab.draws import Draws
from kflab.errors import KflabError
from kflab.kubectl.execute import run_line
from kflab.kubectl.rollout_sets import status_of_set
from kflab.manifest.objects import Key, LabelSelector, Meta
from kflab.manifest.objects_pods import Container, PodSpec, PodTemplate
from kflab.manifest.objects_workloads import DaemonSet, RollingUpdate, StatefulSet

from .cluster import SECOND, FakeLab

DB, AGENT = Key("StatefulSet", "default", "db"), Key("DaemonSet", "default", "agent")


def opened(partition=None):
    sets = (
        StatefulSet(Meta("db", "default"), replicas=3, selector=LabelSelector({"app": "db"}), partition=partition),
        DaemonSet(Meta("agent", "default"), selector=LabelSelector({"app": "agent"})),
    )
    spec = PodSpec((Container("c", "c:v1"),))
    ready = [replace(one, template=PodTemplate(one.selector.match_labels, {}, spec)) for one in sets]
    return settle((*made.nodes(3).objects, *ready), Draws(5))


def said_while_rolling(plane, key):
    now = plane.store.get(key)
    plane.apply([replace(now, template=replace(now.template, annotations={"v": "2"}))])
    words = [status_of_set(plane.store.get(key))]
    while (due := plane.next_ns()) is not None and due < 400 * SECOND:
        plane.step()
        line = status_of_set(plane.store.get(key))
        if line != words[-1]:
            words.append(line)
    return words


def test_rollout_status_of_a_stateful_set_counts_pods_at_the_new_revision() -> None:
    plane = opened()
    words = said_while_rolling(plane, DB)
    name = plane.store.get(DB).update_revision
    assert words[0] == "Waiting for statefulset spec update to be observed...\n"
    assert "Waiting for 1 pods to be ready...\n" in words
    assert f"waiting for statefulset rolling update to complete 1 pods at revision {name}...\n" in words
    assert words[-1] == f"statefulset rolling update complete 3 pods at revision {name}...\n"


def test_rollout_status_of_a_partition_says_how_many_of_the_pods_above_it() -> None:
    words = said_while_rolling(opened(partition=1), DB)
    assert "Waiting for partitioned roll out to finish: 1 out of 2 new pods have been updated...\n" in words
    assert words[-1] == "partitioned roll out complete: 2 new pods have been updated...\n"


def test_rollout_status_of_a_daemon_set_counts_nodes() -> None:
    words = said_while_rolling(opened(), AGENT)
    waiting = 'Waiting for daemon set "agent" rollout to finish'
    assert words[0] == "Waiting for daemon set spec update to be observed...\n"
    assert f"{waiting}: 1 out of 3 new pods have been updated...\n" in words
    assert f"{waiting}: 2 of 3 updated pods are available...\n" in words
    assert words[-1] == 'daemon set "agent" successfully rolled out\n'


def test_on_delete_has_no_rollout_status() -> None:
    by_hand = DaemonSet(Meta("agent", "default"), update=RollingUpdate("OnDelete", 0, 1))
    with pytest.raises(KflabError, match="only available for RollingUpdate strategy type"):
        status_of_set(by_hand)


def test_describe_shows_strategy_and_counts() -> None:
    plane = opened(partition=1)
    text = run_line("describe sts db", plane.store, FakeLab())
    assert "Replicas:           3 desired | 3 total\nUpdate Strategy:    RollingUpdate\n  Partition:        1\n" in text
    text = run_line("describe ds agent", plane.store, FakeLab())
    assert "Number of Nodes Scheduled with Up-to-date Pods: 3\n" in text
    assert "Number of Nodes Scheduled with Available Pods: 3\nNumber of Nodes Misscheduled: 0\n" in text


class Acting(FakeLab):
    """A lab that lets kubectl act on a control plane."""

    def __init__(self, plane):
        super().__init__()
        self.plane = plane

    def act_on_workload(self, verb, key, options):
        try:
            VERBS[verb].do(self.plane, key, dict(options))
        except KflabError as error:
            return str(error)
        return ""


@pytest.mark.parametrize(("key", "kind"), [(DB, "statefulset.apps/db"), (AGENT, "daemonset.apps/agent")])
def test_undo_brings_the_earlier_image_back_and_history_counts_on(key, kind) -> None:
    plane = opened()
    lab = Acting(plane)

    def kubectl(line):
        return run_line(line, plane.store, lab)

    def images():
        return {pod.spec.containers[0].image for pod in plane.store.of_kind("Pod") if pod.meta.owner == key}

    assert kubectl(f"rollout undo {kind}") == "error: no last revision to roll back to\n"
    causes = {"kubernetes.io/change-cause": "new libc"}
    now = plane.store.get(key)
    plane.apply([replace(now, meta=replace(now.meta, annotations=causes))])
    assert kubectl(f"set image {kind} c=c:v2") == f"{kind} image updated\n"
    plane.run_until(200 * SECOND)
    assert images() == {"c:v2"}
    table = kubectl(f"rollout history {kind}").splitlines()
    assert [line.split(maxsplit=1) for line in table[2:4]] == [["1", "<none>"], ["2", "new libc"]]
    assert "c:v1" in kubectl(f"rollout history {kind} --revision=1")
    assert kubectl(f"rollout undo {kind} --to-revision=7") == "error: unable to find specified revision 7 in history\n"
    assert kubectl(f"rollout undo {kind}") == f"{kind} rolled back\n"
    plane.run_until(400 * SECOND)
    assert images() == {"c:v1"}
    assert [line.split()[0] for line in kubectl(f"rollout history {kind}").splitlines()[2:4]] == ["2", "3"]
    again = kubectl(f"rollout undo {kind} --to-revision=3")
    assert again == f"{kind} skipped rollback (current template already matches revision 3)\n"
    done = "complete 3 pods at revision" if key == DB else "successfully rolled out"
    assert done in kubectl(f"rollout status {kind}")
