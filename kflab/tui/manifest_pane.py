"""Manifest: to be drawn."""

from kflab.lab.snapshot import Snapshot
from kflab.tui.pane import Pane


class ManifestPane(Pane):
    """Manifest."""

    title = "Manifest"

    def show(self, snapshot: Snapshot) -> None:
        """Nothing yet."""

    def render(self) -> str:
        return ""
