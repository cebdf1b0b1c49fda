"""Jobs. Defaults: k8s.io/kubernetes pkg/apis/batch/v1/defaults.go (SetDefaults_Job)."""

from kflab.manifest.objects_workloads import FailureRule, Job, SuccessRule
from kflab.manifest.typed_common import Given, Tree, when_ns
from kflab.manifest.typed_pods import pod_template
from kflab.manifest.typed_workloads import conditions, count, observed

POLICIES = ("OnFailure", "Never")
"""restartPolicies that a Job's pods may have."""

DEFAULT_BACKOFF_LIMIT = 6

NO_LIMIT = 2**31 - 1
"""backoffLimit where backoffLimitPerIndex alone is given."""


def job(tree: Tree, given: Given) -> Job:
    """batch/v1 Job: one pod to one completion; parallelism alone makes a work queue, where one success is enough."""
    spec, status = tree.get("spec") or {}, tree.get("status") or {}
    parallelism, completions = spec.get("parallelism"), spec.get("completions")
    if completions is None and parallelism is None:
        completions = 1
    indexed = spec.get("completionMode") == "Indexed" and completions is not None
    per_index = _or_none(spec.get("backoffLimitPerIndex")) if indexed else None
    policy = ((spec.get("template") or {}).get("spec") or {}).get("restartPolicy")
    return Job(
        given.meta,
        given.raw,
        given.place,
        template=pod_template(spec.get("template"), policy if policy in POLICIES else "Never"),
        parallelism=count(parallelism, 1),
        completions=None if completions is None else count(completions, 1),
        backoff_limit=count(spec.get("backoffLimit"), DEFAULT_BACKOFF_LIMIT if per_index is None else NO_LIMIT),
        active_deadline_s=_or_none(spec.get("activeDeadlineSeconds")),
        ttl_s=_or_none(spec.get("ttlSecondsAfterFinished")),
        indexed=indexed,
        suspend=bool(spec.get("suspend")),
        replaces_failed_only=spec.get("podReplacementPolicy") == "Failed" or bool(spec.get("podFailurePolicy")),
        failure_rules=tuple(_rule(each) for each in (spec.get("podFailurePolicy") or {}).get("rules") or ()),
        backoff_per_index=per_index,
        max_failed_indexes=None if per_index is None else _or_none(spec.get("maxFailedIndexes")),
        success_rules=tuple(_success_rule(each) for each in success_rules(spec)) if indexed else (),
        observed=observed(tree),
        start_ns=when_ns(status.get("startTime"), given.now),
        completion_ns=when_ns(status.get("completionTime"), given.now),
        completed_indexes=indexes(status.get("completedIndexes") or ""),
        failed_indexes=indexes(status.get("failedIndexes") or ""),
        conditions=conditions(tree),
    )


def _rule(tree: Tree) -> FailureRule:
    codes, patterns = tree.get("onExitCodes") or {}, tree.get("onPodConditions") or ()
    return FailureRule(
        tree.get("action") or "",
        "" if not codes else "NotIn" if codes.get("operator") == "NotIn" else "In",
        tuple(code for code in codes.get("values") or () if isinstance(code, int)),
        codes.get("containerName") or "",
        # The status of a pattern is True if it is not given (SetDefaults_PodFailurePolicyOnPodConditionsPattern).
        tuple((each.get("type") or "", each.get("status") or "True") for each in patterns),
    )


def success_rules(spec: Tree) -> list[Tree]:
    """Rules of a successPolicy that say something."""
    rules = (spec.get("successPolicy") or {}).get("rules") or ()
    return [each for each in rules if each.get("succeededIndexes") is not None or each.get("succeededCount")]


def _success_rule(tree: Tree) -> SuccessRule:
    given = tree.get("succeededIndexes")
    return SuccessRule(None if given is None else indexes(str(given)), tree.get("succeededCount") or None)


def indexes(text: str) -> tuple[int, ...]:
    """completedIndexes: "1,3-5,7"; what is no number is left out."""
    found: list[int] = []
    for part in text.split(","):
        low, _, high = part.partition("-")
        if low.isdigit() and (high.isdigit() or not high) and int(high or low) < 100_000:
            found += range(int(low), int(high or low) + 1)
    return tuple(found)


def indexes_text(found: tuple[int, ...]) -> str:
    """As completedIndexes has them: runs of three and more with a dash (indexed_job_utils.go, String)."""
    runs: list[list[int]] = []
    for index in found:
        if runs and runs[-1][1] == index - 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    words = [str(a) if a == b else f"{a},{b}" if b == a + 1 else f"{a}-{b}" for a, b in runs]
    return ",".join(words)


def _or_none(value: int | None) -> int | None:
    return None if value is None else count(value, 0)
