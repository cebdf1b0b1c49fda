"""What a lab is opened with beside its manifests: the data path's delays, and objects that nobody gave."""

from collections.abc import Sequence
from dataclasses import fields, replace

from kflab.control import made
from kflab.control.profiles import PROFILES
from kflab.dataplane.conntrack import ConntrackSettings
from kflab.engine.neighbours import LONGEST_NS
from kflab.engine.types import Timing
from kflab.errors import KflabError
from kflab.lab.spec import LabSpec
from kflab.manifest.objects import Key, KubeObject
from kflab.manifest.objects_config import KubeProxyConfiguration
from kflab.manifest.objects_network import Service

TIMINGS = tuple(sorted(field.name for field in fields(Timing) if field.name.endswith("_ns")))
"""Delays of the data path that a scenario may set."""

BOUNDS = {
    "dns_timeout_ns": (1_000_000, 1 << 62),
    "ipvs_drain_poll_ns": (1_000_000, 1 << 62),
    "neighbour_probe_ns": (1_000_000, 1 << 62),
    "neighbour_reachable_ns": (0, LONGEST_NS),
    "neighbour_delay_ns": (0, LONGEST_NS),
}
"""Least and most of some: what is repeated takes a millisecond or more, else time would hardly go on."""


def timing_of(spec: LabSpec, proxy: KubeProxyConfiguration | None) -> Timing:
    """The data path's delays with the scenario's overrides.

    Raises:
        KflabError: For a delay that there is not, or one that makes no sense.
    """
    for name, value in spec.timing.items():
        if name not in TIMINGS or value < 0:
            raise KflabError(f"timing {name!r}: expected one of {', '.join(TIMINGS)}, in ns")
    conntrack = ConntrackSettings.from_object(proxy)
    timing = Timing(udp_timeout_ns=conntrack.udp_ns, udp_stream_timeout_ns=conntrack.udp_stream_ns)
    speed = PROFILES[spec.profile or "small"]
    for name, value in {**speed.timing, **spec.timing}.items():
        timing = replace(timing, **{name: int(value)})  # type: ignore[arg-type]  # checked above: an int field
    if not 0 < timing.service_p50_ns <= timing.service_p99_ns:
        bounds = f"{timing.service_p50_ns} and {timing.service_p99_ns}"
        raise KflabError(f"timing: service_p50_ns must be above 0 and at most service_p99_ns, not {bounds}")
    for name, (least, most) in BOUNDS.items():
        if not least <= getattr(timing, name) <= most:
            raise KflabError(f"timing: {name} must be from {least:,} to {most:,}, not {getattr(timing, name):,}")
    return timing


def made_for(spec: LabSpec, given: Sequence[KubeObject]) -> tuple[made.Made, Key | None]:
    """What the manifests use and do not give: Nodes if asked for, ingress controllers, CoreDNS, a client pod.

    Returns:
        The objects, and the pod that calls where nobody says who does (None: somebody does).
    """
    extra, client_pod = made.Made(), None
    if spec.nodes and not any(obj.kind == "Node" for obj in given):
        extra += made.nodes(spec.nodes)
    extra += made.ingress_controllers(given)
    extra += made.coredns(given)
    if not spec.clients and not spec.url and any(isinstance(obj, Service) for obj in given):
        client_pod = Key("Pod", spec.namespace, "client")
        if not any(obj.key == client_pod for obj in given):  # a dump of a lab has it already
            extra += made.client_pod(spec.namespace)
    return extra, client_pod
