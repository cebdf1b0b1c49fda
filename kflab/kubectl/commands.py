"""What a line of the lab's command line means, as frozen values."""

from dataclasses import field

from kflab.records import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """An object named on the command line: a resource word as typed (`svc`, `deployment.apps`) and a name."""

    resource: str
    name: str


@dataclass(frozen=True, slots=True)
class Get:
    """`kubectl get`."""

    resources: tuple[str, ...] = ()
    """Words as typed, one per kind; () when `targets` says it all."""
    targets: tuple[Target, ...] = ()
    namespace: str = ""
    """"" means the current one."""
    all_namespaces: bool = False
    output: str = ""
    """"", wide, yaml, json or name."""
    selector: str = ""
    field_selector: str = ""
    show_labels: bool = False
    headers: bool = True
    label_columns: tuple[str, ...] = ()
    ignore_not_found: bool = False


@dataclass(frozen=True, slots=True)
class Describe:
    """`kubectl describe`."""

    resources: tuple[str, ...] = ()
    targets: tuple[Target, ...] = ()
    namespace: str = ""
    all_namespaces: bool = False
    selector: str = ""


@dataclass(frozen=True, slots=True)
class Logs:
    """`kubectl logs`."""

    target: Target | None = None
    """A pod (resource "pod") or a workload or Service whose pod is chosen; None with a selector."""
    namespace: str = ""
    selector: str = ""
    container: str = ""
    tail: int | None = None
    since_ns: int | None = None
    follow: bool = False
    previous: bool = False
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class ScaleTo:
    """`kubectl scale`."""

    targets: tuple[Target, ...]
    replicas: int
    namespace: str = ""
    current: int | None = None
    """`--current-replicas`: only scale from this."""


@dataclass(frozen=True, slots=True)
class DeletePods:
    """`kubectl delete pod`."""

    targets: tuple[Target, ...] = ()
    namespace: str = ""
    selector: str = ""
    force: bool = False


@dataclass(frozen=True, slots=True)
class TendNode:
    """`kubectl cordon`, `uncordon` and `drain`."""

    verb: str
    names: tuple[str, ...]
    options: tuple[tuple[str, int | bool], ...] = ()
    """Of drain: gracePeriod in ns, force, ignoreDaemonsets."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """`kubectl rollout`."""

    verb: str
    """status, history, restart, undo, pause or resume."""
    target: Target
    namespace: str = ""
    revision: int = 0
    """Of undo (--to-revision) and history (--revision); 0: not given."""


@dataclass(frozen=True, slots=True)
class SetImage:
    """`kubectl set image`."""

    target: Target
    images: tuple[tuple[str, str], ...]
    """(container or "*", image)."""
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class PortForward:
    """`kubectl port-forward`."""

    target: Target | None = None
    """None lists what is forwarded (the lab's own: there is no terminal that shows it running)."""
    ports: tuple[tuple[int | None, str], ...] = ()
    """(local, remote) as typed; local None for a port of the lab's choice; remote may be a Service port's name."""
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class StopForward:
    """`port-forward stop LOCAL`: the lab's stand-in for ctrl+c."""

    local: int


@dataclass(frozen=True, slots=True)
class Curl:
    """`curl URL`, from the client, from a pod (`kubectl exec POD -- curl`) or from a node (`--from node/NAME`)."""

    url: str
    source: Target | None = None
    """None: the person's own machine, i.e. the client outside the cluster (and port-forward's localhost)."""
    namespace: str = ""
    """Of the source pod."""
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    head: bool = False
    """-I: only the headers are shown."""
    include: bool = False
    """-i: headers before the body."""
    verbose: bool = False
    insecure: bool = False
    silent: bool = False
    resolve: tuple[tuple[str, str], ...] = ()
    """(host:port, address) of --resolve."""
    max_time_ns: int | None = None
    connect_timeout_ns: int | None = None


TOOLS = ("iptables-save", "nft list ruleset", "ipvsadm -Sn", "ipset save")
"""What prints rules: iptables mode has the first, nftables mode the second, IPVS mode the others and the first."""


@dataclass(frozen=True, slots=True)
class IptablesSave:
    """`iptables-save`, `nft list ruleset`, `ipvsadm -Sn` or `ipset save`, run on a node."""

    node: str = ""
    """"" means the environment's node."""
    table: str = ""
    """-t: one table only."""
    tool: str = "iptables-save"
    """As it is typed: one of `TOOLS`."""


@dataclass(frozen=True, slots=True)
class Conntrack:
    """`conntrack -L` or `-C`, run on a node. "", 0 and False of a filter: any."""

    node: str = ""
    """"" means the environment's node."""
    count: bool = False
    """-C: only how many."""
    statistics: bool = False
    """-S: the kernel's counters."""
    protocol: str = ""
    """-p: TCP, UDP or SCTP."""
    src: str = ""
    dst: str = ""
    reply_src: str = ""
    reply_dst: str = ""
    sport: int = 0
    dport: int = 0
    state: str = ""
    """--state: TCP state."""
    status: str = ""
    """-u: ASSURED, UNREPLIED…"""
    src_nat: bool = False
    dst_nat: bool = False
    any_nat: bool = False


@dataclass(frozen=True, slots=True)
class Version:
    """`kubectl version`."""


@dataclass(frozen=True, slots=True)
class Help:
    """What can be typed here."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """An empty line or a comment."""


Command = (
    Get
    | Describe
    | Logs
    | ScaleTo
    | DeletePods
    | TendNode
    | Rollout
    | SetImage
    | PortForward
    | StopForward
    | Curl
    | IptablesSave
    | Conntrack
    | Version
    | Help
    | Nothing
)


@dataclass(frozen=True, slots=True)
class Grep:
    """`grep`."""

    patterns: tuple[str, ...]
    extended: bool = False
    fixed: bool = False
    ignore_case: bool = False
    invert: bool = False
    count: bool = False
    word: bool = False
    numbers: bool = False
    only: bool = False
    before: int = 0
    after: int = 0


@dataclass(frozen=True, slots=True)
class Head:
    """`head`: the first lines, or (n negative) all but the last."""

    n: int = 10


@dataclass(frozen=True, slots=True)
class Tail:
    """`tail`: the last lines, or (from_line) those from the n-th on."""

    n: int = 10
    from_line: bool = False


@dataclass(frozen=True, slots=True)
class WordCount:
    """`wc`; which of lines, words and bytes."""

    lines: bool = True
    words: bool = True
    bytes: bool = True


@dataclass(frozen=True, slots=True)
class Sort:
    """`sort`."""

    reverse: bool = False
    unique: bool = False
    numeric: bool = False


@dataclass(frozen=True, slots=True)
class Uniq:
    """`uniq`."""

    count: bool = False


Filter = Grep | Head | Tail | WordCount | Sort | Uniq


@dataclass(frozen=True, slots=True)
class Line:
    """A whole line: one command and the pipe behind it."""

    command: Command
    filters: tuple[Filter, ...] = field(default=())
