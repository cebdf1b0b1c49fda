"""Rules by revision: what each observer's knowledge makes packets do, compiled once and shared.

A `ServiceTable` is made from its predecessor by the Services that changed, so a revision costs what it changed.
"""

from collections.abc import Iterable, Sequence
from typing import cast

from kflab.cluster.store import Store
from kflab.control.observers import NO_RULES
from kflab.dataplane.cni import BRIDGE, CniProfile
from kflab.dataplane.fan_cache import FanCache
from kflab.dataplane.iptables import RuleSet, ServiceTable, compile_service
from kflab.dataplane.modes import ModeRules, fan_in, rule_set_for
from kflab.dataplane.node_facts import NodeFacts
from kflab.dataplane.packets import Packet
from kflab.dataplane.proxy_config import ProxyConfig
from kflab.dataplane.service_ports import ServiceRules
from kflab.dataplane.walk import FanOut
from kflab.dataplane.world import node_facts
from kflab.dataplane.written import Written
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_config import KubeProxyConfiguration
from kflab.manifest.objects_network import EndpointSlice, Service

KEPT_SETS = 256
"""Node rule sets kept once made; they are cheap views of shared tables."""


class RuleBook:
    """Makes and keeps rule sets.

    Args:
        store: Where objects and their past are.
        config: kube-proxy's settings at first, the same on all nodes.
        family: IPv4 or IPv6.
        cni: Which addresses nodes have besides their own.
    """

    def __init__(self, store: Store, config: ProxyConfig, family: str = "IPv4", cni: CniProfile = BRIDGE) -> None:
        self._store = store
        self._cni = cni
        self._settings = [config]
        """By the number that observers name; read from `_given` when they are first asked for."""
        self._given: Sequence[KubeProxyConfiguration | None] = (None,)
        self._family = family
        self._slices_of: dict[Key, dict[Key, None]] = {}
        """Service → slices that ever named it."""
        self._read_to = 0
        """Store revision up to which `_slices_of` is complete."""
        self._tables: dict[int, tuple[int, ServiceTable]] = {}
        """Rules revision → (a store revision that has it, its table)."""
        self._sets: dict[tuple[str, int, int], ModeRules] = {}
        self._nothing = ServiceTable((), family)
        self._fans = FanCache()
        self._nodes: dict[str, tuple[Node, NodeFacts]] = {}
        self._written = Written()

    def table(self, revision: int) -> ServiceTable:
        """All compiled Services as of a store revision."""
        wanted = self._store.rules_revision(revision)
        known = self._tables.get(wanted)
        if known is not None:
            return known[1]
        self._read()
        kept_from = self._store.log_start  # a table older than that cannot be followed up to the present
        bases = (rev for rev, (made_from, _) in self._tables.items() if rev < wanted and made_from >= kept_from)
        older = max(bases, default=None)
        if older is None:
            keys: Iterable[Key] = self._services_at(revision)
            table = ServiceTable((rules for key in keys if (rules := self._compile(key, revision))), self._family)
        else:
            base_revision, base = self._tables[older]
            touched: dict[Key, None] = {}
            for change in self._store.changes(base_revision):
                if change.revision > revision:
                    break
                for obj in (change.old, change.new):
                    if isinstance(obj, EndpointSlice):
                        touched[obj.service] = None
                    elif isinstance(obj, Service):
                        touched[obj.key] = None
            table = base.with_changes({key: self._compile(key, revision) for key in touched})
        self._tables[wanted] = (revision, table)
        return table

    def follow(self, configs: Sequence[KubeProxyConfiguration | None]) -> None:
        """Read the settings that observers name from a list that grows with every changed configuration."""
        self._given = configs

    @property
    def config(self) -> ProxyConfig:
        """The settings that a kube-proxy reads when it starts now."""
        return self.settings(len(self._given) - 1)

    def settings(self, number: int) -> ProxyConfig:
        """The settings of a configuration, by its number."""
        for given in self._given[len(self._settings) : number + 1]:
            self._settings.append(ProxyConfig.from_object(given))
        return self._settings[number]

    def rule_set(self, node: str, revision: int, config: int = 0) -> ModeRules:
        """What the kube-proxy on a node writes when it has seen a store revision.

        Args:
            node: The node.
            revision: The store revision.
            config: Number of the settings it read; `NO_RULES`: rules that take no packet, as there are none.
        """
        key = (node, self._store.rules_revision(revision), config)
        found = self._sets.get(key)
        if found is None:
            if len(self._sets) >= KEPT_SETS:
                self._sets.clear()
            facts = self._facts(node, revision)
            if config == NO_RULES:
                found = RuleSet(facts, ProxyConfig(localhost_node_ports=False), self._nothing, self._family)
            else:
                settings = self.settings(config)
                found = rule_set_for(settings.mode, facts, settings, self.table(revision), self._family)
            self._sets[key] = found
        return found

    def text(self, node: str, revision: int, config: int = 0) -> list[str]:
        """A node's whole rules as the mode's tool prints them, in pieces (see `Written`)."""
        return self._written.blocks(self.rule_set(node, revision, config))

    def _facts(self, node: str, revision: int) -> NodeFacts:
        """A node's facts as of a store revision: made once for each state of the Node."""
        key = Key("Node", "", node)
        obj = self._store.get(key, at=revision) or self._store.last(key)
        if not isinstance(obj, Node):
            return NodeFacts(node)
        known = self._nodes.get(node)
        if known is None or known[0] is not obj:
            known = self._nodes[node] = obj, node_facts(obj, self._cni)
        return known[1]

    def fan(self, node: str, revision: int, packet: Packet, config: int = 0) -> FanOut:
        """Everything a node's rules may do with a first packet; equal for nodes that see it alike."""
        rules = self.rule_set(node, revision, config)
        return self._fans.fan(rules, packet) if isinstance(rules, RuleSet) else fan_in(rules, packet)

    def slices(self, service: Key, revision: int) -> tuple[EndpointSlice, ...]:
        """A Service's EndpointSlices as of a store revision, in order of creation."""
        self._read()
        found = (self._store.get(key, at=revision) for key in self._slices_of.get(service, ()))
        return tuple(obj for obj in found if isinstance(obj, EndpointSlice) and obj.service == service)

    def reset(self) -> None:
        """Forget everything: the store's history begins anew (the cluster has settled)."""
        self._slices_of.clear()
        self._read_to = 0
        self._tables.clear()
        self._sets.clear()
        self._fans = FanCache()
        self._written = Written()

    def forget_before(self, revision: int, keep: Iterable[int] = ()) -> None:
        """Drop tables older than a store revision that somebody may still act on.

        Args:
            revision: The oldest store revision that running observers act on.
            keep: Store revisions of stopped observers: their rules stay in the kernel.
        """
        self._read()
        oldest = self._store.rules_revision(revision)
        kept = {self._store.rules_revision(rev) for rev in keep}
        for known in [rev for rev in self._tables if rev < oldest and rev not in kept]:
            del self._tables[known]
        for key in [key for key in self._sets if key[1] < oldest and key[1] not in kept]:
            del self._sets[key]
        if oldest in self._tables:
            # Made from a revision whose changes may go: it stands for the newest one that has the same rules.
            made_from, table = self._tables[oldest]
            self._tables[oldest] = max(made_from, revision), table
        self._fans = FanCache()  # it holds on to the rules of its fans

    def _read(self) -> None:
        if not self._read_to:  # the log may no longer begin at revision 0
            for piece in self._store.of_kind("EndpointSlice"):
                assert isinstance(piece, EndpointSlice)
                self._slices_of.setdefault(piece.service, {})[piece.key] = None
        for change in self._store.changes(self._read_to):
            obj = change.new or change.old
            if isinstance(obj, EndpointSlice):
                self._slices_of.setdefault(obj.service, {})[obj.key] = None
        self._read_to = self._store.revision

    def _services_at(self, revision: int) -> list[Key]:
        return [obj.key for obj in self._store.of_kind_at("Service", revision)]

    def _compile(self, key: Key, revision: int) -> ServiceRules | None:
        service = self._store.get(key, at=revision)
        if service is None:
            return None
        return compile_service(cast(Service, service), self.slices(key, revision), self._family)
