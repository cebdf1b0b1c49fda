"""The cluster that a scenario's manifests make, at rest: what verify builds and drift compares with."""

from kflab.cluster.ipam import Pins
from kflab.cluster.store import Store
from kflab.control import made
from kflab.control.delays import Delays
from kflab.control.plane import ControlPlane
from kflab.draws import Draws
from kflab.manifest.loader import Loaded, load
from kflab.manifest.objects import KubeObject
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_config import KubeProxyConfiguration
from kflab.manifest.sources import SourceText
from kflab.records import dataclass
from kflab.scenario.format import Scenario


@dataclass(frozen=True, slots=True)
class Settled:
    """A cluster at t = 0."""

    loaded: Loaded
    plane: ControlPlane
    proxy: KubeProxyConfiguration | None
    """kube-proxy's configuration among the manifests."""

    @property
    def objects(self) -> list[KubeObject]:
        """Everything in the store, by kind."""
        store = self.plane.store
        return [obj for kind in store.kinds() for obj in store.of_kind(kind)]


def settle(scenario: Scenario) -> Settled:
    """Load a scenario's manifests, make what they leave out as the lab does, and let the controllers settle.

    Raises:
        KflabError: If the manifests cannot be loaded.
    """
    spec = scenario.spec
    texts = [SourceText(tab.name, tab.text, tab.path) for tab in spec.tabs if tab.role != "patches"]
    patches = [SourceText(tab.name, tab.text, tab.path) for tab in spec.tabs if tab.role == "patches"]
    loaded = load(texts, patches, default_namespace=spec.namespace)
    loaded.raise_errors()
    given = loaded.objects
    extra = made.Made()
    if spec.nodes and not any(isinstance(obj, Node) for obj in given):
        extra += made.nodes(spec.nodes)
    extra += made.ingress_controllers(given)
    extra += made.coredns(given)
    extra += made.client_pod(spec.namespace)
    proxy = next((obj for obj in given if isinstance(obj, KubeProxyConfiguration)), None)
    pins = Pins(pod_ips=spec.pins.pod_ips, lb_ips=spec.pins.load_balancer_ips)
    delays = Delays().with_overrides(spec.delays)
    plane = ControlPlane(Store(), Draws(spec.seed), delays, pins, None, proxy, spec.load_balancer)
    plane.load((*given, *extra.objects), loaded.observed_keys)
    plane.settle()
    return Settled(loaded, plane, proxy)
