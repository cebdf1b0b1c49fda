"""Where things stand in the schematic: rows and columns for a path in a pane of a given size."""

from collections.abc import Iterable, Mapping
from dataclasses import field

from kflab.lab.snapshot import Band, Candidate, Snapshot
from kflab.manifest.objects import Key
from kflab.records import dataclass
from kflab.tui.schematic_path import Path

MANY_PODS = 12
"""Above so many endpoints a node is one row (schematic.md, rule 9)."""

MANY_INGRESS = 6
"""Above so many ingress pods their nodes become rows."""

MORE_NODES = Key("More", "", "nodes")
"""Stands for the row of nodes that are folded away."""
MORE_SERVICES = Key("More", "", "services")
"""Stands for the row of Services that are folded away."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The columns of a drawing that is `width` cells wide."""

    width: int

    @property
    def left_edge(self) -> int:
        """The left boxes' left edge."""
        return 1

    @property
    def trunk(self) -> int:
        return 4

    @property
    def text(self) -> int:
        """Where words in the left boxes begin."""
        return 7

    @property
    def left_right(self) -> int:
        """The left boxes' right edge."""
        return 38 + (self.width - 77) // 2

    @property
    def collector(self) -> int:
        """The wire that gathers what the ingress pods send."""
        return self.left_right - 2

    @property
    def bus(self) -> int:
        """The wire that hands a Service's connections to its pods."""
        return self.left_right + 2

    @property
    def box(self) -> int:
        """The right boxes' left edge."""
        return self.left_right + 5

    @property
    def box_width(self) -> int:
        return self.width - 1 - self.box

    @property
    def box_text(self) -> int:
        """Column of a pod's glyph."""
        return self.box + 3

    @property
    def box_end(self) -> int:
        """Column behind the last figure of the right boxes."""
        return self.width - 3


@dataclass(frozen=True, slots=True)
class Density:
    """How many rows a pod takes."""

    rows: int
    pitch: int
    lead: int
    """Empty rows under a node's title."""

    def height(self, slots: int) -> int:
        """Rows of a node box, edges included."""
        return 2 + self.lead + max(1, slots) * self.pitch - (self.pitch - self.rows)


DENSITIES = (Density(3, 4, 1), Density(3, 3, 0), Density(2, 2, 0), Density(1, 1, 0))


@dataclass(slots=True)
class LeftPlan:
    """Rows of the left column; -1 where a thing is missing."""

    client: int = -1
    dns: int = -1
    lb: int = -1
    targets: int = -1
    entry: int = -1
    entry_rows: int = 0
    node: int = -1
    dnat: int = -1
    pods: int = -1
    pod_rows: int = 3
    pod_count: int = 0
    """Rows of pods or, folded, of nodes."""
    pods_folded: bool = False
    route: int = -1
    join: int = -1
    """Row in which the collector returns to the trunk."""
    services: list[tuple[int, Band | None]] = field(default_factory=list)
    """(row, Service band); None is the row of those folded away."""
    service_rows: int = 3
    bottom: int = 0
    uncalled: int = -1
    height: int = 0


@dataclass(slots=True)
class BoxPlan:
    """One box of the right column: a node with its slots."""

    node: str
    y: int
    height: int
    slots: list[Candidate | None]


@dataclass(slots=True)
class RightPlan:
    """Rows of the right column: boxes, or one box of strips."""

    boxes: list[BoxPlan] = field(default_factory=list)
    flat: bool = False
    """One box holds the pods of all nodes, a row or two each, because boxes for all nodes would not fit."""
    density: Density = DENSITIES[0]
    strips: list[tuple[int, str, list[Candidate]]] = field(default_factory=list)
    """(row, node, its pods) where pods are grouped by node."""
    strip_gauges: bool = True
    unfolded: list[tuple[int, Candidate]] = field(default_factory=list)
    """(row, pod) of nodes that were unfolded."""
    more: tuple[int, list[str], list[Candidate]] | None = None
    """(row, nodes, their pods) that are folded away."""
    top: int = 0
    bottom: int = 0
    out_row: int = -1
    """Row of the words above the first box, for a target that gets nothing."""
    out_box: int = -1
    """First row of the box of targets that get nothing."""
    height: int = 0


def entry_nodes(path: Path) -> list[Candidate]:
    """Nodes at which traffic enters."""
    if path.lb is None:
        return []
    return [node for node in path.lb.candidates if node.expected or (node.rate_rps > 0)]


def idle_targets(path: Path) -> list[Candidate]:
    """The load balancer's targets that get nothing."""
    if path.lb is None:
        return []
    return [node for node in path.lb.candidates if not node.expected and node.rate_rps <= 0]


def box_nodes(path: Path) -> list[str]:
    """Nodes that the lower left box stands for: where the calls are made."""
    hosts = [pod.node for pod in path.ingress.candidates if pod.node] if path.ingress is not None else []
    return list(dict.fromkeys([*hosts, *(path.caller_nodes if not hosts else ())]))


def entry_apart(path: Path) -> list[Candidate]:
    """Entry nodes drawn in a box of their own: where traffic enters at nodes that do not make the next choice."""
    inside = set(box_nodes(path))
    entries = entry_nodes(path)
    return entries if path.ingress is not None and any(one.name not in inside for one in entries) else []


LEVELS = (
    (3, 3, 6, False),
    (2, 3, 6, False),
    (1, 3, 6, False),
    (1, 3, 5, True),
    (1, 2, 5, True),
    (1, 2, 3, True),
)
"""(rows of an ingress pod, rows of the selected Service, Services shown, without air), roomiest first."""


def plan_left(path: Path, snapshot: Snapshot, height: int, open_services: bool = False) -> LeftPlan:
    """Stack the left column, as roomy as `height` rows allow."""
    plan = LeftPlan()
    for pod_rows, service_rows, siblings, tight in LEVELS:
        plan = _stack(path, snapshot, pod_rows, service_rows, 10_000 if open_services else siblings, tight)
        if plan.height <= height:
            break
    return plan


def _stack(path: Path, snapshot: Snapshot, pod_rows: int, service_rows: int, siblings: int, tight: bool) -> LeftPlan:
    plan = LeftPlan(pod_rows=pod_rows, service_rows=service_rows)
    y = 0
    if path.client is not None:
        plan.client, y = 0, 2
        if path.dns is not None:
            plan.dns = y
        y += 1
    if path.lb is not None:
        plan.lb, plan.targets, y = y, y + 3, y + 4
    apart = entry_apart(path)
    if apart:
        plan.entry_rows = len(apart) if len(apart) <= 2 else 1
        plan.dnat = y + 1 + plan.entry_rows
        plan.entry, y = y, y + plan.entry_rows + (3 if tight else 4)
    if path.service is not None or path.ingress is not None:
        plan.node, y = y, y + 1
        if plan.dnat < 0 and (path.ingress is not None or path.lb is not None):
            plan.dnat, y = y, y + 1
        if path.ingress is not None:
            count = len(path.ingress.candidates)
            if count > MANY_INGRESS:
                plan.pods_folded, plan.pod_rows = True, 1
                count = min(4, len(box_nodes(path)))
            plan.pods, plan.pod_count, y = y, count, y + count * plan.pod_rows
            if path.dead_end is not None:
                plan.route, y = y, y + 2
            elif any(route is not None for route, _ in path.services):
                plan.route, y = y, y + 1
            if path.services:
                plan.join, y = y, y + 1
        y = _stack_services(plan, path, y, siblings)
        plan.bottom, y = y, y + 1
    if snapshot.uncalled:
        plan.uncalled, y = y, y + 1
    plan.height = y
    return plan


def _stack_services(plan: LeftPlan, path: Path, y: int, siblings: int) -> int:
    """One row for each Service, several for the selected one; too many are folded into one row."""
    bands = [band for _, band in path.services]
    folded = len(bands) > siblings
    if folded:
        at = next((i for i, band in enumerate(bands) if band is path.service), 0)
        first = min(max(0, at - siblings + 2), max(0, len(bands) - siblings + 1))
        bands = bands[first : first + siblings - 1]
    for band in bands:
        plan.services.append((y, band))
        y += plan.service_rows if band is path.service else 1
    if folded:
        plan.services.append((y, None))
        y += 1
    return y


def plan_right(
    path: Path,
    pods: Mapping[str, list[Candidate | None]],
    order: Iterable[str],
    left: LeftPlan,
    height: int,
    unfolded: frozenset[str],
    all_nodes: bool,
) -> RightPlan:
    """Stack the right column beside the left one, as roomy as the rows allow.

    Args:
        path: What is drawn.
        pods: Slots by node.
        order: Nodes in the order of their rows, where pods are grouped.
        left: The left column.
        height: Rows of the pane.
        unfolded: Nodes whose pods are shown one by one.
        all_nodes: Show the nodes that are folded away, too.
    """
    plan = RightPlan()
    idle = idle_targets(path)
    shown = [node for node in pods if any(pods[node])]
    top = max(0, left.entry if left.entry >= 0 else left.node)
    if idle and left.lb >= 0:
        if len(idle) == 1 and shown and idle[0].name == shown[0]:
            plan.out_row = top - 1
        else:
            plan.out_box = left.lb
            rest = [one for one in idle if one.name not in shown]
            if shown and len(rest) == 1 and len(idle) == 2 and any(one.name == shown[0] for one in idle):
                plan.out_row = top - 1
    limit = max(height, left.bottom + 1)
    count = sum(one is not None for slots in pods.values() for one in slots)
    tops = (top,) if plan.out_box >= 0 or plan.out_row >= 0 else (top, 0)
    if count <= MANY_PODS:
        for density in DENSITIES:
            for start in tops:
                heights = [density.height(len(pods[node])) for node in shown]
                if sum(heights) <= limit - start:
                    return _stack_boxes(plan, pods, shown, density, start, left, heights)
        everyone = [one for node in shown for one in pods[node]]
        for density in DENSITIES[2:]:
            if shown and density.height(len(everyone)) <= limit - top:
                plan.flat = True
                return _stack_boxes(plan, {"": everyone}, [""], density, top, left, [density.height(len(everyone))])
    plan.top = top
    _stack_strips(plan, pods, list(order), top, left.bottom, limit - 1, unfolded, all_nodes)
    return plan


def _stack_boxes(
    plan: RightPlan,
    pods: Mapping[str, list[Candidate | None]],
    shown: list[str],
    density: Density,
    y: int,
    left: LeftPlan,
    heights: list[int],
) -> RightPlan:
    plan.density, plan.top = density, y
    for node, height in zip(shown, heights, strict=True):
        plan.boxes.append(BoxPlan(node, y, height, pods[node]))
        y += height
    if len(plan.boxes) == 1 and y <= left.bottom:
        plan.boxes[0].height = left.bottom + 1 - plan.boxes[0].y
        y = left.bottom + 1
    plan.bottom, plan.height = y - 1, y
    return plan


def _stack_strips(
    plan: RightPlan,
    pods: Mapping[str, list[Candidate | None]],
    order: list[str],
    top: int,
    left_bottom: int,
    bottom: int,
    unfolded: frozenset[str],
    all_nodes: bool,
) -> None:
    """One row for each node under a head row; what does not fit is one row with a sum."""
    y = top + 2
    room = max(1, max(bottom, left_bottom) - y)
    extra = sum(1 for node in unfolded if node in order for one in pods[node] if one is not None)
    pitch = 2 if len(order) * 2 + extra <= room or (room >= 10 and not all_nodes) else 1
    plan.strip_gauges = pitch == 2
    fits = max(2, (room - extra) // pitch)
    shown = order if all_nodes or len(order) <= fits else order[: fits - 1]
    for node in shown:
        members = [one for one in pods[node] if one is not None]
        plan.strips.append((y, node, members))
        y += 1
        if node in unfolded:
            for one in members:
                plan.unfolded.append((y, one))
                y += 1
        elif pitch == 2:
            y += 1
    rest = order[len(shown) :]
    if rest:
        plan.more = (y, rest, [one for node in rest for one in pods[node] if one is not None])
        y += 1
    plan.bottom = max(y, left_bottom)
    plan.height = plan.bottom + 1
