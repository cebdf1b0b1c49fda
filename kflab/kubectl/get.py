"""`kubectl get`: which objects, in which order, as which text.

Source: k8s.io/kubectl pkg/cmd/get/get.go (grouping, headers, empty answers, kind prefixes); the Endpoints warning is
the API server's since v1.33 (KEP-4974).
"""

from collections.abc import Sequence
from itertools import groupby

from kflab.cluster.store import Store
from kflab.errors import KflabError
from kflab.kubectl import selectors
from kflab.kubectl.commands import Get
from kflab.kubectl.env import Env
from kflab.kubectl.hostile import printable
from kflab.kubectl.kinds import Resource
from kflab.kubectl.lookup import ApiError, listed, matching, named, resource, resources
from kflab.kubectl.outcome import Outcome
from kflab.kubectl.printers import cells, columns
from kflab.kubectl.selectors import format_labels
from kflab.kubectl.tabular import table
from kflab.kubectl.trees import to_json, to_yaml
from kflab.manifest.objects import KubeObject

ENDPOINTS_WARNING = "Warning: v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\n"

Found = list[tuple[Resource, KubeObject]]


def get(command: Get, store: Store, env: Env) -> Outcome:
    """Run `kubectl get`.

    Raises:
        KflabError: For an unknown kind or a selector that cannot be read.
    """
    namespace = command.namespace or env.namespace
    found, kinds, errors = _find(command, namespace, store, env)
    warning = ENDPOINTS_WARNING if any(kind.kind == "Endpoints" for kind in kinds) else ""
    err = warning + "".join(f"Error from server {error}\n" for error in errors)
    code = 1 if errors else 0
    if command.output in ("yaml", "json"):
        if errors and not found:
            return Outcome("", err, code)
        alone = len(found) == 1 and bool(command.targets)
        write = to_yaml if command.output == "yaml" else to_json
        return Outcome(write([obj for _, obj in found], as_list=not alone), err, code)
    if command.output == "name":
        return Outcome("".join(f"{kind.prefix}/{printable(obj.meta.name)}\n" for kind, obj in found), err, code)
    if not found:
        if errors or command.ignore_not_found:
            return Outcome("", err, code)
        local = not command.all_namespaces and all(kind.namespaced for kind in kinds)
        where = f" in {printable(namespace)} namespace." if local else ""
        return Outcome("", f"{err}No resources found{where}\n", code)
    return Outcome(_tables(command, found, len({kind.kind for kind in kinds}) > 1, env.now_ns), err, code)


def _find(command: Get, namespace: str, store: Store, env: Env) -> tuple[Found, Sequence[Resource], list[ApiError]]:
    found: Found = []
    kinds: list[Resource] = []
    errors: list[ApiError] = []
    fields = selectors.parse_fields(command.field_selector)
    for word in command.resources:
        for kind in resources(word, store):
            kinds.append(kind)
            everywhere = command.all_namespaces or not kind.namespaced
            objects = listed(kind, None if everywhere else namespace, store, env)
            found += [(kind, obj) for obj in matching(objects, command.selector, fields)]
    if command.targets and (command.selector or command.field_selector):
        raise KflabError("name cannot be provided when a selector is specified")
    for target in command.targets:
        kind = resource(target.resource, store)
        kinds.append(kind)
        try:
            found.append((kind, named(kind, namespace, target.name, store, env)))
        except ApiError as error:
            if not command.ignore_not_found:
                errors.append(error)
    return found, kinds, errors


def _tables(command: Get, found: Found, prefixed: bool, now_ns: int) -> str:
    """One table per run of the same kind, an empty line between them."""
    parts = []
    for kind, group in groupby(found, key=lambda entry: entry[0]):
        wide = command.output == "wide"
        spaced = command.all_namespaces and kind.namespaced
        header = [
            *(["NAMESPACE"] if spaced else []),
            *columns(kind.kind, wide),
            *(_label_header(label) for label in command.label_columns),
            *(["LABELS"] if command.show_labels else []),
        ]
        rows = []
        for _, obj in group:
            row = list(cells(obj, now_ns, wide))
            if prefixed and kind.kind != "Event":
                row[0] = f"{kind.prefix}/{row[0]}"
            row += [obj.meta.labels.get(label, "<none>") for label in command.label_columns]
            if command.show_labels:
                row.append(format_labels(obj.meta.labels))
            rows.append([*([obj.meta.namespace] if spaced else []), *row])
        parts.append(table(header if command.headers else None, rows))
    return "\n".join(parts)


def _label_header(label: str) -> str:
    return printable(label.rpartition("/")[2].upper())
