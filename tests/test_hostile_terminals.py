"""Hostile names and awkward terminals: the lab shows them as text, starts, quits, and leaves the terminal as it was."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from terminal import Terminal, environment, needs_screen

KFLAB = shutil.which("kflab", path=str(Path(sys.executable).parent)) or "kflab"

pytestmark = needs_screen

HOSTILE = """\
apiVersion: v1
kind: Service
metadata:
  name: shop
  annotations: {note: "[bold red]x[/] \\u001b[31m\\u202e[@click=app.quit]quit[/]", "a/b": "\\u001b]0;pwned\\u0007"}
spec: {selector: {app: shop}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: shop
  annotations: {nginx.ingress.kubernetes.io/use-regex: "true", "evil": "\\u001b[2J"}
spec:
  ingressClassName: nginx
  rules:
  - host: shop.example
    http:
      paths:
      - path: "/[a-z]+(/|$)(.*)"
        pathType: ImplementationSpecific
        backend: {service: {name: shop, port: {number: 80}}}
      - {path: "/[/]", pathType: Prefix, backend: {service: {name: shop, port: {number: 80}}}}
      - {path: "/[@click=app.quit]x", pathType: Prefix, backend: {service: {name: shop, port: {number: 80}}}}
      - {path: "/\\u202eevil", pathType: Prefix, backend: {service: {name: shop, port: {number: 80}}}}
      - {path: "/\\u001b[31mred", pathType: Prefix, backend: {service: {name: shop, port: {number: 80}}}}
---
apiVersion: v1
kind: Pod
metadata: {name: shop-0, labels: {app: shop}}
spec: {containers: [{name: c, image: "[/] \\u001b[31m", ports: [{containerPort: 8080}]}]}
"""


@pytest.fixture
def started() -> Iterator[list[Terminal]]:
    """Terminals to close whatever happens."""
    terminals: list[Terminal] = []
    yield terminals
    for terminal in terminals:
        terminal.close()


def left_well(terminal: Terminal) -> None:
    """It ended by itself, without a traceback, and switched everything off again."""
    raw = bytes(terminal.raw)
    assert b"Traceback" not in raw
    entered, left = raw.find(b"\x1b[?1049h"), raw.rfind(b"\x1b[?1049l")
    assert 0 <= entered < left
    assert raw.rfind(b"\x1b[?25h") > raw.rfind(b"\x1b[?25l"), "the cursor is back"
    assert raw.rfind(b"\x1b[?1000l") > raw.rfind(b"\x1b[?1000h"), "the mouse is let go"


@pytest.mark.parametrize(("columns", "rows"), [(120, 40), (80, 24), (40, 10)])
def test_hostile_names_are_text(tmp_path: Path, started: list[Terminal], columns: int, rows: int) -> None:
    file = tmp_path / "hostile.yaml"
    file.write_text(HOSTILE)
    terminal = Terminal([KFLAB, str(file)], environment(tmp_path), columns=columns, rows=rows)
    started.append(terminal)
    terminal.wait_for(lambda text: "hostile" in text or "shop" in text or "small" in text.lower(), "the first frame")
    for keys in (
        "\t",
        "\x1b[B",
        "\r",
        "v",
        "\t",
        "\r",
        "\x1b",
        ":get ing -A -o yaml\r",
        "\x1b",
        ":assumptions\r",
        "\x1b",
    ):
        terminal.press(keys)
        terminal.read_for(0.3)
    raw = bytes(terminal.raw)
    assert b"\x1b]0;pwned" not in raw, "no escape sequence of a manifest reaches the terminal"
    assert "\u202e".encode() not in raw, "nor a right-to-left override"
    for _ in range(4):
        terminal.press("\x1b")
        terminal.read_for(0.2)
    terminal.press("q")
    terminal.read_for(1.0)
    if "drop the edits" in terminal.text():  # the keys above may have reached the editor
        terminal.press("d")
    assert terminal.finish() == 0
    left_well(terminal)


def test_hostile_names_in_plain_lines(tmp_path: Path, started: list[Terminal]) -> None:
    file = tmp_path / "hostile.yaml"
    file.write_text(HOSTILE)
    script = f'"{KFLAB}" replay "{file}" --plain --duration 2s; "{KFLAB}" trace http://shop.example/x -f "{file}"'
    terminal = Terminal(["/bin/sh", "-c", script], environment(tmp_path))
    started.append(terminal)
    assert terminal.finish() == 0
    raw = bytes(terminal.raw)
    assert b"Traceback" not in raw
    assert b"\x1b" not in raw
    assert "\u202e".encode() not in raw


def test_an_exception_in_the_screen_restores_the_terminal(tmp_path: Path, started: list[Terminal]) -> None:
    script = (
        "import sys\n"
        "from kflab.tui.app import KflabApp\n"
        "from kflab.cli import main\n"
        "mount = KflabApp.on_mount if hasattr(KflabApp, 'on_mount') else None\n"
        "def on_mount(self):\n    self.set_timer(1.5, lambda: 1 / 0)\n    return mount(self) if mount else None\n"
        "KflabApp.on_mount = on_mount\n"
        "sys.exit(main([]))\n"
    )
    terminal = Terminal([sys.executable, "-c", script], environment(tmp_path))
    started.append(terminal)
    terminal.wait_for(lambda text: "overview" in text, "the first frame")
    assert terminal.finish() not in (0, None)
    raw = bytes(terminal.raw)
    assert 0 <= raw.find(b"\x1b[?1049h") < raw.rfind(b"\x1b[?1049l")
    assert raw.rfind(b"\x1b[?25h") > raw.rfind(b"\x1b[?25l")
    assert raw.rfind(b"\x1b[?1000l") > raw.rfind(b"\x1b[?1000h")
    assert b"ZeroDivisionError" in raw[raw.rfind(b"\x1b[?1049l") :], "a bug is told, after the screen is left"
