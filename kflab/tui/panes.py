"""Panes by their name in the plan. What the first frame does not show is imported and made when it is wanted."""

from typing import TYPE_CHECKING

from kflab.lab.handle import LabHandle
from kflab.tui.pane import Pane

if TYPE_CHECKING:
    from kflab.tui.canvas_view import CanvasView

ORDER = ("ledger", "schematic", "nodes", "request", "manifest", "trace", "shares", "gantt", "rules", "facts")
"""In which tab goes through those that are shown."""

UNTITLED = ("ledger", "facts")
"""Panes that draw their own first line."""


def made(area: str, lab: LabHandle) -> "Pane | CanvasView":
    """Make a pane.

    Raises:
        KeyError: If there is none of that name, or the screen makes it itself.
    """
    match area:
        case "schematic":
            from kflab.tui.schematic import SchematicView

            return SchematicView()
        case "nodes":
            from kflab.tui.nodes_view import NodesView

            return NodesView()
        case "request":
            from kflab.tui.request_pane import RequestPane

            return RequestPane()
        case "shares":
            from kflab.tui.shares_pane import SharesPane

            return SharesPane()
        case "gantt":
            from kflab.tui.gantt_pane import GanttPane

            return GanttPane()
        case "rules":
            from kflab.tui.rules_pane import RulesPane

            return RulesPane(lab)
        case "facts":
            from kflab.tui.facts_view import FactsView

            return FactsView()
    raise KeyError(area)
