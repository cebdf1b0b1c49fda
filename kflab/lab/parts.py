"""What a request's latency was spent on."""

from typing import TYPE_CHECKING

from kflab.engine.types import Answer
from kflab.lab.records import Record

if TYPE_CHECKING:
    pass


def parts_of(one: Record) -> tuple[tuple[str, int], ...]:
    """Split a request's latency: what lost tries cost, what was waited for and worked, and the rest, the way itself."""
    lost = {Answer.REFUSED: 0, Answer.TIMEOUT: 0, Answer.RESET: 0}
    for answer, start, end in zip(one.answers, one.try_starts_ns, one.try_ends_ns, strict=True):
        if answer in (Answer.REJECTED, Answer.REFUSED):
            lost[Answer.REFUSED] += end - start
        elif answer in (Answer.TABLE_FULL, Answer.NO_PORT, Answer.UNREACHABLE, Answer.GAVE_UP, Answer.SYN_LOST):
            lost[Answer.TIMEOUT] += end - start
        elif answer in lost:
            lost[answer] += end - start
    since = one.start_ns - one.began_ns
    parts = [("earlier attempts", since)] if since else []
    parts += [("refused", lost[Answer.REFUSED]), ("timeout", lost[Answer.TIMEOUT])]
    if lost[Answer.RESET]:
        parts.append(("reset", lost[Answer.RESET]))
    extra = dict(one.extra)
    lookup, waited = extra.get("lookup_ns", 0), extra.get("waited_ns", 0)
    if one.status == -Answer.NO_NAME or (one.status == -Answer.CLIENT_GONE and not one.tries):
        lookup = one.latency_ns
    parts += [("lookup", lookup)] if lookup else []
    parts += [("SYN", waited)] if waited and one.status not in (-Answer.SYN_LOST, -Answer.CLIENT_GONE) else []
    parts += [("queue", one.queue_ns), ("service", one.service_ns)]
    gone = sum(
        end - start for answer, start, end in zip(one.answers, one.try_starts_ns, one.try_ends_ns, strict=True)
        if answer == Answer.CLIENT_GONE
    )  # fmt: skip
    parts += [("in hand", gone)] if gone else []
    calling = extra.get("calling_ns", 0)
    if calling:
        parts.append(("calls", calling))
    return (*parts, ("network", one.latency_ns - sum(ns for _, ns in parts)))
