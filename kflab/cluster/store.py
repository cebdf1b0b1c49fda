"""The object store: every object, one growing revision, and the past that observers still act on.

Stands for the API server with etcd. Writes are whole, validated objects; a write that changes nothing makes no
revision (as an update with an equal object does in k8s.io/apiserver pkg/registry/generic/registry/store.go).
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from kflab.cluster.checkpoint import Mutable
from kflab.manifest.objects import Key, KubeObject
from kflab.records import dataclass

RULE_KINDS = frozenset({"Service", "EndpointSlice"})
"""Kinds that kube-proxy makes rules from; `rules_revision` counts only their changes."""


@dataclass(frozen=True, slots=True)
class Change:
    """One write. `old` is None for a creation, `new` is None for a removal."""

    revision: int
    t_ns: int
    key: Key
    old: KubeObject | None
    new: KubeObject | None
    by: str
    """Who wrote it: "user", "endpointslice-controller", "kubelet node-a", …"""

    @property
    def same_generation(self) -> bool:
        """Whether what is asked for stayed as it was."""
        return self.old is not None and self.new is not None and self.old.meta.generation == self.new.meta.generation


class Store(Mutable):
    """All objects by key, with history. Objects are immutable; the store only swaps them.

    `at` arguments are revisions: what a watcher that has seen exactly that revision knows.
    """

    def __init__(self) -> None:
        self._now: dict[Key, KubeObject] = {}
        self._kinds: dict[str, dict[Key, None]] = {}
        self._ever: dict[str, dict[Key, None]] = {}
        """Kind → keys that anybody may still ask for, in order of first creation."""
        self._past: dict[Key, list[tuple[int, KubeObject | None]]] = {}
        """States of what was written since history is kept, with what was there before; all else is as it is now."""
        self._log: list[Change] = []
        self._log_start = 0
        self._rule_changes: list[int] = []
        self.keeps_past = True
        """False while a cluster settles: nobody will ask for states before its end."""
        self._past_start = 0
        """Earliest revision that can be told apart: settling keeps no history."""
        self.revision = 0
        """Of the newest write; 0 while empty."""

    def put(self, obj: KubeObject, t_ns: int, by: str, key: Key | None = None) -> Change | None:
        """Create or replace an object. Returns None when nothing differs.

        Args:
            obj: The object.
            t_ns: When.
            by: Who writes it.
            key: Its key, where it is at hand: one that all share is found faster than an equal one.
        """
        key = key or obj.key
        old = self._now.get(key)
        if old is not None and old == obj:
            return None
        return self._write(key, old, obj, t_ns, by)

    def delete(self, key: Key, t_ns: int, by: str) -> Change | None:
        """Remove an object for good (graceful deletion is the caller's business). None if it is not there."""
        old = self._now.get(key)
        return None if old is None else self._write(key, old, None, t_ns, by)

    def _write(self, key: Key, old: KubeObject | None, new: KubeObject | None, t_ns: int, by: str) -> Change:
        self.revision += 1
        if new is None:
            del self._now[key]
            del self._kinds[key.kind][key]
            if not self.keeps_past:
                del self._ever[key.kind][key]
        else:
            self._now[key] = new
            if old is None:
                self._kinds.setdefault(key.kind, {})[key] = None
                self._ever.setdefault(key.kind, {})[key] = None
        if key.kind in RULE_KINDS:
            self._rule_changes.append(self.revision)
        change = Change(self.revision, t_ns, key, old, new, by)
        if self.keeps_past:
            past = self._past.get(key)
            if past is None:
                past = self._past[key] = [] if old is None else [(self._past_start, old)]
            past.append((self.revision, new))
            self._log.append(change)
        return change

    def start_past(self) -> None:
        """Keep history from the present revision on; the present state stands for all that was before."""
        self.keeps_past = True
        self._past_start = self.revision
        self._log.clear()
        self._log_start = self.revision

    def get(self, key: Key, at: int | None = None) -> KubeObject | None:
        """The object now, or as it was at a revision; None if it did not exist."""
        if at is None or at >= self.revision:
            return self._now.get(key)
        at = max(at, self._past_start)
        past = self._past.get(key)
        if past is None:
            return self._now.get(key)
        i = bisect_right(past, at, key=lambda entry: entry[0])
        return past[i - 1][1] if i else None

    def last(self, key: Key) -> KubeObject | None:
        """The object now, or as it was when it was removed; None where that is forgotten."""
        found = self._now.get(key)
        return found or next((obj for _, obj in reversed(self._past.get(key, ())) if obj is not None), None)

    def all_of(self, keys: Iterable[Key]) -> list[KubeObject]:
        """Those objects of the keys that are there now, in the keys' order."""
        now = self._now
        return [now[key] for key in keys if key in now]

    def keys(self, kind: str) -> Sequence[Key]:
        """Keys of a kind in order of creation."""
        return tuple(self._kinds.get(kind, ()))

    def of_kind(self, kind: str, namespace: str | None = None) -> Iterator[KubeObject]:
        """Current objects of a kind in order of creation, of one namespace or (None) of all."""
        for key in tuple(self._kinds.get(kind, ())):
            if namespace is None or key.namespace == namespace:
                yield self._now[key]

    def of_kind_at(self, kind: str, revision: int) -> Iterator[KubeObject]:
        """Objects of a kind as of a revision, in order of first creation."""
        for key in tuple(self._ever.get(kind, ())):
            if (obj := self.get(key, at=revision)) is not None:
                yield obj

    def count(self, kind: str) -> int:
        """How many objects of a kind there are."""
        return len(self._kinds.get(kind, ()))

    def kinds(self) -> Sequence[str]:
        """Kinds that have objects, in order of first appearance."""
        return tuple(kind for kind, keys in self._kinds.items() if keys)

    def changes(self, after: int) -> Sequence[Change]:
        """Every change with a revision above `after`, in order."""
        return self._log[max(0, after - self._log_start) :]

    @property
    def log_start(self) -> int:
        """Changes after this revision are kept, earlier ones are forgotten."""
        return self._log_start

    def rules_revision(self, at: int | None = None) -> int:
        """How many changes to rule-making objects there were up to a revision (what the screen calls "rev")."""
        return bisect_right(self._rule_changes, self.revision if at is None else at)

    @property
    def last_rule_change(self) -> int:
        """Revision of the newest change to a rule-making object; 0 before the first."""
        return self._rule_changes[-1] if self._rule_changes else 0

    def forget_before(self, revision: int) -> None:
        """Drop history that no observer at or after `revision` can ask for."""
        for key in list(self._past):
            past = self._past[key]
            i = bisect_right(past, revision, key=lambda entry: entry[0])
            if i > 1:
                del past[: i - 1]
            if len(past) == 1 and past[0][0] <= revision:
                del self._past[key]
                if past[0][1] is None:
                    del self._ever[key.kind][key]
        drop = max(0, revision - self._log_start)
        if drop:
            del self._log[:drop]
            self._log_start += drop
