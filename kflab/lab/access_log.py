"""Access logs, read out of the kept rows: an ingress's in NGINX's words, and an application's."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kflab.dataplane.packets import join_host_port
from kflab.engine.types import Answer
from kflab.kubectl.logs import AccessRecord, UpstreamTry
from kflab.lab.choosers import Chooser
from kflab.lab.records import Record, status_text
from kflab.manifest.objects import Key
from kflab.manifest.objects_network import Service

if TYPE_CHECKING:
    from kflab.lab.running import Lab

BODY_BYTES = 512
"""Length of every answer's body in access logs: a fixed modelling value, bodies are not modelled."""

REQUEST_BYTES = 256
"""Length of every request (line, headers, body) in access logs: a fixed modelling value, headers are not modelled."""


def logged_by(lab: "Lab", pod: Key) -> Sequence[AccessRecord]:
    """What a pod logged of the requests still kept, oldest first."""
    mine = {i for i, server in enumerate(lab.wiring.servers) if server[3] == pod}
    is_ingress = lab.controllers.is_pod(pod)
    lines = []
    for one in lab.sampler.recent():
        wired = lab.wiring.wired[one.stream]
        entry = wired.entry
        if is_ingress:
            if one.ingress not in mine:
                continue
            chooser = wired.upstreams.get(pod)
            service = chooser.service if chooser else None
            name = f"{service.namespace}-{service.name}-{chooser.service_port}" if service and chooser else ""
            tries = tuple(_upstream_try(lab, one, k, chooser) for k in range(len(one.servers)))
            lines.append(
                AccessRecord(one.finish_ns, entry.client, entry.method, entry.path, _logged(one.status),
                             one.finish_ns - one.start_ns, entry.host, upstream_name=name, tries=tries,
                             body_bytes=BODY_BYTES, request_length=REQUEST_BYTES)
            )  # fmt: skip
        elif one.ok and one.servers and one.servers[-1] in mine:
            caller = lab.reopener.client(wired, one)
            if one.ingress >= 0:
                caller = lab.wiring.servers[one.ingress][0]
            lines.append(
                AccessRecord(one.finish_ns, caller, entry.method, entry.path, status_text(one.status),
                             one.service_ns, entry.host, body_bytes=BODY_BYTES, request_length=REQUEST_BYTES)
            )  # fmt: skip
    return lines


def _upstream_try(lab: "Lab", one: Record, k: int, chooser: Chooser | None) -> UpstreamTry:
    silent = one.answers[k] in (Answer.TIMEOUT, Answer.TABLE_FULL, Answer.NO_PORT)
    status = status_text(one.status) if one.answers[k] == Answer.OK else "504" if silent else "502"
    address = lab.wiring.index.address(one.servers[k]) if one.servers[k] >= 0 else "-"
    if chooser is not None and not chooser.by_peer and chooser.service is not None:
        service = lab.store.get(chooser.service)
        if isinstance(service, Service):
            address = join_host_port(service.cluster_ip, chooser.service_port)
    return UpstreamTry(address, status, one.try_ends_ns[k] - one.try_starts_ns[k])


def _logged(status: int) -> str:
    """The status in NGINX's access log: 499 where its client gave up (ngx_http_request.h)."""
    return "499" if status == -Answer.GAVE_UP else status_text(status)
