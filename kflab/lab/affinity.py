"""ClientIP affinity, from the nodes' rules to the engine's entries, and what they held when a request came.

Simplified: IPVS keeps a template while the connections it controls live (see `lasts`), with each connection closed as
soon as it is opened; the pods of a node that call one Service share an entry (`CALLING_PODS`). The user is told by
`assuming.affinity_assumptions` and `calls`.
"""

from collections.abc import Callable
from typing import Final

from kflab.dataplane.iptables import RuleSet
from kflab.dataplane.ipvs import IpvsRuleSet
from kflab.dataplane.modes import ModeRules
from kflab.engine.affinity import Held
from kflab.engine.engine import Engine
from kflab.engine.ipvs_counts import TIME_WAIT_NS
from kflab.lab.turns import udp_entry_ns
from kflab.manifest.objects import Key

CALLING_PODS: Final = "pods"
"""Stands for the addresses of all pods of a node that call others, where session affinity looks at them."""

_S: Final = 1_000_000_000

_EXPIRE_LATER_NS: Final = 60 * _S
"""net/netfilter/ipvs/ip_vs_conn.c, ip_vs_conn_expire: a template that controls connections is looked at again then."""

EntryKey = tuple[str, str, Key, int]
"""(node, caller's address, Service, port)."""


def lasts(timeout_s: int, rules: ModeRules, protocol: str) -> int:
    """How long an entry lasts after its last use, ns: it is over when more than this has passed.

    Args:
        timeout_s: Of the Service.
        rules: The node's, which say in which mode.
        protocol: A TCP connection stays in IPVS's table for its TIME_WAIT, a UDP one for its timeout.
    """
    if isinstance(rules, RuleSet):
        return timeout_s * _S
    total = timeout_s * _S
    if isinstance(rules, IpvsRuleSet):
        holds = udp_entry_ns(rules.config) if protocol == "UDP" else TIME_WAIT_NS
        total += max(0, -(-(holds - total) // _EXPIRE_LATER_NS)) * _EXPIRE_LATER_NS
    return total - 1  # at that very instant it is over


class Affinities:
    """The entries that traffic reaches.

    Args:
        engine: Has them.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._entries: dict[EntryKey, int] = {}
        self._lists: dict[int, dict[int, tuple[int, ...]]] = {}
        """Entry → chooser → endpoints that its rules list."""
        self._of: dict[int, int] = {}
        """Chooser → its entry."""
        self._numbers: dict[tuple[str, Key, int], int] = {}
        """(node, Service, port) → number of its lists of callers."""
        self._mode_of: dict[int, type[ModeRules]] = {}
        """Entry → the kind of rules that it is of."""

    def entry(
        self, key: EntryKey, rules: ModeRules, lasts_ns: int, t_ns: int, engine_until: Callable[[int], None]
    ) -> int:
        """Find or make the engine's entry of a caller.

        Args:
            key: Whose it is.
            rules: Its node's. In iptables mode the entry is in xt_recent's lists, with those of the other callers of
                its Service port; a mode knows nothing of what another one kept.
            lasts_ns: How long it lasts.
            t_ns: From when on that is so.
            engine_until: Lets the engine run up to an instant.
        """
        found = self._entries.get(key)
        if found is None:
            found = self._entries[key] = self._engine.add_affinity(lasts_ns)
        elif self._engine.affinity(found).lasts_ns != lasts_ns or self._mode_of[found] is not type(rules):
            engine_until(t_ns)
            self._engine.keep_for(found, lasts_ns)
        if self._mode_of.get(found) is not type(rules):
            node, _, service, port = key
            self._mode_of[found] = type(rules)
            numbers, place = self._numbers, (node, service, port)
            in_lists = isinstance(rules, RuleSet)
            self._engine.share_lists(found, numbers.setdefault(place, len(numbers)) if in_lists else -1)
            if found in self._lists:
                self._engine.list_endpoints(found, t_ns, ())
                self._tell(found, t_ns)
        return found

    def list(self, chooser: int, entry: int, servers: tuple[int, ...], t_ns: int) -> None:
        """Let a chooser's rules list these endpoints from `t_ns` on."""
        if self._of.get(chooser, entry) != entry:
            self.leave(chooser, t_ns)
        self._of[chooser] = entry
        lists = self._lists.setdefault(entry, {})
        if lists.get(chooser) != servers:
            lists[chooser] = servers
            self._tell(entry, t_ns)

    def leave(self, chooser: int, t_ns: int) -> None:
        """A chooser's rules have no affinity, or no endpoints, from `t_ns` on."""
        entry = self._of.pop(chooser, None)
        if entry is not None:
            del self._lists[entry][chooser]
            self._tell(entry, t_ns)

    def _tell(self, entry: int, t_ns: int) -> None:
        listed = {server for servers in self._lists[entry].values() for server in servers}
        self._engine.list_endpoints(entry, t_ns, tuple(sorted(listed)))

    def held(self, node: str, caller: str, service: Key, port: int, t_ns: int) -> Held | None:
        """What the entry of a caller held for a connection of `t_ns`; None: none, or it had run out."""
        for one in (caller, CALLING_PODS):
            entry = self._entries.get((node, one, service, port))
            found = self._engine.affinity(entry).held_at(t_ns) if entry is not None else None
            if found is not None:
                return found
        return None

    def forget_before(self, t_ns: int) -> None:
        """Drop what was replaced before `t_ns`."""
        for entry in self._entries.values():
            self._engine.affinity(entry).forget_before(t_ns)
