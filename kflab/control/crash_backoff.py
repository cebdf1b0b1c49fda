"""The kubelet's back-off between restarts of a container: how long a dead one has to wait, and when it is tried again.

Source: k8s.io/kubernetes pkg/kubelet/kuberuntime/kuberuntime_manager.go doBackOff, pkg/kubelet/pod_workers.go
completeWork, k8s.io/client-go util/flowcontrol/backoff.go. Delays: lifecycle 4F.
"""

from kflab.control.core import Core, address_of
from kflab.control.status import PodWorker


def wait_before_restart(core: Core, worker: PodWorker, name: str, finished_ns: int) -> int:
    """The back-off that a dead container is in now, counted from its end.

    Args:
        core: The shared state.
        worker: Its pod; the back-off of a container that may restart is raised there.
        name: The container, init containers included.
        finished_ns: When it ended.

    Returns:
        Back-off in ns; 0: it is over, the container restarts now.
    """
    entry = worker.back_off.get(name)
    fresh = entry is None or finished_ns - entry[1] > core.spans["crash_backoff_reset_s"][0]
    waits = core.spans["first_restart_s"][0] if fresh or entry is None else entry[0]
    if core.now_ns - finished_ns < waits:
        return waits
    first, longest = core.spans["crash_backoff_s"][0], core.spans["crash_backoff_max_s"][0]
    worker.back_off[name] = (first if fresh or entry is None else min(2 * entry[0], longest), core.now_ns)
    return 0


def retry_after(core: Core, worker: PodWorker, finished_ns: int, waits_ns: int) -> int:
    """When the pod worker tries a sync again that failed for a back-off, ns from now (completeWork)."""
    if not core.spans["crash_retry_at_end"][0]:
        return core.delay("sync_retry_s", worker.key)
    rest = min(finished_ns + waits_ns - core.now_ns, core.spans["crash_retry_longest_s"][0])
    purpose, address = "crash_retry", address_of(worker.key)
    n = core.next_draw(purpose, address)
    return rest * 5 // 4 if core.quiet else core.draws.control_between(purpose, address, n, rest, rest * 3 // 2 + 1)
