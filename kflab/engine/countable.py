"""Whether requests may be counted (see `counting`), and what stands against it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from kflab.draws import TABLE_SIZE
from kflab.engine import counted_deadlines, counted_rows, cuts
from kflab.engine.memory import NEVER, Col, Stage
from kflab.engine.over_kept import ends_ns
from kflab.engine.scheduled import schedulers_in_order
from kflab.engine.schedulers import Scheduler
from kflab.engine.types import Behaviour, Pick, Stream

if TYPE_CHECKING:
    from kflab.engine.engine import Engine

MOST_BUSY = 0.05
"""Offered load per worker up to which NGINX's kept connections are counted: the mean wait of drawn workers is then some
4 % of the mean of the default service time (M/G/1, Pollaczek and Khinchine). Ours."""


def obstacle(engine: "Engine") -> str:
    """Say why requests cannot be counted from now on; "" where they can."""
    passing = next(_passing(engine), "")
    if passing:
        return passing
    if engine.counted.static is None:
        engine.counted.static = next((why for stream in engine.streams for why in _of_stream(engine, stream)), "")
    return engine.counted.static or next(_in_flight(engine), "")


def _passing(engine: "Engine") -> Iterator[str]:
    """What may pass by itself, or come."""
    memory = engine.memory
    if engine.changes_ahead or engine.choosers.changes_ahead or memory.schedulers.changes_ahead:
        yield "a change is under way"
    if engine.steps.room is not None or engine.steps.ports is not None:
        yield "a conntrack table is full, or source ports may run out"
    if memory.schedulers.open:
        yield "a virtual server counts connections"
    if memory.n_shared:
        yield "workers of a pod share one queue"
    for stream in engine.streams:
        if stream.connections and stream.rate_rps:
            yield from _kept_by_client(engine, stream)
    if engine.steps.paths.calls:
        yield from counted_rows.obstacles(engine.steps, engine.taking.calls_changed_ns)
    yield from counted_deadlines.obstacles(engine)


def _in_flight(engine: "Engine") -> Iterator[str]:
    """What requests under way may still do."""
    memory = engine.memory
    m, live = memory.flights.m, memory.flights.due_before(NEVER)
    stages = m[Col.STAGE, live]
    before = m[Col.TRIES, live] + m[Col.LOST, live] - (stages == Stage.SERVER)
    if ((stages <= Stage.SERVER) & (before > 0)).any():
        yield "a request tries again"
    if ((m[Col.STATUS, live] < 0) & (engine.steps.paths.connections[m[Col.STREAM, live]] > 0)).any():
        yield "a client is about to give a connection up"


def _kept_by_client(engine: "Engine", stream: Stream) -> Iterator[str]:
    """Whether every connection of a client is well, or is opened anew by what it next sends."""
    known, behaviour = engine.memory.connections, engine.memory.behaviour
    for left in known.leaving.values():
        well = left.established and not left.broken and behaviour[left.server] == Behaviour.LISTENS
        if left.stream == stream.index and not well:
            yield "a client has given connections up"
    opens = stream.connection_age_ns > 0
    for slot in range(stream.connections):
        one = known.current.get((stream.index, slot))
        if one is None or ends_ns(one, stream.place) <= engine.now_ns:
            opens = True
        elif not one.established:
            yield "a client opens connections"
        elif one.broken or one.dies_ns or behaviour[one.server] != Behaviour.LISTENS:
            yield "a client's connection is about to end"
    if opens:
        table, chooser = engine.choosers, dict(stream.entries).get(stream.place, -1)
        servers = set(table.candidates(chooser))
        if not servers:
            yield "a node's rules lead nowhere"
        elif table.pick[chooser] != Pick.RANDOM:
            yield "a client opens connections, in turn or by affinity"
        yield from _met(engine, {stream.place} | {int(engine.memory.place[server]) for server in servers}, servers)


def _of_stream(engine: "Engine", stream: Stream) -> Iterator[str]:
    table = engine.choosers
    if not stream.rate_rps:
        return
    if stream.calls and (stream.timeout_ns or stream.attempt_timeout_ns):
        yield "pods make calls for a client that has a deadline of its own"
    if stream.flow_port or stream.one_way:
        yield "a UDP sender keeps its port or wants no answer"
    if stream.names or stream.lost_per_million:
        yield "a client asks DNS for each request, or loses packets"
    if stream.front_answer or stream.no_route:
        yield "a front answers by itself"
    nodes: set[int] = {stream.place}
    if stream.kind in ("l7", "l4"):
        nodes = set(table.candidates(stream.lb))
        yield from _picking(engine, stream.lb)
    if not nodes:
        yield "a load balancer has no target"
    entries = dict(stream.entries)
    first: set[int] = set()
    for node in sorted(nodes) if not stream.connections else ():
        chooser = entries.get(node, -1)
        first.update(table.candidates(chooser))
        if not table.candidates(chooser):
            yield "a node's rules lead nowhere"
        yield from _picking(engine, chooser)
    servers = set(first)
    for one in engine.memory.connections.current.values() if stream.connections else ():
        if one.stream == stream.index and ends_ns(one, stream.place) > engine.now_ns:
            servers.add(one.server)
    for ingress in sorted(first) if stream.kind == "l7" else ():
        chooser = dict(stream.upstreams).get(ingress, -1)
        servers.update(table.candidates(chooser))
        if not table.candidates(chooser):
            yield "NGINX has no upstream"
        elif table.pick[chooser] == Pick.EWMA:
            yield "NGINX picks pods by how soon they answered"
        elif table.pick[chooser] == Pick.SCHEDULED:
            yield "rules choose for NGINX's connections in turn or by affinity"
        elif table.pick[chooser] == Pick.RANDOM and stream.keepalive:
            yield "NGINX keeps connections to a Service's address"  # a request's pod is that of whichever is idle
    if stream.keepalive and _busy(engine, servers - first) > MOST_BUSY:
        yield f"NGINX keeps connections to pods that are busy (over {MOST_BUSY:.0%})"
    if stream.keepalive and any(engine.memory.servers[server].idle_close_ns for server in servers):
        yield "pods close connections that NGINX keeps"
    yield from _called(engine, stream, servers)
    yield from _met(engine, nodes | {int(engine.memory.place[server]) for server in servers}, servers)


def _met(engine: "Engine", places: set[int], servers: set[int]) -> Iterator[str]:
    """What requests meet at nodes that they come through, and at servers that they come to."""
    behaviours = {int(engine.memory.behaviour[server]) for server in servers}
    cut = engine.steps.cut
    if cut is not None and cuts.off(cut, np.array(sorted(places), dtype=np.int64)).any():
        yield "a node is cut off"
    if Behaviour.HANGS in behaviours:
        yield "a process hangs"
    if behaviours - {Behaviour.LISTENS}:
        yield "an address that is listed does not answer"


def _called(engine: "Engine", stream: Stream, servers: set[int]) -> Iterator[str]:
    """What stands against calls that servers make for a stream's requests; adds those they call to `servers`."""
    table, memory, timing = engine.choosers, engine.memory, engine.timing
    if stream.calls and min(timing.same_node_ns, timing.cross_node_ns) <= 0:
        yield "a hop between pods takes no time"
    own = frozenset(servers)
    for group, calls in stream.calls:
        callers = {server for server in own if memory.group[server] == group}
        for call in calls if callers else ():
            inner = engine.streams[call.stream]
            choosers = {dict(inner.entries).get(int(memory.place[caller]), -1) for caller in callers}
            below = {server for chooser in choosers for server in table.candidates(chooser)}
            if not all(table.candidates(chooser) for chooser in choosers):
                yield "the rules of a calling pod's node lead nowhere"
            elif any(table.pick[chooser] != Pick.RANDOM for chooser in choosers):
                yield "calls between pods go in turn or by affinity"
            else:
                yield from _called(engine, inner, below)
                servers |= below


def _busy(engine: "Engine", servers: set[int]) -> float:
    """Offered load per worker if every request of the engine came to these servers."""
    rate_rps = sum(stream.rate_rps for stream in engine.streams)
    tables = {int(engine.steps.server_table[server]) for server in servers}
    longest_s = max((int(engine.steps.tables[table].sum()) / TABLE_SIZE / 1e9 for table in tables), default=0.0)
    workers = sum(int(engine.memory.n_workers[server]) for server in servers)
    return rate_rps * longest_s / max(1, workers)


def _picking(engine: "Engine", chooser: int) -> Iterator[str]:
    """What a chooser of the way in may not do."""
    table, schedulers = engine.choosers, engine.memory.schedulers
    which = int(table.scheduler[chooser]) if chooser >= 0 else -1
    if which < 0:
        return
    virtual = schedulers.servers[which]
    if which in schedulers_in_order(engine.steps):
        yield "turns of a virtual server depend on more than order"
    elif len(schedulers.kept.mates(which)) > 1:
        yield "more callers come to a Service than xt_recent's lists hold"
    elif which not in schedulers.kept.entries and virtual.scheduler not in (Scheduler.RR, Scheduler.WRR):
        yield "a virtual server counts connections"
