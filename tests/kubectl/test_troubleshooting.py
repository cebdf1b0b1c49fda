"""Every command of the overview's "Quick Troubleshooting" block works as it is written there."""

import re
from pathlib import Path

import pytest

from kflab.kubectl.commands import Nothing
from kflab.kubectl.curl import CurlAnswer
from kflab.kubectl.execute import run, run_line
from kflab.kubectl.parse import parse
from kflab.kubectl.portforward import Forward
from kflab.manifest.objects import Key

from .cluster import NAMES, FakeLab, brief, pod

BLOCK = """\
# 1. Check Service
kubectl get svc product-service
kubectl get endpoints product-service  # Should show Pod IPs

# 2. Check Ingress
kubectl get ingress
kubectl describe ingress api-ingress

# 3. Test Pod directly
kubectl port-forward pod/product-abc123 8080:8080
curl localhost:8080/products

# 4. Check iptables rules
iptables-save | grep product-service

# 5. Check Ingress logs
kubectl logs -n ingress-nginx deployment/ingress-nginx-controller
"""


def test_block_is_the_overviews() -> None:
    overview = Path(__file__).resolve().parents[2] / ".." / "shared" / "brief" / "request-flow-overview.md"
    if not overview.exists():
        pytest.skip("the overview is not beside this checkout")
    text = overview.read_text(encoding="utf-8")
    found = re.search(r"## Quick Troubleshooting\n+```bash\n(.*?)```", text, re.DOTALL)
    assert found is not None
    assert found[1] == BLOCK


def test_every_line_of_the_block_runs() -> None:
    store, lab = brief(), FakeLab()
    lab.answer = CurlAnswer("200", 3_000_000, Key("Pod", "default", NAMES[2]), 5)
    printed = {}
    for line in BLOCK.replace("product-abc123", NAMES[2]).splitlines():
        outcome = run(line, store, lab)
        assert outcome.code == 0, (line, outcome)
        if not isinstance(parse(line).command, Nothing):
            printed[line.split("#")[0].strip()] = outcome.text
    assert len(printed) == 8
    assert all(printed.values())
    assert "10.244.2.25:8080" in printed["kubectl get endpoints product-service"]
    assert printed[f"kubectl port-forward pod/{NAMES[2]} 8080:8080"] == (
        "Forwarding from 127.0.0.1:8080 -> 8080\nForwarding from [::1]:8080 -> 8080\n"
    )
    assert printed["curl localhost:8080/products"] == (
        f'Handling connection for 8080\n{{"path": "/products", "pod": "{NAMES[2]}"}}\n'
    )
    assert lab.asked[-1].via == Forward(8080, Key("Pod", "default", NAMES[2]), 8080, f"uid-{NAMES[2]}")
    assert printed["iptables-save | grep product-service"].count("product-service") == 2
    logs = printed["kubectl logs -n ingress-nginx deployment/ingress-nginx-controller"]
    assert logs.startswith("Found 2 pods, using pod/ingress-nginx-controller-5d-aaaaa\n")
    assert logs.count('"GET /products HTTP/1.1" 200') == 3


def test_ingress_log_line_is_upstreaminfo() -> None:
    line = run("logs -n ingress-nginx ingress-nginx-controller-5d-aaaaa --tail=1", brief(), FakeLab()).out
    assert re.fullmatch(
        r'203\.0\.113\.45 - - \[01/Jan/2026:11:59:59 \+0000\] "GET /products HTTP/1\.1" 200 512 "-" "-" 70 0\.005 '
        r"\[default-product-service-80\] \[\] 10\.96\.100\.50:80, 10\.96\.100\.50:80 0, 512 0\.001, 0\.004 502, 200 "
        r"[0-9a-f]{32}\n",
        line,
    )


def test_since_and_tail_choose_lines() -> None:
    store, lab = brief(), FakeLab()
    base = "logs -n ingress-nginx deployment/ingress-nginx-controller"
    assert run(f"{base} --since=5s", store, lab).out.count("\n") == 2
    assert run(f"{base} --tail=0", store, lab).out == ""
    assert run("logs -l app=product --prefix", store, lab).out.startswith(f"[pod/{NAMES[0]}/api] ")


def test_port_forward_to_a_service_stays_with_one_pod_and_translates_the_port() -> None:
    store, lab = brief(), FakeLab()
    assert "127.0.0.1:9000 -> 8080" in run_line("port-forward svc/product-service 9000:80", store, lab)
    assert lab.forwards.get(9000) == Forward(9000, Key("Pod", "default", NAMES[0]), 8080, f"uid-{NAMES[0]}")
    assert "does not have a service port 81" in run_line("port-forward svc/product-service 9001:81", store, lab)
    assert "address already in use" in run_line(f"port-forward {NAMES[1]} 9000:8080", store, lab)
    assert "-> pod/" in run_line("port-forward", store, lab)
    assert run("port-forward stop 9000", store, lab).code == 0
    assert lab.forwards.active() == ()


def test_a_forward_is_lost_with_its_pod() -> None:
    store, lab = brief(), FakeLab()
    run(f"port-forward pod/{NAMES[0]} 8080:http", store, lab)
    store.delete(Key("Pod", "default", NAMES[0]), 0, "test")
    assert run_line("curl localhost:8080/products", store, lab) == (
        "Handling connection for 8080\nerror: lost connection to pod\ncurl: (52) Empty reply from server\n"
    )
    assert not lab.asked
    again = run_line("curl localhost:8080/products", store, lab)
    assert again == "curl: (7) Failed to connect to localhost port 8080 after 0 ms: Could not connect to server\n"


def test_nothing_listening_in_the_pod_closes_the_connection() -> None:
    store, lab = brief(), FakeLab(answer=CurlAnswer("refused"))
    run(f"port-forward pod/{NAMES[0]} 8080:9999", store, lab)
    text = run_line("curl localhost:8080/", store, lab)
    assert "connect: connection refused" in text
    assert text.endswith("curl: (52) Empty reply from server\n")


def test_stopped_kubelet_answers_neither_logs_nor_port_forward() -> None:
    store, lab = brief(), FakeLab(stopped={"kubelet/node-b"})
    for line in (f"logs {NAMES[0]}", f"port-forward pod/{NAMES[0]} 8080:8080"):
        assert "dial tcp 10.0.1.51:10250: connect: connection refused" in run_line(line, store, lab)


def test_a_node_off_the_network_answers_no_logs_after_a_timeout() -> None:
    assert "dial tcp 10.0.1.51:10250: i/o timeout" in run_line(
        f"logs {NAMES[0]}", brief(), FakeLab(stopped={"node/node-b"})
    )


def test_pending_pods_have_no_logs_and_no_forward() -> None:
    store, lab = brief(), FakeLab()
    store.put(pod("new", "", "", phase="Pending", ready=False), 0, "test")
    assert "does not have a host assigned" in run_line("logs new", store, lab)
    assert run_line("port-forward new 80:80", store, lab) == (
        "error: unable to forward port because pod is not running. Current status=Pending\n"
    )
