"""Draws one path as a circuit: a box is something that runs, a label held in a wire is a rule, a wire is traffic."""

from dataclasses import field

from kflab.lab.snapshot import Candidate, NodeRow, Snapshot
from kflab.manifest.objects import Key
from kflab.records import dataclass
from kflab.tui import text
from kflab.tui.canvas_view import Hit
from kflab.tui.glyphs import ASCII, Glyphs, of_state, state_token
from kflab.tui.schematic_layout import Frame, LeftPlan, RightPlan
from kflab.tui.schematic_memory import Weights
from kflab.tui.schematic_path import Path, Way, black_hole
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
    selected: Key | None = None
    wanted: str = ""
    """Text that names must hold; what does not match steps back."""
    legend: bool = True
    """Whether to explain the wires where there is room."""
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
        if node.outage:
            return f"{self.glyphs.crashed} {node.outage}", LOST
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
        name_ink = LOST_BOLD if how else BOLD if lit or key == self.selected else TEXT
        if rows == 1:
            room = name_end - x - 3 - (len(word) + 1 if word else 0)
            if where and room - len(where) > 9:
                room -= len(where) + 1
                canvas.right(name_end - 1 - (len(word) + 1 if word else 0), y, where, DIM)
            end = canvas.text(x + 2, y, text.shorten(pod.name, room, glyphs.ellipsis), self.name_ink(key, name_ink))
            if word and where:
                canvas.right(name_end - 1, y, word, tone)
            elif word:
                canvas.text(end + 1, y, word, tone)
        else:
            room = name_end - x - 3
            canvas.text(x + 2, y, text.shorten(pod.name, room, glyphs.ellipsis), self.name_ink(key, name_ink))
        canvas.text(rate_at, y, rate[:-2] if rate.endswith("/s") else rate, LOST_BOLD if how else STRONG)
        if rate.endswith("/s"):
            canvas.text(edge - 2, y, "/s", LOST if how else DIM)
        if rows == 1:
            return
        share = text.share(pod.share) if pod.listed else ""
        word = pod.left or pod.state
        if x + 2 + len(word) + len(pod.address) + len(share) + 2 > edge and pod.address:
            # The address is what the rules hold: the share of a pod in trouble goes first, of a good one its word.
            share = "" if not good else share
        share_at = edge - len(share)
        end = x + 1
        if not good or x + 2 + len(word) + 1 + len(pod.address) < share_at:
            end = canvas.text(x + 2, y + 1, word, tone if not good else DIM)
        if end + 1 + len(pod.address) <= (share_at - 1 if share else edge + 1):
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
            outside = part is not None and band[0] <= expected <= band[1] and not band[0] <= part <= band[1]
            bar = "-" if self.canvas.ascii else "▔"
            self.canvas.text(x, y, bar * max(0, min(room, cells)), LATE if outside else BACK)
            self.canvas.text(x + tick, y, "|" if self.canvas.ascii else "╵", DIM)

    def trouble_word(self, pod: Candidate) -> str:
        """What becomes of tries to a pod now."""
        if not pod.failing or not pod.listed:
            # Rules that no longer list it send it nothing; what still counts as failed is half a second old.
            return ""
        return "no answer" if black_hole(self.snapshot, pod) else "refused"

    def strip(self, x: int, y: int, members: list[Candidate], end: int) -> int:
        """One glyph for each, arrows walk them; counts where they do not fit."""
        if len(members) <= end - x:
            for at, one in enumerate(members, x):
                tone = "lost" if one.failing else state_token(one.state)
                self.canvas.text(at, y, of_state(self.glyphs, one.state), self.name_ink(one.key, ink(tone)))
                self.hit(one.key, at, y, 1, 1)
            return x + len(members)
        states: dict[str, int] = {}
        for one in members:
            states[one.state] = states.get(one.state, 0) + 1
        for state, count in states.items():
            x = self.canvas.text(x, y, f"{of_state(self.glyphs, state)}{count} ", ink(state_token(state)))
        return x

    def figure(self, edge: int, y: int, rate: float, tone: int = STRONG) -> int:
        """Write a rate that ends before a column; returns the column of its first character."""
        self.canvas.right(edge, y, "/s", DIM)
        return self.canvas.right(edge - 2, y, text.number(rate), tone)
