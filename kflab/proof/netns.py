"""Network namespaces of one run: made without names, so that nothing can be left behind.

A namespace made with unshare(2) lives as long as a descriptor or a socket refers to it. kflab keeps the descriptor and
names nothing in /run/netns: when the run ends, by whatever way, the kernel takes namespaces, interfaces, rules and
connections with it (network_namespaces(7)). A socket stays in the namespace it was made in, so one process and one
thread can speak from all of them: it steps in, opens sockets and steps out again.
"""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from kflab.errors import KflabError

_CLONE_NEWNET: Final = 0x40000000
"""linux/sched.h."""

_OWN: Final = "/proc/thread-self/ns/net"

_SYSCTL: Final = Path("/proc/sys/net")
"""Shows the settings of the namespace that the opening thread is in (net/sysctl_net.c)."""

_TOOL_S: Final = 60
"""How long one ip, iptables-restore or nft may take."""


def tool(name: str) -> str:
    """Where a program is, also where PATH leaves out the directories for root; "" where it is not."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin") or ""


def missing(tools: Sequence[str]) -> str:
    """Why namespaces cannot be built here, in one line; "" where they can."""
    if not Path(_OWN).exists():
        return "needs Linux: network namespaces are its own"
    if os.geteuid() != 0:
        return "needs root: it builds network namespaces"
    lacking = [name for name in tools if not tool(name)]
    if lacking:
        return f"needs {' and '.join(lacking)}, which {'is' if len(lacking) == 1 else 'are'} not installed"
    try:
        with Netns("trial"):
            pass
    except KflabError as error:
        return str(error)
    return ""


def _call(name: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        number = ctypes.get_errno()
        raise KflabError(f"network namespaces are not allowed here: {name}: {os.strerror(number)}")


class Steps:
    """Lets the calling thread step from namespace to namespace, and home at the end."""

    def __enter__(self) -> Self:
        self._home = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        self._at = -1
        return self

    def to(self, there: "Netns") -> None:
        """Be in a namespace from now on."""
        if self._at != there.fd:
            _call("setns", there.fd, _CLONE_NEWNET)
            self._at = there.fd

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            _call("setns", self._home, _CLONE_NEWNET)
        finally:
            os.close(self._home)


class Netns:
    """One network namespace, with loopback down and nothing else in it.

    Args:
        name: What it stands for, in messages.

    Raises:
        KflabError: Where the kernel does not allow it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.fd = -1
        with Steps():
            _call("unshare", _CLONE_NEWNET)
            self.fd = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it; the kernel removes it once its last socket is closed."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    @property
    def path(self) -> str:
        """How a tool that was given the descriptor names it."""
        return f"/proc/self/fd/{self.fd}"

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Let the calling thread, and programs it starts, be in this namespace."""
        with Steps() as steps:
            steps.to(self)
            yield

    def run(self, command: Sequence[str], text: str = "", others: Sequence["Netns"] = ()) -> str:
        """Run a tool in here.

        Args:
            command: The tool and its arguments.
            text: Its standard input.
            others: Namespaces that the text refers to by `path`.

        Returns:
            "" where it went well, else what it said.
        """
        with self.inside():
            done = subprocess.run(
                (tool(command[0]) or command[0], *command[1:]),
                input=text,
                capture_output=True,
                text=True,
                check=False,
                timeout=_TOOL_S,
                pass_fds=[other.fd for other in others],
            )
        if not done.returncode:
            return ""
        said = " ".join((done.stderr or done.stdout).split())
        return said or f"exit code {done.returncode}"

    def ip(self, lines: Sequence[str], others: Sequence["Netns"] = (), family: str = "-4") -> None:
        """Run `ip` commands in here, of family -4 or -6.

        Raises:
            KflabError: With what ip said.
        """
        said = self.run(("ip", family, "-batch", "-"), "".join(f"{line}\n" for line in lines), others)
        if said:
            raise KflabError(f"cannot build {self.name}: ip: {said}")

    def sysctl(self, settings: Mapping[str, int]) -> None:
        """Set net.* settings, e.g. {"ipv4/ip_forward": 1}; one that the kernel lacks is left out."""
        with self.inside():
            for name, value in settings.items():
                at = _SYSCTL / name
                if at.exists():
                    at.write_text(str(value), encoding="ascii")
