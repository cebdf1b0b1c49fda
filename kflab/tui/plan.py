"""Where every pane stands, as a pure function of the terminal's size and of what is open."""

from dataclasses import field

from textual.geometry import Region

from kflab.records import dataclass

STATUS_ROWS = 2
"""Status line and story line."""

KEY_ROWS = 1
"""The line of keys."""

WIDE_COLUMNS = 160
"""From here panes stand beside the topology."""

WIDE_ROWS = 44
"""Below this many rows a wide terminal has no room for three panes on top of each other."""

SPLIT_COLUMNS = 100
SPLIT_ROWS = 30
"""From here on Manifest and Trace stand below the topology; smaller terminals get tabs."""

TINY_COLUMNS = 60
TINY_ROWS = 16
"""Below: status and the worst facts only."""

LOWER_ROWS = 12
"""What the lower panes keep at least, their title line included, when the topology wants more."""

MANIFEST_COLUMNS = 46
WIDE_LEFT = 132
"""Columns of the ledger where panes stand at its right."""

TABS = ("topology", "manifest", "trace", "request")
"""What the keys 1 to 4 show where only one pane fits."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What should be on the screen."""

    view: str = "ledger"
    """ledger, schematic or nodes."""
    request: bool = False
    """A request is open."""
    lower: str = ""
    """"rules", "shares" or "gantt" over the lower panes; "" the usual ones."""
    tab: str = "topology"
    """Of `TABS`, or "rules", "shares" or "gantt": where only one pane fits."""
    topology_rows: int = 24
    """How many rows the topology would like, its axis included."""
    editing: bool = False
    """Somebody types in the editor: it gets the width it needs."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Regions inside the body (between story line and key line) by pane; absent panes are hidden."""

    size: str
    """wide, split, tabs or tiny."""
    areas: dict[str, Region] = field(default_factory=dict)


def size_of(width: int, height: int) -> str:
    """The size class of a terminal."""
    if width < TINY_COLUMNS or height < TINY_ROWS:
        return "tiny"
    if width >= WIDE_COLUMNS and height >= WIDE_ROWS:
        return "wide"
    if width >= SPLIT_COLUMNS and height >= SPLIT_ROWS:
        return "split"
    return "tabs"


def plan(width: int, height: int, wish: Wish) -> Plan:
    """Lay out the body of a terminal.

    Args:
        width: Columns of the terminal.
        height: Rows of the terminal, all of them.
        wish: What is open.

    Returns:
        The size class and one region per visible pane, relative to the body; regions never overlap.
    """
    size = size_of(width, height)
    body = max(1, height - STATUS_ROWS - KEY_ROWS)
    if size == "tiny":
        return Plan(size, {"facts": Region(0, 0, width, body)})
    if size == "tabs":
        shown = wish.view if wish.tab == "topology" else wish.tab
        return Plan(size, {shown: Region(0, 0, width, body)})
    if size == "wide":
        return Plan(size, _wide(width, body, wish))
    top = max(8, min(wish.topology_rows, body - LOWER_ROWS))
    areas = {wish.view: Region(0, 0, width, top)}
    rest = body - top
    if wish.lower:
        areas[wish.lower] = Region(0, top, width, rest)
    elif wish.request:
        areas["request"] = Region(0, top, width, rest)
    else:
        left = min(MANIFEST_COLUMNS, width * 2 // 5)
        if wish.editing:
            left = min(width // 2 + 4, 80)
        areas["manifest"] = Region(0, top, left, rest)
        areas["trace"] = Region(left + 1, top, width - left - 1, rest)
    return Plan(size, areas)


def _wide(width: int, body: int, wish: Wish) -> dict[str, Region]:
    """Ledger, request and trace (or the Gantt) at the left; nodes, shares, manifest and rules at the right."""
    left = min(WIDE_LEFT, width - 56)
    right = left + 2
    right_width = width - right
    top = max(18, min(wish.topology_rows + 1, body - 2 * LOWER_ROWS))
    middle = max(13, min(20, (body - top) // 2))
    areas = {wish.view: Region(0, 0, left, top)}
    if wish.lower == "gantt":
        areas["gantt"] = Region(0, top, left, body - top)
    elif wish.request:
        areas["request"] = Region(0, top, left, middle)
        areas["trace"] = Region(0, top + middle, left, body - top - middle)
    else:
        areas["trace"] = Region(0, top, left, body - top)
    shares = 10
    if wish.view == "nodes":
        areas["shares"] = Region(right, 0, right_width, top)
    else:
        areas["nodes"] = Region(right, 0, right_width, top - shares)
        areas["shares"] = Region(right, top - shares, right_width, shares)
    manifest = middle if not wish.editing else (body - top) * 2 // 3
    areas["manifest"] = Region(right, top, right_width, manifest)
    areas["rules"] = Region(right, top + manifest, right_width, body - top - manifest)
    return areas
