"""Verbs on components of the control plane and of nodes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kflab.control.facts import Fact
from kflab.control.verb import Options, Verb
from kflab.manifest.objects import Key

if TYPE_CHECKING:
    from kflab.control.plane import ControlPlane

SLOWABLE = "can be slow"
"""State of a component that runs and that can be slowed down."""


def _bounce(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    """Stop and start in one instant: whatever it only held in memory is gone."""
    return (*plane.stop(key.name), *plane.start(key.name))


def _slow(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    """Let everything it does take longer, 1 s unless `by` says otherwise."""
    return plane.slow(key.name, int(options.get("by", 1_000_000_000)))


def _fast(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    return plane.slow(key.name, 0)


COMPONENT_VERBS = (
    Verb(
        "bounce",
        "component",
        "restart",
        "what it had in memory only is gone",
        "{name} was restarted",
        _bounce,
        letter="b",
        unless="stopped",
    ),
    Verb(
        "slow",
        "component",
        "slow down",
        "everything it does takes 1 s longer",
        "{name} became slow",
        _slow,
        options={"by": "duration"},
        when=SLOWABLE,
        unless="slow",
    ),
    Verb(
        "fast",
        "component",
        "speed up again",
        "no more extra time",
        "{name} became as fast as usual",
        _fast,
        when="slow",
    ),
)
