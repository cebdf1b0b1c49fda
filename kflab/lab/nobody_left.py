"""A change after which its callers have nobody left to send to: traffic has not moved then, it is refused."""

from typing import TYPE_CHECKING

from kflab.engine.types import Answer, Fan
from kflab.lab.knowledge import Incident
from kflab.lab.snapshot import Span
from kflab.manifest.objects import Key
from kflab.records import dataclass

if TYPE_CHECKING:
    from kflab.lab.running import Lab


@dataclass(frozen=True, slots=True)
class NobodyLeft:
    """One Service of the change, as the last of its callers has it."""

    service: Key
    place: str
    """Node of the caller whose rules were the last to lose all candidates."""
    ingress: bool
    """NGINX itself has no endpoint; else the node's rules REJECT."""
    from_ns: int
    until_ns: int | None
    """When a caller had a candidate again; None: not yet."""

    def spans(self, incident: Incident) -> tuple[Span, ...]:
        """The sentence above the ledger."""
        name = self.service.name
        who = f"NGINX on {self.place} answers 503." if self.ingress else f"{self.place}'s rules REJECT what comes."
        since = (self.from_ns - incident.t_ns) / 1e9
        if self.until_ns is None:
            return (Span(f"✖ {name}: no ready endpoint ", "lost"), Span(f"since +{since:.2f} s. {who}"))
        back = (self.until_ns - incident.t_ns) / 1e9
        rest = f"since +{back:.2f} s; from +{since:.2f} s on it had no ready endpoint."
        return (Span("◆ ", "known"), Span(f"{name}: ready again ", "known"), Span(rest))


def nobody_left(lab: "Lab", incident: Incident) -> NobodyLeft | None:
    """Whether all callers of a Service of the change lost their last candidate by it, and for how long.

    A rollout or drain takes pods of any Service; of those only one that has nobody now is told.

    Returns:
        None where somebody is left for each of them, as ordinarily.
    """
    services = incident.services
    if incident.lasts:
        services = frozenset(
            each.service for each in lab.wiring.choosers
            if each.service is not None and each.kind != "lb" and each.fan and not each.fan.candidates
        )  # fmt: skip
    for service in sorted(services):
        if lab.store.get(service) is None:
            continue
        choosers = [
            chooser for chooser in lab.wiring.choosers
            if chooser.service == service and chooser.kind != "lb"
            and (incident.lasts or incident.calling.intersection(chooser.observers))
        ]  # fmt: skip
        spells = [_emptied(chooser.past, incident.t_ns) for chooser in choosers]
        found = [(spell, chooser) for spell, chooser in zip(spells, choosers, strict=True) if spell is not None]
        if not found or len(found) < len(choosers):
            continue
        (from_ns, _, answer), chooser = max(found, key=lambda each: each[0][0])
        ends = [spell[1] for spell, _ in found]
        until_ns = None if None in ends else min(end for end in ends if end is not None)
        return NobodyLeft(service, chooser.place, answer == Answer.NO_UPSTREAM, from_ns, until_ns)
    return None


def _emptied(past: list[tuple[int, Fan]], since_ns: int) -> tuple[int, int | None, int] | None:
    """(from, until or None, answer) of the last spell without candidates that began at `since_ns` or later."""
    spell: tuple[int, int | None, int] | None = None
    for t_ns, fan in past:
        empty = not fan.candidates and fan.answer in (Answer.REJECTED, Answer.NO_UPSTREAM)
        if empty and t_ns >= since_ns and (spell is None or spell[1] is not None):
            spell = (t_ns, None, fan.answer)
        elif not empty and spell is not None and spell[1] is None:
            spell = (spell[0], t_ns, spell[2])
    return spell
