"""Strategic merge and kubectl's three-way apply."""

from dataclasses import replace
from typing import Any

import pytest

from kflab.errors import KflabError
from kflab.manifest.apply import apply_document
from kflab.manifest.loader import Document, load
from kflab.manifest.objects_network import Endpoint, EndpointSlice, Service, ServicePort
from kflab.manifest.objects_pods import Pod
from kflab.manifest.objects_workloads import Deployment
from kflab.manifest.patch import strategic_merge, three_way
from kflab.manifest.plain import load_plain
from kflab.manifest.sources import SourceText


def tree(text: str) -> dict[str, Any]:
    value, _ = load_plain(text, "f")
    assert isinstance(value, dict)
    return value


DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {a: "1", b: "2"}}
spec:
  template:
    spec:
      containers:
      - {name: c, image: i:1, args: [x, z], env: [{name: A, value: "1"}, {name: B, value: "2"}],
         ports: [{containerPort: 80}]}
      - {name: side, image: s}
      volumes: [{name: v, emptyDir: {}}]
      tolerations: [{key: a}]
"""


def merged_spec(patch: str) -> dict[str, Any]:
    result = strategic_merge(tree(DEPLOYMENT), tree(patch), "Deployment")
    assert result is not None
    spec = result["spec"]["template"]["spec"]
    assert isinstance(spec, dict)
    return spec


@pytest.mark.parametrize(
    ("patch", "field", "expected"),
    [
        ("{containers: [{name: c, image: i:2}]}", "containers",
         [{"name": "c", "image": "i:2", "args": ["x", "z"],
           "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}], "ports": [{"containerPort": 80}]},
          {"name": "side", "image": "s"}]),
        ("{containers: [{name: side, $patch: delete}, "
         "{name: c, args: [q], env: [{name: A, $patch: delete}, {name: C}]}]}",
         "containers",
         [{"name": "c", "image": "i:1", "args": ["q"], "env": [{"name": "B", "value": "2"}, {"name": "C"}],
           "ports": [{"containerPort": 80}]}]),
        ("{containers: [{$patch: replace}, {name: new, image: q}]}", "containers", [{"name": "new", "image": "q"}]),
        ("{tolerations: [{key: b}]}", "tolerations", [{"key": "b"}]),
        ("{tolerations: null}", "tolerations", None),
        ("{volumes: [{name: v, emptyDir: null, hostPath: {path: /x}}]}", "volumes",
         [{"name": "v", "hostPath": {"path": "/x"}}]),
        ("{volumes: [{$retainKeys: [name, hostPath], name: v, hostPath: {path: /x}}]}", "volumes",
         [{"name": "v", "hostPath": {"path": "/x"}}]),
        ("{nodeSelector: {h: q, drop: null}}", "nodeSelector", {"h": "q"}),
    ],
)  # fmt: skip
def test_strategic_merge(patch: str, field: str, expected: Any) -> None:
    assert merged_spec(f"spec: {{template: {{spec: {patch}}}}}").get(field) == expected


def test_maps_merge_and_directives_replace_or_delete_them() -> None:
    base = tree(DEPLOYMENT)
    merged = strategic_merge(base, tree("metadata: {labels: {b: null, c: '3'}}"), "Deployment")
    assert merged is not None
    assert merged["metadata"]["labels"] == {"a": "1", "c": "3"}
    replaced = strategic_merge(base, tree("metadata: {labels: {$patch: replace, c: '3'}}"), "Deployment")
    assert replaced is not None
    assert replaced["metadata"]["labels"] == {"c": "3"}
    assert strategic_merge(base, tree("$patch: delete"), "Deployment") is None
    assert base == tree(DEPLOYMENT)


def test_ingress_rules_are_replaced_and_service_ports_merged_by_port() -> None:
    ingress = tree("apiVersion: networking.k8s.io/v1\nspec: {rules: [{host: a}, {host: b}]}")
    merged = strategic_merge(ingress, tree("spec: {rules: [{host: c}]}"), "Ingress")
    assert merged == {"apiVersion": "networking.k8s.io/v1", "spec": {"rules": [{"host": "c"}]}}
    service = tree("apiVersion: v1\nspec: {ports: [{port: 80, name: h}, {port: 443}]}")
    merged = strategic_merge(service, tree("spec: {ports: [{port: 443, nodePort: 30443}, {port: 81}]}"), "Service")
    assert merged is not None
    assert merged["spec"]["ports"] == [{"port": 80, "name": "h"}, {"port": 443, "nodePort": 30443}, {"port": 81}]


def test_unknown_kinds_merge_as_json() -> None:
    base = tree("apiVersion: x/v1\nspec: {containers: [{name: a, k: 1}]}")
    merged = strategic_merge(base, tree("spec: {containers: [{name: a}]}"), "Thing")
    assert merged is not None
    assert merged["spec"]["containers"] == [{"name": "a"}]


def test_an_entry_without_its_key_is_refused() -> None:
    with pytest.raises(KflabError, match="does not contain declared merge key: name"):
        merged_spec("spec: {template: {spec: {containers: [{image: x}]}}}")


def test_three_way_removes_what_was_applied_and_keeps_what_others_set() -> None:
    last = tree("spec: {replicas: 3, paused: true, ports: [{port: 80}, {port: 81}], selector: {a: b, c: d}}")
    live = tree(
        "spec: {replicas: 5, paused: true, clusterIP: 10.0.0.1, selector: {a: b, c: d, e: f}, "
        "ports: [{port: 79}, {port: 80, nodePort: 30080}, {port: 81}, {port: 90}]}\nstatus: {x: z}"
    )
    new = tree(
        "apiVersion: v1\nspec: {replicas: 4, ports: [{port: 82}, {port: 80, name: h}], selector: {a: z}}"
        "\nstatus: {q: r}"
    )
    assert three_way(last, live, new, "Service") == {
        "apiVersion": "v1",
        "spec": {
            "replicas": 4,
            "clusterIP": "10.0.0.1",
            "selector": {"a": "z", "e": "f"},
            "ports": [{"port": 82}, {"port": 79}, {"port": 80, "nodePort": 30080, "name": "h"}, {"port": 90}],
        },
        "status": {"x": "z"},
    }


def test_what_was_never_applied_stays() -> None:
    live = tree("spec: {replicas: 5}")
    assert three_way(None, live, tree("spec: {paused: true}"), "Deployment") == tree(
        "spec: {replicas: 5, paused: true}"
    )


WEB = """apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: c
        image: i
"""
SERVICE = """apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  type: NodePort
  selector: {app: web}
  ports:
  - port: 80
    nodePort: 30080
"""


def document(text: str) -> Document:
    (found,) = load([SourceText("f", text)]).documents
    return found


def allocated() -> tuple[Document, Service]:
    first = document(SERVICE)
    service = first.obj
    assert isinstance(service, Service)
    return first, replace(service, cluster_ips=("10.96.0.7",), meta=replace(service.meta, uid="u", creation_ns=-5))


def test_applying_the_same_text_changes_nothing() -> None:
    first, live = allocated()
    applied = apply_document(live, first.tree, first)
    assert applied.verb == "unchanged"
    assert applied.obj is live


def test_a_changed_port_keeps_the_allocated_address() -> None:
    first, live = allocated()
    applied = apply_document(live, first.tree, document(SERVICE.replace("port: 80", "port: 81", 1)))
    assert applied.verb == "configured"
    assert isinstance(applied.obj, Service)
    assert applied.obj.ports == (ServicePort(81, target=81, node_port=30080),)
    assert applied.obj.cluster_ips == ("10.96.0.7",)
    assert applied.obj.meta.uid == "u"
    assert (applied.obj.meta.generation, applied.obj.meta.creation_ns) == (live.meta.generation + 1, -5)


def test_a_removed_field_goes_and_its_default_returns() -> None:
    first, live = allocated()
    with_policy = document(SERVICE.replace("spec:\n", "spec:\n  externalTrafficPolicy: Local\n"))
    local = apply_document(live, first.tree, with_policy).obj
    assert isinstance(local, Service)
    assert local.external_traffic_policy == "Local"
    back = apply_document(replace(local), with_policy.tree, first).obj
    assert isinstance(back, Service)
    assert back.external_traffic_policy == "Cluster"


def test_a_change_of_type_drops_what_the_new_type_cannot_have() -> None:
    first, live = allocated()
    text = SERVICE.replace("type: NodePort", "type: ClusterIP").replace("    nodePort: 30080\n", "")
    applied = apply_document(live, first.tree, document(text))
    assert applied.refusals == ()
    assert isinstance(applied.obj, Service)
    assert applied.obj.ports[0].node_port == 0


@pytest.mark.parametrize(
    ("text", "old", "new", "message"),
    [
        (WEB, "app: web", "app: wob",
         'spec.selector: Invalid value: v1.LabelSelector{MatchLabels:map[string]string{"app":"wob"}, '
         "MatchExpressions:[]v1.LabelSelectorRequirement(nil)}: field is immutable"),
        (SERVICE, "spec:\n", "spec:\n  clusterIP: 10.96.0.8\n",
         'spec.clusterIPs[0]: Invalid value: []string{"10.96.0.8"}: may not change once set'),
        ("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ntype: Opaque\n", "Opaque", "kubernetes.io/tls",
         'type: Invalid value: "kubernetes.io/tls": field is immutable'),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\nimmutable: true\ndata: {a: b}\n", "a: b", "a: c",
         "data: Forbidden: field is immutable when `immutable` is set"),
        ("apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: c}\nspec: {controller: a/b}\n", "a/b",
         "a/c", 'spec.controller: Invalid value: "a/c": field is immutable'),
        (WEB.replace("Deployment", "StatefulSet"), "replicas: 2", "replicas: 3\n  serviceName: other",
         "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
         "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are "
         "forbidden"),
        (WEB, "replicas: 2", "replicas: -2", "spec.replicas: Invalid value: -2: must be greater than or equal to 0"),
        (WEB, "        image: i\n", "", "spec.template.spec.containers[0].image: Required value"),
    ],
)  # fmt: skip
def test_refusals_in_the_apis_words(text: str, old: str, new: str, message: str) -> None:
    first = document(text)
    live = first.obj
    if text is SERVICE:
        first, live = allocated()
    changed = text.replace(old, new)
    assert changed != text
    applied = apply_document(live, first.tree, document(changed))
    assert [f.message for f in applied.refusals] == [message]
    assert applied.obj is None
    assert applied.refusals[0].place is not None
    assert applied.refusals[0].place.line > 1


def test_a_new_object_with_a_required_field_missing_is_refused() -> None:
    broken = document(WEB.replace("  selector: {matchLabels: {app: web}}\n", ""))
    applied = apply_document(None, None, broken)
    assert [f.message for f in applied.refusals] == ["spec.selector: Required value"]
    assert apply_document(None, None, document(WEB)).verb == "created"


def test_a_pods_image_may_change_and_its_ports_may_not() -> None:
    text = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n"
    text += "spec: {containers: [{name: c, image: a, ports: [{containerPort: 1}]}]}\n"
    first = document(text)
    applied = apply_document(first.obj, first.tree, document(text.replace("image: a", "image: b")))
    assert applied.verb == "configured"
    assert isinstance(applied.obj, Pod)
    assert applied.obj.spec.containers[0].image == "b"
    refused = apply_document(first.obj, first.tree, document(text.replace("containerPort: 1", "containerPort: 2")))
    assert "pod updates may not change fields other than" in refused.refusals[0].message


def test_status_in_the_text_is_not_applied() -> None:
    first = document(WEB)
    live = first.obj
    assert isinstance(live, Deployment)
    live = replace(live, observed={"readyReplicas": 2})
    applied = apply_document(live, first.tree, document(WEB + "status: {readyReplicas: 9}\n"))
    assert applied.verb == "unchanged"


def test_an_endpoint_slice_by_hand_can_be_changed() -> None:
    text = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s}\n"
    text += "addressType: IPv4\nendpoints: [{addresses: [10.0.0.1]}]\n"
    first = document(text)
    applied = apply_document(first.obj, first.tree, document(text.replace("10.0.0.1", "10.0.0.2")))
    assert isinstance(applied.obj, EndpointSlice)
    assert applied.obj.endpoints == (Endpoint(("10.0.0.2",)),)
