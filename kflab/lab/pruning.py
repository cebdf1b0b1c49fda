"""Forgetting: what no request that can still be opened, and no observer, will ask for again.

Observers act on revisions of the past, and a sampled request is opened with the rules of its own time, so history is
kept as far back as the oldest of these. Forgetting happens at fixed simulated instants and never changes the story.
"""

from typing import TYPE_CHECKING

from kflab.control.observers import Observer

if TYPE_CHECKING:
    from kflab.lab.running import Lab

EVERY_NS = 30_000_000_000
"""Simulated time between two clean-ups."""

IN_FLIGHT_NS = 200_000_000_000
"""A request may be answered, and only then sampled, this long after it began: NGINX's three tries of 60 s, and a rest
for the way."""

RING_NS = 600_000_000_000
"""Rows kept for logs and examples of bills hold the cluster's history back this long at most; the sample of traces as
long as it lasts."""

WATCHED = frozenset({"Service", "EndpointSlice", "Ingress", "IngressClass", "ConfigMap", "Secret", "Node"})
"""Kinds whose past somebody's rules are made from; writes to others (Pods' status) pass nobody by."""


def horizon_ns(lab: "Lab") -> int:
    """The earliest instant that an open request, or one that may still be opened, could ask about."""
    now = lab.t_ns
    earliest = now - IN_FLIGHT_NS
    started = lab.sampler.oldest_start_ns()
    if started is not None:
        earliest = min(earliest, started)
    billed = lab.autopsy.oldest_start_ns()
    if billed is not None:
        earliest = min(earliest, max(billed, now - RING_NS))
    row = lab.sampler.oldest_row_ns()
    if row is not None:
        earliest = min(earliest, max(row, now - RING_NS))
    return max(0, earliest)


def prune(lab: "Lab") -> None:
    """Forget what is older than anybody can ask for."""
    t_ns = horizon_ns(lab)
    lab.controllers.all()  # it reads the store's changes: up to date before they are dropped
    revision = lab.store.revision
    for observer in lab.plane.observers.values():
        if observer.kind == "lb":
            continue  # acts on its own health checks, not on a revision
        if not observer.running or not lab.running(observer.name):
            # Its rules stay as they are however long it is away: the compiled ones are kept, not the history.
            _keep_rules(lab, observer)
            continue
        known = observer.at(t_ns) or (observer.versions[0] if observer.versions else None)
        if known is not None:
            revision = min(revision, _still_seen(lab, known[1]))
    for former in lab.plane.core.former.values():
        for _, observer in former:
            known = observer.at(t_ns)
            revision = min(revision, known[1] if known is not None else observer.revision)
    proxies = (o for o in lab.plane.observers.values() if o.kind == "kube-proxy")
    stopped = [o.revision for o in proxies if not o.running or not lab.running(o.name)]
    lab.book.forget_before(revision, keep=stopped)
    lab.store.forget_before(revision)
    lab.plane.forget_before(t_ns)
    lab.wiring.configs.forget_old()
    lab.autopsy.forget_before(t_ns)
    lab.wiring.forget_before(t_ns)
    lab.world.forget_before(t_ns)


def _keep_rules(lab: "Lab", observer: Observer) -> None:
    """Compile what a stopped kube-proxy left in the kernel, while its past is still there."""
    if observer.kind == "kube-proxy" and observer.versions:
        lab.book.table(observer.revision)


def _still_seen(lab: "Lab", revision: int) -> int:
    """The last revision at which everything that rules are made from is as at `revision`."""
    for change in lab.store.changes(revision):
        if change.key.kind in WATCHED:
            return change.revision - 1
    return lab.store.revision
