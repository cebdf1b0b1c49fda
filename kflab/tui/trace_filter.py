"""Which sampled requests the trace shows: by outcome, by selected object, by typed words."""

from dataclasses import field

from kflab.lab.snapshot import Snapshot, TraceRow
from kflab.manifest.objects import Key
from kflab.records import dataclass
from kflab.tui.text import tail

OUTCOMES = ("", "errors", "retried", "calls")
"""What `f` goes through: all, those that failed, those with more than one try, calls between pods."""


@dataclass(frozen=True, slots=True)
class TraceFilter:
    """A condition on rows; empty parts let everything through."""

    outcome: str = ""
    """One of OUTCOMES."""
    key: Key | None = None
    """The selected object: a Pod, Service or Node; other kinds do not narrow."""
    pods: frozenset[str] = field(default=frozenset())
    """For a Node: names of its pods."""
    words: tuple[str, ...] = ()
    """Typed: `errors`, `retried`, `calls`, `pod:NAME`, `svc:NAME`, `status:502`, or any part of path, client, pod,
    status, or of who calls whom."""

    @classmethod
    def parse(cls, text: str, base: "TraceFilter") -> "TraceFilter":
        """Take typed words into a filter, keeping outcome and selection."""
        return cls(base.outcome, base.key, base.pods, tuple(text.lower().split()))

    def with_key(self, key: Key | None, snapshot: Snapshot | None) -> "TraceFilter":
        """Narrow to a selected object."""
        pods: frozenset[str] = frozenset()
        if key is not None and key.kind == "Node" and snapshot is not None:
            pods = frozenset(pod.key.name for node in snapshot.nodes if node.key == key for pod in node.pods)
        narrowing = key if key is not None and key.kind in ("Pod", "Service", "Node") else None
        return TraceFilter(self.outcome, narrowing, pods, self.words)

    @property
    def empty(self) -> bool:
        return not (self.outcome or self.key or self.words)

    def words_for_title(self) -> str:
        """The filter in the pane's title: ``errors · pod/product-…-m4dd8 · 502``."""
        parts = [self.outcome, str(self.key) if self.key else "", " ".join(self.words)]
        return " · ".join(part for part in parts if part)

    def takes(self, row: TraceRow) -> bool:
        """Whether a row is shown."""
        return (
            _has_outcome(row, self.outcome)
            and (self.key is None or self._touches(row, self.key))
            and all(_has_word(row, word) for word in self.words)
        )

    def _touches(self, row: TraceRow, key: Key) -> bool:
        if key.kind == "Service":
            return row.service == key
        names = self.pods if key.kind == "Node" else (key.name,)
        return row.ingress in names or any(one.pod in names for one in row.tries)


def _has_outcome(row: TraceRow, outcome: str) -> bool:
    if outcome == "errors":
        return not row.ok
    if outcome == "retried":
        return len(row.tries) > 1 or any(name == "earlier attempts" for name, _ in row.parts)
    if outcome == "calls":
        return bool(row.label)
    return True


def _has_word(row: TraceRow, word: str) -> bool:
    """Whether one typed word fits; `field:` in front says which field it is about."""
    name, colon, value = word.partition(":")
    if not colon and word in OUTCOMES:
        return _has_outcome(row, word)
    pods = [row.ingress.lower(), *(one.pod.lower() for one in row.tries)]
    service = row.service.name.lower() if row.service else ""
    if colon and value:
        if name in ("status", "code"):
            return row.status.lower().startswith(value)
        if name in ("svc", "service"):
            return value in service
        if name == "pod":
            return any(value in pod for pod in pods)
        if name == "path":
            return value in row.path.lower()
    outcomes = [one.outcome for one in row.tries]
    places = (
        row.label.lower(),
        row.path.lower(),
        row.source.lower(),
        row.status.lower(),
        row.method.lower(),
        service,
        *pods,
        *outcomes,
    )
    return any(word in place for place in places)


def way_of(row: TraceRow) -> tuple[object, ...]:
    """What two requests of the same way have in common: Service, caller, ingress pod, each try's pod and outcome."""
    return (row.service, row.label, row.ingress, tuple((tail(one.pod), one.outcome) for one in row.tries))
