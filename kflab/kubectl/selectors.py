"""`-l` label selectors and `--field-selector`, and how kubectl writes selectors.

Source: k8s.io/apimachinery pkg/labels/selector.go (grammar), pkg/apis/meta/v1/helpers.go FormatLabelSelector.
"""

import re
from collections.abc import Mapping

from kflab.errors import KflabError
from kflab.manifest.objects import KubeObject, LabelSelector, Requirement
from kflab.manifest.objects_pods import Pod

_SET = re.compile(r"^(?P<key>[^\s!=,()]+)\s+(?P<op>in|notin)\s*\((?P<values>[^()]*)\)$")
_EQUAL = re.compile(r"^(?P<key>[^\s!=,()]+)\s*(?P<op>==|!=|=)\s*(?P<value>[^\s!=,()]*)$")
_BARE = re.compile(r"^(?P<no>!?)\s*(?P<key>[^\s!=,()]+)$")
_COMMA = re.compile(r",(?![^()]*\))")


def parse(text: str) -> LabelSelector:
    """Parse `app=web,tier!=db,env in (a,b),!canary,owner`.

    Raises:
        KflabError: In kubectl's words if it is not a selector.
    """
    requirements = []
    for part in _COMMA.split(text):
        want = part.strip()
        if not want:
            if text.strip():
                raise KflabError(f"unable to parse requirement: found ',', expected: identifier in {text!r}")
            continue
        if match := _SET.match(want):
            values = tuple(value.strip() for value in match["values"].split(","))
            requirements.append(Requirement(match["key"], "In" if match["op"] == "in" else "NotIn", values))
        elif match := _EQUAL.match(want):
            requirements.append(Requirement(match["key"], "NotIn" if match["op"] == "!=" else "In", (match["value"],)))
        elif match := _BARE.match(want):
            requirements.append(Requirement(match["key"], "DoesNotExist" if match["no"] else "Exists"))
        else:
            raise KflabError(f"unable to parse requirement: {want!r}")
    return LabelSelector(match_expressions=tuple(requirements))


def format_labels(labels: Mapping[str, str]) -> str:
    """`a=1,b=2` in order of keys; `<none>` without any."""
    return ",".join(f"{key}={labels[key]}" for key in sorted(labels)) or "<none>"


def format_selector(selector: LabelSelector) -> str:
    """A LabelSelector as kubectl writes it; `<none>` for one that selects everything."""
    parts = [f"{key}={selector.match_labels[key]}" for key in sorted(selector.match_labels)]
    for want in selector.match_expressions:
        values = ",".join(sorted(want.values))
        words = {
            "In": f"{want.key} in ({values})",
            "NotIn": f"{want.key} notin ({values})",
            "Exists": want.key,
            "DoesNotExist": f"!{want.key}",
        }
        parts.append(words.get(want.operator, want.key))
    return ",".join(parts) or "<none>"


FIELDS = ("metadata.name", "metadata.namespace", "spec.nodeName", "status.phase", "status.podIP")
"""Fields the lab can select by; the last three are a Pod's."""


def parse_fields(text: str) -> tuple[tuple[str, bool, str], ...]:
    """Parse `--field-selector`: (field, equal?, value) per comma-separated part.

    Raises:
        KflabError: For a field that cannot be selected by, naming those that can.
    """
    wants = []
    for part in filter(None, text.split(",")):
        match = re.match(r"^([\w.]+)(==|!=|=)(.*)$", part.strip())
        if match is None:
            raise KflabError(f"invalid field selector {part!r}: can't understand it")
        if match[1] not in FIELDS:
            raise KflabError(f'field label not supported: "{match[1]}" (the lab knows {", ".join(FIELDS)})')
        wants.append((match[1], match[2] != "!=", match[3]))
    return tuple(wants)


def field_matches(obj: KubeObject, wants: tuple[tuple[str, bool, str], ...]) -> bool:
    """Whether an object has the asked-for field values."""
    for field, equal, value in wants:
        have = {"metadata.name": obj.meta.name, "metadata.namespace": obj.meta.namespace}.get(field, "")
        if isinstance(obj, Pod):
            pod = {"spec.nodeName": obj.spec.node_name, "status.phase": obj.status.phase, "status.podIP": obj.ip}
            have = pod.get(field, have)
        if (have == value) is not equal:
            return False
    return True
