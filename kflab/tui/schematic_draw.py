"""Draws one path as a circuit: a box is something that runs, a label held in a wire is a rule, a wire is traffic."""

from dataclasses import dataclass, field

from kflab.lab.snapshot import Band, Candidate, NodeRow, Snapshot
from kflab.manifest.objects import Key
from kflab.tui import text
from kflab.tui.canvas_view import Hit
from kflab.tui.glyphs import ASCII, Glyphs, of_state, state_token
from kflab.tui.schematic_layout import (
    MORE_NODES,
    MORE_SERVICES,
    BoxPlan,
    Frame,
    LeftPlan,
    RightPlan,
    Weights,
    box_nodes,
    entry_apart,
    entry_nodes,
    idle_targets,
)
from kflab.tui.schematic_path import (
    Path,
    Way,
    black_hole,
    chooser_word,
    is_upstream,
    parts,
    service_address,
    service_label,
)
from kflab.tui.wires import Canvas, Weight, ink

TEXT, STRONG, DIM, FAINT = ink("text"), ink("strong"), ink("dim"), ink("faint")
BOLD = ink("strong", bold=True)
SPINE, FLOW, BACK, LOST, LATE = ink("spine"), ink("traffic"), ink("wave"), ink("lost"), ink("late")
LOST_BOLD = ink("lost", bold=True)
BEAD = ink("strong", bold=True, reverse=True)


@dataclass(slots=True)
class Circuit:
    """One drawing in the making."""

    snapshot: Snapshot
    path: Path
    frame: Frame
    left: LeftPlan
    right: RightPlan
    weights: Weights
    glyphs: Glyphs
    way: Way | None = None
    wanted: str = ""
    """Text that names must hold; what does not match steps back."""
    hits: list[Hit] = field(default_factory=list)
    canvas: Canvas = field(init=False)
    nodes: dict[str, NodeRow] = field(init=False)

    def __post_init__(self) -> None:
        height = max(self.left.height, self.right.height)
        self.canvas = Canvas(self.frame.width, height, ascii=self.glyphs is ASCII)
        self.nodes = {row.key.name: row for row in self.snapshot.nodes}

    # --- small things ------------------------------------------------------------------------------------------

    @property
    def flow(self) -> int:
        """Ink of ordinary traffic; it steps back while a request is lit."""
        return FLOW if self.way is None else BACK

    def weight(self, wire: str, rate: float) -> Weight:
        weight = self.weights.of(
            f"{self.path.service.id if self.path.service else ''}/{wire}", rate, self.path.entry_rps, self.snapshot.t_ns
        )
        return min(weight, Weight.LIGHT) if self.way is not None else weight

    def wire(self, name: str, rate: float, *points: tuple[int, int]) -> None:
        """Draw traffic: weight by rate, dotted where nothing flows."""
        weight = self.weight(name, rate)
        self.canvas.wire(points, weight, self.flow if weight is not Weight.DOTTED else SPINE)

    def lit(self, *points: tuple[int, int]) -> None:
        """Draw a piece of the chosen request's way."""
        self.canvas.wire(points, Weight.HEAVY, BOLD)

    def bead(self, x: int, y: int, numbers: tuple[int, ...]) -> int:
        """Set hop numbers on a wire at its column `x`; returns the column after them."""
        if not numbers:
            return x
        words = f" {' '.join(str(number) for number in numbers)} "
        return self.canvas.text(max(0, x - 1), y, words, BEAD)

    def hit(self, key: Key | None, x: int, y: int, width: int, height: int) -> None:
        if key is not None:
            self.hits.append(Hit(key, x, y, width, height))

    def matches(self, key: Key) -> bool:
        return not self.wanted or self.wanted in key.name or self.wanted in f"{key.kind.lower()}/{key.name}"

    def name_ink(self, key: Key, colour: int) -> int:
        return colour if self.matches(key) else FAINT

    def title(self, x: int, y: int, edge: int, name: str, more: str, right: str, right_ink: int) -> None:
        """Write into a box's upper edge: what it is, of what, and at the right its state."""
        canvas = self.canvas
        right_room = len(right) + 2 if right else 0
        name = text.shorten(name, max(4, edge - x - right_room - 3), self.glyphs.ellipsis)
        end = canvas.text(x - 1, y, f" {name}", BOLD)
        if more and end + 1 + len(more) + 1 + right_room <= edge:
            end = canvas.text(end, y, f" {more}", DIM)
        canvas.text(end, y, " ", DIM)
        if right:
            canvas.right(edge, y, f" {right} ", right_ink)

    def rules_words(self, node: NodeRow | None, room: int) -> tuple[str, int]:
        """What a node's rules are made of, as its box edge says it."""
        if node is None:
            return "", DIM
        if node.ready != "True":
            return f"{self.glyphs.crashed} not ready", LOST
        sign = self.glyphs.stale
        if not node.proxy_running:
            long, short = f"{sign} kube-proxy stopped", f"{sign} stopped"
        elif not node.rules_in_step:
            long, short = f"{sign} {node.rules}, stale", f"{sign} stale"
        else:
            return node.rules, DIM
        return (long if len(long) <= room else short), LATE

    def rate_text(self, rate: float) -> str:
        return text.rate(rate)

    def draw(self) -> Canvas:
        """Draw everything, boxes first, so that wires cross their edges visibly."""
        LeftColumn(self).draw()
        RightColumn(self).draw()
        return self.canvas

    def pod(
        self, key: Key, x: int, y: int, edge: int, rows: int, pod: Candidate, how: str = "", where: str = ""
    ) -> None:
        """Draw a pod in one to three rows: glyph, name, rate; word, address, share; gauge or what is wrong.

        Args:
            key: The pod.
            x: Column of its glyph.
            y: Its first row.
            edge: Column behind its figures.
            rows: How many rows there are.
            pod: What to say.
            how: What became of tries to it: "refused", "no answer" or "".
            where: Node to name besides the address.
        """
        canvas, glyphs = self.canvas, self.glyphs
        good = pod.state in ("ready", "healthy", "running")
        token = "lost" if how else state_token(pod.state)
        tone = ink(token)
        rate = self.rate_text(pod.rate_rps) if pod.listed or pod.rate_rps > 0 else "–"
        rate_at = edge - len(rate)
        name_end = edge - max(7, len(rate))
        canvas.text(x, y, of_state(glyphs, pod.state), self.name_ink(key, tone))
        lit = self.way is not None and (
            self.way.ingress == key or any(reached == key for reached, _, _ in self.way.pods)
        )
        word = "" if good and not how else how if good else pod.state
        name_ink = LOST_BOLD if how else BOLD if lit else TEXT
        if rows == 1:
            room = name_end - x - 3 - (len(word) + 1 if word else 0)
            end = canvas.text(x + 2, y, text.shorten(pod.name, room, glyphs.ellipsis), self.name_ink(key, name_ink))
            if word:
                canvas.text(end + 1, y, word, tone)
        else:
            room = name_end - x - 3
            canvas.text(x + 2, y, text.shorten(pod.name, room, glyphs.ellipsis), self.name_ink(key, name_ink))
        canvas.text(rate_at, y, rate[:-2] if rate.endswith("/s") else rate, LOST_BOLD if how else STRONG)
        if rate.endswith("/s"):
            canvas.text(edge - 2, y, "/s", LOST if how else DIM)
        if rows == 1:
            return
        end = canvas.text(x + 2, y + 1, pod.state, tone if not good else DIM)
        share = text.share(pod.share) if pod.listed else ""
        share_at = edge - len(share)
        if end + 1 + len(pod.address) < share_at:
            end = canvas.text(end + 1, y + 1, pod.address, TEXT if not good else DIM)
        if where and end + 1 + len(where) < share_at:
            canvas.text(end + 1, y + 1, where, DIM)
        canvas.text(share_at, y + 1, share, LOST if how else DIM)
        if rows == 2:
            return
        says = self._trouble(pod, good, how, edge - x - 2)
        if says:
            canvas.text(x + 2, y + 2, says, LOST if how else LATE if not good else DIM)
        else:
            self.gauge(x + 2, y + 2, edge, pod.share, pod.expected, (pod.low, pod.high))

    def _trouble(self, pod: Candidate, good: bool, how: str, room: int) -> str:
        """The third row of a pod that is not simply well."""
        restarts = f"restart {pod.restarts}" if pod.restarts else ""
        if how == "refused":
            long, short = "refused: nothing listens", "refused"
        elif how:
            long, short = "no answer: nobody is there", "no answer"
        elif good and pod.listed:
            return ""
        elif not pod.listed:
            long = "not an endpoint" + (" yet" if pod.state in ("starting", "pending", "not ready") else "")
            short = long
        else:
            long, short = "still an endpoint", "still listed"
        for words in ((long, restarts, pod.note), (short, restarts, pod.note), (long, restarts), (short, restarts)):
            said = ", ".join(word for word in words if word)
            if len(said) <= room:
                return said
        return short

    def gauge(
        self,
        x: int,
        y: int,
        edge: int,
        part: float | None,
        expected: float | None,
        band: tuple[float, float] = (0.0, 1.0),
        room: int = 0,
    ) -> None:
        """Draw a share so that every expected share ends at the same tick."""
        room = room or edge - x
        tick = max(2, room * 5 // 8 if not expected or expected < 0.999 else room - 1)
        if expected:
            cells = round((part or 0.0) / expected * tick)
            outside = part is not None and not band[0] <= part <= band[1]
            bar = "-" if self.canvas.ascii else "▔"
            self.canvas.text(x, y, bar * max(0, min(room, cells)), LATE if outside else BACK)
            self.canvas.text(x + tick, y, "|" if self.canvas.ascii else "╵", DIM)

    def trouble_word(self, pod: Candidate) -> str:
        """What becomes of tries to a pod now."""
        if not pod.failing:
            return ""
        return "no answer" if black_hole(self.snapshot, pod) else "refused"


@dataclass(slots=True)
class LeftColumn:
    """Client, load balancer, the nodes where traffic enters and calls are made."""

    circuit: Circuit

    def draw(self) -> None:
        self._boxes()
        self._trunk()
        self._client()
        self._dns()
        self._load_balancer()
        self._entry()
        self._ingress()
        self._services()
        self._light()

    def _boxes(self) -> None:
        c, plan = self.circuit, self.circuit.left
        x, width = c.frame.left_edge, c.frame.left_right - c.frame.left_edge + 1
        if plan.client >= 0:
            c.canvas.box(x, plan.client, width, 2, SPINE)
        if plan.lb >= 0:
            c.canvas.box(x, plan.lb, width, 3, SPINE)
        if plan.entry >= 0:
            c.canvas.box(x, plan.entry, width, plan.entry_rows + 2, SPINE)
        if plan.node >= 0:
            c.canvas.box(x, plan.node, width, plan.bottom - plan.node + 1, SPINE)

    def _trunk(self) -> None:
        """The wire from the client down to where connections are first handed out."""
        c, plan = self.circuit, self.circuit.left
        x, entry = c.frame.trunk, c.path.entry_rps
        start = plan.client + 1 if plan.client >= 0 else plan.lb + 2
        ends = [y for y in (plan.lb, plan.entry, plan.node) if y > start]
        if not ends:
            return
        if plan.lb >= 0:
            c.wire("trunk", entry, (x, start), (x, plan.lb))
            start = plan.lb + 2
        last = max(plan.dnat, plan.node)
        c.wire("trunk", entry, (x, start), (x, last))

    def _stub(self, y: int, rate: float = 1.0) -> None:
        x = self.circuit.frame.trunk
        if rate:
            self.circuit.canvas.wire([(x, y), (x + 1, y)], Weight.LIGHT, self.circuit.flow)

    def _client(self) -> None:
        c, plan, band = self.circuit, self.circuit.left, self.circuit.path.client
        if band is None or plan.client < 0:
            return
        words = parts(band.detail)
        edge = c.frame.left_right - 1
        rate = c.rate_text(band.rate_rps)
        c.title(c.frame.trunk, plan.client, edge, band.title or "client", words[0] if words else "", rate, STRONG)
        failures = c.snapshot.failures
        if failures.since_event or failures.rate_rps > 0:
            sign = c.glyphs.crashed
            said = f"{sign} {c.rate_text(failures.rate_rps)} failed, {failures.since_event:,} in all"
            if failures.rate_rps <= 0:
                said = f"{failures.since_event:,} failed, now none"
            c.canvas.text(c.frame.text, plan.client + 1, f" {said} ", LOST if failures.rate_rps > 0 else DIM)
        c.hit(band.key, c.frame.left_edge + 1, plan.client, edge - c.frame.left_edge, 2)

    def _dns(self) -> None:
        c, plan, band = self.circuit, self.circuit.left, self.circuit.path.dns
        if band is None or plan.dns < 0:
            return
        self._stub(plan.dns)
        words = parts(band.detail)
        end = c.canvas.text(c.frame.text, plan.dns, "DNS ", DIM)
        end = c.canvas.text(
            end, plan.dns, (words[0] if words else "").replace("→", c.glyphs.arrow), TEXT, c.frame.width - end - 1
        )
        if band.figure and end + len(band.figure) + 3 < c.frame.width:
            c.canvas.text(end, plan.dns, f", {band.figure}", DIM)
        c.hit(band.key, c.frame.text, plan.dns, end - c.frame.text, 1)

    def _load_balancer(self) -> None:
        c, plan, band = self.circuit, self.circuit.left, self.circuit.path.lb
        if band is None:
            return
        edge = c.frame.left_right - 1
        c.title(c.frame.text, plan.lb, edge, band.title or "load balancer", "", "", DIM)
        words = parts(band.detail)
        address = words[0].partition(" ")[0] if words else ""
        end = c.canvas.text(c.frame.text, plan.lb + 1, address, TEXT)
        how = words[-1].partition(",")[0] if len(words) > 1 else ""
        if "flow hash" in band.detail and "hash" not in how:
            how = words[-1]
        c.canvas.text(end + 1, plan.lb + 1, how, DIM, edge - end)
        c.hit(band.key, c.frame.left_edge + 1, plan.lb, edge - c.frame.left_edge, 3)
        self._stub(plan.targets)
        healthy, count = len(entry_nodes(c.path)), len(band.candidates)
        said = f"{healthy} healthy target{'' if healthy == 1 else 's'} of {count}"
        x = c.canvas.text(c.frame.text, plan.targets, said, TEXT if healthy else LOST)
        if healthy == 1 and (c.right.out_row < 0 or x + 13 < c.frame.bus):
            c.canvas.text(x, plan.targets, ", only choice", DIM)

    def _node_title(self, names: list[str]) -> tuple[str, str, str, int]:
        """(title, address or names, state, its ink) of a box that stands for some nodes."""
        c = self.circuit
        rows = [c.nodes[name] for name in names if name in c.nodes]
        if len(names) == 1:
            state, tone = c.rules_words(rows[0] if rows else None, c.frame.left_right - 30)
            return names[0], rows[0].address if rows else "", state, tone
        stale = sum(not row.rules_in_step or not row.proxy_running for row in rows)
        state, tone = (f"{c.glyphs.stale} {stale} stale", LATE) if stale else (rows[0].rules if rows else "", DIM)
        listed = ", ".join(names) if len(names) == 2 else f"{names[0]} {c.glyphs.ellipsis} {names[-1]}" if names else ""
        return f"{len(names)} nodes", listed, state, tone

    def _entry(self) -> None:
        """Nodes where traffic enters, where they are not those that make the next choice."""
        c, plan = self.circuit, self.circuit.left
        if plan.entry < 0:
            return
        nodes = entry_apart(c.path)
        names = [node.name for node in nodes]
        edge = c.frame.left_right - 1
        title, more, state, tone = self._node_title(names)
        c.title(c.frame.text, plan.entry, edge, title, more, state, tone)
        if len(nodes) <= 2:
            for row, node in enumerate(nodes, plan.entry + 1):
                self._stub(row)
                c.canvas.text(c.frame.text, row, of_state(c.glyphs, node.state), ink(state_token(node.state)))
                end = c.canvas.text(c.frame.text + 2, row, node.name, c.name_ink(node.key, TEXT))
                c.canvas.text(end + 1, row, node.address, DIM)
                self._rate(edge - 1, row, node.rate_rps)
                c.hit(node.key, c.frame.text - 1, row, edge - c.frame.text + 1, 1)
        else:
            row = plan.entry + 1
            self._stub(row)
            self._strip(c.frame.text, row, nodes, edge - 12)
            self._rate(edge - 1, row, sum(node.rate_rps for node in nodes))

    def _strip(self, x: int, y: int, members: list[Candidate], end: int) -> int:
        """One glyph for each, arrows walk them; counts where they do not fit."""
        c = self.circuit
        if len(members) <= end - x:
            for at, one in enumerate(members, x):
                tone = "lost" if one.failing else state_token(one.state)
                c.canvas.text(at, y, of_state(c.glyphs, one.state), c.name_ink(one.key, ink(tone)))
                c.hit(one.key, at, y, 1, 1)
            return x + len(members)
        states: dict[str, int] = {}
        for one in members:
            states[one.state] = states.get(one.state, 0) + 1
        for state, count in states.items():
            x = c.canvas.text(x, y, f"{of_state(c.glyphs, state)}{count} ", ink(state_token(state)))
        return x

    def _rate(self, edge: int, y: int, rate: float, tone: int = STRONG) -> int:
        c = self.circuit
        c.canvas.right(edge, y, "/s", DIM)
        return c.canvas.right(edge - 2, y, text.number(rate), tone)

    def _ingress(self) -> None:
        c, plan, band = self.circuit, self.circuit.left, self.circuit.path.ingress
        if plan.node < 0:
            return
        frame, canvas = c.frame, c.canvas
        names = box_nodes(c.path) or [node.name for node in entry_nodes(c.path)]
        title, more, state, tone = self._node_title(names)
        edge = frame.left_right - 1
        c.title(frame.text, plan.node, edge, title, more, state, tone)
        if len(names) == 1 and names[0] in c.nodes:
            c.hit(c.nodes[names[0]].key, frame.left_edge + 1, plan.node, edge - frame.left_edge, 1)
        if plan.dnat >= 0:
            self._stub(plan.dnat)
            chooser = band or c.path.lb
            words = parts(chooser.detail) if chooser is not None else []
            port = (words[0] if words else "").removeprefix("NodePort ").replace("→", c.glyphs.arrow)
            if band is None:
                port = port.partition(f"{c.glyphs.arrow} ")[2] or port
            local = (
                band is not None
                and len(names) == 1
                and any("no ingress pod" in one.note for one in idle_targets(c.path))
            )
            if local and f"{c.glyphs.arrow} :" in port:
                port = port.replace(f"{c.glyphs.arrow} :", f"{c.glyphs.arrow} local pods :")
            canvas.text(canvas.text(frame.text, plan.dnat, "DNAT ", DIM), plan.dnat, port, TEXT, edge - frame.text - 5)
        if band is None or plan.pods < 0:
            return
        rows = self._ingress_rows(band)
        first = plan.dnat
        for at, (y, rate, key) in enumerate(rows):
            rest = sum(one[1] for one in rows[at:])
            c.wire(f"ingress-trunk/{at}", rest, (frame.trunk, first), (frame.trunk, y))
            c.wire(f"ingress/{key}", rate, (frame.trunk, y), (frame.trunk + 2, y))
            canvas.text(frame.trunk + 2, y, "▶" if not canvas.ascii else ">", c.flow if rate else SPINE)
            first = y
        if plan.join >= 0:
            carried = 0.0
            for at, (y, rate, key) in enumerate(rows):
                c.wire(f"out/{key}", rate, (frame.collector - 1, y), (frame.collector, y))
                carried += rate
                end = rows[at + 1][0] if at + 1 < len(rows) else plan.join
                c.wire(f"collector/{at}", carried, (frame.collector, y), (frame.collector, end))
            first_service = next((y for y, one in plan.services if one is not None), plan.join + 1)
            c.wire(
                "return", carried, (frame.collector, plan.join), (frame.trunk, plan.join), (frame.trunk, first_service)
            )
        if plan.route >= 0 and c.path.route is not None:
            self._route(c.path.route)

    def _ingress_rows(self, band: Band) -> list[tuple[int, float, str]]:
        """Draw the ingress pods, or their nodes; (row, rate, name of the wire) of each."""
        c, plan, frame = self.circuit, self.circuit.left, self.circuit.frame
        names = box_nodes(c.path)
        x, edge = frame.trunk + 4, frame.collector - 1
        rows = []
        if not plan.pods_folded:
            for at, pod in enumerate(band.candidates):
                y = plan.pods + at * plan.pod_rows
                where = pod.node if len(names) > 1 else ""
                c.pod(pod.key, x, y, edge, plan.pod_rows, pod, c.trouble_word(pod), where)
                c.hit(pod.key, x - 1, y, edge - x + 1, plan.pod_rows)
                rows.append((y, pod.rate_rps, pod.name))
            return rows
        for at in range(plan.pod_count):
            last = at == plan.pod_count - 1 and len(names) > plan.pod_count
            some = names[at:] if last else names[at : at + 1]
            members = [pod for pod in band.candidates if pod.node in some]
            rate = sum(pod.rate_rps for pod in members)
            y = plan.pods + at
            label = f"{len(some)} more nodes" if last else text.shorten(some[0], 10, c.glyphs.ellipsis)
            c.canvas.text(x, y, label, TEXT)
            self._strip(x + 11, y, members, edge - 7)
            self._rate(edge, y, rate)
            rows.append((y, rate, label))
        return rows

    def _route(self, band: Band) -> None:
        c, y = self.circuit, self.circuit.left.route
        words = [word for word in parts(band.detail) if word != "only choice"]
        host = self._host()
        said = " · ".join(word.partition(" → ")[0] if word.startswith("/") else word for word in words)
        head, _, rest = said.partition(" ")
        beads = c.way.route if c.way is not None else ()
        room = c.frame.collector - c.frame.trunk - 1 - (2 * len(beads) + 1 if beads else 0)
        if host and len(head) + len(host) + 2 <= room and "TLS" in rest:
            path = rest.rpartition(" · ")[2]
            if len(f"{head} {host}{path}") <= room:
                rest = f"{host}{path}"
        if c.canvas.ascii:
            rest = rest.replace("·", "-").replace("→", ">")
        end = c.canvas.text(c.frame.trunk, y, f"{head} ", DIM, room)
        c.canvas.text(end, y, rest, TEXT, room - (end - c.frame.trunk))
        c.hit(band.key, c.frame.left_edge + 1, y, c.frame.collector - c.frame.left_edge - 2, 1)

    def _host(self) -> str:
        """The host clients ask for, where they ask for one only."""
        client = self.circuit.path.client
        for word in parts(client.detail) if client is not None else []:
            scheme, sep, rest = word.partition("://")
            if sep and scheme in ("http", "https"):
                return rest.partition("/")[0]
        return ""

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
        edge = frame.collector - 1
        name = f"service/{band.id}" if band is not None else "services/more"
        c.wire(name, rate, (frame.trunk, y), (frame.trunk + 1, y))
        opening, closing = ("[", "]") if canvas.ascii else ("┫", "┣")
        if band is None:
            hidden = len(c.path.services) - sum(one is not None for _, one in c.left.services)
            canvas.text(frame.text, y, f"{c.glyphs.more_down} {hidden} more Services", DIM)
            self._rate(edge, y, rate)
            c.hit(MORE_SERVICES, frame.text - 1, y, edge - frame.text + 1, 1)
            return
        mine = band is c.path.service
        tone = c.flow if rate > 0 else SPINE
        kind = "upstream" if is_upstream(band) else "Service"
        label = service_label(band)
        room = frame.collector - 2 - frame.text - 1
        said = f"{kind} {label}"
        if not mine:
            said = text.shorten(label, room - 16, c.glyphs.ellipsis)
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
            end = canvas.text(end + 3, y, f"{ready} ready", DIM if ready else LOST)
            bad = sum(one.failing for one in band.candidates)
            if bad and end + 4 < edge - 7:
                canvas.text(end, y, f" {c.glyphs.crashed}{bad}", LOST)
            self._rate(edge, y, rate)
            return
        c.wire(name, rate, (end + 1, y), (frame.bus, y))
        canvas.text(end + 1, y, closing, tone)
        self._rule(y, band, listed)

    def _rule(self, y: int, band: Band, listed: list[Candidate]) -> None:
        """The rows under the selected Service: what the rule does, its rate, how it chooses, how often callers try."""
        c, frame, canvas = self.circuit, self.circuit.frame, self.circuit.canvas
        edge = frame.collector - 1
        upstream = is_upstream(band)
        address = service_address(band)
        end = canvas.text(frame.text, y + 1, "straight to pods" if upstream else "DNAT ", DIM)
        if not upstream:
            canvas.text(end, y + 1, address, TEXT)
        self._rate(edge, y + 1, band.rate_rps)
        stale = [one for one in listed if one.state not in ("ready", "healthy")]
        count = len(listed)
        if not count:
            said, tone = f"{c.glyphs.crashed} no endpoints: rejected", LOST
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
            c.lit((x, plan.entry + plan.entry_rows + 1), (x, plan.node))
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

    def _box(self, box: BoxPlan) -> list[tuple[int, Candidate | None, float, bool]]:
        c, plan, frame = self.circuit, self.circuit.right, self.circuit.frame
        edge = frame.box + frame.box_width - 1
        c.canvas.box(frame.box, box.y, frame.box_width, box.height, SPINE)
        if plan.out_row == box.y - 1:
            c.canvas.wire([(frame.box + 1, box.y - 1), (frame.box + 1, box.y)], Weight.DOTTED, SPINE)
        node = c.nodes.get(box.node)
        state, tone = c.rules_words(node, 12)
        more = node.address if node is not None else ""
        if box.node in box_nodes(c.path):
            more = (
                f"{more} (also left)"
                if len(f"{box.node} {more} (also left) {state}") < frame.box_width - 8
                else "(also left)"
            )
        c.title(frame.box + 4, box.y, edge, box.node or "no node yet", more, state, tone)
        if node is not None:
            c.hit(node.key, frame.box + 1, box.y, frame.box_width - 2, 1)
        taps: list[tuple[int, Candidate | None, float, bool]] = []
        for at, pod in enumerate(box.slots):
            if pod is None:
                continue
            y = box.y + 1 + plan.density.lead + at * plan.density.pitch
            how = c.trouble_word(pod)
            c.pod(pod.key, frame.box_text, y, frame.box_end, plan.density.rows, pod, how)
            c.hit(pod.key, frame.box + 1, y, frame.box_width - 2, plan.density.rows)
            if pod.listed or pod.rate_rps > 0:
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
        c.title(frame.box + 4, plan.top, edge - 4 * len(counts), f"{len(everyone)} pods", f"{ready} ready", "", DIM)
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
        left = LeftColumn(c)
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
            left._strip(strip_at, y, members, strip_end)
            left._rate(frame.box_end, y, rate, LOST_BOLD if any(one.failing for one in members) else STRONG)
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
        if plan.more is not None:
            y, hidden, members = plan.more
            rate = sum(one.rate_rps for one in members)
            said = f"{c.glyphs.more_down} {len(hidden)} more node{'s' if len(hidden) != 1 else ''}, {len(members)}"
            canvas.text(frame.box_text, y, said, DIM)
            left._rate(frame.box_end, y, rate)
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
