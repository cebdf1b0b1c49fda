"""What `kflab tune` prints: the trade-off table, the patch, the proof; or the same as data."""

from typing import Any

from kflab.scenario.tune import WRITTEN, Row, Tuned
from kflab.scenario.tune_settings import companion_grace, values, words


def report(tuned: Tuned) -> list[str]:
    """Lines for people."""
    key, spec = tuned.workload.key, tuned.scenario.spec
    lines = [
        f"kflab tune {spec.name}: {tuned.target} for {key.namespace}/{key.kind}/{key.name}",
        f"{len(tuned.seeds)} seeds from {tuned.seeds[0]}, {tuned.runs} runs of {tuned.scenario.duration_ns / 1e9:g} s",
        "",
        f"  {'setting':<44} {'errors, worst':>13} {'mean':>9} {'rollout':>9} {'extra pods':>10}",
    ]
    lines += [_line(tuned, row) for row in tuned.rows]
    lines.append("")
    if tuned.chosen is None:
        return [*lines, f"no choice of these settings meets {tuned.target}"]
    if tuned.chosen.choice == WRITTEN:
        lines.append(f"what is written meets {tuned.target} already: nothing to change")
    else:
        lines.append(f"smallest found: {words(tuned.settings, tuned.chosen.choice)}")
        grace = companion_grace(tuned.workload, values(tuned.settings, tuned.chosen.choice))
        if grace is not None:
            lines.append(f"with terminationGracePeriodSeconds {grace}: preStop and SIGTERM share one budget")
        lines += ["patch:", *(f"  {line}" for line in tuned.patch.splitlines())]
    if tuned.proof is not None and tuned.without is not None:
        lines.append(f"proof, {len(tuned.proof.outcomes)} fresh seeds: {_errors(tuned.proof)} with it")
        if tuned.chosen.choice != WRITTEN:
            lines[-1] += f", {_errors(tuned.without)} without it"
    return lines


def _errors(row: Row) -> str:
    low, high = min(each.failed for each in row.outcomes), row.worst
    return f"{low:,} errors" if low == high else f"{low:,} to {high:,} errors"


def _line(tuned: Tuned, row: Row) -> str:
    rollout = f"{row.rollout_s:.1f} s" if row.rollout_s is not None else "no end"
    early = "" if len(row.outcomes) == len(tuned.seeds) else f"  given up after {len(row.outcomes)} seeds"
    mark = "  smallest" if tuned.chosen is not None and row.choice == tuned.chosen.choice else early
    name = words(tuned.settings, row.choice)
    return f"  {name:<44} {row.worst:>13,} {row.mean:>9,.1f} {rollout:>9} {row.extra_pods:>10}{mark}"


def as_json(tuned: Tuned) -> dict[str, Any]:
    """The same as plain data."""
    key = tuned.workload.key
    return {
        "scenario": tuned.scenario.spec.name,
        "workload": f"{key.namespace}/{key.kind}/{key.name}",
        "target": str(tuned.target),
        "seeds": list(tuned.seeds),
        "runs": tuned.runs,
        "table": [_row(tuned, row) for row in tuned.rows],
        "chosen": None if tuned.chosen is None else _row(tuned, tuned.chosen),
        "patch": tuned.patch,
        "proof": None if tuned.proof is None else _row(tuned, tuned.proof),
        "without": None if tuned.without is None else _row(tuned, tuned.without),
    }


def _row(tuned: Tuned, row: Row) -> dict[str, Any]:
    return {
        "settings": values(tuned.settings, row.choice),
        "met": row.met,
        "rollout_s": row.rollout_s,
        "extra_pods": row.extra_pods,
        "runs": [{"seed": o.seed, "failed": o.failed, "sent": o.sent, "rollout_s": o.rollout_s} for o in row.outcomes],
    }
