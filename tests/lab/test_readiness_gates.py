"""Pods wait for their readiness gates: gates of nobody's, and those of the AWS Load Balancer Controller."""

import pytest

from kflab.control.facts import What
from kflab.lab.commands import Act, Apply, Run
from kflab.lab.handle import Tab
from kflab.lab.running import Lab
from kflab.lab.spec import LabSpec
from kflab.manifest.objects import Key
from kflab.manifest.objects_network import EndpointSlice
from kflab.manifest.objects_pods import Pod

S = 10**9

WEB = Key("Deployment", "shop", "web")

NAMESPACE = """
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {LABEL}}
---
"""
INJECT = "elbv2.k8s.aws/pod-readiness-gate-inject: enabled"

APP = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      GATES
      containers: [{name: web, image: x, ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: shop
  annotations: {service.beta.kubernetes.io/aws-load-balancer-nlb-target-type: TARGETS}
spec:
  type: LoadBalancer
  loadBalancerClass: service.k8s.aws/nlb
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: more, port: 81, targetPort: 8080}]
---
"""

INGRESS = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop, annotations: {alb.ingress.kubernetes.io/target-type: ip}}
spec:
  ingressClassName: alb
  defaultBackend: {service: {name: web, port: {number: 80}}}
"""


def text_of(label: str = "", gates: str = "", targets: str = "ip", more: str = "") -> str:
    return NAMESPACE.replace("LABEL", label) + APP.replace("GATES", gates).replace("TARGETS", targets) + more


def lab_of(label: str = "", gates: str = "", targets: str = "ip", more: str = "") -> Lab:
    tab = Tab("web.yaml", text_of(label, gates, targets, more), None)
    return Lab(LabSpec("gates", (tab,), rate_rps=20.0, nodes=3))


def pods(lab: Lab) -> list[Pod]:
    return [pod for pod in lab.store.of_kind("Pod", "shop") if isinstance(pod, Pod)]


def ready_endpoints(lab: Lab) -> int:
    slices = [obj for obj in lab.store.of_kind("EndpointSlice", "shop") if isinstance(obj, EndpointSlice)]
    return sum(entry.ready is True for piece in slices for entry in piece.endpoints)


def column(lab: Lab) -> set[str]:
    """READINESS GATES of `kubectl get pods -o wide`."""
    printed = lab.do(Run("kubectl get pods -n shop -o wide")).text
    return {line.split()[-1] for line in printed.splitlines()[1:]}


def test_a_gate_that_nobody_passes_keeps_pods_out_until_somebody_does() -> None:
    lab = lab_of(gates="readinessGates: [{conditionType: example.com/warm}]", targets="instance")
    lab.advance(5 * S)
    said = [text for text, _ in lab.assumptions if "example.com/warm" in text]
    assert said == [
        "readiness gate example.com/warm of Deployment shop/web: a controller of yours sets it; here a pod is not "
        "Ready until somebody does"
    ]
    assert (ready_endpoints(lab), column(lab)) == (0, {"0/1"})
    name = pods(lab)[0].meta.name
    shown = lab.do(Run(f"kubectl describe pod {name} -n shop")).text.splitlines()
    at = shown.index("Readiness Gates:")
    assert [line.split() for line in shown[at + 1 : at + 3]] == [["Type", "Status"], ["example.com/warm", "<none>"]]
    conditions = {line.split()[0]: line.split()[1] for line in shown[at + 4 : at + 10]}
    assert (conditions["ContainersReady"], conditions["Ready"]) == ("True", "False")

    assert lab.do(Act("setCondition", Key("Pod", "shop", name), (("type", "example.com/warm"),))).ok
    lab.advance(8 * S)
    assert (ready_endpoints(lab), column(lab)) == (1, {"1/1", "0/1"})
    assert lab.do(Act("setCondition", WEB, (("status", "False"),))).ok
    lab.advance(11 * S)
    assert (ready_endpoints(lab), column(lab)) == (0, {"0/1"})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((("type", "example.com/cold"),), "web has no readiness gate example.com/cold"),
        ((("status", "yes"),), "status 'yes': expected True, False, Unknown"),
    ],
)
def test_a_condition_that_makes_no_sense_is_one_clear_line(options: tuple[tuple[str, str], ...], said: str) -> None:
    lab = lab_of(gates="readinessGates: [{conditionType: example.com/warm}]")
    result = lab.do(Act("setCondition", WEB, options))
    assert not result.ok
    assert said in result.text


def test_an_nlb_gives_each_pod_a_gate_per_port_and_an_ingress_one_more() -> None:
    lab = lab_of(INJECT)
    assert (column(lab), ready_endpoints(lab)) == ({"2/2"}, 2)
    gates = pods(lab)[0].spec.readiness_gates
    assert all(gate.startswith("target-health.elbv2.k8s.aws/k8s-shop-web-") for gate in gates)
    assert not [text for text, _ in lab.assumptions if "until somebody does" in text]
    assert column(lab_of(INJECT, more=INGRESS)) == {"3/3"}


@pytest.mark.parametrize(("label", "targets"), [("", "ip"), (INJECT, "instance")])
def test_without_the_label_or_with_instance_targets_there_is_no_gate(label: str, targets: str) -> None:
    assert column(lab_of(label, targets=targets)) == {"<none>"}


def test_a_rollout_waits_for_the_targets() -> None:
    """Registration of 1 to 5 s, three checks 10 s apart, and the controller looks every 15 s."""
    lab = lab_of(INJECT)
    lab.advance(2 * S)
    assert lab.do(Run("kubectl rollout restart deployment/web -n shop")).ok
    lab.advance(20 * S)
    old = [pod for pod in pods(lab) if pod.status.ready]
    assert (len(old), len(pods(lab))) == (2, 3)
    assert not [fact for fact in lab.facts if fact.what == What.POD_DELETED]
    fresh = next(pod for pod in pods(lab) if pod not in old)
    assert {(c.status, c.reason) for c in fresh.status.conditions} <= {
        ("False", "Elb.RegistrationInProgress"),
        ("False", "Elb.InitialHealthChecking"),
    }
    assert fresh.status.containers_ready
    assert len(fresh.status.conditions) == 2
    lab.advance(60 * S)
    told = [fact.t_ns for fact in lab.facts if fact.what == What.POD_CONDITION_SET and fact.text.endswith("to True")]
    healthy = next(fact.t_ns for fact in lab.facts if "healthy after 3 checks" in fact.text)
    deleted = next(fact.t_ns for fact in lab.facts if fact.what == What.POD_DELETED)
    assert healthy < told[0] <= healthy + 15 * S
    assert told[0] < deleted < told[0] + S


def test_pods_of_a_target_group_that_is_gone_wait_no_longer() -> None:
    lab = lab_of(INJECT)
    lab.advance(2 * S)
    assert lab.do(Run("kubectl rollout restart deployment/web -n shop")).ok
    lab.advance(10 * S)
    assert column(lab) == {"2/2", "0/2"}
    assert lab.do(Apply((("web.yaml", text_of(INJECT, targets="instance")),))).ok
    lab.advance(11 * S)
    assert column(lab) <= {"2/2", "<none>"}  # pods made from now on get no gate


def test_pods_that_were_there_first_get_no_gate_those_made_later_do() -> None:
    lab = lab_of()
    assert lab.do(Apply((("web.yaml", text_of(INJECT)),))).ok
    lab.advance(3 * S)
    assert column(lab) == {"<none>"}
    assert lab.do(Run("kubectl scale deployment/web -n shop --replicas 3")).ok
    lab.advance(8 * S)
    assert column(lab) == {"<none>", "0/2"}


def test_conditions_are_written_and_read_back() -> None:
    lab = lab_of(INJECT)
    printed = lab.do(Run("kubectl get pods -n shop -o yaml")).text
    again = Lab(LabSpec("again", (Tab("dump.yaml", printed, None),), rate_rps=1.0, nodes=3))
    assert [pod.status.conditions for pod in pods(again)] != [(), ()]
    assert column(again) == {"2/2"}
    assert all(pod.status.ready for pod in pods(again))


def test_the_story_does_not_depend_on_the_slabs() -> None:
    lab = lab_of(INJECT)
    lab.advance(2 * S)
    assert lab.do(Run("kubectl rollout restart deployment/web -n shop")).ok
    lab.advance(40 * S)
    digest = lab.digest()
    twin = lab_of(INJECT)
    twin.slab_ns = 70_000_000
    twin.advance(2 * S)
    assert twin.do(Run("kubectl rollout restart deployment/web -n shop")).ok
    twin.advance(40 * S)
    assert twin.digest() == digest
