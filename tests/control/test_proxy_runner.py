"""kube-proxy's bounded-frequency runner: what has to lie between two of its runs."""

from dataclasses import replace

import pytest
from control_clusters import S, cluster, deployment, pods, service

from kflab.control import proxysync
from kflab.control.delays import Delays
from kflab.control.facts import What
from kflab.manifest.objects import Meta


def runs(plane, at_s):
    """When the rules of node-1 were written after Services that came at these seconds, s."""
    facts = []
    for i, t in enumerate(at_s):
        facts += plane.run_until(round(t * S))
        facts += plane.apply([replace(service(), meta=Meta(f"service-{i}", "default"), selector={})])
    facts += plane.run_until(round((at_s[-1] + 10) * S))
    return [f.t_ns / S for f in facts if f.what is What.RULES_SYNCED and f.subject.name == "kube-proxy/node-1"]


@pytest.mark.parametrize("crowd", [10**9, 1])
@pytest.mark.parametrize(("burst", "waits"), [(1, True), (2, False)])
def test_without_a_burst_the_interval_lies_between_the_end_of_a_run_and_the_next(monkeypatch, crowd, burst, waits):
    # From 1.34 on: "between the completion of one execution and the start of the next" (k/k pkg/proxy/runner).
    monkeypatch.setattr(proxysync, "CROWD", crowd)
    delays = Delays().with_overrides({"proxy_sync_s": 0.8, "proxy_sync_large_s": 0.8, "proxy_burst": burst})
    plane = cluster(deployment(), service(), delays=delays)
    assert pods(plane)
    one, two = runs(plane, (10, 11.4))  # a run takes 0.8 s: the second change comes 1.4 s after it began
    assert 10.8 <= one <= 10.84
    assert two == pytest.approx(one + 1 + 0.8, abs=1e-6) if waits else 12.2 <= two <= 12.24
