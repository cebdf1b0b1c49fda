"""The autopsy: every request that failed or was slowed is billed to one cause and one window of time.

A lost try is held against the ground truth: did its server answer when the packet came, and if not, did whoever picked
it know? The window runs from the change in truth to the instant at which that observer's choice left the server out
(or the server answered again). Each lost request is on exactly one bill, so bills add up to failed + slowed; what no
cause explains is billed as such.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from kflab.control.endpoints import target_port
from kflab.control.facts import Fact
from kflab.control.machine import Machine
from kflab.control.observers import NO_RULES, revision_at
from kflab.control.waves import Wave
from kflab.dataplane.packets import Verdict
from kflab.engine.types import Answer, Behaviour, Finished, Int64Array
from kflab.lab.bills import Bill, Cause
from kflab.lab.calls import workload_of
from kflab.lab.choosers import Chooser
from kflab.lab.grouping import grouped
from kflab.lab.losses import Losses, find_losses
from kflab.lab.outages import out_when_picked, out_while_in_hand
from kflab.lab.records import record, status_text
from kflab.lab.spread import Spread, Spreading
from kflab.lab.truth import OPEN, Truth
from kflab.manifest.objects import Key
from kflab.manifest.objects_network import Service
from kflab.manifest.objects_pods import Pod

if TYPE_CHECKING:
    from kflab.lab.running import Lab

KEPT_BILLS = 500
"""Bills kept apart; the oldest are then put together, one per cause."""


class Autopsy:
    """Bills of one lab.

    Args:
        lab: Read only; its wiring names servers and choosers.
    """

    def __init__(self, lab: "Lab") -> None:
        self._lab = lab
        self.truth = Truth()
        self.spreading = Spreading(
            lab.store, lab.plane.observers, self._answers, self._about, lab.plane.core.index.pods_on,
            lambda node: lab.plane.core.machines.get(node, Machine()).reachable,
        )  # fmt: skip
        self._bills: dict[tuple[object, ...], Bill] = {}
        self._count = 0
        self.version = 0
        """Grows when anything that is shown may have changed."""
        self.earlier: dict[str, Bill] = {}
        """Cause → what the oldest bills came to."""

    def _answers(self, pod: Key) -> bool:
        """Whether a pod answers; of several containers those count that Services send to."""
        runtime = self._lab.plane.runtime.get(pod)
        if runtime is None or not runtime.sandbox:
            return False
        obj = self._lab.store.get(pod)
        if len(runtime.containers) == 1 or not isinstance(obj, Pod):
            return bool(runtime.listening)
        own = {port for run in runtime.containers for port in run.ports}
        selecting = self._lab.plane.core.index.services_selecting(obj.meta.namespace, obj.meta.labels)
        called = {
            (port.protocol, target_port(port, obj))
            for service in self._lab.store.all_of(selecting) if isinstance(service, Service) for port in service.ports
        }  # fmt: skip
        return own & called <= set(runtime.listening) if own & called else bool(runtime.listening)

    def _about(self, pod: Pod) -> tuple[Key, bool]:
        selecting = self._lab.plane.core.index.services_selecting(pod.meta.namespace, pod.meta.labels)
        return workload_of(self._lab.store, pod), bool(selecting)

    @property
    def bills(self) -> list[Bill]:
        """All bills, earliest loss first."""
        self._close()
        found = (*self.earlier.values(), *self._bills.values())
        return sorted(found, key=lambda bill: (bill.from_ns, bill.first_ns, bill.id))

    def hear(self, entries: Sequence[Fact | Wave]) -> None:
        """Follow what happens to pods and who learns of it."""
        self.spreading.hear(entries, self._lab.wiring.callers_of)
        self.version += 1

    def add(self, rows: Finished) -> None:
        """Bill what was lost among finished requests; every fact up to their finish has been heard."""
        self.truth.add(self._lab.engine.take_told())
        lost = find_losses(rows, self._lab.engine)
        if lost is None:
            return
        self.version += 1
        state, silence, later = self.truth.met(lost.server, lost.arrive_ns, lost.end_ns)
        version = self._versions(lost)
        columns = (
            lost.server, silence, later, state, lost.chooser, version, lost.node, lost.answer, lost.failed, lost.status,
            lost.kept, lost.stream,
        )  # fmt: skip
        phases = self._phases(lost)
        # Kinds come in order of their first request, so slabs do not decide which bill is first.
        for mine in grouped((*columns, *phases)):
            kind = [int(column[mine[0]]) for column in columns]
            first = int(mine[0])
            self._charge(self._bill(kind, int(lost.pick_ns[first]), int(lost.end_ns[first])), lost, mine, rows)
        self._fold()

    def _versions(self, lost: Losses) -> Int64Array:
        """Which of its chooser's candidate lists each try was picked from; -1: none was known."""
        version = np.full(len(lost), -1, dtype=np.int64)
        for chooser in np.unique(lost.chooser[lost.chooser >= 0]).tolist():
            mine = np.flatnonzero(lost.chooser == chooser)
            times = np.array([t_ns for t_ns, _ in self._lab.wiring.choosers[chooser].past], dtype=np.int64)
            at = np.searchsorted(times, lost.pick_ns[mine], side="right") - 1
            version[mine] = np.where(at >= 0, times[np.maximum(at, 0)], -1) if len(times) else -1
        return version

    def _phases(self, lost: Losses) -> tuple[Int64Array, ...]:
        """Columns that tell tries apart between which an answer that `_bill` asks for may have changed.

        That is: a node's link, a load balancer's end of flows, the configuration of the kube-proxy that had nothing.
        """
        lab = self._lab
        links, ends = lab.world.link_changes(), lab.flow_ends.times()
        configs = np.zeros(len(lost), dtype=np.int64)
        for index in np.unique(lost.chooser[(lost.server < 0) & (lost.chooser >= 0)]).tolist():
            proxy = lab.plane.observer_at(f"kube-proxy/{lab.wiring.choosers[index].place}", lab.t_ns)
            if proxy is not None and proxy.configs:
                mine = lost.chooser == index
                times = [t_ns for t_ns, _ in proxy.configs]
                configs[mine] = np.searchsorted(times, lost.pick_ns[mine], side="right")
        return (
            np.searchsorted(links, lost.pick_ns, side="right"),
            np.searchsorted(links, lost.end_ns, side="right"),
            np.searchsorted(ends, lost.pick_ns, side="left"),
            np.searchsorted(ends, lost.end_ns, side="right"),
            configs,
        )

    # --- which bill -----------------------------------------------------------------------------------------

    def _bill(self, kind: list[int], pick_ns: int, end_ns: int) -> Bill:
        """The bill that tries of this kind are put on; the columns are those of `add`."""
        server, silence, later, state, index, version, node, answer, _, status, kept, stream = kind
        wiring = self._lab.wiring
        chooser = wiring.choosers[index] if index >= 0 else None
        place = wiring.places[node] if node >= 0 else ""
        if answer == Answer.TABLE_FULL:
            return self._open((Cause.TABLE_FULL, place), Cause.TABLE_FULL, chooser, -1, place, pick_ns)
        if answer == Answer.NO_PORT:
            return self._open((Cause.NO_PORT, place, server), Cause.NO_PORT, chooser, server, place, pick_ns)
        if answer == Answer.NO_NAME:
            return self._open((Cause.NO_NAME, place), Cause.NO_NAME, None, -1, place, pick_ns)
        if answer == Answer.SYN_LOST:
            return self._open((Cause.SYN_LOST, place), Cause.SYN_LOST, None, -1, place, pick_ns)
        if answer in (Answer.RESET, Answer.TIMEOUT) and silence < 0 and not later:
            ended = self._lab.flow_ends.of(stream, node, server, answer, pick_ns, end_ns)
            if ended is not None:
                one = (Cause.FLOW_ENDED, ended.observer, ended.target, ended.t_ns)
                bill = self._open(one, Cause.FLOW_ENDED, chooser, -1, ended.target, ended.t_ns, ended.observer)
                bill.until_ns = ended.t_ns
                return bill
        if answer in (Answer.TIMEOUT, Answer.UNREACHABLE, Answer.GAVE_UP) and silence < 0:
            out = out_when_picked(self._lab, place, server, stream, pick_ns)
            if out:
                since, _ = self._lab.world.outage_window(out, pick_ns)
                cause = self._led_to(chooser, version, server, kept, stream) if out != place else Cause.UNKNOWN
                if cause != Cause.UNKNOWN:  # they led elsewhere than to a node whose own callers are cut off
                    observer = self._observer(chooser) if cause == Cause.STALE else ""
                    bill = self._open(
                        (cause, server, observer, since, out), cause, chooser, server, place, since, observer
                    )
                    bill.cut = out
                    return self._waited(bill, stream, Behaviour.SILENT)
                lb = wiring.wired[stream].lb if server < 0 else None  # it led there, unless nobody chose the node
                observer = self._observer(lb)
                sent_by: tuple[object, ...] = (Cause.NODE_LOST, out, observer, since)
                bill = self._open(sent_by, Cause.NODE_LOST, lb or chooser, -1, out, since, observer)
                bill.silent = True
                return bill
            went = out_while_in_hand(self._lab, place, server, stream, pick_ns, end_ns)
            if went is not None:
                since, out = went
                over = server if out != place else -1
                return self._open((Cause.IN_FLIGHT, over, out, since), Cause.IN_FLIGHT, chooser, over, out, since)
            if answer == Answer.GAVE_UP and server >= 0:  # though its server's process was well
                return self._open((Cause.DEADLINE, server), Cause.DEADLINE, chooser, server, "", pick_ns)
        if answer == Answer.NONE and status == 404:
            return self._open((Cause.NO_ROUTE, index), Cause.NO_ROUTE, chooser, -1, place, pick_ns)
        if answer == Answer.RESET and kept and silence < 0 and server >= 0:
            return self._open((Cause.IDLE, server), Cause.IDLE, chooser, server, place, pick_ns)
        if server < 0:
            return self._nothing_to_pick(chooser, version, place, answer, pick_ns)
        cause = self._of_server(chooser, server, silence, later, state, version, kept, stream, pick_ns)
        from_ns = silence if silence >= 0 else pick_ns
        again_ns = self._listed_again(chooser, version, server, silence) if cause == Cause.STALE else None
        if again_ns is not None:
            cause, from_ns, silence = Cause.DEAF, again_ns, again_ns
        observer = self._observer(chooser) if cause in (Cause.STALE, Cause.DEAF) else ""
        same = (cause, server, observer, silence)
        if cause == Cause.UNKNOWN:
            same = (cause, server, str(answer), -1)
        bill = self._open(same, cause, chooser, server, place, from_ns, observer)
        return self._waited(bill, stream, state)

    def _waited(self, bill: Bill, stream: int, state: int) -> Bill:
        """A bill, with what its callers waited for and how long they do."""
        bill.silent = bill.silent or state == Behaviour.SILENT
        called = self._lab.wiring.wired[stream].stream
        if state == Behaviour.HANGS:
            bill.waits_for, bill.patience_ns = "read", called.read_timeout_ns or self._lab.engine.timing.read_timeout_ns
        else:
            bill.waits_for = "connect" if not called.udp else "answer"
            bill.patience_ns = called.connect_timeout_ns if called.kind == "l7" else called.dial_timeout_ns
        return bill

    def _of_server(
        self, chooser: Chooser | None, server: int, silence: int, later: int, state: int, version: int, kept: int,
        stream: int, pick_ns: int,
    ) -> str:  # fmt: skip
        """Why a try to a server was lost."""
        if later:
            return Cause.IN_FLIGHT
        if silence < 0:
            return Cause.UNKNOWN
        cause = self._led_to(chooser, version, server, kept, stream)
        heard = kept or self.truth.of(server).listened_before(silence)
        return Cause.DEAF if cause == Cause.STALE and not heard else cause

    def _led_to(self, chooser: Chooser | None, version: int, server: int, kept: int, stream: int) -> str:
        """What led a try to a server that was not there: a choice, or what an earlier one had left."""
        if server < 0:
            return Cause.UNKNOWN
        listed = self._lists(chooser, version, server)
        if kept:
            flow = self._lab.wiring.wired[stream].stream.flow_port
            return Cause.STALE if flow and listed else (Cause.STALE_FLOW if flow else Cause.KEPT)
        return Cause.STALE if listed else Cause.UNKNOWN

    def _lists(self, chooser: Chooser | None, version: int, server: int) -> bool:
        """Whether a chooser's candidates, as of a version's start, name a server."""
        past = chooser.past if chooser else []
        return any(t_ns == version and server in fan.candidates for t_ns, fan in past)

    def _listed_again(self, chooser: Chooser | None, version: int, server: int, silence: int) -> int | None:
        """Since when a server stood in a version anew, after its chooser had left it out in this silence; else None.

        A container that is started again and has no readiness probe is listed before its process listens.
        """
        since, left = None, False
        for t_ns, fan in chooser.past if chooser is not None else []:
            if t_ns > version:
                break
            if server not in fan.candidates:
                since, left = None, left or t_ns > silence
            elif left and since is None:
                since = t_ns
        return since

    def _nothing_to_pick(
        self, chooser: Chooser | None, version: int, place: str, answer: int, pick_ns: int
    ) -> Bill:  # fmt: skip
        """A try that had no server: whoever was to pick one had none."""
        cause = Cause.UNKNOWN
        # NGINX answers 503 by what it knows itself, also where its connections go by a node's rules.
        observer = chooser.observers[0] if chooser and answer == Answer.NO_UPSTREAM else self._observer(chooser)
        if chooser is None:
            silent = answer in (Answer.TIMEOUT, Answer.GAVE_UP)
            cause = Cause.NOT_PROGRAMMED if silent else Cause.UNKNOWN
        elif chooser.kind == "lb":
            cause = Cause.NO_TARGETS
        elif answer == Answer.NO_UPSTREAM:
            cause = Cause.NO_ENDPOINTS
        elif answer in (Answer.REJECTED, Answer.TIMEOUT, Answer.GAVE_UP):
            cause = self._verdict(chooser, pick_ns)
        since = version if version >= 0 else 0
        same = (cause, observer, _chosen_from(chooser), since)
        return self._open(same, cause, chooser, -1, place, since if version >= 0 else pick_ns, observer)

    def _verdict(self, chooser: Chooser, pick_ns: int) -> str:
        """What the node's rules had for a first packet, in the words of bills."""
        proxy = self._lab.plane.observer_at(f"kube-proxy/{chooser.place}", pick_ns)
        if proxy is not None and proxy.config_at(pick_ns) == NO_RULES:
            return Cause.NO_RULES
        verdict = self._lab.wiring.compiler.empty_verdict(chooser, pick_ns)
        if verdict is Verdict.REJECT or verdict is Verdict.ACCEPT:
            # IPVS has a virtual server without destinations: its kernel rejects where other modes drop.
            return Cause.NO_LOCAL if self._left_out_by_policy(chooser, pick_ns) else Cause.NO_ENDPOINTS
        if verdict is Verdict.DNAT:
            return Cause.BYPASSED
        return Cause.NO_LOCAL if verdict is Verdict.DROP else Cause.NOT_PROGRAMMED

    def _left_out_by_policy(self, chooser: Chooser, pick_ns: int) -> bool:
        """Whether policy Local alone left a node's rules without endpoints: they knew some on other nodes."""
        lab = self._lab
        revision = revision_at(lab.plane.observers, f"kube-proxy/{chooser.place}", pick_ns)
        service = lab.store.get(chooser.service, at=revision) if chooser.service and revision else None
        if not isinstance(service, Service) or revision is None:
            return False
        inside = chooser.entry.inside or chooser.kind == "upstream"
        if (service.internal_traffic_policy if inside else service.external_traffic_policy) != "Local":
            return False
        entries = (entry for piece in lab.book.slices(service.key, revision) for entry in piece.endpoints)
        return any(entry.ready is not False or (entry.serving and entry.terminating) for entry in entries)

    def _observer(self, chooser: Chooser | None) -> str:
        """By whose knowledge a chooser picks."""
        if chooser is None:
            return ""
        return chooser.observers[0 if chooser.kind != "upstream" or chooser.by_peer else 1]

    def _open(
        self, same: tuple[object, ...], cause: str, chooser: Chooser | None, server: int, place: str, from_ns: int,
        observer: str = "",
    ) -> Bill:  # fmt: skip
        """The bill of these, or a new one."""
        bill = self._bills.get(same)
        if bill is None:
            self._count += 1
            pod, address = None, ""
            if server >= 0:
                ip, port, _, pod = self._lab.wiring.servers[server]
                address = f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
            # Where nothing listens yet, no end of the pod is what they had to learn.
            spread = self.spreading.of(pod, from_ns) if pod is not None and cause != Cause.DEAF else None
            index = chooser.index if chooser is not None else -1
            bill = Bill(
                self._count, cause, observer, pod, address, place, _chosen_from(chooser), from_ns, None, spread, index,
                server,
            )  # fmt: skip
            self._bills[same] = bill
        return bill

    # --- what is on it --------------------------------------------------------------------------------------

    def _charge(self, bill: Bill, lost: Losses, mine: Int64Array, rows: Finished) -> None:
        """Put requests on a bill; `mine` are places in the columns, all of one kind."""
        n, picks, one = len(mine), lost.pick_ns[mine], int(mine[0])
        if lost.failed[one]:
            bill.failed += n
            bill.outcomes[status_text(int(lost.status[one]))] += n
        else:
            bill.slowed += n
        bill.answers[int(lost.answer[one])] += n
        bill.sent += int(lost.sent[mine].sum())
        bill.first_ns = min(bill.first_ns, int(picks.min()))
        bill.last_ns = max(bill.last_ns, int(picks.max()))
        if bill.cause not in _FROM_TRUTH:
            bill.from_ns = min(bill.from_ns, bill.first_ns)  # rows come in the order of their ends
        if bill.cause in (Cause.DEADLINE, Cause.IDLE):
            bill.until_ns = bill.last_ns
        if bill.cause == Cause.IN_FLIGHT:  # until the last of what was in hand was lost
            bill.until_ns = max(bill.until_ns or 0, int(lost.end_ns[mine].max()))
        bill.longest_ns = max(bill.longest_ns, int((lost.finish_ns[mine] - lost.start_ns[mine]).max()))
        if bill.example is None:
            bill.example = record(rows, int(lost.row[one]))
        if bill.cause == Cause.STALE and bill.spread is not None:
            early, late = self._gaps(bill.spread)
            bill.gaps[0] += int((picks < early).sum())
            bill.gaps[1] += int(((picks >= early) & (picks < late)).sum())
            bill.gaps[2] += int((picks >= late).sum())

    @staticmethod
    def _gaps(spread: Spread) -> tuple[int, int]:
        """When the kubelet had noticed, and when the slice was written; a delete is known to the API at once."""
        noticed = spread.t_ns if spread.deleted else spread.noticed_ns
        written = spread.written_ns if spread.written_ns is not None else OPEN
        return min(noticed if noticed is not None else OPEN, written), written

    def _close(self) -> None:
        """See which windows have ended by now."""
        now = self._lab.t_ns
        for bill in self._bills.values():
            if bill.until_ns is not None:
                continue
            ends = []
            if bill.cause == Cause.NODE_LOST or bill.cut:
                _, until_ns = self._lab.world.outage_window(bill.cut or bill.node, bill.from_ns)
                ends.append(OPEN if until_ns is None else until_ns)
            elif bill.server >= 0 and bill.cause != Cause.UNKNOWN:
                ends.append(self.truth.of(bill.server).end_of(bill.from_ns))
            if bill.chooser >= 0 and (bill.cause in _CHOSEN or (bill.cause == Cause.NODE_LOST and bill.observer)):
                ends.append(self._left_out(bill))
            until = min(ends, default=OPEN)
            if until <= now:
                bill.until_ns = until

    def _left_out(self, bill: Bill) -> int:
        """When the chooser named the server (or node) no more, or (with none) had something to pick."""
        wiring, target = self._lab.wiring, bill.server
        if bill.cause == Cause.NODE_LOST:
            target = wiring.places.index(bill.node)
        for t_ns, fan in wiring.choosers[bill.chooser].past:
            there = target in fan.candidates if target >= 0 else not fan.candidates
            if t_ns > bill.from_ns and not there and t_ns >= bill.first_ns:
                return t_ns
        return OPEN

    # --- forgetting -----------------------------------------------------------------------------------------

    def oldest_start_ns(self) -> int | None:
        """When the earliest example began; None without any."""
        return min((bill.example.start_ns for bill in self._bills.values() if bill.example), default=None)

    def forget_before(self, t_ns: int) -> None:
        """Drop history from before `t_ns`, and examples that can no longer be opened."""
        self._close()
        self.truth.forget_before(t_ns)
        self.spreading.forget_before(t_ns)
        for bill in self._bills.values():
            if bill.example is not None and bill.example.start_ns < t_ns:
                bill.example = None

    def _fold(self) -> None:
        """Put the oldest bills together when there are too many."""
        while len(self._bills) > KEPT_BILLS:
            same = min(self._bills, key=lambda same: (self._bills[same].last_ns, self._bills[same].id))
            old = self._bills.pop(same)
            into = self.earlier.get(old.cause)
            if into is None:
                into = self.earlier[old.cause] = Bill(
                    old.id, old.cause, "", None, "", "", None, old.from_ns, old.last_ns, None, -1, -1
                )
            into.take(old)


def _chosen_from(chooser: Chooser | None) -> Key | None:
    """The Service (of a load balancer: whose targets) that a chooser picks for."""
    if chooser is None:
        return None
    return chooser.entry.balancer if chooser.kind == "lb" else chooser.service


_FROM_TRUTH = frozenset({
    Cause.STALE, Cause.IN_FLIGHT, Cause.DEAF, Cause.KEPT, Cause.STALE_FLOW, Cause.FLOW_ENDED, Cause.NODE_LOST,
})  # fmt: skip
"""Causes whose window begins with a change in truth, whenever the tries were picked; else with the first of them."""

_CHOSEN = frozenset({
    Cause.STALE, Cause.DEAF, Cause.NO_ENDPOINTS, Cause.NO_LOCAL, Cause.NOT_PROGRAMMED, Cause.NO_RULES, Cause.NO_TARGETS,
    Cause.BYPASSED,
})  # fmt: skip
"""Causes whose window ends when the chooser's candidates change."""
