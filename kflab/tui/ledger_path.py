"""The spine of the ledger, and which rows an open request touched."""

from collections.abc import Mapping, Sequence

from kflab.dataplane.packets import Hop, RequestTrace
from kflab.manifest.objects import Key
from kflab.tui.glyphs import Glyphs
from kflab.tui.ledger_rows import LedgerRow, RowKind

_PATH_KINDS = frozenset({RowKind.HEAD, RowKind.CANDIDATE, RowKind.GROUP, RowKind.FOLD, RowKind.ROUTE})


def spines(rows: Sequence[LedgerRow], hops: Mapping[str, int], glyphs: Glyphs) -> list[str]:
    """The spine glyph of every row; those of the lit path end with "!"."""
    taps = [i for i, row in enumerate(rows) if row.tap]
    if not taps:
        return [""] * len(rows)
    lit = [i for i, row in enumerate(rows) if row.id in hops]
    lit_end = lit[-1] if lit else -1
    result = []
    for i, row in enumerate(rows):
        heavy = i <= lit_end
        if i == taps[0]:
            glyph = glyphs.lit_first if heavy else glyphs.spine_first
        elif i == lit_end:
            glyph = glyphs.lit_last
        elif i > taps[-1]:
            glyph = ""
        elif heavy:
            glyph = glyphs.lit_tap if row.id in hops else glyphs.lit
        elif i == taps[-1]:
            glyph = glyphs.spine_last
        else:
            glyph = glyphs.spine_tap if row.tap else glyphs.spine
        result.append(f"{glyph}!" if heavy and glyph else glyph)
    return result


def lit_rows(rows: Sequence[LedgerRow], trace: RequestTrace | None) -> dict[str, int]:
    """Row id → number of the first hop of the open request that belongs there."""
    lit: dict[str, int] = {}
    for hop in trace.hops if trace is not None else ():
        row = _row_of_hop(rows, hop) if hop.number else None
        if row is not None:
            lit.setdefault(row.id, hop.number)
    return lit


def _row_of_hop(rows: Sequence[LedgerRow], hop: Hop) -> LedgerRow | None:
    """The row furthest along the path among those that the hop touched."""
    where = f"{hop.where} {hop.mover}".lower()
    path = [row for row in rows if row.kind in _PATH_KINDS]
    if hop.where.lower().startswith("client"):
        for kind in ("dns", "client"):
            for row in path:
                if row.band is not None and row.band.kind == kind:
                    return row
        return None
    only_lb = "load balancer" in where
    touched = set(hop.touches)
    found, best = None, 0
    for row in path:
        if only_lb and (row.band is None or row.band.kind != "lb"):
            continue
        if not row_keys(row) & touched:
            continue
        # A pod may stand under several Services: its row under the one this hop went to is meant.
        under = row.kind in (RowKind.CANDIDATE, RowKind.GROUP, RowKind.FOLD)
        score = 2 if under and row.band is not None and row.band.key in touched else 1
        if score >= best:
            found, best = row, score
    return found


def row_keys(row: LedgerRow) -> set[Key]:
    """Objects a row stands for."""
    keys = {row.key} if row.key is not None else set()
    if row.kind in (RowKind.GROUP, RowKind.MORE) or (row.kind is RowKind.FOLD and not row.unfolded):
        keys |= {member.key for member in row.members}
    return keys
