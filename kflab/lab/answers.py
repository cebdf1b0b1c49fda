"""How many answers each pod of a Service has given."""

from typing import TYPE_CHECKING

from kflab.engine.bins import Count
from kflab.manifest.objects import Key
from kflab.manifest.objects_network import Service
from kflab.manifest.objects_pods import Pod

if TYPE_CHECKING:
    from kflab.lab.running import Lab


def answers_of(lab: "Lab", service: Key) -> dict[Key, int]:
    """Answers since the start of the pods that a Service selects now, on whatever port and whoever asked.

    Args:
        lab: Running lab.
        service: Key of a Service.

    Returns:
        Per pod its number of answered tries; 0 for a pod that nothing reached. Empty where there is no such Service,
        or it has no selector.
    """
    obj = lab.store.get(service)
    if not isinstance(obj, Service) or not obj.selector:
        return {}
    counts = {
        pod.key: 0
        for pod in lab.store.of_kind("Pod", service.namespace)
        if isinstance(pod, Pod) and obj.selector.items() <= pod.meta.labels.items()
    }
    answered = lab.engine.bins.totals(Count.SERVER_OK)
    for index, (_, _, _, pod) in enumerate(lab.wiring.servers):
        if pod in counts:
            counts[pod] += int(answered[index])
    return counts
