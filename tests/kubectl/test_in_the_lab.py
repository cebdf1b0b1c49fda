"""The overview's "Quick Troubleshooting" block on the running lab: what kubectl would print of what happened."""

from importlib.util import find_spec
from typing import Any

import pytest

from kflab.lab.commands import Kill, Result, Run
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod

from .test_troubleshooting import BLOCK

PARTS = ("kflab.control.plane", "kflab.engine.engine", "kflab.lab.running", "kflab.scenario.opening")
MISSING = [name for name in PARTS if find_spec(name) is None]

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not there yet: {', '.join(MISSING)}")

SECOND = 1_000_000_000


@pytest.fixture
def lab() -> Any:
    from kflab.lab.running import Lab
    from kflab.scenario.opening import open_what

    lab = Lab(open_what(["overview"]).spec)
    lab.advance(2 * SECOND)
    return lab


def run(lab: Any, line: str) -> Result:
    result: Result = lab.do(Run(line))
    return result


def products(lab: Any) -> list[Pod]:
    pods = [pod for pod in lab.store.of_kind("Pod", "default") if isinstance(pod, Pod)]
    return sorted((pod for pod in pods if pod.meta.labels.get("app") == "product"), key=lambda pod: pod.ip)


def test_every_line_of_the_block(lab: Any) -> None:
    pod = products(lab)[1]
    printed = {}
    for line in BLOCK.replace("product-abc123", pod.meta.name).splitlines():
        command = line.split("#")[0].strip()
        if command:
            result = run(lab, line)
            assert result.ok, (line, result.text)
            printed[command.split(" pod/")[0]] = result
    texts = {line: result.text for line, result in printed.items()}
    service = texts["kubectl get svc product-service"].splitlines()
    assert service[0].split() == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]
    assert service[1].split()[:5] == ["product-service", "ClusterIP", "10.96.100.50", "<none>", "80/TCP"]
    endpoints = texts["kubectl get endpoints product-service"].splitlines()
    assert endpoints[0].startswith("Warning: v1 Endpoints is deprecated in v1.33+")
    assert endpoints[2].split()[1] == "10.244.2.25:8080,10.244.2.26:8080,10.244.2.27:8080"
    ingress = texts["kubectl get ingress"].splitlines()
    assert ingress[0].split() == ["NAME", "CLASS", "HOSTS", "ADDRESS", "PORTS", "AGE"]
    assert ingress[1].split()[:3] == ["api-ingress", "nginx", "api.example.com"]
    described = texts["kubectl describe ingress api-ingress"]
    assert "/products   product-service:80 (10.244.2.25:8080,10.244.2.26:8080,10.244.2.27:8080)" in described
    assert "Forwarding from 127.0.0.1:8080 -> 8080" in texts["kubectl port-forward"]
    answer = printed["curl localhost:8080/products"]
    assert f'"pod": "{pod.meta.name}"' in answer.text
    assert answer.trace_id is not None
    rules = texts["iptables-save | grep product-service"].splitlines()
    assert any(line.startswith("-A KUBE-SERVICES") and "10.96.100.50/32" in line for line in rules)
    logs = texts["kubectl logs -n ingress-nginx deployment/ingress-nginx-controller"]
    assert '"GET /products HTTP/' in logs
    assert "[default-product-service-80]" in logs
    assert "10.96.100.50:80" in logs


def test_a_forwarded_request_goes_through_no_rule(lab: Any) -> None:
    pod = products(lab)[0]
    run(lab, f"port-forward pod/{pod.meta.name} 8080:8080")
    trace = lab.open_request(run(lab, "curl localhost:8080/products").trace_id)
    assert not [rule for hop in trace.hops for rule in hop.rules]
    assert trace.hops[-1].after is not None
    assert trace.hops[-1].after.destination == f"{pod.ip}:8080"


def test_a_crash_shows_in_status_and_restarts(lab: Any) -> None:
    pod = products(lab)[0]
    lab.do(Kill(pod.key, "crash"))
    before = run(lab, f"get pod {pod.meta.name} --no-headers").text.split()
    assert before[1:4] == ["1/1", "Running", "0"], "nobody has noticed yet"
    lab.advance(lab.t_ns + 10 * SECOND)
    after = run(lab, f"get pod {pod.meta.name} --no-headers").text.split()
    assert after[3] == "1"
    assert after[5] == "ago)"


def test_scale_and_rollout_status(lab: Any) -> None:
    assert run(lab, "scale deployment/product --replicas=5").text == "deployment.apps/product scaled\n"
    lab.advance(lab.t_ns + 20 * SECOND)
    assert run(lab, "rollout status deployment/product").text == 'deployment "product" successfully rolled out\n'
    assert len(products(lab)) == 5
    assert "+ 2 more..." in run(lab, "get ep product-service").text


def test_stopped_api_server_says_so(lab: Any) -> None:
    from kflab.lab.commands import Start, Stop

    lab.do(Stop("apiserver"))
    assert "was refused - did you specify the right host or port?" in run(lab, "get pods").text
    lab.do(Start("apiserver"))
    assert lab.store.get(Key("Service", "default", "product-service")) is not None
    assert run(lab, "get pods").ok


def test_rollout_restart_undo_pause_and_history(lab: Any) -> None:
    assert run(lab, "rollout undo deployment/product").text == (
        'error: no rollout history found for deployment "product"\n'
    )
    assert run(lab, "set image deployment/product web=x:2").text.startswith("error: unable to find container")
    assert run(lab, "rollout restart deployment/product").text == "deployment.apps/product restarted\n"
    assert "spec update to be observed" in run(lab, "rollout status deployment/product").text
    lab.advance(lab.t_ns + SECOND)
    assert run(lab, "rollout status deployment/product").text == (
        'Waiting for deployment "product" rollout to finish: 1 out of 3 new replicas have been updated...\n'
    )
    lab.advance(lab.t_ns + 40 * SECOND)
    assert run(lab, "rollout status deployment/product").text == 'deployment "product" successfully rolled out\n'
    history = run(lab, "rollout history deployment/product").text
    assert history.splitlines()[0] == "deployment.apps/product "
    assert [line.split() for line in history.splitlines()[1:4]] == [
        ["REVISION", "CHANGE-CAUSE"], ["1", "<none>"], ["2", "<none>"]
    ]  # fmt: skip
    assert "kubectl.kubernetes.io/restartedAt" in run(lab, "rollout history deployment/product --revision 2").text
    assert run(lab, "rollout pause deployment/product").text == "deployment.apps/product paused\n"
    assert "you cannot rollback a paused deployment" in run(lab, "rollout undo deployment/product").text
    assert run(lab, "rollout resume deployment/product").text == "deployment.apps/product resumed\n"
    lab.advance(lab.t_ns + SECOND)
    assert run(lab, "rollout undo deployment/product --to-revision=2").text == (
        "deployment.apps/product skipped rollback (current template already matches revision 2)\n"
    )
    assert run(lab, "rollout undo deployment/product").text == "deployment.apps/product rolled back\n"
    lab.advance(lab.t_ns + 40 * SECOND)
    sheet = run(lab, "describe deployment product").text
    assert "deployment.kubernetes.io/revision: 3" in sheet
    assert ["Progressing", "True", "NewReplicaSetAvailable"] in [line.split() for line in sheet.splitlines()]
