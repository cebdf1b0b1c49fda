"""Ingress vectors: requests against an ingress-nginx controller."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from kflab.dataplane.nginx import IngressConfig, Route, config_of, route
from kflab.proof.vectors import Case, Vector, objects_of

_COMPARED = ("status", "service", "redirect", "tls_secret", "rewritten_path")


def run_ingress(vector: Vector) -> Iterator[Case]:
    """Send the requests of an ingress vector."""
    config = config_of(objects_of(vector["manifests"], vector["id"]))
    for request in vector["requests"]:
        yield _request(vector["id"], config, request)


def _request(vector_id: str, config: IngressConfig, request: Vector) -> Case:
    expect = request["expect"]
    found = answer_of(route(config, request["scheme"], request["host"], request["path"]))
    wanted = {name: expect[name] for name in _COMPARED}
    accepted = [wanted, *({**wanted, **other} for other in expect.get("alternatives", ()))]
    if found in accepted and "endpoints_seen" in expect:
        wanted = {"endpoints_seen": sorted(expect["endpoints_seen"])}
        found = {"endpoints_seen": _seen(config, request)}
    elif found in accepted:
        wanted = found
    return Case(f"{vector_id}: {request['name']}", _text(wanted), _text(found))


def answer_of(found: Route) -> dict[str, Any]:
    """A route in the words of the vectors; a pod that gets the request answers 200."""
    service = f"{found.service.namespace}/{found.service.name}:{found.port}" if found.service else None
    return {
        "status": found.status or 200,
        "service": service if found.kind == "proxy" else None,
        "redirect": found.location or None,
        "tls_secret": found.tls_secret or None,
        "rewritten_path": found.rewritten or None,
    }


def _seen(config: IngressConfig, request: Vector) -> list[str]:
    """Pods that serve when the request is repeated, round robin."""
    found = route(config, request["scheme"], request["host"], request["path"])
    repeats = range(int(request.get("repeat", 1)))
    return sorted({found.upstreams[i % len(found.upstreams)].text for i in repeats})


def _text(answer: Mapping[str, Any]) -> str:
    return json.dumps(answer, sort_keys=True)
