"""Job controller: pods that run to their end, as many at a time as asked for, until enough have succeeded.

A failed pod is replaced after a back-off of 10 s that doubles up to 10 min; more failures than backoffLimit, or a
deadline, end the Job. Pods count once, when they have succeeded or failed or are being deleted. A Job of the manifests
starts when the lab opens. With ttlSecondsAfterFinished it goes, and its pods with it.

Source: k8s.io/kubernetes pkg/controller/job (job_controller.go syncJob, manageJob, trackJobStatusAndRemoveFinalizers;
indexed_job_utils.go), pkg/controller/ttlafterfinished. Finalizers are not modelled: the controller remembers what
became of each pod. What podFailurePolicy makes of a failed pod is in job_failures.py. With backoffLimitPerIndex each
index has its own count of failures and its own back-off, and the Job goes on without those that failed for good; a rule
of successPolicy that is met ends the Job well, and its other pods. Not modelled: CronJobs.
"""

from collections.abc import Iterable, Sequence
from typing import ClassVar

from kflab.cluster.store import Change
from kflab.control.core import Controller, Core, address_of
from kflab.control.delays import SECOND_NS
from kflab.control.facts import What
from kflab.control.garbage import collect
from kflab.control.heap import Event
from kflab.control.job_counts import (
    COMPLETE,
    FAILED,
    MET,
    SUSPENDED,
    TARGET,
    Backoff,
    complete,
    ended_ns,
    given_up,
    pending_indexes,
    removal_order,
    succeeds_early,
    wanted,
)
from kflab.control.job_failures import FAIL_INDEX, FAIL_JOB, IGNORE, judge
from kflab.control.names import generated
from kflab.control.pods import active, create_pod, mark_deleted, owned_pods
from kflab.control.progress import condition, with_condition
from kflab.manifest.objects import Condition, Key, Meta
from kflab.manifest.objects_pods import Pod
from kflab.manifest.objects_workloads import Job
from kflab.records import dataclass
from kflab.replacing import replace

BY = "job-controller"

TTL = "ttl-after-finished-controller"

UID, NAME = "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"
"""Labels of a Job's pods; the same without their prefix are kept beside them."""

INDEX = "batch.kubernetes.io/job-completion-index"
"""Label and annotation of an Indexed Job's pods."""

FAILURES = "batch.kubernetes.io/job-index-failure-count"
"""Annotation of the pods of a Job with backoffLimitPerIndex: how often pods of their index failed before."""

BURST = 500
"""At most so many creations or deletions per sync (MaxPodCreateDeletePerSync)."""

LIVES = ""
"""An outcome of a pod that is none."""


@dataclass(frozen=True, slots=True)
class SyncJob(Event):
    """A Job is taken from the work queue; `due_ns` tells it from one that was overtaken."""

    room: ClassVar[str] = "job"
    needs_api: ClassVar[bool] = True
    key: Key
    due_ns: int


@dataclass(frozen=True, slots=True)
class CreateJobPods(Event):
    """One batch of pods is sent; indexes are -1 where the Job has none."""

    room: ClassVar[str] = "job"
    needs_api: ClassVar[bool] = True
    key: Key
    uid: str
    indexes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class IndexFailures:
    """What became of the pods of one index."""

    counted: int = 0
    """Without those that a rule says to ignore."""
    backoff: Backoff = Backoff()


class JobController(Controller):
    """Makes pods of Jobs, counts how they ended, and writes the status."""

    room = "job"
    owners = ("Job",)
    kinds = ("Job", "Pod")
    component = "controller-manager"

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._due: dict[Key, int] = {}
        self._ended: dict[Key, dict[str, tuple[str, int, int]]] = {}
        """Job → uid of a pod → (Succeeded, Failed, FailIndex or Ignore, when it ended, its index), if not counted."""
        self._fatal: dict[Key, str] = {}
        """Job → what one of its pods did that a FailJob rule fits."""
        self._counted: dict[Key, dict[str, None]] = {}
        """Job → uids of pods that were counted, or are not to be."""
        self._expected: dict[Key, tuple[int, ...]] = {}
        """Job → indexes of pods whose creation is under way."""
        self._backoff: dict[Key, Backoff] = {}
        self._of_index: dict[Key, dict[int, IndexFailures]] = {}
        """Job with backoffLimitPerIndex → index → its failures."""
        self._created: dict[Key, int] = {}

    def changed(self, change: Change) -> None:
        """Queue the Job at once, the owner of a pod a second later; note how a pod ended."""
        if change.key.kind == "Job":
            if change.new is None:
                for table in (
                    self._due, self._ended, self._counted, self._expected, self._backoff, self._fatal, self._of_index
                ):  # fmt: skip
                    table.pop(change.key, None)
                collect(self.core, change.key)
            else:
                self._enqueue(change.key, self.core.delay("watch_s", change.key))
            return
        pod = change.new or change.old
        if isinstance(pod, Pod) and pod.meta.owner is not None and pod.meta.owner.kind == "Job":
            self._note(pod.meta.owner, pod, gone=change.new is None)
            self._enqueue(pod.meta.owner, self.core.delay("job_batch_s", pod.meta.owner))

    def restarted(self) -> None:
        """Back-offs are kept in memory only."""
        self._backoff.clear()

    def _enqueue(self, key: Key, wait_ns: int) -> None:
        due = self.core.now_ns + wait_ns + self.core.delay("controller_s", key)
        if self.core.quiet:
            due = 0
            self.core.assume(f"Job {key.namespace}/{key.name} starts when the lab opens", "apply it later")
        if self._due.get(key, due + 1) > due:
            self._due[key] = due
            self.core.push_at(due, SyncJob(key, due))

    def _note(self, key: Key, pod: Pod, *, gone: bool) -> None:
        job = self.core.store.get(key)
        if not isinstance(job, Job) or pod.meta.uid in self._counted.get(key, {}):
            return
        outcome = pod.status.phase if pod.status.phase in ("Succeeded", "Failed") else LIVES
        if not outcome and (gone or (pod.terminating and not job.replaces_failed_only)):
            outcome = "Failed"
        if outcome == "Failed" and job.failure_rules:
            action, message = judge(job.failure_rules, pod)
            outcome = IGNORE if action == IGNORE else outcome
            outcome = FAIL_INDEX if action == FAIL_INDEX and job.backoff_per_index is not None else outcome
            if action == FAIL_JOB:
                self._fatal.setdefault(key, message)
        if outcome:
            self._ended.setdefault(key, {})[pod.meta.uid] = (outcome, ended_ns(pod), _index(pod))

    def handle(self, event: Event) -> None:
        """Bring one Job on."""
        assert isinstance(event, SyncJob | CreateJobPods)
        job = self.core.store.get(event.key)
        if isinstance(event, CreateJobPods):
            left = list(self._expected.get(event.key, ()))
            for index in event.indexes:
                if index in left:
                    left.remove(index)
            self._expected[event.key] = tuple(left)
            if isinstance(job, Job) and job.meta.uid == event.uid:
                for index in event.indexes:
                    self._create(job, index)
            return
        if self._due.get(event.key) != event.due_ns:
            return
        del self._due[event.key]
        if isinstance(job, Job):
            self._sync(job)

    # --- one sync -------------------------------------------------------------------------------------------

    def _sync(self, job: Job) -> None:
        if over(job):
            self._expire(job)
            return
        now = self.core.now_ns
        new = self._ended.pop(job.key, {})
        self._counted.setdefault(job.key, {}).update(dict.fromkeys(new))
        times = {
            word: [t_ns for each, t_ns, _ in new.values() if each == word or (each, word) == (FAIL_INDEX, "Failed")]
            for word in ("Succeeded", "Failed", IGNORE)
        }
        # A failure that is ignored delays the next pod too (getNewFinishedPods).
        backoff = self._backoff.get(job.key, Backoff()).after(times["Succeeded"], times["Failed"] + times[IGNORE])
        self._backoff[job.key] = backoff
        indexes = {index for word, _, index in new.values() if word == "Succeeded" and index >= 0}
        job = replace(
            job,
            completed_indexes=tuple(sorted({*job.completed_indexes, *indexes})),
            failed_indexes=tuple(sorted({*job.failed_indexes, *self._fail_indexes(job, new.values())})),
            start_ns=now if job.start_ns is None and not job.suspend else job.start_ns,
        )
        more = len(times["Succeeded"])
        succeeded = len(job.completed_indexes) if job.indexed else job.observed.get("succeeded", 0) + more
        failed = job.observed.get("failed", 0) + len(times["Failed"])
        pods = owned_pods(self.core, job.key)
        target, met = condition(job.conditions, TARGET), condition(job.conditions, MET)
        early = ""
        if met is not None:
            reason, message = "", ""
        elif target is not None:
            reason, message = target.reason, target.message
        elif job.key in self._fatal:
            reason, message = "PodFailurePolicy", self._fatal[job.key]
        else:
            reason, message = given_up(job, failed, pods, job.start_ns, now)
            early = "" if reason else succeeds_early(job)
        if early:
            job = self._with(job, MET, "SuccessPolicy", early)
        if early or met is not None:  # pods that are left are ended and not counted
            self._drop(job.key, [pod for pod in pods if active(pod)])
            running = 0
        elif reason:
            stopped = [pod for pod in pods if active(pod)]
            self._drop(job.key, stopped)
            failed += len(stopped)
            job = self._with(job, TARGET, reason, message)
            running = 0
        else:
            running = self._manage(job, [pod for pod in pods if active(pod)], succeeded, backoff)
            if complete(job, running, succeeded):
                job = self._with(job, MET, "CompletionsReached", "Reached expected number of succeeded pods")
            self._watch_deadline(job)
        self._write(job, running, succeeded, failed)

    def _watch_deadline(self, job: Job) -> None:
        if job.active_deadline_s is not None and job.start_ns is not None and not job.suspend:
            rest = job.start_ns + job.active_deadline_s * SECOND_NS - self.core.now_ns
            self._enqueue(job.key, max(0, rest))

    def _drop(self, key: Key, pods: Sequence[Pod]) -> None:
        """Delete pods whose end is not to be counted any more."""
        self._counted.setdefault(key, {}).update(dict.fromkeys(pod.meta.uid for pod in pods))
        for pod in pods:
            mark_deleted(self.core, pod, None, BY)

    def _manage(self, job: Job, there: Sequence[Pod], succeeded: int, backoff: Backoff) -> int:
        """Delete pods that are too many or make those that are missing; how many are active then."""
        coming = self._expected.get(job.key, ())
        running = len(there) + len(coming)
        want = 0 if job.suspend else wanted(job, running, succeeded)
        if running > want:
            gone = sorted(there, key=removal_order)[: min(running - want, BURST)]
            self._drop(job.key, gone)
            return running - len(gone)
        waited_for = 0
        if job.replaces_failed_only:
            waited_for = sum(pod.terminating for pod in owned_pods(self.core, job.key))
        missing = min(want - waited_for - running, BURST)
        if missing <= 0:
            return running
        wait = self._left_ns(backoff) if job.backoff_per_index is None else 0
        if wait:
            self._enqueue(job.key, wait)
            return running
        indexes = [-1] * missing
        if job.indexed:
            taken = {*job.completed_indexes, *job.failed_indexes, *coming, *(_index(pod) for pod in there)}
            indexes = self._not_held(job, pending_indexes(job, taken, missing))
        self._slow_start(job, indexes)
        return running + len(indexes)

    def _left_ns(self, backoff: Backoff) -> int:
        first, longest = self.core.spans["job_backoff_s"][0], self.core.spans["job_backoff_max_s"][0]
        return backoff.left_ns(self.core.now_ns, first, longest)

    # --- indexes with failures of their own -------------------------------------------------------------------

    def _fail_indexes(self, job: Job, ended: Iterable[tuple[str, int, int]]) -> list[int]:
        """Count failures of indexes; those that fail for good (indexed_job_utils.go, calculateFailedIndexes)."""
        if job.backoff_per_index is None:
            return []
        known, found = self._of_index.setdefault(job.key, {}), []
        for word, t_ns, index in ended:
            if word == "Succeeded" or index < 0:
                continue
            was = known.get(index, IndexFailures())
            if word == FAIL_INDEX or (word == "Failed" and was.counted >= job.backoff_per_index):
                found.append(index)
            known[index] = IndexFailures(was.counted + (word != IGNORE), was.backoff.after((), (t_ns,)))
        return found

    def _not_held(self, job: Job, indexes: list[int]) -> list[int]:
        """Those whose own back-off is over (getPodCreationInfoForIndependentIndexes)."""
        known = self._of_index.get(job.key, {})
        waits = {index: self._left_ns(known[index].backoff) if index in known else 0 for index in indexes}
        later = [wait for wait in waits.values() if wait]
        if later:
            self._enqueue(job.key, min(later))
        return [index for index in indexes if not waits[index]]

    def _slow_start(self, job: Job, indexes: Sequence[int]) -> None:
        """Batches of 1, 2, 4, 8 …, each sent when the one before has succeeded."""
        self._expected[job.key] = (*self._expected.get(job.key, ()), *indexes)
        wait, batch, sent = 0, 1, 0
        while sent < len(indexes):
            wait += self.core.delay("api_write_s", job.key)
            self.core.push(wait, CreateJobPods(job.key, job.meta.uid, tuple(indexes[sent : sent + batch])))
            sent, batch = sent + batch, 2 * batch

    def _create(self, job: Job, index: int) -> None:
        ordinal = self._created.get(job.key, 0)
        self._created[job.key] = ordinal + 1
        prefix = f"{job.meta.name}-{index}-" if index >= 0 else f"{job.meta.name}-"
        name = ""
        while not name or self.core.store.get(Key("Pod", job.meta.namespace, name)) is not None:
            name = generated(prefix, self.core.bits("pod-name", address_of(job.key)))
        uid, own = job.meta.uid, job.meta.name
        labels = {**job.template.labels, UID: uid, NAME: own, "controller-uid": uid, "job-name": own}
        annotations, spec = job.template.annotations, job.template.spec
        if index >= 0:
            labels[INDEX] = str(index)
            annotations = {**annotations, INDEX: str(index)}
            if job.backoff_per_index is not None:
                failures = self._of_index.get(job.key, {}).get(index, IndexFailures())
                annotations[FAILURES] = str(failures.counted)
            box = tuple(replace(c, env=(*c.env, ("JOB_COMPLETION_INDEX", str(index)))) for c in spec.containers)
            spec = replace(spec, hostname=f"{own}-{index}", containers=box)
        pod = Pod(Meta(name, job.meta.namespace, labels, annotations), spec=spec)
        create_pod(self.core, job.key, pod, BY, (job.key, ordinal))

    # --- status ---------------------------------------------------------------------------------------------

    def _with(self, job: Job, kind: str, reason: str, message: str, status: str = "True") -> Job:
        now = self.core.now_ns
        new = Condition(kind, status, reason, message, now, now)
        return replace(job, conditions=with_condition(job.conditions, new))

    def _write(self, job: Job, running: int, succeeded: int, failed: int) -> None:
        pods = owned_pods(self.core, job.key)
        ending = [pod for pod in pods if pod.terminating and pod.status.phase not in ("Succeeded", "Failed")]
        was = condition(job.conditions, SUSPENDED)
        if job.suspend:
            job = self._with(job, SUSPENDED, "JobSuspended", "Job suspended")
        elif was is not None and was.status == "True":
            job = replace(self._with(job, SUSPENDED, "JobResumed", "Job resumed", "False"), start_ns=self.core.now_ns)
        decided = condition(job.conditions, MET) or condition(job.conditions, TARGET)
        if decided is not None and not ending:
            word = COMPLETE if decided.type == MET else FAILED
            job = self._with(job, word, decided.reason, decided.message)
            job = replace(job, completion_ns=self.core.now_ns if word == COMPLETE else None)
        ready = sum(pod.status.ready for pod in pods if active(pod))
        observed = {"active": running, "ready": ready, "succeeded": succeeded, "failed": failed,
                    "terminating": len(ending)}  # fmt: skip
        change = self.core.put(replace(job, observed=observed), BY)
        if change is not None and over(job):
            good = condition(job.conditions, COMPLETE) is not None
            told = "Completed: Job completed" if good else f"{decided.reason}: {decided.message}" if decided else ""
            text = (
                f"Job {job.meta.name} {'is complete' if good else 'has failed'}: {succeeded} succeeded, {failed} failed"
            )
            self.core.fact(What.JOB_FINISHED, job.key, BY, text, change.revision, detail=told)

    # --- afterwards -----------------------------------------------------------------------------------------

    def _expire(self, job: Job) -> None:
        """ttlSecondsAfterFinished: the Job is deleted, and the garbage collector deletes its pods."""
        ended = condition(job.conditions, COMPLETE) or condition(job.conditions, FAILED)
        if job.ttl_s is None or ended is None:
            return
        rest = ended.since_ns + job.ttl_s * SECOND_NS - self.core.now_ns
        if rest > 0:
            self._enqueue(job.key, rest)
            return
        change = self.core.remove(job.key, TTL)
        if change is not None:
            text = f"{TTL} deleted Job {job.meta.name}, {job.ttl_s} s after its end"
            self.core.fact(What.APPLIED, job.key, TTL, text, change.revision)


def over(job: Job) -> bool:
    """Whether a Job is complete or has failed (IsJobFinished)."""
    return any(each.type in (COMPLETE, FAILED) and each.status == "True" for each in job.conditions)


def _index(pod: Pod) -> int:
    text = pod.meta.annotations.get(INDEX, "")
    return int(text) if text.isdigit() else -1
