"""A node's text, followed from one revision of its rules to the next: a change costs the Services it touched."""

from typing import Any, Protocol

from kflab.dataplane.modes import ModeRules


class _Text(Protocol):
    """A text that is kept Service port by Service port (`IptablesText`, `NftText`, `IpvsText`)."""

    def put(self, port: Any) -> None: ...

    def drop(self, port: Any) -> None: ...

    def blocks(self) -> list[str]: ...


class Written:
    """The text of the rule set last asked for, in any mode.

    One text is kept, whatever the number of nodes: who asks for another node's pays for the whole of it.
    """

    def __init__(self) -> None:
        self._known: tuple[ModeRules, _Text] | None = None

    def blocks(self, rules: ModeRules) -> list[str]:
        """The text of a rule set, in pieces: joined, they are its `save_text()`.

        Pieces in which nothing changed since the last call are the same objects as then.
        """
        if self._known is None or not _alike(rules, self._known[0]):
            text: _Text = rules.written()
        else:
            before, text = self._known
            changed = rules.services.differing(before.services)
            for key in changed:
                for port in before.services[key].ports if key in before.services else ():
                    text.drop(before.on_node(port))
            for key in changed:
                for port in rules.services[key].ports if key in rules.services else ():
                    text.put(rules.on_node(port))
        self._known = rules, text
        return text.blocks()


def _alike(rules: ModeRules, others: ModeRules) -> bool:
    """Whether both are written for the same node, mode and settings, so that only Services can differ."""
    return type(rules) is type(others) and rules.written_for == others.written_for
