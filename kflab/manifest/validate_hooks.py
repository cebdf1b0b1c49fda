"""Lifecycle hooks as the API server checks them: one handler each, and a sleep that fits in the grace period.

Source: kubernetes/kubernetes pkg/apis/core/validation/validation.go, validateHandler and validateSleepAction (0 s is
allowed from Kubernetes 1.33 on, KEP-4818).
"""

from kflab.manifest.findings import Path, Report
from kflab.manifest.typed_common import Tree
from kflab.manifest.values import invalid

HANDLERS = ("exec", "httpGet", "tcpSocket", "sleep")
"""In the order in which the API server looks at them."""

DEFAULT_GRACE_S = 30
"""terminationGracePeriodSeconds where none is written."""


def check_hooks(lifecycle: Tree, path: Path, grace_s: int | None, report: Report) -> None:
    """A container's postStart and preStop.

    Args:
        lifecycle: What is written there.
        path: Where.
        grace_s: The pod's terminationGracePeriodSeconds, s; None: not written.
        report: Takes what is wrong.
    """
    for name in ("postStart", "preStop"):
        hook = lifecycle.get(name)
        if hook is None:
            continue
        here: Path = (*path, name)
        handlers = [handler for handler in HANDLERS if hook.get(handler) is not None]
        if not handlers:
            report.refused(here, "Required value: must specify a handler type", "there is no such hook")
        for extra in handlers[1:]:
            taken = "the sleep counts" if "sleep" in handlers else f"{handlers[0]} counts"
            report.refused((*here, extra), "Forbidden: may not specify more than 1 handler type", taken)
        slept = (hook.get("sleep") or {}).get("seconds")
        longest = DEFAULT_GRACE_S if grace_s is None else grace_s
        if isinstance(slept, int) and not 0 <= slept <= max(longest, 0):
            words = f"must be non-negative and less than terminationGracePeriodSeconds ({longest})"
            report.refused((*here, "sleep"), invalid(slept, words), "SIGKILL comes when the grace period is over")
