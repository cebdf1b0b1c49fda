"""Help: first about the pane that has the focus, then every key and word there is."""

from collections.abc import Iterable, Sequence

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widget import Widget

from kflab.tui.command_words import KUBECTL
from kflab.tui.lab_words import WORDS
from kflab.tui.line_pane import LinePane
from kflab.tui.row import Row, wrap_words

ABOUT = {
    "Topology": (
        "The request path as a ledger: each tier is a chooser (bold) and the candidates it chooses among. All"
        " rows end in the same time columns: the last 30 s, and the lens that catches each change. A red line"
        " is a change, the tint to its right the time in which callers still act on the past, each ◆ an "
        "observer that has learned."
    ),
    "Schematic": (
        "The selected path as a circuit: a box is something that runs, a label held in a wire is a rule, a "
        "wire is traffic. A Service never gets a box: it runs nowhere."
    ),
    "Nodes": ("Each node with its pods, the revision its rules are made from, and what its kubelet saw last."),
    "Manifest": (
        "Your manifests as you wrote them. e edits, ctrl+s applies all tabs in memory with kubectl's three-"
        "way rules: all documents or none. A document removed from the text deletes nothing. o shows the live"
        " object. :w writes the file. What you type is kept as a draft and survives a crash."
    ),
    "Trace": (
        "Sampled requests as they finish: ingress pod, then each pod tried, ✖ where a try failed. A refused "
        "try is not a failed request: NGINX tries up to three times. Moving up stops, end follows again."
    ),
    "Request": (
        "The very request that happened, hop by hop: who moved the packet, its addresses (same where "
        "unchanged), the chance of this choice, and why. The same numbers stand at the rows above and at the "
        "rules."
    ),
    "Rules": (
        "The Service rules of one node as iptables-save, nft list ruleset or ipvsadm -Sn prints them, ids shortened"
        " in the middle. A heavy bar stands at the rules that the open request took, with the number of the hop; the"
        " one that decided the hop under the cursor is brought into view, and d goes on to the next."
    ),
    "Who knew when": (
        "Every change with the pods that ended or began after it, newest first. A bar is the time in which an observer"
        " did not know; its solid part is its own gap, after the one it learns from. Requests lost are counted in the"
        " gap that was open when their server was picked. enter unfolds an event, and opens a request of a bill."
    ),
    "Shares": (
        "Connections of each candidate against what the rules give. The thick part of a line is where 99 % of"
        " luck falls; a dot outside it, or unequal rules, is structural."
    ),
}
"""What each pane is, in words, by its title."""

KEY_WORDS = {
    "question_mark": "?",
    "full_stop": ".",
    "slash": "/",
    "colon": ":",
    "comma": ",",
    "less_than_sign": "<",
    "greater_than_sign": ">",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "left_parenthesis": "(",
    "right_parenthesis": ")",
    "plus": "+",
    "equals_sign": "=",
    "minus": "-",
    "escape": "esc",
    "up": "↑",
    "down": "↓",
    "left": "←",
    "right": "→",
    "pageup": "pgup",
    "pagedown": "pgdn",
}
"""Keys as people call them; others are shown by Textual's name."""


def key_words(binding: Binding) -> str:
    """The keys of a binding as printed: ``ctrl+s``, ``e enter``, ``[``."""
    if binding.key_display:
        return binding.key_display
    keys = []
    for key in binding.key.split(","):
        *modifiers, last = key.strip().split("+") if key.strip() != "+" else ["+"]
        keys.append("+".join([*modifiers, KEY_WORDS.get(last, last)]))
    return " ".join(keys)


def bindings_of(widget: Widget | None) -> list[Binding]:
    """The bindings that a widget's own class and its bases in kflab give, in order, later ones of a key not shown."""
    found: dict[str, Binding] = {}
    for cls in type(widget).__mro__ if widget is not None else ():
        if cls.__module__.startswith("kflab."):
            for binding in as_bindings(cls.__dict__.get("BINDINGS", ())):
                found.setdefault(binding.key, binding)
    return list(found.values())


def as_bindings(bindings: Iterable[BindingType]) -> list[Binding]:
    """Bindings in any of the forms that Textual takes."""
    return [each if isinstance(each, Binding) else Binding(*each) for each in bindings]


def pane_of(focused: Widget | None) -> Widget | None:
    """The pane around a widget: the nearest ancestor with a title of its own."""
    for widget in focused.ancestors_with_self if focused is not None else ():
        title: object = getattr(widget, "title", None)
        if isinstance(widget, Widget) and title:
            return widget
    return None


class HelpPane(LinePane):
    """The page."""

    def __init__(self, pane: Widget | None, keys: Sequence[Binding]) -> None:
        super().__init__()
        self.pane = pane
        self.keys = keys

    def build(self, width: int, height: int) -> Sequence[Row]:
        title = str(getattr(self.pane, "title", None) or "Topology")
        rows = [Row().put(1, title, "strong", bold=True).right(width - 1, "esc back", "dim")]
        rows += [Row().put(1, line, "text") for line in wrap_words(ABOUT.get(title, ""), min(width - 2, 110)) if line]
        own = bindings_of(self.pane)
        if own:
            rows += [Row(), *self._keys(own, width)]
        rows += [Row(), Row().put(1, "All keys", "strong", bold=True), *self._keys(self.keys, width)]
        rows += [
            Row(),
            Row().put(1, "Command line", "strong", bold=True),
        ]
        words = [(f":{usage}", what) for usage, what in WORDS.items()]
        rows += self._table([("tab", "completes"), ("up", "the line before"), *words], width)
        rows += [Row(), Row().put(1, "and kubectl's words", "dim")]
        return [*rows, *self._table(list(KUBECTL), width)]

    def _keys(self, bindings: Sequence[Binding], width: int) -> list[Row]:
        return self._table([(key_words(each), each.tooltip or each.description) for each in bindings], width)

    @staticmethod
    def _table(pairs: Sequence[tuple[str, str]], width: int) -> list[Row]:
        """Keys left in bold, what they do beside; two columns where there is room."""
        wide = max((len(key) for key, _ in pairs), default=0)
        at = min(max(14, wide + 3), max(16, width // 3))
        rows = []
        for key, words in pairs:
            lines = wrap_words(words, max(10, min(width - at - 1, 100)))
            heads = wrap_words(key, width - 2)
            rows += [Row().put(1, head, "strong", bold=True) for head in heads[:-1]]
            row = Row().put(1, heads[-1], "strong", bold=True)
            if row.x >= at:
                rows.append(row)
                row = Row()
            rows.append(row.put(at, lines[0], "dim"))
            rows += [Row().put(at, line, "dim") for line in lines[1:]]
        return rows


class HelpScreen(ModalScreen[None]):
    """All keys, first those of the pane that has the focus."""

    DEFAULT_CSS = "HelpScreen { background: $tok-bg; padding: 1 1 0 1; }"

    BINDINGS = [
        Binding("escape,q,question_mark", "close", "close", id="help.close", tooltip="Back to the lab"),
    ]

    def __init__(self, focused: Widget | None, keys: Sequence[BindingType]) -> None:
        super().__init__()
        self.pane = HelpPane(pane_of(focused), as_bindings(keys))

    def compose(self) -> ComposeResult:
        yield self.pane

    def on_mount(self) -> None:
        self.pane.focus()

    def action_close(self) -> None:
        self.dismiss()


def open_help(app: App[object], keys: Sequence[BindingType]) -> None:
    """Open the help about what has the focus now."""
    app.push_screen(HelpScreen(app.focused, keys))
