"""Annotations `kflab.dev/…` on a pod (its template) that say how its application behaves.

Manifests say nothing about that. Each overrides one of the lab's assumed delays for these pods; an annotation of this
domain is ignored by a real cluster.
"""

import re
from collections.abc import Mapping

from kflab.errors import KflabError
from kflab.manifest.quantities import milli_of

DOMAIN = "kflab.dev/"

DELAYS: Mapping[str, str] = {
    "app_listen_s": "kflab.dev/starts-in",
    "app_stop_listening_s": "kflab.dev/stop-listening",
    "app_exit_s": "kflab.dev/exit-after",
    "pre_stop_exec_s": "kflab.dev/pre-stop",
    "post_start_exec_s": "kflab.dev/post-start",
    "init_container_s": "kflab.dev/init-takes",
    "image_pull_s": "kflab.dev/pull-takes",
}
"""Delay of `control/delays.py` → the annotation that replaces it, a duration ("8s", "500ms"):

starts-in: from container start until the application listens. stop-listening: from SIGTERM until it closes its
listener. exit-after: from SIGTERM until it has finished and exits; "never" ignores SIGTERM. pre-stop: how long a
preStop hook takes that is no sleep. post-start: the same of a postStart hook. init-takes: one init container.
pull-takes: the pull of one of its images."""

BACKLOG = "kflab.dev/backlog"
"""What the application gives to listen(2): a whole number; 4096 without it (net.core.somaxconn)."""

MISSING = "kflab.dev/missing-images"
"""Images that no registry has, separated by commas: their pulls fail."""

PROBE_QUEUE = "kflab.dev/probe-queue"
""""true": the workers that serve requests answer the pod's http and grpc probes too, in their turn."""

WORKERS = "kflab.dev/workers"
"""How many requests the application serves at a time: a whole number; 16 without it."""

KEEP_ALIVE = "kflab.dev/keep-alive"
"""How long the application lets a connection idle that NGINX keeps to it, a duration: 5s for Node.js
(server.keepAliveTimeout), 30s for Jetty (idleTimeout); longer than NGINX does without it."""

QUEUE = "kflab.dev/queue"
""""shared": all its workers take from one queue; "each" (the default): a queue for each worker."""

CPU_PER_BUSY_SECOND = "kflab.dev/cpu-per-busy-second"
"""CPU that one of the application's workers uses while it serves a request, as a quantity ("250m"); 1 without it."""

STARTUP_CPU = "kflab.dev/startup-cpu"
"""CPU used from the container's start on, beside that of requests, and for how long: "2 for 30s"; none without it."""

INIT_EXIT_CODE = "kflab.dev/init-exit-code"
"""Exit code of init containers: one number for all, or NAME=CODE, …; 0, they end well, without it."""

POST_START_EXIT_CODE = "kflab.dev/post-start-exit-code"
"""Exit code of commands that are postStart hooks; 0, they end well, without it."""

RUNS_FOR = "kflab.dev/runs-for"
"""How long each of the pod's containers runs until it exits by itself; without it for ever, but for a Job's."""

EXIT_CODE = "kflab.dev/exit-code"
"""What they exit with then: a number, or "1 in 30%" for a share of the runs; 0 without it."""

NEVER = "never"
"""Value of exit-after: the application ignores SIGTERM."""

DEFAULT_BACKLOG = 4096
DEFAULT_WORKERS = 16

_UNITS = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9}


def own_delay_ns(annotations: Mapping[str, str], delay: str) -> int | None:
    """A duration that an annotation gives instead of a delay, ns; None without it, or where it says never."""
    name = DELAYS[delay]
    text = annotations.get(name)
    return None if text is None or text.strip() == NEVER else _duration_ns(name, text)


def ignores_sigterm(annotations: Mapping[str, str]) -> bool:
    """Whether the application goes on after SIGTERM as if nothing were."""
    return annotations.get(DELAYS["app_exit_s"], "").strip() == NEVER


def probes_queue(annotations: Mapping[str, str]) -> bool:
    """Whether a pod's probes wait in the queue of its application."""
    return annotations.get(PROBE_QUEUE, "").strip() == "true"


def missing_images(annotations: Mapping[str, str]) -> frozenset[str]:
    """Images that no registry has."""
    return frozenset(image.strip() for image in annotations.get(MISSING, "").split(",") if image.strip())


def init_exit_code(annotations: Mapping[str, str], name: str) -> int:
    """With which exit code an init container ends."""
    text = annotations.get(INIT_EXIT_CODE, "")
    found = 0
    for part in (part.strip() for part in text.split(",") if part.strip()):
        container, _, code = part.rpartition("=")
        if not re.fullmatch(r"[0-9]{1,3}", code.strip()) or int(code) > 255:
            raise KflabError(f"{INIT_EXIT_CODE}: {part!r} must be an exit code from 0 to 255, or NAME=CODE")
        if container.strip() in ("", name):
            found = int(code)
    return found


def post_start_exit_code(annotations: Mapping[str, str]) -> int:
    """With which exit code the command of a postStart hook ends."""
    text = annotations.get(POST_START_EXIT_CODE, "0").strip()
    if not re.fullmatch(r"[0-9]{1,3}", text) or int(text) > 255:
        raise KflabError(f"{POST_START_EXIT_CODE}: {text!r} must be an exit code from 0 to 255")
    return int(text)


def runs_for_ns(annotations: Mapping[str, str]) -> int | None:
    """How long a container runs until it exits by itself, ns; None without the annotation."""
    text = annotations.get(RUNS_FOR)
    return None if text is None else _duration_ns(RUNS_FOR, text)


def exit_code_of(annotations: Mapping[str, str]) -> tuple[int, float]:
    """(exit code, in which share of the runs) of containers that exit by themselves."""
    text = annotations.get(EXIT_CODE, "0").strip()
    match = re.fullmatch(r"([0-9]{1,3})(?: in ([0-9]{1,2}|100)%)?", text)
    if match is None or int(match[1]) > 255:
        raise KflabError(f"{EXIT_CODE}: {text!r} must be an exit code from 0 to 255, as 1, or 1 in 30%")
    return int(match[1]), int(match[2] or 100) / 100


def cpu_per_busy_second(annotations: Mapping[str, str]) -> int:
    """CPU of a busy worker, thousandths."""
    text = annotations.get(CPU_PER_BUSY_SECOND, "1").strip()
    milli = milli_of(text)
    if milli is None:
        raise KflabError(f"{CPU_PER_BUSY_SECOND}: {text!r} must be an amount of CPU, as 250m, 0.5 or 2")
    return milli


def startup_cpu(annotations: Mapping[str, str]) -> tuple[int, int]:
    """(CPU in thousandths, for how many ns) that a container uses from its start on."""
    text = annotations.get(STARTUP_CPU)
    if text is None:
        return 0, 0
    amount, word, length = text.strip().partition(" for ")
    milli = milli_of(amount.strip())
    if milli is None or not word:
        raise KflabError(f"{STARTUP_CPU}: {text!r} must be an amount of CPU and how long, as 2 for 30s")
    return milli, _duration_ns(STARTUP_CPU, length)


def backlog(annotations: Mapping[str, str]) -> int:
    """Length of the accept queue of each of the application's listeners, less one."""
    text = annotations.get(BACKLOG, str(DEFAULT_BACKLOG)).strip()
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise KflabError(f"{BACKLOG}: {text!r} must be a whole number, 0 or more")
    return int(text)


def workers(annotations: Mapping[str, str]) -> int:
    """How many requests the application serves at a time."""
    text = annotations.get(WORKERS, str(DEFAULT_WORKERS)).strip()
    if not re.fullmatch(r"[1-9][0-9]{0,3}", text):
        raise KflabError(f"{WORKERS}: {text!r} must be a whole number from 1 to 9999")
    return int(text)


def shares_queue(annotations: Mapping[str, str]) -> bool:
    """Whether all workers take from one queue."""
    return annotations.get(QUEUE, "").strip() == "shared"


def keep_alive_ns(annotations: Mapping[str, str]) -> int:
    """How long the application lets an idle connection be, ns; 0: for ever."""
    text = annotations.get(KEEP_ALIVE)
    return 0 if text is None else _duration_ns(KEEP_ALIVE, text)


def problems(annotations: Mapping[str, str]) -> dict[str, str]:
    """Annotation → what is wrong with it, of those that this module reads."""
    found = {}
    read = (
        KEEP_ALIVE,
        BACKLOG,
        PROBE_QUEUE,
        WORKERS,
        QUEUE,
        CPU_PER_BUSY_SECOND,
        STARTUP_CPU,
        INIT_EXIT_CODE,
        POST_START_EXIT_CODE,
        EXIT_CODE,
        RUNS_FOR,
    )
    for name in (*DELAYS.values(), *read):
        if name not in annotations:
            continue
        try:
            if name == PROBE_QUEUE:
                if annotations[name].strip() not in ("true", "false"):
                    raise KflabError(f"{name}: {annotations[name]!r} must be true or false")
            elif name == BACKLOG:
                backlog(annotations)
            elif name == KEEP_ALIVE:
                keep_alive_ns(annotations)
            elif name == CPU_PER_BUSY_SECOND:
                cpu_per_busy_second(annotations)
            elif name == STARTUP_CPU:
                startup_cpu(annotations)
            elif name == EXIT_CODE:
                exit_code_of(annotations)
            elif name == INIT_EXIT_CODE:
                init_exit_code(annotations, "")
            elif name == POST_START_EXIT_CODE:
                post_start_exit_code(annotations)
            elif name == WORKERS:
                workers(annotations)
            elif name == QUEUE:
                if annotations[name].strip() not in ("shared", "each"):
                    raise KflabError(f"{name}: {annotations[name]!r} must be shared or each")
            elif annotations[name].strip() != NEVER or name != DELAYS["app_exit_s"]:
                _duration_ns(name, annotations[name])
        except KflabError as error:
            found[name] = str(error).partition(": ")[2]
    return found


def _duration_ns(name: str, text: str) -> int:
    match = re.fullmatch(r"(\d{1,6})(?:\.(\d{1,6}))?(ms|s|m)", text.strip())
    if match is None:
        raise KflabError(f"{name}: {text!r} is not a duration; expected a form such as 8s, 1.5s, 500ms or 2m")
    unit, fraction = _UNITS[match[3]], match[2] or ""
    return int(match[1]) * unit + int(f"{fraction:0<6}") * unit // 1_000_000
