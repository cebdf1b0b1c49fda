"""What the schematic remembers, so that things keep standing where they stood and wires keep their weight."""

from collections.abc import Mapping, Sequence

from kflab.lab.snapshot import Band, Candidate, NodeRow
from kflab.manifest.objects import Key
from kflab.tui.wires import Weight

HEAVY_FROM = 0.40
"""Share of the entry rate from which a wire is heavy (rule 3)."""
LIGHT_BELOW = 0.30
"""Share below which a heavy wire becomes light again."""
DWELL_NS = 500_000_000
"""How long a share must stay beyond its limit before the weight changes (rule 3)."""


class Placement:
    """Remembers which slot each pod has, and in which order nodes stand.

    A pod that is gone leaves its slot free, a new one takes the first free slot of its node; nothing else moves.
    """

    def __init__(self) -> None:
        self._slots: dict[tuple[str, str], list[Key | None]] = {}
        self._order: dict[str, list[str]] = {}
        self._worst: dict[str, list[str]] = {}

    def place(self, band: Band, nodes: Sequence[NodeRow]) -> dict[str, list[Candidate | None]]:
        """Slots by node, in the order in which nodes stand."""
        by_key = {candidate.key: candidate for candidate in band.candidates}
        order = self._order.setdefault(band.id, [])
        ranks = {row.key.name: rank for rank, row in enumerate(nodes)}
        fresh = {candidate.node for candidate in band.candidates}.difference(order)
        order.extend(sorted(fresh, key=lambda name: (name == "", ranks.get(name, len(ranks)), name)))
        for node in order:
            slots = self._slots.setdefault((band.id, node), [])
            for at, key in enumerate(slots):
                if key is not None and (key not in by_key or by_key[key].node != node):
                    slots[at] = None
        for candidate in band.candidates:
            slots = self._slots[(band.id, candidate.node)]
            if candidate.key in slots:
                continue
            if None in slots:
                slots[slots.index(None)] = candidate.key
            else:
                slots.append(candidate.key)
        return {
            node: [by_key[key] if key is not None else None for key in self._slots[(band.id, node)]] for node in order
        }

    def worst_first(self, band_id: str, pods: Mapping[str, Sequence[Candidate | None]]) -> list[str]:
        """Nodes as rows: the worst first when first asked, then held still."""
        order = self._worst.setdefault(band_id, [])

        def badness(node: str) -> int:
            return -sum(
                one is not None and (one.state not in ("ready", "healthy") or one.failing) for one in pods[node]
            )

        order.extend(sorted((node for node in pods if node not in order), key=badness))
        return [node for node in order if any(pods.get(node, ()))]


class Weights:
    """Remembers each wire's weight, so that it does not flicker around a limit."""

    def __init__(self) -> None:
        self._now: dict[str, Weight] = {}
        self._since: dict[str, int] = {}

    def of(self, wire: str, rate: float, entry: float, t_ns: int) -> Weight:
        """The weight of a wire that carries `rate` of the `entry` rate at simulated time `t_ns`."""
        if rate <= 0:
            self._now.pop(wire, None)
            return Weight.DOTTED
        share = rate / entry if entry > 0 else 1.0
        now = self._now.get(wire)
        wish = Weight.HEAVY if share >= HEAVY_FROM else Weight.LIGHT if share < LIGHT_BELOW else now
        if now is None:
            now = wish or Weight.LIGHT
            self._now[wire] = now
        if wish is None or wish is now:
            self._since.pop(wire, None)
        elif t_ns - self._since.setdefault(wire, t_ns) >= DWELL_NS or t_ns < self._since[wire]:
            self._since.pop(wire)
            self._now[wire] = now = wish
        return now
