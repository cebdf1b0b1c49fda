"""A client's process ends: its requests in hand end with it, and nobody takes their answers.

The kernel of its node closes its sockets (net/socket.c, sock_close; net/ipv4/tcp.c, __tcp_close: FIN, or RST where
something was not read); where the node or the network namespace is gone, nothing is said at all. Either way no client
is there to hear how its requests end, so they end here, with an outcome of their own: no error of the path. What
servers have taken in is worked off all the same, as with `deadlines`.

What the process had in its memory goes with it: its open connections, its retry budget, attempts that it was to make.

Simplified: a pod that serves such a request makes no further call for it at once, also where no FIN reaches it.
"""

from typing import TYPE_CHECKING

import numpy as np

from kflab.engine import ipvs_entries
from kflab.engine.deadlines import give_up
from kflab.engine.memory import NEVER, Col, Stage
from kflab.engine.types import Answer

if TYPE_CHECKING:
    from kflab.engine.steps import Steps


def end_client(steps: "Steps", stream: int, t_ns: int) -> None:
    """End every request in hand of a client that calls from a pod.

    Args:
        steps: The engine's steps; every step before `t_ns` has been taken, and all requests are in flight.
        stream: The client's.
        t_ns: When its process ended.
    """
    flights, m = steps.memory.flights, steps.memory.flights.m
    live = flights.due_before(NEVER)
    rows = live[(m[Col.STREAM, live] == stream) & (m[Col.STATUS, live] != -Answer.CLIENT_GONE)]
    ahead = rows[m[Col.START, rows] > t_ns]
    asking = ahead[m[Col.LOOKUP, ahead] > 0]  # the answer was on its way
    m[Col.START, asking] -= m[Col.LOOKUP, asking]
    m[Col.LOOKUP, asking], m[Col.STAGE, asking] = 0, Stage.LOOKUP
    ahead = rows[m[Col.START, rows] > t_ns]  # attempts that it waited to make
    m[Col.SINCE, ahead] -= m[Col.START, ahead] - t_ns
    m[Col.START, ahead] = t_ns
    give_up(steps, rows, np.full(len(rows), t_ns), Answer.CLIENT_GONE)
    steps.memory.budgets.pop(stream, None)
    known = steps.memory.connections
    for connection in [one for slot, one in known.current.items() if slot[0] == stream]:
        known.give_up(connection)
        if not connection.in_hand:
            answer = Answer.RESET if connection.broken else Answer.OK
            ended = min(t_ns, max(connection.until_ns, connection.last_ns))
            ipvs_entries.close_kept(steps, connection, answer, ended)
