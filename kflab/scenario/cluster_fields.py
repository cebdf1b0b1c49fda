"""What a scenario's `cluster` says where that is more than a number or a word: kernel, conntrack, pins, calls."""

import re
from collections.abc import Mapping
from typing import Any

from kflab.control.delays import Delays
from kflab.dataplane.addresses import canonical
from kflab.errors import KflabError, Place, did_you_mean
from kflab.lab.preparing import BOUNDS, TIMINGS
from kflab.lab.spec import PinSpec
from kflab.scenario.acting import LONGEST_NS
from kflab.scenario.calls_file import MODES, calls_of, calls_of_text
from kflab.scenario.fields import Field, mapping, whole

MOST_NODES = 20_000
MOST_RPS = 10**8
"""Bounds of what a scenario or an option may ask for."""

NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""A namespace's name: a DNS label, RFC 1123."""

_PINS = ("podIPs", "loadBalancerIPs", "publicNames")


def delays_of(field: Field | None) -> dict[str, object]:
    """Delays of the control plane by name, each as `Delays.with_overrides` takes it.

    Raises:
        KflabError: With the place of the delay that there is not, or whose value makes no sense.
    """
    if field is None:
        return {}
    given = mapping(field.value, "delays", field.place)
    for name, value in given.items():
        try:
            Delays().with_overrides({name: value})
        except KflabError as error:
            raise KflabError(error.message, field.place_in((name,))) from None
    return dict(given)


def timing_of(fields: Mapping[str, Field]) -> dict[str, int]:
    """Delays of the data path by name, in ns; `fields` are those of the whole scenario, `timing.NAME` among them.

    Raises:
        KflabError: With the place of the delay that there is not, or that is no whole number.
    """
    found = {}
    for path, field in fields.items():
        room, _, name = path.partition(".")
        if room != "timing":
            continue
        if name not in TIMINGS:
            near = did_you_mean(name, TIMINGS)
            raise KflabError(f"unknown timing {name!r}{near}; expected one of {', '.join(TIMINGS)}", field.place)
        least, most = BOUNDS.get(name, (0, LONGEST_NS))
        found[name] = whole(field.value, path, field.place, least, min(most, LONGEST_NS))
    return found


def conntrack_of(value: Any, place: Place) -> dict[str, Any]:
    """Sysctls of every node: `max` is nf_conntrack_max, `buckets` nf_conntrack_buckets."""
    given = mapping(value, "conntrack", place)
    for key in given:
        if key not in ("max", "buckets"):
            raise KflabError(f"unknown field {key!r} of conntrack; expected max, buckets", place)
    return {f"conntrack_{key}": whole(n, f"conntrack.{key}", place, 1, MOST_RPS) for key, n in given.items()}


def kernel_of(value: Any, place: Place) -> tuple[int, int]:
    """Every node's Linux release, as ("6.1") major and minor."""
    match = re.fullmatch(r"(\d{1,3})\.(\d{1,3})", value) if isinstance(value, str) else None
    if match is None:
        raise KflabError(f"kernel {value!r}: expected a Linux release in quotes, such as '6.1'", place)
    return int(match[1]), int(match[2])


def namespace_of(value: Any, place: Place) -> str:
    """Where objects go that name no namespace."""
    if not NAMESPACE.fullmatch(str(value)):
        raise KflabError(f"namespace {value!r}: expected lower case letters, digits and '-', at most 63", place)
    return str(value)


def calls_of_field(field: Field | None) -> dict[str, Any]:
    """Who calls whom: none, guess, a file, or the calls themselves."""
    if field is None or field.value in MODES:
        return {} if field is None else {"calls": field.value}
    if isinstance(field.value, str):
        found = field.origin.relative(field.value, field.place)
        return {"calls": "given", "given_calls": calls_of_text(found.text, found.name)}
    if not isinstance(field.value, dict):
        raise KflabError(f"calls must be none, guess, a file or a mapping, not {field.value!r}", field.place)
    return {"calls": "given", "given_calls": calls_of(field.value, field.place_in)}


def pins_of(value: Any, place: Place) -> PinSpec:
    """Addresses and names that are given instead of handed out."""
    pins = mapping(value, "pins", place)
    unknown = sorted(str(key) for key in set(pins) - set(_PINS))
    if unknown:
        raise KflabError(f"unknown pin {unknown[0]!r}; expected {', '.join(_PINS)}", place)
    parts = {key: mapping(pins.get(key, {}), key, place) for key in _PINS}
    pod_ips: dict[str, tuple[str, ...]] = {}
    for owner, ips in parts["podIPs"].items():
        if not isinstance(ips, list) or not all(canonical(str(ip)) for ip in ips):
            raise KflabError(f"podIPs of {owner}: expected a list of IP addresses, not {ips!r}", place)
        pod_ips[str(owner)] = tuple(str(ip) for ip in ips)
    for service, ip in parts["loadBalancerIPs"].items():
        if not canonical(str(ip)):
            raise KflabError(f"loadBalancerIPs of {service}: {ip!r} is not an IP address", place)
    return PinSpec(
        pod_ips=pod_ips,
        load_balancer_ips={str(k): str(v) for k, v in parts["loadBalancerIPs"].items()},
        public_names={str(k): str(v) for k, v in parts["publicNames"].items()},
    )
