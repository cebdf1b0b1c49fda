"""Findings about objects together: what points at nothing, and what is there twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kflab.manifest.findings import Finding, Path, Severity, quoted
from kflab.manifest.kinds import Unmodelled
from kflab.manifest.objects import Key, Labels
from kflab.manifest.objects_network import Ingress, IngressBackend, Service
from kflab.manifest.objects_pods import Pod, PodSpec
from kflab.manifest.objects_workloads import DaemonSet, Deployment, Job, ReplicaSet, StatefulSet

if TYPE_CHECKING:
    from kflab.manifest.loader import Document

_WORKLOADS = (Deployment, ReplicaSet, StatefulSet, DaemonSet, Job)


def check_together(documents: Sequence[Document]) -> list[Finding]:
    """Everything that only shows when all objects are known."""
    findings: list[Finding] = []
    last: dict[Key, Document] = {}
    for document in documents:
        earlier = last.get(document.key)
        if earlier is not None:
            message = f"{document.key} is given twice, first at {earlier.place}; this later one wins"
            findings.append(Finding(Severity.WARNING, message, document.place, (), document.key))
        last[document.key] = document
    selectable = _Selectable(last.values())
    for document in last.values():
        obj = document.obj
        if isinstance(obj, Service):
            _check_selection(obj, document, selectable, findings)
        elif isinstance(obj, Ingress):
            _check_backends(obj, document, last, findings)
    return findings


class _Selectable:
    """Pods and pod templates by namespace, found by label."""

    def __init__(self, documents: Any) -> None:
        self.by_label: dict[tuple[str, str, str], list[tuple[Key, Labels, PodSpec]]] = {}
        self.all: dict[str, list[tuple[Key, Labels, PodSpec]]] = {}
        self.unmodelled: dict[str, list[Document]] = {}
        for document in documents:
            obj = document.obj
            if isinstance(obj, Pod):
                self._add(obj.key, obj.meta.labels, obj.spec)
            elif isinstance(obj, _WORKLOADS):
                self._add(obj.key, obj.template.labels, obj.template.spec)
            elif isinstance(obj, Unmodelled):
                self.unmodelled.setdefault(obj.meta.namespace, []).append(document)

    def _add(self, key: Key, labels: Labels, spec: PodSpec) -> None:
        row = (key, labels, spec)
        self.all.setdefault(key.namespace, []).append(row)
        for name, value in labels.items():
            self.by_label.setdefault((key.namespace, name, value), []).append(row)

    def selected(self, namespace: str, selector: Labels) -> list[tuple[Key, Labels, PodSpec]]:
        """Pods and templates that have all the labels."""
        rows = min((self.by_label.get((namespace, n, v), []) for n, v in selector.items()), key=len)
        return [row for row in rows if all(row[1].get(name) == value for name, value in selector.items())]

    def made_elsewhere(self, namespace: str, selector: Labels) -> bool:
        """Whether an object of a kind without behaviour (a Job, a Prometheus) carries all the labels somewhere.

        Its own controller would make pods with them, so a Service that selects those is not wrong.
        """
        return any(
            all(labels.get(name) == value for name, value in selector.items())
            for document in self.unmodelled.get(namespace, ())
            for labels in _label_maps(document.tree)
        )


def _label_maps(tree: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            if name == "labels" and isinstance(value, Mapping):
                yield value
            else:
                yield from _label_maps(value)
    elif isinstance(tree, list):
        for entry in tree:
            yield from _label_maps(entry)


def _check_selection(service: Service, document: Document, pods: _Selectable, findings: list[Finding]) -> None:
    if not service.selector or service.type == "ExternalName":
        return
    namespace = service.meta.namespace
    selected = pods.selected(namespace, service.selector)
    if not selected:
        if not pods.made_elsewhere(namespace, service.selector):
            wanted = ", ".join(f"{name}={value}" for name, value in service.selector.items())
            message = f"selects nothing: no Pod here has {wanted}{_nearest(service, pods)}"
            findings.append(_warning(document, ("spec", "selector"), message))
        return
    for position, port in enumerate(service.ports):
        if isinstance(port.target, str) and not any(_has_port_name(spec, port.target) for _, _, spec in selected):
            message = f"targetPort {quoted(port.target)} is the name of no port of {selected[0][0]}"
            findings.append(_warning(document, ("spec", "ports", position, "targetPort"), message))


def _has_port_name(spec: PodSpec, name: str) -> bool:
    return any(port.name == name for container in (*spec.containers, *spec.init_containers) for port in container.ports)


def _nearest(service: Service, pods: _Selectable) -> str:
    """What was probably meant: the same labels in another namespace, or all but one of them here."""
    for namespace in pods.all:
        if namespace != service.meta.namespace:
            elsewhere = pods.selected(namespace, service.selector)
            if elsewhere:
                return f"; {elsewhere[0][0]} in namespace {namespace} does"
    for key, labels, _ in pods.all.get(service.meta.namespace, ()):
        differ = [name for name, value in service.selector.items() if labels.get(name) != value]
        if len(differ) == 1 and (
            len(service.selector) > 1
            or (differ[0] in labels and _alike(service.selector[differ[0]], labels[differ[0]]))
        ):
            name = differ[0]
            has = f"has {name}={labels[name]}" if name in labels else f"lacks {name}"
            return f"; {key} {has}"
    return ""


def _alike(wanted: str, has: str) -> bool:
    """One is part of the other, or they differ in one letter: a slip rather than another name."""
    if wanted in has or has in wanted:
        return True
    return len(wanted) == len(has) and sum(a != b for a, b in zip(wanted, has, strict=True)) <= 1


def _check_backends(
    ingress: Ingress, document: Document, last: Mapping[Key, Document], findings: list[Finding]
) -> None:
    spec: Path = ("spec",)
    if ingress.default_backend is not None:
        _check_backend(ingress, ingress.default_backend, (*spec, "defaultBackend"), document, last, findings)
    for i, rule in enumerate(ingress.rules):
        for j, path in enumerate(rule.paths):
            where: Path = (*spec, "rules", i, "http", "paths", j, "backend")
            _check_backend(ingress, path.backend, where, document, last, findings)


def _check_backend(
    ingress: Ingress, backend: IngressBackend, path: Path, document: Document, last: Mapping[Key, Document],
    findings: list[Finding],
) -> None:  # fmt: skip
    if not backend.service:
        return
    found = last.get(Key("Service", ingress.meta.namespace, backend.service))
    if found is None:
        message = f"no Service {backend.service} in namespace {ingress.meta.namespace}"
        others = sorted(k.namespace for k in last if k.kind == "Service" and k.name == backend.service)
        if others:
            message += f"; there is one in {others[0]}, and an Ingress reaches only its own namespace"
        findings.append(_warning(document, (*path, "service", "name"), message))
    elif isinstance(found.obj, Service) and found.obj.ports:
        ports = found.obj.ports
        if not any(backend.port in (port.port, port.name) for port in ports):
            has = ", ".join(f"{port.port}" + (f" ({port.name})" if port.name else "") for port in ports)
            message = f"Service {backend.service} has no port {backend.port}, only {has}"
            findings.append(_warning(document, (*path, "service", "port"), message))


def _warning(document: Document, path: Path, message: str) -> Finding:
    return Finding(Severity.WARNING, message, document.marks.place(path), path, document.key)
