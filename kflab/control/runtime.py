"""Ground truth on the nodes: which containers run, what listens, which sandboxes have an address.

Kept apart from what the API says: the API has what the kubelet last reported.
"""

from dataclasses import field

from kflab.manifest.objects import Key
from kflab.records import dataclass
from kflab.replacing import copier

Ports = tuple[tuple[str, int], ...]
"""(protocol, port) pairs, sorted."""


@dataclass(frozen=True, slots=True)
class ContainerRun:
    """One container on its node."""

    name: str
    ports: Ports = ()
    """What it listens on while it accepts connections."""
    up: bool = False
    accepting: bool = False
    """It runs and has its listeners open."""
    since_ns: int = 0
    """Since when it is up or down."""
    starts: int = 0
    exit_code: int | None = None
    """Of the last exit."""
    exit_reason: str = ""
    """What the container runtime says of the last exit besides its code: "OOMKilled"."""
    hung: bool = False
    """Its process stands still: connections are made, nothing is answered, no signal but SIGKILL is acted on."""
    killed_ns: int | None = None
    """It was sent SIGTERM: when SIGKILL follows."""

    @property
    def ended(self) -> str:
        """Reason of the last exit, as statuses have it."""
        return self.exit_reason or ("Completed" if self.exit_code == 0 else "Error")


@dataclass(frozen=True, slots=True)
class PodRuntime:
    """One pod on its node, as it is."""

    key: Key
    uid: str
    node: str
    ips: tuple[str, ...]
    sandbox: bool
    """Packets to its addresses find a network namespace; its processes may run all the same (see `podnetwork`)."""
    containers: tuple[ContainerRun, ...] = ()
    listening: Ports = ()
    """Every (protocol, port) that answers now; anything else refuses."""
    hanging: Ports = ()
    """Those of `listening` behind which a process hangs."""
    assumed: bool = False
    """Ports come from the Services that select the pod, for want of any declaration."""
    started_ns: int | None = None
    """When the last container start happened."""
    exited_ns: int | None = None
    """When the last container exit happened."""
    names: dict[str, int] = field(default_factory=dict, compare=False)
    """Position of each container by name; shared, never changed."""

    @property
    def up(self) -> bool:
        """Whether any container runs."""
        return any(run.up for run in self.containers)

    def serves(self, port: tuple[str, int]) -> bool:
        """Whether the process behind a port runs, listening or not."""
        return any(run.up and port in run.ports for run in self.containers)

    def container(self, name: str) -> ContainerRun:
        """A container by name."""
        return self.containers[self.names[name]]

    def with_runs(
        self, *changed: ContainerRun, started_ns: int | None = None, exited_ns: int | None = None
    ) -> "PodRuntime":
        """The same pod with some containers replaced; times are those of a start or exit happening now."""
        runs = list(self.containers)
        for run in changed:
            runs[self.names[run.name]] = run
        containers = tuple(runs)
        return _with_runs(
            self,
            containers,
            open_ports(containers),
            open_ports(tuple([run for run in containers if run.hung])),
            self.started_ns if started_ns is None else started_ns,
            self.exited_ns if exited_ns is None else exited_ns,
        )


_with_runs = copier(PodRuntime, "containers", "listening", "hanging", "started_ns", "exited_ns")


def open_ports(runs: tuple[ContainerRun, ...]) -> Ports:
    """What answers on a pod: the ports of its accepting containers."""
    if not runs:
        return ()
    if len(runs) == 1:
        return runs[0].ports if runs[0].accepting else ()
    return tuple(sorted({port for run in runs if run.accepting for port in run.ports}))
