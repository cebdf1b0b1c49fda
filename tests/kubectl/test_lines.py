"""The command line: what can be typed, pipes, and one clear line for what cannot."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kflab.errors import KflabError
from kflab.kubectl.commands import (
    Conntrack,
    Curl,
    Describe,
    Get,
    IptablesSave,
    Line,
    Logs,
    Nothing,
    PortForward,
    ScaleTo,
    Target,
)
from kflab.kubectl.complete import completions
from kflab.kubectl.curl import CurlAnswer
from kflab.kubectl.execute import run, run_line
from kflab.kubectl.parse import parse
from kflab.manifest.objects import Key

from .cluster import NAMES, RULES, FakeLab, brief


def command(line: str) -> object:
    return parse(line).command


def test_kubectl_may_be_left_out_and_options_stand_anywhere() -> None:
    wanted = Get(("pods",), (), "shop", False, "wide")
    for line in (
        "kubectl get pods -n shop -o wide",
        "get -n shop pods -owide",
        "kubectl -n shop get pods --output=wide",
        "$ kubectl get pods --namespace shop -o=wide",
    ):
        assert command(line) == wanted


def test_shapes() -> None:
    assert command("describe svc/a ing/b") == Describe((), (Target("svc", "a"), Target("ing", "b")))
    assert command("get -Ao name svc,ep") == Get(("svc", "ep"), (), "", True, "name")
    assert command("logs -f web -c nginx --tail=5 --since 1m30s") == Logs(
        Target("pod", "web"), container="nginx", tail=5, since_ns=90_000_000_000, follow=True
    )
    assert command("scale --replicas=5 deployment product") == ScaleTo((Target("deployment", "product"),), 5)
    assert command("port-forward svc/web 8080:http :443 9090") == PortForward(
        Target("svc", "web"), ((8080, "http"), (None, "443"), (9090, "9090"))
    )
    assert command("ssh core@node-b sudo iptables-save") == IptablesSave("node-b")
    assert command("ssh node-b sudo conntrack -L -p tcp") == Conntrack("node-b", protocol="TCP")
    assert command("conntrack -L conntrack --node=node-a -s 10.0.0.1 --orig-port-dst 80 -n -u assured") == Conntrack(
        "node-a", src="10.0.0.1", dport=80, src_nat=True, status="ASSURED"
    )
    assert command("exec -it web -- curl -s http://cart/") == Curl("http://cart/", Target("pod", "web"), silent=True)
    assert command("curl --from shop/web cart:8080/x") == Curl("http://cart:8080/x", Target("pod", "web"), "shop")
    assert parse("  # just a comment | grep x") == Line(Nothing())
    assert command("kubectl get endpoints product-service  # Should show Pod IPs") == Get(
        (), (Target("endpoints", "product-service"),)
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("gte pods", "did you mean get?"),
        ("get", "required resource not specified"),
        ("conntrack", "one of -L (list), -C (count) and -S (statistics)"),
        ("conntrack -L -p icmp", "protocol 'icmp' is not tracked here; tcp, udp or sctp"),
        ("conntrack -L --dport 70000", "port 70000 is not in 0–65535"),
        ("conntrack -D -p udp", "not -D: entries end by their timeouts"),
        ("conntrack -L node-b", "another node's table: --node NODE"),
        ("get pods -o jsonpath=x", "json,name,wide,yaml"),
        ("get pods --naemspace x", "did you mean --namespace?"),
        ("get pods -w", "`-w` would wait"),
        ("get pods; rm -rf /", "needs a shell"),
        ("get pods > file", "needs a shell"),
        ("get pods && reboot", "needs a shell"),
        ("curl $(hostname)", "substitutions need a shell"),
        ("get 'pods", "a ' is open"),
        ("get pods |", "nothing stands on one side"),
        ("get pods | awk x", "there is no 'awk' behind a pipe"),
        ("apply -f x", "press ctrl+s"),
        ("delete svc web", "only pods can be deleted"),
        ("scale deployment/x", '"replicas" not set'),
        ("scale deployment/x --replicas=-1", "greater than or equal to 0"),
        ("scale deployment/x --replicas=999999999", "at most"),
        ("port-forward web 99999:1", "not in 0–65535"),
        ("curl ftp://x/", 'Protocol "ftp" not supported'),
        ("exec web -- bash", "run no bash"),
        ("logs --since=yesterday web", "a duration like 5s"),
        ("get pod a -A x", "across all namespaces"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(line: str, words: str) -> None:
    with pytest.raises(KflabError) as caught:
        parse(line)
    assert words in caught.value.message
    assert "\n" not in caught.value.message


@given(
    st.text(max_size=60)
    | st.from_regex(r"(get|logs|curl|grep|describe) [-/|'\"a-z\[\]()\\*+.$#& ]{0,40}", fullmatch=True)
)
@settings(max_examples=300, deadline=None)
def test_no_line_brings_it_down(line: str) -> None:
    text = run_line(line, _STORE, FakeLab())
    assert "\x1b" not in text


_STORE = brief()


def test_iptables_save_and_grep() -> None:
    lab = FakeLab()
    outcome = run("iptables-save | grep product-service", _STORE, lab)
    assert outcome.out.splitlines() == [line for line in RULES.splitlines() if "product-service" in line]
    assert run("iptables-save --node node-b", _STORE, lab).out.startswith("# rules of node-b\n")
    assert "*filter" not in run("iptables-save -t nat", _STORE, lab).out
    assert "there is no node 'x'; nodes: node-a, node-b" in run("iptables-save --node x", _STORE, lab).text


@pytest.mark.parametrize(
    ("pipe", "out"),
    [
        ("grep -c KUBE-SVC", "3\n"),
        ("grep -E 'KUBE-(SVC|SEP)-[A-Z0-9]+$' | wc -l", "3\n"),
        (r"grep 'KUBE-\(SVC\|SEP\)-[A-Z0-9]*$' | wc -l", "3\n"),
        ("grep -i commit | sort -u", "COMMIT\n"),
        ("grep -v KUBE | head -n 2", "# rules of node-a\n*nat\n"),
        ("grep -o 'dport [[:digit:]]*'", ""),
        ("grep -F '*filter' -A1", "*filter\n:KUBE-FIREWALL - [0:0]\n"),
        ("tail -1", "COMMIT\n"),
        ("tail -n +9 | head -1", ":KUBE-FIREWALL - [0:0]\n"),
        ("grep -n '^COMMIT'", "7:COMMIT\n10:COMMIT\n"),
        ("grep -w udp | wc -l", "1\n"),
        ("grep '*nat'", "*nat\n"),
    ],
)
def test_pipes(pipe: str, out: str) -> None:
    assert run(f"iptables-save | {pipe}", _STORE, FakeLab()).out == out


def test_bad_pattern_is_one_line() -> None:
    assert run_line("iptables-save | grep -E '(' ", _STORE, FakeLab()).startswith(
        "grep: '(' is not a regular expression"
    )
    assert run_line("iptables-save | grep '[x'", _STORE, FakeLab()) == "grep: Unmatched [, [^, [:, [., or [=\n"


def test_warnings_are_not_piped() -> None:
    outcome = run("get ep | grep -c .", _STORE, FakeLab())
    assert outcome.out == "2\n"
    assert outcome.err.startswith("Warning: v1 Endpoints")


def test_scale_and_delete_say_what_kubectl_says() -> None:
    lab = FakeLab()
    assert run_line("scale deployment/product --replicas=5", _STORE, lab) == "deployment.apps/product scaled\n"
    assert run_line(f"delete pod {NAMES[0]}", _STORE, lab) == f'pod "{NAMES[0]}" deleted\n'
    assert lab.done == [
        ("scale", Key("Deployment", "default", "product"), 5),
        ("kill", Key("Pod", "default", NAMES[0]), "delete"),
    ]
    assert run("delete pod nope", _STORE, lab).err == 'Error from server (NotFound): pods "nope" not found\n'
    lab.refusal = "deployments.apps is read-only"
    assert run("scale deployment/product --replicas=5", _STORE, lab).code == 1


def test_curl_shows_body_errors_and_error_pages() -> None:
    lab = FakeLab(answer=CurlAnswer("200", 3_000_000, Key("Pod", "default", NAMES[0]), 17))
    outcome = run("curl https://api.example.com/products", _STORE, lab)
    assert outcome.out == f'{{"path": "/products", "pod": "{NAMES[0]}"}}\n'
    assert outcome.trace_id == 17
    assert lab.asked[0].source is None
    lab.answer = CurlAnswer("502", server="nginx")
    page = run_line("curl -i https://api.example.com/products", _STORE, lab)
    assert page.startswith("HTTP/1.1 502 Bad Gateway\n")
    assert "<center><h1>502 Bad Gateway</h1></center>" in page
    lab.answer = CurlAnswer("refused", 2_000_000)
    assert run_line("curl http://10.96.0.1:81/", _STORE, lab) == (
        "curl: (7) Failed to connect to 10.96.0.1 port 81 after 2 ms: Could not connect to server\n"
    )
    lab.answer = CurlAnswer("no such host")
    assert run("curl http://nope/", _STORE, lab).text == "curl: (6) Could not resolve host: nope\n"
    run(f"kubectl exec {NAMES[1]} -- curl http://product-service", _STORE, lab)
    assert lab.asked[-1].source == Key("Pod", "default", NAMES[1])


def test_completions_are_whole_lines() -> None:
    assert "kubectl get" in completions("kubectl g", _STORE)
    assert completions("get svc prod", _STORE) == ("get svc product-service",)
    assert completions("kubectl -n", _STORE) == ()
    assert f"logs {NAMES[0]}" in completions("logs ", _STORE)
    assert completions("get pods -n ingress-nginx ingress", _STORE)[0].endswith("ingress-nginx-controller-5d-aaaaa")
    assert completions("iptables-save | gr", _STORE) == ("iptables-save | grep",)
    assert completions("get pods -n def", _STORE) == ("get pods -n default",)
    for line in ("describe ing", "port-forward ", "scale ", "rollout ", "delete pod "):
        assert all(found.startswith(line) for found in completions(line, _STORE))


def test_conntrack_prints_as_the_tool_does_and_says_how_full_the_table_is() -> None:
    shown = run("conntrack -L --node node-a -d 10.96.100.50", brief(), FakeLab())
    assert shown.out == (
        "tcp      6 86397 ESTABLISHED src=10.244.1.10 dst=10.96.100.50 sport=39123 dport=80 "
        "src=10.244.2.25 dst=10.244.1.10 sport=8080 dport=39123 [ASSURED] mark=0 use=1\n"
    )
    assert "1 flow entry has been shown." in shown.err
    assert "node-a: 1234 of 131072 entries (nf_conntrack_max)\n# 1233 more" in shown.err
    assert run("conntrack -L --node node-a -n", brief(), FakeLab()).out == ""
    assert run("conntrack -C --node node-a", brief(), FakeLab()).out == "1234\n"
    assert run("conntrack -L --node node-x", brief(), FakeLab()).text.startswith("error: there is no node 'node-x'")
