"""What a face may ask of a lab. Each command lands at the first instant not yet shown and is recorded with it."""

from kflab.control.verb import Value
from kflab.errors import Place
from kflab.manifest.objects import Key
from kflab.records import dataclass


@dataclass(frozen=True, slots=True)
class Kill:
    """End a pod. `how`: "crash" (container exits 137), "delete" (graceful) or "force" (grace period 0)."""

    pod: Key
    how: str = "crash"


@dataclass(frozen=True, slots=True)
class KillRandom:
    """Crash a random ready application pod, drawn from its own random stream."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop a component: "kube-proxy/NODE", "kubelet/NODE" or "apiserver"."""

    component: str


@dataclass(frozen=True, slots=True)
class Start:
    """Start it again."""

    component: str


@dataclass(frozen=True, slots=True)
class Scale:
    """Set spec.replicas of a Deployment, ReplicaSet or StatefulSet (`kubectl scale`)."""

    workload: Key
    replicas: int


@dataclass(frozen=True, slots=True)
class Apply:
    """`kubectl apply` of the editor's documents: all or none. `texts` maps document tab name to its whole text."""

    texts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class SetLoad:
    """Multiply every stream's configured rate."""

    factor: float


@dataclass(frozen=True, slots=True)
class SetMode:
    """Set `mode` of kube-proxy's configuration (iptables, nftables, ipvs) and restart its DaemonSet."""

    mode: str


@dataclass(frozen=True, slots=True)
class Act:
    """Do a verb (`control.verbs`) to its target."""

    verb: str
    target: Key | None = None
    """None for a verb without target. An empty namespace is the lab's own."""
    options: tuple[tuple[str, Value], ...] = ()
    """(name, value), durations in ns."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Hold the clock."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Let it run."""


@dataclass(frozen=True, slots=True)
class SetSpeed:
    """Simulated seconds per second, 0.01 to 100."""

    factor: float


@dataclass(frozen=True, slots=True)
class NextEvent:
    """Advance to the next control-plane event and pause there."""


@dataclass(frozen=True, slots=True)
class Restart:
    """Start the scenario again from t = 0."""


@dataclass(frozen=True, slots=True)
class Save:
    """Write what was done since the start as a scenario file. `name`: a path, or a bare name for ./NAME.yaml."""

    name: str


@dataclass(frozen=True, slots=True)
class Run:
    """One line of the lab's command line: kubectl commands, curl, iptables-save with pipes."""

    line: str


Command = (
    Kill
    | KillRandom
    | Stop
    | Start
    | Scale
    | Apply
    | SetLoad
    | SetMode
    | Act
    | Pause
    | Resume
    | SetSpeed
    | NextEvent
    | Restart
    | Save
    | Run
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something said about an editor's text. `severity`: error, refused, warning or info."""

    severity: str
    message: str
    place: Place | None
    """Line and column in the tab named by `place.file`."""
    length: int = 1
    """How many columns to mark."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a command."""

    ok: bool
    text: str = ""
    """One line for the status area, or the whole output of `Run`."""
    findings: tuple[Finding, ...] = ()
    trace_id: int | None = None
    """For a `curl`: the request to open."""
    err: str = ""
    """For `Run`: the part of `text`, at its beginning, that a shell would get on standard error."""
