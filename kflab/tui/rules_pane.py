"""The rules of one node, as its mode's own tool prints them; those the open request took carry a heavy bar."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import overload

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.message import Message
from textual.widgets import Input

from kflab.dataplane.packets import Hop, RequestTrace
from kflab.lab.handle import LabHandle
from kflab.lab.snapshot import Snapshot
from kflab.tui import text
from kflab.tui.line_pane import LinePane
from kflab.tui.messages import HopSelected, ObjectSelected, RequestClosed, RequestLoaded
from kflab.tui.row import Row
from kflab.tui.rules_lines import RuleLine, deciding, printed, rule_lines, same_rule, short, taken_rules


class RulesArrived(Message):
    """The lab has printed a node's rules."""

    def __init__(self, node: str, revision: str, words: str, error: str) -> None:
        super().__init__()
        self.node = node
        self.revision = revision
        self.words = words
        self.error = error


class _LazyRows(Sequence[Row]):
    """Rows that are drawn when asked for."""

    def __init__(self, count: int, draw: Callable[[int], Row]) -> None:
        self._count = count
        self._draw = draw

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        if isinstance(index, slice):
            return [self._draw(at) for at in range(self._count)[index]]
        return self._draw(range(self._count)[index])


def _room(width: int) -> int:
    """Characters of a rule printed whole on one screen line; at the right is room for "decided hop 5"."""
    return max(20, width - 18)


class RulesPane(LinePane):
    """Rules of a node. `w` shows whole lines, `/` searches, `d` goes on, shift+arrows choose the node."""

    title = "Rules"

    DEFAULT_CSS = """
    RulesPane Input { dock: bottom; height: 1; border: none; padding: 0 1; background: $tok-sel; display: none; }
    RulesPane Input:focus { border: none; background-tint: $tok-sel 0%; }
    RulesPane.-typing Input { display: block; }
    """

    BINDINGS = [
        Binding("shift+left", "node(-1)", "node before", id="rules.node-before", tooltip="Rules of the node before"),
        Binding("shift+right", "node(1)", "next node", id="rules.node-after", tooltip="Rules of the next node"),
        Binding("slash", "search", "search", id="rules.search", tooltip="Search: address, chain, Service, any text"),
        Binding("N", "match(-1)", "match before", id="rules.match-before", show=False, tooltip="The match before"),
        Binding("enter", "match(1)", "next match", id="rules.match", show=False, tooltip="The next match"),
        Binding("escape", "end_search", "end search", id="rules.end-search", show=False, tooltip="Leave the search"),
        Binding("d", "decided(1)", "next decision", id="rules.decided", tooltip="The next hop that a rule decided"),
        Binding(
            "D",
            "decided(-1)",
            "decision before",
            id="rules.decided-before",
            show=False,
            tooltip="The hop before that a rule decided",
        ),
        Binding("w", "whole", "whole lines", id="rules.whole", tooltip="Whole lines as printed, or shortened"),
    ]

    def __init__(self, lab: LabHandle) -> None:
        super().__init__()
        self.lab = lab
        self.node = ""
        self.whole = False
        self.pattern = ""
        self.lines: tuple[RuleLine, ...] = ()
        self.trace: RequestTrace | None = None
        self.hop = 0
        self._revisions: Mapping[str, str] = {}
        self._draining: Mapping[str, int] = {}
        """Node → IPVS destinations of weight 0: they come and go between two revisions."""
        self._asked: tuple[str, str] | None = None
        self._error = ""
        self._starts: list[int] = []
        self._decided = ""
        """The rule that decided the selected hop."""
        self._matches: list[int] = []

    def compose(self) -> ComposeResult:
        yield Input(placeholder="address, chain, Service, any text", id="rules-search")

    # --- what is shown ------------------------------------------------------------------------------------------

    def show(self, snapshot: Snapshot) -> None:
        """Fetch the rules again when the node's kube-proxy wrote new ones."""
        self._revisions = {node.key.name: node.rules for node in snapshot.nodes}
        self._draining = {node.key.name: node.draining for node in snapshot.nodes}
        if self.node not in self._revisions and self._revisions:
            calling = [node.key.name for node in snapshot.nodes if node.callers]
            self.node = calling[0] if calling else next(iter(self._revisions))
        self._fetch()

    def _fetch(self) -> None:
        """Ask the lab, once for each node and what it has written."""
        met_ns = self._met_ns()
        now = f"{self._revisions.get(self.node, '')} {self._draining.get(self.node, 0)}"
        wanted = (self.node, now if met_ns is None else f"at {met_ns}")
        if not self.node or wanted == self._asked:
            return
        self._asked = wanted
        node, revision = wanted

        def arrived(answer: "Future[str]") -> None:
            error = answer.exception()
            words = "" if error else answer.result()
            self.post_message(RulesArrived(node, revision, words, str(error) if error else ""))

        self.lab.rules_text(node, met_ns).add_done_callback(arrived)
        self._say()

    def _met_ns(self) -> int | None:
        """When the open request last met this node's rules; None without one: the rules of now are shown."""
        hops = self.trace.hops if self.trace is not None else ()
        return max((hop.t_ns for hop in hops if hop.number and hop.node == self.node and hop.rules), default=None)

    def on_rules_arrived(self, message: RulesArrived) -> None:
        """Show them, unless another node was chosen meanwhile."""
        message.stop()
        if (message.node, message.revision) != self._asked:
            return
        self.lines, self._error = rule_lines(message.words), message.error
        self._say()
        self.rebuild()
        self._lines()
        self._to_hop()

    def _say(self) -> None:
        dot = self.glyphs.dot
        met_ns = self._met_ns()
        revision = self._revisions.get(self.node, "")
        if met_ns is not None:
            revision = f"as the request met them at {text.instant(met_ns)} s"
        parts = [self.node, revision] if self.node else []
        place = self._place()
        if place and met_ns is not None:
            parts[1:] = [f"at {text.instant(met_ns)} s", place]
        elif self.size.width >= 80 and self.lines:
            parts.append(printed(self.lines))
        if self.pattern:
            parts[2:] = [f"/{self.pattern}: {text.plural(len(self._matches), 'match', 'matches')}"]
        self.subtitle = f" {dot} ".join(part for part in parts if part)
        names = list(self._revisions)
        self.note = f"{names.index(self.node) + 1} of {len(names)} nodes" if self.node in names else ""

    def _decider(self) -> tuple[Hop, RuleLine] | None:
        """The selected hop and the rule on this node that decided it."""
        for hop in self.trace.hops if self.trace is not None else ():
            if hop.number == self.hop and hop.rules and hop.node in ("", self.node):
                wanted = same_rule(hop.rules[deciding(hop.rules)])
                return next(((hop, line) for line in self.lines if line.rule == wanted), None)
        return None

    def _place(self) -> str:
        """Where the deciding rule stands: "hop 5 decided at line 98 of 104, nat KUBE-SVC-…"."""
        found = self._decider()
        if found is None:
            return ""
        hop, line = found
        room = short(line.room, self.glyphs.ellipsis)
        return f"hop {hop.number} decided at line {line.number + 1} of {len(self.lines)}, {room}"

    # --- drawing ------------------------------------------------------------------------------------------------

    def _taken(self) -> dict[str, list[int]]:
        """Hops of the open request by the rules they took, on this node."""
        taken: dict[str, list[int]] = {}
        for hop in self.trace.hops if self.trace is not None else ():
            if hop.number and hop.node in ("", self.node):
                for rule in taken_rules(hop):
                    taken.setdefault(rule, []).append(hop.number)
        return taken

    def build(self, width: int, height: int) -> Sequence[Row]:
        if self._error:
            return [Row().put(1, text.fit(text.safe(self._error), width - 2), "lost")]
        if not self.lines:
            return [Row().put(1, "no rules yet" if self.node else "no node yet", "faint")]
        starts, at, taken = [], 0, self._taken()
        for line in self.lines:
            starts.append(at)
            at += self._count(line, width, line.rule in taken)
        self._starts = starts
        self._find()
        return _LazyRows(at, self._drawer(width))

    def _count(self, line: RuleLine, width: int, taken: bool) -> int:
        """Screen lines of one rule."""
        if self.whole or (taken and line.nft):
            return max(1, -(-len(line.full.expandtabs(4)) // _room(width)))
        return 2 if line.folded else 1

    def _find(self) -> None:
        """Look the pattern up."""
        pattern = self.pattern.lower()
        self._matches = [line.number for line in self.lines if pattern in line.full.lower()] if pattern else []
        self._say()

    def _drawer(self, width: int) -> Callable[[int], Row]:
        """What draws the line at an index; a rule set may have a hundred thousand, so only those in sight are drawn."""
        taken, failing, found = self._taken(), self._failing_addresses(), frozenset(self._matches)
        decider = self._decider()
        self._decided = decider[1].rule if decider else ""

        def draw(index: int) -> Row:
            at = bisect_right(self._starts, index) - 1
            line = self.lines[at]
            hops = taken.get(line.rule, []) if line.rule else []
            return self._rows(line, width, hops, line.number in found, failing)[index - self._starts[at]]

        return draw

    def _failing_addresses(self) -> frozenset[str]:
        """Addresses at which a try of the open request failed."""
        if self.trace is None:
            return frozenset()
        failed = set()
        for hop, after in zip(self.trace.hops, (*self.trace.hops[1:], None), strict=True):
            if hop.after and after is not None and not after.number and after.outcome not in ("", "200"):
                failed.add(hop.after.destination)
        return frozenset(failed)

    def _rows(self, line: RuleLine, width: int, hops: list[int], found: bool, failing: frozenset[str]) -> list[Row]:
        ellipsis = self.glyphs.ellipsis
        selected = self.hop in hops
        ink = "text" if hops or found else "dim" if line.rule else "faint"
        leads = line.target
        bad = bool(hops) and any(address in f"{leads} {line.full} ".split(" ") for address in failing)
        jump_ink = "lost" if bad else ink
        if self.whole or (hops and line.nft):
            step, full = _room(width), line.full.expandtabs(4)
            pieces = [full[at : at + step] for at in range(0, max(1, len(full)), step)]
            rows = [self._row(hops, selected, found).put(2, text.safe(piece), jump_ink) for piece in pieces]
        elif line.folded:
            match, jump = (text.fit(short(part, ellipsis), width - 8, ellipsis) for part in (line.match, line.jump))
            rows = [
                self._row(hops, selected, found).put(2, match, ink, bold=selected),
                self._row(hops, selected, found).put(6, jump, jump_ink),
            ]
        else:
            rows = [
                self._row(hops, selected, found).put(
                    2, text.fit(short(line.full, ellipsis), width - 3, ellipsis), jump_ink
                )
            ]
        if leads and leads not in line.jump and not self.whole and rows[-1].x + len(leads) + 3 < width:
            rows[-1].put(max(31, rows[-1].x + 2), leads, jump_ink if hops else "faint")
        if hops:
            which = "hop" if len(set(hops)) == 1 else "hops"
            words = f"{which} {', '.join(str(hop) for hop in dict.fromkeys(hops))}"
            decided = "decided " if line.rule == self._decided else ""
            rows[-1].right(width - 2, decided + words, "strong")
        return rows

    def _row(self, hops: list[int], selected: bool, found: bool) -> Row:
        """A new line with its mark: a heavy bar where the open request went, a thin one at a match."""
        row = Row("sel" if selected else "bg")
        if hops:
            return row.put(0, self.glyphs.lit, "strong")
        return row.put(0, self.glyphs.spine, "dim") if found else row

    # --- moving -------------------------------------------------------------------------------------------------

    def _to_hop(self) -> None:
        """Go to the rule that decided the selected hop, else to the first that the request took."""
        if self.trace is None:
            return
        found = self._decider()
        taken = self._taken()
        line = found[1] if found else next((line for line in self.lines if line.rule and line.rule in taken), None)
        if line is not None and self._starts:
            self._set_top(self._starts[line.number] - 2)

    def action_decided(self, direction: int) -> None:
        """Go to the next or previous hop that a rule decided, wherever its node is, around the ends."""
        hops = self.trace.hops if self.trace is not None else ()
        numbers = [hop.number for hop in hops if hop.number and hop.rules]
        if not numbers:
            return
        if direction > 0:
            number = next((number for number in numbers if number > self.hop), numbers[0])
        else:
            number = next((number for number in reversed(numbers) if number < self.hop), numbers[-1])
        self.post_message(HopSelected(number))

    def choose_node(self, node: str) -> None:
        """Show another node's rules."""
        if node and node != self.node and (node in self._revisions or not self._revisions):
            self.node, self.top, self.lines = node, 0, ()
            self.rebuild()
            self._fetch()

    def action_node(self, direction: int) -> None:
        names = list(self._revisions)
        if names:
            at = names.index(self.node) if self.node in names else 0
            self.choose_node(names[(at + direction) % len(names)])

    def action_whole(self) -> None:
        self.whole = not self.whole
        self.rebuild()

    def action_search(self) -> None:
        self.add_class("-typing")
        box = self.query_one("#rules-search", Input)
        box.value = self.pattern
        box.focus()

    def action_match(self, direction: int) -> None:
        """Go to the next or previous match, around the ends."""
        self._lines()
        if not self._matches:
            return
        rows = [self._starts[number] for number in self._matches]
        here = self.top + 3
        if direction > 0:
            row = next((row for row in rows if row > here), rows[0])
        else:
            row = next((row for row in reversed(rows) if row < here), rows[-1])
        self._set_top(row - 3)

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        if not self.has_class("-typing"):
            return
        self.pattern = event.value
        self.rebuild()
        self._lines()
        if self._matches:
            self.scroll_to_row(self._starts[self._matches[0]], 3)

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        self.remove_class("-typing")
        self.focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Esc is the shell's while nothing is searched."""
        return action != "end_search" or self.has_class("-typing") or bool(self.pattern)

    def action_end_search(self) -> None:
        self.pattern = ""
        self.remove_class("-typing")
        self.focus()
        self.rebuild()

    def copy_text(self) -> tuple[str, str]:
        """What `y` copies: the rules of the selected hop, else the matches, else all of them."""
        rules = [
            rule for hop in (self.trace.hops if self.trace else ()) if hop.number == self.hop for rule in hop.rules
        ]
        if rules:
            return "\n".join(rules), "rule"
        numbers = set(self._matches)
        return "\n".join(line.full for line in self.lines if not numbers or line.number in numbers), "rules"

    # --- what happened elsewhere --------------------------------------------------------------------------------

    def on_request_loaded(self, message: RequestLoaded) -> None:
        self.trace, self.hop = message.trace, 0
        first = next((hop.node for hop in message.trace.hops if hop.rules and hop.node), "")
        self._follow(first)

    def on_request_closed(self, message: RequestClosed) -> None:
        self.trace, self.hop = None, 0
        self._fetch()
        self.rebuild()

    def on_hop_selected(self, message: HopSelected) -> None:
        self.hop = message.number
        hops = self.trace.hops if self.trace is not None else ()
        self._follow(next((hop.node for hop in hops if hop.number == self.hop and hop.rules), ""))

    def _follow(self, node: str) -> None:
        """Go where the request went."""
        self.choose_node(node)
        self._fetch()
        self.rebuild()
        self._lines()
        self._to_hop()

    def on_object_selected(self, message: ObjectSelected) -> None:
        if message.key is not None and message.key.kind == "Node":
            self.choose_node(message.key.name)
