"""One object's findings: shape first, then what the API server would say about the values."""

from typing import Any

from kflab.errors import KflabError
from kflab.manifest.addresses import sloppy_cidr, sloppy_ip
from kflab.manifest.corefile import CONFIG_MAP, COREFILE, read_corefile
from kflab.manifest.findings import Path, Report, Severity, quoted
from kflab.manifest.kinds import CLUSTER_SCOPED
from kflab.manifest.schema import ALSO_SERVED, API_VERSIONS, modelled_kind
from kflab.manifest.shape import check_shape, described, quotes_hint
from kflab.manifest.typed import IPVS_SCHEDULERS, PROXY_MODES
from kflab.manifest.typed_common import Tree
from kflab.manifest.validate_autoscaler import check_autoscaler
from kflab.manifest.validate_batch import check_job
from kflab.manifest.validate_network import (
    check_endpoint_slice,
    check_endpoints,
    check_ingress,
    check_ingress_class,
    check_service,
)
from kflab.manifest.validate_pods import check_budget, check_pod, check_priority_class, check_workload
from kflab.manifest.values import invalid, label_1035_problem, label_problem, label_value_problem, subdomain_problem

INTERFACE_NAME_MAX = 15
"""IFNAMSIZ without its NUL (linux/if.h)."""


def validate(tree: Tree, report: Report) -> None:
    """Note everything that is wrong with one object by itself."""
    kind = str(tree["kind"])
    api_version = tree.get("apiVersion")
    if api_version is not None and not isinstance(api_version, str):
        report.error(("apiVersion",), "must be a string")
        return
    modelled = modelled_kind(kind, api_version or "")
    if modelled is None:
        _check_version(kind, api_version or "", report)
        _check_loose_metadata(tree, report)
        return
    old_version = bool(api_version) and api_version != API_VERSIONS[kind]
    check_shape(tree, kind, report, old_version)
    if report.failed:
        return
    _check_version(kind, api_version or "", report)
    if kind != "KubeProxyConfiguration":
        _check_metadata(tree, kind, report)
    else:
        _check_kube_proxy(tree, report)
    check = _CHECKS.get(kind)
    if check is not None:
        check(tree, report)


def _check_kube_proxy(tree: Tree, report: Report) -> None:
    """Source: pkg/proxy/apis/config/validation/validation.go."""
    mode = tree.get("mode")
    if mode and mode not in PROXY_MODES:
        words = f"must be {', '.join(PROXY_MODES)} or blank (blank means the best-available proxy)"
        report.refused(("mode",), invalid(mode, words), "mode iptables")
    for text in (tree.get("clusterCIDR") or "").split(","):
        if text and sloppy_cidr(text) is None:
            words = invalid(text, "must be a valid CIDR block (e.g. 10.100.0.0/16 or fde4:8dba:82e1::/48)")
            report.refused(("clusterCIDR",), words, "it is left out")
    field = {"BridgeInterface": "bridgeInterface", "InterfaceNamePrefix": "interfaceNamePrefix"}
    wanted = field.get(str(tree.get("detectLocalMode")))
    if wanted is not None:
        name = (tree.get("detectLocal") or {}).get(wanted) or ""
        if not 0 < len(name) <= INTERFACE_NAME_MAX:
            words = "must not be empty" if not name else f"must be no longer than {INTERFACE_NAME_MAX} characters"
            report.refused(("detectLocal", wanted), invalid(name, words), "pods are told from nobody")
    scheduler = (tree.get("ipvs") or {}).get("scheduler")
    if scheduler and scheduler not in IPVS_SCHEDULERS:
        words = f"must be in {list(IPVS_SCHEDULERS)}, blank means the default algorithm method (currently rr)"
        report.refused(("ipvs", "scheduler"), invalid(scheduler, words), "scheduler rr")
    for position, text in enumerate(tree.get("nodePortAddresses") or ()):
        if text != "primary" and sloppy_cidr(text or "") is None:
            words = invalid(text, "must be a valid CIDR block")
            report.refused(("nodePortAddresses", position), words, "it is left out")


def _check_node(tree: Tree, report: Report) -> None:
    spec = tree.get("spec") or {}
    given = [(("spec", "podCIDRs", i), text) for i, text in enumerate(spec.get("podCIDRs") or ())]
    paths: list[tuple[Path, Any]] = [*given, (("spec", "podCIDR"), spec.get("podCIDR"))]
    for path, text in paths:
        if text and sloppy_cidr(text) is None:
            words = invalid(text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")
            report.refused(path, words, "it is left out")
    for position, entry in enumerate((tree.get("status") or {}).get("addresses") or ()):
        if entry.get("type") in ("InternalIP", "ExternalIP") and sloppy_ip(entry.get("address") or "") is None:
            where: Path = ("status", "addresses", position, "address")
            report.warn(where, f"{quoted(entry.get('address'))} is no IP address; it is left out")


def _check_version(kind: str, api_version: str, report: Report) -> None:
    served = API_VERSIONS.get(kind)
    if not api_version:
        report.refused(("apiVersion",), "Required value", f"apiVersion {served}" if served else "no apiVersion")
    elif api_version in ALSO_SERVED.get(kind, ()):
        return
    elif served and api_version != served and modelled_kind(kind, api_version):
        message = f'no matches for kind "{kind}" in version "{api_version}"'
        report.add(Severity.REFUSED, ("apiVersion",), message, f"it is read as {served}")


def _check_metadata(tree: Tree, kind: str, report: Report) -> None:
    metadata = tree.get("metadata") or {}
    name = metadata.get("name")
    if name:
        _check_name(kind, name, report)
    else:
        prefix = metadata["generateName"]
        problem = label_problem(prefix.rstrip("-.") or prefix)
        if problem:
            report.error(("metadata", "generateName"), invalid(prefix, problem))
        words = f"from {prefix}: cannot use generate name with apply"
        made = report.key.name if report.key else prefix
        report.add(Severity.REFUSED, ("metadata", "generateName"), words, f"its name is {made}")
    namespace = metadata.get("namespace")
    if namespace and kind not in CLUSTER_SCOPED and (problem := label_problem(namespace)):
        report.error(("metadata", "namespace"), invalid(namespace, problem))
    check_labels(metadata.get("labels"), ("metadata", "labels"), report)
    _check_label_keys(metadata.get("annotations"), ("metadata", "annotations"), report)


def _check_name(kind: str, name: str, report: Report) -> None:
    path: Path = ("metadata", "name")
    if kind == "Namespace":
        problem = label_problem(name)
    else:
        problem = subdomain_problem(name)
    if problem:
        report.error(path, invalid(name, problem))
    elif kind == "Service" and (problem := label_1035_problem(name)):
        report.refused(path, invalid(name, problem), "the name is kept")


def check_labels(labels: Any, path: Path, report: Report) -> None:
    """Label keys and values."""
    _check_label_keys(labels, path, report)
    for name, value in (labels or {}).items():
        if value and (problem := label_value_problem(value)):
            report.refused((*path, name), invalid(value, problem), "the label is kept as written")


def _check_label_keys(labels: Any, path: Path, report: Report) -> None:
    for name in labels or {}:
        prefix, slash, rest = name.rpartition("/")
        problem = ""
        if slash and not prefix:
            problem = "prefix part must be non-empty"
        elif prefix and (problem := subdomain_problem(prefix.lower())):
            problem = f"prefix part {problem}"
        elif not rest:
            problem = "name part must be non-empty"
        elif label_value_problem(rest):
            problem = (
                "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
                "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
                "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
            )
        if problem:
            report.refused(path, invalid(name, problem), f"{quoted_short(name)} is kept as written")


def _check_loose_metadata(tree: Tree, report: Report) -> None:
    """Of kinds without behaviour only what the lab itself uses: names and labels."""
    metadata = tree.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        report.error(("metadata",), "must be a mapping")
        return
    metadata = metadata or {}
    for field in ("name", "namespace", "uid", "resourceVersion"):
        if metadata.get(field) is not None and not isinstance(metadata[field], str):
            report.error(("metadata", field), f"must be a string{quotes_hint(metadata[field])}")
    for field in ("generation", "deletionGracePeriodSeconds"):
        number = metadata.get(field)
        if number is not None and not (number.__class__ is int or (number.__class__ is float and number.is_integer())):
            report.error(("metadata", field), f"must be an integer, got {described(number)}")
    for field in ("labels", "annotations"):
        texts = metadata.get(field)
        if texts is None:
            continue
        if not isinstance(texts, dict):
            report.error(("metadata", field), "must be a mapping")
            continue
        for name, value in texts.items():
            if value is not None and not isinstance(value, str):
                report.error(("metadata", field, name), f"must be a string{quotes_hint(value)}")
    owners = metadata.get("ownerReferences")
    if owners is not None and not (isinstance(owners, list) and all(isinstance(o, dict) for o in owners)):
        report.error(("metadata", "ownerReferences"), "must be a list of mappings")
    name = metadata.get("name")
    if isinstance(name, str) and (name in (".", "..") or "/" in name or "%" in name):
        report.error(("metadata", "name"), invalid(name, "may not be '.' or '..' or contain '/' or '%'"))


def _check_config_map(tree: Tree, report: Report) -> None:
    """The one that CoreDNS is started with."""
    text = (tree.get("data") or {}).get(COREFILE)
    if report.key == CONFIG_MAP and text is not None:
        try:
            read_corefile(text)
        except KflabError as error:
            report.warn(("data", COREFILE), f"{error}; CoreDNS would not start, so kubeadm's counts")


def quoted_short(text: str) -> str:
    """A name for a sentence, cut where it is long."""
    return text if len(text) <= 60 else text[:57] + "…"


_CHECKS = {
    "Node": _check_node,
    "Pod": check_pod,
    "Deployment": check_workload,
    "ReplicaSet": check_workload,
    "StatefulSet": check_workload,
    "DaemonSet": check_workload,
    "Job": check_job,
    "Service": check_service,
    "EndpointSlice": check_endpoint_slice,
    "Endpoints": check_endpoints,
    "Ingress": check_ingress,
    "IngressClass": check_ingress_class,
    "PodDisruptionBudget": check_budget,
    "PriorityClass": check_priority_class,
    "HorizontalPodAutoscaler": check_autoscaler,
    "ConfigMap": _check_config_map,
}
