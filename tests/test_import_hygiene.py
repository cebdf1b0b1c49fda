"""Rooms that need no screen import none, and `kflab --help` pays for nothing heavy: asked of a clean interpreter."""

import pkgutil
import subprocess
import sys
from importlib.util import find_spec

import pytest

import kflab

HEADLESS = ("manifest", "cluster", "control", "dataplane", "engine", "kubectl", "lab", "scenario")
"""Rooms that must work without Textual."""

ARRAYLESS = ("manifest", "cluster", "kubectl")
"""Rooms that must work without numpy as well."""

HEAVY = {"textual", "numpy", "networkx"}


def modules(room: str) -> list[str]:
    package = find_spec(f"kflab.{room}")
    assert package is not None
    assert package.submodule_search_locations is not None
    found = pkgutil.walk_packages(package.submodule_search_locations, f"kflab.{room}.")
    return [f"kflab.{room}", *(module.name for module in found)]


def loaded_after(code: str) -> set[str]:
    """Top-level modules in sys.modules after running code in an interpreter of its own."""
    script = f"import sys\n{code}\nprint('\\n'.join(sorted(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return {line.partition(".")[0] for line in result.stdout.splitlines()}


@pytest.mark.parametrize("room", HEADLESS)
def test_headless_room_imports_no_screen(room: str) -> None:
    loaded = loaded_after("\n".join(f"import {name}" for name in modules(room)))
    assert not loaded & {"textual", "rich"}
    assert "networkx" not in loaded, "networkx is for topology questions, imported when one is asked"
    if room in ARRAYLESS:
        assert "numpy" not in loaded


@pytest.mark.parametrize("room", [module.name for module in pkgutil.iter_modules(kflab.__path__) if module.ispkg])
def test_a_package_by_itself_imports_nothing_heavy(room: str) -> None:
    assert not loaded_after(f"import kflab.{room}") & (HEAVY | {"yaml"})


@pytest.mark.skipif(find_spec("kflab.cli") is None, reason="kflab.cli does not exist yet")
@pytest.mark.parametrize("words", [["--help"], ["--version"], ["replay", "--help"], ["trace", "--help"]])
def test_help_and_version_cost_nothing(words: list[str]) -> None:
    code = (
        "import contextlib, io\n"
        "from kflab.cli import main\n"
        f"sys.argv = ['kflab', *{words!r}]\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    main()\n"
    )
    assert not loaded_after(code) & (HEAVY | {"yaml", "rich", "dataclasses", "inspect"})


@pytest.mark.skipif(find_spec("kflab.cli") is None, reason="kflab.cli does not exist yet")
def test_plain_replay_needs_no_screen() -> None:
    code = (
        "import contextlib, io\n"
        "from kflab.cli import main\n"
        "sys.argv = ['kflab', 'replay', 'pod-crash', '--plain', '--duration', '1s']\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    main()\n"
    )
    assert not loaded_after(code) & {"textual", "rich", "networkx"}
