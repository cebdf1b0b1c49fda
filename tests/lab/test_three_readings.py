"""One rule set, three readings: its text, the walk of one packet, the arrays of a batch. On random clusters all agree.

The first half is about any rule set (hints, draining endpoints, source ranges, every policy and protocol); the second
about whole labs, row by row.
"""

import sys
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kflab.dataplane.iptables import RuleSet, Scan
from kflab.dataplane.ipvs import IpvsScan
from kflab.dataplane.ipvs_schedulers import CHOOSER, COUNTING, turn_words
from kflab.dataplane.ipvs_walk import ipvs_fan
from kflab.dataplane.memory_view import Turn
from kflab.dataplane.modes import MODES, ModeRules, fan_in, rule_set_for, walk_in
from kflab.dataplane.nftables import NftRuleSet, NftScan
from kflab.dataplane.nftables_walk import nft_fan
from kflab.dataplane.packets import Packet, Verdict, join_host_port
from kflab.dataplane.parse import parse_save
from kflab.dataplane.walk import FanOut, fan
from kflab.draws import Draws
from kflab.engine.choosers import Choosers
from kflab.engine.counts import chi_square_limit, count
from kflab.engine.ipvs_counts import unpacked
from kflab.engine.scheduled import entry_turn
from kflab.engine.schedulers import SCHEDULERS
from kflab.engine.types import Answer, Behaviour, Choice, Fan, Finished
from kflab.lab import entries
from kflab.lab.choosers import Chooser, Wired
from kflab.lab.compiling import Compiler
from kflab.lab.handle import Tab
from kflab.lab.running import Lab
from kflab.lab.spec import LabSpec
from kflab.manifest.objects_pods import Pod

sys.path.insert(0, str(Path(__file__).parent.parent / "dataplane"))

from test_iptables import packets, rule_sets

S = 1_000_000_000
FLOWS = 1_000

Shares = dict[str, Fraction]
"""ip:port → exact chance."""

ANSWERS = {Verdict.REJECT: Answer.REJECTED, Verdict.DROP: Answer.TIMEOUT}


def fixed(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],  # whole labs take minutes to shrink
        suppress_health_check=[HealthCheck.too_slow],
    )


# --- the three readings -------------------------------------------------------------------------------------------


def told(found: FanOut) -> tuple[Verdict, list[tuple[str, int, Fraction, bool]]]:
    return found.verdict, [(item.address, item.port, item.chance, item.masquerade) for item in found.endpoints]


def shares(found: FanOut) -> Shares:
    """By the walker; an endpoint that is reached with and without masquerade counts once."""
    sums: Counter[str] = Counter()
    for item in found.endpoints:
        sums[join_host_port(item.address, item.port)] += item.chance  # type: ignore[assignment]  # exact sums
    return cast(Shares, dict(sums))


def fan_of_all_rules(rules: ModeRules, packet: Packet) -> FanOut:
    """By the whole listing; in iptables mode by the printed text, read back."""
    if isinstance(rules, RuleSet):
        text = rules.save_text()
        assert text == parse_save(text).text()
        parsed = parse_save(text, local_ips=rules.facts.ips)
        by_text, scanned = fan(parsed, packet), fan(Scan(rules), packet)
        assert by_text.verdict is scanned.verdict
        for printed, exact in zip(by_text.endpoints, scanned.endpoints, strict=True):
            assert printed._replace(chance=exact.chance, target=exact.target) == exact
            # iptables-save prints what the kernel keeps of a probability: 31 bits, 11 digits (libxt_statistic.c).
            assert abs(printed.chance - exact.chance) < Fraction(1, 1 << 30)
        return scanned
    if isinstance(rules, NftRuleSet):
        return nft_fan(NftScan(rules.table(), rules), packet)
    return ipvs_fan(IpvsScan(rules), packet)


class Table:
    """By the arrays: one chooser of the engine, made from a fan as the lab makes it."""

    def __init__(self, found: FanOut, packet: Packet) -> None:
        self.names: list[str] = []
        lab = SimpleNamespace(_index=SimpleNamespace(server=self._server), _note_masquerade=lambda *_: None)
        chooser = Chooser(0, "entry", "", "node-a", ("kube-proxy/node-a",), cast(entries.Entry, None))
        # Where affinity decides, a stream has one endpoint; what it is drawn from is the fan without it.
        made = Compiler._fan(cast(Compiler, lab), chooser, replace(found, affinity_s=0), packet, 0)
        self.choosers = Choosers(Draws(7))
        self.choosers.learn(0, 0, made, 0)

    def _server(self, address: str, port: int, protocol: str, pod: object) -> int:
        name = join_host_port(address, port)
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)

    def shares(self) -> Shares:
        return table_shares(self.choosers, 0, self.names)

    def answer(self) -> int:
        return int(self.choosers.answer[self.choosers.current[0]])

    def picked(self, words: np.ndarray) -> list[str]:
        versions = np.full(len(words), self.choosers.current[0], dtype=np.int64)
        slots = self.choosers.slots_by_draw(versions, words)
        return [self.names[server] for server in self.choosers.flat[slots].tolist()]


def table_shares(choosers: Choosers, chooser: int, names: list[str]) -> Shares:
    version = int(choosers.current[chooser])
    first, n = int(choosers.offset[version]), int(choosers.size[version])
    candidates = Counter(choosers.flat[first : first + n].tolist())
    return {names[server]: Fraction(times, n) for server, times in candidates.items() if server >= 0}


def assert_likely(counts: Counter[str], expected: Shares, of: str) -> None:
    """Pearson's chi-square against exact chances, at a limit that a right sampler misses once in a million."""
    n = counts.total()
    assert set(counts) <= set(expected), of
    if len(expected) > 1:
        statistic = sum((counts[name] - float(n * p)) ** 2 / float(n * p) for name, p in expected.items())
        assert statistic < chi_square_limit(len(expected) - 1), f"{of}: {dict(counts)} of {expected}"


# --- any rule set ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@fixed(25)
@given(rule_sets(), st.lists(packets, min_size=3, max_size=6))
def test_text_walk_and_arrays_of_any_rule_set_agree(mode: str, iptables: RuleSet, sent: list[Packet]) -> None:
    rules = rule_set_for(mode, iptables.facts, iptables.config, iptables.services, iptables.family)
    words = Draws(7).rows(11, np.arange(FLOWS // len(sent), dtype=np.int64), 0)[:, 0] >> np.uint64(32)
    for packet in sent:
        found = fan_in(rules, packet)
        assert told(fan_of_all_rules(rules, packet)) == told(found)
        table = Table(found, packet)
        assert table.shares() == shares(found)
        if found.verdict is not Verdict.DNAT:
            assert table.answer() == ANSWERS.get(found.verdict, table.answer())
            assert walk_in(rules, packet, int(words[0])).verdict is found.verdict
            continue
        assert sum(table.shares().values()) == 1
        picked = table.picked(words)
        walked = [walk_in(rules, packet, word, explain=False).packet.destination for word in words.tolist()]
        assert walked == picked
        assert_likely(Counter(picked), shares(found), str(packet))


# --- whole labs -----------------------------------------------------------------------------------------------------

POLICY = st.sampled_from(["Cluster", "Cluster", "Local"])


@st.composite
def manifests(draw: st.DrawFn) -> str:
    """Three nodes; one to four Services of any type, protocol and policy, each with a Deployment of 0 to 5 pods."""
    parts = []
    for i in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["ClusterIP", "ClusterIP", "NodePort", "LoadBalancer"]))
        protocol = draw(st.sampled_from(["TCP", "UDP", "SCTP"]))
        outside = "" if kind == "ClusterIP" else f"externalTrafficPolicy: {draw(POLICY)}, "
        port = f"{{port: 80, targetPort: 8080, protocol: {protocol}}}"
        parts.append(f"""
apiVersion: v1
kind: Service
metadata: {{name: s{i}}}
spec: {{type: {kind}, selector: {{app: a{i}}}, {outside}internalTrafficPolicy: {draw(POLICY)}, ports: [{port}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: a{i}}}
spec:
  replicas: {draw(st.sampled_from([0, 1, 2, 3, 5]))}
  selector: {{matchLabels: {{app: a{i}}}}}
  template:
    metadata: {{labels: {{app: a{i}}}}}
    spec: {{containers: [{{name: c, image: x, ports: [{{containerPort: 8080, protocol: {protocol}}}]}}]}}
""")
    return "---".join(parts)


def opened(mode: str, text: str, scheduler: str = "") -> Lab:
    config = f"apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: {mode}\n"
    config += f"clusterCIDR: 10.244.0.0/16\nipvs: {{scheduler: '{scheduler}'}}\n---"
    spec = LabSpec("readings", (Tab("readings.yaml", config + text, "", "file"),), rate_rps=600.0)
    with mock.patch.object(entries, "UNCALLED_RPS", 200.0):
        return Lab(spec)


def entry_chooser(lab: Lab, wired: Wired, node: int) -> Chooser | None:
    """The DNAT that a row's first packet met: of the node the load balancer (or the client) chose, or the caller's."""
    place = lab.wiring.places[wired.stream.place if wired.entry.kind == "pod" else node]
    return wired.entries.get(place)


Pick = tuple[int, int, int, int, int]
"""When a connection was scheduled, its stream and number, when its client knew the end, and its server."""


def picks_of(lab: Lab, kept: list[Finished]) -> dict[int, list[Pick]]:
    """The connections of each virtual server, in order of time."""
    picks: dict[int, list[Pick]] = {}
    timing = lab.engine.timing
    for rows in kept:
        for i in range(len(rows)):
            wired = lab.wiring.wired[int(rows.stream[i])]
            chosen = entry_chooser(lab, wired, int(rows.node[i]))
            if chosen is not None and chosen.virtual >= 0 and rows.try_server[i, 0] >= 0:
                way = {"pod": 0, "l4": timing.client_lb_ns + timing.lb_node_ns}[wired.stream.kind]
                key = (int(rows.start_ns[i]) + way, int(rows.stream[i]), int(rows.number[i]))
                one = (*key, int(rows.finish_ns[i]), int(rows.try_server[i, 0]))
                picks.setdefault(chosen.virtual, []).append(one)
    return {virtual: sorted(found) for virtual, found in picks.items()}


def assert_in_turn(lab: Lab, kept: list[Finished]) -> None:
    """The connections of each virtual server, in order of time, go round its destinations."""
    for virtual, found in picks_of(lab, kept).items():
        listed = lab.engine.memory.schedulers.servers[virtual].listed
        # Requests still in flight are not among the rows: those that have started before the first of them are.
        assert [row[-1] for row in found[:50]] == [listed[n % len(listed)] for n in range(len(found[:50]))]


def assert_least(lab: Lab, kept: list[Finished], scheduler: str) -> None:
    """Each connection went to the destination that had the least, by the rows alone; nothing times out in 2 s."""
    for virtual, found in picks_of(lab, [*kept, lab.engine.in_flight_rows()]).items():
        server = lab.engine.memory.schedulers.servers[virtual]
        for i, (at_ns, *_, taken) in enumerate(found):
            costs = []
            for destination in server.listed:
                ends = [one[3] for one in found[:i] if one[-1] == destination]
                active = 0 if server.udp_ns else sum(end > at_ns for end in ends)
                inactive = len(ends) - active
                costs.append(256 * active + inactive if scheduler in ("lc", "wlc") else active)
            assert taken == server.listed[costs.index(min(costs))], (scheduler, i, costs)


@pytest.mark.parametrize("mode", MODES)
@fixed(8)
@given(manifests())
def test_every_row_of_a_lab_is_the_walk_of_its_packet(mode: str, text: str) -> None:
    check_every_row(mode, "rr", text)


@pytest.mark.parametrize("scheduler", sorted(set(CHOOSER) - {"rr"}))
@fixed(3)
@given(manifests())
def test_every_row_is_its_walk_under_any_scheduler(scheduler: str, text: str) -> None:
    check_every_row("ipvs", scheduler, text)


def bypassed(lab: Lab, chooser: Chooser, found: FanOut) -> bool:
    """Whether a client outside is sent to other nodes' pods in its own name: IPVS, Local policy, no endpoint there.

    Their answers do not come back by the node (k/k pkg/proxy/ipvs/proxier.go, syncEndpoint).
    """
    pods = [lab.store.get(endpoint.target) for endpoint in found.endpoints if endpoint.target is not None]
    elsewhere = all(isinstance(pod, Pod) and pod.spec.node_name != chooser.place for pod in pods)
    hidden = any(endpoint.masquerade for endpoint in found.endpoints)
    return bool(pods) and elsewhere and not hidden and chooser.entry.kind != "pod"


def check_every_row(mode: str, scheduler: str, text: str) -> None:
    lab = opened(mode, text, scheduler)
    scheduled = mode == "ipvs" and scheduler in SCHEDULERS
    kept: list[Finished] = []
    lab.watch_rows(kept.append)
    lab.advance(2 * S)
    names = [join_host_port(ip, port) for ip, port, *_ in lab.wiring.servers]
    expected: dict[int, Shares] = {}
    lost: set[int] = set()
    rules_of: dict[int, ModeRules] = {}
    for chooser in lab.wiring.choosers:
        if chooser.kind != "entry":
            continue
        revision = lab.plane.observers[f"kube-proxy/{chooser.place}"].revision
        rules = rules_of[chooser.index] = lab.book.rule_set(chooser.place, revision)
        packet = lab.wiring.compiler.first_packet(chooser)
        found = fan_in(rules, packet)
        assert told(fan_of_all_rules(rules, packet)) == told(found)
        if bypassed(lab, chooser, found):
            assert mode == "ipvs"
            lost.add(chooser.index)
        expected[chooser.index] = {} if chooser.index in lost else shares(found)
        assert table_shares(lab.engine.choosers, chooser.index, names) == expected[chooser.index]
    counts: dict[int, Counter[str]] = {}
    walked = 0
    for rows in kept:
        for i in range(len(rows)):
            wired = lab.wiring.wired[int(rows.stream[i])]
            chosen = entry_chooser(lab, wired, int(rows.node[i]))
            if chosen is None:
                continue  # a load balancer without any target: no node, no rules
            server = int(rows.try_server[i, 0])
            if server >= 0:
                counts.setdefault(chosen.index, Counter())[names[server]] += 1
            if walked < FLOWS:
                walked += 1
                word = lab.reopener.words(wired, int(rows.number[i]))[Choice.ENTRY] >> 32
                place = entry_turn(int(rows.extra["turns"][i]))
                assert bool(place) == (scheduled and server >= 0)
                loads = unpacked(int(rows.extra["loads0"][i])) or (None, None)
                assert (loads[0] is not None) == (bool(place) and scheduler in COUNTING)
                turn = Turn(names[server], place, *loads) if place else None
                one = walk_in(rules_of[chosen.index], lab.wiring.compiler.first_packet(chosen), word, turn=turn)
                words = turn_words(scheduler, turn, len(expected[chosen.index])) if turn else ""
                assert one.turn == words
                if server >= 0:
                    assert one.packet.destination == names[server]
                else:
                    assert (one.verdict is Verdict.DNAT) is (chosen.index in lost)
                    assert int(rows.try_answer[i, 0]) == ANSWERS.get(one.verdict, Answer.TIMEOUT)
    for index, counter in counts.items() if not scheduled or scheduler not in COUNTING else ():
        assert_likely(counter, expected[index], f"{mode}: chooser {index}")
    if scheduled and scheduler in COUNTING:
        assert_least(lab, kept, scheduler)
    elif scheduled:
        assert_in_turn(lab, kept)
    assert walked or not any(expected.values())


@pytest.mark.parametrize("mode", MODES)
@fixed(12)
@given(manifests())
def test_sampled_counts_follow_the_walkers_chances(mode: str, text: str) -> None:
    lab = opened(mode, text)
    names = [join_host_port(ip, port) for ip, port, *_ in lab.wiring.servers]
    fans: dict[int, Fan] = {chooser.index: chooser.fan for chooser in lab.wiring.choosers if chooser.fan is not None}
    picks = {chooser.index: chooser.picker for chooser in lab.wiring.choosers}
    for wired in lab.wiring.wired:
        n = 30_000
        counted = count(Draws(5), wired.stream, n, fans, [Behaviour.LISTENS] * len(names), picks)
        assert sum(counted.status.values()) == n
        ways = wired.lb.fan if wired.lb is not None and wired.lb.fan is not None else Fan((wired.stream.place,), (1,))
        reached: Counter[str] = Counter()
        for place, weight in zip(ways.candidates, ways.weights, strict=True):
            chooser = wired.entries[lab.wiring.places[place]]
            revision = lab.plane.observers[f"kube-proxy/{chooser.place}"].revision
            found = fan_in(lab.book.rule_set(chooser.place, revision), lab.wiring.compiler.first_packet(chooser))
            for name, chance in shares(found).items():
                reached[name] += chance * Fraction(weight, sum(ways.weights))  # type: ignore[assignment]  # exact sums
        total = sum(reached.values())
        answered = Counter({names[server]: times for server, times in counted.server_ok.items() if times})
        if not total:
            assert not answered
            continue
        given_answer = cast(Shares, {name: chance / total for name, chance in reached.items()})
        assert_likely(answered, given_answer, f"{mode}: {wired.entry.url}")
