"""What one can do to a cluster, as data: one entry makes a scenario action, a menu line and a command line's word."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Protocol

from kflab.control.facts import Fact
from kflab.manifest.objects import Key
from kflab.records import dataclass

if TYPE_CHECKING:
    from kflab.control.plane import ControlPlane

Value = int | float | str | bool
"""An option's value; durations are whole ns."""

Options = Mapping[str, Value]

TARGETS = ("pod", "node", "workload", "component", "service", "none")
"""What a verb may act on. A component is Key("Component", "", name); "none" takes no target."""

KINDS = ("duration", "number", "whole", "text", "truth")
"""What an option may be."""


class Do(Protocol):
    """Carries a verb out at the current instant."""

    def __call__(self, plane: "ControlPlane", key: Key, options: Options, /) -> Sequence[Fact]:
        """Act, and say what happened.

        Raises:
            KflabError: When it cannot be done; then nothing was changed.
        """
        ...


@dataclass(frozen=True, slots=True)
class Verb:
    """One thing that can be done."""

    name: str
    """As a scenario's action has it, in lower camel case: "powerOff"."""
    target: str
    """One of `TARGETS`."""
    words: str
    """The menu's line: "power off"."""
    what: str
    """What happens then, in a few words: "no packet in or out, nobody is told"."""
    said: str
    """Past tense with {name}: "{name} lost power". Opens the sentence of who knows."""
    do: Do
    letter: str = ""
    """Chooses the menu's line at once; "" offers it without one."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Name → one of `KINDS`. All may be left out."""
    notices: bool = False
    """The kubelet of the pod's node has to notice."""
    when: str = ""
    """Offered in the menu only while the target is in this state (`Core.states`), e.g. "powered off"."""
    unless: str = ""
    """Not offered while the target is in this state."""
    in_menu: bool = True
    """False: only for scenarios and the command line, because it makes no sense without options."""
