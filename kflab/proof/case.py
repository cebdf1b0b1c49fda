"""One checked case of a vector, and the objects a vector describes."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from kflab.manifest.loader import load
from kflab.manifest.objects import KubeObject
from kflab.manifest.sources import SourceText
from kflab.records import dataclass

Vector = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """One checked case. It passed if `expected` equals `found`."""

    name: str
    expected: str
    found: str

    @property
    def passed(self) -> bool:
        return self.expected == self.found


def objects_of(manifests: Sequence[Mapping[str, Any]], name: str) -> tuple[KubeObject, ...]:
    """Load a vector's manifests as any others are loaded.

    Raises:
        KflabError: If a manifest is refused.
    """
    text = "\n---\n".join(json.dumps(manifest) for manifest in manifests)
    loaded = load([SourceText(name, text)], require_objects=False)
    loaded.raise_errors()
    return loaded.objects
