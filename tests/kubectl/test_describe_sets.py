"""StatefulSets and DaemonSets as `kubectl describe` shows them."""

from dataclasses import replace

from kflab.control import made
from kflab.control.plane import settle
from kflab.draws import Draws
from kflab.kubectl.execute import run_line
from kflab.manifest.objects import LabelSelector, Meta
from kflab.manifest.objects_pods import Container, PodSpec, PodTemplate
from kflab.manifest.objects_workloads import DaemonSet, StatefulSet

from .cluster import FakeLab


def test_describe_shows_strategy_and_counts() -> None:
    sets = (
        StatefulSet(Meta("db", "default"), replicas=3, selector=LabelSelector({"app": "db"}), partition=1),
        DaemonSet(Meta("agent", "default"), selector=LabelSelector({"app": "agent"})),
    )
    spec = PodSpec((Container("c", "c:v1"),))
    ready = [replace(one, template=PodTemplate(one.selector.match_labels, {}, spec)) for one in sets]
    plane = settle((*made.nodes(3).objects, *ready), Draws(5))
    text = run_line("describe sts db", plane.store, FakeLab())
    assert "Replicas:           3 desired | 3 total\nUpdate Strategy:    RollingUpdate\n  Partition:        1\n" in text
    text = run_line("describe ds agent", plane.store, FakeLab())
    assert "Number of Nodes Scheduled with Up-to-date Pods: 3\n" in text
    assert "Number of Nodes Scheduled with Available Pods: 3\nNumber of Nodes Misscheduled: 0\n" in text
