"""The rules in the caller's box: a Service is a label held in a wire; and the lit way through the left column."""

from kflab.lab.snapshot import Band, Candidate
from kflab.manifest.objects import Key
from kflab.records import dataclass
from kflab.tui import text
from kflab.tui.schematic_draw import BOLD, DIM, LATE, LOST, SPINE, STRONG, TEXT, Circuit
from kflab.tui.schematic_layout import MORE_SERVICES, box_nodes
from kflab.tui.schematic_path import chooser_word, emptiness, is_upstream, service_address, service_label


@dataclass(slots=True)
class ServiceRules:
    """Services behind one chooser, the selected one unfolded."""

    circuit: Circuit

    def draw(self) -> None:
        self._services()
        self._light()

    def _services(self) -> None:
        c, plan, frame = self.circuit, self.circuit.left, self.circuit.frame
        rows = [(y, band) for y, band in plan.services]
        flows = [band.rate_rps if band is not None else self._folded_rate() for _, band in rows]
        if rows and plan.join < 0 and plan.dnat >= 0:
            c.wire("services", sum(flows), (frame.trunk, plan.dnat), (frame.trunk, rows[0][0]))
        elif rows and plan.join < 0:
            c.wire("services", sum(flows), (frame.trunk, plan.node), (frame.trunk, rows[0][0]))
        for at, (y, band) in enumerate(rows):
            if at + 1 < len(rows):
                c.wire(f"services/{at}", sum(flows[at + 1 :]), (frame.trunk, y), (frame.trunk, rows[at + 1][0]))
            self._service(y, band, flows[at])

    def _folded_rate(self) -> float:
        plan, path = self.circuit.left, self.circuit.path
        shown = {band.id for _, band in plan.services if band is not None}
        return sum(band.rate_rps for _, band in path.services if band.id not in shown)

    def _service(self, y: int, band: Band | None, rate: float) -> None:
        c, frame, canvas = self.circuit, self.circuit.frame, self.circuit.canvas
        edge = frame.left_right - 1
        name = f"service/{band.id}" if band is not None else "services/more"
        c.wire(name, rate, (frame.trunk, y), (frame.trunk + 1, y))
        opening, closing = ("[", "]") if canvas.ascii else ("┫", "┣")
        if band is None:
            hidden = len(c.path.services) - sum(one is not None for _, one in c.left.services)
            said = f"{c.glyphs.more_down} {hidden} more"
            canvas.text(frame.text, y, f"{said} Services" if frame.width >= 70 else said, DIM)
            c.figure(edge, y, rate)
            c.hit(MORE_SERVICES, frame.text - 1, y, edge - frame.text + 1, 1)
            return
        mine = band is c.path.service
        tone = c.flow if rate > 0 else SPINE
        kind = "upstream" if is_upstream(band) else "Service"
        label = service_label(band)
        room = frame.left_right - frame.text - 3
        said = f"{kind} {label}"
        if not mine:
            said = text.shorten(label, room - 9, c.glyphs.ellipsis)
        elif len(said) > room:
            said = label if len(label) <= room else text.shorten(label, room, c.glyphs.ellipsis)
        canvas.text(frame.trunk + 1, y, opening, tone)
        ready = sum(one.listed and one.state in ("ready", "healthy") for one in band.candidates)
        listed = [one for one in band.candidates if one.listed]
        end = canvas.text(frame.text, y, said, c.name_ink(band.key, BOLD if mine else TEXT) if band.key else BOLD)
        canvas.text(end, y, " ", DIM)
        canvas.text(end + 1, y, closing, tone)
        c.hit(band.key, frame.trunk + 2, y, edge - frame.trunk - 1, c.left.service_rows if mine else 1)
        if not mine:
            if end + 3 + len(f"{ready} ready") < edge - 7:
                end = canvas.text(end + 3, y, f"{ready} ready", DIM if ready else LOST)
            elif not ready:
                end = canvas.text(end + 3, y, c.glyphs.crashed, LOST)
            bad = sum(one.failing for one in band.candidates)
            if bad and end + 4 < edge - 7:
                canvas.text(end, y, f" {c.glyphs.crashed}{bad}", LOST)
            c.figure(edge, y, rate)
            return
        if band.candidates:
            c.wire(name, rate, (end + 1, y), (frame.bus, y))
        self._rule(y, band, listed)

    def _rule(self, y: int, band: Band, listed: list[Candidate]) -> None:
        """The rows under the selected Service: what the rule does, its rate, how it chooses, how often callers try."""
        c, frame, canvas = self.circuit, self.circuit.frame, self.circuit.canvas
        edge = frame.left_right - 1
        upstream = is_upstream(band)
        address = service_address(band)
        figure_at = edge - len(text.rate(band.rate_rps))
        room = figure_at - frame.text - 1
        if upstream:
            canvas.text(frame.text, y + 1, "straight to pods" if room > 15 else "no NAT", DIM)
        else:
            end = frame.text if len(address) + 5 > room else canvas.text(frame.text, y + 1, "DNAT ", DIM)
            canvas.text(end, y + 1, address, TEXT)
        if upstream or len(address) <= room:
            c.figure(edge, y + 1, band.rate_rps)
        stale = [one for one in listed if one.state not in ("ready", "healthy")]
        count = len(listed)
        if not count:
            said, tone = f"{c.glyphs.crashed} {emptiness(band)}", LOST
        elif stale:
            said, tone = f"{c.glyphs.stale} still 1 of {count}", LATE
        elif count == 1:
            said, tone = "only choice", DIM
        else:
            said, tone = f"{chooser_word(band)}, 1 of {count}", DIM
        if c.left.service_rows < 3:
            return
        end = canvas.text(frame.text, y + 2, said, tone)
        tries = f"{band.tries_per_request:.2f}"
        if end + len(tries) + 7 <= edge:
            canvas.right(edge, y + 2, " tries", DIM)
            canvas.right(edge - 6, y + 2, tries, STRONG if band.tries_per_request >= 1.005 else DIM)

    def _light(self) -> None:
        """Draw the way of the chosen request over everything, with its hop numbers."""
        c, plan, frame, way = self.circuit, self.circuit.left, self.circuit.frame, self.circuit.way
        if way is None:
            return
        x = frame.trunk
        first = plan.client + 1 if plan.client >= 0 else plan.lb
        if plan.lb >= 0:
            c.lit((x, first), (x, plan.lb))
            if way.lb or way.entry or way.reached_service:
                c.lit((x, plan.lb + 2), (x, plan.entry if plan.entry >= 0 else plan.node))
        if plan.entry >= 0 and (way.entry or way.reached_service):
            c.lit((x, plan.entry), (x, plan.node))
        if plan.lb < 0 and plan.node >= 0:
            c.lit((x, first), (x, plan.node))
        pod_row = self._pod_row(way.ingress)
        if pod_row >= 0:
            c.lit((x, plan.node), (x, pod_row), (x + 1, pod_row))
            c.canvas.text(x + 2, pod_row, ">" if c.canvas.ascii else "▶", BOLD)
        service_row = next((y for y, band in plan.services if band is c.path.service), -1)
        if way.reached_service and service_row >= 0:
            if pod_row >= 0 and plan.join >= 0:
                corner = frame.collector
                c.lit((corner - 1, pod_row), (corner, pod_row), (corner, plan.join), (x, plan.join), (x, service_row))
            else:
                c.lit((x, plan.node), (x, service_row))
            c.lit((x, service_row), (x + 1, service_row))
            c.canvas.text(x + 1, service_row, "[" if c.canvas.ascii else "┫", BOLD)
        c.bead(x, plan.dns if plan.dns >= 0 else plan.client + 1 + (plan.lb > plan.client + 2), way.start)
        if plan.targets >= 0:
            c.bead(x, plan.targets, way.lb)
        c.bead(x, plan.dnat if plan.dnat >= 0 else plan.node, way.entry)
        if way.route:
            words = len(" ".join(str(number) for number in way.route)) + 2
            row = plan.route if plan.route >= 0 else plan.join
            if row >= 0:
                c.bead(frame.collector + 3 - words, row, way.route)

    def _pod_row(self, key: Key | None) -> int:
        """Row of the ingress pod that the request reached."""
        plan, band = self.circuit.left, self.circuit.path.ingress
        if key is None or band is None or plan.pods < 0:
            return -1
        for at, pod in enumerate(band.candidates):
            if pod.key == key:
                if not plan.pods_folded:
                    return plan.pods + at * plan.pod_rows
                names = box_nodes(self.circuit.path)
                return plan.pods + min(names.index(pod.node), plan.pod_count - 1) if pod.node in names else -1
        return -1
