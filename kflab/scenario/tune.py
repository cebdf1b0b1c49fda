"""`kflab tune`: the smallest settings that meet an error budget, found by playing the scenario many times.

Each setting alone is raised as far as it goes; where that meets the budget, bisection finds the smallest value that
does (more of a setting is taken never to lose more requests; the table shows every value that was run). Where no
setting alone is enough, all are raised and then lowered again one by one. A solution that changes all that another
changes, and more, is not the smallest: so a preStop that works by the grace period it brings along. Of the rest the
shortest rollout wins, then the fewest extra pods. It is run again with seeds that the search never saw; where these
disprove it, they join the search.
"""

from collections.abc import Sequence
from dataclasses import field, replace
from typing import Protocol

from kflab.errors import KflabError
from kflab.lab.commands import Act, Kill, Scale
from kflab.lab.running import Lab
from kflab.lab.spec import Action
from kflab.manifest.objects import Key
from kflab.manifest.objects_workloads import DaemonSet, Deployment, StatefulSet
from kflab.records import dataclass
from kflab.scenario.acting import workload_key
from kflab.scenario.format import Scenario
from kflab.scenario.tune_runs import Job, Outcome, Runner
from kflab.scenario.tune_settings import (
    SETTINGS,
    Choice,
    Setting,
    Workload,
    changed,
    patch_text,
    settings_of,
    values,
    words,
)

FIRST_SEEDS = 2
"""Seeds that a choice is tried with before the others: one that loses too much is given up early."""

ROUNDS = 3
"""How often a proof may fail before that is the answer."""

RESTART_NS = 5_000_000_000
"""When a workload is restarted in manifests that nothing happens in."""

NAMED_WORKLOADS = 6
"""Workloads that a message names; of more, how many."""

SYSTEM = "kube-system"
"""Namespace whose workloads are taken to be nobody's to tune unless named."""

WRITTEN: Choice = ()
"""Nothing changed."""


class Tell(Protocol):
    """Progress. `measured`: a choice has its figures, a line worth keeping; else the line is about this instant."""

    def __call__(self, line: str, measured: bool = False) -> None: ...


@dataclass(frozen=True, slots=True)
class Target:
    """An error budget, for every single seed."""

    limit: float
    share: bool = False
    """Whether the limit is a share of the requests, else their number."""

    def met(self, outcomes: Sequence[Outcome]) -> bool:
        """Whether each run kept within the budget, and its rollout came to an end."""
        return all(self._within(each) and each.rollout_s is not None for each in outcomes)

    def _within(self, outcome: Outcome) -> bool:
        return outcome.failed <= self.limit * (outcome.sent if self.share else 1)

    def __str__(self) -> str:
        return f"errors={self.limit:.6g}" if not self.share else f"errors={100 * self.limit:.6g}%"


def read_target(text: str) -> Target:
    """Read "errors=0" or "errors=0.1%".

    Raises:
        KflabError: If it is neither.
    """
    name, equals, number = text.partition("=")
    try:
        value = float(number.removesuffix("%"))
    except ValueError:
        value = -1.0
    if name.strip() != "errors" or not equals or not 0 <= value < 1e12:
        raise KflabError(f"--target {text!r}: expected errors=N or errors=N%, for example errors=0")
    return Target(value / 100, True) if number.endswith("%") else Target(value)


@dataclass(frozen=True, slots=True)
class Row:
    """One choice of settings and what came of it."""

    choice: Choice
    outcomes: tuple[Outcome, ...]
    met: bool

    @property
    def worst(self) -> int:
        """Most failed requests of one run."""
        return max(each.failed for each in self.outcomes)

    @property
    def mean(self) -> float:
        """Failed requests of a run, on average."""
        return sum(each.failed for each in self.outcomes) / len(self.outcomes)

    @property
    def rollout_s(self) -> float | None:
        """Longest rollout; None when one never ended."""
        times = [each.rollout_s for each in self.outcomes]
        return None if None in times else max(time for time in times if time is not None)

    @property
    def extra_pods(self) -> int:
        """Most pods above the replicas at one time."""
        return max(each.extra_pods for each in self.outcomes)


@dataclass(slots=True)
class Tuned:
    """What tuning found."""

    scenario: Scenario
    workload: Workload
    target: Target
    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]
    left_out: tuple[str, ...] = ()
    """Settings asked for that the workload has not, or that cannot be changed."""
    restarted: bool = False
    """Nothing happens in the scenario: the workload is restarted."""
    rows: list[Row] = field(default_factory=list)
    chosen: Row | None = None
    """None: even all settings at their most do not meet the target."""
    proof: Row | None = None
    """The chosen settings with fresh seeds."""
    without: Row | None = None
    """What is written now, with the same fresh seeds."""
    runs: int = 0

    @property
    def proved(self) -> bool:
        """Whether something was chosen that kept to the target with seeds that the search never saw."""
        return self.proof is not None and self.proof.met

    @property
    def patch(self) -> str:
        """The manifest patch of what was chosen; "" when nothing has to change or nothing was found."""
        if self.chosen is None or self.chosen.choice == WRITTEN:
            return ""
        return patch_text(self.workload, values(self.settings, self.chosen.choice))


def tune(
    scenario: Scenario,
    target: Target,
    over: Sequence[str] = tuple(SETTINGS),
    workload: str = "",
    seeds: int = 8,
    runner: Runner | None = None,
    tell: Tell = lambda line, measured=False: None,
) -> Tuned:
    """Find the smallest settings that meet a target.

    Args:
        scenario: What is played.
        target: Failed requests allowed in each run.
        over: Names of settings that may change.
        workload: "namespace/Kind/name"; "": the one that the scenario's actions are about, or the only one. Where
            nothing happens, it is restarted.
        seeds: How many; the scenario's own and those after it. Each proof takes as many more.
        runner: Who runs; None: all cores.
        tell: Progress, a line each.

    Raises:
        KflabError: If there is no workload to tune, or no setting of it.
    """
    found = _workload(scenario, workload)
    restarted = not scenario.spec.actions
    if restarted:
        action = Action(RESTART_NS, Act("restart", found.key))
        scenario = replace(scenario, spec=replace(scenario.spec, actions=(action,)))
    numbers = tuple((scenario.spec.seed + n) % 2**64 for n in range((ROUNDS + 1) * seeds))
    result = Tuned(scenario, found, target, settings_of(found, over), numbers[:seeds], restarted=restarted)
    names = {setting.name for setting in result.settings}
    result.left_out = tuple(name for name in dict.fromkeys(over) if name not in names)
    with (runner or Runner()).open() as opened:
        tell(f"starting {opened.jobs} process{'es' if opened.jobs > 1 else ''}")
        for part in range(ROUNDS):
            result.seeds = numbers[: (part + 1) * seeds]
            search = _Search(result, opened, tell)
            search.run()
            if result.chosen is None:
                break
            fresh = numbers[(part + 1) * seeds : (part + 2) * seeds]
            tell(f"{opened.done} runs; proof with fresh seeds")
            result.proof = search.row(result.chosen.choice, fresh)
            result.without = search.row(WRITTEN, fresh)
            if result.proved:
                break
            tell(
                f"{words(result.workload, result.settings, result.chosen.choice)}: fresh seeds disproved it",
                measured=True,
            )
        result.runs = opened.done
    return result


def _workload(scenario: Scenario, named: str) -> Workload:
    """The workload to tune, as the scenario's cluster has it."""
    lab = Lab(scenario.spec, traffic=False)
    there = [
        key for kind in ("Deployment", "StatefulSet", "DaemonSet") for key in lab.store.keys(kind)
        if key.namespace != SYSTEM
    ]  # fmt: skip
    key = workload_key(named, None) if named else _acted_on(scenario, there)
    obj = lab.store.get(key)
    if not isinstance(obj, Deployment | StatefulSet | DaemonSet):
        said = f"{_name(key)} is no Deployment, StatefulSet or DaemonSet of it"
        raise KflabError(f"{said}; it has {_names(there)}" if there else said)
    return obj


def _name(key: Key) -> str:
    return f"{key.namespace}/{key.kind}/{key.name}"


def _names(keys: Sequence[Key]) -> str:
    more = f" and {len(keys) - NAMED_WORKLOADS} more" if len(keys) > NAMED_WORKLOADS else ""
    return ", ".join(map(_name, keys[:NAMED_WORKLOADS])) + more


def _acted_on(scenario: Scenario, there: Sequence[Key]) -> Key:
    keys: dict[Key, None] = {}
    for action in scenario.spec.actions:
        command = action.command
        if action.pod_of is not None:
            keys[workload_key(action.pod_of[0], None)] = None
        elif isinstance(command, Scale):
            keys[command.workload] = None
        elif isinstance(command, Act) and command.target is not None and command.target.kind in (
            "Deployment", "StatefulSet", "DaemonSet",
        ):  # fmt: skip
            keys[command.target] = None
        elif isinstance(command, Kill):
            continue
    if not scenario.spec.actions and len(there) == 1:
        return there[0]
    if len(keys) != 1:
        what = "nothing happens in it, and it has not one workload"
        if scenario.spec.actions:
            what = f"the scenario's actions are about {'several workloads' if keys else 'no workload'}"
        names = _names(list(keys) or there)
        raise KflabError(f"{what}: name one with --workload namespace/Kind/name{f': {names}' if names else ''}")
    return next(iter(keys))


class _Search:
    """One search, from what is written to what is chosen."""

    def __init__(self, result: Tuned, runner: Runner, tell: Tell) -> None:
        self._result, self._runner, self._tell = result, runner, tell
        self._rows: dict[Choice, Row] = {}

    def run(self) -> None:
        """Fill in rows and what was chosen."""
        result = self._result
        result.chosen = None
        (written,) = self._try([WRITTEN])
        if written.met:
            result.chosen = written
        else:
            solutions = self._alone() or self._together()
            result.chosen = min(self._smallest(solutions), key=_cost, default=None)
        order = {setting.name: place for place, setting in enumerate(result.settings)}
        result.rows = sorted(
            self._rows.values(), key=lambda r: (len(r.choice), [(order[name], step) for name, step in r.choice])
        )

    def _smallest(self, solutions: Sequence[Row]) -> list[Row]:
        """Solutions that do not change all that another changes, and more."""
        result = self._result
        fields = [set(changed(result.workload, result.settings, row.choice)) for row in solutions]
        return [row for row, own in zip(solutions, fields, strict=True) if not any(other < own for other in fields)]

    def _alone(self) -> list[Row]:
        """The smallest value of each setting that is enough by itself; all settings are bisected side by side."""
        ends = {setting.name: (0, len(setting.steps) - 1) for setting in self._result.settings}
        most = self._try([((name, high),) for name, (_, high) in ends.items()])
        open_ends = {row.choice[0][0]: ends[row.choice[0][0]] for row in most if row.met}
        while any(high - low > 1 for low, high in open_ends.values()):
            middles = {name: (low + high) // 2 for name, (low, high) in open_ends.items() if high - low > 1}
            for row in self._try([((name, step),) for name, step in middles.items()]):
                name, step = row.choice[0]
                low, high = open_ends[name]
                open_ends[name] = (low, step) if row.met else (step, high)
        return [self._rows[((name, high),)] for name, (_, high) in open_ends.items()]

    def _together(self) -> list[Row]:
        """All settings at their most, then each lowered as far as the others allow; [] when even that is too little."""
        steps = {setting.name: len(setting.steps) - 1 for setting in self._result.settings}
        if len(steps) < 2 or not self._try([_choice(steps)])[0].met:
            return []
        for name in reversed(steps):
            low, high = -1, steps[name]
            while high - low > 1:
                middle = (low + high) // 2
                met = self._try([_choice({**steps, name: middle})])[0].met
                low, high = (low, middle) if met else (middle, high)
            steps[name] = high
        return [self._rows[_choice(steps)]]

    def _try(self, choices: Sequence[Choice]) -> list[Row]:
        """Run choices: with the first seeds, then those that still keep within the target with all."""
        result = self._result
        fresh = [choice for choice in choices if choice not in self._rows]
        first = result.seeds[:FIRST_SEEDS]
        self._run(fresh, first)
        still = [choice for choice in fresh if self._rows[choice].met]
        if len(result.seeds) > len(first):
            # What is written now is measured with all seeds: everything is held against it.
            self._run(still + [c for c in fresh if c == WRITTEN and c not in still], result.seeds)
        for choice in fresh:
            row = self._rows[choice]
            lost = f"{row.worst:,} lost in the worst of {len(row.outcomes)}"
            self._tell(
                f"{self._runner.done} runs; {words(result.workload, result.settings, choice)}: {lost}", measured=True
            )
        return [self._rows[choice] for choice in choices]

    def _run(self, choices: Sequence[Choice], seeds: Sequence[int]) -> None:
        jobs = [self._job(choice, seed) for choice in choices for seed in seeds]
        trying = (
            words(self._result.workload, self._result.settings, choices[0])
            if len(choices) == 1
            else f"{len(choices)} choices at once"
        )
        outcomes = self._runner.run(jobs, lambda done: self._tell(f"{done} runs; {trying}"))
        for place, choice in enumerate(choices):
            own = tuple(outcomes[place * len(seeds) : (place + 1) * len(seeds)])
            self._rows[choice] = Row(choice, own, self._result.target.met(own))

    def row(self, choice: Choice, seeds: Sequence[int]) -> Row:
        """A choice with other seeds, kept apart from the table."""
        outcomes = tuple(self._runner.run([self._job(choice, seed) for seed in seeds], lambda done: None))
        return Row(choice, outcomes, self._result.target.met(outcomes))

    def _job(self, choice: Choice, seed: int) -> Job:
        result = self._result
        patch = patch_text(result.workload, values(result.settings, choice)) if choice else ""
        return Job(result.scenario.spec, result.scenario.duration_ns, result.workload.key, patch, seed)


def _choice(steps: dict[str, int]) -> Choice:
    return tuple((name, step) for name, step in steps.items() if step)


def _cost(row: Row) -> tuple[float, int, int]:
    """Time first, then pods, then how far it is from what is written."""
    return (row.rollout_s or float("inf"), row.extra_pods, sum(step for _, step in row.choice))
