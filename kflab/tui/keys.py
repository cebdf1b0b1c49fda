"""Every global key, in one table: bindings of the screen, and what the last line offers when."""

from textual.binding import Binding


def _key(keys: str, action: str, words: str, name: str, tooltip: str, display: str | None = None) -> Binding:
    return Binding(keys, action, words, id=f"lab.{name}", show=False, tooltip=tooltip, key_display=display)


LAB_BINDINGS = [
    _key(
        "k", "kill", "kill", "kill", "What can be ended or stopped on the selected row: crash, delete, stop a component"
    ),
    _key("K", "kill_random", "crash a pod", "kill-random", "Crash a random ready application pod"),
    _key("enter", "open", "open", "open", "Open what is selected: the nearest traced request, or a folded row"),
    _key("e", "edit", "edit", "edit", "Edit the manifest of the selected object"),
    _key("o", "live", "live object", "live", "The selected object as the API server has it now"),
    _key("tab", "next_pane", "next pane", "next-pane", "Move the focus to the next pane"),
    _key("shift+tab", "previous_pane", "previous pane", "previous-pane", "Move the focus to the pane before"),
    _key("space", "pause", "pause", "pause", "Hold the clock, or let it run"),
    _key(
        "full_stop", "next_event", "next event", "next-event", "Go to the next control-plane event and pause there", "."
    ),
    _key("z", "lens", "lens", "lens", "Hold the lens on the last change, or let it run with the clock"),
    _key("left_square_bracket", "change(-1)", "previous change", "previous-change", "Lens to the change before", "["),
    _key("right_square_bracket", "change(1)", "next change", "next-change", "Lens to the change after", "]"),
    _key("less_than_sign,comma", "speed(-1)", "slower", "slower", "Fewer simulated seconds per second, to ×0.01", "<"),
    _key("greater_than_sign", "speed(1)", "faster", "faster", "More simulated seconds per second, to ×100", ">"),
    _key("left_parenthesis", "load(-1)", "less load", "load-down", "Fewer requests per second, all streams alike", "("),
    _key("right_parenthesis", "load(1)", "more load", "load-up", "More requests per second, all streams alike", ")"),
    _key("R", "restart", "restart", "restart", "Start the scenario again from t = 0"),
    _key("slash", "filter", "filter", "filter", "Show only rows with this text", "/"),
    _key(
        "colon", "command", "command", "command", "Command line: get, describe, logs, curl, :save, :assumptions …", ":"
    ),
    _key("question_mark", "help", "help", "help", "All keys, first those of the focused pane", "?"),
    _key("v", "view", "view", "view", "Topology as ledger, as schematic, as nodes"),
    _key("i", "rules", "rules", "rules", "The rules of the node concerned, as its mode's tool prints them"),
    _key("s", "shares", "shares", "shares", "Share of each candidate against what is expected: luck or structural"),
    _key(
        "g",
        "gantt",
        "who knew when",
        "gantt",
        "Who knew of each change when, and requests lost in each gap",
    ),
    _key(
        "a",
        "again",
        "again, changed",
        "again",
        "The last change played again with one setting changed, both side by side",
    ),
    _key("y", "copy", "copy", "copy", "Copy the selection: a name, an address, the open request, a rule"),
    _key("n", "neighbour(1)", "next request", "next-request", "The next traced request of the same way"),
    _key("p", "neighbour(-1)", "previous request", "previous-request", "The traced request of the same way before"),
    _key("left", "hop(-1)", "hop before", "hop-before", "The hop before, of the open request"),
    _key("right", "hop(1)", "hop after", "hop-after", "The hop after, of the open request"),
    _key("plus,equals_sign", "fold(False)", "unfold", "unfold", "Unfold the selected band", "+"),
    _key("minus", "fold(True)", "fold", "fold", "Fold the selected band", "-"),
    _key("1", "tab('topology')", "topology", "tab-topology", "Topology"),
    _key("2", "tab('manifest')", "manifest", "tab-manifest", "Manifest"),
    _key("3", "tab('trace')", "trace", "tab-trace", "Trace"),
    _key("4", "tab('request')", "request", "tab-request", "The open request"),
    _key("escape", "back", "back", "back", "Undo one step: filter, rules, request, selection", "esc"),
    _key("q", "leave", "quit", "quit", "Leave kflab; unwritten edits are asked about"),
]
"""Global keys. None is priority, so an editor or command line that takes a printable key keeps it."""

Offer = tuple[str, str, str]
"""(key as printed, words, action of the screen)."""

_STEADY: tuple[Offer, ...] = (
    ("k", "kill", "kill"),
    ("enter", "open", "open"),
    ("e", "edit", "edit"),
    ("tab", "next pane", "next_pane"),
    ("space", "pause", "pause"),
    (".", "next event", "next_event"),
    ("z", "lens", "lens"),
    ("< >", "speed", "speed(1)"),
    ("/", "filter", "filter"),
    (":", "command", "command"),
    ("?", "help", "help"),
    ("v", "view", "view"),
    ("i", "rules", "rules"),
    ("q", "quit", "leave"),
)

_REQUEST: tuple[Offer, ...] = (
    ("esc", "back", "back"),
    ("←→", "hop", "hop(1)"),
    ("n p", "next, previous", "neighbour(1)"),
    ("y", "copy", "copy"),
    ("i", "rules", "rules"),
    ("space", "pause", "pause"),
    ("?", "help", "help"),
    ("q", "quit", "leave"),
)

_TABS: tuple[Offer, ...] = (
    ("k", "kill", "kill"),
    ("enter", "open", "open"),
    ("1-4", "pane", "tab('trace')"),
    ("space", "pause", "pause"),
    (".", "next event", "next_event"),
    ("?", "help", "help"),
    ("q", "quit", "leave"),
)

_TABS_CHANGED: tuple[Offer, ...] = (
    ("k", "kill", "kill"),
    ("g", "who knew", "gantt"),
    ("a", "again", "again"),
    ("space", "pause", "pause"),
    ("z", "lens", "lens"),
    (".", "next event", "next_event"),
    ("?", "help", "help"),
    ("q", "quit", "leave"),
)
"""Once something was changed: what came of it, and the same once more with another setting."""

_GANTT: tuple[Offer, ...] = (
    ("esc", "back", "back"),
    ("↑↓ enter", "unfold, open a lost request", ""),
    ("a", "again", "again"),
    ("y", "copy", "copy"),
    ("space", "pause", "pause"),
    ("?", "help", "help"),
    ("q", "quit", "leave"),
)

_TINY: tuple[Offer, ...] = (("K", "crash a pod", "kill_random"), ("space", "pause", "pause"), ("q", "quit", "leave"))

_EDITING: tuple[Offer, ...] = (
    ("ctrl+s", "apply", ""),
    ("ctrl+z", "undo", ""),
    ("esc", "leave the editor", ""),
    ("ctrl+p", "everything", ""),
)


def key_offers(
    size: str, request: bool, lower: str, paused: bool, editing: bool = False, changed: bool = False
) -> tuple[Offer, ...]:  # fmt: skip
    """What the last line says.

    Args:
        size: Size class of the plan.
        request: A request is open.
        lower: "rules", "shares" or "gantt" when open, also as a tab.
        paused: The clock is held.
        editing: The focus is in something one types into.
        changed: Something was changed already: killed, applied, rolled.
    """
    if editing:
        return _EDITING
    offers = {"tabs": _TABS_CHANGED if changed else _TABS, "tiny": _TINY}.get(size, _STEADY)
    if changed and offers is _STEADY:
        offers = (_STEADY[0], *_TABS_CHANGED[1:3], *_STEADY[1:])
    if lower == "gantt":
        offers = _GANTT
    elif request:
        offers = _REQUEST
        if lower == "rules":
            offers = tuple(("d", "next decision", "") if offer[0] == "i" else offer for offer in offers)
    elif lower:
        offers = (("esc", "back", "back"), *(offer for offer in offers if offer[2] != lower))
    if paused:
        offers = tuple(("space", "run", "pause") if offer[1] == "pause" else offer for offer in offers)
    return offers
