"""Observers: who acts on which revision of the cluster, since when (idea 3 of the architecture)."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import field

from kflab.cluster.checkpoint import Mutable
from kflab.records import dataclass

NO_RULES = -1
"""Instead of a configuration's number: kube-proxy removed the rules it found and has not written its own yet."""


@dataclass(slots=True)
class Observer(Mutable):
    """One row of knowledge: a kube-proxy, an ingress controller pod, CoreDNS or a load balancer.

    Its rules are a pure function of the store at `revision`; `versions` keeps (effective_from_ns, revision),
    ascending, so that any flow can ask what was in force at its own time.
    """

    name: str
    """Unique: "kube-proxy/node-a", "ingress/NAMESPACE/POD", "coredns", "lb/NAMESPACE/SERVICE" or the name of a target
    group behind "lb/NAMESPACE/"."""
    kind: str
    """kube-proxy, ingress, coredns or lb."""
    node: str = ""
    """Where it runs; "" outside the cluster."""
    running: bool = True
    service: str = ""
    """lb: name of the Service whose targets it knows."""
    versions: list[tuple[int, int]] = field(default_factory=list)
    configs: list[tuple[int, int]] = field(default_factory=list)
    """kube-proxy: (effective_from_ns, number of the configuration its rules follow), ascending; () is 0 throughout."""

    @property
    def revision(self) -> int:
        """The revision its rules are made from now; 0 before its first sync."""
        return self.versions[-1][1] if self.versions else 0

    @property
    def since_ns(self) -> int | None:
        return self.versions[-1][0] if self.versions else None

    def learn(self, t_ns: int, revision: int) -> None:
        """From `t_ns` on its rules are made from `revision`."""
        self.versions.append((t_ns, revision))

    def at(self, t_ns: int) -> tuple[int, int] | None:
        """(effective_from_ns, revision) in force at `t_ns`; None before the first sync."""
        i = bisect_right(self.versions, t_ns, key=lambda version: version[0])
        return self.versions[i - 1] if i else None

    @property
    def config(self) -> int:
        """Number of the configuration its rules follow now; `NO_RULES` where they are removed."""
        return self.configs[-1][1] if self.configs else 0

    def configure(self, t_ns: int, number: int) -> None:
        """From `t_ns` on its rules follow another configuration, or are gone."""
        self.configs.append((t_ns, number))

    def config_at(self, t_ns: int) -> int:
        """Number of the configuration that its rules followed at `t_ns`."""
        i = bisect_right(self.configs, t_ns, key=lambda entry: entry[0])
        return self.configs[i - 1][1] if i else 0

    def forget_before(self, t_ns: int) -> None:
        """Drop versions that were replaced before `t_ns`; the one in force at `t_ns` stays."""
        for entries in (self.versions, self.configs):
            i = bisect_right(entries, t_ns, key=lambda entry: entry[0])
            if i > 1:
                del entries[: i - 1]


def revision_at(observers: Mapping[str, Observer], name: str, t_ns: int) -> int | None:
    """The revision that an observer's rules were made from at `t_ns`; None before its first sync, or without one."""
    observer = observers.get(name)
    found = observer.at(t_ns) if observer is not None else None
    return found[1] if found is not None else None
