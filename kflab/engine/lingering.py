"""How long IPVS keeps the entry of a connection that is over: its table of connections, not nf_conntrack's.

A connection that both ends closed is in TIME_WAIT, one that was reset in CLOSE, one whose caller gave up, or ended,
after it was accepted in CLOSE_WAIT; a SYN without answer stays in SYN_RECV.

Simplified: a connection counts as closed when its caller knows the end, its FIN's way to the node is not counted; SYNs
are not sent again; SCTP has TCP's timeouts.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from kflab.engine.ipvs_counts import CLOSE_NS, CLOSE_WAIT_NS, SYN_RECV_NS, TIME_WAIT_NS
from kflab.engine.memory import Col
from kflab.engine.scheduled import virtual_servers_of
from kflab.engine.types import MAX_TRIES, Answer, Int64Array

if TYPE_CHECKING:
    from kflab.engine.steps import Steps

Ended = tuple[Int64Array, Int64Array, Int64Array]
"""(virtual server, server, when IPVS forgets it), of connections that are over, shape (n,) each."""


def _forgotten_ns(answers: Int64Array, accepted: Int64Array, starts: Int64Array, ends: Int64Array) -> Int64Array:
    """When the entries of connections time out that ended with these answers."""
    until = np.where(answers == Answer.OK, ends + TIME_WAIT_NS, starts + SYN_RECV_NS)
    until = np.where((answers == Answer.REFUSED) | (answers == Answer.RESET), ends + CLOSE_NS, until)
    given_up = np.isin(answers, (Answer.TIMEOUT, Answer.GAVE_UP, Answer.CLIENT_GONE)) & (accepted != 0)
    return np.where(given_up, ends + CLOSE_WAIT_NS, until)


def ended(steps: "Steps", rows: Int64Array) -> Iterator[Ended]:
    """Read the connections through virtual servers out of finished requests.

    Args:
        steps: For their choosers.
        rows: Columns of the matrix of requests in flight; `Col.DUE` is their finish.
    """
    followed = ~steps.paths.is_l7[rows[Col.STREAM]] & (rows[Col.KEPT] & 1 == 1)
    through = (rows[Col.TURNS] != 0) | (bool(steps.memory.schedulers.behind) & ~followed)
    rows = rows[:, through]
    if not rows.shape[1]:
        return
    streams, l7 = rows[Col.STREAM], steps.paths.is_l7[rows[Col.STREAM]]
    told = np.where(rows[Col.STATUS] > 0, Answer.OK, -rows[Col.STATUS])
    answers = np.where(l7, told, rows[Col.ANSWER0])
    accepted = np.where(l7, rows[Col.OUT] != 0, rows[Col.WORKER0] >= 0)
    until = _forgotten_ns(answers, accepted, rows[Col.START], rows[Col.DUE])
    servers = np.where(l7, rows[Col.INGRESS], rows[Col.SERVER0])
    which = virtual_servers_of(steps, steps.paths.entries.get(streams, rows[Col.NODE]))
    some = (which >= 0) & (servers >= 0)
    yield which[some], servers[some], until[some]
    behind = rows[:, l7]
    which = virtual_servers_of(steps, steps.paths.upstreams.get(behind[Col.STREAM], behind[Col.INGRESS]))
    for k in range(MAX_TRIES):
        servers, answers = behind[Col.SERVER0 + k], behind[Col.ANSWER0 + k]
        accepted = behind[Col.WORKER0 + k] >= 0
        until = _forgotten_ns(answers, accepted, behind[Col.TRY_START0 + k], behind[Col.TRY_END0 + k])
        some = (which >= 0) & (servers >= 0) & (behind[Col.KEPT] >> k & 1 == 0)
        yield which[some], servers[some], until[some]


def remember_ended(steps: "Steps", rows: Int64Array) -> None:
    """Let virtual servers know until when their destinations still have closed connections (`rows` as in `ended`)."""
    if not steps.choosers.n_scheduled:
        return
    for which, servers, until in ended(steps, rows):
        pairs, inverse = np.unique(np.stack((which, servers)), axis=1, return_inverse=True)
        last = np.zeros(pairs.shape[1], dtype=np.int64)
        np.maximum.at(last, inverse.reshape(-1), until)
        for index, server, end in zip(*pairs.tolist(), last.tolist(), strict=True):
            known = steps.memory.schedulers.servers[index].until_ns
            known[server] = max(known.get(server, 0), end)
