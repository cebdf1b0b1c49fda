"""Columns of what `chains` knows of each request of a slab: rows of an int64 matrix, one column per request."""

from typing import Final


class Of:
    """Rows of the table of requests that a slab's chains are about."""

    ROW: Final = 0
    """Column in the matrix of requests in flight; -1 for a call that starts in this slab."""
    STREAM: Final = 1
    NUMBER: Final = 2
    OUTER: Final = 3
    """Place in the table of the request that it is called for; -1 none that waits for it."""
    TURN: Final = 4
    """Which of that request's calls it is."""
    MADE: Final = 5
    """How many calls had been made for it before this slab."""
    CALLS: Final = 6
    """Which list of calls its server goes through; -1 none."""
    START: Final = 7
    NODE: Final = 8
    CALLER: Final = 9
    SERVER: Final = 10
    HOP: Final = 11
    ARRIVAL: Final = 12
    """When it joins its worker's queue; NEVER if not in this slab."""
    QUEUE_ID: Final = 13
    WORKER: Final = 14
    SERVICE: Final = 15
    DONE: Final = 16
    """When its server has done its own work (or had, before this slab)."""
    ANSWERED: Final = 17
    """When its server's answer sets out."""
    STATUS: Final = 18
    FINISH: Final = 19
    """When its caller knows."""
    ANSWER: Final = 20
    """Answer of a call that fails; 0 else."""
    DUE: Final = 21
    """When a call arrives that arrives after this slab."""
    CHOOSER: Final = 22
    SLOT: Final = 23
    """What its chooser picked; -1 where it was not asked."""
    MOVED: Final = 24
    """1: where or when it arrives has moved since its queue was served."""
    WORD0: Final = 25


N_COLS = Of.WORD0 + 4
