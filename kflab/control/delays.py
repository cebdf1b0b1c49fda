"""Every delay of the control plane, by name, in seconds, with its source.

"lifecycle N" is a section of the project's fact sheet; S, D, I and M there mean source, documentation, issue, own
modelling choice. A value (low, high) is drawn uniformly, each time anew, and may be replaced by a distribution, also
where both are equal; a number is fixed: a period (what is drawn is its phase), a limit that times are compared with, or
the first or longest wait of a series that doubles.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TypeGuard

from kflab.errors import KflabError, did_you_mean
from kflab.records import dataclass

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class LogNormal:
    """Seconds with this median and 99th percentile."""

    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Exponential:
    """Seconds with this mean."""

    mean: float


Distribution = LogNormal | Exponential

SECOND_NS = 1_000_000_000

WHOLE = {"endpoints_per_slice": (1, 1_000), "hard_eviction_grace_s": (1, 86_400), "autoscaler_grace_max_s": (0, 86_400)}
"""Whole numbers, and their bounds: k/k pkg/apis/discovery/validation (maxEndpoints); grace periods are whole seconds in
the API, and a kubelet gives at least one (pkg/kubelet/pod_workers.go, calculateEffectiveGracePeriod)."""

REPEATED = (
    "autoscaler_eviction_retry_s", "autoscaler_poll_s", "drain_retry_s", "eviction_monitor_s", "hpa_sync_s",
    "lb_requeue_s", "lease_renew_s", "metrics_scrape_s", "reflector_backoff_max_s",
)  # fmt: skip
"""From one look to the next while nothing else happens: `SHORTEST_S` at least, else time would hardly go on."""

SHORTEST_S = 0.001

LN_2, LN_100 = 0.6931471805599453, 4.605170185988092
"""An exponential's median and 99th percentile, in means."""


def ns(seconds: float) -> int:
    """Seconds to whole nanoseconds."""
    return round(seconds * SECOND_NS)


@dataclass(frozen=True, slots=True)
class Delays:
    """Seconds unless a name ends otherwise. Defaults are those of Kubernetes 1.33."""

    # --- API server and watches (lifecycle 2, suggested latency model, M) ---
    watch_s: Range = (0.001, 0.02)
    """A write until a controller's informer has it."""
    api_write_s: Range = (0.005, 0.02)
    """One write to the API server."""
    controller_s: Range = (0.002, 0.02)
    """A controller's sync of one object, write included."""
    scheduler_s: Range = (0.003, 0.015)
    """Scheduling and binding of one pod on an idle scheduler (lifecycle 1.6, M)."""
    reflector_backoff_s: float = 0.8
    """First wait of a watch that lost the API server; doubles (client-go tools/cache/reflector.go)."""
    reflector_backoff_max_s: float = 30.0
    """Longest wait of that series; every wait is drawn from 1 to 2 times its value (same file)."""

    # --- kubelet: start ---
    kubelet_watch_s: Range = (0.005, 0.03)
    """A write until the kubelet acts on it (lifecycle 4C.2a)."""
    sandbox_s: Range = (0.3, 1.0)
    """Pod sandbox and CNI (lifecycle 2 and 4F)."""
    image_pull_s: Range = (0.0, 0.0)
    """Pull of one image that its node has not; 0: every node has all images (lifecycle 4F)."""
    serialize_image_pulls: float = 1.0
    """1: one pull at a time per node. 0: all at once, as with maxParallelImagePulls unset. KubeletConfiguration's
    serializeImagePulls, true by default (pkg/kubelet/apis/config/v1beta1/defaults.go). A switch, not seconds."""
    image_check_s: Range = (0.2, 0.6)
    """imagePullPolicy Always and the image is there: the registry is asked for its digest (M). Only where pulls take
    time at all."""
    image_fail_s: Range = (0.5, 3.0)
    """Until the registry's answer that there is no such image, or that nobody answers (M)."""
    image_backoff_s: float = 10.0
    """First ImagePullBackOff; doubles (imageBackOffPeriod, lifecycle 1.1)."""
    image_backoff_max_s: float = 300.0
    """Longest ImagePullBackOff (MaxContainerBackOff, lifecycle 1.1)."""
    init_container_s: Range = (0.3, 1.0)
    """One init container from start to successful end (M)."""
    container_start_s: Range = (0.1, 0.5)
    """Create and start of a new pod's containers (lifecycle 2)."""
    container_restart_s: Range = (0.3, 1.5)
    """Re-creation of a crashed container (lifecycle 4A.6)."""
    job_run_s: Range = (10.0, 10.0)
    """How long a Job's container runs that does not say, until it exits with 0 (M)."""
    post_start_exec_s: Range = (0.5, 2.0)
    """A postStart hook that is no sleep: a command or an HTTP request (M). The pod annotation kflab.dev/post-start
    overrides it."""
    app_listen_s: Range = (0.0, 0.0)
    """From container start until the application listens (M)."""

    # --- kubelet: noticing ---
    pleg_relist_s: float = 1.0
    """genericPlegRelistPeriod: from the end of one relist to the start of the next (lifecycle 1.1)."""
    pleg_takes_s: float = 0.06
    """One relist of a small node (M)."""
    pleg_unhealthy_s: float = 180.0
    """relistThreshold: a PLEG that could not list pods for longer is not healthy (lifecycle 1.1)."""
    runtime_status_s: float = 5.0
    """How often a kubelet asks the container runtime for its status (pkg/kubelet/kubelet.go, updateRuntimeUp)."""
    runtime_down_s: float = 30.0
    """maxWaitForContainerRuntime: a runtime whose last status is older is down (same file)."""
    sync_loop_backoff_max_s: float = 5.0
    """Longest sleep of a sync loop that finds the runtime unhealthy (same file, syncLoop)."""
    pod_status_write_s: Range = (0.01, 0.05)
    """Pod sync and status PATCH (lifecycle 4A.3)."""
    probe_answer_s: Range = (0.002, 0.002)
    """A successful probe's answer inside a node (M)."""
    crash_backoff_s: float = 10.0
    """First CrashLoopBackOff; doubles (lifecycle 1.1)."""
    crash_backoff_max_s: float = 300.0
    """Longest CrashLoopBackOff (lifecycle 1.1)."""
    crash_backoff_reset_s: float = 600.0
    """A container that ran this long after its last restart starts the series again (lifecycle 1.1)."""
    first_restart_s: float = 0.0
    """Back-off before the first restart: none, as no entry exists yet (lifecycle 1.1, k/k #133472)."""
    sync_retry_s: Range = (10.0, 15.0)
    """Pod worker's retry of a failed sync, backOffPeriod 10 s × (1 + U(0, 0.5)) (lifecycle 1.1, up to 1.34)."""

    crash_retry_at_end: float = 0.0
    """1: as from 1.35 on (k/k #133066), the retry of a sync that failed for a back-off is due when that ends, but
    within crash_retry_longest_s, times 1 + U(0, 0.5). 0: sync_retry_s, as up to 1.34. A switch, not seconds."""
    restart_keeps_status: float = 0.0
    """1: as from 1.35 on (KEP-4781, gate ChangeContainerStatusOnKubeletRestart off), a kubelet that starts again leaves
    containers ready or not as they were until a probe says otherwise. 0: as up to 1.34, those with a readiness or
    startup probe are not ready for a moment (k/k #100277). A switch, not seconds."""
    crash_retry_longest_s: float = 60.0
    """The kubelet's resyncInterval (same place)."""

    status_retry_s: float = 10.0
    """Status manager's tick, at which writes that failed are retried (kubelet status_manager.go syncPeriod)."""

    # --- kubelet: ending ---
    sigterm_s: Range = (0.01, 0.03)
    """From acting on the delete (after preStop) to SIGTERM (lifecycle 4C.3a: T + about 0.05 s in all)."""
    app_stop_listening_s: Range = (0.0, 0.0)
    """From SIGTERM until the application closes its listener: c of lifecycle 4C.4 (M)."""
    app_exit_s: Range = (0.5, 0.5)
    """From SIGTERM until the application has finished its requests and exits (M)."""
    pre_stop_exec_s: Range = (0.5, 2.0)
    """A preStop hook that is no sleep: a command or an HTTP request (M). The pod annotation kflab.dev/pre-stop
    overrides it; likewise post-start, starts-in, stop-listening, exit-after, init-takes and pull-takes the delays of
    that name."""
    minimum_grace_s: float = 2.0
    """SIGTERM to SIGKILL is never shorter (lifecycle 1.2)."""
    sandbox_gone_s: Range = (0.05, 0.3)
    """Sandbox and its address torn down after the last container's exit (M)."""
    pod_removal_s: Range = (0.1, 0.6)
    """From there until the kubelet has deleted the object (M)."""
    network_removed_s: Range = (0.02, 0.15)
    """From the removal of a Pod object until Calico's agent has taken the pod's chains and route off its node, where
    `cluster: {cni: calico}`: the watch, and one update of the data plane, of which Felix makes ten a second at most
    (projectcalico/calico felix/dataplane/linux/int_dataplane.go; M)."""

    # --- kubelet: node-pressure eviction ---
    eviction_monitor_s: float = 10.0
    """evictionMonitoringPeriod: how often a kubelet compares its node's memory with the threshold; it evicts one pod at
    a time (pkg/kubelet/kubelet.go)."""
    pressure_transition_s: Range = (300.0, 300.0)
    """evictionPressureTransitionPeriod: how long the condition MemoryPressure, and so its taint, outlasts the pressure
    (KubeletConfiguration; pkg/kubelet/apis/config/v1beta1/defaults.go)."""
    hard_eviction_grace_s: float = 1.0
    """immediateEvictionGracePeriodSeconds: the grace period of a pod that is evicted over a hard threshold, whole
    seconds from 1 on (pkg/kubelet/eviction/eviction_manager.go)."""

    # --- workload controllers ---
    requeue_skew_s: float = 1.0
    """A controller that waits for minReadySeconds or progressDeadlineSeconds looks again so much later, as those count
    in whole seconds (k/k #39785; daemon_controller.go and stateful_set.go updatePod; deployment/progress.go,
    requeueStuckDeployment)."""
    daemon_backoff_s: float = 1.0
    """A node's first failed daemon pod is replaced at once, the next one after so long; doubles (failedPodsBackoff:
    k/k cmd/kube-controller-manager/app/apps.go, pkg/controller/daemon)."""
    daemon_backoff_max_s: float = 900.0
    """Longest wait of that series; a node whose last failed pod is twice as long ago starts anew (same place, and
    client-go util/flowcontrol/backoff.go)."""
    job_batch_s: Range = (1.0, 1.0)
    """syncJobBatchPeriod: a pod's change waits so long for others before its Job is synced (k/k pkg/controller/job)."""
    job_backoff_s: float = 10.0
    """DefaultJobPodFailureBackOff: from the end of a Job's failed pod until the next is made; doubles with each further
    failure (k/k pkg/controller/job, backoff_utils.go)."""
    job_backoff_max_s: float = 600.0
    """MaxJobPodFailureBackOff: longest wait of that series. The documentation's six minutes are those of earlier
    versions."""
    budget_deletion_timeout_s: float = 120.0
    """DeletionTimeout: so long an evicted pod that nobody has deleted counts as one that is about to go (k/k
    pkg/controller/disruption/disruption.go)."""

    # --- endpoints and those who read them ---
    endpointslice_s: Range = (0.005, 0.05)
    """Pod or Service write until the slice is written (lifecycle 4A.4)."""
    endpointslice_batch_s: Range = (0.0, 0.0)
    """--endpointslice-updates-batch-period: a change of a pod waits so long for others before its Services are synced;
    a change of a Service does not (lifecycle 1.3; k/k pkg/controller/endpointslice updatePod, onServiceUpdate)."""
    endpointslice_repair_s: float = 1.0
    """endpointSliceChangeMinSyncDelay: a slice that somebody else wrote or removed until its Service is synced; the
    batch period where that is longer (lifecycle 1.3; same file, queueServiceForEndpointSlice)."""
    endpoints_per_slice: float = 100.0
    """--max-endpoints-per-slice, 1 to 1,000 (lifecycle 1.3). A count."""
    proxy_watch_s: Range = (0.005, 0.03)
    """Slice or Service write until a kube-proxy has the event (lifecycle 4A.5)."""
    proxy_min_sync_s: float = 1.0
    """iptables.minSyncPeriod; a KubeProxyConfiguration overrides it (lifecycle 1.4)."""
    proxy_burst: float = 2.0
    """Runs in a row without waiting; 2 up to 1.33, 1 from 1.34 (lifecycle 1.4). A count, not seconds."""
    proxy_sync_s: Range = (0.02, 0.1)
    """One sync with up to 100 Services (lifecycle 2)."""
    proxy_sync_large_s: Range = (0.3, 1.0)
    """One sync with 5,000 Services; in between in proportion (lifecycle 2)."""
    proxy_start_s: Range = (0.2, 0.5)
    """Start of the kube-proxy process until its caches are filled (M)."""
    ingress_watch_s: Range = (0.001, 0.02)
    """Write until the ingress controller's informer has it (lifecycle 1.8)."""
    ingress_sync_interval_s: float = 1 / 0.3
    """--sync-rate-limit 0.3 with burst 1 (lifecycle 1.8)."""
    ingress_post_s: Range = (0.005, 0.03)
    """Building the model and POST of endpoints to NGINX (lifecycle 1.8: ms)."""
    ingress_lua_s: float = 1.0
    """BACKENDS_SYNC_INTERVAL: how often NGINX workers look for new endpoints, each at its phase (lifecycle 1.8)."""
    ingress_reload_s: Range = (0.2, 0.6)
    """Reload after a change of routes or certificates: new workers serve (M)."""
    ingress_worker_shutdown_s: float = 240.0
    """worker-shutdown-timeout: after a reload NGINX's old workers wait so long for their connections to end
    (ingress-nginx internal/ingress/controller/config/config.go; nginx worker_shutdown_timeout)."""
    ingress_status_s: Range = (0.0, 60.0)
    """The leader writes addresses into Ingress status once a minute (ingress-nginx internal/ingress/status)."""
    coredns_watch_s: Range = (0.005, 0.03)
    """Write until CoreDNS answers from it (lifecycle 4I)."""

    # --- load balancers: None leaves a health check as the Service's profile has it (control/lbprofiles.py) ---
    cloud_lb_s: Range = (60.0, 180.0)
    """Service created until the cloud has made its load balancer (M)."""
    lb_watch_s: Range = (0.005, 0.03)
    """Slice write until a MetalLB speaker has announced or withdrawn the address (M: as kube-proxy's watch)."""
    lb_target_s: Range = (1.0, 5.0)
    """Slice write until a cloud has registered or deregistered a pod as target (lifecycle 1.9: "seconds")."""
    lb_requeue_s: Range = (15.0, 15.0)
    """While pods wait for their readiness gate, AWS's controller looks at their target group so often
    (aws-load-balancer-controller pkg/targetgroupbinding/resource_manager.go, defaultRequeueDuration)."""
    lb_draining_s: Range = (5.0, 15.0)
    """Deregistered at AWS until no new request comes to a target any more. AWS says they stop at once; people see them
    come for some seconds: sleeps of 5 s before SIGTERM lose requests, 25 to 40 s do not (I:
    kubernetes-sigs/aws-load-balancer-controller #1064, #1719, #2106; #2366 measured two minutes at an NLB)."""
    lb_interval_s: float | None = None
    """Health check interval, externalTrafficPolicy Cluster."""
    lb_timeout_s: float | None = None
    """Health check timeout, Cluster."""
    lb_healthy_count: float | None = None
    """Good checks in a row until a target gets traffic, Cluster. A count."""
    lb_unhealthy_count: float | None = None
    """Bad checks in a row until it gets none, Cluster. A count."""
    lb_local_interval_s: float | None = None
    """Health check interval, Local policy (healthCheckNodePort)."""
    lb_local_timeout_s: float | None = None
    """Health check timeout, Local."""
    lb_local_healthy_count: float | None = None
    """Good checks in a row, Local. A count."""
    lb_local_unhealthy_count: float | None = None
    """Bad checks in a row, Local. A count."""

    # --- nodes (lifecycle 1.5) ---
    lease_renew_s: Range = (10.0, 10.4)
    """From one renewal of a node's lease to the next: 0.25 × nodeLeaseDurationSeconds 40, × (1 + U(0, 0.04))."""
    node_monitor_period_s: float = 5.0
    """--node-monitor-period: from the end of one pass of the node lifecycle controller to the next."""
    node_monitor_pass_s: float = 0.01
    """Length of a pass that writes nothing (M)."""
    node_monitor_grace_s: float = 50.0
    """--node-monitor-grace-period: a node not heard of for longer is Unknown; 40 before 1.32 (k/k #126287)."""
    node_status_s: float = 10.0
    """nodeStatusUpdateFrequency: how often a kubelet works out its node's conditions, and posts changed ones."""
    kubelet_start_s: Range = (0.1, 1.0)
    """Start of a kubelet until it has posted that its node is Ready (M; kubelet.go fastNodeStatusUpdate)."""
    node_boot_s: Range = (20.0, 60.0)
    """Power back until the kubelet runs (M)."""
    node_poweroff_s: Range = (1.0, 5.0)
    """A graceful shutdown's last pod has ended until the machine is off: what else systemd stops (M)."""
    drain_retry_s: Range = (5.0, 5.0)
    """kubectl drain asks again for an eviction that a PodDisruptionBudget refused (kubectl pkg/drain/drain.go)."""
    node_taint_loop_s: Range = (0.0, 0.1)
    """NodeEvictionPeriod: how often the workers of zones look at their queues (k/k nodelifecycle/scheduler)."""
    node_eviction_rate: float = 0.1
    """--node-eviction-rate: nodes per zone that get the NoExecute taint, per second. A rate."""
    secondary_node_eviction_rate: float = 0.01
    """--secondary-node-eviction-rate, in a partially disrupted zone of a large cluster. A rate."""
    unhealthy_zone_threshold: float = 0.55
    """--unhealthy-zone-threshold: share of nodes not Ready from which a zone is partially disrupted."""
    large_cluster_size_threshold: float = 50.0
    """--large-cluster-size-threshold: partially disrupted zones of up to so many nodes evict nothing. A count."""
    controller_api_gap_s: float = 0.05
    """1 / --kube-api-qps of kube-controller-manager (20): so far apart a controller's requests are when its burst is
    used up; modelled for the ReplicaSet and the node lifecycle controller, each with a client of its own."""
    controller_api_burst: float = 30.0
    """--kube-api-burst of kube-controller-manager. A count."""
    default_toleration_s: float = 300.0
    """--default-unreachable-toleration-seconds, --default-not-ready-toleration-seconds (kube-apiserver)."""
    podgc_period_s: float = 20.0
    """gcCheckPeriod of the pod garbage collector (k/k pkg/controller/podgc)."""
    podgc_quarantine_s: float = 40.0
    """quarantineTime: a Node has to be missing so long until pods bound to it are removed (same file)."""
    cloud_node_period_s: float = 5.0
    """How often the cloud node lifecycle controller asks for the machines of nodes that are not Ready."""
    cloud_api_s: Range = (0.1, 0.5)
    """The cloud's answer whether a machine exists (M)."""

    node_delete_delay_s: Range = (5.0, 5.0)
    """--node-delete-delay-after-taint of the cluster autoscaler: from its taint until it evicts the node's pods and
    has the machine deleted."""

    autoscaler_eviction_retry_s: Range = (10.0, 10.0)
    """EvictionRetryTime: the cluster autoscaler asks again for an eviction that a budget refused (kubernetes/autoscaler
    cluster-autoscaler/core/scaledown/actuation/drain.go)."""
    autoscaler_eviction_give_up_s: float = 120.0
    """--max-pod-eviction-time: so long it does, then it leaves the node in the cluster."""
    autoscaler_grace_max_s: float = 600.0
    """--max-graceful-termination-sec: most that it gives a pod to end, whole seconds."""
    autoscaler_poll_s: float = 5.0
    """How often it looks whether a node's pods are gone (same file, waitPodsToDisappear)."""

    leader_election_s: Range = (15.0, 19.4)
    """A restarted leader waits leaseDuration 15 s, then for its next try: retryPeriod 2 s × (1 + U(0, 1.2))."""
    leader_renew_deadline_s: float = 10.0
    """renewDeadline: a leader that could not renew its lease for so long ends itself (client-go leaderelection)."""

    # --- autoscaling (lifecycle 1.6) ---
    hpa_sync_s: float = 15.0
    """--horizontal-pod-autoscaler-sync-period: from one look at an HPA to the next."""
    hpa_tolerance: float = 0.1
    """--horizontal-pod-autoscaler-tolerance: how far use ÷ target may be from 1 before anything is done. A share; an
    HPA's spec.behavior may have its own for each direction (KEP-4951)."""
    hpa_downscale_window_s: float = 300.0
    """--horizontal-pod-autoscaler-downscale-stabilization, where spec.behavior says nothing else."""
    hpa_initialization_s: float = 300.0
    """--horizontal-pod-autoscaler-cpu-initialization-period: how long a pod's unready times do not count."""
    hpa_readiness_delay_s: float = 30.0
    """--horizontal-pod-autoscaler-initial-readiness-delay."""
    cpu_reading_s: Range = (10.0, 20.0)
    """From one reading of a container's CPU counter to the next: cAdvisor's 10 s × (1 + U(0, 1)) (google/cadvisor
    manager/container.go nextHousekeepingInterval; kubelet cadvisor_linux.go)."""
    metrics_scrape_s: float = 15.0
    """metrics-server's --metric-resolution (its manifests/base/deployment.yaml)."""
    metrics_fresh_s: float = 10.0
    """freshContainerMinMetricsResolution: a new container read so long after its start, up to metrics_scrape_s, has a
    usage at once, another one with its second reading (metrics-server pkg/storage/pod.go)."""

    # --- opening ---
    settle_s: float = 600.0
    """How long before t = 0 the controllers start on a new cluster (M: past every usual start-up delay)."""

    def with_overrides(self, overrides: Mapping[str, object]) -> "Delays":
        """These delays with some replaced, as a scenario gives them.

        Raises:
            KflabError: For an unknown name (with the nearest known one) or a value that is no non-negative number,
                [low, high] pair or distribution, or out of its bounds.
        """
        names = {f.name for f in fields(self)}
        values: dict[str, object] = {}
        for name, given in overrides.items():
            if name not in names:
                raise KflabError(f"unknown delay {name!r}{did_you_mean(name, names)}")
            value = _read(name, given, isinstance(getattr(self, name), tuple | LogNormal | Exponential))
            low = value[0] if isinstance(value, tuple) else value
            if name in REPEATED and isinstance(low, float) and low < SHORTEST_S:
                raise KflabError(f"delay {name} must be {SHORTEST_S:g} s or more, as it is repeated, not {given!r}")
            values[name] = value
        for name, (least, most) in WHOLE.items():
            count = values.get(name, getattr(self, name))
            if not isinstance(count, float) or not least <= count <= most or count != int(count):
                raise KflabError(f"{name} must be a whole number from {least} to {most:,}")
        return replace(self, **values)  # type: ignore[arg-type]  # names and types were checked just above

    def spans_ns(self) -> dict[str, tuple[int, int]]:
        """Every delay as (low, high) in ns, of a distribution (median, 99th percentile); not what a profile decides."""
        spans: dict[str, tuple[int, int]] = {}
        for f in fields(self):
            match getattr(self, f.name):
                case None:
                    continue
                case LogNormal(p50, p99):
                    low, high = p50, p99
                case Exponential(mean):
                    low, high = mean * LN_2, mean * LN_100
                case (low, high):
                    pass
                case value:
                    low = high = value
            spans[f.name] = (ns(low), ns(high))
        return spans


def _read(name: str, given: object, drawn: bool) -> float | Range | Distribution:
    if isinstance(given, LogNormal | Exponential):
        return given
    if isinstance(given, Mapping):
        return _distribution(name, given, drawn)
    numbers = list(given) if isinstance(given, list | tuple) else [given]
    good = [float(n) for n in numbers if _is_seconds(n)]
    if len(good) != len(numbers) or len(numbers) not in (1, 2) or good != sorted(good):
        raise KflabError(f"delay {name} must be a number of seconds, [low, high] or a distribution, not {given!r}")
    if drawn:
        return (good[0], good[-1])
    if len(good) == 2:
        raise KflabError(f"delay {name} takes one number, not a range")
    return good[0]


def _is_seconds(number: object) -> TypeGuard[int | float]:
    return isinstance(number, int | float) and not isinstance(number, bool) and 0 <= number < 1e7


def _distribution(name: str, given: Mapping[object, object], drawn: bool) -> Distribution:
    """{p50, p99} is log-normal, {mean} exponential."""
    if not drawn:
        raise KflabError(f"delay {name} takes one number, not a distribution")
    values = {key: float(v) for key, v in given.items() if _is_seconds(v) and v >= 1e-6}
    if len(values) == len(given):
        if set(values) == {"p50", "p99"} and values["p50"] <= values["p99"]:
            return LogNormal(values["p50"], values["p99"])
        if set(values) == {"mean"}:
            return Exponential(values["mean"])
    raise KflabError(
        f"delay {name}: a distribution is {{p50, p99}} (log-normal) or {{mean}} (exponential), in seconds from a "
        f"microsecond on, not {dict(given)!r}"
    )
