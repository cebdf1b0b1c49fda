"""`kflab verify`: ask the real kernel whether it does with packets what kflab says.

Nodes, pods and clients become network namespaces; each node loads the rules that kflab wrote, with the real tool; real
sockets call everything from everywhere; and what the callers and the pods saw is held against what the walker reads
from the same rules: how calls end, who answers, which source address it sees, and how often.

The load balancer is left out (clients dial node:NodePort), and so is DNS. The pod network is CNI profile *routed*:
veth pairs whose host side has no address, so a masqueraded packet always has the node's InternalIP. The lab's own
profile is *bridge*; the two differ only in that address.
"""

import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from fractions import Fraction
from ipaddress import ip_network
from math import ceil
from typing import Final, TextIO

from kflab.exits import FAILED, OK, USAGE
from kflab.proof.netns import missing, tool
from kflab.proof.netns_calls import DELIVERED, DROPPED, IN_FLIGHT, Answer, Call, Wires
from kflab.proof.netns_layout import Layout
from kflab.proof.verify_cluster import Cluster, clusters_of
from kflab.proof.verify_expect import OWN, Branch, Oracle, Outcome, Seen, merged
from kflab.proof.verify_modes import loader, rules_of, tools
from kflab.proof.verify_pairs import SPOKEN, Pair, Source, crowd_range, destinations, pairs
from kflab.proof.verify_stats import FALSE_ALARM, connections_to_see_all, fits
from kflab.records import dataclass
from kflab.scenario.format import Scenario

FEWEST: Final = 3
"""Calls per pair where the outcome is certain."""

POOLED: Final = 200
"""Calls, over all callers that meet the same chances, from which shares are judged."""

PATIENT_S: Final = 5.0
"""Silence that counts as a drop where an answer is expected: long, so that a busy machine does not look like one."""

MIXED_S: Final = 2.0
"""The same where some calls are to be answered and some dropped: a lost SYN is sent again after 1 s."""

BRIEF_S: Final = 0.5
"""The same where only drops are expected: ten times what an answer takes on a busy machine."""

AFFINE_LANES: Final = 64
"""Callers with affinity under way at a time: xt_recent forgets the oldest of more than 100 sources of an endpoint (its
parameter ip_list_tot), so more at once would forget each other."""

_LACKS: Final = ("not supported", "missing kernel module", "do you need to insmod", "protocol not available")
"""What the tools say where a kernel has no such match, target or table."""

REMEMBERED_S: Final = 60
"""Affinity that lasts shorter may end between two calls of one caller, so that it is not judged."""

Rewrite = Callable[[str, str], str]
"""(node, rules) → rules: lets a test load other rules than kflab reads."""


def verify(scenario: Scenario, mode: str, out: TextIO, rewrite: Rewrite | None = None) -> int:
    """Compare a scenario's cluster with the kernel.

    Args:
        scenario: What to build.
        mode: iptables or nftables.
        out: Where to print disagreements and the summary.
        rewrite: Changes a node's rules before they are loaded.

    Returns:
        0 if every pair agrees, 1 if any does not, 2 where this machine cannot tell.
    """
    lacking = missing(tools(mode))
    clusters = () if lacking else clusters_of(scenario)
    lacking = lacking or missing(tools(mode, [cluster.family for cluster in clusters]))
    if lacking:
        out.write(f"kflab verify: {lacking}\n")
        return USAGE
    if not clusters:
        out.write("kflab verify: nothing to ask: no Service here has a cluster IP\n")
        return USAGE
    return max(verify_cluster(cluster, mode, out, rewrite) for cluster in clusters)


def verify_cluster(cluster: Cluster, mode: str, out: TextIO, rewrite: Rewrite | None = None) -> int:
    """Compare a cluster with the kernel, in its address family; see `verify`."""
    found, unspoken = destinations(cluster)
    crowd = crowd_range(cluster)
    rules = rules_of(cluster.rules, mode)
    plan = _Plan(Oracle(cluster, rules), list(pairs(cluster, found)), crowd)
    localnet = any(own.localnet() for own in rules.values())
    with Layout(cluster, localnet, crowd) as layout, Wires() as wires:
        texts = {name: own.text() for name, own in rules.items()}
        if rewrite is not None:
            texts = {name: rewrite(name, text) for name, text in texts.items()}
        refused = layout.load(texts, loader(mode, cluster.family))
        if refused:
            return _refusals(refused, loader(mode, cluster.family)[0], out)
        for pod in cluster.pods:
            for protocol, port in pod.listening:
                if protocol in SPOKEN:
                    wires.listen(layout.pods[pod.name], pod.name, pod.address, protocol, port)
        plan.call(layout, wires)
        lines = list(plan.disagreements())
        calls = wires.calls
    for line in lines:
        out.write(f"✖ {line}\n")
    if unspoken:
        out.write(f"not compared: {unspoken} Service ports of other protocols than {' and '.join(SPOKEN)}\n")
    out.write(
        f"{plan.agreeing} pairs agree, {plan.disagreeing} disagree ({calls} calls; {_versions(mode, cluster.family)})\n"
    )
    return FAILED if lines else OK


def _refusals(refused: Mapping[str, str], name: str, out: TextIO) -> int:
    """A tool did not take the rules: the kernel may lack something, or the text is wrong."""
    for said in refused.values():
        if any(words in said.lower() for words in _LACKS):
            out.write(f"kflab verify: the kernel lacks what {name} needs: {said}\n")
            return USAGE
    for node, said in refused.items():
        out.write(f"✖ node {node}: {name} refuses the rules: {said}\n")
    out.write(f"0 pairs agree, {len(refused)} nodes without rules\n")
    return FAILED


def _versions(mode: str, family: str) -> str:
    name = loader(mode, family)[0]
    said = subprocess.run((tool(name), "--version"), capture_output=True, text=True, check=False).stdout.strip()
    return f"{said or name}; Linux {os.uname().release}"


# --- what is called, and what came of it ---------------------------------------------------------------------------


@dataclass(slots=True)
class _Trial:
    """One line of comparison: a pair, or all one-time clients of a destination with affinity."""

    name: str
    expected: dict[Outcome, Fraction]
    pool: tuple[object, ...]
    """Trials with the same pool meet the same rules with the same chances."""
    n: int = 0
    """Calls planned."""
    seen: Counter[Outcome] = field(default_factory=Counter)
    sticky: bool = False
    """Affinity decides all calls but a source's first: no chance to judge."""
    unexpected: dict[str, int] = field(default_factory=dict)
    """What happened that no rule allows, with how often."""


@dataclass(frozen=True, slots=True)
class _Step:
    """One call of a lane."""

    trial: _Trial
    pair: Pair
    counted: bool
    """Whether it was a free choice, for the shares."""


class _Plan:
    def __init__(self, oracle: Oracle, all_pairs: Sequence[Pair], crowd: str) -> None:
        self._oracle = oracle
        self._trials: list[_Trial] = []
        self._lanes: list[list[_Step]] = []
        self._lasting: list[list[_Step]] = []
        """One lane per source: all its calls to what has affinity."""
        self._new: list[list[_Step]] = []
        """Lanes of one-time clients of what has affinity."""
        self._crowd = (str(address) for address in ip_network(crowd).hosts())
        self.disagreeing = self.agreeing = 0
        self._bound = FALSE_ALARM / max(1, 3 * len(all_pairs))
        self._plan(all_pairs)

    def _plan(self, all_pairs: Sequence[Pair]) -> None:
        lasting: dict[Source, list[_Step]] = {}
        free: list[tuple[_Trial, Pair]] = []
        for pair in all_pairs:
            expected = merged(self._oracle.branches(pair))
            trial = _Trial(str(pair), expected, (pair.node, pair.destination, *sorted(expected.items())))
            self._trials.append(trial)
            if not pair.destination.sticky_s:
                free.append((trial, pair))
                continue
            trial.sticky = True
            lasting.setdefault(pair.source, []).extend(_Step(trial, pair, False) for _ in range(FEWEST))
            if pair.source.kind == "client" and len(expected) > 1:
                self._new_clients(pair)
        self._lasting.extend(lasting.values())
        callers = Counter(trial.pool for trial, _ in free)
        for trial, pair in free:
            n = FEWEST
            if len(trial.expected) > 1:
                enough = connections_to_see_all(list(trial.expected.values()), self._bound)
                waits = any(outcome.verdict == DROPPED for outcome in trial.expected)
                n = enough if waits else max(enough, ceil(POOLED / callers[trial.pool]))
            self._lanes.extend([_Step(trial, pair, True)] for _ in range(n))
        # Those that are waited for come first, side by side.
        self._lanes.sort(key=lambda lane: all(outcome.verdict == DELIVERED for outcome in lane[0].trial.expected))

    def _new_clients(self, pair: Pair) -> None:
        """Clients that call once and once again: the first calls are free choices, the second must stick to them."""
        address = next(self._crowd)
        stranger = Pair(Source("client", address, "", address), pair.destination, pair.node)
        expected = merged(self._oracle.branches(stranger))
        name = f"clients, each for the first time → {str(pair).partition(' → ')[2]}"
        pool = (pair.node, pair.destination, "first")
        if any(trial.pool == pool for trial in self._trials):
            return
        trial = _Trial(name, expected, pool)
        self._trials.append(trial)
        n = max(POOLED // 2, connections_to_see_all(list(expected.values()), self._bound)) if len(expected) > 1 else 1
        for _ in range(n):
            once = Pair(Source("client", address, "", address), pair.destination, pair.node)
            self._new.append([_Step(trial, once, True), _Step(trial, once, False)])
            address = next(self._crowd)

    # --- calling -----------------------------------------------------------------------------------------------

    def call(self, layout: Layout, wires: Wires) -> None:
        """Make all calls and note what came of them."""
        batches = [(self._new, AFFINE_LANES), (self._lanes, IN_FLIGHT)]
        for first in range(0, len(self._lasting), AFFINE_LANES):
            # A source's entries must outlive its lane, so nobody else comes meanwhile.
            batches.append((self._lasting[first : first + AFFINE_LANES], AFFINE_LANES))
        for lanes, in_flight in batches:
            answers = wires.run([[_call(step, layout) for step in lane] for lane in lanes], in_flight)
            for lane, came in zip(lanes, answers, strict=True):
                memory: set[Seen] = set()
                for step, answer in zip(lane, came, strict=True):
                    self._note(step, answer, memory)

    def _note(self, step: _Step, answer: Answer, memory: set[Seen]) -> None:
        outcome = _outcome(answer, step.pair)
        trial = step.trial
        branches = self._oracle.branches(step.pair, memory) if memory else ()
        possible: Mapping[Outcome, Fraction] = merged(branches) if memory else trial.expected
        if outcome not in possible:
            said = f"{outcome}{', though affinity remembers another' if outcome in trial.expected else ''}"
            trial.unexpected[said] = trial.unexpected.get(said, 0) + 1
        if step.counted:
            trial.seen[outcome] += 1
        if step.pair.destination.sticky_s >= REMEMBERED_S:
            memory.update(_memory_of(branches or self._oracle.branches(step.pair), outcome))

    # --- judging -----------------------------------------------------------------------------------------------

    def disagreements(self) -> Iterator[str]:
        """One line per pair that disagrees."""
        pools: dict[tuple[object, ...], list[_Trial]] = {}
        for trial in self._trials:
            problem = self._problem(trial)
            self.disagreeing += bool(problem)
            self.agreeing += not problem
            if problem:
                yield f"{trial.name}: {problem}"
            elif not trial.sticky:
                pools.setdefault(trial.pool, []).append(trial)
        for pool in pools.values():
            together: Counter[Outcome] = Counter()
            for trial in pool:
                together.update(trial.seen)
            if len(pool) > 1 and not self._shares_fit(pool[0].expected, together):
                self.disagreeing += len(pool)
                self.agreeing -= len(pool)
                yield f"{pool[0].name} and {len(pool) - 1} like it: {_shares(pool[0].expected, together)}"

    def _problem(self, trial: _Trial) -> str:
        if trial.unexpected:
            what = ", ".join(f"{said} ({times}×)" for said, times in trial.unexpected.items())
            return f"kflab says {_said(trial.expected)}; the kernel: {what}"
        if trial.sticky:
            return ""
        never = [outcome for outcome, chance in trial.expected.items() if chance and not trial.seen[outcome]]
        if never:
            n = trial.seen.total()
            return f"kflab says {_said(trial.expected)}; the kernel: never {_listed(never)} in {n} calls"
        if not self._shares_fit(trial.expected, trial.seen):
            return _shares(trial.expected, trial.seen)
        return ""

    def _shares_fit(self, expected: Mapping[Outcome, Fraction], seen: Counter[Outcome]) -> bool:
        return fits([seen[outcome] for outcome in expected], list(expected.values()), self._bound)


def _call(step: _Step, layout: Layout) -> Call:
    pair, to = step.pair, step.pair.destination
    source = pair.source
    client = source.kind == "client"
    namespace = layout.outside if client else (layout.nodes if source.kind == "node" else layout.pods)[source.name]
    drops = Counter(outcome.verdict == DROPPED for outcome in step.trial.expected)
    patience_s = PATIENT_S if not drops[True] else MIXED_S if drops[False] else BRIEF_S
    address, device = (source.address, layout.device(pair.node)) if client else ("", "")
    return Call(namespace, address, device, to.protocol, to.address, to.port, patience_s)


def _outcome(answer: Answer, pair: Pair) -> Outcome:
    if answer.verdict != DELIVERED:
        return Outcome(answer.verdict)
    return Outcome(DELIVERED, answer.name, OWN if answer.peer == pair.packet.src else answer.peer)


def _memory_of(branches: Sequence[Branch], outcome: Outcome) -> Iterator[Seen]:
    for branch in branches:
        if branch.outcome == outcome:
            yield from branch.remembered


def _said(expected: Mapping[Outcome, Fraction]) -> str:
    if len(expected) == 1:
        return str(next(iter(expected)))
    return ", ".join(f"{chance} {outcome}" for outcome, chance in expected.items())


def _listed(outcomes: Sequence[Outcome]) -> str:
    return ", ".join(str(outcome) for outcome in outcomes)


def _shares(expected: Mapping[Outcome, Fraction], seen: Counter[Outcome]) -> str:
    counts = ", ".join(f"{seen[outcome]}× {outcome}" for outcome in expected)
    return f"kflab says {_said(expected)}; the kernel: {counts}"
