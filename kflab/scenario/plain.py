"""The plain player: a scenario as lines of text, as fast as it can, then a report and an exit code.

Data goes to `out`; nothing depends on wall time, the terminal or the speed, so the same seed prints the same bytes.
"""

import json
import time
from typing import Any, TextIO

from kflab import KUBERNETES_RELEASE, exits, interrupts
from kflab.collector import held_off, passed_over
from kflab.control.facts import Fact, What
from kflab.dataplane.request_record import CLIENT_GONE
from kflab.engine.bins import Count
from kflab.errors import Place
from kflab.kubectl.hostile import printable
from kflab.lab.answers import answers_of
from kflab.lab.gantt import as_tree
from kflab.lab.pod_share import least_share
from kflab.lab.running import Lab
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod
from kflab.records import dataclass
from kflab.scenario.acting import workload_key
from kflab.scenario.expectations import Expectation
from kflab.scenario.format import Scenario
from kflab.scenario.gantt_text import report_lines

REPORT_EVERY_NS = 5_000_000_000
"""How often a line about traffic is printed, simulated."""

_SPANS_SHOWN = 6
"""Counted spans that the report names; the JSON has them all."""

QUIET = frozenset({What.LISTENERS_CHANGED})
"""Facts that only repeat what another line says."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """An expectation and what was measured."""

    expectation: Expectation
    measured: float | None

    @property
    def held(self) -> bool:
        if self.measured is None:
            return False
        low, high = self.expectation.low, self.expectation.high
        return (low is None or self.measured >= low) and (high is None or self.measured <= high)


def seconds(t_ns: int) -> str:
    """Simulated time as printed: seconds with milliseconds, right-aligned."""
    sign = "-" if t_ns < 0 else ""
    whole, rest = divmod(abs(t_ns) // 1_000_000, 1000)
    return f"{sign}{whole}.{rest:03d}".rjust(9) + " s"


def play(
    scenario: Scenario, out: TextIO, speed: float | None = None, as_json: bool = False, ascii_only: bool = False
) -> int:
    """Run a scenario to its end and print it.

    Args:
        scenario: What to run.
        out: Where lines go.
        speed: Simulated seconds per second to print at; None is as fast as possible.
        as_json: Print one JSON object instead of lines.
        ascii_only: Draw with ASCII; so it is anyway where `out` is not UTF-8.

    Returns:
        0 when every expectation held, else 1.

    Raises:
        KflabError: If the scenario cannot be run.
    """
    with held_off():
        lab = Lab(scenario.spec)
    with passed_over():
        return _play(scenario, lab, out, speed, as_json, ascii_only)


def _play(
    scenario: Scenario, lab: Lab, out: TextIO, speed: float | None, as_json: bool, ascii_only: bool
) -> int:  # fmt: skip
    told: list[Fact] = []

    def say(line: str) -> None:
        if not as_json:
            line = line.rstrip()  # names from manifests must not steer the terminal
            out.write((line if line.isprintable() else printable(line)) + "\n")

    for line in _opening(scenario, lab):
        say(line)
    started = time.monotonic() if speed else 0.0
    while lab.t_ns < scenario.duration_ns:
        step_to = min(scenario.duration_ns, (lab.t_ns // REPORT_EVERY_NS + 1) * REPORT_EVERY_NS)
        while lab.t_ns < step_to:
            stop = min(step_to, lab.t_ns + 100_000_000) if speed else step_to
            lab.advance(stop)
            interrupts.check()
            for t_ns, who, text in lab.take_lines():
                say(f"{seconds(t_ns)}  {who:<22}  {text}")
            if speed:
                if not as_json:
                    out.flush()
                time.sleep(max(0.0, started + lab.t_ns / 1e9 / speed - time.monotonic()))
        say(f"{seconds(lab.t_ns)}  {'traffic':<22}  {_traffic(lab)}")
        told.extend(lab.take_facts())
    verdicts = [Verdict(expectation, _measure(expectation, lab)) for expectation in scenario.expectations]
    if as_json:
        out.write(json.dumps(_as_json(scenario, lab, told, verdicts), indent=2, ensure_ascii=False) + "\n")
    else:
        for line in _report(scenario, lab, verdicts):
            say(line)
        encoding = (getattr(out, "encoding", None) or "utf-8").lower().replace("-", "")
        for line in report_lines(lab.gantt.report(), ascii_only or encoding != "utf8"):
            say(line)
    return exits.OK if all(verdict.held for verdict in verdicts) else exits.FAILED


def _opening(scenario: Scenario, lab: Lab) -> list[str]:
    counts = ", ".join(f"{len(lab.store.keys(kind))} {name}" for kind, name in
                       (("Node", "nodes"), ("Pod", "pods"), ("Service", "Services")))  # fmt: skip
    lines = [
        f"kflab replay {scenario.spec.name}: {scenario.title}",
        f"seed {scenario.spec.seed}, {scenario.duration_ns / 1e9:g} s, follows Kubernetes {KUBERNETES_RELEASE}",
        *([f"after {scenario.source}"] if scenario.source else []),
        counts,
        *(f"traffic: {line}" for line in lab.traffic_lines()),
        *(f"assumed: {text}" + (f" (override: {how})" if how else "") for text, how in lab.assumptions),
        *(f"{found.severity}: {found.place}: {found.message}" for found in lab.findings if found.severity != "info"),
        "",
    ]
    return lines


def _traffic(lab: Lab) -> str:
    total = lab.totals
    text = f"{total.sent:,} sent, {total.ok:,} ok, {total.failed:,} failed"
    if total.gone:
        text += f", {total.gone:,} ended with their client"
    if total.by_status:
        text += " (" + ", ".join(f"{status} ×{count:,}" for status, count in sorted(total.by_status.items())) + ")"
    text += f"; {total.lost_tries:,} tries lost"
    p50, p99 = lab.percentiles(max(0, lab.t_ns - REPORT_EVERY_NS), lab.t_ns)
    if p50 is not None and p99 is not None:
        text += f"; p50 {p50 / 1e6:.1f} ms, p99 {p99 / 1e6:.1f} ms"
    if lab.counting.enabled:
        text += f"; {lab.counting.requests:,} counted"
    return text


def _report(scenario: Scenario, lab: Lab, verdicts: list[Verdict]) -> list[str]:
    total = lab.totals
    lines = ["", "report"]
    gone = f" + {total.gone:,} ended with their client" if total.gone else ""
    parts = f"{total.ok:,} ok + {total.failed:,} failed{gone} + {total.in_flight:,} in flight"
    lines.append(f"  requests      {total.sent:,} sent = {parts}")
    saved = f"{total.saved:,} requests saved by a further try"
    lines.append(f"  tries lost    {total.lost_tries:,} refused, reset or timed out; {saved}")
    if total.attempts > total.sent:
        lines.append(f"  attempts      {total.attempts:,} sent by clients: {total.attempts - total.sent:,} retries")
    for label, sent, ok, failed in lab.call_counts():
        lines.append(f"  calls         {label}: {sent:,} sent, {ok:,} ok, {failed:,} failed")
    queries = lab.engine.steps.dns_queries
    if queries:
        lines.append(f"  DNS           {queries:,} queries, {queries / max(1, total.sent):.2f} for each request")
    lines.extend(f"  WebSockets    {words}" for words in lab.sockets.words())
    lines += _counted(lab)
    knowledge = lab.knowledge()
    if knowledge.t_ns is not None:
        lines.append(f"  who knew      {knowledge.what}")
        for row in knowledge.knowers:
            after = f"+{(row.learned_ns - knowledge.t_ns) / 1e9:.3f} s" if row.learned_ns is not None else ""
            after = after or ("no power" if row.off else "in step" if row.in_step else "not yet")
            lost = f"; {row.refused:,} tr{'y' if row.refused == 1 else 'ies'} lost since" if row.refused else ""
            words = ", ".join(filter(None, (row.word, row.callers)))
            lines.append(f"    {row.name:<28} {after:>10}  {words}{lost}".rstrip())
    for group in lab.shares():
        lines.append(f"  shares        {group.title}: {group.word} ({group.why})")
    for verdict in verdicts:
        mark = "held" if verdict.held else "BROKEN"
        got = "nothing measured" if verdict.measured is None else f"measured {verdict.measured:g}"
        lines.append(f"  expectation   {verdict.expectation}: {got}: {mark}")
    lines.append(f"  event hash    {lab.digest()}")
    return lines


def _counted(lab: Lab) -> list[str]:
    """Which spans were counted, and why the others were not."""
    counting = lab.counting
    if not counting.enabled:
        return []
    spans = [f"{start / 1e9:g} to {end / 1e9:g} s" for start, end in counting.spans()]
    shown = ", ".join(spans[:_SPANS_SHOWN]) + (f" and {len(spans) - _SPANS_SHOWN} more" * (len(spans) > _SPANS_SHOWN))
    length = f"{counting.counted_ns() / 1e9:g} s of {lab.t_ns / 1e9:g} s"
    lines = [f"  counted       {counting.requests:,} requests in {length}{': ' + shown if shown else ''}"]
    for why, cells in counting.followed.most_common():
        lines.append(f"    {cells:,} s followed one by one: {why}")
    return lines


def _measure(expectation: Expectation, lab: Lab) -> float | None:
    total = lab.totals
    if expectation.client:
        return _of_client(expectation, lab)
    match expectation.metric:
        case "requestsFailed":
            return total.failed
        case "requestsSent":
            return total.sent
        case "attempts":
            return total.attempts
        case "slowestRequest":
            return lab.engine.finished.longest_ns / 1e9
        case "triesRefused":
            return total.lost_tries
        case "okShare":
            done = total.ok + total.failed
            return total.ok / done if done else None
        case "trafficMovedWithin":
            knowledge = lab.knowledge()
            if knowledge.moved_ns is None or knowledge.t_ns is None:
                return None
            return (knowledge.moved_ns - knowledge.t_ns) / 1e9
        case "requestsEnded":
            return total.gone if expectation.status == CLIENT_GONE else total.by_status.get(expectation.status, 0)
        case "ingressLag":
            return _ingress_lag(lab)
        case "socketsCut":
            return lab.sockets.cut
        case "requestsTook":
            return lab.engine.finished.took_between(expectation.from_ns, expectation.to_ns)
        case "dnsQueriesPerRequest":
            return lab.engine.steps.dns_queries / total.sent if total.sent else None
        case "podShare":
            return _pod_share(expectation, lab)
        case _:
            return _of_workload(expectation, lab)


def _of_client(expectation: Expectation, lab: Lab) -> float | None:
    """What the engine has counted of the requests of one client."""
    entries = (wired.entry for wired in lab.wiring.wired)
    mine = [one.index for one in entries if one.source is not None and one.source.name == expectation.client]
    sent, again, ok, failed = (
        int(lab.engine.bins.totals(what)[mine].sum())
        for what in (Count.STREAM_SENT, Count.STREAM_AGAIN, Count.STREAM_OK, Count.STREAM_FAILED)
    )
    match expectation.metric:
        case "requestsFailed":
            return failed
        case "requestsSent":
            return sent
        case "attempts":
            return sent + again
        case _:
            return ok / (ok + failed) if ok + failed else None


def _ingress_lag(lab: Lab) -> float | None:
    """Of the pods that ended: the longest from the slice's write until an ingress controller that led there knew, s."""
    lags = [
        learned_ns - spread.written_ns
        for spread in lab.autopsy.spreading.spreads
        for name, learned_ns in spread.learned.items()
        if spread.ends and spread.written_ns is not None and name.startswith("ingress/") and name in spread.calling
    ]
    return max(lags) / 1e9 if lags else None


def _pod_share(expectation: Expectation, lab: Lab) -> float | None:
    answers = answers_of(lab, Key("Service", *expectation.service.split("/", 1)))
    every = sum(answers.values())
    own = answers.get(Key("Pod", *expectation.pod.split("/", 1)))
    return own / every if every and own is not None else None


def _of_workload(expectation: Expectation, lab: Lab) -> float | None:
    owner = workload_key(expectation.workload, Place("expect"))
    pods = [
        pod for pod in lab.store.of_kind("Pod", owner.namespace)
        if isinstance(pod, Pod) and not pod.terminating and lab.workload_of(pod) == owner
    ]  # fmt: skip
    if expectation.metric == "restarts":
        return sum(pod.status.restarts for pod in pods)
    if expectation.metric == "leastPodShare":
        return least_share(lab, [pod.key for pod in pods])
    if expectation.metric == "readyPods":
        return sum(pod.status.ready for pod in pods)
    since = [pod.status.ready_since_ns for pod in pods if pod.status.ready and pod.status.ready_since_ns is not None]
    return max(since) / 1e9 if since and len(since) == len(pods) else None


def _as_json(scenario: Scenario, lab: Lab, facts: list[Fact], verdicts: list[Verdict]) -> dict[str, Any]:
    total, knowledge = lab.totals, lab.knowledge()
    return {
        "scenario": scenario.spec.name,
        "title": scenario.title,
        "seed": scenario.spec.seed,
        "duration_s": scenario.duration_ns / 1e9,
        "requests": {
            "sent": total.sent, "ok": total.ok, "failed": total.failed, "client_gone": total.gone,
            "in_flight": total.in_flight,
            "by_status": dict(sorted(total.by_status.items())), "lost_tries": total.lost_tries, "saved": total.saved,
            "attempts": total.attempts, "slowest_s": lab.engine.finished.longest_ns / 1e9,
        },
        "counted": None if not lab.counting.enabled else {
            "requests": lab.counting.requests,
            "spans_s": [[start / 1e9, end / 1e9] for start, end in lab.counting.spans()],
            "followed_s": dict(lab.counting.followed.most_common()),
        },
        "dns_queries": lab.engine.steps.dns_queries,
        "web_sockets": [
            {"client": group.name, "open": group.open, "cut": dict(sorted(group.cut.items()))}
            for group in lab.sockets.groups
        ],
        "calls": [
            {"call": label, "sent": sent, "ok": ok, "failed": failed} for label, sent, ok, failed in lab.call_counts()
        ],
        "facts": [
            {"t_s": fact.t_ns / 1e9, "what": fact.what.value, "subject": str(fact.subject), "by": fact.by,
             "text": fact.text}
            for fact in facts if fact.what not in QUIET
        ],
        "who_knew": {
            "what": knowledge.what,
            "moved_s": None if knowledge.moved_ns is None or knowledge.t_ns is None
            else (knowledge.moved_ns - knowledge.t_ns) / 1e9,
            "observers": [
                {"name": row.name, "callers": row.callers, "lost_tries": row.refused,
                 "after_s": None if row.learned_ns is None or knowledge.t_ns is None
                 else (row.learned_ns - knowledge.t_ns) / 1e9}
                for row in knowledge.knowers
            ],
        },
        "expectations": [
            {"expectation": str(verdict.expectation), "measured": verdict.measured, "held": verdict.held}
            for verdict in verdicts
        ],
        "autopsy": as_tree(lab.gantt.report()),
        "event_hash": lab.digest(),
    }  # fmt: skip
