"""`kubectl describe job`. Source: k8s.io/kubectl pkg/describe/describe.go, JobDescriber."""

from kflab.cluster.store import Store
from kflab.kubectl.ages import rfc1123z
from kflab.kubectl.describe_pod import describe_template
from kflab.kubectl.printers import job_duration, seen
from kflab.kubectl.sheet import lines_of
from kflab.kubectl.tabular import Writer
from kflab.manifest.objects_workloads import Job
from kflab.manifest.typed_batch import indexes_text


def describe_job(out: Writer, obj: Job, store: Store, now_ns: int) -> None:
    """Write a Job."""
    del store
    out.line(0, "Name:", obj.meta.name)
    out.line(0, "Namespace:", obj.meta.namespace)
    out.line(0, "Selector:", f"batch.kubernetes.io/controller-uid={obj.meta.uid}")
    lines_of(out, "Labels", obj.meta.labels)
    lines_of(out, "Annotations", obj.meta.annotations)
    out.line(0, "Parallelism:", str(obj.parallelism))
    out.line(0, "Completions:", "<unset>" if obj.completions is None else str(obj.completions))
    out.line(0, "Completion Mode:", "Indexed" if obj.indexed else "NonIndexed")
    out.line(0, "Suspend:", str(obj.suspend).lower())
    out.line(0, "Backoff Limit:", str(obj.backoff_limit))
    if obj.ttl_s is not None:
        out.line(0, "TTL Seconds After Finished:", str(obj.ttl_s))
    if obj.start_ns is not None:
        out.line(0, "Start Time:", rfc1123z(obj.start_ns))
    if obj.completion_ns is not None:
        out.line(0, "Completed At:", rfc1123z(obj.completion_ns))
        out.line(0, "Duration:", job_duration(obj, now_ns))
    if obj.active_deadline_s is not None:
        out.line(0, "Active Deadline Seconds:", f"{obj.active_deadline_s}s")
    active, ready, succeeded, failed = (seen(obj, name) for name in ("active", "ready", "succeeded", "failed"))
    out.line(0, "Pods Statuses:", f"{active} Active ({ready} Ready) / {succeeded} Succeeded / {failed} Failed")
    if obj.indexed:
        out.line(0, "Completed Indexes:", indexes_text(obj.completed_indexes) or "<none>")
    if obj.backoff_per_index is not None:
        out.line(0, "Failed Indexes:", indexes_text(obj.failed_indexes) or "<none>")
    describe_template(out, obj.template)
