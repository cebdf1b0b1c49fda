"""Which rules were in force on a node at an instant: what its kube-proxy knew, in the mode it ran."""

from collections.abc import Callable

from kflab.cluster.store import Store
from kflab.control.observers import NO_RULES, Observer
from kflab.control.plane import ControlPlane
from kflab.dataplane.ipvs import Draining, IpvsRuleSet
from kflab.dataplane.world import RulesInForce
from kflab.errors import KflabError
from kflab.lab.rulebook import RuleBook
from kflab.manifest.objects import Key


class NodeRules:
    """Rules by node and time.

    Args:
        store: The cluster.
        plane: For the observers.
        book: Makes the rule sets.
        draining: (node, t_ns) → what IPVS there keeps with weight 0 for connections that it still has.
    """

    def __init__(
        self, store: Store, plane: ControlPlane, book: RuleBook, draining: Callable[[str, int], Draining]
    ) -> None:
        self._store = store
        self._plane = plane
        self._book = book
        self._draining = draining

    def _observer(self, node: str, t_ns: int) -> Observer | None:
        return self._plane.observer_at(f"kube-proxy/{node}", t_ns)

    def mode(self, number: int) -> str:
        """The mode of a configuration; "" for `NO_RULES`."""
        return "" if number == NO_RULES else self._book.settings(number).mode

    def at(self, node: str, t_ns: int) -> RulesInForce | None:
        """Rules in force on a node; None before its kube-proxy's first sync."""
        observer = self._observer(node, t_ns)
        known = observer.at(t_ns) if observer else None
        if observer is None or known is None:
            return None
        since_ns, revision = known
        config = observer.config_at(t_ns)
        rules = self._book.rule_set(node, revision, config)
        shown = self._store.rules_revision(revision)
        if config == NO_RULES:
            at = max(since for since, number in observer.configs if since <= t_ns and number == NO_RULES)
            return RulesInForce(rules, shown, at, removed=True)
        return RulesInForce(rules, shown, since_ns)

    def words(self, observer: Observer) -> str:
        """What a kube-proxy's rules are now: "rev 41", after a reconfiguration with its mode: "rev 41 nftables"."""
        if observer.config == NO_RULES:
            return "no rules"
        revision = f"rev {self._store.rules_revision(observer.revision)}"
        return f"{revision} {self.mode(observer.config)}" if observer.configs else revision

    def text(self, node: str, t_ns: int) -> str:
        """The rules in force on a node, as its mode's own tool prints them (`iptables-save`, `nft list ruleset`, …).

        Raises:
            KflabError: If there is no such node.
        """
        if self._store.get(Key("Node", "", node)) is None:
            names = ", ".join(key.name for key in self._store.keys("Node")[:8])
            raise KflabError(f"no node named {node!r}; there are {names}")
        known, observer = self.at(node, t_ns), self._observer(node, t_ns)
        if known is not None and known.removed:
            at = f"{known.written_ns / 1e9:.3f} s"
            return f"# no rules: kube-proxy started at {at}, removed those of the mode before and has not synced yet\n"
        version = observer.at(t_ns) if observer else None
        if observer is None or version is None:
            return "".join(self._book.text(node, 0))
        draining = self._draining(node, t_ns)
        rules = self._book.rule_set(node, version[1], observer.config_at(t_ns)) if draining else None
        if isinstance(rules, IpvsRuleSet):
            return rules.with_draining(draining).save_text()
        return "".join(self._book.text(node, version[1], observer.config_at(t_ns)))
