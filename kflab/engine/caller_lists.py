"""xt_recent's lists where more callers come than one holds: ClientIP affinity in iptables mode then forgets some.

Each endpoint of a Service port has a list of its callers on each node. A list holds 100 (the module's ip_list_tot,
which kube-proxy leaves alone): one more, and the caller that was seen the longest ago is dropped from it, and drawn
anew when it comes again (net/netfilter/xt_recent.c, recent_entry_init; `--reap` removes the head of a list when it has
timed out: recent_mt, recent_entry_reap). A caller that was drawn anew stays in its old list until it is dropped or
reaped there.

While no more callers than that come to a Service port through a node no list is ever full, and each caller's entry
(`affinity`) stands alone. Beyond, one of these takes the connections of all of them, one after the other.
"""

from bisect import insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Final

from kflab.engine.affinity import Affinity, Held
from kflab.engine.types import Int64Array
from kflab.records import dataclass

MOST: Final = 100
"""ip_list_tot."""


@dataclass(slots=True)
class CallerLists:
    """The lists of one Service port on one node."""

    callers: dict[int, None] = field(default_factory=dict)
    """Affinity entries of those that come, each a caller."""
    _lists: dict[int, dict[int, int]] | None = None
    """Endpoint → caller → when it was seen last, the longest ago first; None while no list can be full."""
    _coming: list[tuple[int, int, int, tuple[int, ...]]] = field(default_factory=list)
    """(from_ns, order, caller, endpoints that its rules list)."""
    _listed: dict[int, tuple[int, ...]] = field(default_factory=dict)
    _changes: int = 0

    @property
    def crowded(self) -> bool:
        """Whether a list may be full."""
        return len(self.callers) > MOST

    def leave(self, caller: int) -> None:
        """A caller's rules are no longer these: what the lists know of it is gone with them."""
        self.callers.pop(caller, None)
        self._listed.pop(caller, None)
        self._coming = [change for change in self._coming if change[2] != caller]
        for known in (self._lists or {}).values():
            known.pop(caller, None)

    def learn(self, caller: int, from_ns: int, servers: tuple[int, ...]) -> None:
        """Let a caller's rules list these endpoints from `from_ns` on: the list of one that nobody lists is gone."""
        self._changes += 1
        insort(self._coming, (from_ns, self._changes, caller, servers))

    def _settle(self, t_ns: int, lists: dict[int, dict[int, int]]) -> None:
        changed = False
        while self._coming and self._coming[0][0] <= t_ns:
            _, _, caller, servers = self._coming.pop(0)
            self._listed[caller], changed = servers, True
        if changed:
            there = {server for servers in self._listed.values() for server in servers}
            for server in [server for server in lists if server not in there]:
                del lists[server]

    def _begun(self, kept: Mapping[int, Affinity]) -> dict[int, dict[int, int]]:
        """The lists as the entries tell them, when the first caller comes that they may have no room for."""
        lists: dict[int, dict[int, int]] = {}
        for used_ns, caller in sorted((kept[caller].used_ns, caller) for caller in self.callers):
            if kept[caller].server >= 0:
                lists.setdefault(kept[caller].server, {})[caller] = used_ns
        return lists

    def take(
        self,
        callers: Sequence[int],
        times: Int64Array,
        drawn: Int64Array,
        endpoints: Iterable[Sequence[int]],
        kept: Mapping[int, Affinity],
    ) -> list[int]:
        """Give new connections their servers.

        Args:
            callers: Whose each is, shape (n,).
            times: When each asks, shape (n,), ns, ascending.
            drawn: Whom each would draw, shape (n,).
            endpoints: Those that its rules list, in their order, for each.
            kept: Caller → its entry, which is brought up to date.

        Returns:
            Server of each.
        """
        if self._lists is None:
            self._lists = self._begun(kept)
        lists, servers = self._lists, []
        for caller, t_ns, word, listed in zip(callers, times.tolist(), drawn.tolist(), endpoints, strict=True):
            self._settle(t_ns, lists)
            one = kept[caller]
            server = self._found(caller, t_ns, one.lasts_ns, listed, lists)
            if server < 0:
                server = word
                over = one.server >= 0 and t_ns - one.used_ns > one.lasts_ns
                forgotten = one.server in listed and not over
                one.history.append(Held(t_ns, server, one.used_ns + one.lasts_ns if over else -1, forgotten))
            one.server, one.used_ns = server, t_ns
            self._set(lists.setdefault(server, {}), caller, t_ns)
            servers.append(server)
        return servers

    @staticmethod
    def _found(caller: int, t_ns: int, lasts_ns: int, listed: Sequence[int], lists: dict[int, dict[int, int]]) -> int:
        """`--rcheck --seconds N --reap` at each endpoint in turn; -1 where none has seen the caller lately."""
        for server in listed:
            known = lists.get(server, {})
            if caller not in known:
                continue
            fresh = t_ns - known[caller] <= lasts_ns
            head = next(iter(known))
            if t_ns - known[head] > lasts_ns:
                del known[head]
            if fresh:
                return server
        return -1

    @staticmethod
    def _set(known: dict[int, int], caller: int, t_ns: int) -> None:
        """`--set`: the caller is the last one seen; a full list drops its head for a new one."""
        if caller in known:
            del known[caller]
        elif len(known) >= MOST:
            del known[next(iter(known))]
        known[caller] = t_ns
