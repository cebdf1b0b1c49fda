"""Ingress vectors: requests against an ingress-nginx controller."""

import json
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from kflab.dataplane.nginx import IngressConfig, Route, config_of, route
from kflab.dataplane.nginx_choice import affinity_key
from kflab.proof.case import Case, Vector, objects_of
from kflab.records import dataclass

_COMPARED = ("status", "service", "redirect", "tls_secret", "rewritten_path")


def run_ingress(vector: Vector) -> Iterator[Case]:
    """Send the requests of an ingress vector, in order; later ones may name earlier ones."""
    config = config_of(objects_of(vector["manifests"], vector["id"]))
    answers: dict[str, _Answered] = {}
    for request in vector["requests"]:
        yield _request(vector["id"], config, request, answers)


@dataclass(frozen=True, slots=True)
class _Answered:
    """What an earlier request met."""

    pods: tuple[str, ...]
    cookie: str
    """name=value of the cookie it was given, "" without one."""


def _request(vector_id: str, config: IngressConfig, request: Vector, answers: dict[str, _Answered]) -> Case:
    expect = request["expect"]
    headers = dict(request.get("headers") or {})
    if request.get("cookies_from"):
        earlier = [headers.get("Cookie", ""), answers[request["cookies_from"]].cookie]
        headers["Cookie"] = "; ".join(filter(None, earlier))
    met = route(config, request["scheme"], request["host"], request["path"], headers=headers)
    pods = tuple(_peer(met, i) for i in range(int(request.get("repeat", 1)))) if met.upstreams else ()
    answers[request["name"]] = _Answered(pods, _cookie(met))
    wanted = {name: expect[name] for name in _COMPARED}
    wanted["service"] = _weights(wanted["service"])
    found = answer_of(met)
    accepted = [wanted, *({**wanted, **other} for other in expect.get("alternatives", ()))]
    if found in accepted:
        wanted = dict(found)
    if "endpoints_seen" in expect:
        wanted["endpoints_seen"] = sorted(expect["endpoints_seen"])
        found["endpoints_seen"] = sorted(set(pods))
    if "same_endpoint_as" in expect:
        wanted["endpoints"] = sorted(set(answers[expect["same_endpoint_as"]].pods))
        found["endpoints"] = sorted(set(pods))
    if "set_cookie" in expect:
        wanted["set_cookie"] = expect["set_cookie"]
        found["set_cookie"] = {"name": met.set_cookie[0], "path": met.set_cookie[1]} if met.set_cookie else None
    return Case(f"{vector_id}: {request['name']}", _text(wanted), _text(found))


def _cookie(met: Route) -> str:
    if met.set_cookie is None:
        return ""
    return f"{met.set_cookie[0]}={affinity_key(met.peer_index(0), len(met.upstreams))}"


def _peer(met: Route, position: int) -> str:
    return met.upstreams[met.peer_index(position)].text


def answer_of(found: Route) -> dict[str, Any]:
    """A route in the words of the vectors; a pod that gets the request answers 200."""
    service: object = None
    if found.kind == "proxy":
        service = f"{found.service.namespace}/{found.service.name}:{found.port}" if found.service else None
        if found.split:
            service = [_share(f"{key.namespace}/{key.name}:{port}", share) for key, port, share in found.split]
    return {
        "status": found.status or 200,
        "service": service,
        "redirect": found.location or None,
        "tls_secret": found.tls_secret or None,
        "rewritten_path": found.rewritten or None,
    }


def _share(service: str, share: Fraction) -> dict[str, str]:
    return {"service": service, "share": str(share)}


def _weights(service: object) -> object:
    """A weighted list as shares: 30 and 70 are the same as 3 and 7."""
    if not isinstance(service, list):
        return service
    total = sum(item["weight"] for item in service)
    return [_share(item["service"], Fraction(item["weight"], total)) for item in service]


def _text(answer: Mapping[str, Any]) -> str:
    return json.dumps(answer, sort_keys=True)
