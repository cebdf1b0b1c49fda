"""Who the pod thinks is calling, at every hop, in every mode."""

from dataclasses import replace

import pytest

from kflab.dataplane.packets import Hop, RequestTrace
from kflab.dataplane.trace_text import render_text, to_tree
from kflab.lab.commands import Apply, SetMode
from kflab.lab.handle import Tab
from kflab.lab.running import Lab
from kflab.lab.spec import LabSpec
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod
from kflab.scenario.format import load

MODES = ("iptables", "nftables", "ipvs")
SERVICE = "http://10.96.100.50/"


def spec_in(mode: str, scenario: str = "overview", extra: str = "") -> LabSpec:
    spec = load(scenario).spec
    text = f"mode: {mode}{extra}"
    tabs = tuple(Tab(tab.name, tab.text.replace("mode: iptables", text), tab.path, tab.role) for tab in spec.tabs)
    assert any(text in tab.text for tab in tabs)
    return replace(spec, tabs=tabs)


def sent(lab: Lab, source: Key | None, url: str) -> RequestTrace:
    return lab.singles.send(lab.singles.request_for(url, "GET", source), str(source))


def seen(hops: tuple[Hop, ...]) -> list[str]:
    return [hop.seen for hop in hops if hop.number]


def pods(lab: Lab, name: str) -> list[Pod]:
    return [pod for pod in lab.store.of_kind("Pod") if isinstance(pod, Pod) and pod.meta.name.startswith(name)]


def first(lab: Lab) -> RequestTrace:
    lab.advance(1_000_000_000)
    return lab.open_request(lab.view.traces()[0].id)


@pytest.mark.parametrize("mode", MODES)
def test_local_policy_keeps_the_client_and_nginx_is_who_the_pod_sees(mode: str) -> None:
    trace = first(Lab(spec_in(mode)))
    lb, node, ingress, rules, pod = seen(trace.hops)
    assert lb == "the load balancer sees 203.0.113.45, the client"
    assert node == "node-a sees 203.0.113.45, the client"
    assert ingress.endswith(" sees 203.0.113.45, the client: externalTrafficPolicy Local keeps it")
    source = trace.hops[-1].after.src
    assert rules == f"node-a's rules see {source}, the ingress"
    assert pod.endswith(f" sees {source}, the ingress; X-Forwarded-For says 203.0.113.45")


@pytest.mark.parametrize("mode", MODES)
def test_cluster_policy_shows_the_node_instead_of_the_client(mode: str) -> None:
    lab = Lab(load("overview-defaults").spec)
    if mode != "iptables":
        assert lab.do(SetMode(mode)).ok
        lab.advance(8_000_000_000)
    lab.advance(lab.t_ns + 1_000_000_000)
    found = [lab.open_request(row.id).hops[2] for row in lab.view.traces()[-30:]]
    remote = next(hop for hop in found if hop.node == "node-b" and hop.after is not None)
    assert (
        " sees 10.0.1.51, node-b, not 203.0.113.45, the client: externalTrafficPolicy Cluster masquerades it"
        in remote.seen
    )
    local = next(hop for hop in found if hop.node == "node-a")
    assert " sees 10.244.1.1, node-a's bridge, not 203.0.113.45, the client: " in local.seen


@pytest.mark.parametrize("mode", MODES)
def test_a_pod_that_reaches_itself_sees_its_nodes_bridge(mode: str) -> None:
    lab = Lab(spec_in(mode))
    caller = pods(lab, "product-")[0]
    for _ in range(40):
        hop = sent(lab, caller.key, SERVICE).hops[-1]
        assert hop.after is not None
        if hop.after.dst == caller.ip:
            break
        short = caller.meta.name.rpartition("-")[2]
        assert hop.seen.endswith(f" sees {caller.ip}, pod {short}")
    assert hop.after.dst == caller.ip
    assert f"sees 10.244.2.1, node-b's bridge, not {caller.ip}, " in hop.seen
    assert "hairpin, it calls itself" in hop.seen


@pytest.mark.parametrize("mode", MODES)
def test_a_nodes_own_call_is_masqueraded_as_it_is_no_pod(mode: str) -> None:
    lab = Lab(spec_in(mode))
    hop = sent(lab, Key("Node", "", "node-a"), SERVICE).hops[-1]
    assert hop.seen.startswith("pod ")
    if hop.after.src == "10.0.1.50":
        assert " sees 10.0.1.50, node-a itself" in hop.seen
    else:
        assert "not 10.0.1.50, node-a itself: the caller is outside the pod network 10.244.0.0/16" in hop.seen


@pytest.mark.parametrize("mode", MODES)
def test_masquerade_all_hides_pods_too(mode: str) -> None:
    lab = Lab(spec_in(mode, extra=f"\n{mode}: {{masqueradeAll: true}}"))
    caller = pods(lab, "ingress-nginx-controller")[0]
    hop = sent(lab, caller.key, SERVICE).hops[-1]
    assert hop.seen.endswith(f"sees 10.0.1.50, node-a, not {caller.ip}, the ingress: masqueradeAll")


def test_text_and_data_carry_it() -> None:
    trace = first(Lab(spec_in("iptables")))
    text = render_text(trace)
    assert text.count("     who calls: ") == len([hop for hop in trace.hops if hop.number])
    assert [hop["seen"] for hop in to_tree(trace)["hops"]] == [hop.seen for hop in trace.hops]


def test_masquerade_all_applied_to_a_running_lab_restarts_kube_proxy() -> None:
    lab = Lab(load("overview").spec)
    tab = next(tab for tab in lab.tabs if "mode: iptables" in tab.text)
    text = tab.text.replace("mode: iptables", "mode: iptables\niptables: {masqueradeAll: true}")
    result = lab.do(Apply(((tab.name, text),)))
    assert result.ok, result.text
    lab.advance(6_000_000_000)
    caller = pods(lab, "ingress-nginx-controller")[0]
    assert sent(lab, caller.key, SERVICE).hops[-1].seen.endswith(": masqueradeAll")
    assert lab.totals.failed == 0
