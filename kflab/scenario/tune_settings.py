"""Settings that `kflab tune` may change on a workload, and the strategic merge patch that makes a choice of them.

Each setting has steps: what is written now, then values that cost ever more (time, pods or patience). Names are those
of the manifests' fields.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kflab.control.rollout import bounds
from kflab.errors import KflabError
from kflab.manifest.objects_pods import Container, Probe
from kflab.manifest.objects_workloads import DaemonSet, Deployment, StatefulSet
from kflab.manifest.write import tree_to_yaml
from kflab.records import dataclass

Workload = Deployment | StatefulSet | DaemonSet

Choice = tuple[tuple[str, int], ...]
"""(setting, step), only steps above 0, in the order of `SETTINGS`."""

LONGEST_S = 60
"""Most seconds a time setting is raised to above what is written: beyond it a rollout takes minutes a pod."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing that may be changed."""

    name: str
    steps: tuple[int, ...]
    """Values, what is written first; in seconds, or pods."""
    words: str
    """"preStop sleep {} s"."""


def settings_of(workload: Workload, over: Sequence[str]) -> tuple[Setting, ...]:
    """The settings asked for that this workload has, each once, in the order asked.

    Raises:
        KflabError: For a name that is no setting, or none that applies.
    """
    found = []
    for name in dict.fromkeys(over):
        if name not in SETTINGS:
            raise KflabError(f"--over {name}: no such setting; expected some of {', '.join(SETTINGS)}")
        setting = SETTINGS[name](workload)
        if setting is not None and len(setting.steps) > 1:
            found.append(setting)
    if not found:
        raise KflabError(f"none of {', '.join(over)} can be changed on {workload.kind} {workload.meta.name}")
    return tuple(found)


def _pre_stop(workload: Workload) -> Setting:
    now = max((c.pre_stop_sleep_s or 0 for c in workload.template.spec.containers), default=0)
    return Setting("preStop", tuple(range(now, now + LONGEST_S + 1)), "preStop sleep {} s")


def _grace(workload: Workload) -> Setting:
    now = workload.template.spec.grace_s
    return Setting(
        "terminationGracePeriodSeconds", (now, *range(now + 5, now + 2 * LONGEST_S + 1, 5)),
        "terminationGracePeriodSeconds {}",
    )  # fmt: skip


def _min_ready(workload: Workload) -> Setting:
    now = workload.min_ready_s
    return Setting("minReadySeconds", tuple(range(now, now + LONGEST_S + 1)), "minReadySeconds {}")


def _surge(workload: Workload) -> Setting | None:
    if not isinstance(workload, Deployment) or workload.strategy.type != "RollingUpdate":
        return None
    surge = bounds(workload).surge
    return Setting("maxSurge", tuple(range(surge, max(surge, workload.replicas) + 1)), "maxSurge {}")


def _unavailable(workload: Workload) -> Setting | None:
    if not isinstance(workload, Deployment) or workload.strategy.type != "RollingUpdate":
        return None
    now = bounds(workload)
    # Both 0 is refused by the API server: nothing could move.
    return Setting("maxUnavailable", tuple(range(now.unavailable, -1 if now.surge else 0, -1)), "maxUnavailable {}")


def _readiness(workload: Workload) -> Setting | None:
    probes = [c.readiness for c in workload.template.spec.containers if c.readiness is not None]
    now = max((probe.period_s for probe in probes), default=0)
    return Setting("readiness", tuple(range(now, 0, -1)), "readinessProbe.periodSeconds {}") if probes else None


SETTINGS: Mapping[str, Callable[[Workload], Setting | None]] = {
    "preStop": _pre_stop,
    "terminationGracePeriodSeconds": _grace,
    "minReadySeconds": _min_ready,
    "maxSurge": _surge,
    "maxUnavailable": _unavailable,
    "readiness": _readiness,
}
"""Name → what it can be on a workload, None where the workload has none. In the order they are tried."""


def values(settings: Sequence[Setting], choice: Choice) -> dict[str, int]:
    """Setting → value of a choice; what it leaves as written is left out.

    The API server refuses a preStop sleep longer than the grace period (validation.go validateSleepAction), so a chosen
    grace period is never shorter than a chosen sleep.
    """
    steps = {setting.name: setting.steps for setting in settings}
    found = {name: steps[name][step] for name, step in choice}
    if "terminationGracePeriodSeconds" in found and "preStop" in found:
        found["terminationGracePeriodSeconds"] = max(found["terminationGracePeriodSeconds"], found["preStop"])
    return found


def changed(workload: Workload, settings: Sequence[Setting], choice: Choice) -> dict[str, int]:
    """`values`, with the grace period that a chosen preStop brings along."""
    found = values(settings, choice)
    grace = companion_grace(workload, found)
    return found if grace is None else {**found, "terminationGracePeriodSeconds": grace}


def words(workload: Workload, settings: Sequence[Setting], choice: Choice) -> str:
    """A choice in words: "preStop sleep 3 s, maxSurge 2", or "preStop sleep 30 s, grace 60 s" where it brings that."""
    chosen = values(settings, choice)
    grace = companion_grace(workload, chosen)
    parts = []
    for setting in settings:
        if setting.name in chosen:
            parts.append(setting.words.format(chosen[setting.name]))
        if setting.name == "preStop" and grace is not None:
            parts.append(f"grace {grace} s")
    return ", ".join(parts) or "as written"


def companion_grace(workload: Workload, chosen: Mapping[str, int]) -> int | None:
    """The grace period that a longer preStop needs, so that the application keeps the time it had after SIGTERM.

    preStop and the time after SIGTERM are one budget (lifecycle 1.2). None: what is written or chosen is enough.
    """
    if "preStop" not in chosen or "terminationGracePeriodSeconds" in chosen:
        return None
    spec = workload.template.spec
    before = max((c.pre_stop_sleep_s or 0 for c in spec.containers), default=0)
    left = spec.grace_s - before
    # Half the budget is left alone: applications that drain for long were given the period for it.
    return chosen["preStop"] + left if chosen["preStop"] > spec.grace_s // 2 else None


def patch_tree(workload: Workload, chosen: Mapping[str, int]) -> dict[str, Any]:
    """The strategic merge patch of a choice, as plain data."""
    key = workload.key
    tree: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": key.kind,
        "metadata": {"name": key.name, "namespace": key.namespace},
        "spec": {},
    }
    spec: dict[str, Any] = tree["spec"]
    rolling = {name: chosen[name] for name in ("maxSurge", "maxUnavailable") if name in chosen}
    if "minReadySeconds" in chosen:
        spec["minReadySeconds"] = chosen["minReadySeconds"]
    if rolling:
        spec["strategy"] = {"rollingUpdate": rolling}
    pod: dict[str, Any] = {}
    grace = chosen.get("terminationGracePeriodSeconds", companion_grace(workload, chosen))
    if grace is not None:
        pod["terminationGracePeriodSeconds"] = grace
    containers = [_container(container, chosen) for container in workload.template.spec.containers]
    if any(len(each) > 1 for each in containers):
        pod["containers"] = containers
    if pod:
        spec["template"] = {"spec": pod}
    return tree


def _container(container: Container, chosen: Mapping[str, int]) -> dict[str, Any]:
    tree: dict[str, Any] = {"name": container.name}
    if "preStop" in chosen:
        hook: dict[str, Any] = {"sleep": {"seconds": chosen["preStop"]}}
        if has_hook(container):
            # Merged into it, the API server would refuse two handlers (validation.go validateHandler).
            hook = {"$patch": "replace", **hook}
        tree["lifecycle"] = {"preStop": hook}
    if "readiness" in chosen and isinstance(container.readiness, Probe):
        tree["readinessProbe"] = {"periodSeconds": chosen["readiness"]}
    return tree


def has_hook(container: Container) -> bool:
    """Whether a preStop hook is written for a container, of any kind."""
    return container.pre_stop_hook or container.pre_stop_sleep_s is not None


def patch_text(workload: Workload, chosen: Mapping[str, int]) -> str:
    """The patch as YAML, for `kubectl patch --patch-file` or a scenario's `manifests.patches`."""
    return tree_to_yaml(patch_tree(workload, chosen), sort_keys=False)
