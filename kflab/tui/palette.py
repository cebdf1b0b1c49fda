"""ctrl+p: everything that can be done, by name. Keys, panes' keys, words, themes, and every object to go to."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content
from textual.fuzzy import FuzzySearch
from textual.markup import escape
from textual.style import Style
from textual.widget import Widget

from kflab.lab.commands import Kill
from kflab.lab.snapshot import Snapshot
from kflab.manifest.objects import Key
from kflab.records import dataclass
from kflab.tui.help_screen import as_bindings, bindings_of, key_words
from kflab.tui.lab_words import WORDS
from kflab.tui.messages import CommandIssued, ObjectSelected
from kflab.tui.text import safe

OBJECTS = 2_000
"""Objects offered at most; the ledger's own filter is the way in larger clusters."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to choose."""

    name: str
    help: str
    run: Callable[[], Any]
    first: bool = True
    """Offered before anything is typed."""


class LabCommands(Provider):
    """Put `COMMANDS = {LabCommands}` on the app. The screen under the palette must be the lab's."""

    def entries(self) -> Iterator[Entry]:
        """Everything, in the order of the key table."""
        screen = self.screen
        yield from self._keys(screen)
        for pane in getattr(screen, "panes", ()):
            yield from self._pane_keys(pane)
        for usage, what in WORDS.items():
            word, _, argument = usage.partition(" ")
            yield Entry(f":{usage}", what, partial(self._word, word, bool(argument)), first=False)
        for theme in ("slate", "paper", "ansi"):
            yield Entry(f"theme {theme}", "Colours", partial(setattr, self.app, "theme", theme), first=False)
        snapshot = getattr(screen, "snapshot", None)
        if isinstance(snapshot, Snapshot):
            yield from self._objects(snapshot)

    def _keys(self, screen: Any) -> Iterator[Entry]:
        for binding in as_bindings(type(screen).__dict__.get("BINDINGS", ())):
            if binding.description:
                help_words = f"{key_words(binding)}  {binding.tooltip}"
                yield Entry(binding.description, help_words, partial(screen.run_action, binding.action))

    def _pane_keys(self, pane: Widget) -> Iterator[Entry]:
        title = str(getattr(pane, "title", "") or type(pane).__name__)
        for binding in bindings_of(pane):
            if binding.show and binding.description:
                name = f"{title}: {binding.description}"
                run = partial(pane.run_action, binding.action)
                yield Entry(name, f"{key_words(binding)}  {binding.tooltip}", run, first=False)

    def _word(self, name: str, argument: bool) -> None:
        """A word without argument is done; one with an argument opens the command line with it."""
        opener = getattr(self.screen, "open_command", None)
        if opener is not None:
            opener(f"{name} " if argument else name)
        elif not argument:
            self.screen.post_message(CommandIssued(name))

    def _objects(self, snapshot: Snapshot) -> Iterator[Entry]:
        """Go to an object; end a pod."""
        for key in objects_of(snapshot)[:OBJECTS]:
            select = partial(self.screen.post_message, ObjectSelected(key))
            yield Entry(
                safe(f"go to {key}"), f"Select it in {key.namespace}" if key.namespace else "Select it", select, False
            )
            if key.kind == "Pod":
                crash = partial(self.screen.submit, Kill(key)) if hasattr(self.screen, "submit") else select
                yield Entry(safe(f"crash {key}"), "Its container exits 137", crash, False)

    async def discover(self) -> Hits:
        """What is offered before a letter is typed: the keys."""
        for entry in self.entries():
            if entry.first:
                yield DiscoveryHit(Content(entry.name), entry.run, text=entry.name, help=escape(entry.help))

    async def search(self, query: str) -> Hits:
        """What fits the letters typed. Names become `Content` here: `Matcher.highlight` would read them as markup."""
        fuzzy, style = FuzzySearch(), self.match_style or Style(reverse=True)
        for entry in self.entries():
            score, offsets = fuzzy.match(query, entry.name)
            if score <= 0:
                continue
            shown = Content(entry.name)
            for offset in offsets:
                shown = shown.stylize(style, offset, offset + 1)
            yield Hit(score, shown, entry.run, text=entry.name, help=escape(entry.help))


def objects_of(snapshot: Snapshot) -> list[Key]:
    """Every object that a row of the topology stands for, in its order."""
    keys: dict[Key, None] = {}
    for band in snapshot.bands:
        if band.key is not None:
            keys.setdefault(band.key)
        for candidate in band.candidates:
            keys.setdefault(candidate.key)
    for node in snapshot.nodes:
        keys.setdefault(node.key)
        for pod in node.pods:
            keys.setdefault(pod.key)
    return list(keys)
