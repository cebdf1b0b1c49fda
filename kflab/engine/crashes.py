"""A server stops answering, hangs or is cut off: what becomes of the requests that are there (lifecycle.md 3).

REFUSES: the process died, its node's kernel resets the connections; the other end knows one way later. SILENT: the
address or the whole node is gone and nobody says so; the other end waits out its read timeout (60 s in ingress-nginx,
and taken for plain clients too, whose patience nobody knows), counted from the start of the try.

A pod that dies while it waits for calls of its own resets its callers too; those calls are worked off, and nobody
takes their answers.

An ingress server that dies takes its clients' connections with it. What its upstream tries had queued at pods is
still worked off there; a SYN still under way is dropped.
"""

import numpy as np
from numpy.typing import NDArray

from kflab.engine import ewma_tries
from kflab.engine.connecting import process_ended
from kflab.engine.cuts import lost_between
from kflab.engine.hangs import LOST, Entry, Hang, work_off
from kflab.engine.memory import NEVER, Col, Stage
from kflab.engine.step_state import Rows
from kflab.engine.steps import Steps
from kflab.engine.types import Answer, Behaviour

BoolArray = NDArray[np.bool_]


def end_requests_at(steps: Steps, server: int, behaviour: int, t_ns: int) -> None:
    """Rewrite the ending of every request that a dying server had accepted and not yet answered.

    Args:
        steps: The engine's steps; every step before `t_ns` has been taken.
        server: Who dies; upstream or ingress.
        behaviour: REFUSES or SILENT.
        t_ns: When.
    """
    memory = steps.memory
    m, used = memory.flights.m, memory.flights.used
    live = memory.flights.due_before(NEVER)
    if used:
        last = np.maximum(m[Col.TRIES, live] - 1, 0)
        there = (m[Col.SERVER0 + last, live] == server) & ((m[Col.SERVED, live] > t_ns) | calling(steps, live))
        _end_tries(steps, live[there], behaviour, t_ns)
        held = live[(m[Col.INGRESS, live] == server) & (m[Col.OUT, live] > t_ns)]
        end_held(steps, held, behaviour, t_ns)
    memory.clear_backlog(server, t_ns)
    memory.pools.drop_ingress(server, t_ns)
    ewma_tries.process_ended(steps, server)
    if behaviour == Behaviour.REFUSES:
        memory.pools.drop_server(server, t_ns)
        process_ended(steps, server, t_ns)


def calling(steps: Steps, rows: Rows) -> BoolArray:
    """Whether a server has done its own work for requests and makes calls for them."""
    stages = steps.memory.flights.m[Col.STAGE, rows]
    found: BoolArray = (stages == Stage.CALL) | (stages == Stage.WAIT)
    return found


def hang_at(steps: Steps, server: int, t_ns: int) -> None:
    """Let a server stand still from `t_ns` on: what it had accepted waits, at most as long as its caller does.

    Every step before `t_ns` has been taken.
    """
    memory = steps.memory
    m = memory.flights.m
    live = memory.flights.due_before(NEVER)
    last = np.maximum(m[Col.TRIES, live] - 1, 0)
    there = (m[Col.SERVER0 + last, live] == server) & ((m[Col.SERVED, live] > t_ns) | calling(steps, live))
    rows = live[there]
    last = m[Col.TRIES, rows] - 1
    hang = memory.hangs[server] = Hang(t_ns)
    done, service = m[Col.SERVED, rows], m[Col.SERVICE, rows]
    arrival = done - service - m[Col.QUEUE, rows]
    done = np.where(done > t_ns, done, LOST)
    attempt = m[Col.TRIES, rows] + m[Col.LOST, rows]
    workers = m[Col.WORKER0 + last, rows]
    hang.add((m[Col.STREAM, rows], m[Col.NUMBER, rows], attempt, arrival, workers, service, done))
    _end_tries(steps, rows, Behaviour.SILENT, t_ns)


def leave(steps: Steps, server: int, behaviour: int, t_ns: int) -> None:
    """Let a hanging server go on (LISTENS), or end (REFUSES: resets; SILENT: the callers' patience runs out).

    Args:
        steps: The engine's steps; every step before `t_ns` has been taken.
        server: Who hangs.
        behaviour: What it does from now on.
        t_ns: When.
    """
    memory = steps.memory
    m, hang = memory.flights.m, memory.hangs.pop(server)
    if behaviour != Behaviour.LISTENS:
        memory.clear_backlog(server, hang.since_ns)
    if behaviour == Behaviour.SILENT:
        return
    live = memory.flights.due_before(NEVER)
    last = np.maximum(m[Col.TRIES, live] - 1, 0)
    held = (m[Col.SERVER0 + last, live] == server) & (m[Col.ANSWER0 + last, live] == Answer.TIMEOUT)
    rows = live[held & (m[Col.TRY_END0 + last, live] > t_ns)]
    places = hang.latest(m[Col.STREAM, rows], m[Col.NUMBER, rows], m[Col.TRIES, rows] + m[Col.LOST, rows])
    known = places >= 0
    if steps.cut is not None:  # what it says now does not get across a cut link
        ingress = m[Col.INGRESS, rows]
        callers = np.where(ingress >= 0, memory.place[ingress], m[Col.NODE, rows])
        known &= ~lost_between(steps.cut, callers, np.full(len(rows), memory.place[server]))
    rows, places = rows[known], places[known]
    l7 = steps.paths.is_l7[m[Col.STREAM, rows]]
    if behaviour == Behaviour.REFUSES:
        _end_tries(steps, rows, behaviour, t_ns)
        return
    done = work_off(memory, server, hang, t_ns)[places]
    last = m[Col.TRIES, rows] - 1
    ends = done + np.where(l7, m[Col.HOP, rows], m[Col.BACK, rows])
    # Else its caller has gone by then, or it had made calls already.
    heard = (ends < m[Col.TRY_END0 + last, rows]) & (done != LOST)
    rows, places, last, done = rows[heard], places[heard], last[heard], done[heard]
    entries = hang.entries()[:, places]
    m[Col.WORKER0 + last, rows] = entries[Entry.WORKER]
    steps.answered(rows, last, entries[Entry.ARRIVAL], entries[Entry.SERVICE], done)
    kept = rows[steps.paths.keepalive[m[Col.STREAM, rows]]]
    m[Col.STAGE, kept] = Stage.RELEASE
    m[Col.DUE, kept] = m[Col.OUT, kept]
    group = memory.servers[server].group
    further = [stream for stream, of_group in steps.paths.calls if of_group == group]
    calls = np.isin(m[Col.STREAM, rows], further)
    rows, last = rows[calls], last[calls]
    m[Col.ANSWER0 + last, rows] = m[Col.TRY_END0 + last, rows] = m[Col.STATUS, rows] = m[Col.CALL, rows] = 0
    m[Col.OUT, rows[steps.paths.is_l7[m[Col.STREAM, rows]]]] = NEVER
    m[Col.STAGE, rows], m[Col.DUE, rows] = Stage.CALL, done[calls]


def end_requests_across(steps: Steps, place: int, t_ns: int) -> None:
    """Let every request that waits for an answer from across a place's links wait until its read timeout.

    Args:
        steps: The engine's steps; every step before `t_ns` has been taken.
        place: Who is cut off from now on.
        t_ns: Now.
    """
    flights = steps.memory.flights
    m = flights.m
    if not flights.used:
        return
    places = np.append(steps.memory.place, -1)  # nobody, -1, is nowhere; there may be no server at all
    live = flights.due_before((1 << 63) - 1)
    last = np.maximum(m[Col.TRIES, live] - 1, 0)
    servers, nodes = m[Col.SERVER0 + last, live], m[Col.NODE, live]
    ingress = m[Col.INGRESS, live]
    l7 = steps.paths.is_l7[m[Col.STREAM, live]]
    inside = steps.paths.inside[m[Col.STREAM, live]]
    caller = np.where(l7, places[ingress], nodes)
    there = np.where(servers >= 0, places[servers], caller)
    crosses = (caller != there) & ((caller == place) | (there == place))
    crosses |= ~l7 & ~inside & (nodes == place)
    crosses &= (servers >= 0) & ((m[Col.SERVED, live] > t_ns) | calling(steps, live))
    _end_tries(steps, live[crosses], Behaviour.SILENT, t_ns)
    held = l7 & ((nodes == place) | (caller == place)) & (m[Col.OUT, live] > t_ns)
    end_held(steps, live[held], Behaviour.SILENT, t_ns)


def _end_tries(steps: Steps, rows: Rows, behaviour: int, t_ns: int) -> None:
    """Reset (or leave hanging) the tries that a server was working on."""
    m, paths = steps.memory.flights.m, steps.paths
    streams, last = m[Col.STREAM, rows], m[Col.TRIES, rows] - 1
    idempotent = paths.idempotent[streams]
    m[Col.OUT, rows[paths.is_l7[streams]]] = NEVER  # the answer that the ingress was to be rid of does not come
    if behaviour == Behaviour.SILENT:
        ends = np.maximum(t_ns, m[Col.TRY_START0 + last, rows] + paths.read_patience[streams])
        steps.failed(rows, Answer.TIMEOUT, ends, idempotent)
        return
    way = np.where(paths.is_l7[streams], m[Col.HOP, rows], m[Col.BACK, rows])
    # nginx does not count an error on a kept connection as a try (ngx_http_upstream.c: peer.cached gives it back).
    kept = (m[Col.KEPT, rows] >> last & 1 == 1) & idempotent & paths.is_l7[streams]
    m[Col.LOST, rows[kept]] += 1
    m[Col.TRIES, rows[kept]] -= 1
    steps.retry_free(rows[kept], (t_ns + way)[kept])
    steps.failed(rows[~kept], Answer.RESET, (t_ns + way)[~kept], idempotent[~kept])


def end_held(steps: Steps, rows: Rows, behaviour: int, t_ns: int) -> None:
    """End the client's connection to a dying ingress server."""
    m = steps.memory.flights.m
    tries = m[Col.TRIES, rows]
    last = np.maximum(tries - 1, 0)
    # The caller of the try is gone before it knew: nobody learned how the try ended.
    under_way = (m[Col.STAGE, rows] == Stage.SERVER) | calling(steps, rows)
    unknown = (tries > 0) & (under_way | (m[Col.TRY_END0 + last, rows] > t_ns))
    m[Col.ANSWER0 + last[unknown], rows[unknown]] = Answer.NONE
    m[Col.TRY_END0 + last[unknown], rows[unknown]] = t_ns
    m[Col.SERVED, rows] = 0
    m[Col.QUEUE, rows] = 0
    m[Col.SERVICE, rows] = 0
    m[Col.OUT, rows] = t_ns
    if behaviour == Behaviour.SILENT:
        finish = np.maximum(t_ns, m[Col.START, rows] + steps.paths.client_patience[m[Col.STREAM, rows]])
        steps.end(rows, -Answer.TIMEOUT, finish)
    else:
        steps.end(rows, -Answer.RESET, t_ns + m[Col.BACK, rows])
