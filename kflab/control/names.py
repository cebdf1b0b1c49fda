"""Names and ids that controllers give, in upstream's form.

Sources: k8s.io/apimachinery pkg/util/rand (alphabet, SafeEncodeString); k8s.io/apiserver pkg/storage/names
(generateName); k8s.io/kubernetes pkg/controller/controller_utils.go ComputeHash (FNV-32a).
"""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from kflab.manifest.objects import UNHASHED, KubeObject
from kflab.manifest.objects_pods import PodTemplate
from kflab.manifest.objects_workloads import DaemonSet, Deployment, StatefulSet
from kflab.manifest.write import whole_template

ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""No vowels and no look-alikes, so that no word appears by chance."""

_PAIRS = [first + second for second in ALPHABET for first in ALPHABET]
"""Two letters of a suffix by the number that they stand for, the lower digit first."""

FNV_BASIS, FNV_PRIME = 0x811C9DC5, 0x01000193

MAX_GENERATED = 58
"""A generateName prefix is cut here, so that prefix and suffix fit a DNS label."""


def number_of(name: str) -> int:
    """A stable 63-bit number of a name, as part of the address of draws."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little") >> 1


def suffix(bits: int) -> str:
    """Five characters of the alphabet from a random number."""
    rest, first = divmod(bits, len(_PAIRS))
    rest, second = divmod(rest, len(_PAIRS))
    return _PAIRS[first] + _PAIRS[second] + ALPHABET[rest % len(ALPHABET)]


def generated(prefix: str, bits: int) -> str:
    """generateName `prefix` with a suffix."""
    return prefix[:MAX_GENERATED] + suffix(bits)


def fnv32a(data: bytes) -> int:
    """The 32-bit FNV-1a hash."""
    value = FNV_BASIS
    for byte in data:
        value = ((value ^ byte) * FNV_PRIME) & 0xFFFFFFFF
    return value


def safe_encode(text: str) -> str:
    """Upstream's SafeEncodeString: every character through the alphabet."""
    return "".join(ALPHABET[ord(char) % len(ALPHABET)] for char in text)


def template_hash(workload: KubeObject, template: PodTemplate) -> str:
    """pod-template-hash of a workload's template.

    FNV-32a as upstream, but over a canonical text of our own (upstream hashes Go's dump of the struct), so the
    hashes are of the same shape, not the same. The tree as written is used where there is one: a change in a field
    without type in the lab rolls the pods as well.
    """
    return code_of(fnv32a(canonical_template(workload, template).encode()))


def code_of(hashed: int) -> str:
    """A hash as the label pod-template-hash has it."""
    return safe_encode(str(hashed))


def canonical_template(workload: KubeObject, template: PodTemplate) -> str:
    """One text per template, whatever the order of its fields and whether defaults are written out."""
    if isinstance(workload, Deployment | StatefulSet | DaemonSet) and workload.raw is not None:
        # The tree with defaults filled in: an apply writes them out, and that must not roll the pods.
        return _ENCODER.encode(whole_template(workload)) + _ENCODER.encode(template)
    return _ENCODER.encode(template)


@lru_cache(maxsize=256)
def _fields_of(cls: type) -> tuple[tuple[str, bool, Any], ...]:
    """Of each field of a dataclass: name, whether its default goes unsaid, and that default."""
    return tuple((f.name, f.metadata == UNHASHED, f.default) for f in fields(cls))


def _told(value: Any) -> Any:
    """What JSON has no form for: a dataclass as its fields, anything else as its text."""
    if is_dataclass(value) and not isinstance(value, type):
        told = {}
        for name, late, default in _fields_of(type(value)):
            item = getattr(value, name)
            if not (late and item == default):
                told[name] = item
        return told
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    return str(value)


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=_told)


def uid(kind: str, namespace: str, name: str, n: int) -> str:
    """A uid in UUID form: of the n-th object with this name. Not random, so it is the same in every run."""
    digest = blake2b(f"{kind}/{namespace}/{name}/{n}".encode(), digest_size=16).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-a{digest[17:20]}-{digest[20:]}"
