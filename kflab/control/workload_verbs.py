"""Verbs on workloads: what `kubectl rollout` and `kubectl set image` do."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kflab.control import rollout_writes
from kflab.control.facts import Fact
from kflab.control.verb import Options, Verb
from kflab.errors import KflabError
from kflab.manifest.objects import Key

if TYPE_CHECKING:
    from kflab.control.plane import ControlPlane


def _restart(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    return rollout_writes.restart(plane.core, key)


def _pause(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    return rollout_writes.set_paused(plane.core, key, True)


def _resume(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    return rollout_writes.set_paused(plane.core, key, False)


def _undo(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    return rollout_writes.undo(plane.core, plane.deployments, key, int(options.get("toRevision", 0)))


def _set_image(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    image = str(options.get("image", ""))
    if not image:
        raise KflabError(f"setImage of {key} needs `image`, and `container` where it has several")
    return rollout_writes.set_image(plane.core, key, str(options.get("container", "*")), image)


WORKLOAD_VERBS = (
    Verb(
        "restart", "workload", "roll out again", "kubectl rollout restart, within its bounds",
        "{name} was restarted", _restart, letter="r",
    ),
    Verb(
        "undo", "workload", "roll back", "kubectl rollout undo: the revision before",
        "{name} was rolled back", _undo, letter="u", options={"toRevision": "whole"},
    ),
    Verb(
        "pauseRollout", "workload", "pause its rollout", "kubectl rollout pause: a new template waits",
        "the rollout of {name} was paused", _pause, letter="p", unless="rollout paused",
    ),
    Verb(
        "resumeRollout", "workload", "resume its rollout", "kubectl rollout resume",
        "the rollout of {name} was resumed", _resume, letter="p", when="rollout paused",
    ),
    Verb(
        "setImage", "workload", "set an image", "kubectl set image", "{name} got a new image", _set_image,
        options={"image": "text", "container": "text"}, in_menu=False,
    ),
)  # fmt: skip
