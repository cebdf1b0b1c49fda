"""What a dump does with a packet, as plain text and as JSON-ready data, for `kflab trace --rules`."""

from collections.abc import Sequence
from typing import Any, Final

from kflab.dataplane.dump_outcome import Assumed, Exploration, Fate, Outcome, Step
from kflab.dataplane.packets import Packet
from kflab.dataplane.trace_text import visible

SHOWN_OUTCOMES: Final = 16
"""Outcomes of one case that the text lists."""

SHOWN_CASES: Final = 24
"""Cases that the text lists."""


def _place(explored: Exploration, step: Step) -> str:
    return step.rule.place(explored.dump.name)


def _end(explored: Exploration, outcome: Outcome) -> str:
    """How a way ends, in words."""
    by = outcome.decided_by
    where = f" at {_place(explored, by)}" if by is not None else ""
    match outcome.fate:
        case Fate.DROPPED:
            return f"dropped{where}" if by is not None else f"dropped by {outcome.why}"
        case Fate.REFUSED:
            how = by.rule.refusal if by is not None else ""
            return f"refused{where}" + (f" ({how})" if how else "")
        case Fate.UNKNOWN:
            return f"not known{where}: {outcome.why}"
    packet = outcome.packet
    to = "to the node itself, " if outcome.local else "to "
    source = {"": "source kept", "masquerade": "source becomes the node's (masquerade)"}.get(
        outcome.source, f"source becomes {outcome.source}"
    )
    text = f"{to}{packet.destination}, {source}"
    return text if outcome.rewritten else f"passes unchanged {text}"


def _assumption(explored: Exploration, assumed: Sequence[Assumed]) -> str:
    pieces = []
    for item in assumed:
        verb = "holds" if item.holds else "does not hold"
        if not item.question.what.startswith("match "):
            verb = "ends the way there" if item.holds else "lets it go on"
        pieces.append(f"{_place(explored, item.question.step)} {verb}")
    return "If " + " and ".join(pieces) if pieces else "Whatever those do"


def _way(explored: Exploration, path: Sequence[Step]) -> list[str]:
    if not path:
        return ["     no rule takes it"]
    places = [_place(explored, step) for step in path]
    width, wide = max(map(len, places)), max(6, *(len(step.table) for step in path))
    return [
        f"     {place:<{width}}  {step.table:<{wide}}  {step.text()}" for place, step in zip(places, path, strict=True)
    ]


def render_text(explored: Exploration, title: str) -> str:
    """The whole walk as plain text.

    Args:
        explored: The walk.
        title: Says whose rules these are.
    """
    packet, dump = explored.packet, explored.dump
    lines = [f"{packet.source} → {packet.destination} {packet.protocol} · {title} · {dump.name}, {dump.tool}"]
    for question in explored.questions:
        place = _place(explored, question.step)
        lines += ["", f"undecided at rule {place}: {question.what}", f"     {question.step.text()}"]
    many = len(explored.cases) > 1
    for case in explored.cases[:SHOWN_CASES]:
        lines += ["", _assumption(explored, case.assumed) if many else "Outcome"]
        shown = [(str(outcome.chance), _end(explored, outcome)) for outcome in case.outcomes[:SHOWN_OUTCOMES]]
        width = max(len(chance) for chance, _ in shown)
        lines += [f"  {chance:>{width}}  {end}" for chance, end in shown]
        if len(case.outcomes) > len(shown):
            lines.append(f"  and {len(case.outcomes) - len(shown)} more")
        first = case.outcomes[0]
        lines.append("  rules on the way" + (" of the first" if len(case.outcomes) > 1 else ""))
        lines += _way(explored, first.path)
    if len(explored.cases) > SHOWN_CASES:
        lines += ["", f"and {len(explored.cases) - SHOWN_CASES} more cases (-o json has them all)"]
    if not explored.complete:
        lines += ["", "too many undecided rules: not every way was followed"]
    remarks = (*explored.notes, *(f"the dump says: {remark}" for remark in dump.remarks))
    lines += ["", *(f"note: {remark}" for remark in remarks)] if remarks else []
    return "\n".join(visible(line) for line in lines) + "\n"


def _packet(packet: Packet) -> dict[str, str]:
    return {"source": packet.source, "destination": packet.destination, "protocol": packet.protocol}


def _step(step: Step) -> dict[str, Any]:
    return {**step.rule.position, "table": step.table, "chain": step.chain, "rule": step.text()}


def to_tree(explored: Exploration) -> dict[str, Any]:
    """The walk as JSON-ready data; chances are exact fractions as text."""
    questions = {question: i for i, question in enumerate(explored.questions)}
    return {
        "format": "kflab-rules-trace",
        "version": 1,
        "file": explored.dump.name,
        "node": explored.known.node,
        "packet": _packet(explored.packet),
        "undecided": [{**_step(question.step), "what": question.what} for question in questions],
        "cases": [
            {
                "assumed": [{"undecided": questions[item.question], "holds": item.holds} for item in case.assumed],
                "outcomes": [
                    {
                        "fate": str(outcome.fate),
                        "packet": _packet(outcome.packet),
                        "source": outcome.source,
                        "toNode": outcome.local,
                        "rewritten": outcome.rewritten,
                        "chance": str(outcome.chance),
                        "why": outcome.why,
                        "decidedBy": _step(outcome.decided_by) if outcome.decided_by else None,
                        "rules": [_step(step) for step in outcome.path],
                    }
                    for outcome in case.outcomes
                ],
            }
            for case in explored.cases
        ],
        "complete": explored.complete,
        "notes": [*explored.notes, *explored.dump.remarks],
    }
