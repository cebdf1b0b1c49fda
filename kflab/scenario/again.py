"""A story played again with one setting changed, to be held against the story as it was.

Draws are addressed (`kflab.draws`), so both plays have the same requests at the same instants and the same delays; only
what the setting changes differs. Pods whose template differs have another hash in their names, hence other draws of
their own: names, addresses, nodes, start-up times.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from kflab import interrupts
from kflab.control.facts import Fact, What
from kflab.control.profiles import PROFILES
from kflab.dataplane.modes import MODES
from kflab.errors import KflabError
from kflab.lab.autopsy_values import AutopsyReport
from kflab.lab.handle import Tab
from kflab.lab.running import Lab
from kflab.lab.session import Session, is_of
from kflab.lab.spec import LabSpec
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod
from kflab.manifest.objects_workloads import DaemonSet, Deployment, StatefulSet
from kflab.manifest.write import tree_to_yaml
from kflab.records import dataclass
from kflab.scenario.again_nodes import (
    AFTER_SILENCE_NS,
    GRACE,
    LEAST_GRACE_S,
    TOLERATION,
    about_silence,
    grace_s,
    is_silent,
    toleration_patch,
    toleration_s,
)
from kflab.scenario.tune_runs import has_settled
from kflab.scenario.tune_settings import SETTINGS, Workload, patch_text

AFTER_NS = 60_000_000_000
"""How long after the last change a story of the lab is played at least: a rollout of some pods is over by then."""

MOST_AFTER_NS = 300_000_000_000
"""And at most: what came later is left out."""

STEP_NS = 500_000_000
"""How often a play says how far it is."""

MOST_S = 3600
"""Largest value of a setting in seconds."""

_MOVES = frozenset({What.POD_CREATED, What.POD_REMOVED, What.POD_STATUS_WRITTEN})
"""What a workload's pods do until they are as wanted."""

_TURNS = frozenset({What.POD_STATUS_WRITTEN, What.POD_DELETED, What.POD_REMOVED})
"""What may change whether a pod counts as ready."""

EXPECTED = (
    f"expected {', '.join(f'{name}=N' for name in (*SETTINGS, TOLERATION, GRACE))}, mode={'|'.join(MODES)}, "
    f"profile={'|'.join(PROFILES)} or same"
)


@dataclass(frozen=True, slots=True)
class Change:
    """One setting and its value.

    `name`: of `tune_settings.SETTINGS` or `again_nodes`; or mode, profile, same (nothing changes).
    """

    name: str
    value: str = ""

    def __str__(self) -> str:
        words = {
            "same": "as it was", "preStop": f"preStop sleep {self.value} s",
            "readiness": f"readinessProbe.periodSeconds {self.value}", "mode": f"kube-proxy mode {self.value}",
        }  # fmt: skip
        return words.get(self.name, f"{self.name} {self.value}")


def read_change(text: str) -> Change:
    """Read "preStop=15", "mode=nftables", "profile=laptop" or "same".

    Raises:
        KflabError: If it is none of these.
    """
    name, equals, value = (part.strip() for part in text.partition("="))
    if name == "same" and not equals:
        return Change("same")
    if name in ("mode", "profile") and value in (MODES if name == "mode" else PROFILES):
        return Change(name, value)
    known = name in SETTINGS or name in (TOLERATION, GRACE)
    if known and value.isascii() and value.isdecimal() and len(value) <= 4 and int(value) <= MOST_S:
        if name == GRACE and int(value) < LEAST_GRACE_S:
            raise KflabError(
                f"--compare {text!r}: expected {GRACE}=N with N from {LEAST_GRACE_S}; nodes that are well would be "
                "Unknown at times with less, which is not modelled"
            )
        if int(value) or name not in ("readiness", "terminationGracePeriodSeconds"):
            return Change(name, str(int(value)))
    raise KflabError(f"--compare {text!r}: {EXPECTED} (N: whole, at most {MOST_S})")


def changed(session: Session, change: Change) -> LabSpec:
    """A session's spec with one setting changed from the start.

    Raises:
        KflabError: If there is nothing that has this setting.
    """
    spec = session.spec
    if change.name == "same":
        return spec
    if change.name == "profile":
        return replace(spec, profile=change.value)
    if change.name == "mode":
        tree = {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration"}
        text = tree_to_yaml({**tree, "mode": change.value})
        return replace(
            spec, tabs=(*spec.tabs, Tab("again.yaml", text, None, "patches" if session.configured else "additions"))
        )
    if change.name == GRACE:
        return replace(spec, delays={**spec.delays, "node_monitor_grace_s": float(change.value)})
    workload = session.workload
    if not isinstance(workload, Deployment | StatefulSet | DaemonSet):
        raise KflabError(f"the last change is about no Deployment, StatefulSet or DaemonSet: {change} has no place")
    if change.name == TOLERATION and not isinstance(workload, DaemonSet):
        patch = toleration_patch(workload, int(change.value))
        return replace(spec, tabs=(*spec.tabs, Tab("again.yaml", patch, None, "patches")))
    if change.name == TOLERATION or not has_setting(workload, change.name):
        raise KflabError(f"{workload.kind} {workload.meta.name} has no place for {change}")
    patch = patch_text(workload, {change.name: int(change.value)})
    return replace(spec, tabs=(*spec.tabs, Tab("again.yaml", patch, None, "patches")))


def has_setting(workload: Workload, name: str) -> bool:
    """Whether a workload has a setting, whatever its value: no maxSurge on a StatefulSet (tune's own rule)."""
    return SETTINGS[name](workload) is not None


def now_is(workload: Workload, name: str) -> int:
    """The present value of a setting that the workload has."""
    setting = SETTINGS[name](workload)
    return setting.steps[0] if setting is not None else -1


@dataclass(frozen=True, slots=True)
class Played:
    """What one play came to."""

    end_ns: int
    sent: int
    failed: int
    slowed: int
    """Requests that lost a try and still went well."""
    lost_tries: int
    p99_ns: int | None
    """Latency from the last change to the end."""
    what: str
    """The last change in words."""
    change_ns: int
    moved_ns: int | None
    """From the last change until the rules of the last calling observer had changed; None: they have not."""
    recovered_ns: int | None
    """From the last change until the API server had the workload's pods as wanted: new, ready and alone; 0 when none of
    them moved; None: they are not, or there is no workload."""
    ready_ns: int | None
    """From the last change until as many of the workload's pods were ready as it wants; 0 when that was always so;
    None: they are not, or there is no workload. Pods that the API server deleted do not count, objects that stay on a
    lost node do no harm."""
    report: AutopsyReport
    digest: str
    """Hash of every event and every finished request."""

    def billed(self) -> dict[str, int]:
        """Cause → requests lost by it, most first."""
        counts: Counter[str] = Counter()
        for bill in self.report.bills:
            counts[bill.cause] += bill.lost
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


class Play:
    """One play of a spec.

    Args:
        spec: What to play.
        end_ns: How far.

    Raises:
        KflabError: If the spec cannot be run.
    """

    def __init__(self, spec: LabSpec, end_ns: int) -> None:
        self.lab = Lab(replace(spec, duration_ns=None))
        self.end_ns = end_ns
        self._moved: dict[Key, int] = {}
        """Pod → when it last moved."""
        pods = [pod for pod in self.lab.store.of_kind("Pod") if isinstance(pod, Pod)]
        self._turns: list[tuple[int, Key, bool]] = [(0, pod.key, True) for pod in pods if pod.status.ready]
        """(when, pod, whether it is ready from then on), as the API server has it."""

    def run(self, tell: Callable[[int], None] = lambda t_ns: None) -> None:
        """Play to the end; `tell` hears how far it is, ns.

        Raises:
            KflabError: If an action cannot be carried out.
        """
        lab = self.lab
        while lab.t_ns < self.end_ns:
            interrupts.check()
            lab.advance(min(self.end_ns, lab.t_ns + STEP_NS))
            lab.take_lines()
            self._follow(lab.take_facts())
            tell(lab.t_ns)

    def _follow(self, facts: list[Fact]) -> None:
        for fact in facts:
            if fact.what in _MOVES and fact.subject.kind == "Pod":
                self._moved[fact.subject] = fact.t_ns
            if fact.what in _TURNS and fact.subject.kind == "Pod":
                pod = self.lab.store.get(fact.subject, at=fact.revision or None)
                ready = isinstance(pod, Pod) and pod.status.ready and not pod.terminating
                self._turns.append((fact.t_ns, fact.subject, ready))

    def _ready_again_ns(self, workload: Key, change_ns: int) -> int | None:
        """When a workload had its pods ready again for good, from the change; as `Played.ready_ns`."""
        wanted = getattr(self.lab.store.get(workload), "replicas", None)
        if wanted is None:
            return None
        ready: set[Key] = set()
        full_ns: int | None = None if wanted else 0
        for t_ns, pod, now in self._turns:
            if is_of(workload, pod):
                (ready.add if now else ready.discard)(pod)
                if len(ready) < wanted:
                    full_ns = None
                elif full_ns is None:
                    full_ns = t_ns
        return None if full_ns is None else max(0, full_ns - change_ns)

    def played(self, workload: Key | None) -> Played:
        """What it came to; `workload` is the one whose recovery counts."""
        lab, knowledge, changes = self.lab, self.lab.knowledge(), self.lab.gantt.changes
        change_ns = changes[-1].t_ns if changes else 0
        ready_ns = self._ready_again_ns(workload, change_ns) if workload is not None else None
        recovered = None
        if workload is not None and has_settled(lab, workload):
            moves = [t_ns for pod, t_ns in self._moved.items() if t_ns >= change_ns and is_of(workload, pod)]
            recovered = max(moves, default=change_ns) - change_ns
        moved = None
        if knowledge.t_ns is not None and knowledge.moved_ns is not None:
            moved = knowledge.moved_ns - knowledge.t_ns
        total = lab.totals
        return Played(
            lab.t_ns, total.sent, total.failed, total.slowed, total.lost_tries, lab.percentiles(change_ns, lab.t_ns)[1],
            changes[-1].what if changes else "", change_ns, moved, recovered, ready_ns, lab.gantt.report(),
            lab.digest(),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Compared:
    """The two plays."""

    change: Change
    workload: str
    """The workload concerned, "namespace/Kind/name"; "" for none."""
    was: Played
    then: Played

    @property
    def same(self) -> bool:
        """Whether nothing at all differs: every event and every request."""
        return self.was.digest == self.then.digest


def end_of(session: Session) -> int:
    """How far a session of the lab is played, ns: past its recovery, and as far as the lab has come."""
    since = session.change_ns
    if is_silent(session):
        return since + AFTER_SILENCE_NS
    return min(max(session.t_ns, since + AFTER_NS), since + MOST_AFTER_NS)


def key_of(session: Session) -> Key | None:
    """The workload that a session's last change is about."""
    return session.workload.key if session.workload is not None else None


def compared(session: Session, change: Change, was: Played, then: Played) -> Compared:
    """Put two plays side by side."""
    key = key_of(session)
    return Compared(change, f"{key.namespace}/{key.kind}/{key.name}" if key else "", was, then)


OFFERED: tuple[tuple[str, Change, str], ...] = (
    ("s", Change("same"), "shows that nothing else differs"),
    ("e", Change(TOLERATION, "30"), "evicted 30 s after it is Unknown"),
    ("w", Change(GRACE, "20"), "Unknown after 20 s; over 45 advised"),
    ("p", Change("preStop", "5"), "SIGTERM waits 5 s for the rules"),
    ("P", Change("preStop", "15"), "SIGTERM waits 15 s for the rules"),
    ("u", Change("maxUnavailable", "0"), "no pod goes before another is ready"),
    ("m", Change("minReadySeconds", "10"), "a new pod counts 10 s after ready"),
    ("g", Change("terminationGracePeriodSeconds", "60"), "SIGKILL comes after 60 s"),
    ("r", Change("readiness", "1"), "its readiness probed every second"),
    ("t", Change("mode", "iptables"), "chains, walked rule by rule"),
    ("n", Change("mode", "nftables"), "maps instead of chains"),
    ("i", Change("mode", "ipvs"), "virtual servers of the kernel"),
    ("l", Change("profile", "laptop"), "rules follow within 0.1 s"),
    ("5", Change("profile", "5000-nodes"), "rules follow in 5 to 20 s"),
)
"""(key, change, what it is about)."""


def offers(session: Session) -> tuple[tuple[str, Change, str], ...]:
    """What of `OFFERED` would change something in this session."""
    return tuple(offer for offer in OFFERED if _would_change(session, offer[1]))


def _would_change(session: Session, change: Change) -> bool:
    if change.name == "mode":
        return session.mode != change.value
    if change.name == "profile":
        return (session.spec.profile or "small") != change.value
    if change.name == "same":
        return True
    workload = session.workload
    if about_silence(session) or change.name in (TOLERATION, GRACE):
        # Rollouts and kubelets have no part in a node's loss, nor does that in theirs.
        now = grace_s(session.spec) if change.name == GRACE else toleration_s(workload)
        return about_silence(session) and change.name in (TOLERATION, GRACE) and now not in (None, float(change.value))
    if not isinstance(workload, Deployment | StatefulSet | DaemonSet) or not has_setting(workload, change.name):
        return False
    if change.name == "maxUnavailable" and now_is(workload, "maxSurge") == 0:
        return False  # both 0 is refused by the API server
    return now_is(workload, change.name) != int(change.value)
