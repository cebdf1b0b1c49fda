"""`ssh HOST kflab replay NAME` and `ssh -t HOST kflab replay NAME`, against a real sshd on loopback.

The server is the test's own: its configuration, host key, user key and port live in a temporary folder.
"""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from terminal import Terminal, environment, needs_screen

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", ""))
TOOLS = [name for name in ("ssh", "ssh-keygen") if shutil.which(name) is None] + ([] if SSHD else ["sshd"])

pytestmark = [
    needs_screen,
    pytest.mark.skipif(bool(TOOLS), reason=f"not installed: {', '.join(TOOLS)}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a real sshd needs root to log somebody in"),
]


@dataclass(frozen=True)
class Server:
    """A running sshd and the words that reach it."""

    ssh: list[str]
    log: Path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """sshd on a free port of 127.0.0.1, key login only, ended with the module."""
    folder = tmp_path_factory.mktemp("sshd")
    folder.chmod(0o700)
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(folder / name)]
        subprocess.run(command, check=True, capture_output=True)
    home = folder / "home"
    home.mkdir(mode=0o700)
    (folder / "authorized_keys").write_text((folder / "user.pub").read_text())
    port = _free_port()
    bin_folder = Path(sys.executable).parent
    config = folder / "sshd_config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host'}\nPidFile {folder / 'pid'}\n"
        f"AuthorizedKeysFile {folder / 'authorized_keys'}\nPubkeyAuthentication yes\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\nUsePAM no\nPermitRootLogin prohibit-password\nStrictModes no\n"
        f"SetEnv PATH={bin_folder}:/usr/bin:/bin XDG_STATE_HOME={home} XDG_CONFIG_HOME={home} LANG=C.UTF-8\n"
        "PrintMotd no\nPrintLastLog no\n"
    )
    # Without its privilege-separation folder sshd does not start; packages make it when their service starts.
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    log = folder / "log"
    assert SSHD is not None
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stderr=log.open("wb"), stdin=subprocess.DEVNULL)
    try:
        _wait_until_listening(port, process, log)
        user = pwd.getpwuid(os.geteuid()).pw_name
        options = {
            "UserKnownHostsFile": str(folder / "known_hosts"),
            "StrictHostKeyChecking": "accept-new",
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
            "LogLevel": "ERROR",
            "ConnectTimeout": "20",
        }
        words = [f"-o{name}={value}" for name, value in options.items()]
        base = ["ssh", "-F", "none", *words, "-i", str(folder / "user"), "-p", str(port), f"{user}@127.0.0.1"]
        probe = subprocess.run([*base, "true"], capture_output=True, text=True, timeout=60, check=False)
        if probe.returncode != 0:
            pytest.skip(f"sshd lets nobody in on this machine: {probe.stderr.strip()} {log.read_text()[-300:]}")
        yield Server(base, log)
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait_until_listening(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(200):
        if process.poll() is not None:
            pytest.skip(f"sshd does not start on this machine: {log.read_text()[-300:]}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.skip("sshd does not listen on this machine")


def with_t(server: Server, command: str) -> list[str]:
    return [server.ssh[0], "-t", *server.ssh[1:], command]


def test_without_a_terminal_it_prints_lines_and_a_report(server: Server) -> None:
    command = [*server.ssh, "kflab replay pod-crash"]
    result = subprocess.run(command, capture_output=True, timeout=300, stdin=subprocess.DEVNULL, check=False)
    text = result.stdout.decode()
    assert result.returncode == 0, text[-2000:] + result.stderr.decode()[-2000:]
    assert "\x1b" not in text
    assert "product" in text
    assert "Traceback" not in text + result.stderr.decode()


def test_lines_are_the_same_as_without_ssh(server: Server) -> None:
    over = subprocess.run(
        [*server.ssh, "kflab replay pod-crash --duration 3s"], capture_output=True, timeout=300, check=False
    )
    here = subprocess.run(
        [str(Path(sys.executable).parent / "kflab"), "replay", "pod-crash", "--plain", "--duration", "3s"],
        capture_output=True,
        timeout=300,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert over.stdout == here.stdout
    assert over.stdout


def test_with_a_terminal_it_opens_the_screen_and_leaves_it(server: Server, tmp_path: Path) -> None:
    terminal = Terminal(with_t(server, "kflab replay pod-crash"), environment(tmp_path))
    try:
        terminal.wait_for(lambda text: "pod-crash" in text and "product-service" in text, "the first frame")
        terminal.press("q")
        assert terminal.finish() == 0
    finally:
        terminal.close()
    raw = bytes(terminal.raw)
    assert 0 <= raw.find(b"\x1b[?1049h") < raw.rfind(b"\x1b[?1049l")
    assert b"Traceback" not in raw


def test_a_dropped_line_ends_the_lab(server: Server, tmp_path: Path) -> None:
    mark = f"kflab replay pod-crash --seed {os.getpid()}"
    terminal = Terminal(with_t(server, mark), environment(tmp_path))
    try:
        terminal.wait_for(lambda text: "product-service" in text, "the first frame")
    finally:
        terminal.close()
    for _ in range(200):
        if not _running(mark):
            return
        time.sleep(0.1)
    pytest.fail("the lab still runs after its terminal went away")


def _running(command: str) -> bool:
    """Whether a process of exactly these words runs, from /proc."""
    wanted = command.split()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it ended while we looked
            continue
        if words[-1 - len(wanted[1:]) : -1] == wanted[1:] and "kflab" in " ".join(words[:2]):
            return True
    return False
