"""The right column: the nodes that hold endpoints, the bus that reaches them, and targets that get nothing."""

from kflab.lab.snapshot import Candidate
from kflab.manifest.objects import Key
from kflab.records import dataclass
from kflab.tui import text
from kflab.tui.glyphs import of_state, state_token
from kflab.tui.schematic_draw import BOLD, DIM, FAINT, LOST, LOST_BOLD, SPINE, STRONG, TEXT, Circuit
from kflab.tui.schematic_layout import MORE_NODES, BoxPlan, box_nodes, idle_targets
from kflab.tui.wires import Weight, ink

LEGEND_FROM = 77
"""Columns from which the legend is not cut."""


@dataclass(slots=True)
class RightColumn:
    """The nodes that hold endpoints, and the load balancer's targets that get nothing."""

    circuit: Circuit

    def draw(self) -> None:
        self._idle()
        plan = self.circuit.right
        taps: list[tuple[int, Candidate | None, float, bool]] = []
        if plan.boxes:
            for box in plan.boxes:
                taps.extend(self._box(box))
        elif plan.strips:
            taps = self._strips()
        self._bus(taps)

    def _idle(self) -> None:
        """Targets the load balancer does not use, dotted, with the reason."""
        c, plan, frame = self.circuit, self.circuit.right, self.circuit.frame
        if c.legend and plan.out_box < 0 and c.frame.width >= LEGEND_FROM and plan.top >= c.left.lb + 3 > 2:
            self._legend(c.left.lb)
        if plan.out_box < 0 and plan.out_row < 0:
            return
        canvas, idle = c.canvas, idle_targets(c.path)
        reason = next((one.note for one in idle if one.note), idle[0].state)
        said = f"{c.glyphs.pending} out: {reason}"
        y = c.left.lb + 1
        edge = frame.box + frame.box_width - 1
        boxed = [one for one in idle if plan.out_row < 0 or not plan.boxes or one.name != plan.boxes[0].node]
        if plan.out_box >= 0 and boxed:
            canvas.box(frame.box, plan.out_box, frame.box_width, 3, SPINE)
            canvas.wire([(frame.left_right, y), (frame.box, y)], Weight.DOTTED, SPINE)
            if len(boxed) == 1:
                state, tone = c.rules_words(c.nodes.get(boxed[0].name), 12)
                c.title(frame.box + 4, plan.out_box, edge, boxed[0].name, boxed[0].address, state, tone)
                c.hit(boxed[0].key, frame.box + 1, plan.out_box, frame.box_width - 2, 3)
            else:
                more = f"{boxed[0].name} {c.glyphs.ellipsis} {boxed[-1].name}"
                c.title(frame.box + 4, plan.out_box, edge, f"{len(boxed)} nodes", more, "", DIM)
            canvas.text(frame.box_text, y, said, DIM, edge - frame.box_text)
        if plan.out_row >= 0:
            row = plan.out_row
            canvas.wire(
                [
                    (frame.left_right, y),
                    (frame.bus, y),
                    (frame.bus, row),
                    (frame.box + 1, row),
                    (frame.box + 1, row + 1),
                ],
                Weight.DOTTED,
                SPINE,
            )
            canvas.text(frame.box_text, row, said, DIM, edge - frame.box_text)

    def _legend(self, y: int) -> None:
        """What weights and ends of wires mean, where there is room."""
        c = self.circuit
        signs = "= - . X" if c.canvas.ascii else "━ ─ ┄ ╳"
        heavy, light, dotted, broken = signs.split()
        x = c.frame.box_text
        for row, words in enumerate(
            (
                f"{heavy} 40 % of the requests or more",
                f"{light} fewer   {dotted} allowed, unused",
                f"{broken} refused   ? no answer",
            )
        ):
            c.canvas.text(x, y + row, words, FAINT, c.frame.width - x)

    def _box(self, box: BoxPlan) -> list[tuple[int, Candidate | None, float, bool]]:
        c, plan, frame = self.circuit, self.circuit.right, self.circuit.frame
        edge = frame.box + frame.box_width - 1
        c.canvas.box(frame.box, box.y, frame.box_width, box.height, SPINE)
        if plan.out_row == box.y - 1:
            c.canvas.wire([(frame.box + 1, box.y - 1), (frame.box + 1, box.y)], Weight.DOTTED, SPINE)
        node = c.nodes.get(box.node)
        more = node.address if node is not None else ""
        state, tone = c.rules_words(node, frame.box_width - len(box.node) - len(more) - 13)
        if box.node in box_nodes(c.path):
            more = (
                f"{more} (also left)"
                if len(f"{box.node} {more} (also left) {state}") < frame.box_width - 8
                else "(also left)"
            )
        title = box.node or "no node yet"
        if plan.flat:
            members = [pod for pod in box.slots if pod is not None]
            ready = sum(pod.state in ("ready", "healthy") for pod in members)
            title, more = f"{len(members)} pods", f"{ready} ready, {len({pod.node for pod in members})} nodes"
            state, tone = "", DIM
        c.title(frame.box + 4, box.y, edge, title, more, state, tone)
        if node is not None:
            c.hit(node.key, frame.box + 1, box.y, frame.box_width - 2, 1)
        taps: list[tuple[int, Candidate | None, float, bool]] = []
        for at, pod in enumerate(box.slots):
            if pod is None:
                continue
            y = box.y + 1 + plan.density.lead + at * plan.density.pitch
            how = c.trouble_word(pod)
            c.pod(pod.key, frame.box_text, y, frame.box_end, plan.density.rows, pod, how, pod.node if plan.flat else "")
            c.hit(pod.key, frame.box + 1, y, frame.box_width - 2, plan.density.rows)
            if pod.listed or (pod.rate_rps > 0 and not pod.failing):
                taps.append((y, pod, pod.rate_rps, bool(how)))
        return taps

    def _strips(self) -> list[tuple[int, Candidate | None, float, bool]]:
        """Nodes as rows: state glyphs, rate, gauge."""
        c, plan, frame, canvas = self.circuit, self.circuit.right, self.circuit.frame, self.circuit.canvas
        edge = frame.box + frame.box_width - 1
        canvas.box(frame.box, plan.top, frame.box_width, plan.bottom - plan.top + 1, SPINE)
        everyone = [one for _, _, members in plan.strips for one in members] + (plan.more[2] if plan.more else [])
        ready = sum(one.state in ("ready", "healthy") for one in everyone)
        counts: dict[str, int] = {}
        for one in everyone:
            if one.state not in ("ready", "healthy"):
                counts[one.state] = counts.get(one.state, 0) + 1
        c.title(frame.box + 4, plan.top, edge - 5 * len(counts), f"{len(everyone)} pods", f"{ready} ready", "", DIM)
        x = edge - 1
        for state, count in reversed(counts.items()):
            said = f" {of_state(c.glyphs, state)} {count}"
            x = canvas.right(x, plan.top, said + (" " if x == edge - 1 else ""), ink(state_token(state)))
        names = [node for _, node, _ in plan.strips]
        name_room = min(max([4, *(len(name) for name in names)]), max(6, frame.box_width // 3))
        strip_at, strip_end = frame.box_text + name_room + 1, frame.box_end - 8
        canvas.text(frame.box_text, plan.top + 1, "node", FAINT)
        canvas.text(strip_at, plan.top + 1, "pods", FAINT)
        canvas.right(frame.box_end, plan.top + 1, "to node", FAINT)
        taps: list[tuple[int, Candidate | None, float, bool]] = []
        for y, node, members in plan.strips:
            rate = sum(one.rate_rps for one in members)
            listed = [one for one in members if one.listed]
            broken = bool(listed) and all(one.failing for one in listed)
            row = c.nodes.get(node)
            key = row.key if row is not None else Key("Node", "", node)
            matching = c.matches(key) or any(c.matches(one.key) for one in members)
            canvas.text(
                frame.box_text,
                y,
                text.shorten(node or "no node", name_room, c.glyphs.ellipsis),
                TEXT if matching else FAINT,
            )
            c.hit(key, frame.box_text - 1, y, name_room + 1, 1)
            c.strip(strip_at, y, members, strip_end)
            c.figure(frame.box_end, y, rate, LOST_BOLD if any(one.failing for one in members) else STRONG)
            expected = sum(one.expected or 0.0 for one in members)
            total = sum(one.rate_rps for one in everyone)
            if plan.strip_gauges and not any(at == y + 1 for at, _ in plan.unfolded):
                room = min(len(members) + 1, strip_end - strip_at) * 8 // 5
                c.gauge(strip_at, y + 1, frame.box_end, rate / total if total else None, expected, room=room)
            if listed:
                taps.append((y, None, rate, broken))
        for y, pod in plan.unfolded:
            c.pod(pod.key, frame.box_text + 1, y, frame.box_end, 1, pod, c.trouble_word(pod))
            c.hit(pod.key, frame.box + 1, y, frame.box_width - 2, 1)
        chosen = next((one for one in everyone if one.key == c.selected), None)
        if chosen is not None:
            said = f" {text.shorten(chosen.name, frame.box_width - 16, c.glyphs.ellipsis)} {chosen.state} "
            canvas.text(frame.box + 4, plan.bottom, said, BOLD)
        if plan.more is not None:
            y, hidden, members = plan.more
            rate = sum(one.rate_rps for one in members)
            said = f"{c.glyphs.more_down} {len(hidden)} more node{'s' if len(hidden) != 1 else ''}, {len(members)}"
            if frame.box_text + len(said) + 9 > frame.box_end:
                said = said.partition(" node")[0]
            canvas.text(frame.box_text, y, said, DIM)
            c.figure(frame.box_end, y, rate)
            c.hit(MORE_NODES, frame.box_text - 1, y, frame.box_end - frame.box_text + 1, 1)
            taps.append((y, None, rate, False))
        return taps

    def _bus(self, taps: list[tuple[int, Candidate | None, float, bool]]) -> None:
        """The vertical wire from the Service's row to every endpoint, and a tap to each."""
        c, frame, canvas = self.circuit, self.circuit.frame, self.circuit.canvas
        start = next((y for y, band in c.left.services if band is not None and band is c.path.service), -1)
        if start < 0:
            return
        x = frame.bus
        for downwards in (False, True):
            side = sorted(
                (tap for tap in taps if tap[0] != start and (tap[0] > start) == downwards),
                key=lambda tap: tap[0],
                reverse=not downwards,
            )
            at = start
            for number, (y, _, _, _) in enumerate(side):
                carried = sum(rate for _, _, rate, _ in side[number:])
                c.wire(f"bus/{downwards}/{number}", carried, (x, at), (x, y))
                at = y
        for y, pod, rate, broken in taps:
            name = f"tap/{pod.name if pod is not None else y}"
            if not broken:
                c.wire(name, rate, (x, y), (frame.box, y))
                c.wire(name, rate, (frame.box, y), (frame.box + 1, y))
                canvas.text(frame.box + 1, y, ">" if canvas.ascii else "▶", c.flow if rate else SPINE)
            elif pod is not None and c.trouble_word(pod) == "no answer":
                canvas.wire([(x, y), (x + 2, y)], Weight.DOTTED, LOST)
                canvas.text(x + 2, y, "?", LOST_BOLD)
            else:
                canvas.wire([(x, y), (x + 1, y)], max(Weight.LIGHT, c.weight(name, rate)), LOST)
                canvas.text(x + 2, y, "X" if canvas.ascii else "╳", LOST_BOLD)
        self._light(start)

    def _light(self, start: int) -> None:
        c, frame, canvas, way = self.circuit, self.circuit.frame, self.circuit.canvas, self.circuit.way
        if way is None or not way.pods:
            return
        service_end = self._service_end(start)
        c.lit((service_end, start), (frame.bus, start))
        canvas.text(service_end, start, "]" if canvas.ascii else "┣", BOLD)
        for key, numbers, answered in way.pods:
            y = self._row_of(key)
            if y < 0:
                continue
            c.lit((frame.bus, start), (frame.bus, y))
            if answered:
                c.lit((frame.bus, y), (frame.box + 1, y))
                canvas.text(frame.box + 1, y, ">" if canvas.ascii else "▶", BOLD)
            else:
                c.lit((frame.bus, y), (frame.bus + 1, y))
                canvas.text(frame.bus + 2, y, "X" if canvas.ascii else "╳", LOST_BOLD)
            c.bead(frame.bus, y, numbers)

    def _service_end(self, start: int) -> int:
        for x in range(self.circuit.frame.bus - 1, 0, -1):
            if self.circuit.canvas.holds_text(x, start):
                return x
        return self.circuit.frame.collector

    def _row_of(self, key: Key) -> int:
        """Row of the tap to a pod: its own, its node's, or that of the nodes folded away."""
        plan = self.circuit.right
        for box in plan.boxes:
            for at, pod in enumerate(box.slots):
                if pod is not None and pod.key == key:
                    return box.y + 1 + plan.density.lead + at * plan.density.pitch
        for y, pod in plan.unfolded:
            if pod.key == key:
                return y
        for y, _, members in plan.strips:
            if any(one.key == key for one in members):
                return y
        return plan.more[0] if plan.more is not None else -1
