"""Calls behind the front door: a pod that serves a request sends requests of its own before it answers.

A call is a row like any other: its caller is the pod that serves the outer request, so the rules of that pod's node
pick the endpoint. It has one try, waits in the callee's queue, is served, may call further, and is answered.

Modelling choices, none of them Kubernetes':

* The pod does its own work first (queue and service time), then makes its calls one after another in the order given;
  when the last answer is back, its own answer sets out.
* Its worker is free meanwhile, as in an asynchronous server: waiting holds no worker.
* A call that is not answered with 200 ends the outer request with status 500 at once, unless it may be ignored.
* A client that goes away ends the chain: no further call is made, the one under way is worked off, its answer dropped.

A call has the number of its outer request in the streams from outside, with the try that was being served in the low
bits (`call_number`): unique in its stream, because a stream of calls is one place in the tree of calls.
"""

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from kflab.engine.memory import N_COLS, NEVER, Col, Memory, Stage
from kflab.engine.types import Answer, Call, Int64Array

if TYPE_CHECKING:
    from kflab.engine.eventwise import Eventwise

TRY_BITS = 4
"""Low bits of a call's number: which try of the request from outside makes it. A request has three tries, and one more
for every kept connection that broke under it; from the sixteenth on they share one number."""

WAITING = NEVER - 1
"""Due time of a request that waits for the answer to a call."""

FAILED = 500
"""Status of a request whose call failed: what frameworks answer for an error that nobody handled (RFC 9110, 15.6.1)."""

Number = TypeVar("Number", int, Int64Array)

_LAST_TRY = (1 << TRY_BITS) - 1


def call_number(number: int, tries: int, lost: int) -> int:
    """Number the calls of a request from outside: its number, and which of its tries is being served."""
    return number << TRY_BITS | min(tries - 1 + lost, _LAST_TRY)


def outer_number(number: Number) -> Number:
    """Return the number of the request from outside that a call was made for; of one or of an array of them."""
    return number >> TRY_BITS


def calling_rows(memory: Memory) -> Int64Array:
    """List the columns of requests in flight whose servers are making calls for them."""
    m, used = memory.flights.m, memory.flights.used
    stages = m[Col.STAGE, :used]
    rows: Int64Array = np.flatnonzero(((stages == Stage.WAIT) | (stages == Stage.CALL)) & (m[Col.DUE, :used] != NEVER))
    return rows


def waiting_rows(memory: Memory) -> Int64Array:
    """List the columns of requests in flight that wait for an answer to a call."""
    m, used = memory.flights.m, memory.flights.used
    rows: Int64Array = np.flatnonzero((m[Col.STAGE, :used] == Stage.WAIT) & (m[Col.DUE, :used] != NEVER))
    return rows


class Chains:
    """The calls of one slab of `eventwise`.

    Args:
        slab: Whose requests make them.
    """

    def __init__(self, slab: "Eventwise") -> None:
        self._slab, self._steps = slab, slab.steps
        self._waiting: dict[tuple[int, int], int] = {}
        """(stream, number) of a request that waits → its place in the slab's list."""
        self.sent_streams: list[int] = []
        self.sent_times: list[int] = []
        for place, flight in enumerate(slab.flights):
            if flight[Col.STAGE] == Stage.WAIT:
                self._waiting[flight[Col.STREAM], flight[Col.NUMBER]] = place

    def of(self, flight: list[int]) -> tuple[Call, ...]:
        """What the server of a request's last try calls for it."""
        memory, paths = self._steps.memory, self._steps.paths
        server = flight[Col.SERVER0 + flight[Col.TRIES] - 1]
        return paths.calls.get((flight[Col.STREAM], memory.servers[server].group), ())

    def step(self, flight: list[int], place: int) -> None:
        """The pod is ready for its next call, or to answer when it has made them all."""
        calls, made, t_ns = self.of(flight), flight[Col.CALL], flight[Col.DUE]
        if made >= len(calls):
            self._answer(flight, t_ns, 200)
            return
        flight[Col.CALL] = made + 1
        flight[Col.STAGE], flight[Col.DUE] = Stage.WAIT, WAITING
        self._waiting[flight[Col.STREAM], flight[Col.NUMBER]] = place
        self._send(flight, calls[made].stream, t_ns)

    def _send(self, outer: list[int], stream: int, t_ns: int) -> None:
        """Put a call in flight: the rules of its caller's node pick at once, as for any pod."""
        slab, steps, paths = self._slab, self._steps, self._steps.paths
        number = self._number(outer)
        caller = outer[Col.SERVER0 + outer[Col.TRIES] - 1]
        place = int(steps.memory.place[caller])
        words = steps.draws.rows(int(paths.address[stream]), np.array([number], dtype=np.int64))
        flight = [0] * N_COLS
        flight[Col.INGRESS] = -1
        flight[Col.SERVER0 : Col.SERVER0 + 3] = flight[Col.WORKER0 : Col.WORKER0 + 3] = [-1, -1, -1]
        flight[Col.STREAM], flight[Col.NUMBER], flight[Col.START], flight[Col.NODE] = stream, number, t_ns, place
        flight[Col.ARRIVAL_WORD : Col.SERVICE_WORD + 1] = words[0].view(np.int64).tolist()
        flight[Col.TRIES], flight[Col.TRY_START0], flight[Col.CALLER] = 1, t_ns, caller
        self.sent_streams.append(stream)
        self.sent_times.append(t_ns)
        server, answer = -1, Answer.TABLE_FULL
        if steps.room is None or not steps.room.shut_one(place, stream, number, 0):
            server, answer = slab.pick(flight, paths.entry_of.get((stream, place), -1), t_ns)
        if server >= 0:
            hop = steps.timing.same_node_ns if steps.memory.place[server] == place else steps.timing.cross_node_ns
            flight[Col.SERVER0] = server
            flight[Col.BACK] = flight[Col.HOP] = hop
            flight[Col.STAGE], flight[Col.DUE] = Stage.SERVER, t_ns + hop
        else:
            silent = answer in (Answer.TIMEOUT, Answer.TABLE_FULL)
            end = t_ns + (int(paths.connect_patience[stream]) if silent else 0)
            flight[Col.ANSWER0], flight[Col.TRY_END0] = answer, end
            flight[Col.STAGE], flight[Col.DUE], flight[Col.STATUS] = Stage.ANSWER, end, -answer
        slab.enter(flight)

    def _answer(self, outer: list[int], t_ns: int, status: int) -> None:
        outer[Col.CALLING] = t_ns - outer[Col.SERVED]
        self._slab.answered(outer, t_ns, status)

    def _number(self, outer: list[int]) -> int:
        """The number of the calls that a request makes now."""
        if self._steps.paths.parent[outer[Col.STREAM]] >= 0:
            return outer[Col.NUMBER]
        return call_number(outer[Col.NUMBER], outer[Col.TRIES], outer[Col.LOST])

    def heard(self, flight: list[int]) -> None:
        """A call is over: whoever waits for it goes on, or gives up."""
        paths, slab = self._steps.paths, self._slab
        stream = int(paths.parent[flight[Col.STREAM]])
        number = flight[Col.NUMBER] if paths.parent[stream] >= 0 else outer_number(flight[Col.NUMBER])
        place = self._waiting.get((stream, number), -1)
        outer = slab.flights[place]
        if place < 0 or outer[Col.STAGE] != Stage.WAIT or self._number(outer) != flight[Col.NUMBER]:
            return  # the caller is gone, or was asked anew elsewhere
        # What the manifests no longer name when the answer comes is as good as any other call.
        fatal = next((call.fatal for call in self.of(outer) if call.stream == flight[Col.STREAM]), True)
        if flight[Col.STATUS] != 200 and fatal:
            self._answer(outer, flight[Col.DUE], FAILED)
        else:
            outer[Col.STAGE], outer[Col.DUE] = Stage.CALL, flight[Col.DUE]
        slab.push(outer, place)
