"""What the README says is so: its commands run, its keys are bound, its pictures, scenarios and options exist."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.binding import Binding

from kflab import usage
from kflab.lab.commands import Run
from kflab.lab.running import Lab
from kflab.scenario.library import bundled
from kflab.scenario.opening import open_what
from kflab.tui import lab_words
from kflab.tui.app import KflabApp
from kflab.tui.help_screen import KEY_WORDS
from kflab.tui.keys import LAB_BINDINGS
from kflab.tui.ledger import LedgerView
from kflab.tui.manifest_pane import ManifestPane
from kflab.tui.screenshots import SHOTS
from kflab.tui.trace_pane import TracePane

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text("utf-8")
FENCES: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
SLOW = ("kflab bench", "kflab screenshots")
"""Commands with tests of their own."""


def fenced(language: str) -> list[str]:
    """The contents of the fences of a language."""
    return [content for found, content in FENCES if found == language]


def lines(language: str) -> list[str]:
    return [line for content in fenced(language) for line in content.splitlines() if line.strip()]


def bare(line: str) -> str:
    """A shell line without its remark."""
    return re.sub(r"\s+#.*", "", line)


COMMANDS = [line for line in map(bare, lines("sh")) if re.search(r"(^|\| )kflab\b", line) and not line.startswith(SLOW)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the README's reader has it: some manifests, the scenario it prints, kflab and a kubectl."""
    path = tmp_path_factory.mktemp("reader")
    overview = ROOT / "scenarios" / "overview"
    manifests = path / "my-manifests"
    manifests.mkdir()
    for name in ("4-service.yaml", "5-deployment.yaml"):
        shutil.copy(overview / name, manifests)
    (path / "my-scenario.yaml").write_text(fenced("yaml")[0], "utf-8")
    programs = path / "bin"
    programs.mkdir()
    dump = "\n---\n".join((overview / name).read_text("utf-8") for name in ("4-service.yaml", "5-deployment.yaml"))
    (path / "dump.yaml").write_text(dump, "utf-8")
    for name, does in (
        ("kflab", f'exec "{sys.executable}" -m kflab "$@"'),
        ("kubectl", f'exec cat "{path}/dump.yaml"'),
    ):
        (programs / name).write_text(f"#!/bin/sh\n{does}\n", "utf-8")
        (programs / name).chmod(0o755)
    return path


def test_there_are_commands_to_run() -> None:
    assert len(COMMANDS) > 15


@pytest.mark.parametrize("command", COMMANDS)
def test_command_runs(command: str, folder: Path) -> None:
    tool = "nft" if "nftables" in command else "iptables-restore"
    if command.startswith("kflab verify") and (os.geteuid() != 0 or not shutil.which(tool)):
        pytest.skip(f"verify needs root and {tool}")
    paths = f"{folder / 'bin'}:{os.environ.get('PATH', '/usr/bin:/bin')}"
    ran = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": paths, "TERM": "xterm", "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr[-2000:] or ran.stdout[-2000:]
    assert ran.stdout.strip()


def test_scripts_of_the_checkout_exist() -> None:
    scripts = {line.split()[0] for line in map(bare, lines("sh")) if line.startswith("./")}
    assert {"./.ci/kflab", "./.ci/test"} <= scripts
    for script in scripts:
        assert os.access(ROOT / script, os.X_OK), script


def test_words_of_the_command_line_work() -> None:
    lab = Lab(open_what(["overview"]).spec)
    lab.advance(1_000_000_000)
    typed = [line for line in lines("text") if line.startswith(":")]
    assert len(typed) > 10
    for line in typed:
        asked = lab_words.parse(line)
        assert asked is not None, line
        if isinstance(asked, Run):
            result = lab.do(asked)
            assert result.ok, f"{line}: {result.text}"


def test_the_two_traces_are_those_that_are_printed() -> None:
    table = next(content for content in fenced("text") if "overview-defaults" in content)
    for column, scenario in enumerate(("overview", "overview-defaults")):
        printed = subprocess.run(
            [sys.executable, "-m", "kflab", "trace", "--scenario", scenario],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        step = r"([\d.]+:\d+)\s+→ ([\d.]+:\d+)\s+([\d/]+)"
        steps = [match.groups() for match in re.finditer(rf"^  Step \d+: .*?\s{step}$", printed, re.MULTILINE)]
        assert len(steps) >= 4
        shown = [re.findall(step, line) for line in table.splitlines()]
        assert [row[column] for row in shown if len(row) > column] == steps


def key_table() -> list[str]:
    section = TEXT.split("### Keys")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return [key for row in rows for key in re.findall(r"`([^`]+)`", row)]


def bound_keys() -> Iterator[str]:
    """Every key of the screen, as people call it."""
    sources = (LAB_BINDINGS, KflabApp.BINDINGS, LedgerView.BINDINGS, ManifestPane.BINDINGS, TracePane.BINDINGS)
    for binding in (each for source in sources for each in source):
        assert isinstance(binding, Binding)
        for key in binding.key.split(","):
            yield KEY_WORDS.get(key, key)
    yield KflabApp.COMMAND_PALETTE_BINDING


def test_keys_are_bound() -> None:
    bound = set(bound_keys())
    named = key_table()
    assert len(named) > 30
    assert not [key for key in named if key not in bound]


def test_no_key_of_the_screen_is_left_out() -> None:
    named = set(key_table())
    for binding in LAB_BINDINGS:
        assert any(KEY_WORDS.get(key, key) in named for key in binding.key.split(",")), binding.tooltip


def test_pictures_exist_and_all_are_shown() -> None:
    shown = set(re.findall(r"\((screenshots/[^)]+)\)", TEXT))
    assert shown == {f"screenshots/{shot.name}.svg" for shot in SHOTS}
    for path in shown:
        assert (ROOT / path).is_file(), path


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert (ROOT / target).exists(), target


def test_scenarios_named_are_the_bundled_ones() -> None:
    table = TEXT.split("| scenario | shows |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE)) == set(bundled())


def test_options_and_commands_are_those_of_help() -> None:
    parser = usage.make_parser()
    groups = next(action for action in parser._actions if action.dest == "command")
    assert isinstance(groups.choices, dict)
    helps = parser.format_help() + "".join(sub.format_help() for sub in groups.choices.values())
    # In the fences of the lab's own command line the options are kubectl's.
    ours = re.sub(r"^```text\n.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL)
    for option in set(re.findall(r"(?<![\w-])--[a-z]+", ours)):
        assert option in helps, option
    named = {line.split()[1] for line in COMMANDS if line.startswith("kflab ")} & set(groups.choices)
    assert named >= {"replay", "trace", "rules", "get", "describe", "scenarios"}


def test_the_place_for_measured_figures_is_there() -> None:
    assert TEXT.index("<!-- bench -->") < TEXT.index("<!-- /bench -->")


def test_scenario_fields_named_are_the_readers() -> None:
    """Every field of the table is accepted: the reader's own error lists what it knows."""
    from kflab.scenario import format as scenario_format
    from kflab.scenario.expectations import METRICS

    table = TEXT.split("| field | holds |")[1].split("\n\n")[0]
    fields = {name for row in re.findall(r"^\| (.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert fields == {*scenario_format._FIELDS, "extends"}
    expect_row = next(row for row in table.splitlines() if row.startswith("| `expect`"))
    assert set(METRICS) <= set(re.findall(r"`(\w+)`", expect_row))
