"""Connections that a virtual server schedules (`schedulers`) or affinity keeps (`affinity`), as the steps and the event
loop meet them.

Turns are taken in order of (time, stream, number). The steps take all of a slab's at once; where that order depends on
what happens within the slab, the rows wait for the event loop (`eventwise`): at a virtual server that NGINX's tries or
the calls of pods reach as well or that counts connections, and for a UDP sender's fixed source port, which asks only
where it has no entry.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kflab.engine.affinity import Listed
from kflab.engine.memory import NEVER, Col
from kflab.engine.types import MAX_TRIES, Behaviour, Int64Array

if TYPE_CHECKING:
    from kflab.engine.step_state import Rows, StepState

BoolArray = NDArray[np.bool_]

_ENTRY_BITS = 16
_TRY_BITS = 15


def entry_turn(turns: int) -> int:
    """Read the place, from 1, that the client's connection was given out of `Col.TURNS`; 0 for none."""
    return turns & (1 << _ENTRY_BITS) - 1


def try_turn(turns: int, k: int) -> int:
    """Read the place, from 1, that try `k` was given out of `Col.TURNS`; 0 for none."""
    return turns >> _ENTRY_BITS + _TRY_BITS * k & (1 << _TRY_BITS) - 1


def packed_entry_turn(place: int) -> int:
    """Pack the place, from 0, of a client's connection for `Col.TURNS`."""
    return place + 1 if place + 1 < 1 << _ENTRY_BITS else 0


def packed_try_turn(place: int, k: int) -> int:
    """Pack the place, from 0, of try `k` for `Col.TURNS`."""
    return (place + 1) << _ENTRY_BITS + _TRY_BITS * k if place + 1 < 1 << _TRY_BITS else 0


def take_turns(
    steps: "StepState",
    rows: "Rows",
    choosers: Int64Array,
    versions: Int64Array,
    times: Int64Array,
    slots: Int64Array,
    noted: bool = True,
) -> Int64Array:
    """Replace drawn slots by those that virtual servers give.

    Args:
        steps: The engine's steps.
        rows: Rows in flight that meet their load balancer or their node's rules, shape (n,).
        choosers: Chooser of each, -1 for none.
        versions: Its version in force.
        times: When, ns.
        slots: What a draw would pick.
        noted: Whether the places are those of the client's connections, for `Col.TURNS`.

    Returns:
        Slots, shape (n,).
    """
    table, m = steps.choosers, steps.memory.flights.m
    which = table.scheduler_of(choosers)
    mine = np.flatnonzero((which >= 0) & (table.flat[table.offset[versions]] >= 0))
    if not len(mine):
        return slots
    part, asked = rows[mine], times[mine]
    servers, places, loads = steps.memory.schedulers.take(
        which[mine], asked, m[Col.STREAM, part], m[Col.NUMBER, part], table.flat[slots[mine]], versions[mine],
        Connected(steps), Listed(table.flat, table.offset, table.size),
    )  # fmt: skip
    slots = slots.copy()
    slots[mine] = table.slots_of(versions[mine], servers)
    if noted:
        m[Col.TURNS, part] = np.where(places + 1 < 1 << _ENTRY_BITS, places + 1, 0)
        m[Col.LOADS0, part] = loads
    return slots


def asked_by_flows(steps: "StepState", rows: "Rows", choosers: Int64Array) -> "Rows":
    """List which of `rows` (by their place in it) ask the rules at all: UDP senders that have an entry do not."""
    m, paths, memory = steps.memory.flights.m, steps.paths, steps.memory
    streams, listens = m[Col.STREAM, rows], memory.behaviour == Behaviour.LISTENS
    fixed = paths.flow_port[streams] > 0
    asking = ~fixed
    # The event loop brings senders with a fixed source port one at a time.
    for place in np.flatnonzero(fixed & (choosers >= 0)).tolist():
        if steps.choosers.scheduler[choosers[place]] >= 0:
            stream, node, t_ns = (int(m[col, rows[place]]) for col in (Col.STREAM, Col.NODE, Col.DUE))
            answering = listens & (not paths.one_way[stream])
            asking[place] = not memory.udp.has((stream, node), t_ns, answering, steps.timing)
    return np.flatnonzero(asking)


def entry_schedulers(steps: "StepState", rows: "Rows") -> Int64Array:
    """Return the virtual server of each row's connection through its node; -1 for none."""
    m = steps.memory.flights.m
    return steps.choosers.scheduler_of(steps.paths.entries.get(m[Col.STREAM, rows], m[Col.NODE, rows]))


def waits(steps: "StepState", rows: "Rows") -> BoolArray:
    """Say which rows the event loop takes through their node (see the module's words)."""
    which = entry_schedulers(steps, rows)
    return np.isin(which, steps.in_order)


def schedulers_in_order(steps: "StepState") -> Int64Array:
    """List the virtual servers whose turns depend on what happens within a slab."""
    table, paths = steps.choosers, steps.paths
    if not table.n_scheduled:
        return np.zeros(0, dtype=np.int64)
    found = {int(table.scheduler[chooser]) for chooser in paths.asking_in_order}
    scheduled = np.unique(table.scheduler[table.scheduler >= 0])
    found |= {index for index in scheduled.tolist() if steps.memory.schedulers.servers[index].counting}
    mates = {mate for index in found - {-1} for mate in steps.memory.schedulers.kept.mates(index)}
    return np.array(sorted(mates), dtype=np.int64)


def virtual_servers_of(steps: "StepState", choosers: Int64Array) -> Int64Array:
    """Return the virtual server that has the connections of each chooser, under affinity too; -1 for none."""
    return steps.memory.schedulers.having(steps.choosers.scheduler_of(choosers))


class Connected:
    """Whether a connection to a server through a virtual server is in flight, or kept open by its client or by NGINX.

    Args:
        steps: The engine's steps.
    """

    def __init__(self, steps: "StepState") -> None:
        self._steps = steps

    def __call__(self, scheduler: int, server: int) -> bool:
        steps = self._steps
        open_to = [one for one in steps.memory.connections.current.values() if one.server == server]
        entries = [steps.paths.entries.get_one(one.stream, one.place) for one in open_to]
        if scheduler in virtual_servers_of(steps, np.array(entries, dtype=np.int64)):
            return True
        idle = [c.key[1] for _, c in steps.memory.pools if c.server == server and c.key[0] == "chooser"]
        if idle and scheduler in virtual_servers_of(steps, np.array(idle, dtype=np.int64)):
            return True
        m, used = steps.memory.flights.m, steps.memory.flights.used
        through = (m[Col.TURNS, :used] != 0) | bool(steps.memory.schedulers.behind)
        live = np.flatnonzero((m[Col.DUE, :used] != NEVER) & through)
        if not len(live):
            return False
        l7 = steps.paths.is_l7[m[Col.STREAM, live]]
        reached = np.where(l7, m[Col.INGRESS, live], m[Col.SERVER0, live])
        having = steps.memory.schedulers.having(entry_schedulers(steps, live))
        if ((reached == server) & (having == scheduler)).any():
            return True
        behind = live[l7]
        for k in range(MAX_TRIES):
            tried = behind[m[Col.SERVER0 + k, behind] == server]
            choosers = steps.paths.upstreams.get(m[Col.STREAM, tried], m[Col.INGRESS, tried])
            if (virtual_servers_of(steps, choosers) == scheduler).any():
                return True
        return False
