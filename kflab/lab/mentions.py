"""Addresses that a container's manifest names: host:port and URLs in its environment, command, args and ConfigMaps.

What the kubelet makes of a container's environment (k/k pkg/kubelet/kubelet_pods.go, makeEnvironmentVariables): the
ConfigMaps of `envFrom` first, then `env` in order, of which each value may use what stands before it; `command` and
`args` may use all of them (third_party/forked/golang/expansion: `$(NAME)`, `$$` for a dollar sign). Secrets are not
read, and names are taken as written: no program is run.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

SCHEME_PORTS = {
    "http": 80, "https": 443, "ws": 80, "wss": 443, "redis": 6379, "rediss": 6379, "mongodb": 27017, "mysql": 3306,
    "postgres": 5432, "postgresql": 5432, "amqp": 5672, "amqps": 5671, "nats": 4222,
}  # fmt: skip
"""Ports that a URL need not name: IANA's service names registry, and what drivers of MongoDB and NATS take."""

_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?\.?)"
_URL = re.compile(
    rf"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?:[^\s/@\"']*@)?(?P<hosts>{_HOST}(?::\d+)?(?:,{_HOST}(?::\d+)?)*)"
)
_BARE = re.compile(rf"(?<![\w.:/%$-])(?P<host>{_HOST}):(?P<port>\d{{1,5}})(?![\w:-]|\.\w)")
_REFERENCE = re.compile(r"\$(?:\$|\(([^()]*)\))")

ConfigMaps = Callable[[str], Mapping[str, str]]
"""Name of a ConfigMap in the pod's namespace → its data; empty for one that is not there."""

Tree = Mapping[str, Any]


class Mention(NamedTuple):
    """An address that a container names."""

    host: str
    port: int
    where: str
    """"env CART_ADDR", "args", "command" or "ConfigMap urls, key cart"."""


def addresses(text: str) -> Iterator[tuple[str, int]]:
    """Find (host, port) in a text, in order; a URL without a port has its scheme's, if that has one."""
    found: list[tuple[int, str, int]] = []
    urls = [(url.start(), url.end()) for url in _URL.finditer(text)]
    for url in _URL.finditer(text):
        usual = SCHEME_PORTS.get(url["scheme"].lower().rpartition("+")[2], 0)
        for place, one in enumerate(url["hosts"].split(",")):
            host, colon, number = one.rpartition(":") if not one.endswith("]") else (one, "", "")
            host, port = (host, int(number)) if colon else (one, usual)
            found.append((url.start() + place, host, port))
    for bare in _BARE.finditer(text):
        if not any(start <= bare.start() < end for start, end in urls):
            found.append((bare.start(), bare["host"], int(bare["port"])))
    for _, host, port in sorted(found):
        if 0 < port < 65536:
            yield host.strip("[]").lower(), port


def expand(text: str, known: Mapping[str, str]) -> str:
    """Put variables in for `$(NAME)`; unknown ones stay as they are."""
    return _REFERENCE.sub(lambda found: "$" if found[1] is None else known.get(found[1], found[0]), text)


def mentions(pod_spec: Tree, config_maps: ConfigMaps) -> Iterator[Mention]:
    """List the addresses that the containers of a pod template name, in the order of their manifest.

    Args:
        pod_spec: A PodSpec as plain data, already validated.
        config_maps: Data of the ConfigMaps of its namespace.
    """
    mounted = {volume.get("name"): volume for volume in pod_spec.get("volumes") or ()}
    for container in pod_spec.get("containers") or ():
        known: dict[str, str] = {}
        for text, where in _texts(container, mounted, config_maps, known):
            for host, port in addresses(text):
                yield Mention(host, port, where)


def _texts(
    container: Tree, volumes: Mapping[Any, Tree], config_maps: ConfigMaps, known: dict[str, str]
) -> Iterator[tuple[str, str]]:
    for source in container.get("envFrom") or ():
        name = (source.get("configMapRef") or {}).get("name") or ""
        for key, value in config_maps(name).items() if name else ():
            known[f"{source.get('prefix') or ''}{key}"] = value
            yield value, f"ConfigMap {name}, key {key}"
    for variable in container.get("env") or ():
        name, reference = variable.get("name") or "", (variable.get("valueFrom") or {}).get("configMapKeyRef") or {}
        if reference:
            data = config_maps(str(reference.get("name") or ""))
            value, where = (
                data.get(str(reference.get("key")), ""),
                f"ConfigMap {reference.get('name')}, key {reference.get('key')}",
            )
        else:
            value, where = expand(str(variable.get("value") or ""), known), f"env {name}"
        known[name] = value
        yield value, where
    for part in ("command", "args"):
        for word in container.get(part) or ():
            yield expand(str(word), known), part
    for mount in container.get("volumeMounts") or ():
        for name in _mounted(volumes.get(mount.get("name")) or {}):
            for key, value in config_maps(name).items():
                yield value, f"ConfigMap {name}, key {key}"


def _mounted(volume: Tree) -> Iterator[str]:
    """Names of the ConfigMaps of a volume."""
    sources = [volume, *((volume.get("projected") or {}).get("sources") or ())]
    for source in sources:
        # A ConfigMap volume names it `name`; "" for any other kind.
        name = (source.get("configMap") or {}).get("name") or ""
        if name:
            yield str(name)
