"""kube-proxy's cleanup of stale UDP entries in conntrack at the end of a sync."""

from kflab.control.observers import revision_at
from kflab.control.plane import ControlPlane
from kflab.dataplane.endpoints import ProxyEndpoint
from kflab.engine.engine import Engine
from kflab.engine.types import Stream
from kflab.lab.choosers import Chooser
from kflab.lab.rulebook import RuleBook
from kflab.lab.server_index import ServerIndex


class UdpCleanup:
    """Which endpoints each kube-proxy had seen when it last cleaned UDP entries of conntrack."""

    def __init__(self, plane: ControlPlane, book: RuleBook, engine: Engine, index: ServerIndex) -> None:
        self._plane, self._book, self._engine, self._index = plane, book, engine, index
        self._cleaned: dict[int, tuple[ProxyEndpoint, ...]] = {}
        """Chooser → endpoints at its kube-proxy's last cleanup of UDP entries."""

    def synced(self, chooser: Chooser, stream: Stream, t_ns: int) -> None:
        """What kube-proxy does at the end of a sync that changed endpoints: delete stale UDP entries.

        An entry goes when its endpoint is not serving any more; a Service without any serving endpoint is passed over,
        so its entries stay (k/k pkg/proxy/conntrack/cleanup.go as of 1.33; later releases clean those too, #139629).
        Here a sync cleans the entries of the Services whose endpoints it changed, there all UDP ones.
        """
        revision = revision_at(self._plane.observers, chooser.observers[0], t_ns)
        if not stream.flow_port or chooser.kind != "entry" or revision is None:
            return
        rules = self._book.table(revision).get(chooser.entry.service)
        own = chooser.entry.port
        ports = (p for p in rules.ports if (p.port, p.protocol) == (own.port, own.protocol)) if rules else ()
        endpoints = tuple(endpoint for port in ports for endpoint in port.endpoints.all)
        if endpoints == self._cleaned.get(chooser.index):
            return
        self._cleaned[chooser.index] = endpoints
        serving = {endpoint.address for endpoint in endpoints if endpoint.serving}
        if serving:
            keep = frozenset(i for i, (ip, _, _, _) in enumerate(self._index.servers) if ip in serving)
            self._engine.clean_flows(stream.index, self._index.place(chooser.place), t_ns, keep)
