"""HorizontalPodAutoscalers: defaults, what the API server would refuse, and what is written back."""

import pytest

from kflab.manifest.loader import load
from kflab.manifest.objects import Key
from kflab.manifest.objects_autoscaler import CpuTarget, ScalingPolicy
from kflab.manifest.quantities import milli_of, milli_text
from kflab.manifest.sources import SourceText
from kflab.manifest.write import to_yaml

PLAIN = """apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: shop, namespace: default}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: shop}
  maxReplicas: 10
"""


def read(text):
    loaded = load([SourceText("hpa.yaml", text)])
    return loaded.objects[0], [f"{found.place.line}: {found.message}" for found in loaded.findings if found.place]


def test_defaults_are_one_replica_and_eighty_per_cent_and_no_behavior():
    hpa, findings = read(PLAIN)
    assert findings == []
    assert (hpa.target, hpa.min_replicas, hpa.max_replicas) == (Key("Deployment", "default", "shop"), 1, 10)
    assert hpa.cpu == CpuTarget(utilization=80)
    assert hpa.up is hpa.down is None
    assert "averageUtilization: 80" in to_yaml(hpa)


def test_a_behavior_fills_what_it_does_not_say():
    hpa, findings = read(PLAIN + "  behavior: {scaleUp: {policies: [{type: Pods, value: 1, periodSeconds: 60}]}}\n")
    assert findings == []
    assert hpa.up.policies == (ScalingPolicy("Pods", 1, 60),)
    assert (hpa.up.window_s, hpa.up.select, hpa.down.window_s) == (0, "Max", None)
    assert hpa.down.policies == (ScalingPolicy("Percent", 100, 15),)


def test_version_1_is_served_too():
    text = PLAIN.replace("autoscaling/v2", "autoscaling/v1") + "  targetCPUUtilizationPercentage: 50\n"
    hpa, findings = read(text)
    assert findings == []
    assert hpa.cpu == CpuTarget(utilization=50)


def test_metrics_other_than_cpu_are_said_to_scale_nothing():
    memory = "{type: Resource, resource: {name: memory, target: {type: Utilization, averageUtilization: 60}}}"
    queue = "{type: External, external: {metric: {name: queue}, target: {type: Value, value: 5}}}"
    cpu = "{type: Resource, resource: {name: cpu, target: {type: AverageValue, averageValue: 250m}}}"
    hpa, findings = read(f"{PLAIN}  metrics:\n  - {memory}\n  - {queue}\n  - {cpu}\n")
    assert hpa.cpu == CpuTarget(average_milli=250)
    assert hpa.left_out == ("Resource memory", "External queue")
    assert [line[:3] for line in findings] == ["8: ", "9: "]
    assert all("not modelled" in line for line in findings)


@pytest.mark.parametrize(
    ("line", "where", "words"),
    [
        ("  minReplicas: 20", "7: ", "must be greater than or equal to `minReplicas`"),
        ("  minReplicas: -1", "7: ", "must be greater than or equal to 1"),
        ("  behavior: {scaleDown: {stabilizationWindowSeconds: 4000}}", "7: ", "less than or equal to 3600"),
        ("  behavior: {scaleUp: {selectPolicy: Most}}", "7: ", 'Unsupported value: "Most"'),
        ("  behavior: {scaleUp: {policies: [{type: Pods, value: 0, periodSeconds: 9}]}}", "7: ", "greater than 0"),
        ("  targetCPUUtilizationPercentage: 50", "7: ", "belongs to autoscaling/v1"),
    ],
)
def test_what_the_api_server_refuses_is_said_with_its_place(line, where, words):
    _, findings = read(f"{PLAIN}{line}\n")
    assert any(words in found and found.startswith((where, "6: ")) for found in findings), findings


@pytest.mark.parametrize(
    ("text", "milli"),
    [("100m", 100), ("0.5", 500), (2, 2000), ("1.0001", 1001), ("1e3", 1_000_000), ("250u", 1), ("x", None)],
)
def test_amounts_of_cpu(text, milli):
    assert milli_of(text) == milli


def test_amounts_are_printed_as_kubernetes_does():
    assert [milli_text(n) for n in (250, 1500, 2000, 0)] == ["250m", "1500m", "2", "0"]


def test_each_direction_may_have_a_tolerance_and_none_below_zero():
    hpa, findings = read(PLAIN + "  behavior: {scaleUp: {tolerance: 0.02}, scaleDown: {tolerance: -0.5}}\n")
    assert (hpa.up.tolerance_milli, hpa.down.tolerance_milli) == (20, None)
    assert ["HPAConfigurableTolerance" in found for found in findings] == [True, False]
    assert "greater than or equal to zero" in findings[1]
    assert "tolerance: 20m" in to_yaml(hpa) or "tolerance: 0.02" in to_yaml(hpa)
