"""A load balancer ends the flows it has to one target: it resets them, or passes their packets on no more.

The target knows nothing of it and works on. A client that still waits for an answer hears of a reset one way from the
load balancer later, an HTTP front answers 502 at once; in silence everybody waits out the read timeout. A connection
whose SYN nobody answered yet is no flow: its end stays as it is.
"""

import numpy as np

from kflab.engine.crashes import calling, end_held
from kflab.engine.memory import NEVER, Col, Stage
from kflab.engine.steps import Steps
from kflab.engine.types import Answer, Behaviour


def end_flows(steps: Steps, lb: int, place: int, server: int, silent: bool, t_ns: int) -> None:
    """Rewrite the ending of requests that were accepted over a load balancer's flows to one target.

    Args:
        steps: The engine's steps; every step before `t_ns` has been taken.
        lb: Chooser of the load balancer.
        place: The target, a node; -1 where it is a pod.
        server: The target, a pod's server; -1 where it is a node.
        silent: Packets go nowhere from now on; else the flows are reset.
        t_ns: Now.
    """
    flights, paths = steps.memory.flights, steps.paths
    m = flights.m
    if not flights.used:
        return
    live = flights.due_before(NEVER)
    streams = m[Col.STREAM, live]
    last = np.maximum(m[Col.TRIES, live] - 1, 0)
    l7, way = paths.is_l7[streams], paths.to_lb[streams]
    here = (m[Col.SERVER0 + last, live] == server) if server >= 0 else (m[Col.NODE, live] == place)
    here &= paths.lb[streams] == lb
    under_way = (m[Col.SERVED, live] > t_ns) | calling(steps, live)
    waiting = (m[Col.ANSWER0 + last, live] == Answer.TIMEOUT) & (m[Col.WORKER0 + last, live] >= 0)
    waiting &= m[Col.TRY_END0 + last, live] > t_ns + way
    mine = here & ~l7 & (under_way | (waiting & (not silent)))
    rows, way = live[mine], way[mine]
    if silent:
        began = m[Col.TRY_START0 + last[mine], rows]
        ends = np.maximum(t_ns, began + paths.read_patience[streams[mine]])
        steps.failed(rows, Answer.TIMEOUT, ends, False)
    else:
        steps.failed(rows, Answer.RESET, t_ns + way, False)
    if server >= 0:
        return
    held = live[here & l7 & (m[Col.OUT, live] > t_ns)]
    end_held(steps, held, Behaviour.SILENT if silent else Behaviour.REFUSES, t_ns)
    if not silent:
        reset = held[m[Col.STAGE, held] == Stage.ANSWER]
        m[Col.DUE, reset] = t_ns + paths.to_lb[m[Col.STREAM, reset]]
