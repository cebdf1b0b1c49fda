"""Images on nodes: which are there, how long a pull takes, who waits for whom.

A node pulls one image at a time unless serialize_image_pulls is 0 (k8s.io/kubernetes pkg/kubelet/images/puller.go,
serialImagePuller and parallelImagePuller). What was pulled stays: image garbage collection and registry rate limits are
not modelled, and pulls side by side do not slow each other. A pull takes image_pull_s, 0 unless a scenario says
otherwise, for every image alike, or what the pod's annotation kflab.dev/pull-takes says.
"""

from kflab.cluster.checkpoint import Mutable
from kflab.control.core import Core
from kflab.control.status import PodWorker, StatusManager
from kflab.manifest.app_annotations import missing_images
from kflab.manifest.objects_pods import Container

_NEVER = 1 << 62


class Images(Mutable):
    """What every node has."""

    def __init__(self, core: Core, status: StatusManager) -> None:
        self.core, self.status = core, status
        self.registry_down = False
        """No registry answers: pulls fail."""
        self._there: dict[str, dict[str, int]] = {}
        """Node → image → since when it is there, or will be."""
        self._free_ns: dict[str, int] = {}
        """Node → when its puller is done with what it has been asked for."""

    def there(self, worker: PodWorker, container: Container) -> bool:
        """Whether a node has an image; where nobody has to pull (image_pull_s 0), every node has all that exist."""
        if self._since(worker, container) <= self.core.now_ns:
            return True
        return self._takes_nothing(worker) and container.image not in missing_images(worker.annotations)

    def _since(self, worker: PodWorker, container: Container) -> int:
        return self._there.get(worker.node, {}).get(container.image, _NEVER)

    def _takes_nothing(self, worker: PodWorker) -> bool:
        own = "kflab.dev/pull-takes" in worker.annotations
        return not own and self.core.spans["image_pull_s"] == (0, 0)

    def pull(self, worker: PodWorker, container: Container) -> tuple[int, str]:
        """Ask for a container's image.

        Returns:
            When the answer is there, ns from now; and what the waiting container's reason is then, "" when the image
            is there.
        """
        core, node, image = self.core, worker.node, container.image
        there = self.there(worker, container)
        asks = container.pulls_always and (self.registry_down or not self._takes_nothing(worker))
        if there and not asks:
            return 0, ""
        if container.pull_policy == "Never":
            return 0, "ErrImageNeverPull"
        bad = self.registry_down or image in missing_images(worker.annotations)
        if bad:
            takes = core.delay("image_fail_s", worker.key)
        elif self._since(worker, container) < _NEVER:
            # It is there, or on its way: in turn it will be there by then, side by side both wait for its layers.
            takes = core.delay("image_check_s", worker.key)
            if not core.delays.serialize_image_pulls:
                takes = max(takes, self._since(worker, container) - core.now_ns)
        else:
            takes = self.status.app_delay(worker, "image_pull_s")
        begins = core.now_ns
        if core.delays.serialize_image_pulls:
            begins = max(begins, self._free_ns.get(node, begins))
            self._free_ns[node] = begins + takes
        if not bad:
            self._there.setdefault(node, {}).setdefault(image, begins + takes)
        return begins + takes - core.now_ns, "ErrImagePull" if bad else ""
