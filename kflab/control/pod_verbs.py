"""Verbs on pods and on the pods of a workload: what befalls their applications."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kflab.control.apps import HUNG, LOOPING, UNWELL
from kflab.control.delays import SECOND_NS
from kflab.control.facts import Fact
from kflab.control.init_failures import FAILING
from kflab.control.podconditions import set_by_hand
from kflab.control.pressure import PRESSURE
from kflab.control.probes import LIVENESS, READINESS, STARTUP
from kflab.control.verb import Options, Verb
from kflab.errors import KflabError
from kflab.manifest.objects import Key

if TYPE_CHECKING:
    from kflab.control.plane import ControlPlane


def _length(options: Options, name: str = "for") -> int | None:
    found = options.get(name)
    return None if found is None else int(found)


def _code(options: Options, default: int) -> int:
    code = int(options.get("code", default))
    if not 0 <= code <= 255:
        raise KflabError(f"exit code {code}: expected 0 to 255")
    return code


def _hang(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    return plane.said_by(lambda: plane.apps.hang(key, str(options.get("container", "")), _length(options)))


def _resume(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    return plane.said_by(lambda: plane.apps.resume(key, str(options.get("container", ""))))


def _exit(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    code = _code(options, 1)
    return plane.said_by(lambda: plane.apps.exit(key, code, container=str(options.get("container", ""))))


def _oom_kill(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    """The kernel's OOM killer ends the container: SIGKILL, exit code 128 + 9 (pkg/kubelet/kuberuntime, OOMKilled)."""
    return plane.said_by(lambda: plane.apps.exit(key, 137, "OOMKilled", str(options.get("container", ""))))


def _fail_readiness(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    kinds = (READINESS, LIVENESS, STARTUP) if options.get("liveness") else (READINESS,)
    return plane.said_by(lambda: plane.apps.fail_probes(key, kinds, _length(options)))


def _recover(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    return plane.said_by(lambda: plane.apps.recover(key))


def _node_pressure(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    return plane.said_by(lambda: plane.pressure.begin(key.name, int(options.get("pods", 1))))


def _registry_down(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    return plane.said_by(lambda: plane.apps.registry_goes_down(_length(options)))


def _registry_up(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    return plane.said_by(lambda: plane.apps.registry_up())


def _crash_loop(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    after, code = _length(options, "after"), _code(options, 1)
    after_ns = 5 * SECOND_NS if after is None else after
    return plane.said_by(lambda: plane.apps.loop(key, after_ns, code, _length(options)))


def _end_crash_loop(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    return plane.said_by(lambda: plane.apps.end_loop(key))


def _fail_init(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    code = _code(options, 1)
    if not code:
        raise KflabError("exit code 0 is no failure: expected 1 to 255")
    container, length = str(options.get("container", "")), _length(options)
    return plane.said_by(lambda: plane.start_of_pods.failures.fail(key, code, container, length))


def _pass_init(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    return plane.said_by(lambda: plane.start_of_pods.failures.end_well(key))


def _set_condition(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    type_, status = str(options.get("type", "")), str(options.get("status", "True"))
    return plane.said_by(lambda: set_by_hand(plane.core, key, type_, status))


def _evict(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    grace = options.get("grace")
    return plane.evict(key, grace_s=None if grace is None else int(grace) // SECOND_NS)


POD_VERBS = (
    Verb(
        "evict",
        "pod",
        "evict",
        "asks its PodDisruptionBudget first",
        "{name} was evicted",
        _evict,
        letter="v",
        options={"grace": "duration"},
        notices=True,
    ),
    Verb(
        "hang",
        "pod",
        "hang",
        "connections are made, none is answered",
        "{name} began to hang",
        _hang,
        notices=True,
        letter="h",
        options={"for": "duration", "container": "text"},
        unless=HUNG,
    ),
    Verb(
        "resume",
        "pod",
        "go on",
        "serves what waited",
        "{name} went on",
        _resume,
        letter="h",
        options={"container": "text"},
        when=HUNG,
    ),
    Verb(
        "oomKill",
        "pod",
        "out of memory",
        "exit 137, OOMKilled",
        "{name} was killed for its memory",
        _oom_kill,
        letter="o",
        options={"container": "text"},
        notices=True,
    ),
    Verb(
        "exit",
        "pod",
        "exit by itself",
        "exit 1; restartPolicy decides",
        "{name} exited by itself",
        _exit,
        letter="e",
        options={"code": "whole", "container": "text"},
        notices=True,
    ),
    Verb(
        "failReadiness",
        "workload",
        "readiness fails",
        "its readiness endpoints answer 503",
        "readiness of {name} began to fail",
        _fail_readiness,
        letter="f",
        options={"for": "duration", "liveness": "truth"},
        unless=UNWELL,
    ),
    Verb(
        "passReadiness",
        "workload",
        "readiness passes",
        "they answer 200 again",
        "readiness of {name} passed again",
        _recover,
        letter="f",
        when=UNWELL,
    ),
    Verb(
        "setCondition",
        "workload",
        "set the conditions of its readiness gates",
        "True, as a controller of theirs would",
        "readiness gates of {name} were set",
        _set_condition,
        options={"type": "text", "status": "text"},
        in_menu=False,
    ),
    Verb(
        "nodePressure",
        "node",
        "memory runs out",
        "its kubelet evicts a pod, budget or not",
        "{name} ran out of memory",
        _node_pressure,
        letter="r",
        options={"pods": "whole"},
        unless=PRESSURE,
    ),
    Verb(
        "registryDown",
        "none",
        "image registries down",
        "no image can be pulled",
        "the image registries went down",
        _registry_down,
        options={"for": "duration"},
    ),
    Verb(
        "registryUp",
        "none",
        "image registries up",
        "images can be pulled again",
        "the image registries came back",
        _registry_up,
    ),
    Verb(
        "crashLoop",
        "workload",
        "crash after each start",
        "exit 1, 5 s after every start",
        "containers of {name} began to crash after each start",
        _crash_loop,
        letter="x",
        options={"after": "duration", "code": "whole", "for": "duration"},
        unless=LOOPING,
    ),
    Verb(
        "endCrashLoop",
        "workload",
        "stay up again",
        "once back-off lets them start",
        "containers of {name} began to stay up",
        _end_crash_loop,
        letter="x",
        when=LOOPING,
    ),
    Verb(
        "failInit",
        "workload",
        "init containers fail",
        "exit 1: new pods stay at Init:CrashLoopBackOff",
        "init containers of {name} fail",
        _fail_init,
        options={"code": "whole", "container": "text", "for": "duration"},
        unless=FAILING,
        in_menu=False,
    ),
    Verb(
        "passInit",
        "workload",
        "init containers end well",
        "once back-off lets them run",
        "init containers of {name} end well again",
        _pass_init,
        letter="i",
        when=FAILING,
    ),
)
"""A verb on a workload takes a pod too: `default/Pod/NAME`."""
