"""What is said about manifests: severity, the API server's words, the place, the assumption."""

import pytest

from kflab.manifest.findings import Finding, Severity
from kflab.manifest.kinds import Unmodelled
from kflab.manifest.loader import Loaded, load
from kflab.manifest.objects import Key
from kflab.manifest.objects_network import Ingress, Service
from kflab.manifest.objects_pods import Pod
from kflab.manifest.objects_workloads import DaemonSet, Deployment, RollingUpdate, StatefulSet
from kflab.manifest.sources import SourceText
from kflab.manifest.write import to_tree

SERVICE = """apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  selector: {app: web}
  ports:
  - port: 80
"""
POD = """apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {app: web}
spec:
  containers:
  - name: c
    image: i
    ports:
    - containerPort: 80
      name: http
"""
DEPLOYMENT = """apiVersion: apps/v1
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
INGRESS = """apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: in
spec:
  rules:
  - host: a.example
    http:
      paths:
      - path: /
        pathType: Prefix
        backend:
          service:
            name: web
            port:
              number: 80
"""


def read(*texts: str) -> Loaded:
    return load([SourceText("f", "---\n".join(texts))])


def complaints(*texts: str) -> list[Finding]:
    return [finding for finding in read(*texts).findings if finding.severity > Severity.INFO]


def one(*texts: str) -> Finding:
    found = complaints(*texts)
    assert len(found) == 1, [str(f) for f in found]
    return found[0]


def test_what_is_right_is_not_spoken_of() -> None:
    assert complaints(SERVICE, POD, INGRESS) == []
    assert complaints(SERVICE, DEPLOYMENT, INGRESS) == []


@pytest.mark.parametrize(
    ("text", "old", "new", "message"),
    [
        (SERVICE, "port: 80", "port: 80800",
         "spec.ports[0].port: Invalid value: 80800: must be between 1 and 65535, inclusive"),
        (SERVICE, "port: 80", "port: 0",
         "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"),
        (SERVICE, "port: 80", "port: '80'", 'spec.ports[0].port: must be an integer, got the string "80"'),
        (SERVICE, "port: 80", "port: [80]", "spec.ports[0].port: must be an integer, got a list"),
        (SERVICE, "app: web", "app: 1", "spec.selector.app: must be a string, got the number 1; put it in quotes"),
        (SERVICE, "{app: web}", "web", 'spec.selector: must be a mapping, got the string "web"'),
        (SERVICE, "  - port: 80", "    port: 80", "spec.ports: must be a list, got a mapping"),
        (DEPLOYMENT, "replicas: 2", "replicas: two", 'spec.replicas: must be an integer, got the string "two"'),
        (POD, "containerPort: 80", "containerPort: 70000",
         "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive"),
        (INGRESS, "number: 80", "number: 99999",
         "spec.rules[0].http.paths[0].backend.service.port.number: Invalid value: 99999: must be between 1 and 65535, "
         "inclusive"),
    ],
)  # fmt: skip
def test_errors(text: str, old: str, new: str, message: str) -> None:
    loaded = read(text.replace(old, new, 1))
    assert [f.message for f in loaded.errors] == [message]
    assert loaded.objects == ()
    place = loaded.errors[0].place
    assert place is not None
    assert place.line >= 4


def test_an_error_stands_at_the_value() -> None:
    place = read(SERVICE.replace("port: 80", "port: 80800")).errors[0].place
    assert str(place) == "f:8:11"


@pytest.mark.parametrize(
    ("text", "old", "new", "message", "assumption"),
    [
        (DEPLOYMENT, "  selector: {matchLabels: {app: web}}\n", "",
         "spec.selector: Required value", "selector app: web"),
        (DEPLOYMENT, "{matchLabels: {app: web}}", "{}",
         "spec.selector: Invalid value: v1.LabelSelector{MatchLabels:map[string]string(nil), "
         "MatchExpressions:[]v1.LabelSelectorRequirement(nil)}: empty selector is invalid for deployment",
         "selector app: web"),
        (DEPLOYMENT, "labels: {app: web}", "labels: {app: wbe}",
         'spec.template.metadata.labels: Invalid value: map[string]string{"app":"wbe"}: `selector` does not match '
         "template `labels`", "the pods get the selector's labels as well"),
        (DEPLOYMENT, "replicas: 2", "replicas: -1",
         "spec.replicas: Invalid value: -1: must be greater than or equal to 0", "replicas 0"),
        (DEPLOYMENT, "        image: i\n", "", "spec.template.spec.containers[0].image: Required value",
         "an image that listens on the declared ports"),
        (INGRESS, "        pathType: Prefix\n", "",
         "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified",
         "pathType ImplementationSpecific"),
        (INGRESS, "path: /", "path: x",
         'spec.rules[0].http.paths[0].path: Invalid value: "x": must be an absolute path', "path /x"),
        (INGRESS, "              number: 80\n", "              {}\n",
         "spec.rules[0].http.paths[0].backend.service.port: Required value: port name or number is required",
         "port {number: 80}"),
        (SERVICE, "spec:\n", "spec:\n  type: Loadbalancer\n",
         'spec.type: Unsupported value: "Loadbalancer": supported values: "ClusterIP", "ExternalName", "LoadBalancer", '
         '"NodePort"', "type ClusterIP"),
        (SERVICE, "port: 80", "port: 80\n    nodePort: 30080",
         "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'", "it is ignored"),
        (SERVICE, "port: 80", "port: 80\n  - port: 81\n    name: b", "spec.ports[0].name: Required value",
         "the port has no name"),
        (SERVICE, "  ports:\n  - port: 80\n", "  ports: []\n", "spec.ports: Required value",
         "a Service that no packet matches"),
        (SERVICE, "spec:\n", "spec:\n  externalTrafficPolicy: Local\n",
         'spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services',
         "it is kept and changes nothing"),
        (SERVICE, "apiVersion: v1\n", "", "apiVersion: Required value", "apiVersion v1"),
        (POD, "metadata:\n  name: web\n", "metadata:\n  generateName: web-\n",
         "from web-: cannot use generate name with apply", None),
        (POD, "  containers:", "  restartPolicy: Sometimes\n  containers:",
         'spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "Never", "OnFailure"',
         "Always"),
        (POD, "name: http", "name: HTTP",
         'spec.containers[0].ports[0].name: Invalid value: "HTTP": must contain only alphanumeric characters (a-z, '
         "0-9), and hyphens, and must start and end with an alphanumeric character", "the name is kept"),
        (POD, "image: i", "image: i\n    readinessProbe: {periodSeconds: 5}",
         "spec.containers[0].readinessProbe: Required value: must specify a handler type", "there is no such probe"),
        (POD, "image: i", "image: i\n    lifecycle: {preStop: {exec: {command: [quit]}, sleep: {seconds: 3}}}",
         "spec.containers[0].lifecycle.preStop.sleep: Forbidden: may not specify more than 1 handler type",
         "the sleep counts"),
        (POD, "image: i", "image: i\n    lifecycle: {postStart: {}}",
         "spec.containers[0].lifecycle.postStart: Required value: must specify a handler type",
         "there is no such hook"),
        (POD, "image: i", "image: i\n    lifecycle: {preStop: {sleep: {seconds: 31}}}",
         "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than "
         "terminationGracePeriodSeconds (30)", "SIGKILL comes when the grace period is over"),
        (POD, "image: i", "image: i\n    volumeMounts: [{name: v, mountPath: /v}]",
         'spec.containers[0].volumeMounts[0].name: Not found: "v"', "nothing is mounted"),
    ],
)  # fmt: skip
def test_refused_with_an_assumption(text: str, old: str, new: str, message: str, assumption: str | None) -> None:
    assert old in text
    others = {SERVICE: POD, INGRESS: SERVICE + "---\n" + POD}.get(text, "")
    found = one(text.replace(old, new, 1), others) if others else one(text.replace(old, new, 1))
    assert (found.severity, found.message) == (Severity.REFUSED, message)
    assert found.assumption if assumption is None else found.assumption == assumption


def test_the_bare_port_is_taken_for_its_number_and_a_word_for_its_name() -> None:
    bare = INGRESS.replace("port:\n              number: 80", "port: {}")
    for given, meant in (("80", 80), ("http", "http")):
        service = SERVICE.replace("port: 80", "port: 80\n    name: http")
        loaded = read(bare.format(given) if "{}" in bare else bare, service, POD)
        assert loaded
        text = INGRESS.replace("port:\n              number: 80", f"port: {given}")
        found = one(text, service, POD)
        assert found.severity is Severity.REFUSED
        assert "cannot unmarshal" in found.message
        ingress = read(text, service, POD).objects[0]
        assert isinstance(ingress, Ingress)
        assert ingress.rules[0].paths[0].backend.port == meant
    assert read(INGRESS.replace("port:\n              number: 80", "port: 80800")).errors


def test_a_workload_without_labels_anywhere_gets_its_name() -> None:
    text = DEPLOYMENT.replace("  selector: {matchLabels: {app: web}}\n", "").replace(
        "    metadata: {labels: {app: web}}\n", ""
    )
    loaded = read(text.replace("name: web", "name: shop"))
    assert loaded.assumptions[0].assumption == "selector app: shop"
    deployment = loaded.objects[0]
    assert isinstance(deployment, Deployment)
    assert deployment.selector.match_labels == deployment.template.labels == {"app": "shop"}


@pytest.mark.parametrize(
    ("text", "old", "new", "message"),
    [
        (DEPLOYMENT, "replicas:", "replica:", 'unknown field "spec.replica", did you mean "replicas"?'),
        (DEPLOYMENT, "image: i", "imagePullpolicy: Always\n        image: i",
         'unknown field "spec.template.spec.containers[0].imagePullpolicy", did you mean "imagePullPolicy"?'),
        (SERVICE, "spec:", "zzz: 1\nspec:", 'unknown field "zzz"'),
        (SERVICE, "{app: web}", "{app: web, b.c/d: x}",
         "selects nothing: no Pod here has app=web, b.c/d=x; pod/web lacks b.c/d"),
        (SERVICE, "app: web", "app: wed", "selects nothing: no Pod here has app=wed; pod/web has app=web"),
        (SERVICE, "name: web\n", "name: web\n  namespace: other\n",
         "selects nothing: no Pod here has app=web; pod/web in namespace default does"),
        (SERVICE, "port: 80", "port: 80\n    targetPort: htpt",
         'targetPort "htpt" is the name of no port of pod/web'),
        (SERVICE, "spec:\n", "spec:\n  type: LoadBalancer\n  loadBalancerSourceRanges: [' 10.0.0.0/8']\n",
         '" 10.0.0.0/8": kube-proxy reads it leniently, as 10.0.0.0/8'),
        (SERVICE, "spec:\n", "spec:\n  externalIPs: [010.001.0.1]\n",
         '"010.001.0.1": kube-proxy reads it leniently, as 10.1.0.1'),
        (SERVICE, "port: 80", "port: 80\n    nodePort: 8080\n  type: NodePort",
         "spec.ports[0].nodePort: Invalid value: 8080: provided port is not in the valid range. The range of valid "
         "ports is 30000-32767"),
    ],
)  # fmt: skip
def test_warnings(text: str, old: str, new: str, message: str) -> None:
    assert old in text
    found = one(text.replace(old, new, 1), POD)
    assert found.severity is Severity.WARNING
    assert message in found.message


def test_an_unknown_field_stands_at_its_name() -> None:
    assert str(one(DEPLOYMENT.replace("replicas:", "replica:")).place) == "f:6:3"


def test_lenient_values_are_read_as_kube_proxy_reads_them() -> None:
    text = SERVICE.replace(
        "spec:\n", "spec:\n  loadBalancerSourceRanges: [' 010.0.0.0/08 ']\n  externalIPs: [010.001.0.1]\n"
    )
    service = read(text, POD).objects[0]
    assert isinstance(service, Service)
    assert service.load_balancer_source_ranges == ("10.0.0.0/8",)
    assert service.external_ips == ("10.1.0.1",)


def test_an_ingress_to_nowhere() -> None:
    assert one(INGRESS).message == "no Service web in namespace default"
    elsewhere = SERVICE.replace("name: web\n", "name: web\n  namespace: b\n").replace("{app: web}", "{}")
    assert "there is one in b" in one(INGRESS, elsewhere).message
    assert (
        one(INGRESS.replace("number: 80", "number: 81"), SERVICE, POD).message == "Service web has no port 81, only 80"
    )


def test_the_same_object_twice_names_both_places_and_the_later_wins() -> None:
    found = one(SERVICE, POD, SERVICE.replace("port: 80", "port: 81"))
    assert found.message == "service/web is given twice, first at f:1:1; this later one wins"
    assert str(found.place) == "f:23:1"
    loaded = read(SERVICE, POD, SERVICE.replace("port: 80", "port: 81"))
    services = [obj for obj in loaded.objects if isinstance(obj, Service)]
    assert [service.ports[0].port for service in services] == [81]


def test_pods_that_another_controller_makes_count_as_selected() -> None:
    other = """apiVersion: v1
kind: ReplicationController
metadata: {name: j}
spec:
  template:
    metadata: {labels: {app: web}}
"""
    loaded = read(SERVICE, other)
    assert [f.severity for f in loaded.findings] == [Severity.INFO]


def test_kinds_without_behaviour_are_kept_and_only_said() -> None:
    knative = "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: web}\nspec: {anything: [goes]}\n"
    loaded = read(knative, SERVICE, POD)
    assert [f.severity for f in loaded.findings] == [Severity.INFO]
    first = loaded.objects[0]
    assert isinstance(first, Unmodelled)
    assert first.key == Key("Service.serving.knative.dev", "default", "web")
    assert loaded.objects[1].key == Key("Service", "default", "web")


def test_old_versions_are_refused_and_still_read() -> None:
    old = """apiVersion: extensions/v1beta1
kind: Ingress
metadata: {name: in}
spec:
  backend: {serviceName: web, servicePort: 80}
  rules:
  - http:
      paths:
      - path: /a
        backend: {serviceName: web, servicePort: 80}
"""
    found = one(old, SERVICE, POD)
    assert found.message == 'no matches for kind "Ingress" in version "extensions/v1beta1"'
    assert found.assumption == "it is read as networking.k8s.io/v1"
    ingress = read(old).objects[0]
    assert isinstance(ingress, Ingress)
    assert ingress.rules[0].paths[0].backend.service == "web"
    assert ingress.default_backend is not None


def test_a_patch_for_nothing_is_an_error() -> None:
    loaded = load([SourceText("f", POD)], [SourceText("p", SERVICE)])
    assert [str(f.place) for f in loaded.errors] == ["p:1:1"]
    assert "this patch is for service/web in namespace default, which is not given" in loaded.errors[0].message


def test_a_finding_in_a_merge_points_to_the_text_that_won() -> None:
    patch = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  ports:\n  - port: 80\n    nodePort: 99999\n"
    loaded = load([SourceText("f", SERVICE), SourceText("g", POD)], [SourceText("p", patch)])
    assert [str(f.place) for f in loaded.errors] == ["p:7:15"]
    patch = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {type: NodePort}\n"
    base = SERVICE.replace("port: 80", "port: 80\n    nodePort: 99999")
    loaded = load([SourceText("f", base), SourceText("g", POD)], [SourceText("p", patch)])
    assert [str(f.place) for f in loaded.errors] == ["f:9:15"]


@pytest.mark.parametrize(
    ("text", "observed"),
    [
        (POD, False),
        (POD + "status: {}\n", False),
        (POD + "status: {conditions: [], phase: ''}\n", False),
        (POD + "status: {phase: Running}\n", True),
        (POD.replace("name: web\n", "name: web\n  uid: u\n", 1), True),
        (POD.replace("name: web\n", "name: web\n  resourceVersion: '5'\n", 1), True),
        (SERVICE + "status: {loadBalancer: {}}\n", False),
        ("apiVersion: v1\nkind: Node\nmetadata: {name: x}\n"
         "status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}",
         False),
        ("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: e}\naddressType: IPv4\n", True),
    ],
)  # fmt: skip
def test_what_counts_as_observed(text: str, observed: bool) -> None:
    assert read(text).documents[0].observed is observed


def test_a_dump_is_read_with_its_newest_moment_as_zero() -> None:
    dump = """apiVersion: v1
kind: Pod
metadata:
  name: a-1
  namespace: ns
  uid: u1
  creationTimestamp: "2024-05-01T10:00:00Z"
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: a, uid: r, controller: true}]
spec:
  nodeName: node-a
  containers: [{name: c, image: i, env: [{name: X, value: w}, {name: Z, valueFrom: {fieldRef: {fieldPath: f}}}]}]
status:
  phase: Running
  podIP: 10.0.0.9
  podIPs: [{ip: 10.0.0.9}, {ip: "fd00::9"}]
  hostIP: 10.1.0.1
  startTime: "2024-05-01T10:00:01Z"
  conditions:
  - {type: Ready, status: "True", lastTransitionTime: "2024-05-01T10:00:10Z"}
  containerStatuses:
  - {name: c, ready: true, restartCount: 2, state: {running: {startedAt: "2024-05-01T10:00:05Z"}},
     lastState: {terminated: {exitCode: 137, finishedAt: "2024-05-01T10:00:04Z"}}}
"""
    pod = read(dump).objects[0]
    assert isinstance(pod, Pod)
    assert pod.meta.creation_ns == -10_000_000_000
    assert pod.meta.owner == Key("ReplicaSet", "ns", "a")
    assert pod.status.ready_since_ns == 0
    assert pod.status.pod_ips == ("10.0.0.9", "fd00::9")
    assert pod.status.containers[0].started_ns == -5_000_000_000
    assert (pod.status.containers[0].exit_code, pod.status.restarts) == (137, 2)
    assert pod.spec.containers[0].env == (("X", "w"),)


def test_defaults_of_the_api_server() -> None:
    service, pod = read(SERVICE, POD).objects
    assert isinstance(service, Service)
    assert isinstance(pod, Pod)
    assert (service.ports[0].target, service.ports[0].protocol, service.type) == (80, "TCP", "ClusterIP")
    assert (service.affinity_timeout_s, service.internal_traffic_policy) == (10800, "Cluster")
    assert (pod.spec.grace_s, pod.spec.restart_policy, pod.meta.namespace) == (30, "Always", "default")
    loaded = load([SourceText("f", SERVICE)], default_namespace="shop")
    assert loaded.objects[0].key == Key("Service", "shop", "web")


def test_a_pre_stop_sleep_is_seen_in_each_way_of_writing_it() -> None:
    for hook in (
        "{sleep: {seconds: 5}}", "{exec: {command: [sleep, '5']}}", "{exec: {command: [/bin/sh, -c, sleep 5]}}",
    ):  # fmt: skip
        pod = read(POD.replace("image: i", f"image: i\n    lifecycle: {{preStop: {hook}}}")).objects[0]
        assert isinstance(pod, Pod)
        assert pod.spec.containers[0].pre_stop_sleep_s == 5


def test_a_stateful_sets_claims_are_volumes() -> None:
    text = DEPLOYMENT.replace("Deployment", "StatefulSet").replace(
        "image: i", "image: i\n        volumeMounts: [{name: data, mountPath: /d}]"
    )
    assert complaints(text) == []
    assert isinstance(read(text).objects[0], StatefulSet)


def test_update_strategies_of_sets_are_read_written_and_checked() -> None:
    extra = """spec:
  minReadySeconds: 5
  ordinals: {start: 2}
  updateStrategy: {rollingUpdate: {partition: 1, maxUnavailable: 30%}}
"""
    ordered = DEPLOYMENT.replace("Deployment", "StatefulSet").replace("spec:\n", extra, 1)
    (db,) = read(ordered).objects
    assert isinstance(db, StatefulSet)
    assert (db.partition, db.max_unavailable, db.min_ready_s, db.start_ordinal) == (1, "30%", 5, 2)
    written = to_tree(db)["spec"]
    assert written["updateStrategy"]["rollingUpdate"] == {"partition": 1, "maxUnavailable": "30%"}
    assert (written["ordinals"], written["minReadySeconds"]) == ({"start": 2}, 5)

    daemons = (
        DEPLOYMENT.replace("Deployment", "DaemonSet")
        .replace("  replicas: 2\n", "")
        .replace("spec:\n", "spec:\n  updateStrategy: %s\n", 1)
    )
    (agent,) = read(daemons % "{type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}").objects
    assert isinstance(agent, DaemonSet)
    assert agent.update == RollingUpdate("RollingUpdate", 1, 0)
    for strategy, words in (
        ("{type: Sometimes}", 'supported values: "OnDelete", "RollingUpdate"'),
        ("{rollingUpdate: {maxSurge: 1}}", "may not be set when maxUnavailable is non-zero"),
        ("{rollingUpdate: {maxUnavailable: 0}}", "cannot be 0 when maxSurge is 0"),
    ):
        assert words in one(daemons % strategy).message


@pytest.mark.parametrize(
    ("text", "old", "new", "assumption"),
    [
        (DEPLOYMENT, "  replicas: 2", "  strategy: {rollingUpdate: {maxSurge: many}}", "25%"),
        (DEPLOYMENT, "image: i", "image: i\n        resources: {requests: {cpu: lots}}", "this entry is left out"),
        (POD, "containerPort: 80", "containerPort: 80\n      protocol: udp", "protocol UDP"),
        ("apiVersion: v1\nkind: Node\nmetadata: {name: a}\nspec: {podCIDR: x}\n", "x", "10.0.0.0", "it is left out"),
        ("apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: iptables\n", "iptables",
         "userspace", "mode iptables"),
    ],
)  # fmt: skip
def test_values_that_nothing_could_work_with_are_replaced(text: str, old: str, new: str, assumption: str) -> None:
    found = one(text.replace(old, new, 1))
    assert (found.severity, found.assumption) == (Severity.REFUSED, assumption)


def test_addresses_that_are_none_do_not_come_through() -> None:
    text = SERVICE.replace("spec:\n", "spec:\n  clusterIP: here\n  externalIPs: [there, 10.0.0.1]\n")
    service = read(text, POD).objects[0]
    assert isinstance(service, Service)
    assert (service.cluster_ips, service.external_ips) == ((), ("10.0.0.1",))


def test_numbers_that_do_not_fit_are_errors() -> None:
    (error,) = read(DEPLOYMENT.replace("replicas: 2", "replicas: 4294967296")).errors
    assert error.message == "spec.replicas: cannot unmarshal number 4294967296 into Go struct field of type int32"


def test_an_empty_entry_of_a_list_is_an_error() -> None:
    (error,) = read(DEPLOYMENT.replace("image: i", "image: i\n        args: [a, ~]")).errors
    assert error.message == "spec.template.spec.containers[0].args[1]: must be a string, got nothing"
