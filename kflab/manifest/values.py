"""Tests of single values, with the API server's words for what does not pass.

Source: apimachinery pkg/util/validation/validation.go and pkg/util/validation/field/errors.go.
"""

import re
from collections.abc import Iterable

from kflab.manifest.findings import quoted
from kflab.manifest.objects import Labels, LabelSelector

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")
_LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?\Z")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?\Z")
_PORT_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")

PORT_RANGE = "must be between 1 and 65535, inclusive"
NODE_PORTS = range(30000, 32768)
"""The API server's default --service-node-port-range."""

LABEL_WORDS = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
LABEL_1035_WORDS = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)
SUBDOMAIN_WORDS = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
WILDCARD_WORDS = (
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of "
    "lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', "
    "regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
LABEL_VALUE_WORDS = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation "
    "is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)


def label_problem(text: str) -> str:
    """What is wrong with a DNS-1123 label; "" for nothing."""
    if len(text) > 63:
        return "must be no more than 63 characters"
    return "" if _LABEL.match(text) else LABEL_WORDS


def label_1035_problem(text: str) -> str:
    """What is wrong with a DNS-1035 label (Service names); "" for nothing."""
    if len(text) > 63:
        return "must be no more than 63 characters"
    return "" if _LABEL_1035.match(text) else LABEL_1035_WORDS


def subdomain_problem(text: str) -> str:
    """What is wrong with a DNS-1123 subdomain; "" for nothing."""
    if len(text) > 253:
        return "must be no more than 253 characters"
    return "" if _SUBDOMAIN.match(text) else SUBDOMAIN_WORDS


def host_problem(text: str) -> str:
    """What is wrong with an Ingress host, wildcards allowed; "" for nothing."""
    if "*" in text:
        return "" if text.startswith("*.") and _SUBDOMAIN.match(text[2:]) and len(text) <= 253 else WILDCARD_WORDS
    return subdomain_problem(text)


def label_value_problem(text: str) -> str:
    """What is wrong with the value of a label; "" for nothing."""
    if len(text) > 63:
        return "must be no more than 63 characters"
    return "" if _LABEL_VALUE.match(text) else LABEL_VALUE_WORDS


def port_name_problem(text: str) -> str:
    """What is wrong with a container port's name (IsValidPortName); "" for nothing."""
    if len(text) > 15:
        return "must be no more than 15 characters"
    if not _PORT_NAME.match(text):
        return (
            "must contain only alphanumeric characters (a-z, 0-9), and hyphens, and must start and end with an "
            "alphanumeric character"
        )
    if "--" in text:
        return "must not contain consecutive hyphens"
    return "" if re.search("[a-z]", text) else "must contain at least one letter (a-z)"


def invalid(value: object, why: str) -> str:
    """`Invalid value: …: why`."""
    return f"Invalid value: {quoted(value)}: {why}"


def unsupported(value: object, supported: Iterable[str]) -> str:
    """`Unsupported value: …: supported values: …`."""
    return f"Unsupported value: {quoted(value)}: supported values: {', '.join(quoted(v) for v in supported)}"


def duplicate(value: object) -> str:
    """`Duplicate value: …`."""
    return f"Duplicate value: {quoted(value)}"


def go_map(labels: Labels) -> str:
    """A map[string]string as Go prints it in messages."""
    inner = ", ".join(f"{quoted(name)}:{quoted(value)}" for name, value in sorted(labels.items()))
    return f"map[string]string{{{inner}}}" if labels else "map[string]string(nil)"


def go_selector(selector: LabelSelector) -> str:
    """A v1.LabelSelector as Go prints it in messages."""
    expressions = "[]v1.LabelSelectorRequirement(nil)"
    if selector.match_expressions:
        rows = (
            f'v1.LabelSelectorRequirement{{Key:"{e.key}", Operator:"{e.operator}", Values:[]string{{'
            + ", ".join(quoted(value) for value in e.values)
            + "}}"
            for e in selector.match_expressions
        )
        expressions = "[]v1.LabelSelectorRequirement{" + ", ".join(rows) + "}"
    return f"v1.LabelSelector{{MatchLabels:{go_map(selector.match_labels)}, MatchExpressions:{expressions}}}"
