"""What the command line needs from a running lab: a Protocol, so that the commands can be tested with a fake."""

from collections.abc import Sequence
from typing import Protocol

from kflab.control.facts import Fact
from kflab.dataplane.conntrack import NodeTable
from kflab.kubectl.curl import CurlAnswer, CurlRequest
from kflab.kubectl.logs import AccessRecord
from kflab.kubectl.portforward import Forwards
from kflab.manifest.objects import Key


class Env(Protocol):
    """The lab, at the instant the command runs."""

    @property
    def now_ns(self) -> int:
        """Simulated time."""
        ...

    @property
    def namespace(self) -> str:
        """The current namespace, "default" unless the lab was opened with -n."""
        ...

    @property
    def forwards(self) -> Forwards:
        """Active port-forwards; the lab keeps the one object as long as it runs."""
        ...

    def rules_text(self, node: str) -> str:
        """The node's rules as its mode's own tool prints them; IPVS mode: each part below a line with its tool."""
        ...

    def conntrack(self, node: str, protocol: str) -> NodeTable:
        """The node's conntrack table now; entries named of one protocol only unless it is ""."""
        ...

    def access_log(self, pod: Key) -> Sequence[AccessRecord]:
        """Requests this pod logged, oldest first, as far as the lab still has them; () for a pod that logs none."""
        ...

    def curl(self, request: CurlRequest) -> CurlAnswer:
        """Send one traced request and run until it is finished."""
        ...

    def scale(self, workload: Key, replicas: int) -> str:
        """Set spec.replicas at this instant; "" or the reason why the API server refused."""
        ...

    def kill(self, pod: Key, how: str) -> str:
        """Delete a pod at this instant, `how` "delete" (gracefully) or "force"; "" or why it was refused."""
        ...

    def act_on_node(self, verb: str, node: str, options: Sequence[tuple[str, int | bool]]) -> str:
        """Cordon, uncordon or drain a node at this instant; "" or why it was refused."""
        ...

    def act_on_workload(self, verb: str, workload: Key, options: Sequence[tuple[str, int | str]]) -> str:
        """Carry out a verb of `control.workload_verbs` at this instant; "" or why it was refused."""
        ...

    def facts(self) -> Sequence[Fact]:
        """What happened so far, oldest first; () where the lab keeps none."""
        ...

    def running(self, component: str) -> bool:
        """Whether "apiserver", "kubelet/NODE" or "kube-proxy/NODE" runs."""
        ...

    def talks(self, node: str) -> bool:
        """Whether a node has power and the API server reaches it."""
        ...
