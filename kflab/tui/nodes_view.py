"""The nodes: what each knows, when its kubelet looks next, what it calls, and its pods."""

from kflab.dataplane.packets import RequestTrace
from kflab.lab.snapshot import NodeRow, PodRow, Snapshot
from kflab.manifest.objects import Key
from kflab.tui import text
from kflab.tui.canvas_view import CanvasView, Hit
from kflab.tui.glyphs import ASCII, of_state, state_token
from kflab.tui.line_pane import glyphs_of
from kflab.tui.messages import RequestClosed, RequestLoaded
from kflab.tui.wires import Canvas, ink

NARROW = 66
"""Up to this width nodes are a list (ledger, picture 5); above it boxes (schematic, picture 4)."""

BOX = 58
"""Columns a box needs at least: a pod's name, address, state and rate."""

MANY_PODS = 12
"""Above so many pods a node shows one glyph a pod and lists only what is not ordinary."""

ODD_ROWS = 2
"""Rows that a folded node keeps for pods that are not ordinary."""

TEXT, STRONG, DIM, FAINT = ink("text"), ink("strong"), ink("dim"), ink("faint")
TITLE = ink("strong", bold=True)
SPINE, FLOW, WAVE, LATE, LOST = ink("spine"), ink("traffic"), ink("wave"), ink("late"), ink("lost")
LOST_BOLD = ink("lost", bold=True)
BEAD = ink("strong", bold=True, reverse=True)

_GOOD = frozenset({"ready", "running", "healthy", "succeeded"})


class NodesView(CanvasView):
    """One card a node; only visible cards are drawn, so thousands cost what a screen costs."""

    title = "Nodes"

    def __init__(self) -> None:
        super().__init__()
        self._unfolded: frozenset[str] = frozenset()
        self._numbers: dict[Key, tuple[int, ...]] = {}

    def light(self, trace: RequestTrace | None) -> None:
        """Set a request's hop numbers beside the nodes and pods it touched; None takes them away."""
        numbers: dict[Key, list[int]] = {}
        for hop in trace.hops if trace is not None else ():
            if hop.number:
                for key in hop.touches:
                    if key.kind in ("Node", "Pod"):
                        numbers.setdefault(key, []).append(hop.number)
        self._numbers = {key: tuple(values) for key, values in numbers.items()}
        self.redraw()

    def on_request_loaded(self, message: RequestLoaded) -> None:
        self.light(message.trace)

    def on_request_closed(self, _: RequestClosed) -> None:
        self.light(None)

    def wanted_rows(self) -> int:
        """Rows that all cards together take."""
        return self.total_rows

    # --- what is shown -----------------------------------------------------------------------------------------

    def nodes(self) -> list[NodeRow]:
        """Nodes that the filter leaves, in the snapshot's order."""
        rows = list(self.snapshot.nodes) if self.snapshot is not None else []
        if self.filter:
            rows = [
                row
                for row in rows
                if self.filter in row.key.name or any(self.filter in pod.key.name for pod in row.pods)
            ]
        return rows

    def pods(self, node: NodeRow) -> list[PodRow]:
        """Pods that get a row of their own: all of them or, folded, the first that are not ordinary."""
        if not self._folded(node):
            matching = [pod for pod in node.pods if self.filter in pod.key.name] if self.filter else []
            return matching or list(node.pods)
        odd = self._unusual(node)
        if len(odd) <= ODD_ROWS:
            return odd
        shown = odd[: ODD_ROWS - 1]
        chosen = next((pod for pod in odd if pod.key == self.selected), None)
        return shown if chosen is None or chosen in shown else [*shown[:-1], chosen]

    def _unusual(self, node: NodeRow) -> list[PodRow]:
        """Pods that are not ordinary, chosen, part of the open request or found by the filter."""
        return [
            pod
            for pod in node.pods
            if pod.state not in _GOOD
            or pod.failing
            or pod.key == self.selected
            or pod.key in self._numbers
            or (self.filter and self.filter in pod.key.name)
        ]

    def _folded(self, node: NodeRow) -> bool:
        return len(node.pods) > MANY_PODS and node.key.name not in self._unfolded

    def _height(self, node: NodeRow, narrow: bool) -> int:
        """Rows of a card; of a folded one always the same, so that cards keep their places."""
        if self._folded(node):
            rows = 1 + ODD_ROWS
        else:
            rows = len(self.pods(node)) if self.filter else len(node.pods)
        return rows + 3 if narrow else max(1, rows) + 6

    def _pod_rows(
        self, canvas: Canvas, x: int, y: int, edge: int, node: NodeRow, address: int, hit_x: int, hit_width: int
    ) -> None:
        """A node's pods: a row each, or one glyph each and the odd ones below."""
        glyphs = glyphs_of(self.app)
        pods = self.pods(node)
        if self._folded(node):
            self._strip(canvas, x, y, edge - 8, node)
            self._rate(canvas, edge, y, sum(pod.rate_rps for pod in node.pods))
            last = y + ODD_ROWS
            y += 1
            more = len(self._unusual(node)) - len(pods)
            if not pods:
                canvas.text(x, y, "every pod is ready", FAINT)
            if more > 0:
                canvas.text(x, last, f"{glyphs.more_down} {more} more, enter on the node unfolds all", DIM)
        for pod in pods:
            self._pod(canvas, x, y, edge, pod, address)
            self.hits.append(Hit(pod.key, hit_x, y + self.first_row, hit_width, 1))
            y += 1

    def paint(self, snapshot: Snapshot, width: int, height: int) -> Canvas:
        """Draw the cards that the scroll position brings into view."""
        nodes = self.nodes()
        narrow = width <= NARROW
        columns = 1 if narrow else max(1, (width + 1) // (BOX + 1))
        card = width if narrow else (width - columns + 1) // columns
        heights = [self._height(node, narrow) for node in nodes]
        tops: list[int] = []
        y = 0
        for at in range(0, len(nodes), columns):
            tops.append(y)
            y += max(heights[at : at + columns])
        self.total_rows = max(1, y)
        top = min(round(self.scroll_y), max(0, self.total_rows - height))
        self.first_row = top
        canvas = Canvas(width, height, ascii=glyphs_of(self.app) is ASCII)
        self.hits = []
        for row, card_y in enumerate(tops):
            end = tops[row + 1] if row + 1 < len(tops) else y
            if end <= top or card_y >= top + height:
                continue
            for column in range(columns):
                at = row * columns + column
                if at < len(nodes):
                    draw = self._list if narrow else self._box
                    draw(canvas, column * (card + 1), card_y - top, card, end - card_y, nodes[at], snapshot)
        stale = sum(not node.rules_in_step for node in snapshot.nodes)
        pods = sum(len(node.pods) for node in snapshot.nodes)
        self.subtitle = f"{len(snapshot.nodes)} · {text.plural(pods, 'pod')}"
        self.note = f"{stale} stale" if stale else ""
        if self.filter:
            self.note = f"/{self.filter} {len(nodes)} of {len(snapshot.nodes)}"
        if not nodes:
            words = f"no node or pod holds “{self.filter}”: esc shows all" if self.filter else "no nodes yet"
            canvas.text(1, 0, words, DIM, width - 2)
        return canvas

    # --- the words ---------------------------------------------------------------------------------------------

    def _rules(self, node: NodeRow, snapshot: Snapshot) -> tuple[str, str, int]:
        """(glyph, words, ink) of what its rules are made of."""
        glyphs = glyphs_of(self.app)
        if node.outage == "no power":
            return glyphs.stale, "none: no power", LATE
        since = snapshot.knowledge.t_ns
        age = f" for {text.span(snapshot.t_ns - since)}" if since is not None and not node.rules_in_step else ""
        if not node.proxy_running:
            return glyphs.stale, f"{node.rules}, kube-proxy stopped", LATE
        if not node.rules_in_step:
            return glyphs.stale, f"{node.rules}, stale{age}", LATE
        if node.rules_since_ns:
            return glyphs.knows, f"{node.rules}, since {text.instant(node.rules_since_ns)}", ink("known")
        return glyphs.knows, f"{node.rules}, in step", ink("known")

    def _kubelet(self, node: NodeRow, snapshot: Snapshot) -> tuple[str, str, int]:
        glyphs = glyphs_of(self.app)
        if node.outage:
            return glyphs.stale, node.outage, LATE
        if not node.kubelet_running:
            return glyphs.stale, "stopped: nobody looks at these pods", LATE
        if node.next_look_ns is None:
            return glyphs.ready, "looks once a second", DIM
        wait = node.next_look_ns - snapshot.t_ns
        if wait <= 0:
            return glyphs.ready, f"looks at {text.instant(node.next_look_ns)} s: now", DIM
        return glyphs.ready, f"looks again at {text.instant(node.next_look_ns)} s, in {text.span(wait)}", DIM

    def _nothing(self, node: NodeRow, snapshot: Snapshot) -> str:
        """Why a node has no pods to show."""
        for band in snapshot.bands:
            if band.kind == "lb":
                for one in band.candidates:
                    if one.key == node.key and one.state == "unhealthy":
                        return f"no pods {glyphs_of(self.app).dot} the load balancer's health check fails here"
        return "no pods"

    def _bead(self, canvas: Canvas, x: int, y: int, key: Key) -> int:
        numbers = self._numbers.get(key)
        if not numbers:
            return x
        return canvas.text(x, y, f" {' '.join(str(number) for number in numbers)} ", BEAD) + 1

    # --- cards -------------------------------------------------------------------------------------------------

    def _box(self, canvas: Canvas, x: int, y: int, width: int, height: int, node: NodeRow, snapshot: Snapshot) -> None:
        """A node as a box with labelled rows."""
        glyphs = glyphs_of(self.app)
        edge = x + width - 2
        canvas.box(x, y, width, height, SPINE)
        end = canvas.text(x + 2, y, f" {text.shorten(node.key.name, 24, glyphs.ellipsis)}", TITLE)
        end = canvas.text(end, y, f" {node.address} ", DIM)
        if node.zone and end + len(node.zone) + 14 < edge:
            end = canvas.text(end, y, f"{node.zone} ", FAINT)
        self._bead(canvas, end, y, node.key)
        ready = node.ready == "True" and not node.outage
        word = f" {_condition(node)} "
        at = canvas.right(edge, y, word, DIM if ready else LOST)
        canvas.text(at - 2, y, f" {glyphs.ready if ready else glyphs.crashed}", FLOW if ready else LOST)
        self.hits.append(Hit(node.key, x + 1, y + self.first_row, width - 2, 1))
        lines = (("rules", self._rules(node, snapshot)), ("kubelet", self._kubelet(node, snapshot)))
        for row, (label, (glyph, words, colour)) in enumerate(lines, y + 1):
            canvas.text(x + 3, row, label, DIM)
            canvas.text(x + 12, row, glyph, colour if colour != DIM else FLOW)
            canvas.text(x + 14, row, words, colour if colour == LATE else TEXT, edge - x - 14)
        canvas.text(x + 3, y + 3, "calls", DIM)
        self._rate(canvas, x + 22, y + 3, node.dnat_rps, TEXT if node.callers else DIM)
        canvas.text(x + 23, y + 3, "out", DIM)
        self._rate(canvas, x + 36, y + 3, sum(pod.rate_rps for pod in node.pods), TEXT)
        end = canvas.text(x + 37, y + 3, "in", DIM)
        if not node.rules_in_step:
            said = "callers here" if node.callers else "nobody calls"
            if end + 2 + len(said) <= edge:
                canvas.right(edge, y + 3, said, LATE if node.callers else DIM)
        row = y + 5
        self._pod_rows(canvas, x + 3, row, edge, node, 15, x + 1, width - 2)
        if not node.pods:
            canvas.text(x + 3, row, self._nothing(node, snapshot), FAINT, edge - x - 3)

    def _list(self, canvas: Canvas, x: int, y: int, width: int, height: int, node: NodeRow, snapshot: Snapshot) -> None:
        """A node as one line, its pods under it, a last line for what it calls."""
        glyphs = glyphs_of(self.app)
        edge = width - 1
        ready = node.ready == "True" and not node.outage
        canvas.text(1, y, glyphs.ready if ready else glyphs.crashed, FLOW if ready else LOST)
        end = canvas.text(3, y, text.shorten(node.key.name, 12, glyphs.ellipsis), TITLE)
        end = self._bead(canvas, end + 1, y, node.key)
        end = canvas.text(
            max(end, 14),
            y,
            node.address if ready and not node.cordoned else f"{node.address} {_condition(node)}",
            TEXT if ready else LOST,
        )
        glyph, words, colour = self._rules(node, snapshot)
        short = words.replace(f" for {text.span(snapshot.t_ns - (snapshot.knowledge.t_ns or 0))}", "")
        calls = "callers here" if node.callers else "nobody calls"
        at = canvas.right(edge, y, calls, TEXT if node.callers else DIM)
        room = at - end - 4
        if len(short) > room:
            short = short.rpartition(", ")[2]
        elif len(short) + 6 <= room:
            short = f"rules {short}"
        if room >= len(short):
            canvas.text(at - 2 - len(short) - 2, y, glyph, colour)
            canvas.text(at - 2 - len(short), y, short, colour if colour == LATE else DIM)
        self.hits.append(Hit(node.key, 0, y + self.first_row, width, 1))
        row = y + 1
        end_row = y + self._height(node, True) - 2
        for spine_row in range(row, end_row):
            canvas.text(1, spine_row, glyphs.spine, SPINE)
        self._pod_rows(canvas, 3, row, edge, node, 0, 0, width)
        row = end_row
        canvas.text(1, row, glyphs.spine_last, SPINE)
        said = [f"DNAT {text.rate(node.dnat_rps)}" if node.dnat_rps else "no DNAT here"]
        if not node.pods:
            said = [*(said if node.dnat_rps else ()), self._nothing(node, snapshot)]
        elif node.outage:
            said.append(node.outage)
        elif not node.kubelet_running:
            said.append("kubelet stopped")
        elif node.next_look_ns is not None:
            said.append(f"the kubelet looks again at {text.instant(node.next_look_ns)} s")
        canvas.text(3, row, f" {glyphs.dot} ".join(said), FAINT, edge - 3)

    def _pod(self, canvas: Canvas, x: int, y: int, edge: int, pod: PodRow, address: int) -> None:
        """A pod in one row: glyph, name, address or share bar, state, rate."""
        glyphs = glyphs_of(self.app)
        good = pod.state in _GOOD and not pod.failing
        colour = LOST if pod.failing else ink(state_token(pod.state))
        canvas.text(x, y, of_state(glyphs, pod.state), colour)
        state = pod.left or pod.state + (f", restart {pod.restarts}" if pod.restarts and address else "")
        rate = text.rate(pod.rate_rps)
        state_at = edge - 10 - max(10, len(state)) if address else edge - 36
        name_end = state_at - 1 - (address + 1 if address else 0)
        matching = not self.filter or self.filter in pod.key.name
        bead = sum(len(str(number)) + 1 for number in self._numbers.get(pod.key, ())) + 2
        room = name_end - x - 2 - (bead if pod.key in self._numbers else 0)
        name_ink = FAINT if not matching else LOST_BOLD if pod.failing else TEXT
        if pod.key in self._numbers and not pod.failing:
            name_ink = TITLE
        end = canvas.text(x + 2, y, text.shorten(pod.key.name, room, glyphs.ellipsis), name_ink)
        self._bead(canvas, end + 1, y, pod.key)
        if address:
            canvas.text(name_end + 1, y, pod.address or "no address yet", DIM, address)
            canvas.text(state_at, y, state, colour if not good else DIM)
        else:
            canvas.text(state_at, y, state, colour if not good else DIM, 11)
            if pod.expected:
                self._bar(canvas, state_at + 11, y, pod)
            if pod.failing:
                canvas.right(edge - len(rate) - 1, y, "refused", LOST)
        self._rate(canvas, edge, y, pod.rate_rps, LOST_BOLD if pod.failing else TEXT)

    def _bar(self, canvas: Canvas, x: int, y: int, pod: PodRow) -> None:
        """Observed share against the expected one, which every bar has at the same tick."""
        glyphs = glyphs_of(self.app)
        room, tick = 10, 6
        cells = round((pod.share or 0.0) / (pod.expected or 1.0) * tick)
        canvas.text(x, y, glyphs.empty * room, SPINE)
        canvas.text(x, y, glyphs.bar * max(0, min(room, cells)), LOST if pod.failing else WAVE)
        canvas.text(x + tick, y, glyphs.tick_on if cells > tick else glyphs.tick_off, DIM)

    def _strip(self, canvas: Canvas, x: int, y: int, end: int, node: NodeRow) -> None:
        """One glyph a pod; counts by state where they do not fit."""
        glyphs = glyphs_of(self.app)
        if len(node.pods) <= end - x - 10:
            for at, pod in enumerate(node.pods, x):
                colour = LOST if pod.failing else ink(state_token(pod.state))
                canvas.text(at, y, of_state(glyphs, pod.state), colour)
            canvas.text(x + len(node.pods) + 1, y, f"{len(node.pods)} pods", DIM)
            return
        states: dict[str, int] = {}
        for pod in node.pods:
            states[pod.state] = states.get(pod.state, 0) + 1
        for state, count in states.items():
            x = canvas.text(x, y, f"{of_state(glyphs, state)}{count} ", ink(state_token(state)))

    def _rate(self, canvas: Canvas, edge: int, y: int, rate: float, colour: int = TEXT) -> None:
        canvas.right(edge, y, "/s", DIM)
        canvas.right(edge - 2, y, text.number(rate), colour)

    # --- choosing ----------------------------------------------------------------------------------------------

    def action_move(self, dx: int, dy: int) -> None:
        """Up and down through nodes and their pods, left and right from node to node."""
        order: list[tuple[Key, bool]] = []
        for node in self.nodes():
            order.append((node.key, True))
            order.extend((pod.key, False) for pod in self.pods(node))
        if not order:
            return
        at = next((i for i, (key, _) in enumerate(order) if key == self.selected), -1)
        step = dy or dx
        at = at + step if at >= 0 else 0
        while dx and 0 <= at < len(order) and not order[at][1]:
            at += step
        if 0 <= at < len(order):
            self.select(order[at][0])

    def action_unfold(self) -> None:
        """Unfold or fold the chosen node's pods."""
        if self.selected is not None and self.selected.kind == "Node":
            self._unfolded = self._unfolded.symmetric_difference({self.selected.name})
            self.redraw()

    def _bring_into_view(self, key: Key | None) -> None:
        """Scroll to a card that may not be drawn yet."""
        if key is None or any(hit.key == key for hit in self.hits):
            super()._bring_into_view(key)
            return
        width = self.size.width
        narrow = width <= NARROW
        columns = 1 if narrow else max(1, (width + 1) // (BOX + 1))
        nodes = self.nodes()
        y = 0
        for at in range(0, len(nodes), columns):
            some = nodes[at : at + columns]
            if any(key == node.key or any(key == pod.key for pod in node.pods) for node in some):
                self.scroll_to(y=y, animate=False, immediate=True, force=True)
                return
            y += max(self._height(node, narrow) for node in some)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if round(old_value) != round(new_value):
            self.redraw()


def _condition(node: NodeRow) -> str:
    """A node's STATUS as kubectl prints it, with what its machine is in truth while the API does not know."""
    word = "Ready" if node.ready == "True" else "NotReady"
    if node.cordoned:
        word += ",SchedulingDisabled"
    return f"{word}, {node.outage}" if node.outage and node.ready == "True" else word
