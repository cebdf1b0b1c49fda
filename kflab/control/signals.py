"""The one door through which traffic speaks to the control plane.

`lab` implements it on the engine's memory and the data plane's rules; tests fake it. `control` imports neither.
"""

from typing import Protocol

from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Probe


class Signals(Protocol):
    """Questions that controllers ask about what packets would meet."""

    def answer_to_probe(self, pod: Key, container: str, probe: Probe, t_ns: int) -> bool:
        """Whether the probe would succeed at `t_ns` (its port listens and the container is up)."""
        ...

    def probe_waits(self, pod: Key, port: int, word: int, t_ns: int) -> int:
        """How long a request to a pod's port would wait for its worker at `t_ns`, ns; `word`: 64 bits to draw it by."""
        ...

    def cpu_used(self, pod: Key, t_ns: int) -> int:
        """CPU time that serving requests has cost a pod's containers until `t_ns`, in ns.

        A counter, as the kernel's `cpu.stat` of a cgroup is, though a restart does not set it back; only differences
        mean anything.
        """
        ...

    def answer_to_health_check(self, node: str, service: Key, how: str, t_ns: int) -> bool:
        """Whether a load balancer's health check of `service` on `node` passes at `t_ns`.

        `how` is a `Check.how` of `lbprofiles`: what the check asks.
        """
        ...
