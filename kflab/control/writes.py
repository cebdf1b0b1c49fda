"""What kubectl does, at the current instant: apply, scale, delete, in the API server's words."""

from collections.abc import Iterable
from dataclasses import replace

from kflab.cluster.checkpoint import Mutable, clone
from kflab.control.admission import admit_service, carry_over, check_update, require_api
from kflab.control.core import Core
from kflab.control.facts import Fact, What
from kflab.control.node import complete
from kflab.control.pods import mark_deleted
from kflab.errors import KflabError
from kflab.manifest.objects import Key, KubeObject
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_network import Service
from kflab.manifest.objects_pods import Pod
from kflab.manifest.objects_workloads import Deployment, ReplicaSet, StatefulSet

USER = "user"


def pod_of(core: Core, key: Key) -> Pod:
    """The pod with this key.

    Raises:
        KflabError: In kubectl's words, when it is not there.
    """
    pod = core.store.get(key)
    if not isinstance(pod, Pod):
        raise KflabError(f'Error from server (NotFound): pods "{key.name}" not found')
    return pod


class Writes(Mutable):
    """The part of the control plane's facade that writes what users ask for."""

    core: Core

    def delete_pod(self, pod_key: Key, grace_s: int | None = None) -> tuple[Fact, ...]:
        """kubectl delete pod, now; `grace_s` 0 forces it out of the API at once.

        Raises:
            KflabError: When it is not there, or nobody answers.
        """
        require_api(self.core)
        before = len(self.core.facts)
        mark_deleted(self.core, pod_of(self.core, pod_key), grace_s, USER)
        return self.core.told_since(before)

    def scale(self, key: Key, replicas: int) -> tuple[Fact, ...]:
        """kubectl scale, now.

        Raises:
            KflabError: When the workload is not there or has no replicas, or nobody answers.
        """
        require_api(self.core)
        workload = self.core.store.get(key)
        if not isinstance(workload, Deployment | ReplicaSet | StatefulSet):
            raise KflabError(f'Error from server (NotFound): {key.kind.lower()}s "{key.name}" not found')
        if replicas < 0:
            raise KflabError(f"--replicas must be 0 or more, not {replicas}")
        before = len(self.core.facts)
        meta = replace(workload.meta, generation=workload.meta.generation + 1)
        change = (
            self.core.put(replace(workload, meta=meta, replicas=replicas), USER)
            if workload.replicas != replicas
            else None
        )
        if change is not None:
            text = f"{key.kind} {key.name} was scaled from {workload.replicas} to {replicas}"
            self.core.fact(What.SCALED, key, USER, text, change.revision)
        return self.core.told_since(before)

    def apply(self, objects: Iterable[KubeObject], t_ns: int | None = None) -> tuple[Fact, ...]:
        """Create or update objects, already merged with the live ones: all or none.

        Args:
            objects: Typed objects as they should be.
            t_ns: The current instant, for checking; None: not checked.

        Raises:
            KflabError: In the API server's words; then nothing was written.
        """
        if t_ns is not None and t_ns != self.core.now_ns:
            raise ValueError(f"it is {self.core.now_ns} ns, not {t_ns} ns: commands act at the current instant")
        require_api(self.core)
        wanted = list(objects)
        for obj in wanted:
            old = self.core.store.get(obj.key)
            if old is not None:
                check_update(old, obj)
            elif obj.meta.namespace and self.core.store.get(Key("Namespace", "", obj.meta.namespace)) is None:
                named = any(o.kind == "Namespace" and o.meta.name == obj.meta.namespace for o in wanted)
                if not named:
                    raise KflabError(f'namespaces "{obj.meta.namespace}" not found')
        ranges = clone(self.core.addresses)
        try:
            ready = [self._admitted(obj) for obj in wanted]
        except KflabError:
            self.core.addresses.restore(ranges)
            raise
        before = len(self.core.facts)
        for obj in sorted(ready, key=lambda o: o.kind not in ("Namespace", "Node", "PriorityClass")):
            self._write(obj)
        return self.core.told_since(before)

    def _admitted(self, obj: KubeObject) -> KubeObject:
        old = self.core.store.get(obj.key)
        merged = carry_over(old, obj) if old is not None else obj
        if isinstance(merged, Service):
            return admit_service(self.core, merged, old if isinstance(old, Service) else None, strict=True)
        if isinstance(merged, Node) and old is None:
            return complete(self.core, merged, self.core.store.count("Node") + 1)
        return merged

    def _write(self, obj: KubeObject) -> None:
        old = self.core.store.get(obj.key)
        change = self.core.create(obj, USER) if old is None else self.core.put(obj, USER)
        if change is not None:
            word = "created" if old is None else "configured"
            self.core.fact(What.APPLIED, obj.key, USER, f"{obj.key} {word}", change.revision)

    def delete(self, key: Key, grace_s: int | None = None) -> tuple[Fact, ...]:
        """kubectl delete of any object, now; what it owned goes with it.

        Raises:
            KflabError: When it is not there, or nobody answers.
        """
        if key.kind == "Pod":
            return self.delete_pod(key, grace_s)
        require_api(self.core)
        if self.core.store.get(key) is None:
            raise KflabError(f'Error from server (NotFound): {key.kind.lower()}s "{key.name}" not found')
        before = len(self.core.facts)
        change = self.core.remove(key, USER)
        if change is not None:
            self.core.fact(What.APPLIED, key, USER, f"{key} deleted", change.revision)
        return self.core.told_since(before)
