"""CoreDNS and ingress controllers stopped: who notices, and who goes on."""

from kflab.lab.commands import Act, Kill, Start, Stop
from kflab.lab.running import Lab
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod
from kflab.scenario.format import load

S = 10**9


def overview() -> Lab:
    lab = Lab(load("overview").spec)
    lab.advance(2 * S)
    return lab


def controller_of(lab: Lab) -> str:
    return next(name for name in lab.plane.components if name.startswith("ingress/"))


def product(lab: Lab) -> Key:
    pods = lab.store.of_kind("Pod", "default")
    return next(p.key for p in pods if isinstance(p, Pod) and p.meta.name.startswith("product") and p.status.ready)


def test_without_coredns_names_do_not_resolve_and_addresses_work():
    lab = overview()
    caller = product(lab).name
    before = lab.run_words(["kubectl", "exec", caller, "--", "curl", "-s", "-i", "http://product-service"])
    assert "200" in before.text, before.text
    assert lab.do(Stop("coredns")).ok
    lab.advance(40 * S)
    after = lab.run_words(["kubectl", "exec", caller, "--", "curl", "-s", "-i", "http://product-service"])
    assert "200" not in after.text
    assert lab.do(Start("coredns")).ok
    lab.advance(80 * S)
    again = lab.run_words(["kubectl", "exec", caller, "--", "curl", "-s", "-i", "http://product-service"])
    assert "200" in again.text
    assert lab.totals.failed == 0  # clients of the lab resolve once


def test_nginx_goes_on_with_stale_endpoints_while_its_controller_is_stopped():
    lab = overview()
    name = controller_of(lab)
    others = [each for each in lab.plane.components if each.startswith("ingress/") and each != name]
    assert lab.do(Stop(name)).ok
    stale = lab.plane.observers[name].revision
    assert lab.do(Kill(product(lab), "delete")).ok
    lab.advance(20 * S)
    assert lab.plane.observers[name].revision == stale
    assert all(lab.plane.observers[each].revision > stale for each in others)
    assert lab.do(Start(name)).ok
    lab.advance(30 * S)
    assert lab.plane.observers[name].revision > stale


def test_who_knows_says_that_the_controller_manager_is_stopped():
    lab = overview()
    assert lab.do(Stop("controller-manager")).ok
    assert lab.do(Kill(product(lab), "crash")).ok
    lab.advance(5 * S)
    row = next(each for each in lab.knowledge().knowers if each.name == "EndpointSlice")
    assert row.word == "stopped"


def test_a_slow_component_by_command_and_saved():
    lab = overview()
    assert lab.do(Act("slow", Key("Component", "", "etcd"), (("by", 2 * S),))).ok
    assert lab.plane.core.slow == {"etcd": 2 * S}
    tree = lab.journal.as_tree(5 * S)
    assert {"slow": {"component": "etcd", "by": "2s"}}.items() <= tree["actions"][0].items()


def test_nginx_on_a_node_without_network_hears_of_nothing_until_it_is_healed():
    lab = overview()
    name = controller_of(lab)
    node = Key("Node", "", lab.plane.observers[name].node)
    stale = lab.plane.observers[name].revision
    assert lab.do(Act("partition", node)).ok
    assert lab.do(Kill(product(lab), "delete")).ok
    lab.advance(30 * S)
    assert lab.plane.observers[name].revision == stale
    assert lab.do(Act("heal", node)).ok
    lab.advance(100 * S)
    assert lab.plane.observers[name].revision > stale


def test_a_dead_nodes_kernel_cannot_be_asked_and_has_forgotten_its_connections():
    lab = overview()
    node = next(p.spec.node_name for p in lab.store.of_kind("Pod", "default") if p.meta.name.startswith("product"))
    assert lab.conntrack.count(node) > 100
    assert lab.do(Act("powerOff", Key("Node", "", node))).ok
    assert lab.conntrack.count(node) == 0
    for line in (["iptables-save", "--node", node], ["conntrack", "-L", "--node", node]):
        assert "Connection timed out" in lab.run_words(line).text
    assert lab.do(Act("powerOn", Key("Node", "", node))).ok
    lab.advance(120 * S)
    assert "-A KUBE-SERVICES" in lab.run_words(["iptables-save", "--node", node]).text
