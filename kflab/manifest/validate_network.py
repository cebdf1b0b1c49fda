"""What the API server would say about Services, EndpointSlices and Ingresses, and what kube-proxy reads leniently.

Source: k8s.io/kubernetes pkg/apis/core/validation/validation.go (ValidateService), pkg/apis/discovery/validation,
pkg/apis/networking/validation/validation.go (validateIngress…), pkg/registry/core/service/portallocator.
"""

import ipaddress
from typing import Any

from kflab.manifest.addresses import sloppy_cidr, sloppy_ip
from kflab.manifest.findings import Path, Report, quoted
from kflab.manifest.schema import API_VERSIONS
from kflab.manifest.typed_common import PROTOCOLS, Tree, protocol_of
from kflab.manifest.typed_network import ASSUMED_BACKEND_PORT, FAMILY_POLICIES, PATH_TYPES, SERVICE_TYPES
from kflab.manifest.values import (
    NODE_PORTS,
    PORT_RANGE,
    duplicate,
    host_problem,
    invalid,
    label_problem,
    label_value_problem,
    port_name_problem,
    subdomain_problem,
    unsupported,
)

_NOT_AN_IP = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
_LEFT_OUT = "this entry is left out"
_LENIENT = "kube-proxy reads it leniently, as"
_MAX_AFFINITY_S = 86400
_BACKEND_PORT = (
    "cannot unmarshal {} into Go struct field IngressServiceBackend.spec.rules.http.paths.backend.service.port of type "
    "v1.ServiceBackendPort"
)


def check_service(tree: Tree, report: Report) -> None:
    """v1 Service."""
    spec = tree.get("spec") or {}
    path: Path = ("spec",)
    kind = spec.get("type") or "ClusterIP"
    if kind not in SERVICE_TYPES:
        report.refused((*path, "type"), unsupported(kind, SERVICE_TYPES), "type ClusterIP")
        kind = "ClusterIP"
    headless = "None" in (spec.get("clusterIP"), *(spec.get("clusterIPs") or ()))
    ports = spec.get("ports") or []
    if not ports and not headless and kind != "ExternalName":
        report.refused((*path, "ports"), "Required value", "a Service that no packet matches")
    _check_service_ports(ports, kind, report)
    if kind == "ExternalName":
        name = spec.get("externalName")
        if not name:
            report.refused((*path, "externalName"), "Required value", "a name that nobody answers")
        elif problem := subdomain_problem(name.rstrip(".").lower()):
            report.refused((*path, "externalName"), invalid(name, problem), "the name is kept")
        if spec.get("clusterIP") or spec.get("clusterIPs"):
            words = "Forbidden: may not be set when `type` is 'ExternalName'"
            report.refused((*path, "clusterIPs"), words, "it is ignored")
    _check_service_addresses(spec, report)
    _check_choices(spec, kind, report)
    for name, value in (spec.get("selector") or {}).items():
        if value and (problem := label_value_problem(value)):
            report.refused((*path, "selector", name), invalid(value, problem), "the selector is kept as written")


def _check_service_ports(ports: list[Any], kind: str, report: Report) -> None:
    seen: set[tuple[Any, str]] = set()
    names: set[str] = set()
    for position, port in enumerate(ports):
        path: Path = ("spec", "ports", position)
        number = port.get("port")
        protocol = port.get("protocol") or "TCP"
        if number is None:
            report.refused((*path, "port"), "Required value", _LEFT_OUT)
        elif not 1 <= number <= 65535:
            report.error((*path, "port"), invalid(number, PORT_RANGE))
        elif (number, protocol) in seen:
            words = f'Duplicate value: {{"protocol":"{protocol}","port":{number}}}'
            report.refused(path, words, "the first one counts")
        seen.add((number, protocol))
        if protocol not in PROTOCOLS:
            report.refused((*path, "protocol"), unsupported(protocol, PROTOCOLS), f"protocol {protocol_of(port)}")
        name = port.get("name")
        if not name and len(ports) > 1:
            report.refused((*path, "name"), "Required value", "the port has no name")
        elif name and (problem := label_problem(name)):
            report.refused((*path, "name"), invalid(name, problem), "the name is kept")
        elif name and name in names:
            report.refused((*path, "name"), duplicate(name), "both ports are kept")
        names.add(name or "")
        target = port.get("targetPort")
        if isinstance(target, int) and not 0 <= target <= 65535:
            report.error((*path, "targetPort"), invalid(target, PORT_RANGE))
        elif isinstance(target, str) and target and (problem := port_name_problem(target)):
            report.refused((*path, "targetPort"), invalid(target, problem), "a name that no container port has")
        _check_node_port(port.get("nodePort"), kind, (*path, "nodePort"), report)


def _check_node_port(number: Any, kind: str, path: Path, report: Report) -> None:
    if not number:
        return
    if not 1 <= number <= 65535:
        report.error(path, invalid(number, PORT_RANGE))
    elif kind in ("ClusterIP", "ExternalName"):
        report.refused(path, f"Forbidden: may not be used when `type` is '{kind}'", "it is ignored")
    elif number not in NODE_PORTS:
        words = "provided port is not in the valid range. The range of valid ports is 30000-32767"
        report.warn(path, invalid(number, words))


def _check_service_addresses(spec: Tree, report: Report) -> None:
    single = spec.get("clusterIP")
    if single and single != "None":
        _check_ip(single, ("spec", "clusterIP"), report, "an address is allocated")
    several = spec.get("clusterIPs") or ()
    if single is not None and several and several[0] != single:
        words = invalid(several[0], "first value must match `clusterIP`")
        report.refused(("spec", "clusterIPs"), words, "clusterIPs counts")
    for position, address in enumerate(several):
        if address and address != "None":
            _check_ip(address, ("spec", "clusterIPs", position), report, "an address is allocated")
    for position, address in enumerate(spec.get("externalIPs") or ()):
        _check_ip(address, ("spec", "externalIPs", position), report, "kube-proxy makes no rule for it")
    for position, text in enumerate(spec.get("loadBalancerSourceRanges") or ()):
        path: Path = ("spec", "loadBalancerSourceRanges", position)
        usual = sloppy_cidr(text)
        if usual is None:
            words = invalid(text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")
            report.refused(path, words, "kube-proxy makes no rule for it")
        elif text != text.strip() or not _strict_network(text):
            report.warn(path, f"{quoted(text)}: {_LENIENT} {usual}")


def _check_ip(text: str, path: Path, report: Report, assumption: str) -> None:
    usual = sloppy_ip(text)
    if usual is None:
        report.refused(path, invalid(text, _NOT_AN_IP), assumption)
    elif not _strict_address(text):
        report.warn(path, f"{quoted(text)}: {_LENIENT} {usual}")


def _strict_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _strict_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        return False
    return True


def _check_choices(spec: Tree, kind: str, report: Report) -> None:
    external = spec.get("externalTrafficPolicy")
    if external and external not in ("Cluster", "Local"):
        words = unsupported(external, ("Cluster", "Local"))
        report.refused(("spec", "externalTrafficPolicy"), words, "Cluster")
    elif external and kind not in ("LoadBalancer", "NodePort") and not spec.get("externalIPs"):
        words = invalid(external, "may only be set for externally-accessible services")
        report.refused(("spec", "externalTrafficPolicy"), words, "it is kept and changes nothing")
    internal = spec.get("internalTrafficPolicy")
    if internal and internal not in ("Cluster", "Local"):
        words = unsupported(internal, ("Cluster", "Local"))
        report.refused(("spec", "internalTrafficPolicy"), words, "Cluster")
    affinity = spec.get("sessionAffinity")
    if affinity and affinity not in ("ClientIP", "None"):
        report.refused(("spec", "sessionAffinity"), unsupported(affinity, ("ClientIP", "None")), "None")
    timeout = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds")
    if timeout is not None and not 0 < timeout <= _MAX_AFFINITY_S:
        path: Path = ("spec", "sessionAffinityConfig", "clientIP", "timeoutSeconds")
        words = invalid(timeout, f"must be greater than 0 and less than {_MAX_AFFINITY_S}")
        report.refused(path, words, "10800" if timeout <= 0 else "it is kept as written")
    health = spec.get("healthCheckNodePort")
    if health and not (kind == "LoadBalancer" and external == "Local"):
        words = invalid(health, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'")
        report.refused(("spec", "healthCheckNodePort"), words, "it is ignored")
    elif health and not 1 <= health <= 65535:
        report.error(("spec", "healthCheckNodePort"), invalid(health, PORT_RANGE))
    if spec.get("loadBalancerClass") and kind != "LoadBalancer":
        words = "Forbidden: may only be used when `type` is 'LoadBalancer'"
        report.refused(("spec", "loadBalancerClass"), words, "it is ignored")
    policy = spec.get("ipFamilyPolicy")
    if policy and policy not in FAMILY_POLICIES:
        report.refused(("spec", "ipFamilyPolicy"), unsupported(policy, FAMILY_POLICIES), "SingleStack")
    for position, name in enumerate(spec.get("ipFamilies") or ()):
        if name not in ("IPv4", "IPv6"):
            words = unsupported(name, ("IPv4", "IPv6"))
            report.refused(("spec", "ipFamilies", position), words, _LEFT_OUT)


def check_endpoint_slice(tree: Tree, report: Report) -> None:
    """discovery.k8s.io/v1 EndpointSlice."""
    kind = tree.get("addressType")
    if not kind:
        report.refused(("addressType",), "Required value", "the family of the first address")
    elif kind not in ("IPv4", "IPv6", "FQDN"):
        words = unsupported(kind, ("FQDN", "IPv4", "IPv6"))
        report.refused(("addressType",), words, "it is kept and no rule comes of it")
    for position, endpoint in enumerate(tree.get("endpoints") or ()):
        path: Path = ("endpoints", position, "addresses")
        addresses = endpoint.get("addresses") or ()
        if not addresses:
            report.refused(path, "Required value: must contain at least 1 address", "this endpoint is left out")
        for at, address in enumerate(addresses):
            if kind != "FQDN":
                _check_ip(address, (*path, at), report, "kube-proxy makes no rule for it")
    for position, port in enumerate(tree.get("ports") or ()):
        number = port.get("port")
        if number is not None and not 1 <= number <= 65535:
            report.error(("ports", position, "port"), invalid(number, PORT_RANGE))


def check_endpoints(tree: Tree, report: Report) -> None:
    """v1 Endpoints. Source: pkg/apis/core/validation, ValidateEndpoints."""
    for at, subset in enumerate(tree.get("subsets") or ()):
        path: Path = ("subsets", at)
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            report.refused(path, "Required value: must specify `addresses` or `notReadyAddresses`", "it is left out")
        for name in ("addresses", "notReadyAddresses"):
            for position, address in enumerate(subset.get(name) or ()):
                _check_ip(address.get("ip") or "", (*path, name, position, "ip"), report, "the address is left out")
        for position, port in enumerate(subset.get("ports") or ()):
            number = port.get("port")
            if number is None:
                report.refused((*path, "ports", position, "port"), "Required value", "any port")
            elif not 1 <= number <= 65535:
                report.error((*path, "ports", position, "port"), invalid(number, PORT_RANGE))


def check_ingress_class(tree: Tree, report: Report) -> None:
    """networking.k8s.io/v1 IngressClass."""
    if not (tree.get("spec") or {}).get("controller"):
        report.refused(("spec", "controller"), "Required value", "a class that nobody serves")


def check_ingress(tree: Tree, report: Report) -> None:
    """networking.k8s.io/v1 Ingress."""
    spec = tree.get("spec") or {}
    old = tree.get("apiVersion") not in (None, API_VERSIONS["Ingress"])
    default = spec.get("defaultBackend") or (spec.get("backend") if old else None)
    if not spec.get("rules") and not default:
        words = "Invalid value: []: either `defaultBackend` or `rules` must be specified"
        report.refused(("spec",), words, "an Ingress without routes")
    if default and not old:
        _check_backend(default, ("spec", "defaultBackend"), report)
    for position, rule in enumerate(spec.get("rules") or ()):
        path: Path = ("spec", "rules", position)
        host = rule.get("host")
        if host and sloppy_ip(host):
            words = invalid(host, "must be a DNS name, not an IP address")
            report.refused((*path, "host"), words, "the host is compared as written")
        elif host and (problem := host_problem(host)):
            report.refused((*path, "host"), invalid(host, problem), "the host is compared as written")
        http = rule.get("http")
        if http is not None and not http.get("paths"):
            report.refused((*path, "http", "paths"), "Required value", "a rule without routes")
        for at, entry in enumerate((http or {}).get("paths") or ()):
            _check_path(entry, (*path, "http", "paths", at), report, old)


def _check_path(tree: Tree, path: Path, report: Report, old: bool) -> None:
    path_type = tree.get("pathType")
    if not path_type and not old:
        words = "Required value: pathType must be specified"
        report.refused((*path, "pathType"), words, "pathType ImplementationSpecific")
    elif path_type and path_type not in PATH_TYPES:
        words = unsupported(path_type, PATH_TYPES)
        report.refused((*path, "pathType"), words, "pathType ImplementationSpecific")
    text = tree.get("path")
    if (text and not text.startswith("/")) or (not text and path_type in ("Exact", "Prefix")):
        words = invalid(text or "", "must be an absolute path")
        report.refused((*path, "path"), words, f"path /{text or ''}")
    backend = tree.get("backend")
    if old and backend and backend.get("serviceName"):
        return
    _check_backend(backend or {}, (*path, "backend"), report)


def _check_backend(tree: Tree, path: Path, report: Report) -> None:
    service, resource = tree.get("service"), tree.get("resource")
    if not service:
        if not resource:
            words = "Required value: resource or service backend is required"
            report.refused(path, words, "a route that answers 503")
        return
    if resource:
        report.refused(path, "Invalid value: cannot set both resource and service backends", "the service counts")
    path = (*path, "service")
    if not service.get("name"):
        report.refused((*path, "name"), "Required value", "a route that answers 503")
    port = service.get("port")
    where: Path = (*path, "port")
    if isinstance(port, int | float) and not isinstance(port, bool):
        if not 1 <= port <= 65535:
            report.error(where, invalid(port, PORT_RANGE))
        else:
            words = f"{_BACKEND_PORT.format('number')}; write port: {{number: {port}}}"
            report.refused(where, words, f"port {{number: {port}}}")
    elif isinstance(port, str):
        words = f"{_BACKEND_PORT.format('string')}; write port: {{name: {port}}}"
        report.refused(where, words, f"port {{name: {port}}}")
    elif isinstance(port, bool):
        report.error(where, "must be a mapping with `number` or `name`, got a boolean")
    else:
        _check_backend_port(port or {}, where, report)


def _check_backend_port(port: Tree, path: Path, report: Report) -> None:
    number, name = port.get("number"), port.get("name")
    if not number and not name:
        words = "Required value: port name or number is required"
        report.refused(path, words, f"port {{number: {ASSUMED_BACKEND_PORT}}}")
    elif number and name:
        report.refused(path, "Invalid value: cannot set both port name & port number", "the number counts")
    if number and not 1 <= number <= 65535:
        report.error((*path, "number"), invalid(number, PORT_RANGE))
