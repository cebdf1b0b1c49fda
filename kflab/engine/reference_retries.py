"""The reference's impatient clients: they give up, and may send a request again, as far as their budget goes."""

from fractions import Fraction

import numpy as np

from kflab.engine.reference_requests import Request, Try
from kflab.engine.reference_way import WayIn
from kflab.engine.types import Answer, Choice


class Retries(WayIn):
    """A client gives up, and may send its request again."""

    def _giveup(self, request: Request, t_ns: int, answer: int = Answer.GAVE_UP) -> None:
        """The client closes its connection, or its process ends."""
        request.epoch += 1
        asking = request.lookup is not None and request.start_ns == request.first_ns
        if not request.is_l7 and not request.tries and not asking:
            request.tries.append(Try(-1, Answer.NONE, request.start_ns, 0))
        this = request.last_try
        if this is not None and (this.answer == Answer.NONE or this.end_ns > t_ns):
            this.answer, this.end_ns = (Answer.NONE if request.is_l7 else answer), t_ns
            request.served_ns, request.queue_ns, request.service_ns = None, 0, 0
        request.calls_made = None
        if request.out_ns is None or request.out_ns > t_ns:
            request.out_ns = t_ns
            self._push(t_ns, request, "rid")
        self._finish(request, -answer, t_ns)

    def _again(self, request: Request, t_ns: int) -> None:
        """Send the request again, if its client does."""
        retry, stream, made = request.stream.retry, request.stream, request.number >> 40
        if retry is None or made == retry.attempts or not self._wanted(request, t_ns):
            return
        number = (made + 1 << 40) + request.number % (1 << 40)
        words = self.draws.rows(stream.index, np.array([number], dtype=np.int64))[0].tolist()
        longest = min(retry.backoff_ns * 2**made, max(retry.backoff_max_ns, retry.backoff_ns))
        start = t_ns + (words[Choice.ARRIVAL] >> 32) * longest // 2**32
        if stream.timeout_ns and start >= request.first_ns + stream.timeout_ns:
            return
        if retry.budget_percent >= 0:
            since, again = t_ns - retry.budget_interval_ns, self.again.setdefault(stream.index, [])
            requests = sum(since < one <= t_ns for one in self.sent[stream.index])
            retries = sum(since < one <= t_ns for one in again)
            reserve = Fraction(retry.budget_min_rate * retry.budget_interval_ns, 10**9)
            if retries + 1 > Fraction(retry.budget_percent, 100) * requests + reserve:
                return
            again.append(t_ns)
        self._enter(Request(stream, number, start, words, first_ns=request.first_ns))

    def _wanted(self, request: Request, t_ns: int) -> bool:
        """Whether the client tries again after such an end."""
        retry, status, stream = request.stream.retry, request.status, request.stream
        assert retry is not None
        assert status is not None
        if status > 0:
            return status in retry.statuses
        match -status:
            case Answer.REFUSED | Answer.REJECTED | Answer.UNREACHABLE:
                return retry.connect_failure
            case Answer.RESET:
                return retry.reset
            case Answer.CLIENT_GONE:
                return False
            case Answer.GAVE_UP:
                whole = bool(stream.timeout_ns) and t_ns >= request.first_ns + stream.timeout_ns
                return retry.timeout and not whole
        connected = request.kept or t_ns > request.start_ns + self._dialling(stream)
        return retry.timeout or (retry.connect_failure and not connected)
