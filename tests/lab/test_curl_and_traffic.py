"""`curl` and traffic say the same, row by row of lifecycle.md section 3, whichever way they take.

The ways: the Service's ClusterIP from a pod, its NodePort from outside, ingress-nginx, and (curl alone) the pod's own
address. One pod is behind them, on a node where nobody calls from and no ingress is.
"""

import re
from collections.abc import Callable

import pytest
from small_labs import S, indent, kept_rows, pods

from kflab.kubectl.curl import CurlRequest, render
from kflab.kubectl.outcome import Outcome
from kflab.kubectl.parse_curl import parse_curl
from kflab.lab.commands import Act, Apply, Kill, Scale, Stop
from kflab.lab.records import Record, status_text
from kflab.lab.running import Lab
from kflab.manifest.objects import Key
from kflab.scenario.format import load_text

MANIFESTS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      nodeSelector: {kubernetes.io/hostname: node-2}
      containers: [{name: c, image: "web:1", ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080, nodePort: 30080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: app}
spec: {nodeName: node-1, containers: [{name: c, image: "app:1"}]}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: nginx}
spec: {controller: k8s.io/ingress-nginx}
---
apiVersion: v1
kind: Service
metadata: {name: edge}
spec: {type: NodePort, selector: {app: edge}, ports: [{port: 80, targetPort: 80, nodePort: 30090}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: edge}
spec:
  replicas: 1
  selector: {matchLabels: {app: edge}}
  template:
    metadata: {labels: {app: edge}}
    spec:
      nodeSelector: {kubernetes.io/hostname: node-1}
      containers:
      - name: controller
        image: registry.k8s.io/ingress-nginx/controller:v1.15.1
        args: [/nginx-ingress-controller, --controller-class=k8s.io/ingress-nginx, --ingress-class=nginx]
        ports: [{containerPort: 80}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop}
spec:
  ingressClassName: nginx
  rules:
  - http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
"""

CLIENTS = """clients:
- {name: inside, from: default/app, url: http://web/, rate: RATE}
- {name: outside, url: "http://10.0.1.11:30080/", rate: RATE}
- {name: shop, url: "http://10.0.1.11:30090/", rate: RATE, method: METHOD}
"""

NODE = Key("Node", "", "node-2")


def lab_with(text: str, clients: str, cluster: str = "") -> Lab:
    head = "kflab: scenario/v1\nseed: 3\nduration: 300s\nmanifests:\n  documents:\n  - name: a.yaml\n    text: |\n"
    return Lab(load_text(f"{head}{indent(text)}cluster: {{nodes: 3{cluster}}}\n{clients}", "test").spec)


def lab_of(cluster: str, method: str, rate: int = 3) -> Lab:
    return lab_with(MANIFESTS, CLIENTS.replace("METHOD", method).replace("RATE", str(rate)), cluster)


def blind(lab: Lab) -> None:
    """Nobody learns of anything any more."""
    assert lab.do(Stop("apiserver")).ok


def stale(lab: Lab) -> None:
    """Rules and upstreams stay as they are."""
    names = [f"kube-proxy/{key.name}" for key in lab.store.keys("Node")]
    for name in (*names, *(f"ingress/default/{key.name}" for key in pods(lab, "edge"))):
        assert lab.do(Stop(name)).ok


def crash(lab: Lab) -> None:
    blind(lab)
    assert lab.do(Kill(pods(lab)[0])).ok


def terminate(lab: Lab) -> None:
    stale(lab)
    assert lab.do(Kill(pods(lab)[0], "delete")).ok


def hang(lab: Lab) -> None:
    blind(lab)
    assert lab.do(Act("hang", pods(lab)[0])).ok


def force_delete(lab: Lab) -> None:
    stale(lab)
    assert lab.do(Kill(pods(lab)[0], "force")).ok


def power_off(lab: Lab) -> None:
    blind(lab)
    assert lab.do(Act("powerOff", NODE)).ok


def no_endpoints(lab: Lab) -> None:
    assert lab.do(Scale(Key("Deployment", "default", "web"), 0)).ok


REFUSED = ("refused", 7, r"Failed to connect to \S+ port \d+ after 0 ms: Could not connect to server")
SILENT = ("timeout", 28, r"Failed to connect to \S+ port \d+ after 5000 ms: Timeout was reached")
WAITS = ("timeout", 28, r"Operation timed out after 60000 milliseconds with 0 bytes received")
NO_ROUTE = ("no route", 7, r"Failed to connect to \S+ port \d+ after \d{1,4} ms: Could not connect to server")

LINGERS, HOST_GW = ", delays: {app_exit_s: 30}", ", podNetwork: host-gw"
CALICO = ", cni: calico, delays: {app_exit_s: 60, minimum_grace_s: 80}"

Ending = tuple[str, int, str]
"""Status of traffic, exit code of curl, its message; a page for a digit."""


def page(status: int) -> Ending:
    return str(status), 0, f"<title>{status} "


ROWS: dict[str, tuple[Callable[[Lab], None], str, float, float, str, tuple[Ending, Ending, Ending, Ending], float]] = {
    # what happens, the cluster, s until it shows, s it lasts, method, endings by way, how long NGINX takes in s
    "process dead": (crash, "", 0.01, 0.25, "GET", (REFUSED, REFUSED, page(502), REFUSED), 0),
    "not listening": (terminate, LINGERS, 0.2, 8, "GET", (REFUSED, REFUSED, page(502), REFUSED), 0),
    "not listening, POST": (terminate, LINGERS, 0.2, 8, "POST", (REFUSED, REFUSED, page(502), REFUSED), 0),
    "hung": (hang, "", 1, 8, "GET", (WAITS, WAITS, page(504), WAITS), 180),
    "hung, POST": (hang, "", 1, 8, "POST", (WAITS, WAITS, page(504), WAITS), 60),
    "address gone": (force_delete, "", 8, 8, "GET", (SILENT, SILENT, page(504), SILENT), 15),
    "address gone, POST": (force_delete, "", 8, 8, "POST", (SILENT, SILENT, page(504), SILENT), 15),
    "network gone": (force_delete, CALICO, 0.3, 8, "GET", (SILENT, SILENT, page(504), SILENT), 15),
    "node dead": (power_off, "", 1, 8, "GET", (SILENT, SILENT, page(504), SILENT), 15),
    "node dead, ARP failed": (power_off, HOST_GW, 60, 8, "GET", (NO_ROUTE, SILENT, page(502), NO_ROUTE), 0),
    "no endpoints": (no_endpoints, "", 10, 4, "GET", (REFUSED, REFUSED, page(503), SILENT), 0),
}  # fmt: skip


def curl(lab: Lab, line: str) -> Outcome:
    """What one curl prints; also while no API server would let anybody exec into a pod."""
    command = parse_curl(line.split())
    source = Key("Pod", "default", "app") if command.source else None
    return render(command, lab.singles.curl(CurlRequest(command.url, source, command.method)), lab.t_ns)


def began(rows: list[Record], stream: int, from_ns: int, to_ns: int) -> list[Record]:
    return [row for row in rows if row.stream == stream and from_ns <= row.start_ns < to_ns]


@pytest.mark.parametrize("name", ROWS)
def test_curl_says_what_traffic_says(name: str) -> None:
    happens, cluster, wait_s, lasts_s, method, endings, nginx_s = ROWS[name]
    lab = lab_of(cluster, method, 30 if lasts_s < 1 else 3)
    lab.advance(3 * S)
    address = lab.plane.runtime[pods(lab)[0]].ips[0]
    rows = kept_rows(lab)
    happens(lab)
    from_ns = lab.t_ns + round(wait_s * S)
    lab.advance(from_ns)
    lines = (
        "http://web/ --from default/app",
        "http://10.0.1.11:30080/",
        f"-X {method} http://10.0.1.11:30090/",
        f"http://{address}:8080/ --from default/app",
    )
    printed = [curl(lab, line) for line in lines]
    longest_s = max(nginx_s, 60 if WAITS in endings else 5)
    lab.advance(from_ns + round((lasts_s + longest_s + 2) * S))
    for stream, (out, (status, code, words)) in enumerate(zip(printed, endings, strict=True)):
        assert out.code == code, lines[stream]
        assert re.search(words, out.err or out.out), out.err or out.out
        assert out.trace_id is not None
        trace = lab.open_request(out.trace_id)
        assert trace.status == status
        if stream == 3:
            continue
        mine = began(rows, stream, from_ns, from_ns + round(lasts_s * S))
        assert {status_text(row.status) for row in mine} == {status}
        if endings[stream] in (SILENT, WAITS) or nginx_s:
            assert {round(row.latency_ns / S) for row in mine} == {round((trace.latency_ns or 0) / S)}
        if stream == 2 and nginx_s:
            assert round((trace.latency_ns or 0) / S) == nginx_s
            assert {row.tries for row in mine} == {trace.tries}


def test_with_v_curl_shows_what_connect_said() -> None:
    lab = lab_of(", podNetwork: host-gw", "GET")
    lab.advance(3 * S)
    power_off(lab)
    lab.advance(63 * S)
    said = curl(lab, "-v http://web/ --from default/app").err.splitlines()
    assert re.fullmatch(r"\*   Trying 10\.96\.\S+:80\.\.\.", said[0])
    assert re.fullmatch(
        r"\* connect to 10\.96\.\S+ port 80 from 10\.244\.1\.\d+ port \d+ failed: No route to host", said[1]
    )
    trace = lab.open_request(curl(lab, "http://web/ --from default/app").trace_id or 0)
    assert "no route to host in" in trace.hops[-1].why
    assert "node-2 has no power; ARP asks for it three times and gets no answer" in trace.hops[-1].why


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("-m 2", "curl: (28) Connection timed out after 2000 milliseconds"),
        ("--connect-timeout 1.5", "curl: (28) Failed to connect to web port 80 after 1500 ms: Timeout was reached"),
        ("-m 1 --connect-timeout 3", "curl: (28) Connection timed out after 1000 milliseconds"),
        ("-m 3 --connect-timeout 1", "curl: (28) Failed to connect to web port 80 after 1000 ms: Timeout was reached"),
    ],
)
def test_curl_waits_no_longer_than_it_is_told_to(options: str, words: str) -> None:
    lab = lab_of("", "GET")
    lab.advance(3 * S)
    power_off(lab)
    lab.advance(4 * S)
    done = curl(lab, f"{options} http://web/ --from default/app")
    assert (done.code, done.err) == (28, f"{words}\n")


def test_curl_gives_up_on_an_answer_when_its_time_is_up() -> None:
    lab = lab_of("", "GET")
    lab.advance(3 * S)
    hang(lab)
    lab.advance(4 * S)
    for line in ("-m 2 http://web/ --from default/app", "-m 2 http://10.0.1.11:30090/"):
        done = curl(lab, line)
        assert done.code == 28
        assert done.err == "curl: (28) Operation timed out after 2000 milliseconds with 0 bytes received\n"


@pytest.mark.parametrize("mode", ["iptables", "nftables", "ipvs"])
def test_local_policy_without_a_pod_on_the_node_dialled_gives_no_answer(mode: str) -> None:
    policy = "type: NodePort, externalTrafficPolicy: Local"
    text = MANIFESTS.replace("type: NodePort, selector: {app: web}", f"{policy}, selector: {{app: web}}")
    proxy = f"---\napiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: {mode}\n"
    clients = "".join(f'- {{name: to-{ip}, url: "http://10.0.1.{ip}:30080/", rate: 5}}\n' for ip in (12, 11))
    lab = lab_with(f"{text}{proxy}", f"clients:\n{clients}")
    rows = kept_rows(lab)
    lab.advance(14 * S)
    mine = [began(rows, stream, 0, 8 * S) for stream in (0, 1)]
    assert {row.status for row in mine[0]} == {200}
    assert {(status_text(row.status), row.latency_ns) for row in mine[1]} == {("timeout", 5 * S)}
    assert curl(lab, "http://10.0.1.12:30080/").code == 0
    assert curl(lab, "http://10.0.1.11:30080/").code == 28
    for row in mine[1][::9]:
        trace = lab.reopener.open_record(row)
        assert trace.status == "timeout"
        assert not [hop for hop in trace.hops if hop.outcome == "mismatch"]
        discarded = "the pod answers it directly, which it discards" in trace.hops[-1].why
        assert discarded is (mode == "ipvs")  # IPVS sends to other nodes' pods where there is none (k/k #97081)
    (bill,) = lab.gantt.report().bills
    assert bill.cause == ("answer-bypassed" if mode == "ipvs" else "no-local-endpoint")


def test_a_node_port_that_is_not_programmed_yet_is_refused_by_the_node_itself() -> None:
    lab = lab_of("", "GET")
    lab.advance(2 * S)
    stale(lab)
    late = (
        "---\napiVersion: v1\nkind: Service\nmetadata: {name: late}\nspec:\n  type: NodePort\n  selector: {app: web}\n"
    )
    late += "  ports: [{port: 80, targetPort: 8080, nodePort: 30070}]\n"
    assert lab.do(Apply((("a.yaml", f"{MANIFESTS}{late}"),))).ok
    lab.advance(5 * S)
    assert curl(lab, "http://10.0.1.11:30070/").code == 7
    assert curl(lab, "http://late/ --from default/app").code == 28


def test_a_client_that_names_a_node_dials_no_other() -> None:
    urls = ("http://10.0.1.12:30080/", "http://node-3:30090/")
    lab = lab_with(MANIFESTS, "clients:\n" + "".join(f'- {{name: {url[7]}, url: "{url}", rate: 9}}\n' for url in urls))
    rows = kept_rows(lab)
    lab.advance(3 * S)
    assert {lab.wiring.places[row.node] for row in rows if row.stream == 0} == {"node-2"}
    assert {lab.wiring.places[row.node] for row in rows if row.stream == 1} == {"node-3"}
    power_off(lab)
    lab.advance(20 * S)
    late = [row for row in rows if row.stream == 0 and row.start_ns > 4 * S]
    assert {(status_text(row.status), row.latency_ns) for row in late} == {("timeout", 5 * S)}
    assert curl(lab, "http://10.0.1.12:30080/").code == 28
    band = next(band for band in lab.snapshot().bands if band.kind == "lb" and "10.0.1.12:30080" in band.detail)
    assert [row.key for row in band.candidates] == [NODE]


KEEPS = "clients:\n- {name: app, from: default/app, url: http://web/, rate: 12, connections: 3, timeout: 9s}\n"


@pytest.mark.parametrize(
    ("name", "happens", "cluster", "status", "longest_s"),
    [
        ("hung", hang, "", "client timeout", 9),
        ("dead node", power_off, "", "client timeout", 9),
        ("not listening", terminate, LINGERS, "200", 0.1),
        ("not ready", lambda lab: lab.do(Act("failReadiness", pods(lab)[0])), "", "200", 0.1),
        ("network gone", force_delete, CALICO, "client timeout", 9),
    ],
)  # fmt: skip
def test_a_request_over_an_open_connection(
    name: str, happens: Callable[[Lab], None], cluster: str, status: str, longest_s: float
) -> None:
    lab = lab_with(MANIFESTS, KEEPS, cluster)
    lab.advance(3 * S)
    rows = kept_rows(lab)
    happens(lab)
    lab.advance(40 * S)
    mine = [row for row in rows if dict(row.extra)["kept"] and 4 * S < row.start_ns < 12 * S]
    assert len(mine) > 20, name
    assert {status_text(row.status) for row in mine} == {status}
    assert max(row.latency_ns for row in mine) <= longest_s * S
