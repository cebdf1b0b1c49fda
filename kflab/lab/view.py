"""From a running lab to one immutable snapshot."""

from fractions import Fraction
from functools import lru_cache
from math import erfc, sqrt
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from kflab.control.runtime import PodRuntime
from kflab.dataplane.ipvs_schedulers import CHOOSER, COUNTING
from kflab.engine.bins import Count
from kflab.engine.types import Answer, Finished, Pick
from kflab.lab.band_counts import WINDOW_BINS, Counts, frame, spread
from kflab.lab.bands import Bands
from kflab.lab.choosers import Chooser
from kflab.lab.countdowns import countdown
from kflab.lab.grouping import grouped
from kflab.lab.knowledge import POD_ENDS
from kflab.lab.losses import lost_tries
from kflab.lab.node_rows import NodeRows
from kflab.lab.snapshot import (
    BIN_NS,
    SERIES_BINS,
    Component,
    Failures,
    Knowledge,
    Series,
    ShareGroup,
    ShareRow,
    Snapshot,
    Span,
    TraceRow,
)
from kflab.lab.story import Story
from kflab.manifest.objects import Key, KubeObject
from kflab.manifest.objects_network import Service
from kflab.manifest.objects_pods import Pod

if TYPE_CHECKING:
    from kflab.lab.running import Lab

STRUCTURAL_P = 1e-4
"""A deviation rarer than this, after correcting for the number of pods, is called structural."""

NARRATED_NS = 4_000_000_000
"""How long a scenario's line of narration stands, simulated."""


_READY = ("ready", "")

_ANSWERS = 16
"""More than there are kinds of `Answer`."""

_ENDED = {
    Answer.REFUSED: "refused", Answer.REJECTED: "refused", Answer.RESET: "reset", Answer.TIMEOUT: "timed out",
    Answer.TABLE_FULL: "timed out", Answer.NO_PORT: "timed out",
}  # fmt: skip
"""What a lost try met, in words that follow "tries"."""


def _has_port(runtime: PodRuntime, port: int) -> bool:
    """Whether a running process of a pod is one for a port, listening now or not."""
    listening = any(number == port for _, number in runtime.listening)
    return listening or any(run.up and any(number == port for _, number in run.ports) for run in runtime.containers)


def _tally(counts: dict[int, int], servers: NDArray[np.int32]) -> None:
    """Count each server as often as it is named; -1 is nobody."""
    for server, count in zip(*(column.tolist() for column in np.unique(servers, return_counts=True)), strict=True):
        counts[server] = counts.get(server, 0) + count


@lru_cache(maxsize=1024)
def _fraction(share: float) -> Fraction:
    """A share in numbers up to 1,000: rules have few different ones."""
    return Fraction(share).limit_denominator(1000)


class View:
    """Builds snapshots and keeps the counts that start anew at each change."""

    def __init__(self, lab: "Lab") -> None:
        self._lab = lab
        self._bands = Bands(lab)
        self._node_rows = NodeRows(lab, self)
        self._story = Story(lab)
        self._lost: dict[int, int] = {}
        """Server → tries lost since the last change."""
        self._ends: dict[int, int] = {}
        """Server × 16 + answer → how many of them."""
        self._nobody_ns = 0
        """When the last try began that had no server to go to."""
        self._saved: dict[int, int] = {}
        """Server → requests that lost a try there and still went well."""
        self._answered: dict[int, int] = {}
        """Server → requests answered since the last change."""
        self._behind: dict[Key, set[int]] = {}
        """Service → servers at which its callers lost tries since the last change; the pods may be gone by now."""
        self._ready: dict[Key, tuple[Pod, PodRuntime]] = {}
        """Pods that were ready, as they were: nobody else has a say in that."""
        self._words: dict[Key | None, tuple[KubeObject | None, tuple[str, str, str]]] | None = None
        """Of the frame that is being made, what `pod_words` has said: bands and nodes show the same pods."""
        self._traces: dict[int, TraceRow] = {}
        self._known_components: tuple[dict[str, int | None], tuple[Component, ...]] = {}, ()

    # --- counting -------------------------------------------------------------------------------------------

    def restart_counts(self) -> None:
        """A change happened: count anew."""
        self._lost.clear()
        self._ends.clear()
        self._saved.clear()
        self._answered.clear()
        self._behind.clear()

    def count(self, rows: Finished) -> None:
        """Attribute lost tries to servers and to the observers whose rules sent them there."""
        lab = self._lab
        self._count_answers(rows)
        # A client that gave up on a pod which answers lost nothing by anybody's rules.
        lost = lost_tries(rows) & (rows.try_answer != Answer.GAVE_UP)
        if not len(rows) or not lost.any() or lab.knowing.incident is None:
            return
        which = np.flatnonzero(lost.any(axis=1))
        lost, servers = lost[which], rows.try_server[which]
        good = (rows.status[which] >= 200) & (rows.status[which] < 400)
        _tally(self._lost, servers[lost])
        nobody = rows.try_start_ns[which][lost & (servers < 0)]
        self._nobody_ns = max(self._nobody_ns, int(nobody.max(initial=0)))
        _tally(self._ends, servers[lost].astype(np.int32) * _ANSWERS + rows.try_answer[which][lost])
        # A request that lost two tries at one server was saved from it once.
        again = np.zeros_like(lost)
        for j in range(1, lost.shape[1]):
            again[:, j] = (lost[:, :j] & (servers[:, :j] == servers[:, j : j + 1])).any(axis=1)
        _tally(self._saved, servers[lost & ~again & good[:, None]])
        tries = lost.sum(axis=1)
        callers = (rows.stream[which], rows.node[which], rows.ingress[which])
        for mine in grouped(callers):
            stream, node, ingress = (int(column[mine[0]]) for column in callers)
            caller, service = self._caller(stream, node, ingress)
            if caller:
                lab.lost_by_observer[caller] = lab.lost_by_observer.get(caller, 0) + int(tries[mine].sum())
            if service is not None:
                self._behind.setdefault(service, set()).update(servers[mine][lost[mine]].tolist())

    def add_answered(self, answered: NDArray[np.int64]) -> None:
        """Count what servers answered in a counted span; shape (servers,)."""
        for server in np.flatnonzero(answered).tolist():
            self._answered[server] = self._answered.get(server, 0) + int(answered[server])

    def _count_answers(self, rows: Finished) -> None:
        answered = rows.try_server[rows.try_answer == Answer.OK]
        through = rows.ingress[(rows.ingress >= 0) & (rows.status > 0)]
        for servers in (answered, through):
            self.add_answered(np.bincount(servers[servers >= 0]))

    def _caller(self, stream: int, node: int, ingress: int) -> tuple[str, Key | None]:
        """Observer by whose knowledge the last leg's choice was made, and the Service that was chosen from."""
        wiring = self._lab.wiring
        wired = wiring.wired[stream]
        if ingress >= 0:
            pod = wiring.servers[ingress][3]
            chooser = wired.upstreams.get(pod) if pod else None
            if chooser is not None:
                return chooser.observers[0 if chooser.by_peer else 1], chooser.service
        place = node if node >= 0 else wired.stream.place
        chosen = wired.entries.get(wiring.places[place]) if place >= 0 else None
        return (chosen.observers[0], chosen.service) if chosen is not None else ("", None)

    def lost_in(self, service: Key) -> tuple[int, str, str]:
        """(tries lost, footer, word) of a Service since the last change."""
        lab = self._lab
        if not self._lost:
            return 0, "", ""
        servers = {s for c in lab.wiring.choosers if c.service == service and c.fan for s in c.fan.candidates}
        pods = {pod.key for pod in self.pods_behind(service)}
        servers |= self._behind.get(service, set())
        ids = [i for i in self._lost if i in servers or (i >= 0 and lab.wiring.servers[i][3] in pods)]
        lost = sum(self._lost[i] for i in ids)
        if not lost:
            return 0, "", ""
        saved = sum(self._saved.get(i, 0) for i in ids)
        incident = lab.knowing.incident
        assert incident is not None
        end = incident.moved_ns if not incident.lasts and not self._still_losing(ids) else None
        if end is not None and -1 in ids and self._nobody_ns > end:
            end = None  # traffic has moved away from the last endpoint: to nobody
        when = f" in {(end - incident.t_ns) / 1e9:.2f} s" if end is not None else " so far"
        word = self._how_lost(ids, lost)
        text = f"{lost:,} tries {word}{when}"
        if saved:
            text += f"; NGINX tried again and saved {saved:,} request{'s' if saved != 1 else ''}"
        return lost, text, word

    def _how_lost(self, servers: list[int], lost: int) -> str:
        """What the tries lost at some servers met: one word where nearly all met the same, else "lost"."""
        words: dict[str, int] = {}
        for end, count in self._ends.items():
            if end // _ANSWERS in servers:
                word = _ENDED.get(end % _ANSWERS, "lost")
                words[word] = words.get(word, 0) + count
        word, count = max(words.items(), key=lambda item: item[1])
        return word if count >= 0.9 * lost else "lost"

    def _still_losing(self, servers: list[int]) -> bool:
        """Whether tries to any of these servers were lost in the last half second."""
        bins = self._lab.engine.bins
        first = max(0, self._lab.t_ns // BIN_NS - WINDOW_BINS)
        return any(
            bins.one(Count.SERVER_BAD, server, first, WINDOW_BINS + 1).any() for server in servers if server >= 0
        )

    # --- pods -----------------------------------------------------------------------------------------------

    def pod_state(self, key: Key | None, obj: KubeObject | None) -> tuple[str, str]:
        """(state, note) of a pod as it is in truth, not as the API has it."""
        if not isinstance(obj, Pod):
            return "gone", ""
        runtime = self._lab.plane.runtime.get(key) if key else None
        rests = self._ready.get(key) if key else None
        if rests is not None and rests[0] is obj and rests[1] is runtime:
            return _READY
        status = obj.status.containers[0] if obj.status.containers else None
        waits, _ = countdown(self._lab.plane, obj)
        if obj.terminating:
            return "terminating", waits
        if runtime is not None and not runtime.sandbox and runtime.uid == obj.meta.uid:
            return "no power", f"its node is off{f', {waits}' if waits.startswith('evicted') else ''}"
        if runtime is None:
            if obj.status.phase in ("Succeeded", "Failed"):
                return obj.status.phase.lower(), ""
            nominated = obj.status.nominated_node
            waits = f"nominated for {nominated}" if nominated else obj.status.reason
            return ("starting", "") if obj.spec.node_name else ("pending", waits)
        if not runtime.up:
            if status is not None and status.reason == "CrashLoopBackOff":
                return "crashed", waits
            if obj.spec.restart_policy != "Always" and all(run.exit_code == 0 for run in runtime.containers):
                return "succeeded", waits
            noticed = status is not None and status.state != "running"
            started = any(run.starts for run in runtime.containers)
            return ("starting" if noticed or not started else "crashed"), waits
        if runtime.hanging:
            return "hung", "connections are made and wait"
        if obj.status.ready:
            self._ready[obj.key] = obj, runtime
            return _READY
        if not self._lab.plane.core.talks(runtime.node):
            return "not ready", "its node is cut off"
        return ("starting" if runtime.started_ns is not None else "not ready"), waits

    def pod_words(self, key: Key | None, obj: KubeObject | None) -> tuple[str, str, str]:
        """(state, note, what it waits for in short) of a pod."""
        if self._words is None:
            return self._words_of(key, obj)
        known = self._words.get(key)
        if known is None or known[0] is not obj:
            known = self._words[key] = obj, self._words_of(key, obj)
        return known[1]

    def _words_of(self, key: Key | None, obj: KubeObject | None) -> tuple[str, str, str]:
        state, note = self.pod_state(key, obj)
        if not isinstance(obj, Pod) or (state == "ready" and key is not None and self._waits_for_nothing(key)):
            return state, note, ""
        return state, note, countdown(self._lab.plane, obj)[1]

    def _waits_for_nothing(self, ready: Key) -> bool:
        plane = self._lab.plane
        worker = plane.status.workers.get(ready)
        return plane.taint_eviction.evicted_at_ns(ready) is None and (worker is None or worker.hook is None)

    def pods_behind(self, service: Key) -> list[Pod]:
        """Pods that a Service's selector matches, in order of creation."""
        store = self._lab.store
        obj = store.get(service)
        if not isinstance(obj, Service):
            return []
        keys = self._lab.plane.core.index.pods_selected(service.namespace, obj.selector)
        return [cast(Pod, pod) for pod in store.all_of(keys)]

    # --- pieces ---------------------------------------------------------------------------------------------

    def knowledge(self) -> Knowledge:
        """The rows of "who knows"."""
        return self._lab.knowers.knowledge()

    def _failures(self, counts: Counts) -> Failures:
        lab = self._lab
        ids = lab.wiring.fronts()
        total = lab.since_event
        text = ""
        if total.failed:
            status, n = max(total.by_status.items(), key=lambda item: (item[1], item[0]))
            what = f"answered {status}" if status.isdigit() else status
            text = f"{n:,} {what}"
            if status == "502" and any(wired.entry.kind == "l7" for wired in lab.wiring.wired):
                text += " after 3 tries"
            rest = total.failed - n
            if rest:
                text += f", {rest:,} other"
        failed = counts.total(counts.failed, ids)
        if text and lab.knowing.incident is not None and not failed[counts.whole.start :].any():
            text += ", now none"
        empty = counts.total(counts.failed, ())
        return Failures(counts.rate(counts.failed, ids), total.failed, text, Series(empty, failed))

    def shares(self) -> tuple[ShareGroup, ...]:
        """Connections of every chooser's present version against their expected shares."""
        groups: dict[str, list[Chooser]] = {}
        for chooser in self._lab.wiring.choosers:
            if chooser.kind in ("entry", "upstream") and chooser.fan and len(chooser.fan.candidates) > 1:
                name = chooser.band or f"entry/{chooser.entry.service.name}"
                groups.setdefault(name, []).append(chooser)
        return tuple(found for name, choosers in groups.items() if (found := self._share_group(name, choosers)))

    def _share_group(self, band: str, choosers: list[Chooser]) -> ShareGroup | None:
        lab = self._lab
        seen: dict[int, int] = {}
        expected: dict[int, float] = {}
        unequal = False
        for chooser in choosers:
            fan = chooser.fan
            assert fan is not None
            counted = dict(lab.engine.connections(chooser.index))
            n = sum(counted.values())
            weight = sum(fan.weights)
            unequal = unequal or len(set(fan.weights)) > 1
            for candidate, part in zip(fan.candidates, fan.weights, strict=True):
                seen[candidate] = seen.get(candidate, 0) + counted.get(candidate, 0)
                expected[candidate] = expected.get(candidate, 0.0) + n * part / weight
        n = sum(seen.values())
        if not n:
            return None
        rows, smallest = [], 1.0
        spreads: dict[float, tuple[float, float]] = {}
        means = list(expected.values())
        unequal = unequal or max(means) - min(means) > 0.01 * n / len(means)
        for candidate, mean in expected.items():
            share = mean / n
            deviation = sqrt(max(n * share * (1 - share), 1e-12))
            smallest = min(smallest, erfc(abs(seen[candidate] - mean) / deviation / sqrt(2)))
            if share not in spreads:
                spreads[share] = spread(share, n)
            low, high = spreads[share]
            ip, port, _, pod = lab.wiring.servers[candidate]
            state, _, _ = self.pod_words(pod, lab.store.get(pod) if pod else None)
            rows.append(
                ShareRow(pod or Key("Endpoint", "", f"{ip}:{port}"), state, seen[candidate],
                         self._answered.get(candidate, 0), _fraction(share),
                         int(low * n), int(high * n) + 1)
            )  # fmt: skip
        p_value = min(1.0, smallest * len(rows))
        counting = lab.wiring.compiler.turns.scheduler(choosers[0].virtual)
        robin = choosers[0].picker in (Pick.ROUND_ROBIN, Pick.SCHEDULED)
        if unequal:
            word, why = "structural", "the rules give unequal shares"
        elif any(chooser.sticky for chooser in choosers):
            word, why = "structural", f"session affinity keeps each caller on one pod; n = {n:,} connections"
        elif counting in COUNTING:
            word, why = "structural", f"{CHOOSER[counting]}: who is done sooner gets more; n = {n:,} connections"
        elif choosers[0].picker == Pick.EWMA:
            word, why = "structural", f"ewma: who answers sooner gets more; n = {n:,} connections"
        elif p_value < STRUCTURAL_P:
            word, why = "structural", f"p = {p_value:.1e}, n = {n:,} connections"
        elif robin:
            word, why = "luck", f"round robin takes turns; n = {n:,} connections"
        else:
            word, why = "luck", f"p = {p_value:.2f}, n = {n:,} connections"
        service = choosers[0].service
        title = service.name if service else band
        if service and all(chooser.entry.kind == "call" for chooser in choosers):
            title = f"{lab.wiring.inner.calling(service)} → {title}"
        since = max(chooser.since_ns for chooser in choosers)
        return ShareGroup(title, band, n, since, None if unequal else p_value, word, why, tuple(rows))

    def _components(self) -> tuple[Component, ...]:
        components = self._lab.plane.components
        if components != self._known_components[0]:
            rows = tuple(Component(name, since is None, since) for name, since in components.items())
            self._known_components = components, rows
        return self._known_components[1]

    def _failing_words(self, counts: Counts) -> tuple[Span, ...]:
        """What goes wrong although everybody has learned: rules that lead to ports on which nothing listens."""
        lab = self._lab
        incident = lab.knowing.incident
        if incident is None or incident.kind in POD_ENDS or incident.settled_ns is None:
            return ()
        deaf: dict[int, str] = {}
        for chooser in lab.wiring.choosers:
            for server in chooser.fan.candidates if chooser.fan and chooser.kind != "lb" else ():
                _, port, _, pod = lab.wiring.servers[server]
                runtime = lab.plane.runtime.get(pod) if pod else None
                # A process that starts or has got SIGTERM does not listen either, but on the right port.
                if runtime is not None and runtime.up and not _has_port(runtime, port):
                    deaf[port] = chooser.service.name if chooser.service else ""
        if not deaf or not counts.rate(counts.failed, lab.wiring.fronts()):
            return ()
        port, service = next(iter(deaf.items()))
        return (
            Span("✖ Tries are refused: ", "lost"),
            Span(f"the rules of {service} lead to port {port}, and nothing listens on it in its pods."),
        )

    def _opening_words(self) -> tuple[Span, ...]:
        """What looked wrong on opening, until something happens."""
        wrong = [found for found in self._lab.findings if found.severity != "info"]
        if not wrong or self._lab.knowing.incident is not None:
            return ()
        n = len(wrong)
        count = "1 thing looks wrong" if n == 1 else f"{n} things look wrong"
        return (
            Span(f"{count}: ", "late"), Span(wrong[0].message, "strong"), Span(" · ", "dim"), Span(":findings", "key"),
            Span(" lists and jumps", "dim"),
        )  # fmt: skip

    def traces(self) -> tuple[TraceRow, ...]:
        """The sampled requests, oldest first."""
        known = self._traces
        rows: dict[int, TraceRow] = {}
        for trace_id, one in self._lab.sampler.traces:
            rows[trace_id] = known.get(trace_id) or self._lab.reopener.row(trace_id, one)
        self._traces = rows
        return tuple(rows.values())

    def _counting_words(self) -> tuple[Span, ...]:
        """Whether requests are counted or, though they may be, followed, and why."""
        if self._lab.engine.counted.on:
            return (Span("nothing changes: requests are counted, none can be opened"),)
        why = self._lab.counting.why_followed
        return (Span(f"requests are followed one by one: {why}"),) if why else ()

    def snapshot(self) -> Snapshot:
        """The lab at this instant; pausing and speed are the player's to fill in."""
        self._words = {}
        try:
            return self._snapshot()
        finally:
            self._words = None

    def _snapshot(self) -> Snapshot:
        lab = self._lab
        if len(self._ready) > 2 * lab.store.count("Pod") + 100:
            self._ready.clear()  # of pods that are gone
        counts = frame(lab, SERIES_BINS)
        bands = self._bands.build(counts)
        ids = lab.wiring.fronts()
        done, failed = counts.rate(counts.done, ids), counts.rate(counts.failed, ids)
        window_ns = WINDOW_BINS * BIN_NS
        p50, p99 = lab.percentiles(max(0, lab.t_ns - window_ns), lab.t_ns)
        narration = lab.script.narration if lab.t_ns - lab.script.narrated_ns < NARRATED_NS else ""
        story = self._failing_words(counts) or self._story.tell()
        story = story or self._opening_words()
        story = story or (() if narration else self._counting_words())
        return Snapshot(
            scenario=lab.spec.name, seed=lab.spec.seed, t_ns=lab.t_ns, paused=False, speed_asked=1.0, speed_reached=1.0,
            rate_rps=counts.rate(counts.sent, ids), ok_share=done / (done + failed) if done + failed else None,
            failed_total=lab.totals.failed, sent_total=lab.totals.sent,
            p50_ns=p50, p99_ns=p99, first_bin=counts.first_bin, n_bins=counts.n_bins, bands=bands,
            failures=self._failures(counts), knowledge=self.knowledge(), marks=tuple(lab.knowing.marks),
            nodes=self._node_rows.build(counts, bands), traces=self.traces(), traces_seen=lab.sampler.seen,
            shares=self.shares(),
            components=self._components(), story=story,
            sockets=lab.sockets.rows(),
            uncalled=lab.uncalled, pods_total=len(lab.store.keys("Pod")), rules_revision=lab.store.rules_revision(),
            load_factor=lab.load_factor, ended=lab.ended, narration=narration,
            counting=lab.engine.counted.on, followed=lab.counting.why_followed, autopsy=lab.gantt.report(),
        )  # fmt: skip
