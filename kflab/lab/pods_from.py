"""Which pods a client's `from` means."""

from collections.abc import Iterator
from typing import cast

from kflab.cluster.store import Store
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod


def pods_of(store: Store, text: str) -> Iterator[Pod]:
    """The pods that a client's `from` means, "namespace/pod" or "namespace/Kind/name", in the order of the store."""
    parts = text.split("/")
    if len(parts) == 2:
        pod = store.get(Key("Pod", parts[0], parts[1]))
        if isinstance(pod, Pod):
            yield pod
    elif len(parts) == 3:
        for obj in store.of_kind("Pod", parts[0]):
            if _belongs(store, cast(Pod, obj), Key(parts[1], parts[0], parts[2])):
                yield cast(Pod, obj)


def _belongs(store: Store, pod: Pod, workload: Key) -> bool:
    owner = pod.meta.owner
    if owner is not None and owner.kind == "ReplicaSet" and workload.kind == "Deployment":
        parent = store.get(owner)
        owner = parent.meta.owner if parent is not None else None
    return owner == workload
