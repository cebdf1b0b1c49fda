"""What `kflab tune` prints: the trade-off table, the patch, the proof; or the same as data."""

import textwrap
from typing import Any

from kflab.scenario.tune import RESTART_NS, WRITTEN, Row, Tuned
from kflab.scenario.tune_settings import SETTINGS, changed, companion_grace, values, words

WIDTH = 80
"""Columns that the report keeps to, names from manifests apart."""

_NAME_CELLS = 33


def report(tuned: Tuned) -> list[str]:
    """Lines for people."""
    key, spec = tuned.workload.key, tuned.scenario.spec
    fewest = min(outcome.sent for row in tuned.rows for outcome in row.outcomes)
    lines = [
        f"kflab tune {spec.name}: {tuned.target} for {key.namespace}/{key.kind}/{key.name}",
        f"{_many(len(tuned.seeds), 'seed')} from {tuned.seeds[0]}, {_many(tuned.runs, 'run')} of "
        f"{tuned.scenario.duration_ns / 1e9:g} s or longer, {_many(fewest, 'request')} at least",
    ]
    if tuned.restarted:
        lines.append(f"nothing happens in it: {key.kind} {key.name} is restarted at {RESTART_NS / 1e9:g} s")
    if tuned.left_out and len(tuned.left_out) + len(tuned.settings) < len(SETTINGS):  # else nobody asked for them
        lines += _wrapped(f"left out, {key.kind} {key.name} has nothing of it to change: {', '.join(tuned.left_out)}")
    lines += [
        "",
        f"  {'':<{_NAME_CELLS}} {'errors':>9} {'':>9} {'rollout':>8} {'extra':>5}",
        f"  {'setting':<{_NAME_CELLS}} {'worst':>9} {'mean':>9} {'longest':>8} {'pods':>5}",
    ]
    for row in tuned.rows:
        lines += _row_lines(tuned, row)
    early = {len(row.outcomes) for row in tuned.rows} - {len(tuned.seeds)}
    if early:
        lines.append(f"  ({_many(min(early), 'seed')}: given up early, it had lost too much)")
    lines.append("")
    if tuned.chosen is None:
        return [*lines, f"no choice of these settings meets {tuned.target}"]
    return lines + _found(tuned)


def _found(tuned: Tuned) -> list[str]:
    """What was chosen, its patch and its proof."""
    assert tuned.chosen is not None
    lines = []
    if tuned.chosen.choice == WRITTEN:
        lines.append(f"what is written meets {tuned.target} already: nothing to change")
    else:
        chosen = changed(tuned.workload, tuned.settings, tuned.chosen.choice)
        lines += _wrapped(f"smallest found: {words(tuned.workload, tuned.settings, tuned.chosen.choice)}")
        if companion_grace(tuned.workload, values(tuned.settings, tuned.chosen.choice)) is not None:
            lines.append("preStop and SIGTERM share one budget: terminationGracePeriodSeconds goes with the sleep")
        hooks = [c.name for c in tuned.workload.template.spec.containers if c.pre_stop_hook]
        if "preStop" in chosen and hooks:
            lines += _wrapped(
                f"it replaces the preStop hook of {', '.join(hooks)}: see that nothing else is done there"
            )
        lines += ["patch:", *(f"  {line}" for line in tuned.patch.splitlines())]
    if tuned.proof is not None and tuned.without is not None:
        lines.append(f"proof, {_many(len(tuned.proof.outcomes), 'fresh seed')}: {_errors(tuned.proof)} with it")
        if tuned.chosen.choice != WRITTEN:
            lines[-1] += f", {_errors(tuned.without)} without it"
        if not tuned.proved:
            lines.append(f"NOT PROVED: these seeds do not keep to {tuned.target}; more --seeds find a safer choice")
    return lines


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' if number != 1 else ''}"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _short(number: float) -> str:
    return f"{number:,.1f}" if number < 1000 else f"{number:,.0f}"


def _errors(row: Row) -> str:
    low, high = min(each.failed for each in row.outcomes), row.worst
    return _many(low, "error") if low == high else f"{low:,} to {high:,} errors"


def _row_lines(tuned: Tuned, row: Row) -> list[str]:
    """A row of the table; a choice of many settings takes several lines, with the figures on the first."""
    rollout = f"{_short(row.rollout_s)} s" if row.rollout_s is not None else "no end"
    early = "" if len(row.outcomes) == len(tuned.seeds) else f"  {_many(len(row.outcomes), 'seed')}"
    mark = "  smallest" if tuned.chosen is not None and row.choice == tuned.chosen.choice else early
    first, *more = textwrap.wrap(words(tuned.workload, tuned.settings, row.choice), _NAME_CELLS, break_on_hyphens=False)
    figures = f"{row.worst:>9,} {_short(row.mean):>9} {rollout:>8} {row.extra_pods:>5}"
    return [f"  {first:<{_NAME_CELLS}} {figures}{mark}", *(f"    {line}" for line in more)]


def as_json(tuned: Tuned) -> dict[str, Any]:
    """The same as plain data."""
    key = tuned.workload.key
    return {
        "scenario": tuned.scenario.spec.name,
        "workload": f"{key.namespace}/{key.kind}/{key.name}",
        "target": str(tuned.target),
        "seeds": list(tuned.seeds),
        "runs": tuned.runs,
        "restarted": tuned.restarted,
        "left_out": list(tuned.left_out),
        "table": [_row(tuned, row) for row in tuned.rows],
        "chosen": None if tuned.chosen is None else _row(tuned, tuned.chosen),
        "patch": tuned.patch,
        "proved": tuned.proved,
        "proof": None if tuned.proof is None else _row(tuned, tuned.proof),
        "without": None if tuned.without is None else _row(tuned, tuned.without),
    }


def _row(tuned: Tuned, row: Row) -> dict[str, Any]:
    return {
        "settings": changed(tuned.workload, tuned.settings, row.choice),
        "met": row.met,
        "rollout_s": row.rollout_s,
        "extra_pods": row.extra_pods,
        "runs": [{"seed": o.seed, "failed": o.failed, "sent": o.sent, "rollout_s": o.rollout_s} for o in row.outcomes],
    }
