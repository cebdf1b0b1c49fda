"""What the API server would refuse of a Job. Source: k8s.io/kubernetes pkg/apis/batch/validation/validation.go."""

from kflab.manifest.findings import Path, Report
from kflab.manifest.typed_batch import POLICIES
from kflab.manifest.typed_common import Tree
from kflab.manifest.validate_pods import check_annotations, check_pod_spec
from kflab.manifest.values import invalid, unsupported

_COUNTS = (
    "parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished",
    "backoffLimitPerIndex", "maxFailedIndexes",
)  # fmt: skip

_OF_INDEXED = {
    "successPolicy": "all completions are needed",
    "backoffLimitPerIndex": "every failed pod counts towards backoffLimit",
}
"""Fields of Indexed Jobs alone, and what it means that they are not looked at."""

_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")


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
    for field, instead in _OF_INDEXED.items():
        if spec.get(field) is not None and mode != "Indexed":
            words = "requires indexed completion mode"
            known = field == "backoffLimitPerIndex"
            report.refused(
                ("spec", field), invalid(spec[field], words) if known else f"Invalid value: {words}", instead
            )
    if spec.get("maxFailedIndexes") is not None and spec.get("backoffLimitPerIndex") is None:
        words = "Required value: when maxFailedIndexes is specified"
        report.refused(("spec", "backoffLimitPerIndex"), words, "maxFailedIndexes is ignored")
    for n, rule in enumerate((spec.get("successPolicy") or {}).get("rules") or ()):
        if rule.get("succeededIndexes") is None and not rule.get("succeededCount"):
            words = "Required value: at least one of succeededCount or succeededIndexes must be specified"
            report.refused(("spec", "successPolicy", "rules", n), words, "this rule is left out")
    _check_failure_policy(spec, report)
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


def _check_failure_policy(spec: Tree, report: Report) -> None:
    policy = spec.get("podFailurePolicy")
    if policy is None:
        return
    pods = (spec.get("template") or {}).get("spec") or {}
    if pods.get("restartPolicy") == "OnFailure":
        words = invalid("OnFailure", 'only "Never" is supported when podFailurePolicy is specified')
        report.refused(("spec", "template", "spec", "restartPolicy"), words, "containers are restarted all the same")
    for n, rule in enumerate(policy.get("rules") or ()):
        path: Path = ("spec", "podFailurePolicy", "rules", n)
        action, codes = rule.get("action"), rule.get("onExitCodes")
        if action not in _ACTIONS:
            report.refused((*path, "action"), unsupported(action or "", _ACTIONS), "a pod that it fits counts")
        elif action == "FailIndex" and spec.get("backoffLimitPerIndex") is None:
            words = invalid(action, "requires the backoffLimitPerIndex to be set")
            report.refused((*path, "action"), words, "a pod that it fits counts")
        if (codes is None) == (not rule.get("onPodConditions")):
            words = "specifying one of OnExitCodes and OnPodConditions is required"
            report.refused(path, f"Invalid value: {words}", "exit codes are looked at first")
        if codes is not None and codes.get("operator") not in ("In", "NotIn"):
            where = (*path, "onExitCodes", "operator")
            report.refused(where, unsupported(codes.get("operator") or "", ("In", "NotIn")), "In")
