"""Screens that lie over the lab and let it be seen, still running, around them."""

from typing import TypeVar

from textual.color import TRANSPARENT
from textual.screen import ModalScreen

Answer = TypeVar("Answer")


class Overlay(ModalScreen[Answer]):
    """A modal screen without a ground of its own (set inline: the app's style sheet gives every screen a ground)."""

    def __init__(self) -> None:
        super().__init__()
        self.styles.background = TRANSPARENT
