"""What every pane is: a widget that shows snapshots, with a title line that the shell draws."""

from textual.widget import Widget

from kflab.lab.snapshot import Snapshot


class Pane(Widget):
    """Base of all panes (a convenience: the shell only needs these members).

    The shell's `PaneFrame` draws one ruled title line above the pane: ``— title subtitle ——— note —``. It reads the
    three texts at every frame, so a pane just sets them.
    """

    can_focus = True
    title: str = ""
    """Bold, what the pane is: "Trace"."""
    subtitle: str = ""
    """Dim, of what: "following · service/orders"."""
    note: str = ""
    """At the right end: "1 of 5"."""

    def watch_has_focus(self, _has_focus: bool) -> None:
        """No style of ours depends on a pane's focus; Textual would style the pane and all within anew, 7 ms each."""

    def show(self, snapshot: Snapshot) -> None:
        """Show a newer snapshot; called at most once a frame, and only when the snapshot changed."""
        raise NotImplementedError
