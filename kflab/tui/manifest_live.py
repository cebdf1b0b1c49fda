"""The live object beside its text: fetched now and then, what changed in it marked."""

from collections.abc import Callable
from concurrent.futures import Future
from difflib import SequenceMatcher
from time import monotonic

from textual.message import Message

from kflab.lab.handle import LabHandle
from kflab.manifest.objects import Key
from kflab.tui.yaml_area import YamlArea

LIVE_EVERY_S = 0.5
"""Seconds between two looks at a live object; its status changes more often than anyone can read."""

CHANGED_FOR_S = 5.0
"""Seconds for which lines that somebody else changed keep their mark."""


class LiveArrived(Message):
    """The live object is here."""

    def __init__(self, key: Key, words: str) -> None:
        super().__init__()
        self.key = key
        self.words = words


class LiveText:
    """The read-only text of one object as the API server has it.

    Args:
        lab: Who is asked.
        post: Posts a message to the pane, from any thread.
    """

    def __init__(self, lab: LabHandle, post: Callable[[Message], bool]) -> None:
        self.lab = lab
        self.post = post
        self.area = YamlArea("", id="live")
        self._asked_at = 0.0
        self._changed_at = 0.0

    def fetch(self, key: Key) -> None:
        """Ask for the object as it is now."""
        self._asked_at = monotonic()

        def arrived(answer: "Future[str]") -> None:
            error = answer.exception()
            self.post(LiveArrived(key, f"# {error}\n" if error else answer.result()))

        self.lab.live_yaml(key).add_done_callback(arrived)

    def take(self, words: str) -> None:
        """Show a newer text where the eye is; lines that changed since the last look are marked."""
        before = self.area.text
        if before == words:
            return
        scroll = self.area.scroll_offset
        self.area.load_text(words)
        self.area.scroll_to(scroll.x, scroll.y, animate=False, force=True)
        if before:
            self.area.mark_changed(changed_lines(before, words))
            self._changed_at = monotonic()

    def tick(self, key: Key) -> None:
        """Look again when it is time, and let marks fade."""
        now = monotonic()
        if self.area.changed_lines and now - self._changed_at > CHANGED_FOR_S:
            self.area.mark_changed(frozenset())
        if now - self._asked_at >= LIVE_EVERY_S:
            self.fetch(key)


def changed_lines(before: str, after: str) -> frozenset[int]:
    """Lines of the newer text (from 0) that the older one does not have in that place."""
    matcher = SequenceMatcher(None, before.split("\n"), after.split("\n"), autojunk=False)
    lines: set[int] = set()
    for tag, _, _, first, end in matcher.get_opcodes():
        if tag in ("replace", "insert"):
            lines.update(range(first, end))
    return frozenset(lines)
