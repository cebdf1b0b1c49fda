"""How long a single request takes that is walked and not queued (`curl`), and what its client knows at its end.

Its patience is that of the lab's clients: `Timing.connect_timeout_ns` for a connection, `Timing.read_timeout_ns` for an
answer. curl's own, where nobody gives it any, are 300 s and none (curl(1), --connect-timeout and --max-time), and
Linux gives a SYN up after 127 to 131 s.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from kflab.dataplane.packets import Hop, RequestTrace
from kflab.dataplane.request_record import UNREACHABLE
from kflab.dataplane.world import HANGS

if TYPE_CHECKING:
    from kflab.lab.running import Lab

_QUEUES: Final = "queues: a single request is walked, not queued"
_CALLS: Final = "calls: what the answering pod would call for it"


def accepted(lab: "Lab", hop: Hop) -> bool:
    """Whether a try that timed out had its connection: the process behind it stands still."""
    to, world = hop.before, lab.world
    if hop.outcome != "timeout" or to is None or world.outage_of(world.node_of(to.dst), hop.t_ns):
        return False
    return world.behaviour_at(to.dst, to.dport, hop.t_ns) == HANGS


def timed(lab: "Lab", trace: RequestTrace) -> RequestTrace:
    """Give a walked request the times that the data path's constants imply."""
    timing = lab.engine.timing
    own = (timing.connect_timeout_ns, timing.read_timeout_ns)
    connect_ns, read_ns = (
        usual if given is None else given * 1_000_000_000 for given, usual in zip(trace.proxy_waits_s, own, strict=True)
    )
    refused = timeout = 0
    for hop in trace.hops:
        if hop.outcome == "refused":
            refused += 2 * timing.cross_node_ns
        elif hop.outcome == UNREACHABLE:
            timeout += hop.t_ns - trace.t_start_ns  # of each try, as if it began with the request
        elif hop.outcome in ("timeout", "dropped"):
            timeout += read_ns if accepted(lab, hop) else connect_ns
    answered = trace.status.isdigit() and trace.status != "503"
    service = timing.service_p50_ns if answered and trace.status == "200" else 0
    network = 2 * timing.cross_node_ns + timing.nginx_ns
    parts = (("refused", refused), ("timeout", timeout), ("queue", 0), ("service", service), ("network", network))
    said = [_QUEUES]
    if timeout:
        waits = (connect_ns / 1e9, read_ns / 1e9)
        said.append("curl's own patience: it waits {:g} s for a connection and {:g} s for an answer".format(*waits))
    if lab.calls.edges:
        said.append(_CALLS)
    latency = sum(ns for _, ns in parts)
    return replace(trace, latency_ns=latency, parts=parts, not_modelled=(*trace.not_modelled, *said))
