"""All verbs, by name. An area adds its tuple here and nothing anywhere else."""

from collections.abc import Mapping
from itertools import chain

from kflab.control.component_verbs import COMPONENT_VERBS
from kflab.control.node_verbs import NODE_VERBS
from kflab.control.pod_verbs import POD_VERBS
from kflab.control.verb import Verb
from kflab.control.workload_verbs import WORKLOAD_VERBS

VERBS: Mapping[str, Verb] = {verb.name: verb for verb in chain(COMPONENT_VERBS, NODE_VERBS, POD_VERBS, WORKLOAD_VERBS)}
"""Name → verb, in the order of the menu."""


def verbs_for(target: str) -> tuple[Verb, ...]:
    """Verbs that act on a kind of target, in order."""
    return tuple(verb for verb in VERBS.values() if verb.target == target)
