"""The command line: thin. Each command imports what it needs when it runs, so that `--help` costs nothing."""

import argparse
import errno
import gc
import io
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TextIO

from kflab import exits, interrupts
from kflab.errors import KflabError, did_you_mean
from kflab.patience import said_if_long
from kflab.usage import COMMANDS, make_parser

if TYPE_CHECKING:
    from kflab.scenario.format import Scenario

_OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What a write to standard output can fail with: a full disk, a quota, a dropped connection."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run kflab. Returns the exit code; never a traceback for bad input."""
    _ready_streams()
    interrupts.install()
    words = list(sys.argv[1:] if argv is None else argv)
    return _guarded(lambda: _run(words))


def _run(words: list[str]) -> int:
    if words and words[0] in ("get", "describe"):
        return _kubectl_words(words)
    if not words or (words[0] not in (*COMMANDS, "open", "-h", "--help", "--version")):
        _refuse_mistyped(words[0] if words else "")
        words = ["open", *words]
    args = make_parser().parse_args(words)
    return _RUNS[args.command](args)


def _refuse_mistyped(word: str) -> None:
    """Raise KflabError, naming the command, where the first word is nothing to open but nearly a command."""
    if not word.isalpha() or os.path.exists(word):
        return
    from kflab.scenario.library import bundled

    hint = did_you_mean(word, (*COMMANDS, *bundled()))
    if word not in bundled() and any(hint.endswith(f"{command!r}?") for command in COMMANDS):
        raise KflabError(f"no command, file, folder or scenario named {word!r}{hint}")


def _ready_streams() -> None:
    """Closed streams become /dev/null; characters that the locale's encoding lacks are replaced, not a crash."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # UTF-8 lacks only half characters, of file names that are not UTF-8: shown escaped.
        plain = sys.stdout.encoding.lower().replace("-", "") == "utf8"
        sys.stdout.reconfigure(errors="backslashreplace" if plain else "replace")


def _guarded(work: Callable[[], int]) -> int:
    try:
        code = work()
        sys.stdout.flush()  # a full disk often shows only now
        return code
    except KflabError as error:
        print(f"kflab: {error}" if error.place is None else str(error), file=sys.stderr)
        return exits.USAGE
    except BrokenPipeError:
        # The reader went away (`kflab rules | head`): say nothing.
        _drop_output()
        return exits.OK
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if error.errno not in _OUTPUT_ERRORS:
            raise
        _drop_output()
        print(f"kflab: cannot write the output: {error.strerror}", file=sys.stderr)
        return exits.USAGE


def _drop_output() -> None:
    """Keep the interpreter from writing at its end what could not be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# --- what to run ----------------------------------------------------------------------------------------------


def _scenario(what: Sequence[str], args: argparse.Namespace) -> "Scenario":
    from kflab.scenario.opening import open_what

    return open_what(
        what,
        recursive=args.recursive,
        namespace=args.namespace or "",
        nodes=args.nodes,
        seed=args.seed,
        rate_rps=getattr(args, "rate", None),
        url=getattr(args, "url", "") if args.command in ("open", "replay", "tune") else "",
        cold=getattr(args, "cold", False),
        load_balancer=args.load_balancer,
        calls=getattr(args, "calls", ""),
        profile=args.profile,
        traffic_mode=getattr(args, "traffic", ""),
    )


def _interactive() -> bool:
    on_terminal = sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()  # None: closed by the caller
    return on_terminal and os.environ.get("TERM", "dumb") not in ("dumb", "")


def _speed(speed: float | None) -> float | None:
    if speed is not None and not (math.isfinite(speed) and 0.01 <= speed <= 100):
        raise KflabError(f"--speed {speed:g} must be from 0.01 to 100 simulated seconds per second")
    return speed


def _start_quickly() -> None:
    """Let nothing hold up the first frame: imports make garbage nobody has to look for, and one thread does for BLAS.

    `LabThread` turns collection on again two seconds after it started.
    """
    gc.disable()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _open(args: argparse.Namespace) -> int:
    if _interactive():
        _start_quickly()
    speed = _speed(args.speed)
    what = args.what or ["overview"]
    if not _interactive():
        from kflab.scenario.plain import play

        return play(_scenario(what, args), sys.stdout)
    with said_if_long(f"reading {' '.join(what)}"):
        scenario = _scenario(what, args)
    return _screen(scenario, speed or 1.0, args.theme, args.ascii)


def _screen(scenario: "Scenario", speed: float, theme: str | None, ascii_only: bool) -> int:
    from kflab.lab.thread import LabThread
    from kflab.tui.run import run

    with said_if_long(f"settling the cluster of {scenario.spec.name}"):
        lab = LabThread(scenario.spec, speed=speed, held=True)
    try:
        code = run(lab, theme=theme or "", glyphs="ascii" if ascii_only else "", painted=lab.begin)
    finally:
        lab.close()
    return exits.OK if code is None else code


def _tune(args: argparse.Namespace) -> int:
    import json
    import shutil

    from kflab.scenario.tune import read_target, tune
    from kflab.scenario.tune_report import as_json, report
    from kflab.scenario.tune_runs import Runner
    from kflab.scenario.tune_settings import SETTINGS

    for name, low, high in (("seeds", 1, 1000), ("jobs", 0, 1024)):
        if not low <= getattr(args, name) <= high:
            raise KflabError(f"--{name} {getattr(args, name)} must be from {low} to {high}")
    target = read_target(args.target)
    over = [name.strip() for name in args.over.split(",") if name.strip()] or list(SETTINGS)
    shown = sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "")
    width = shutil.get_terminal_size().columns

    def tell(line: str, measured: bool = False) -> None:
        if shown:
            print(f"\r\x1b[K{f'tuning: {line}'[: width - 1]}", end="", file=sys.stderr, flush=True)
        elif measured:
            print(f"tuning: {line}", file=sys.stderr, flush=True)

    try:
        scenario = _lasting(_scenario([args.what], args), args.duration)
        tuned = tune(scenario, target, over, args.workload, args.seeds, Runner(args.jobs), tell)
    finally:
        if shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    if args.output == "json":
        print(json.dumps(as_json(tuned), indent=2, ensure_ascii=False))
    elif args.output == "patch":
        print(tuned.patch, end="")
    else:
        for line in report(tuned):
            print(line.rstrip())
    return exits.OK if tuned.proved else exits.FAILED


def _replay(args: argparse.Namespace) -> int:
    if _interactive() and not args.plain and args.output == "text":
        _start_quickly()
    speed = _speed(args.speed)
    scenario = _lasting(_scenario([args.what], args), args.duration)
    if args.compare:
        return _compare(scenario, args)
    if args.plain or args.output == "json" or not _interactive():
        from kflab.scenario.plain import play

        return play(scenario, sys.stdout, speed=speed, as_json=args.output == "json", ascii_only=args.ascii)
    return _screen(scenario, speed or 1.0, None, args.ascii)


def _lasting(scenario: "Scenario", duration: str | None) -> "Scenario":
    """A scenario of another length; None: its own."""
    if duration is None:
        return scenario
    from dataclasses import replace

    from kflab.scenario.acting import duration_ns

    try:
        length = duration_ns(duration, None)
    except KflabError as error:
        raise KflabError(f"--duration: {error}") from None
    if not length:
        raise KflabError(f"--duration {duration} must be longer than nothing")
    return replace(scenario, duration_ns=length, spec=replace(scenario.spec, duration_ns=length))


def _compare(scenario: "Scenario", args: argparse.Namespace) -> int:
    from kflab.scenario.again_plain import compare

    if args.speed is not None:
        raise KflabError("--speed paces the lines of one play; --compare plays both as fast as it can")
    return compare(scenario, args.compare, sys.stdout, as_json=args.output == "json", ascii_only=args.ascii)


def _sources(args: argparse.Namespace) -> list[str]:
    return list(args.filename) or [args.scenario or "overview"]


def _trace(args: argparse.Namespace) -> int:
    if args.rules:
        return _trace_rules(args)
    only = next((name for name in ("node", "in_interface", "out_interface", "ipsets") if getattr(args, name)), "")
    if only:
        raise KflabError(f"--{only.replace('_', '-')} belongs to --rules FILE")
    from kflab.lab.running import Lab
    from kflab.scenario.library import bundled
    from kflab.scenario.tracing import trace

    if args.source == "client" and args.url in bundled():  # elsewhere a scenario is named without an option
        raise KflabError(f"{args.url!r} is a scenario, not a URL; expected kflab trace --scenario {args.url} [URL]")
    scenario = _scenario(_sources(args), args)
    return trace(Lab(scenario.spec), args.url, args.source, args.method, args.output, sys.stdout)


def _trace_rules(args: argparse.Namespace) -> int:
    from kflab.lab.running import Lab
    from kflab.scenario.tracing_rules import RulesAsked, trace_rules

    def lab() -> Lab:
        return Lab(_scenario(_sources(args), args).spec)

    if not args.node:
        raise KflabError("--rules needs --node: the node's name in the manifests, or its own addresses (10.0.0.5,…)")
    _one_stdin([*args.filename, args.rules, args.ipsets])
    asked = RulesAsked(args.rules, args.node, args.in_interface, args.out_interface, args.ipsets)
    streams = (sys.stdin, sys.stdout)
    return trace_rules(lab, asked, args.url, args.source, args.method, args.output, streams)


def _one_stdin(files: Sequence[str]) -> None:
    if files.count("-") > 1:
        raise KflabError("standard input can be read once: give a file for the other -")


def _drift(args: argparse.Namespace) -> int:
    from kflab.proof.drift import drift

    _one_stdin([*args.filename, args.rules])
    return drift(_scenario(_sources(args), args), args.rules, args.node, sys.stdin, sys.stdout)


def _rules(args: argparse.Namespace) -> int:
    from kflab.lab.running import Lab

    lab = Lab(_scenario(_sources(args), args).spec, traffic=False)
    text = lab.rules_text(args.node)
    mode = args.mode or lab.book.config.mode
    if mode != "iptables":
        from kflab.cluster.ipam import SERVICE_CIDR
        from kflab.dataplane.modes import cidrs_in_use, rule_set_for

        known = lab.node_rules.at(args.node, lab.t_ns)
        own = known.rules if known else lab.book.rule_set(args.node, 0)
        cidrs = cidrs_in_use((SERVICE_CIDR,), own.services)
        text = rule_set_for(mode, own.facts, own.config, own.services, own.family, service_cidrs=cidrs).save_text()
    print(text, end="")
    return exits.OK


def _kubectl_words(words: list[str]) -> int:
    """`kflab get …`: kubectl's own command line, plus -f and --scenario for what to look at.

    What the API server answers with an error ran and failed (1); what kubectl itself refuses is bad usage (2).
    """
    from kflab.lab.running import Lab
    from kflab.scenario.opening import open_what

    files: list[str] = []
    rest: list[str] = []
    recursive = False
    it = iter(words)
    for word in it:
        if word in ("-f", "--filename", "--scenario"):
            files.append(next(it, ""))
        elif word in ("-R", "--recursive"):
            recursive = True
        else:
            rest.append(word)
    lab = Lab(open_what(files or ["overview"], recursive=recursive).spec)
    result = lab.run_words(rest)
    sys.stderr.write(result.err)
    sys.stdout.write(result.text.removeprefix(result.err))
    if result.ok:
        return exits.OK
    return exits.FAILED if result.err.startswith("Error from server") else exits.USAGE


def _kubectl(args: argparse.Namespace) -> int:
    return _kubectl_words([args.command, *args.words])


def _scenarios(args: argparse.Namespace) -> int:
    from kflab.scenario.format import load
    from kflab.scenario.library import bundled

    rows = [(name, load(name).title) for name in bundled()]
    width = max(len(name) for name, _ in rows)
    for name, title in rows:
        print(f"{name:<{width}}  {title}")
    return exits.OK


def _bench(args: argparse.Namespace) -> int:
    from kflab.bench.report import run

    return run(args.only, args.json, sys.stdout, quick=args.quick, paused_s=args.paused)


def _screenshots(args: argparse.Namespace) -> int:
    from kflab.tui.screenshots import make

    for path in make(args.folder, args.only):
        print(path)
    return exits.OK


def _conform(args: argparse.Namespace) -> int:
    from kflab.proof.vectors import conform

    out: TextIO = sys.stdout
    return conform(args.files, out, args.mode)


def _verify(args: argparse.Namespace) -> int:
    from kflab.proof.verify import verify

    return verify(_scenario(args.what or ["overview"], args), args.mode, sys.stdout)


_RUNS: dict[str, Callable[[argparse.Namespace], int]] = {
    "open": _open, "replay": _replay, "trace": _trace, "rules": _rules, "get": _kubectl, "describe": _kubectl,
    "tune": _tune, "scenarios": _scenarios, "bench": _bench, "drift": _drift, "screenshots": _screenshots,
    "conform": _conform, "verify": _verify,
}  # fmt: skip
