"""Static pods: a kubelet runs them from a file on its node, and the API has only their images, the mirror pods.

A mirror pod is known by its annotation kubernetes.io/config.mirror. Deleting it stops nothing: the kubelet sees the
deletionTimestamp, removes the object by force and makes it anew, while the containers go on. The new object begins as
Pending, without an address, so its Service loses it; the kubelet holds its status for written and compares with the API
only at its own tick of 10 s, or when it writes a status of another pod. While the kubelet is stopped the deleted object
stays Terminating. A machine that boots starts its static pods whatever the API says of them.

Source: k8s.io/kubernetes pkg/kubelet/kubelet.go (SyncPod, tryReconcileMirrorPods), pkg/kubelet/pod/mirror_client.go,
pkg/kubelet/status/status_manager.go (syncBatch, needsUpdate: versions are kept by the mirror pod's uid).
Simplified: the new object keeps its uid, and the manifests on nodes are those that the mirror pods of the input show,
for ever.
"""

from dataclasses import replace
from typing import ClassVar

from kflab.cluster.store import Change
from kflab.control.core import Controller, Core
from kflab.control.facts import What
from kflab.control.heap import Event, PodEvent
from kflab.control.kubelet import Kubelet
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod, PodStatus
from kflab.records import dataclass


@dataclass(frozen=True, slots=True)
class MirrorGoes(PodEvent):
    """A kubelet syncs a static pod whose mirror pod is to go, or gone."""

    room: ClassVar[str] = "staticpods"
    needs_runtime: ClassVar[bool] = True
    needs_api: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class MirrorMade(PodEvent):
    """A kubelet makes the mirror pod of a static pod."""

    room: ClassVar[str] = "staticpods"
    needs_api: ClassVar[bool] = True


class StaticPods(Controller):
    """What kubelets do for the mirror pods of their static pods."""

    room = "staticpods"
    kinds = ("Pod",)

    def __init__(self, core: Core, kubelet: Kubelet) -> None:
        super().__init__(core)
        self.kubelet, self.status = kubelet, kubelet.status
        self._manifests: dict[Key, Pod] = {}
        """Mirror pods as their kubelets make them, by key."""

    def changed(self, change: Change) -> None:
        """A mirror pod is there for the first time, or is to go."""
        old, new = change.old, change.new
        if isinstance(new, Pod) and change.key not in self._manifests:
            if new.is_mirror and new.spec.node_name:
                meta = replace(new.meta, deletion_ns=None, grace_s=None, creation_ns=0)
                self._manifests[change.key] = replace(new, meta=meta, status=PodStatus())
        elif change.key in self._manifests and isinstance(old, Pod):
            if new is None or (new.meta.deletion_ns is not None and old.meta.deletion_ns is None):
                self.sync(change.key)

    def sync(self, key: Key) -> None:
        """The kubelet of a static pod will look for its mirror pod soon."""
        pod = self._manifests[key]
        wait = self.core.delay("kubelet_watch_s", key)
        self.core.push(wait, MirrorGoes(pod.spec.node_name, key, pod.meta.uid))

    def handle(self, event: Event) -> None:
        """Remove what is to go, then make it anew."""
        assert isinstance(event, MirrorGoes | MirrorMade)
        key, node, pod = event.key, event.node, self.core.store.get(event.key)
        by = f"kubelet {node}"
        if isinstance(event, MirrorMade):
            # Of a Node that is not there the kubelet makes none (SyncPod, GetNode).
            if pod is None and self.core.store.get(Key("Node", "", node)) is not None:
                self._make(key, node)
            return
        if isinstance(pod, Pod):
            if not pod.terminating:
                return
            change = self.core.remove(key, by)
            if change is not None:
                text = f"kubelet on {node} removed the mirror pod {key.name}; its containers go on"
                self.core.fact(What.POD_REMOVED, key, by, text, change.revision)
        self.core.push(self.core.delay("api_write_s", f"{by}/{key}"), MirrorMade(node, key, event.uid))

    def _make(self, key: Key, node: str) -> None:
        by = f"kubelet {node}"
        change = self.core.create(self._manifests[key], by)
        if change is not None:
            text = f"kubelet on {node} made the mirror pod {key.name} anew: its static pod is still there"
            self.core.fact(What.POD_CREATED, key, by, text, change.revision)
            self.status.unsent(key)

    def on(self, node: str) -> list[Pod]:
        """The static pods of a node, as their kubelet reads them."""
        return [pod for pod in self._manifests.values() if pod.spec.node_name == node]
