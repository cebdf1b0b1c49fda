"""Labels and annotations as `kubectl describe` writes them: one per line, aligned.

Source: k8s.io/kubectl pkg/describe/describe.go printLabelsMultiline, printAnnotationsMultiline (values longer than
140 characters move to lines of their own, cut at 200; last-applied-configuration is skipped).
"""

from collections.abc import Mapping

from kflab.kubectl.tabular import Writer

MAX_ANNOTATION = 140
"""Characters of `key: value` that fit on one line."""

CUT = 200
"""Characters shown of a longer value's line."""

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def lines_of(out: Writer, title: str, labels: Mapping[str, str]) -> None:
    """Write `Title:  a=1` and one further line per label, in order of keys."""
    for i, key in enumerate(sorted(labels)):
        out.line(0, "" if i else f"{title}:", f"{key}={labels[key]}")
    if not labels:
        out.line(0, f"{title}:", "<none>")


def annotations(out: Writer, title: str, given: Mapping[str, str]) -> None:
    """Write annotations, long ones cut with a sign."""
    keys = [key for key in sorted(given) if key != LAST_APPLIED]
    for i, key in enumerate(keys):
        lead = "" if i else f"{title}:"
        value = given[key].rstrip("\n")
        if len(value) + len(key) + 2 > MAX_ANNOTATION or "\n" in value:
            out.line(0, lead, f"{key}:")
            for line in value.split("\n"):
                out.line(0, "", f"  {line[:CUT]}..." if len(line) > CUT else f"  {line}")
        else:
            out.line(0, lead, f"{key}: {value}")
    if not keys:
        out.line(0, f"{title}:", "<none>")
