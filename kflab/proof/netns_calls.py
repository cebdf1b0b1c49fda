"""Real connections: servers that say who they are and whom they see, callers that note what became of each call.

One thread and one epoll do all of it: a socket keeps speaking in the namespace it was made in.
"""

import errno
import heapq
import resource
import selectors
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import field
from types import TracebackType
from typing import Final, Self

from kflab.errors import KflabError
from kflab.proof.netns import Netns, Steps
from kflab.records import dataclass

DELIVERED: Final = "delivered"
REFUSED: Final = "refused"
DROPPED: Final = "dropped"

IN_FLIGHT: Final = 512
"""Calls under way at a time unless told otherwise: few enough that no queue of the kernel runs over."""

_BACKLOG: Final = 1024

_FIRST_PORT: Final = 10_000
_LAST_PORT: Final = 29_999
"""Source ports, in turn, so that no conntrack entry is met again: below NodePorts (30000) and ephemeral ports."""

_DESCRIPTORS: Final = 4096
"""Open files wished for: namespaces, servers, and two sockets for each call under way."""

_IPV6_FREEBIND: Final = 78
"""linux/in6.h; the socket module does not have it."""

_KINDS: Final = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}

_PROBLEMS: Final = {
    errno.ECONNREFUSED: REFUSED,
    errno.EHOSTUNREACH: "host unreachable",
    errno.ENETUNREACH: "network unreachable",
    errno.ECONNRESET: "reset",
    errno.EINVAL: "no route",
}


@dataclass(frozen=True, slots=True)
class Call:
    """One connection (TCP) or question (UDP) to be made."""

    source: Netns
    address: str
    """Source address; "" leaves the choice to the kernel."""
    device: str
    """Interface to leave by; "" leaves it to the routes."""
    protocol: str
    dst: str
    port: int
    patience_s: float
    """Silence for so long is a drop."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a call."""

    verdict: str
    """delivered, refused, dropped, or the kernel's error in words."""
    name: str = ""
    """Who answered."""
    peer: str = ""
    """Source address that it saw."""


@dataclass(slots=True)
class _Lane:
    """Calls made one after the other."""

    calls: Sequence[Call]
    answers: list[Answer] = field(default_factory=list)


@dataclass(slots=True)
class _Open:
    lane: _Lane
    sock: socket.socket
    deadline: float


@dataclass(slots=True)
class _Server:
    name: bytes
    sock: socket.socket
    stream: bool

    def answer(self) -> None:
        """Answer everything that waits."""
        try:
            while True:
                if self.stream:
                    caller, peer = self.sock.accept()
                    with caller:
                        caller.send(self._words(peer[0]))
                else:
                    _, peer = self.sock.recvfrom(64)
                    self.sock.sendto(self._words(peer[0]), peer)
        except BlockingIOError:
            return
        except OSError:
            # The caller was gone before it was answered; it notes that itself. What else waits comes next round.
            return

    def _words(self, peer: str) -> bytes:
        return b"%s %s" % (self.name, peer.encode("ascii"))


class Wires:
    """Servers and callers of one run."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._next_port: dict[int, int] = {}
        self.calls = 0
        """Calls made."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < _DESCRIPTORS:
            wished = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (wished, hard))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for key in list(self._selector.get_map().values()):
            key.data.sock.close()
        self._selector.close()

    def listen(self, there: Netns, name: str, address: str, protocol: str, port: int) -> None:
        """Open a server.

        Raises:
            KflabError: Where the port is taken, e.g. by another pod with hostNetwork.
        """
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with there.inside():
            sock = socket.socket(family, _KINDS[protocol])
        try:
            sock.setblocking(False)
            if protocol == "TCP":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address, port))
            if protocol == "TCP":
                sock.listen(_BACKLOG)
        except OSError as error:
            sock.close()
            raise KflabError(f"cannot listen as {name} on {address} {protocol} {port}: {error.strerror}") from error
        server = _Server(name.encode("utf-8"), sock, protocol == "TCP")
        self._selector.register(sock, selectors.EVENT_READ, server)

    def run(self, lanes: Sequence[Sequence[Call]], in_flight: int = IN_FLIGHT) -> list[list[Answer]]:
        """Make calls: those of a lane in turn, many lanes side by side.

        Args:
            lanes: The calls.
            in_flight: How many may be under way at a time.

        Returns:
            What became of each call of each lane.
        """
        made = [_Lane(calls) for calls in lanes]
        waiting = iter([lane for lane in made if lane.calls])
        deadlines: list[tuple[float, int]] = []
        opened: dict[int, _Open] = {}
        try:
            with Steps() as steps:
                self._fill(steps, waiting, opened, deadlines, in_flight)
                while opened:
                    self._turn(steps, opened, deadlines)
                    self._fill(steps, waiting, opened, deadlines, in_flight)
        finally:
            for call in opened.values():
                self._selector.unregister(call.sock)
                call.sock.close()
        return [lane.answers for lane in made]

    def _fill(
        self,
        steps: Steps,
        waiting: Iterator[_Lane],
        opened: dict[int, _Open],
        deadlines: list[tuple[float, int]],
        in_flight: int,
    ) -> None:
        while len(opened) < in_flight:
            lane = next(waiting, None)
            if lane is None:
                return
            self._go_on(steps, lane, opened, deadlines)

    def _turn(self, steps: Steps, opened: dict[int, _Open], deadlines: list[tuple[float, int]]) -> None:
        """Wait for the next thing, and take in all that happened."""
        pause = max(0.0, deadlines[0][0] - time.monotonic()) if deadlines else 0.0
        for key, _ in self._selector.select(pause):
            if isinstance(key.data, _Server):
                key.data.answer()
                continue
            answer = _taken(key.data.sock)
            if answer is not None:
                self._finish(steps, key.data, answer, opened, deadlines)
        now = time.monotonic()
        while deadlines and deadlines[0][0] <= now:
            _, number = heapq.heappop(deadlines)
            late = opened.get(number)
            if late is not None and late.deadline <= now:
                self._finish(steps, late, Answer(DROPPED), opened, deadlines)

    def _finish(
        self, steps: Steps, call: _Open, answer: Answer, opened: dict[int, _Open], deadlines: list[tuple[float, int]]
    ) -> None:
        del opened[call.sock.fileno()]
        self._selector.unregister(call.sock)
        call.sock.close()
        call.lane.answers.append(answer)
        self._go_on(steps, call.lane, opened, deadlines)

    def _go_on(self, steps: Steps, lane: _Lane, opened: dict[int, _Open], deadlines: list[tuple[float, int]]) -> None:
        """Make the lane's next call; those that fail at once are noted and the next one is made."""
        while len(lane.answers) < len(lane.calls):
            call = lane.calls[len(lane.answers)]
            steps.to(call.source)
            self.calls += 1
            sock = socket.socket(socket.AF_INET6 if ":" in call.dst else socket.AF_INET, _KINDS[call.protocol])
            try:
                sock.setblocking(False)
                self._bind(sock, call)
                problem = sock.connect_ex((call.dst, call.port))
                if call.protocol == "UDP" and not problem:
                    _ask(sock)
            except OSError as error:
                problem = error.errno or errno.EIO
            except BaseException:
                sock.close()
                raise
            if problem not in (0, errno.EINPROGRESS):
                sock.close()
                lane.answers.append(Answer(_PROBLEMS.get(problem, errno.errorcode.get(problem, str(problem)))))
                continue
            opening = _Open(lane, sock, time.monotonic() + call.patience_s)
            opened[sock.fileno()] = opening
            self._selector.register(sock, selectors.EVENT_READ, opening)
            heapq.heappush(deadlines, (opening.deadline, sock.fileno()))
            return

    def _bind(self, sock: socket.socket, call: Call) -> None:
        """Take the next source port of the namespace."""
        if call.protocol == "TCP":  # past connections may still wait in TIME_WAIT
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if ":" in call.address:  # an address of a range that is routed here, but on no interface
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        if call.device:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, call.device.encode("ascii"))
        for _ in range(64):
            port = self._next_port.get(call.source.fd, _FIRST_PORT)
            self._next_port[call.source.fd] = port + 1 if port < _LAST_PORT else _FIRST_PORT
            try:
                sock.bind((call.address, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return


def _ask(sock: socket.socket) -> None:
    """Send a question; one that the node's own rules drop or reject is EPERM here, and may be followed by an error."""
    try:
        sock.send(b"who?")
    except PermissionError:
        return


def _taken(sock: socket.socket) -> Answer | None:
    """What a socket that became readable has to say; None: nothing yet."""
    try:
        said = sock.recv(512)
    except BlockingIOError:
        return None
    except OSError as error:
        number = error.errno or errno.EIO
        return Answer(_PROBLEMS.get(number, errno.errorcode.get(number, str(number))))
    name, _, peer = said.decode("utf-8").rpartition(" ")
    return Answer(DELIVERED, name, peer) if name else Answer("closed without an answer")
