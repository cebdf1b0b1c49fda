"""What the API server would refuse of a Job. Source: k8s.io/kubernetes pkg/apis/batch/validation/validation.go."""

from kflab.manifest.findings import Path, Report
from kflab.manifest.typed_batch import POLICIES
from kflab.manifest.typed_common import Tree
from kflab.manifest.validate_pods import check_annotations, check_pod_spec
from kflab.manifest.values import invalid, unsupported

_COUNTS = ("parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished")

_LEFT_OUT = ("podFailurePolicy", "successPolicy", "backoffLimitPerIndex", "maxFailedIndexes")
"""Fields that the lab's Job controller does not look at."""


def check_job(tree: Tree, report: Report) -> None:
    """batch/v1 Job."""
    spec = tree.get("spec") or {}
    for field in _COUNTS:
        value = spec.get(field)
        if value is not None and value < 0:
            report.refused(("spec", field), invalid(value, "must be greater than or equal to 0"), "0")
    mode = spec.get("completionMode")
    if mode and mode not in ("NonIndexed", "Indexed"):
        report.refused(("spec", "completionMode"), unsupported(mode, ("NonIndexed", "Indexed")), "NonIndexed")
    elif mode == "Indexed" and spec.get("completions") is None:
        words = "Required value: when completion mode is Indexed"
        report.refused(("spec", "completions"), words, "its pods have no index")
    for field in _LEFT_OUT:
        if spec.get(field) is not None:
            report.warn(("spec", field), f"{field} is not modelled: every failed pod counts towards backoffLimit")
    path: Path = ("spec", "template", "spec")
    template = spec.get("template") or {}
    pod_spec = template.get("spec")
    if not pod_spec:
        report.refused((*path, "containers"), "Required value", "pods with one container that listens nowhere")
        return
    if not pod_spec.get("restartPolicy"):
        words = 'Required value: valid values: "OnFailure", "Never"'
        report.refused((*path, "restartPolicy"), words, "Never")
    check_pod_spec(pod_spec, path, report, workload=True, policies=POLICIES)
    check_annotations(template, ("spec", "template", "metadata"), report)
