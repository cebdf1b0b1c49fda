"""Which rows the ledger has: bands in path order, folded until they fit, in an order that never shuffles."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from enum import Enum
from itertools import islice

from kflab.lab.snapshot import Band, Candidate, Knower, Snapshot, SocketRow
from kflab.manifest.objects import Key
from kflab.records import dataclass
from kflab.tui.text import number, plural, safe, share

GOOD_STATES = frozenset({"ready", "healthy", "running", "succeeded"})

STRIP_FROM = 6
"""From this many nodes on, their rules are one strip plot."""

MIN_LISTED = 3
"""An unfolded band lists at least this many candidates before the ledger scrolls."""

_ADDRESS = re.compile(r"(\d{1,3}(?:\.\d{1,3}){3}|[0-9a-fA-F:]*:[0-9a-fA-F:]+|None)(?=[\]:\s]|$)")


class RowKind(Enum):
    """What a row is."""

    HEAD = "head"
    FAILED = "failed"
    SOCKETS = "sockets"
    """WebSockets of a client."""
    CANDIDATE = "candidate"
    GROUP = "group"
    """All candidates of a band in one row."""
    ROUTE = "route"
    BLANK = "blank"
    FOOTER = "footer"
    FOLD = "fold"
    """A Service as one row, its candidates folded or listed under it."""
    MORE = "more"
    SERVICES = "services"
    """Ordinary Services that did not fit, as one row."""
    KNOWS = "knows"
    KNOWER = "knower"
    STRIP = "strip"
    """The rules of many nodes."""


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One row; which fields are set follows from its kind."""

    kind: RowKind
    id: str
    key: Key | None = None
    band: Band | None = None
    candidate: Candidate | None = None
    knower: Knower | None = None
    members: tuple[Candidate, ...] = ()
    knowers: tuple[Knower, ...] = ()
    bands: tuple[Band, ...] = ()
    nested: bool = False
    last: bool = False
    """Last of its nested list."""
    unfolded: bool = False
    text: str = ""
    sockets: SocketRow | None = None
    refused: str = ""
    """Drawn behind the gap in the lens."""

    @property
    def selectable(self) -> bool:
        return self.kind not in (RowKind.BLANK, RowKind.FOOTER, RowKind.FAILED, RowKind.SOCKETS)

    @property
    def tap(self) -> bool:
        """Whether the spine has a tap here."""
        return not self.nested and self.kind not in (
            RowKind.BLANK,
            RowKind.FOOTER,
            RowKind.FAILED,
            RowKind.SOCKETS,
            RowKind.ROUTE,
            RowKind.MORE,
        )


@dataclass(frozen=True, slots=True)
class Folding:
    """What is folded to make the rows fit."""

    nodes: bool = False
    ingress: bool = False
    slowest: bool = True
    """The slowest caller has a row beside the strip."""
    services: bool = False
    blanks: bool = True
    connectors: bool = True
    limit: int = 0
    """How many candidates an unfolded band lists; 0 all."""
    few_services: int = 0
    """How many Services get a row; 0 all."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user asked of the ledger."""

    unfolded: str = ""
    """Band id of the Service that is unfolded when Services are folded."""
    by_hand: Mapping[str, bool] = field(default_factory=dict)
    """Band id → folded, by `+` and `-`."""
    listed: frozenset[str] = frozenset()
    """Bands whose candidates are all listed, however many."""
    filter_text: str = ""
    keep: frozenset[Key] = frozenset()
    """Candidates that are listed in any case: selected, lit."""
    connectors: bool = True
    """Terminals below 30 rows do without connector rows."""


def ordinary(candidate: Candidate) -> bool:
    """Nothing to say about it: good state, share within its band."""
    if candidate.state not in GOOD_STATES or candidate.failing:
        return False
    return outside(candidate) == 0


def outside(candidate: Candidate) -> int:
    """1 above its 99 % band, -1 below, 0 within or without one."""
    if candidate.expected is None or candidate.share is None or candidate.expected >= 1:
        return 0
    if candidate.share > candidate.high:
        return 1
    return -1 if candidate.share < candidate.low else 0


def address_of(band: Band) -> str:
    """The address in a band's detail, for its folded row."""
    found = _ADDRESS.search(band.detail)
    return found.group(1) if found else ""


def band_name(band: Band) -> str:
    """The name a folded row has: the Service's, with the port where the Service has several bands."""
    return band.key.name if band.key is not None else safe(band.detail.split(" ")[0])


def matches(candidate: Candidate, text: str) -> bool:
    """Whether a candidate's name, state, node or address holds the filter text."""
    needle = text.lower()
    return any(needle in word.lower() for word in (candidate.name, candidate.state, candidate.node, candidate.address))


def make_rows(snapshot: Snapshot, wanted: Wanted, folding: Folding) -> list[LedgerRow]:
    """All rows under one folding."""
    return list(_rows(snapshot, wanted, folding))


def count_rows(snapshot: Snapshot, wanted: Wanted, folding: Folding, enough: int) -> int:
    """How many rows there would be; no more than `enough` are looked at."""
    return sum(1 for _ in islice(_rows(snapshot, wanted, folding), enough))


def _rows(snapshot: Snapshot, wanted: Wanted, folding: Folding) -> Iterator[LedgerRow]:
    services = [band for band in snapshot.bands if band.kind == "service"]
    hidden = _hidden_services(services, wanted, folding)
    failed_done = False
    last: RowKind | None = None
    for band in snapshot.bands:
        made = _band(band, wanted, folding, hidden, len(services) > 1)
        if made:
            last = made[-1].kind
            yield from made
        if band.kind == "client" and not failed_done:
            last = RowKind.SOCKETS
            yield LedgerRow(RowKind.FAILED, "failed")
            for each in snapshot.sockets:
                yield LedgerRow(RowKind.SOCKETS, f"sockets|{each.client}", sockets=each)
            failed_done = True
    if hidden:
        left_out = tuple(band for band in services if band.id in hidden)
        rate = number(sum(band.rate_rps for band in left_out))
        text = f"{plural(len(left_out), 'more Service')} as expected · {rate}/s"
        last = RowKind.SERVICES
        yield LedgerRow(RowKind.SERVICES, "services", bands=left_out, text=text)
    if folding.connectors and folding.blanks and last not in (None, RowKind.FOOTER, RowKind.BLANK):
        yield LedgerRow(RowKind.BLANK, "last/blank")
    yield from _who_knows(snapshot, folding)


def _band(band: Band, wanted: Wanted, folding: Folding, hidden: frozenset[str], several: bool) -> list[LedgerRow]:
    """A chooser and its candidates."""
    if band.kind == "service":
        return _service(band, wanted, folding, several) if band.id not in hidden else []
    if band.kind == "route" or not band.title:
        shown = folding.connectors and not wanted.filter_text
        return [LedgerRow(RowKind.ROUTE, band.id, band.key, band, text=band.detail)] if shown else []
    rows = [LedgerRow(RowKind.HEAD, band.id, band.key, band)]
    folded = folding.nodes if band.kind == "lb" else folding.ingress if band.kind == "ingress" else False
    rows.extend(_candidates(band, wanted, wanted.by_hand.get(band.id, folded)))
    if band.kind == "lb" and band.candidates and folding.connectors and folding.blanks:
        rows.append(LedgerRow(RowKind.BLANK, band.id + "/blank", text=band.footer))
    return rows


def _hidden_services(services: Sequence[Band], wanted: Wanted, folding: Folding) -> frozenset[str]:
    """Ordinary Services beyond the number that fits; the unfolded and the unordinary always stay."""
    if not folding.few_services or len(services) <= folding.few_services or wanted.filter_text:
        return frozenset()
    room = folding.few_services - 1
    special = [
        band.id
        for band in services
        if band.id == wanted.unfolded or band.id in wanted.by_hand or not all(ordinary(row) for row in band.candidates)
    ]
    kept = set(special[:room])
    for band in services:
        if len(kept) >= room:
            break
        kept.add(band.id)
    return frozenset(band.id for band in services if band.id not in kept)


def _candidates(band: Band, wanted: Wanted, folded: bool) -> list[LedgerRow]:
    if wanted.filter_text:
        found = [row for row in band.candidates if matches(row, wanted.filter_text)]
        return [_candidate(band, row) for row in found]
    if folded and len(band.candidates) > 1:
        return [LedgerRow(RowKind.GROUP, band.id + "/all", band.key, band, members=band.candidates)]
    return [_candidate(band, row) for row in band.candidates]


def _candidate(band: Band, row: Candidate, nested: bool = False) -> LedgerRow:
    return LedgerRow(RowKind.CANDIDATE, f"{band.id}|{row.key}|{row.key.namespace}", row.key, band, row, nested=nested)


def _service(band: Band, wanted: Wanted, folding: Folding, several: bool) -> list[LedgerRow]:
    """A Service as head and rows, or as one folded row with its candidates under it or not."""
    found = [row for row in band.candidates if matches(row, wanted.filter_text)] if wanted.filter_text else []
    if wanted.filter_text:
        if not found and wanted.filter_text.lower() not in band.detail.lower():
            return []
        head = LedgerRow(RowKind.HEAD, band.id, band.key, band)
        return [head, *(_candidate(band, row) for row in found)]
    by_hand = wanted.by_hand.get(band.id)
    if not (folding.services and several) and by_hand is not True:
        rows = [LedgerRow(RowKind.HEAD, band.id, band.key, band)]
        rows.extend(_listed(band, wanted, folding, nested=False))
        if folding.connectors and (band.footer or folding.blanks):
            rows.append(
                LedgerRow(RowKind.FOOTER, band.id + "/footer", text=band.footer, refused=band.footer_short, band=band)
            )
        elif band.footer_short and rows[-1].kind == RowKind.MORE:
            rows[-1] = replace(rows[-1], refused=band.footer_short)
        return rows
    unfolded = by_hand is False or (by_hand is None and band.id == wanted.unfolded)
    rows = [
        LedgerRow(RowKind.FOLD, band.id, band.key, band, members=band.candidates, unfolded=unfolded),
    ]
    if unfolded:
        nested = _listed(band, wanted, folding, nested=True)
        if nested:
            nested[-1] = replace(nested[-1], last=True, refused=band.footer_short)
        rows.extend(nested)
    return rows


def _listed(band: Band, wanted: Wanted, folding: Folding, nested: bool) -> list[LedgerRow]:
    """Candidates in their order; where there are too many, those worth a row and the first others."""
    candidates = band.candidates
    limit = folding.limit
    if not limit or len(candidates) <= limit or band.id in wanted.listed:
        return [_candidate(band, row, nested) for row in candidates]
    room = limit - 1
    keep = [i for i, row in enumerate(candidates) if not ordinary(row) or row.key in wanted.keep][:room]
    chosen = set(keep)
    for i in range(len(candidates)):
        if len(chosen) >= room:
            break
        chosen.add(i)
    rows = [_candidate(band, candidates[i], nested) for i in sorted(chosen)]
    rest = tuple(row for i, row in enumerate(candidates) if i not in chosen)
    more = LedgerRow(RowKind.MORE, band.id + "/more", band.key, band, members=rest, nested=nested, text=_more(rest))
    return [*rows, more]


def _more(rest: Sequence[Candidate]) -> str:
    """``4 more as expected, 10.4 to 11.7 % each``."""
    shares = [row.share for row in rest if row.share is not None and row.expected is not None]
    odd = sum(not ordinary(row) for row in rest)
    words = f"{len(rest):,} more"
    if odd:
        return f"{words}, {odd:,} of them not as expected"
    if not shares:
        return f"{words} as expected"
    low, high = share(min(shares)), share(max(shares))
    return f"{words} as expected, {low.removesuffix(' %')} to {high} each" if low != high else f"{words}, {low} each"


def _who_knows(snapshot: Snapshot, folding: Folding) -> list[LedgerRow]:
    knowledge = snapshot.knowledge
    rows = [LedgerRow(RowKind.KNOWS, "knows", knowledge.subject, text=knowledge.what)]
    rules = tuple(knower for knower in knowledge.knowers if is_rules(knower))
    strip = len(rules) >= STRIP_FROM
    done = False
    for knower in knowledge.knowers:
        if not (strip and is_rules(knower)):
            rows.append(LedgerRow(RowKind.KNOWER, f"knower|{knower.name}", knower.key, knower=knower))
        elif not done:
            done = True
            slowest = slowest_caller(rules)
            if folding.slowest and slowest is not None:
                rows.append(LedgerRow(RowKind.KNOWER, "knower|slowest", slowest.key, knower=slowest))
            rows.append(LedgerRow(RowKind.STRIP, "knower|rules", rules[0].key, knowers=rules))
    return rows


def is_rules(knower: Knower) -> bool:
    """Whether this observer is a node's kube-proxy."""
    return knower.key.kind == "Node" and knower.name.endswith(" rules")


def slowest_caller(rules: Sequence[Knower]) -> Knower | None:
    """The calling node that learned last, or has not learned yet."""
    callers = [knower for knower in rules if knower.callers.startswith("callers") and not knower.off]
    if not callers:
        return None
    for knower in callers:
        if not knower.in_step:
            return knower
    return max(callers, key=lambda knower: knower.learned_ns or 0)


LEVELS: tuple[Folding, ...] = (
    Folding(),
    Folding(slowest=False),
    Folding(slowest=False, nodes=True),
    Folding(slowest=False, nodes=True, ingress=True),
    Folding(slowest=False, nodes=True, ingress=True, services=True),
    Folding(slowest=False, nodes=True, ingress=True, services=True, blanks=False),
)
"""Fold order when rows run out: nodes, ingress pods, unselected Services, connector rows."""


def choose_folding(snapshot: Snapshot, wanted: Wanted, height: int) -> Folding:
    """The first folding under which the rows fit into `height`; the tightest one where none does."""
    base = Folding() if wanted.connectors else Folding(blanks=False, connectors=False)
    tightest = base
    for level in LEVELS:
        tightest = level if wanted.connectors else replace(level, blanks=False, connectors=False)
        if count_rows(snapshot, wanted, tightest, height + 1) <= height:
            return tightest
    services = sum(band.kind == "service" for band in snapshot.bands)
    longest = max((len(band.candidates) for band in snapshot.bands if band.kind == "service"), default=0)
    over = len(make_rows(snapshot, wanted, tightest)) - height
    open_rows = next(
        (len(band.candidates) for band in snapshot.bands if band.id == wanted.unfolded), longest if services == 1 else 0
    )
    limit = max(MIN_LISTED, open_rows - over) if open_rows > MIN_LISTED else 0
    tightest = replace(tightest, limit=limit)
    over = len(make_rows(snapshot, wanted, tightest)) - height
    if over > 0 and tightest.connectors:
        tightest = replace(tightest, connectors=False)
        over = len(make_rows(snapshot, wanted, tightest)) - height
    if over > 0 and services > 2:
        tightest = replace(tightest, few_services=max(2, services - over))
    return tightest
