"""CoreDNS' configuration, the Corefile, as far as the lab goes by it.

Read are: the port and zones of server blocks; `health` with its lameduck, `ready` and `prometheus` with their ports;
of `kubernetes` the cluster's domain, pods, ttl; `autopath`, `forward` and `cache`. Other plugins are noted. Source:
coredns core/dnsserver (server blocks), plugin/health, plugin/ready, plugin/metrics, plugin/kubernetes, plugin/autopath,
plugin/forward, plugin/cache; the defaults of a cluster without one: k/k cmd/kubeadm/app/phases/addons/dns/manifests.go.

Simplified: snippets, `import` and environment variables are not followed; the Corefile is what it is when a pod starts.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from functools import lru_cache
from typing import Final

from kflab.errors import KflabError
from kflab.manifest.objects import Key, KubeObject
from kflab.manifest.objects_config import ConfigMap
from kflab.manifest.objects_pods import Container
from kflab.records import dataclass

CONFIG_MAP: Final = Key("ConfigMap", "kube-system", "coredns")
"""Where kubeadm, kops, EKS and AKS keep it, under the key Corefile."""

COREFILE: Final = "Corefile"

KUBEADM: Final = """.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30 {
       disable success cluster.local
       disable denial cluster.local
    }
    loop
    reload
    loadbalance
}
"""

DNS_PORT = 53
LONGEST_TTL_S = 3600

_PORTS: Mapping[str, int] = {"health": 8080, "ready": 8181, "prometheus": 9153}
"""Plugins that listen → where, if they do not say."""

_QUIET = frozenset(
    {"errors", "log", "loop", "reload", "loadbalance", "bufsize", "minimal", "debug", "nsid", "any", "bind"}
)
"""Plugins that change nothing that the lab has."""

_KNOWN = frozenset({*_PORTS, "kubernetes", "autopath", "forward", "cache"})

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h))+\Z")
_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}


@dataclass(frozen=True, slots=True)
class Corefile:
    """What CoreDNS does, of what the lab models."""

    zones: tuple[tuple[str, int], ...] = ((".", DNS_PORT),)
    """(zone, port) of server blocks."""
    lameduck_ms: int = 0
    """How long it goes on after SIGTERM; of several blocks the sum (each one's shutdown waits)."""
    ports: Mapping[str, int] = field(default_factory=dict)
    """Of health, ready and prometheus those that are there → their port."""
    domain: str = ""
    """The zone of the kubernetes plugin that is no reverse one; "": it has none, and no Service has a name."""
    pods: str = "disabled"
    """disabled, insecure or verified: which names like 10-0-0-1.default.pod.cluster.local exist."""
    ttl_s: int = 5
    autopath: bool = False
    """It walks the search list for the pods that ask (autopath @kubernetes, with pods verified)."""
    forwards: bool = False
    """What it does not know it asks elsewhere."""
    caches_s: int = 0
    """How long it may answer names of the cluster from its cache; 0: always from what it knows."""
    left_out: tuple[str, ...] = ()
    """Plugins that the lab does not look at, though they may change answers."""

    def listens(self, port: int) -> bool:
        """Whether a port that CoreDNS usually has is open; other ports are nobody's business here."""
        if port == DNS_PORT:
            return any(number == port for _, number in self.zones)
        usual = next((plugin for plugin, number in _PORTS.items() if number == port), "")
        return not usual or port in self.ports.values()


def is_coredns(container: Container) -> bool:
    """Whether a container runs CoreDNS, by its image."""
    return "coredns" in container.image.rpartition("/")[2].partition(":")[0]


def is_node_cache(container: Container) -> bool:
    """Whether a container is NodeLocal DNSCache's, by its image (cluster/addons/dns/nodelocaldns)."""
    return "k8s-dns-node-cache" in container.image.rpartition("/")[2]


def corefile_of(config_map: KubeObject | None) -> Corefile:
    """What CoreDNS does by its ConfigMap; kubeadm's where there is none, or none that CoreDNS would start with."""
    text = config_map.data.get(COREFILE) if isinstance(config_map, ConfigMap) else None
    try:
        return read_corefile(KUBEADM if text is None else text)
    except KflabError:
        return read_corefile(KUBEADM)


def problem_of(config_map: ConfigMap) -> str:
    """Why CoreDNS would not start with a ConfigMap; "": it would, or it is not CoreDNS'."""
    if config_map.key != CONFIG_MAP or COREFILE not in config_map.data:
        return ""
    try:
        read_corefile(config_map.data[COREFILE])
    except KflabError as error:
        return str(error)
    return ""


@lru_cache(maxsize=64)
def read_corefile(text: str) -> Corefile:
    """Read a Corefile.

    Raises:
        KflabError: When CoreDNS would not start: "Corefile:3: what is wrong, what was expected".
    """
    zones: list[tuple[str, int]] = []
    found = Corefile(zones=())
    for keys, directives in _blocks(text):
        here = [_zone(key, line) for key, line in keys]
        zones += here
        found = _with_block(found, [zone for zone, _ in here], directives)
    return _replaced(found, zones=tuple(zones))


# --- syntax -----------------------------------------------------------------------------------------------------------

Word = tuple[str, int]
"""A token and its line."""


@dataclass(frozen=True, slots=True)
class Directive:
    """A plugin in a server block, with what stands behind it and in its braces."""

    name: str
    line: int
    args: tuple[str, ...]
    inner: tuple[tuple[str, ...], ...] = ()


def _lines(text: str) -> Iterator[list[Word]]:
    for number, line in enumerate(text.splitlines(), 1):
        words = re.findall(r'"(?:[^"\\]|\\.)*"|[^\s"]+', re.sub(r"(?:^|\s)#.*", "", line))
        if words:
            yield [(word.strip('"'), number) for word in words]


def _blocks(text: str) -> Iterator[tuple[list[Word], list[Directive]]]:
    """Server blocks: their keys and their directives."""
    keys: list[Word] = []
    directives: list[Directive] = []
    inner: list[tuple[str, ...]] | None = None
    opened: Word | None = None
    depth = 0
    for line in _lines(text):
        words, number = [word for word, _ in line], line[0][1]
        opens = words[-1] == "{"
        body = words[:-1] if opens else words
        if words[0] == "}":
            if not depth:
                raise KflabError(f"{COREFILE}:{number}: '}}' without a block; expected a zone and '{{'")
            depth -= 1
            if depth == 1 and inner is not None and opened is not None:
                last = directives.pop()
                directives.append(Directive(last.name, last.line, last.args, tuple(inner)))
                inner = None
            elif not depth:
                yield keys, directives
                keys, directives = [], []
            continue
        if depth == 0:
            keys += [(word.strip(","), number) for word in body if word.strip(",")]
            if opens:
                if not keys:
                    raise KflabError(f"{COREFILE}:{number}: a server block without a zone; expected one, such as .:53")
                depth, opened = 1, (keys[0][0], number)
        elif depth == 1:
            directives.append(Directive(body[0] if body else "", number, tuple(body[1:])))
            if opens:
                depth, inner, opened = 2, [], (body[0] if body else "", number)
        else:
            if inner is not None and depth == 2:
                inner.append(tuple(body))
            depth += opens
    if depth and opened is not None:
        raise KflabError(f"{COREFILE}:{opened[1]}: the block of {opened[0]} does not end; expected '}}'")
    if keys:
        raise KflabError(f"{COREFILE}:{keys[0][1]}: {keys[0][0]!r} stands alone; expected '{{' after a zone")


def _zone(key: str, line: int) -> tuple[str, int]:
    """ "dns://cluster.local:5353" → ("cluster.local", 5353)."""
    rest = key.partition("://")[2] or key
    name, colon, number = rest.rpartition(":")
    if not colon:
        return rest.removesuffix(".") or ".", DNS_PORT
    if not number.isdigit() or not 1 <= int(number) <= 65535:
        raise KflabError(f"{COREFILE}:{line}: {key!r} has no port from 1 to 65535; expected one, such as .:53")
    return name.removesuffix(".") or ".", int(number)


# --- plugins ----------------------------------------------------------------------------------------------------------


def _replaced(found: Corefile, **changes: object) -> Corefile:
    values = {name: getattr(found, name) for name in Corefile.__slots__}
    return Corefile(**{**values, **changes})


def _with_block(found: Corefile, zones: Sequence[str], directives: Sequence[Directive]) -> Corefile:
    if zones and zones[0].startswith("(") and zones[0].endswith(")"):
        return found  # a snippet is no server block
    changes: dict[str, object] = {}
    names = {each.name for each in directives}
    kubernetes = next((each for each in directives if each.name == "kubernetes"), None)
    for each in directives:
        if each.name in _PORTS:
            ports = dict(changes.get("ports") or found.ports)  # type: ignore[call-overload]  # a mapping, as above
            ports[each.name] = _port_of(each)
            changes["ports"] = ports
        if each.name == "health":
            changes["lameduck_ms"] = found.lameduck_ms + _lameduck(each)
        elif each.name == "forward" and "." in zones and each.args[:1] == (".",):
            changes["forwards"] = True
    if kubernetes is not None:
        changes.update(_kubernetes(kubernetes, zones))
        by_pod = any(d.name == "autopath" and "@kubernetes" in d.args for d in directives)
        changes["autopath"] = by_pod and changes["pods"] == "verified"
        cache = next((each for each in directives if each.name == "cache"), None)
        changes["caches_s"] = 0 if cache is None else _cached(cache, str(changes["domain"]), int(str(changes["ttl_s"])))
    other = [name for name in names if name and name not in _QUIET and name not in _KNOWN]
    changes["left_out"] = tuple(sorted({*found.left_out, *other}))
    return _replaced(found, **changes)


def _port_of(directive: Directive) -> int:
    text = directive.args[0].rpartition(":")[2] if directive.args else ""
    return int(text) if text.isdigit() else _PORTS[directive.name]


def _lameduck(health: Directive) -> int:
    for words in health.inner:
        if words[:1] == ("lameduck",):
            text = words[1] if len(words) == 2 else ""
            if not _DURATION.match(text):
                raise KflabError(f"{COREFILE}:{health.line}: lameduck {text!r}; expected a duration such as 5s")
            parts = re.findall(r"([\d.]+)(ms|s|m|h)", text)
            return round(sum(float(number) * _UNITS_MS[unit] for number, unit in parts))
    return 0


def _kubernetes(directive: Directive, zones: Sequence[str]) -> dict[str, object]:
    named = [zone.removesuffix(".") for zone in (directive.args or tuple(zones))]
    domain = next((zone for zone in named if zone and not zone.endswith(".arpa")), "")
    pods, ttl = "disabled", 5
    for words in directive.inner:
        match words:
            case ("pods", ("disabled" | "insecure" | "verified") as mode):
                pods = mode
            case ("pods", *rest):
                wrong = " ".join(rest)
                expected = "expected disabled, insecure or verified"
                raise KflabError(f"{COREFILE}:{directive.line}: pods {wrong!r}; {expected}")
            case ("ttl", text) if text.isdigit() and int(text) <= LONGEST_TTL_S:
                ttl = int(text)
            case ("ttl", *rest):
                wrong = " ".join(rest)
                raise KflabError(
                    f"{COREFILE}:{directive.line}: ttl {wrong!r}; expected seconds from 0 to {LONGEST_TTL_S}"
                )
    return {"domain": domain, "pods": pods, "ttl_s": ttl}


def _cached(cache: Directive, domain: str, ttl_s: int) -> int:
    """How long an answer about the cluster may be an old one, s."""
    limit = next((int(word) for word in cache.args if word.isdigit()), LONGEST_TTL_S)
    disabled = {words[1] for words in cache.inner if words[:1] == ("disable",) and len(words) > 1
                and (len(words) == 2 or domain in words[2:])}  # fmt: skip
    return 0 if {"success", "denial"} <= disabled else min(limit, ttl_s)
