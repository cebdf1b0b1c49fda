"""Clients that give up and try again, as a user meets them: fields, totals, bills, an opened request, logs, saving."""

from dataclasses import replace
from pathlib import Path

import pytest
from small_labs import S, kept_rows

from kflab.engine.types import Answer
from kflab.errors import KflabError
from kflab.lab.access_log import logged_by
from kflab.lab.commands import Act
from kflab.lab.handle import Tab
from kflab.lab.running import Lab
from kflab.lab.spec import ClientSpec, LabSpec
from kflab.manifest.objects import Key
from kflab.scenario.format import load, load_text

SCENARIOS = Path(__file__).parents[2] / "scenarios"
API = SCENARIOS / "keepalive-clients" / "api.yaml"
HEAD = f"""\
kflab: scenario/v1
timing: {{service_p50_ns: 25000000, service_p99_ns: 80000000}}
manifests: {{documents: ["{API}"]}}
cluster: {{nodes: 3}}
"""


def small(fields: str, actions: str = "[]") -> Lab:
    text = f"{HEAD}clients:\n- {{url: 'http://api/orders', from: default/web, {fields}}}\nactions: {actions}\n"
    return Lab(load_text(text, "mine.yaml").spec)


@pytest.fixture(scope="module")
def lab() -> Lab:
    crash = "[{at: 5s, crash: {workload: default/Deployment/api}}]"
    lab = small("rate: 100, timeout: 2s, attemptTimeout: 60ms, retries: 2, retryBudget: 20", crash)
    lab.advance(12_000_000_000)
    return lab


def test_a_request_counts_once_however_often_it_is_sent(lab: Lab) -> None:
    total = lab.totals
    assert total.attempts - total.sent > 30
    assert total.ok + total.failed + total.in_flight == total.sent
    assert total.failed < 10 < total.saved
    assert set(total.by_status) <= {"client timeout", "refused", "reset"}


def test_bills_add_up_to_what_failed_or_was_slowed(lab: Lab) -> None:
    report = lab.gantt.report()
    assert report.billed == lab.totals.failed + lab.totals.slowed
    assert report.unexplained == 0
    late = [bill for bill in report.bills if bill.cause == "client-deadline"]
    assert sum(bill.slowed for bill in late) > 20
    assert all("times in all" in bill.outcome for bill in late)
    stale = [bill for bill in report.bills if bill.cause == "stale"]
    assert stale
    assert max(bill.longest_ns for bill in late) > 60_000_000


def test_an_opened_request_tells_its_attempts(lab: Lab) -> None:
    again = [(i, one) for i, one in lab.sampler.traces if one.number >> 40 == 1]
    trace_id, one = again[0]
    trace = lab.open_request(trace_id)
    first, second = trace.hops[:2]
    assert first.why.startswith("attempt 1 at ")
    assert "tries again" in first.why
    assert second.why == "attempt 2 of 2:"
    assert trace.latency_ns == one.latency_ns == sum(ns for _, ns in trace.parts)
    assert dict(trace.parts)["earlier attempts"] == one.start_ns - one.began_ns > 0
    row = lab.reopener.row(trace_id, one)
    assert row.latency_ns == one.latency_ns
    assert row.number == trace.number < 2_000


def test_attempts_that_were_followed_are_no_requests_of_their_own(lab: Lab) -> None:
    assert not [one for _, one in lab.sampler.traces if dict(one.extra)["next_ns"]]


def test_the_lab_says_how_its_clients_behave(lab: Lab) -> None:
    line = next(line for line in lab.traffic_lines() if line.startswith("client"))
    assert "gives a request up after 2s" in line
    assert "up to 2 times more" in line
    assert "at most 20 %" in line
    assert sum("client client" in text for text, _ in lab.assumptions) == 3


def test_nginx_logs_499_for_a_client_that_gave_up() -> None:
    scenario = load(str(SCENARIOS / "overview.yaml"))
    impatient = tuple(replace(one, timeout_ns=3_000_000) for one in scenario.spec.clients)
    lab = Lab(replace(scenario.spec, clients=impatient))
    lab.advance(1_000_000_000)
    statuses = [
        line.status for controller in lab.controllers.all() for pod in controller.pods
        for line in logged_by(lab, pod)
    ]  # fmt: skip
    assert statuses.count("499") > 20
    assert set(lab.totals.by_status) == {"client timeout"}


def test_a_saved_lab_keeps_it_all(tmp_path: Path) -> None:
    fields = (
        "rate: 5, timeout: 2s, attemptTimeout: 300ms, connectTimeout: 1s, connections: 3, keepaliveTimeout: 4s, "
        "retries: 4, retryOn: [reset, 5xx, 429], backoff: {base: 20ms, max: 90ms}, "
        "retryBudget: {percent: 30, interval: 20s, minRetryRate: 3}"
    )
    small_lab = small(fields)
    path = tmp_path / "again.yaml"
    assert small_lab.journal.save(str(path), small_lab).ok
    assert load(str(path)).spec.clients == small_lab.spec.clients
    retry = small_lab.spec.clients[0].retry
    assert retry is not None
    assert (retry.attempts, retry.reset, retry.timeout, retry.connect_failure) == (4, True, False, False)
    assert {429, 500, 599} < retry.statuses
    assert (retry.budget_percent, retry.budget_interval_ns, retry.budget_min_rate) == (30, 20 * 10**9, 3)


def test_what_is_not_idempotent_is_only_tried_again_where_nothing_was_sent() -> None:
    retry = small("rate: 5, method: POST, retries: 1").spec.clients[0].retry
    assert retry is not None
    assert retry.connect_failure
    assert not any((retry.reset, retry.timeout, retry.statuses))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ("timeout: 0", "'0' is not a duration|timeout 0 is too short"),
        ("timeout: soon", "'soon' is not a duration"),
        ("connectTimeout: 2m", "expected less than 60 s"),
        ("keepaliveTimeout: 3s", "expected connections: N"),
        ("retryOn: [reset]", "expected retries: N"),
        ("retries: 16", "retries 16 must be a whole number from 0 to 15"),
        ("retries: 1, retryOn: [sometimes]", "expected one of connect-failure, reset, timeout, 5xx, or a status"),
        ("retries: 1, retryOn: reset", "must be a list"),
        ("retries: 1, backoff: {base: 1s, max: 10ms}", "less than base"),
        ("retries: 1, backoff: [1s]", "expected a duration, or base and max"),
        ("retries: 1, retryBudget: 101", "percent 101 must be a whole number from 0 to 100"),
        ("retries: 1, retryBudget: {share: 3}", "expected a percentage"),
    ],
)
def test_nonsense_is_refused_with_its_place(fields: str, words: str) -> None:
    with pytest.raises(KflabError, match=words) as caught:
        small(fields)
    place = caught.value.place
    assert place is not None
    assert (place.file, place.line) == ("mine.yaml", 6)
    assert place.column is not None
    assert place.column > 40


def test_udp_clients_have_no_deadlines() -> None:
    text = f"{HEAD}clients:\n- {{url: 'udp://dns:53', from: default/web, retries: 1}}\n"
    with pytest.raises(KflabError, match="retries is for a client with an http://"):
        load_text(text, "mine.yaml")


DEAD = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      nodeName: node-3
      containers: [{name: c, image: x, ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {selector: {app: shop}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop}
spec:
  ingressClassName: nginx
  rules:
  - host: shop.example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: shop, port: {number: 80}}}}]}
"""


def test_a_client_that_gave_up_in_nginx_second_try_opens_with_the_first_one() -> None:
    client = ClientSpec("http://shop.example.com/", 20.0, timeout_ns=8 * S)
    lab = Lab(LabSpec("shop", (Tab("shop.yaml", DEAD, None),), nodes=3, clients=(client,)))
    rows = kept_rows(lab)
    lab.advance(2 * S)
    assert lab.do(Act("powerOff", Key("Node", "", "node-3"))).ok
    lab.advance(12 * S)
    lost = next(row for row in rows if row.tries == 2 and row.answers == (Answer.TIMEOUT,))
    trace = lab.reopener.open_record(lost)
    assert trace.status == "client timeout"
    assert [hop.outcome for hop in trace.hops if hop.outcome] == ["timeout", "client timeout"]
    assert "node-3 has no power" in trace.hops[-2].why
    assert "1 try had failed by then" in trace.hops[-1].why
