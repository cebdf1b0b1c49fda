"""What a pod waits for and how long yet: grace period, toleration of a taint, back-off, pulls, init containers.

In truth, not as the API has it: the kubelet's own clocks. Seconds are rounded up, so 0 is never shown too early.
"""

from kflab.control.plane import ControlPlane
from kflab.control.status import PodWorker
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod

SECOND_NS = 1_000_000_000


def seconds_left(until_ns: int, now_ns: int) -> int:
    """Whole seconds until an instant, rounded up; 0 when it is past."""
    return max(0, -((now_ns - until_ns) // SECOND_NS))


def _short(left: int) -> str:
    """Seconds below 100, else whole minutes."""
    return f"{left}s" if left < 100 else f"{left // 60}m"


def countdown(plane: ControlPlane, pod: Pod) -> tuple[str, str]:
    """What a pod waits for.

    Returns:
        In full ("27 s of grace left") and in at most 11 characters ("ends in 27s"); ("", "") when nothing runs down.
    """
    due_ns = plane.taint_eviction.evicted_at_ns(pod.key)
    if due_ns is not None and due_ns > plane.now_ns and not pod.terminating:
        left = seconds_left(due_ns, plane.now_ns)
        return f"evicted in {left} s", f"evict {left}s"
    worker = plane.status.workers.get(pod.key)
    if worker is None or worker.uid != pod.meta.uid:
        return "", ""
    now = plane.now_ns
    if pod.terminating:
        return _grace(plane, worker, pod, now)
    if worker.hook is not None:
        return f"the postStart hook of {worker.hook.container} runs", "postStart"
    for name, status in (*worker.inits.items(), *worker.containers.items()):
        if status.reason in ("ErrImagePull", "ImagePullBackOff") and name in worker.pull_back_off:
            waits, since = worker.pull_back_off[name]
            left = seconds_left(since + waits, now)
            return (
                (f"no image, back-off {left} s", f"nopull {_short(left)}")
                if left
                else ("no image, next pull due", "no image")
            )
    if worker.start_step < len(worker.spec.init_containers):
        of = len(worker.spec.init_containers)
        name = worker.spec.init_containers[worker.start_step].name
        entry, init = worker.back_off.get(name), worker.inits.get(name)
        if entry is not None and init is not None and init.state != "running" and init.finished_ns is not None:
            left = seconds_left(init.finished_ns + entry[0], now)
            return f"init container {name} failed, back-off {left} s", f"init off {_short(left)}"
        return f"init container {worker.start_step + 1} of {of}", f"init {worker.start_step}/{of}"
    return _back_off(plane, worker, pod.key, now)


def _grace(plane: ControlPlane, worker: PodWorker, pod: Pod, now: int) -> tuple[str, str]:
    ground = plane.runtime.get(pod.key)
    if ground is None or not ground.up:
        return "stopped", ""
    grace = pod.meta.grace_s if pod.meta.grace_s is not None else worker.spec.grace_s
    ends = (pod.meta.deletion_ns or 0) + grace * SECOND_NS
    kills = [run.killed_ns for run in ground.containers if run.up and run.killed_ns is not None]
    left = seconds_left(max([ends, *kills]), now)
    return f"{left} s of grace left", f"ends in {_short(left)}"


def _back_off(plane: ControlPlane, worker: PodWorker, key: Key, now: int) -> tuple[str, str]:
    ground = plane.runtime.get(key)
    for name, status in worker.containers.items():
        entry = worker.back_off.get(name)
        if entry is None or status.state == "running" or status.finished_ns is None or ground is None:
            continue
        reset = status.finished_ns - entry[1] > plane.core.spans["crash_backoff_reset_s"][0]
        if reset or ground.container(name).up or worker.restart_policy(name) == "Never":
            continue
        if entry[1] > status.finished_ns:
            return "restarts now", "restarting"
        left = seconds_left(status.finished_ns + entry[0], now)
        return (
            (f"back-off {left} s", f"backoff {_short(left)}") if left else ("back-off over, restart due", "restart due")
        )
    return "", ""
