"""Verbs on components of the control plane and of nodes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kflab.control.facts import Fact
from kflab.control.verb import Options, Verb
from kflab.manifest.objects import Key

if TYPE_CHECKING:
    from kflab.control.plane import ControlPlane


def _bounce(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    """Stop and start in one instant: whatever it only held in memory is gone."""
    return (*plane.stop(key.name), *plane.start(key.name))


COMPONENT_VERBS = (
    Verb(
        "bounce",
        "component",
        "restart at once",
        "what it had in memory only is gone",
        "{name} was restarted",
        _bounce,
        letter="b",
        unless="stopped",
    ),
)
