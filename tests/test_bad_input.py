"""Whatever is given on the command line: one clear line on standard error, exit 2, nothing on standard output."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from kflab.cli import main

KFLAB = shutil.which("kflab", path=str(Path(sys.executable).parent)) or "kflab"

SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {selector: {a: b}, ports: [{port: 80}]}\n"

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)

BAD_TEXTS = {
    "tab": (b"kind: Service\nmetadata:\n\tname: x\n", 3, "a tab: YAML indents with spaces only"),
    "unclosed quote": (b'kind: Service\nmetadata:\n  name: "x\n', 3, "quote"),
    "unclosed bracket": (b"kind: Service\nspec: {ports: [\n", None, ""),
    "random bytes": (bytes(range(128, 256)) * 40, 1, "byte 0x80"),
    "an executable": (b"\x7fELF\x00\x01\x02\x00", 1, "not allowed in YAML"),
    "nothing": (b"", 1, "no object at all"),
    "comments only": (b"# nothing here\n---\n---\n", 1, "no object at all"),
    "an alias bomb": (BOMB.encode(), None, "alias"),
    "a tag that calls code": (
        b'kind: Service\nmetadata: {name: !!python/object/apply:os.system ["touch called"]}\n', 2, "ever constructed",
    ),
    "Latin-1": ('kind: Service\nmetadata: {name: "é"}\n'.encode("latin-1"), 2, "not UTF-8 text: byte 0xe9"),
    "deep": (b"a: " + b"[" * 20_000, 1, "levels deep"),
    "half a JSON": (b'{"apiVersion": "v1", "kind": "Service"', None, ""),
    "a word": (b"hello\n", 1, "an object (apiVersion, kind, metadata) was expected"),
    "a list": (b"- a\n- b\n", 1, "an object (apiVersion, kind, metadata) was expected"),
    "no name": (b"apiVersion: v1\nkind: Service\nspec: {}\n", 1, "name"),
    "no kind": (b"metadata: {name: x}\n", 1, "kind"),
    "duplicate key": (b"kind: Service\nkind: Pod\nmetadata: {name: x}\n", 2, 'key "kind" is already set'),
    "port too large": (
        b"apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: [{port: 70000}]}\n", 4, "1 and 65535",
    ),
    "wrong type": (b"apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: 80}\n", 4, "must be a list"),
    "bad name": (b"apiVersion: v1\nkind: Service\nmetadata: {name: A_b}\nspec: {ports: [{port: 80}]}\n", 3, "1123"),
}  # fmt: skip


def refused(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must be refused; the one line it said."""
    try:
        code: object = main(list(words))
    except SystemExit as ended:  # argparse
        code = ended.code
    out, err = capsys.readouterr()
    assert code == 2, f"exit {code}: {err}"
    assert out == ""
    assert err.endswith("\n")
    assert err.count("\n") == 1, err
    return err


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a test."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("case", BAD_TEXTS)
def test_bad_text_is_one_line_with_its_place(case: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, line, words = BAD_TEXTS[case]
    (folder / "bad.yaml").write_bytes(data)
    said = refused(["replay", "bad.yaml"], capsys)
    place = re.match(r"bad\.yaml:(\d+):(\d+): (.+)", said)
    assert place, said
    assert words in place[3]
    if line is not None:
        assert int(place[1]) == line, said
    assert not (folder / "called").exists()


@pytest.mark.parametrize("command", [["trace", "http://s", "-f"], ["rules", "--node", "n", "-f"], ["get", "svc", "-f"]])
def test_every_command_refuses_a_bad_file_alike(
    command: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bad.yaml").write_text("kind: Service\n\tname: x\n")
    assert refused([*command, "bad.yaml"], capsys).startswith("bad.yaml:2:1: a tab")


def test_200_megabytes_are_refused_without_reading_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (folder / "large.yaml").open("wb") as file:
        file.truncate(200 << 20)
    assert "too large: 200 MiB" in refused(["replay", "large.yaml"], capsys)


def test_a_folder_names_the_sub_folders_that_have_manifests(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "app" / "base").mkdir(parents=True)
    (folder / "app" / "base" / "s.yaml").write_text(SERVICE)
    said = refused(["replay", "app"], capsys)
    assert "app/base" in said
    assert "-R" in said
    assert main(["replay", "app", "-R", "--duration", "1s"]) == 0


def test_folders_that_contain_themselves_are_walked_once(folder: Path) -> None:
    (folder / "app" / "sub").mkdir(parents=True)
    (folder / "app" / "sub" / "s.yaml").write_text(SERVICE)
    (folder / "app" / "sub" / "loop").symlink_to(folder / "app", target_is_directory=True)
    assert main(["replay", "app", "-R", "--duration", "1s"]) == 0


def test_a_folder_without_manifests_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "docs").mkdir()
    (folder / "docs" / "README.md").write_text("hello")
    assert "has no *.json, *.yaml, *.yml files" in refused(["replay", "docs"], capsys)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "mine.yaml").write_text(SERVICE)
    (folder / "mine.yaml").chmod(0)
    assert "Permission denied" in refused(["replay", "mine.yaml"], capsys)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nosuch"], "no file, folder or scenario named 'nosuch'; `kflab scenarios` lists"),
        (
            ["replay", "rolling-updat"],
            "no file, folder or scenario named 'rolling-updat'; did you mean 'rolling-update'?",
        ),
        (["reply", "pod-crash"], "no command, file, folder or scenario named 'reply'; did you mean 'replay'?"),
        (["tuen", "rolling-update", "--seeds", "1"], "named 'tuen'; did you mean 'tune'?"),
        (["replay", "nosuch.yaml"], "'nosuch.yaml'"),
        (["replay", "no/such"], '"no/such" does not exist'),
        (["replay", "overview", "--rate", "abc"], "'abc'"),
        (["replay", "overview", "--rate", "-5"], "--rate -5"),
        (["replay", "overview", "--rate", "nan"], "--rate nan"),
        (["replay", "overview", "--nodes", "-1"], "--nodes -1"),
        (["replay", "overview", "--nodes", "1.5"], "'1.5'"),
        (["replay", "overview", "--seed", "-1"], "--seed -1"),
        (["replay", "overview", "--speed", "0"], "--speed 0"),
        (["--speed", "nan"], "--speed nan"),
        (["replay", "overview", "--duration", "soon"], "'soon' is not a duration"),
        (["replay", "overview", "--duration", "99999999999h"], "longer than simulated time can count"),
        (["-n", "Bad NS", "overview"], "'Bad NS' is not a namespace"),
        (["--url", "http://nowhere.example/", "overview"], "leads to nothing in this cluster"),
        (["--url", "http://x:port/", "overview"], "port"),
        (["rules"], "--node"),
        (["rules", "--node", "node-z"], "no node named 'node-z'; there are node-a, node-b"),
        (["trace", "http://api.example.com:99999/"], "not a URL"),
        (["trace", "http://[::1/"], "not a URL"),
        (["trace", "ftp://x/"], "not a URL"),
        (["trace", "https://api.example.com/", "-X", "GE T"], "not an HTTP method"),
        (["trace", "https://api.example.com/", "--from", "x"], "--from 'x'"),
        (["trace", "https://api.example.com/", "--from", "default/nobody"], "does not exist"),
        (["trace", "--scenario", "nosuch"], "'nosuch'"),
        (["get"], "resource"),
        (["get", "nosuch"], 'resource type "nosuch"'),
        (["get", "pods", "--bogus"], "--bogus"),
        (["get", "pods", "-o", "bogus"], '"bogus"'),
        (["get", "pods", "-f", "nosuch.yaml"], "'nosuch.yaml'"),
        (["describe"], "resource"),
        (["bench", "--only", "z"], "'z'"),
        (["--bogus"], "--bogus"),
    ],
)
def test_bad_usage_is_one_line(words: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said in refused(words, capsys)


def test_what_the_api_server_does_not_find_is_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["get", "pods", "nobody"]) == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", 'Error from server (NotFound): pods "nobody" not found\n')


def test_warnings_do_not_mix_with_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["get", "ep", "product-service"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0].split() == ["NAME", "ENDPOINTS", "AGE"]
    assert err == "Warning: v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\n"


@pytest.mark.parametrize("name", ["s.yaml", "s.json", "list.yaml"])
def test_yaml_json_and_lists_open_alike(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "s.yaml").write_text(SERVICE)
    tree = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
            "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}}  # fmt: skip
    (folder / "s.json").write_text(json.dumps(tree))
    (folder / "list.yaml").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [tree]}, indent=1))
    assert main(["get", "svc", "s", "-f", name]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[1] == "ClusterIP"


def test_unknown_kinds_are_left_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "x.yaml").write_text("apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\n---\n" + SERVICE)
    assert main(["replay", "x.yaml", "--duration", "1s"]) == 0
    out, err = capsys.readouterr()
    assert "s.default" in out or "1 Service has no caller" in out
    assert "Widget" not in out, "what is not modelled is info, and silent"
    assert err == ""


# --- streams: a process of its own ----------------------------------------------------------------------------


def shell(script: str, **more: str) -> "subprocess.CompletedProcess[bytes]":
    environ = {**os.environ, "K": KFLAB, **more}
    return subprocess.run(
        ["/bin/sh", "-c", script], capture_output=True, env=environ, stdin=subprocess.DEVNULL, timeout=120, check=False
    )


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ('"$K" replay pod-crash --duration 1s <&-', 1),
        ('"$K" replay pod-crash --duration 1s >&-', 1),
        ('"$K" replay nosuch 2>&-', 2),
        ('"$K" - <&-', 2),
        ('"$K" - </dev/null', 2),
        ('"$K" rules --node node-a >/dev/full', 2),
        ('"$K" replay overview --duration 1s >/dev/full', 2),
        ('"$K" scenarios >/dev/full', 2),
        ('"$K" rules --node node-a | head -1', 0),
        ('"$K" replay overview --duration 5s | head -1', 0),
    ],
)
def test_closed_full_and_missing_streams(script: str, code: int) -> None:
    done = shell(script)
    assert done.returncode == code, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr
    assert done.stderr.count(b"\n") <= 1
    if "/dev/full" in script:
        assert b"No space left on device" in done.stderr


def test_a_scenario_and_manifests_on_standard_input() -> None:
    saved = 'printf "kflab: scenario/v1\\nextends: overview\\nduration: 1s\\nexpect: []\\n" | "$K" replay -'
    done = shell(saved)
    assert done.returncode == 0, done.stderr.decode()
    assert b"kflab replay stdin" in done.stdout
    done = shell(f"printf '{SERVICE.encode('unicode_escape').decode()}' | \"$K\" replay - --duration 1s")
    assert done.returncode == 0, done.stderr.decode()


def test_a_locale_without_our_characters() -> None:
    done = shell('"$K" trace https://api.example.com/products', PYTHONIOENCODING="ascii", LC_ALL="C")
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.isascii()
    assert b"203.0.113.45:54321" in done.stdout


def test_ctrl_c_during_a_replay_is_130_and_quiet() -> None:
    process = subprocess.Popen(
        [KFLAB, "replay", "overview", "--duration", "100000s", "--speed", "1"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == b""


INTERRUPTED = """
import signal
from kflab.cli import main

main(["replay", "overview"])  # imports are over
signal.signal(signal.SIGALRM, lambda number, frame: signal.raise_signal(signal.SIGINT))
for k in range(60):
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.005 + 0.001 * k)
        assert main(["replay", "overview", "--duration", "1000s"]) == 130, k
    except KeyboardInterrupt:  # a busy machine: it came before main had begun
        pass
"""


def test_ctrl_c_at_any_moment_of_a_replay_is_never_lost() -> None:
    """numpy drops an exception that a signal handler raises while it looks for an operand's special methods."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b""


def test_trace_of_a_scenario_name_says_how_to_name_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "overview"]) == 2
    error = capsys.readouterr().err
    assert error == "kflab: 'overview' is a scenario, not a URL; expected kflab trace --scenario overview [URL]\n"
