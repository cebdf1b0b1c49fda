"""Running one scenario many times: with another patch and another seed each, on all cores.

Every run is a whole lab in a process of its own; what comes back is a handful of figures, so the number of processes
never shows in a result.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context

from kflab import interrupts
from kflab.control.facts import Fact, What
from kflab.errors import KflabError
from kflab.lab.commands import SetLoad
from kflab.lab.handle import Tab
from kflab.lab.rollouts import progress
from kflab.lab.running import Lab
from kflab.lab.session import is_of
from kflab.lab.spec import LabSpec
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod
from kflab.manifest.objects_workloads import DaemonSet, Deployment, StatefulSet
from kflab.records import dataclass

STEP_NS = 500_000_000
"""How often a run looks whether the workload has settled."""

LONGEST = 10
"""A run that has not settled goes on for at most so many times the scenario's duration."""

IN_HAND_NS = 60_000_000_000
"""How long the end of a run waits for requests in hand, without new ones: NGINX's proxy_read_timeout by default."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run came to."""

    seed: int
    failed: int
    sent: int
    rollout_s: float | None
    """From the first action until the workload's pods were new, ready and alone; None when it never was so."""
    extra_pods: int
    """Most pods of the workload at one time, above its replicas."""


@dataclass(frozen=True, slots=True)
class Job:
    """One run: everything that decides it."""

    spec: LabSpec
    duration_ns: int
    workload: Key
    patch: str
    seed: int


def run_job(job: Job) -> Outcome:
    """Play a patched scenario to its end, or until the workload has settled.

    Raises:
        KflabError: If the scenario cannot be run.
    """
    tabs = job.spec.tabs
    if job.patch:
        tabs = (*tabs, Tab("tune.yaml", job.patch, None, "patches"))
    lab = Lab(replace(job.spec, tabs=tabs, seed=job.seed, duration_ns=None))
    begin = min((action.t_ns for action in job.spec.actions), default=0)
    pods = {key for key in lab.store.keys("Pod") if is_of(job.workload, key)}
    most, last = len(pods), begin
    settled = False
    while lab.t_ns < job.duration_ns or (not settled and lab.t_ns < LONGEST * job.duration_ns):
        lab.advance(lab.t_ns + STEP_NS)
        lab.take_lines()
        for fact in lab.take_facts():
            if is_of(job.workload, fact.subject) and fact.t_ns >= begin:
                most, last = _follow(fact, pods, most, last)
        settled = lab.t_ns > begin and has_settled(lab, job.workload)
    _finish_requests(lab)
    total = lab.totals
    replicas = _replicas(lab, job.workload)
    rollout_s = (last - begin) / 1e9 if settled else None
    return Outcome(job.seed, total.failed, total.ok + total.failed, rollout_s, max(0, most - replicas))


def _finish_requests(lab: Lab) -> None:
    """Let what was sent come to its end: a connect that no one answers fails seconds after the rollout is over."""
    until = lab.t_ns + IN_HAND_NS
    lab.do(SetLoad(0))
    while lab.engine.in_flight and lab.t_ns < until:
        lab.advance(lab.t_ns + STEP_NS)
        lab.take_lines()
        lab.take_facts()


def _follow(fact: Fact, pods: set[Key], most: int, last: int) -> tuple[int, int]:
    if fact.what is What.POD_CREATED:
        pods.add(fact.subject)
    elif fact.what is What.POD_REMOVED:
        pods.discard(fact.subject)
    moves = fact.what in (What.POD_CREATED, What.POD_REMOVED, What.POD_STATUS_WRITTEN)
    return max(most, len(pods)), fact.t_ns if moves else last


def _replicas(lab: Lab, workload: Key) -> int:
    obj = lab.store.get(workload)
    if isinstance(obj, Deployment | StatefulSet):
        return obj.replicas
    return obj.observed.get("desiredNumberScheduled", 0) if isinstance(obj, DaemonSet) else 0


def has_settled(lab: Lab, workload: Key) -> bool:
    """Whether `kubectl rollout status` has nothing to wait for, all pods are ready and none is on its way out."""
    wanted = _replicas(lab, workload)
    if progress(lab.store.get(workload)):
        return False
    pods = [pod for pod in lab.store.of_kind("Pod", workload.namespace) if is_of(workload, pod.key)]
    return len(pods) == wanted and all(isinstance(p, Pod) and p.status.ready and not p.terminating for p in pods)


class Runner:
    """Runs jobs on all cores; a job that was run before is remembered.

    Args:
        jobs: Processes; 1 runs them in this one.
    """

    def __init__(self, jobs: int = 0) -> None:
        self.jobs = jobs or os.cpu_count() or 1
        self._pool: ProcessPoolExecutor | None = None
        self._known: dict[tuple[str, int], Outcome] = {}
        self.done = 0
        """Runs so far."""

    @contextmanager
    def open(self) -> Iterator["Runner"]:
        """Start the processes, and end them whatever happens."""
        if self.jobs > 1:
            # Forked copies of a process with threads may hang; a fork server starts from a clean one.
            self._pool = ProcessPoolExecutor(self.jobs, mp_context=get_context("forkserver"), initializer=_quiet)
        try:
            yield self
        except BaseException:
            if self._pool is not None:
                for process in list(getattr(self._pool, "_processes", {}).values()):
                    process.terminate()
            raise
        finally:
            if self._pool is not None:
                self._pool.shutdown(wait=True, cancel_futures=True)
                self._pool = None

    def run(self, jobs: Sequence[Job], tell: Callable[[int], None]) -> list[Outcome]:
        """Run jobs, in any order; outcomes come back in the order of `jobs`.

        Args:
            jobs: What to run.
            tell: Called with the number of runs so far whenever one has ended.
        """
        fresh = {(job.patch, job.seed): job for job in jobs if (job.patch, job.seed) not in self._known}
        for job, outcome in self._outcomes(fresh.values()):
            self._known[(job.patch, job.seed)] = outcome
            self.done += 1
            tell(self.done)
        return [self._known[(job.patch, job.seed)] for job in jobs]

    def _outcomes(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Outcome]]:
        if self._pool is None:
            for job in jobs:
                interrupts.check()
                yield job, run_job(job)
            return
        waiting: list[tuple[Job, Future[Outcome]]] = [(job, self._pool.submit(run_job, job)) for job in jobs]
        for job, future in waiting:
            yield job, _result(future)


def _result(future: "Future[Outcome]") -> Outcome:
    while True:
        interrupts.check()
        try:
            return future.result(timeout=0.2)
        except TimeoutError:
            if future.done():
                raise KflabError("a run was given up by its process") from None


def _quiet() -> None:
    """Ctrl+C is the parent's to answer; numpy needs no threads of its own where every core has a run."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
