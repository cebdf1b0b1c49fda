"""`:mode`: kube-proxy restarts in another mode, node after node, while requests go on."""

from dataclasses import replace
from pathlib import Path

import pytest

from kflab.control.facts import Fact, What
from kflab.dataplane.modes import MODES
from kflab.lab.commands import Apply, KillRandom, SetMode, Start, Stop
from kflab.lab.handle import Tab
from kflab.lab.pruning import prune
from kflab.lab.records import Record, record
from kflab.lab.running import Lab
from kflab.scenario.format import load

S = 10**9


def facts_of(lab: Lab, *kinds: What) -> list[Fact]:
    return [fact for fact in lab.facts if fact.what in kinds and fact.subject.name.startswith("kube-proxy/")]


def switched(mode: str, until_s: int = 8, scenario: str = "overview") -> tuple[Lab, list[Record]]:
    """A lab whose mode was set at 1 s, and every seventh of its requests."""
    lab = Lab(load(scenario).spec)
    kept: list[Record] = []
    lab.watch_rows(lambda rows: kept.extend(record(rows, i) for i in range(0, len(rows), 7)))
    lab.advance(S)
    result = lab.do(SetMode(mode))
    assert result.ok, result.text
    lab.advance(until_s * S)
    return lab, kept


def test_nftables_mode_removes_the_old_rules_when_it_starts_and_writes_its_own_at_its_first_sync() -> None:
    lab, kept = switched("nftables")
    for node in ("node-a", "node-b"):
        mine = [fact for fact in lab.facts if fact.subject.name == f"kube-proxy/{node}"]
        assert [fact.what for fact in mine] == [What.PROXY_STOPPED, What.RULES_REMOVED, What.RULES_SYNCED]
        stopped, removed, synced = (fact.t_ns for fact in mine)
        assert removed - stopped >= 400_000_000
        assert synced - removed >= 220_000_000
        assert ":KUBE-SERVICES" in lab.rules_text(node, stopped)
        assert ":KUBE-SERVICES" in lab.rules_text(node, removed - 1)
        assert lab.rules_text(node, removed).startswith("# no rules: kube-proxy started at")
        assert "table ip kube-proxy {" in lab.rules_text(node, synced)
    assert lab.totals.failed > 0
    assert set(lab.totals.by_status) == {"refused"}
    gaps = [(fact.t_ns, fact.what) for fact in facts_of(lab, What.RULES_REMOVED, What.RULES_SYNCED)]
    first, last = gaps[0][0], gaps[-1][0]
    lost = [one for one in kept if not one.ok]
    assert lost
    assert all(first - 50_000_000 <= one.start_ns <= last for one in lost)
    for one in lost[:20]:
        hops = lab.reopener.open_record(one).hops
        assert not [hop for hop in hops if hop.outcome == "mismatch"]
        assert any("kube-proxy restarted in another mode" in hop.why for hop in hops)
    for one in [one for one in kept if one.ok][::40]:
        assert not [hop for hop in lab.reopener.open_record(one).hops if hop.outcome == "mismatch"]


def test_the_daemon_set_replaces_one_kube_proxy_at_a_time() -> None:
    lab, _ = switched("nftables")
    steps = facts_of(lab, What.PROXY_STOPPED, What.RULES_REMOVED)
    assert [fact.what for fact in steps] == [What.PROXY_STOPPED, What.RULES_REMOVED] * 2
    assert len({fact.subject.name for fact in steps}) == 2


@pytest.mark.parametrize("back", [False, True])
def test_between_iptables_and_ipvs_the_old_rules_work_until_the_first_sync(back: bool) -> None:
    lab, _ = switched("ipvs")
    modes = ["ipvs"]
    if back:
        assert lab.do(SetMode("iptables")).ok
        lab.advance(16 * S)
        modes.append("iptables")
    assert lab.totals.failed == 0
    assert not facts_of(lab, What.RULES_REMOVED)
    started = facts_of(lab, What.PROXY_STARTED)
    assert len(started) == 2 * len(modes)
    for fact in started:
        node = fact.subject.name.partition("/")[2]
        assert lab.rules_text(node, fact.t_ns) == lab.rules_text(node, fact.t_ns - 1)
    text = lab.rules_text("node-a")
    assert ("-s rr" in text) is not back
    assert (":KUBE-SVC-" in text) is back


def test_a_saved_switch_replays_to_the_same_hash(tmp_path: Path) -> None:
    lab, _ = switched("nftables", 5)
    path = tmp_path / "switch.yaml"
    assert lab.journal.save(str(path), lab).ok
    assert "mode: nftables" in path.read_text()
    again = Lab(load(str(path)).spec)
    again.advance(5 * S)
    assert again.digest() == lab.digest()


def test_the_story_is_the_same_for_slabs_of_any_length() -> None:
    digests = set()
    for slab_ns in (500_000_000, 70_000_000):
        lab = Lab(load("overview-defaults").spec, slab_ns)
        lab.advance(S)
        assert lab.do(SetMode("nftables")).ok
        lab.advance(6 * S)
        digests.add(lab.digest())
    assert len(digests) == 1


def test_applying_a_changed_configuration_does_the_same() -> None:
    lab = Lab(load("overview").spec)
    tab = next(tab for tab in lab.tabs if "mode: iptables" in tab.text)
    lab.advance(S)
    result = lab.do(Apply(((tab.name, tab.text.replace("mode: iptables", "mode: nftables")),)))
    assert result.ok
    assert "kube-proxy restarts in nftables mode: its pods are replaced one node at a time" in result.text
    assert "\n" not in result.text
    lab.advance(8 * S)
    by_command, _ = switched("nftables")
    times = [fact.t_ns for fact in facts_of(lab, What.RULES_REMOVED, What.RULES_SYNCED)]
    assert times == [fact.t_ns for fact in facts_of(by_command, What.RULES_REMOVED, What.RULES_SYNCED)]
    assert lab.totals.by_status == by_command.totals.by_status


def test_a_configuration_that_says_the_same_restarts_nobody() -> None:
    lab = Lab(load("overview").spec)
    tab = next(tab for tab in lab.tabs if "mode: iptables" in tab.text)
    lab.advance(S)
    assert lab.do(Apply(((tab.name, tab.text.replace("mode: iptables", 'mode: "iptables"')),))).ok
    lab.advance(6 * S)
    assert not facts_of(lab, What.PROXY_STOPPED)


def test_what_cannot_be_done_is_answered_and_not_recorded() -> None:
    lab = Lab(load("overview").spec)
    assert lab.do(SetMode("userspace")).text == "no kube-proxy mode 'userspace'; there are iptables, nftables, ipvs"
    assert lab.do(SetMode("iptables")).text == "kube-proxy's configuration says iptables already"
    assert lab.do(Stop("apiserver")).ok
    assert not lab.do(SetMode("nftables")).ok
    assert [type(action.command) for action in lab.journal.actions] == [Stop]
    lab.advance(4 * S)
    assert not facts_of(lab, What.PROXY_STOPPED)


def test_the_answer_says_what_changes_for_this_clusters_callers() -> None:
    lab = Lab(load("overview").spec)
    text = lab.do(SetMode("nftables")).text
    assert "NodePorts on localhost: 127.0.0.1 calls ingress-nginx/ingress-nginx-controller" in text
    assert "at 10.96.100.50:81: times out (no rule, no such host) before, is refused by a rule now" in text
    assert "its node has no Service rules: calls to ClusterIPs time out" in text
    lab = Lab(load("overview").spec)
    text = lab.do(SetMode("ipvs")).text
    assert "Until its first sync a node keeps the rules it has" in text
    assert "filter KUBE-EXTERNAL-SERVICES stays until `kube-proxy --cleanup`" in text


def test_a_stopped_kube_proxy_is_passed_over_and_starts_in_the_new_mode() -> None:
    lab = Lab(load("overview").spec)
    lab.advance(S)
    assert lab.do(Stop("kube-proxy/node-a")).ok
    assert lab.do(SetMode("nftables")).ok
    lab.advance(8 * S)
    assert ":KUBE-SERVICES" in lab.rules_text("node-a")
    assert "table ip kube-proxy {" in lab.rules_text("node-b")
    assert lab.do(Start("kube-proxy/node-a")).ok
    assert lab.rules_text("node-a").startswith("# no rules")
    lab.advance(10 * S)
    assert "table ip kube-proxy {" in lab.rules_text("node-a")


def test_a_stopped_kubelet_holds_the_roll_out_up() -> None:
    lab = Lab(load("overview").spec)
    for node in ("node-a", "node-b"):
        assert lab.do(Stop(f"kubelet/{node}")).ok
    assert lab.do(SetMode("nftables")).ok
    lab.advance(6 * S)
    assert not facts_of(lab, What.PROXY_STOPPED)
    for node in ("node-a", "node-b"):
        assert lab.do(Start(f"kubelet/{node}")).ok
    lab.advance(14 * S)
    assert len(facts_of(lab, What.RULES_SYNCED)) == 2


def test_who_knows_shows_each_node_changing() -> None:
    lab = Lab(load("overview").spec)
    lab.advance(S)
    assert lab.do(SetMode("nftables")).ok

    def rules() -> dict[str, tuple[str, str, bool]]:
        rows = lab.knowledge().knowers
        return {row.name: (row.revision, row.word, row.in_step) for row in rows if row.name.endswith(" rules")}

    before = rules()["node-a rules"][0]
    assert not any(in_step for _, _, in_step in rules().values())
    seen: dict[str, list[str]] = {}
    while lab.t_ns < 8 * S:
        lab.advance(lab.t_ns + 20_000_000)
        for name, (revision, word, _) in rules().items():
            state = f"{revision}, {word}"
            if seen.setdefault(name, [""])[-1] != state:
                seen[name].append(state)
    for states in seen.values():
        assert [state for state in states[1:] if state != f"{before}, stale"] == [
            f"{before}, restarting", "no rules, stale", f"{before} nftables, in step",
        ]  # fmt: skip
    story = "".join(span.text for span in lab.snapshot().story)
    assert story.startswith("◆ kube-proxy's mode was set to nftables: every node's rules follow it since +")


def test_two_switches_in_a_row_end_in_the_last_mode() -> None:
    lab = Lab(load("overview").spec)
    lab.advance(S)
    assert lab.do(SetMode("nftables")).ok
    lab.advance(2 * S)
    assert lab.do(SetMode("ipvs")).ok
    lab.advance(12 * S)
    for node in ("node-a", "node-b"):
        assert "-s rr" in lab.rules_text(node)
    assert len(facts_of(lab, What.RULES_SYNCED)) <= 4


def test_history_is_forgotten_while_a_kube_proxy_restarts() -> None:
    """Between a process's end and the next one's first sync its rules are still in the kernel."""
    lab = Lab(load("overview").spec)
    lab.advance(20 * S)
    for at in (21, 23, 25, 27):
        lab.advance(at * S)
        assert lab.do(KillRandom()).ok
    lab.advance(28_500_000_000)
    assert lab.do(SetMode("ipvs")).ok
    while not lab.knowing.incident or all(o.running for o in lab.plane.observers.values()):
        lab.advance(lab.t_ns + 50_000_000)
    assert lab.t_ns < 30 * S
    prune(lab)
    away = next(o for o in lab.plane.observers.values() if not o.running)
    assert ":KUBE-SVC-" in lab.rules_text(away.node)
    lab.advance(36 * S)
    assert "-s rr" in lab.rules_text(away.node)
    for row in lab.view.traces()[::20]:
        assert not [hop for hop in lab.open_request(row.id).hops if hop.outcome == "mismatch"]


SWITCHES = [(old, new) for old in MODES for new in MODES if old != new]
TEXTS = {"iptables": ":KUBE-SVC-", "nftables": "table ip kube-proxy {", "ipvs": "-s rr"}


def in_mode(mode: str, scenario: str) -> Lab:
    """A lab whose nodes have been in a mode since before its first request."""
    spec = load(scenario).spec
    text = f"apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: {mode}\n"
    said = [tab for tab in spec.tabs if "KubeProxyConfiguration" in tab.text]
    tabs = [
        replace(tab, text=tab.text.replace("mode: iptables", f"mode: {mode}")) if tab in said else tab
        for tab in spec.tabs
    ]
    return Lab(replace(spec, tabs=(*tabs, *(() if said else (Tab("proxy.yaml", text, None),))), actions=()))


@pytest.mark.parametrize(("old", "new"), SWITCHES)
def test_every_switch_does_what_its_answer_says(old: str, new: str) -> None:
    """nftables and the other two remove each other's rules at start; iptables and ipvs leave each other's alone."""
    lab = in_mode(old, "overview")
    lab.advance(S)
    assert TEXTS[old] in lab.rules_text("node-a")
    text = lab.do(SetMode(new)).text
    lab.advance(9 * S)
    removes = "nftables" in (old, new)
    assert bool(facts_of(lab, What.RULES_REMOVED)) is removes
    assert ("While a new one starts, its node has no Service rules" in text) is removes
    assert ("Until its first sync a node keeps the rules it has" in text) is not removes
    assert ("left behind: " in text) is not removes
    assert (lab.totals.failed > 0) is removes
    for node in ("node-a", "node-b"):
        rules = lab.rules_text(node)
        assert [mode for mode in MODES if TEXTS[mode] in rules] == [new]
    if not removes:
        stays = {"iptables": "KUBE-EXTERNAL-SERVICES stays", "ipvs": "IPVS's virtual servers, kube-ipvs0"}
        assert stays[old] in text
        assert "(not modelled" in text


@pytest.mark.parametrize(("old", "new"), SWITCHES)
def test_established_connections_go_on_in_every_switch(old: str, new: str) -> None:
    lab = in_mode(old, "keepalive-clients")
    rows: list[Record] = []
    lab.watch_rows(lambda found: rows.extend(record(found, i) for i in range(0, len(found), 5)))
    lab.advance(4 * S)
    opened = {one.opened_ns for one in lab.engine.memory.connections.current.values()}
    text = lab.do(SetMode(new)).text
    lab.advance(12 * S)
    assert len(facts_of(lab, What.RULES_SYNCED)) == 3
    assert lab.totals.failed == 0
    assert {one.opened_ns for one in lab.engine.memory.connections.current.values()} == opened
    words = next(line for line in text.splitlines() if line.startswith("established connections: "))
    if (old, new) == ("ipvs", "nftables"):
        assert "on a real node those that IPVS carries end" in words
        assert "(not modelled)" in words
    else:
        assert words.endswith("they go on; conntrack has their addresses.")
    for one in rows[-30:]:
        assert not [hop for hop in lab.reopener.open_record(one).hops if hop.outcome == "mismatch"]
