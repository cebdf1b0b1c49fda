"""What the lab takes for granted of applications, because manifests do not say it: told where the user sees it."""

from collections.abc import Callable, Collection, Iterable, Iterator

from kflab.cluster.store import Store
from kflab.control.delays import Delays
from kflab.control.listening import running_containers
from kflab.dataplane.nginx_choice import unknown_variables
from kflab.dataplane.nginx_config import EWMA, ROUND_ROBIN, IngressConfig, Location
from kflab.dataplane.nginx_proxying import USUAL
from kflab.engine.types import Timing
from kflab.lab.spec import ClientSpec
from kflab.manifest.app_annotations import (
    CPU_PER_BUSY_SECOND,
    DELAYS,
    EXIT_CODE,
    INIT_EXIT_CODE,
    POST_START_EXIT_CODE,
    RUNS_FOR,
    STARTUP_CPU,
)
from kflab.manifest.objects import Key
from kflab.manifest.objects_autoscaler import HorizontalPodAutoscaler
from kflab.manifest.objects_pods import Container, Pod

_MOST = 3
"""How many workloads one line names."""


def app_assumptions(
    store: Store, workload_of: Callable[[Pod], Key | None], delays: Delays
) -> Iterator[tuple[str, str]]:
    """(what is assumed, how to say otherwise), one line per assumption, with the workloads it is about."""
    spans = delays.spans_ns()
    found: dict[str, dict[str, None]] = {}
    for obj in store.of_kind("Pod"):
        if isinstance(obj, Pod) and obj.meta.namespace != "kube-system":
            owner = workload_of(obj) or obj.key
            for what in _assumed(obj):
                found.setdefault(what, {})[f"{owner.kind} {owner.namespace}/{owner.name}"] = None
    for what, how in _LINES.items():
        names = list(found.get(what, ()))
        if names:
            more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
            text = what.format_map({name: _seconds(spans[name]) for name in _TIMES})
            yield f"{', '.join(names[:_MOST])}{more}: {text}", how


_EXEC = "exec probes succeed while the container runs"
_INIT = "init containers end well"
_JOB = "a Job's containers run for {job_run_s} and exit with 0, told to end before with 143"
_HOOK = "a preStop hook that is no sleep takes {pre_stop_exec_s}"

_START_HOOK = "a postStart hook that is no sleep takes {post_start_exec_s} and ends well"

_TIMES = ("job_run_s", "pre_stop_exec_s", "post_start_exec_s")
"""Delays that the texts name."""

_LINES = {
    _EXEC: "the verb failReadiness, or an httpGet probe",
    _INIT: f"annotate the pod with {DELAYS['init_container_s']}: 5s, {INIT_EXIT_CODE}: 1; or the verb failInit",
    _JOB: f"annotate the pod template with {RUNS_FOR}: 30s, {EXIT_CODE}: 1 in 30%; or the delay job_run_s",
    _HOOK: f"annotate the pod with {DELAYS['pre_stop_exec_s']}: 5s",
    _START_HOOK: f"annotate the pod with {DELAYS['post_start_exec_s']}: 5s, {POST_START_EXIT_CODE}: 1",
}


def _seconds(span: tuple[int, int]) -> str:
    low, high = (f"{ns / 1e9:.3g}" for ns in span)
    return f"{low} s" if low == high else f"{low} to {high} s"


def _assumed(pod: Pod) -> Iterator[str]:
    containers = running_containers(pod.spec)
    if any(_has_exec_probe(container) for container in containers):
        yield _EXEC
    once = len(containers) < len(pod.spec.containers) + len(pod.spec.init_containers)
    if once and INIT_EXIT_CODE not in pod.meta.annotations:
        yield _INIT
    if pod.meta.owner is not None and pod.meta.owner.kind == "Job" and RUNS_FOR not in pod.meta.annotations:
        yield _JOB
    if DELAYS["pre_stop_exec_s"] not in pod.meta.annotations and any(c.pre_stop_hook for c in containers):
        yield _HOOK
    hooks = [c.post_start for c in containers if c.post_start is not None]
    if DELAYS["post_start_exec_s"] not in pod.meta.annotations and any(
        hook.action == "httpGet" or (hook.action == "exec" and not hook.sleep_s) for hook in hooks
    ):
        yield _START_HOOK


def gate_assumptions(
    store: Store, workload_of: Callable[[Pod], Key | None], kept: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Readiness gates that nobody here passes: their pods are not Ready, unless the manifests say that they are.

    Args:
        store: The cluster's objects.
        workload_of: The workload that a pod belongs to.
        kept: Condition types that a controller of the lab sets.
    """
    found: dict[str, dict[str, None]] = {}
    for obj in store.of_kind("Pod"):
        if isinstance(obj, Pod):
            owner = workload_of(obj) or obj.key
            for gate in obj.spec.readiness_gates:
                if gate not in kept:
                    found.setdefault(gate, {})[f"{owner.kind} {owner.namespace}/{owner.name}"] = None
    for gate, names in found.items():
        who = next((f"{name} sets it, which is not modelled" for start, name in _SETTERS if gate.startswith(start)), "")
        text = f"readiness gate {gate} of {', '.join([*names][:_MOST])}: {who or 'a controller of yours sets it'}"
        yield (
            f"{text}; here a pod is not Ready until somebody does",
            "status.conditions of the pod, or verb setCondition",
        )


_SETTERS = (
    ("target-health.elbv2.k8s.aws/", "the AWS Load Balancer Controller, for a target group that the lab has not,"),
    ("target-health.alb.ingress.k8s.aws/", "the old AWS ALB ingress controller"),
    ("cloud.google.com/load-balancer-neg-ready", "GKE's NEG controller"),
)
"""Beginning of a condition type → who sets it (kubernetes/ingress-gce pkg/neg/readiness; AWS: control/lbgates.py)."""


def proxy_assumptions(configs: Iterable[IngressConfig]) -> Iterator[tuple[str, str]]:
    """What is simplified of NGINX, and its settings that are given and not modelled."""
    said: dict[str, None] = {}
    for config in configs:
        if not said:
            said |= dict.fromkeys((_WORKERS, _CLIENTS))
        for text in (*config.proxying.left_out, *config.keepalive.left_out, *_balancing(config.balancing)):
            said[f"the ingress controller's ConfigMap has {text}"] = None
        for server in config.servers.values():
            for location in server.locations:
                for text in (*USUAL.under(location.text).left_out, *_choosing(location)):
                    name = f"{location.ingress.namespace}/{location.ingress.name}" if location.ingress else ""
                    said[f"Ingress {name} has {text}"] = None
    for text in said:
        yield text, "no other way"


_WORKERS = (
    "NGINX has one worker process in each ingress pod; by default worker-processes is one for each CPU of the node, "
    "each with turns and idle upstream connections of its own, and each picks endpoints up at its own moment of the "
    "second; a reload leaves turns and idle upstream connections as they are, where new workers begin without"
)

_CLIENTS = (
    "clients open a connection to NGINX for each request, so that keep-alive (75 s) and keep-alive-requests (1,000) "
    "end none"
)


def _choosing(location: Location) -> Iterator[str]:
    """What is simplified of how NGINX chooses among the pods of a location."""
    yield from _balancing(location.text("load-balance"))
    if location.text("affinity") == "cookie":
        yield (
            "affinity cookie: clients here send no cookie, so that each of their requests gets a new one, and pods "
            "take turns where NGINX would draw one"
        )
    expression = location.text("upstream-hash-by")
    for name in unknown_variables(expression):
        yield f"upstream-hash-by {expression}: ${name} is taken as empty here"
    if "remote_addr" in expression:
        yield (
            f"upstream-hash-by {expression}: it goes by the client's own address here, also where a node masquerades "
            "(externalTrafficPolicy: Cluster) and NGINX would see the node's"
        )


def _balancing(algorithm: str) -> Iterator[str]:
    if algorithm == EWMA:
        yield (
            "load-balance ewma: a handshake takes no time of its own here, which NGINX counts twice; an ingress pod's "
            "scores move at once, where of two workers that hear of a pod at the same time one is passed over"
        )
    elif algorithm not in ("", ROUND_ROBIN):
        yield f"load-balance {algorithm}: pods take turns here"


def client_assumptions(clients: Iterable[ClientSpec], timing: Timing) -> Iterator[tuple[str, str]]:
    """What is taken for granted of clients that keep connections open, give up, try again, ask DNS or lose packets."""
    for client in clients:
        if client.from_pod:
            text = (
                f"client {client.name} is {client.from_pod}: it sends until its process exits, which ends its requests "
                "in hand, and again once its pod is Ready"
            )
            if client.from_pod.count("/") == 2:
                text = (
                    f"client {client.name} is one pod of {client.from_pod} at a time: it sends until its process "
                    "exits, which ends its requests in hand; then the oldest pod that is Ready goes on, with the whole "
                    "rate"
                )
            yield text, "kflab.dev/exit-after says when a process exits; one client for each pod: from: NAMESPACE/POD"
        if client.connections:
            text = (
                f"client {client.name} spreads its requests at random over its {client.connections} connections and "
                "sends several at once over one; a connection stays with one worker of its pod, and a pod that stops "
                "listening serves its open connections until its process exits"
            )
            yield text, "connections: 0 opens one per request; kflab.dev/exit-after says when the process exits"
        if client.timeout_ns or client.attempt_timeout_ns:
            text = (
                f"client {client.name} closes its connection at its deadline, and what its pod has taken in by then is "
                "worked off all the same; over a kept connection that is closed, others in hand are still answered"
            )
            yield text, "timeout, attemptTimeout"
        if client.retry is not None:
            yield (
                f"client {client.name} sends a failed request again as a whole, whatever the pod did with it before",
                "retryOn says after what; retries: 0 never",
            )
        if client.sockets:
            text = (
                f"client {client.name} keeps {client.sockets:,} WebSockets open and opens one that was cut anew at once"
                "; they load nobody, and their pings keep proxy-read-timeout away"
            )
            yield text, "sockets: 0"
        if client.lookups:
            text = (
                f"client {client.name} asks DNS for every request as glibc does (A and AAAA at once, "
                f"{timing.dns_timeout_ns / 1e9:g} s, two attempts); CoreDNS answers at once and cannot be overloaded"
            )
            yield text, "leave lookups out: the client knows the address"
        if client.lost_per_million:
            text = (
                f"client {client.name} loses {client.lost_per_million / 10_000:g} % of the packets of its lookups and "
                "handshakes, in either direction; packets of open connections are not lost"
            )
            yield text, "packetLoss: 0"


def _has_exec_probe(container: Container) -> bool:
    probes = (container.readiness, container.liveness, container.startup)
    return any(probe is not None and probe.action == "exec" for probe in probes)


def autoscaler_assumptions(store: Store) -> Iterator[tuple[str, str]]:
    """What the CPU that HorizontalPodAutoscalers go by is made of, and which of their metrics count for nothing."""
    scalers = [obj for obj in store.of_kind("HorizontalPodAutoscaler") if isinstance(obj, HorizontalPodAutoscaler)]
    if not scalers:
        return
    yield (
        "HorizontalPodAutoscalers: metrics-server runs; a worker that serves a request uses one CPU, whatever limits "
        "say, and an idle one none",
        f"annotate the pods with {CPU_PER_BUSY_SECOND}: 250m, {STARTUP_CPU}: 2 for 30s",
    )
    for scaler in scalers:
        if scaler.left_out:
            name = f"{scaler.meta.namespace}/{scaler.meta.name}"
            yield (
                f"HorizontalPodAutoscaler {name}: {', '.join(scaler.left_out)} not modelled, it scales by CPU alone",
                "",
            )
