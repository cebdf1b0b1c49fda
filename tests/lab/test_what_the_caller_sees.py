"""What a caller gets, row by row of the facts: how the backend went decides, and through what it was reached.

Rows follow the project's fact sheet, lifecycle.md section 3; columns are a direct caller's new connection, its request
in hand, and a request through ingress-nginx.
"""

from dataclasses import replace

import pytest
from small_labs import MANIFESTS, S, direct, kept_rows, pods

from kflab.engine.types import Answer
from kflab.lab.commands import Act, Apply, Kill, Scale, Stop
from kflab.lab.handle import Tab
from kflab.lab.records import Record
from kflab.lab.running import Lab
from kflab.lab.spec import LabSpec
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod
from kflab.scenario.format import load

SLOW = {"service_p50_ns": 300_000_000, "service_p99_ns": 600_000_000}
"""Requests that take long enough to be in hand when something happens."""

MS = 1_000_000


def through(name: str = "overview-defaults", method: str = "GET", rate: float = 100.0, slow: bool = False) -> Lab:
    """Through ingress-nginx, straight to the pods' addresses in turn unless another scenario is named."""
    spec = load(name).spec
    clients = tuple(replace(client, method=method, rate_rps=rate) for client in spec.clients)
    return Lab(replace(spec, clients=clients, timing=SLOW if slow else {}))


def slow_direct(rate: float = 40.0, replicas: int = 3) -> Lab:
    timing = "timing: {service_p50_ns: 300000000, service_p99_ns: 600000000}\n"
    return direct(rate, replicas, more=timing)


def met(rows: list[Record], lab: Lab, pod: Key) -> list[Record]:
    """Requests of which a try went to a pod."""
    return [row for row in rows if any(server >= 0 and lab.wiring.servers[server][3] == pod for server in row.servers)]


def status_of(rows: list[Record]) -> set[int]:
    return {row.status for row in rows}


def node_of(lab: Lab, pod: Key) -> str:
    found = lab.store.get(pod)
    assert isinstance(found, Pod)
    return found.spec.node_name


def blind(lab: Lab) -> None:
    """Nobody learns of anything any more: rules and upstreams stay as they are."""
    assert lab.do(Stop("apiserver")).ok


# --- the process is dead, the sandbox alive ------------------------------------------------------------------------


def test_dead_process_refuses_a_new_connection_within_a_round_trip() -> None:
    lab = direct()
    lab.advance(3 * S)
    victim = pods(lab)[0]
    blind(lab)
    rows = kept_rows(lab)
    assert lab.do(Kill(victim)).ok
    lab.advance(3 * S + 300 * MS)
    lost = [row for row in met(rows, lab, victim) if row.start_ns > 3 * S]
    assert status_of(lost) == {-Answer.REFUSED}
    assert max(row.latency_ns for row in lost) < 1 * MS


def test_dead_process_resets_what_it_had_in_hand() -> None:
    lab = slow_direct()
    lab.advance(3 * S)
    rows = kept_rows(lab)
    victim = pods(lab)[0]
    assert lab.do(Kill(victim)).ok
    lab.advance(5 * S)
    hand = [row for row in met(rows, lab, victim) if row.start_ns < 3 * S and row.finish_ns >= 3 * S]
    assert status_of(hand) == {-Answer.RESET}
    assert max(row.finish_ns for row in hand) < 3 * S + 1 * MS


@pytest.mark.parametrize(("method", "again"), [("GET", True), ("POST", False)])
def test_nginx_tries_again_but_no_post_that_was_sent(method: str, again: bool) -> None:
    lab = through(method=method, slow=True)
    lab.advance(3 * S)
    rows = kept_rows(lab)
    victim = pods(lab, "product")[0]
    blind(lab)
    assert lab.do(Kill(victim)).ok
    lab.advance(6 * S)
    first = [row for row in met(rows, lab, victim) if row.start_ns < 3 * S and row.finish_ns > 3 * S]
    hand = [row for row in first if row.answers[0] == Answer.RESET]
    assert hand
    if again:  # up to three tries in all; two more may meet the same pod, whose turn comes up again
        assert all(row.tries > 1 for row in hand)
        assert all(row.status == 200 for row in hand if Answer.OK in row.answers)
        assert 200 in status_of(hand)
    else:
        assert {(row.tries, row.status) for row in hand} == {(1, 502)}
    refused = [row for row in met(rows, lab, victim) if row.answers[0] == Answer.REFUSED]
    assert refused
    assert all(row.tries > 1 for row in refused)  # a refused connect was never sent: also POST goes to the next pod
    assert 200 in status_of(refused)


def test_nginx_with_a_single_pod_answers_502() -> None:
    lab = through()
    lab.advance(2 * S)
    assert lab.do(Scale(Key("Deployment", "default", "product"), 1)).ok
    lab.advance(12 * S)
    blind(lab)
    rows = kept_rows(lab)
    (left,) = pods(lab, "product")
    assert lab.do(Kill(left)).ok
    lab.advance(12 * S + 200 * MS)
    assert status_of([row for row in rows if row.start_ns > 12 * S]) == {502}


# --- it stopped listening after SIGTERM ----------------------------------------------------------------------------


def test_after_sigterm_work_in_hand_is_finished_and_new_connections_are_refused() -> None:
    timing = "timing: {service_p50_ns: 300000000, service_p99_ns: 600000000}\ncluster: {delays: {app_exit_s: 3}}\n"
    lab = direct(40.0, more=timing)
    lab.advance(3 * S)
    for key in lab.store.keys("Node"):
        assert lab.do(Stop(f"kube-proxy/{key.name}")).ok
    rows = kept_rows(lab)
    victim = pods(lab)[0]
    assert lab.do(Kill(victim, "delete")).ok
    lab.advance(5 * S)
    mine = met(rows, lab, victim)
    assert status_of([row for row in mine if row.start_ns < 3 * S]) == {200}
    assert status_of([row for row in mine if row.start_ns > 3 * S + 200 * MS]) == {-Answer.REFUSED}


# --- it hangs ------------------------------------------------------------------------------------------------------


def test_a_hung_pod_accepts_and_the_caller_waits_out_its_read_timeout() -> None:
    lab = direct(rate=5)
    lab.advance(3 * S)
    victim = pods(lab)[0]
    blind(lab)
    rows = kept_rows(lab)
    assert lab.do(Act("hang", victim)).ok
    lab.advance(80 * S)
    lost = [row for row in met(rows, lab, victim) if row.start_ns > 3 * S]
    assert lost
    assert status_of(lost) == {-Answer.TIMEOUT}
    assert {round(row.latency_ns / S) for row in lost} == {60}


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("POST", 504)])
def test_nginx_waits_60_s_for_a_hung_pod(method: str, status: int) -> None:
    lab = through(method=method, rate=5)
    lab.advance(3 * S)
    victim = pods(lab, "product")[0]
    blind(lab)
    rows = kept_rows(lab)
    assert lab.do(Act("hang", victim)).ok
    lab.advance(75 * S)
    lost = [row for row in met(rows, lab, victim) if row.start_ns > 3 * S]
    assert lost
    assert status_of(lost) == {status}
    assert min(row.latency_ns for row in lost) >= 60 * S


# --- the address or the node is gone -------------------------------------------------------------------------------


def test_an_address_that_nobody_has_is_silent_and_nginx_goes_on_after_5_s() -> None:
    for lab, workload, statuses in ((direct(50), "web", {-Answer.TIMEOUT}), (through(rate=50), "product", {200})):
        lab.advance(3 * S)
        victim = pods(lab, workload)[0]
        node = node_of(lab, victim)
        rows = kept_rows(lab)
        for key in lab.store.keys("Node"):
            assert lab.do(Stop(f"kube-proxy/{key.name}")).ok
        assert lab.do(Kill(victim, "force")).ok
        lab.advance(5 * S)
        blind(lab)
        lab.advance(12 * S)
        gone = lab.world.fate_of(victim, lab.t_ns)
        assert gone is not None
        lost = [row for row in met(rows, lab, victim) if Answer.TIMEOUT in row.answers]
        assert lost or workload == "product", node
        assert status_of(lost) <= statuses
        assert all(5 * S <= row.latency_ns < 5 * S + 100 * MS for row in lost)


def test_a_dead_node_is_silent_to_new_connections_and_to_requests_in_hand() -> None:
    lab = slow_direct(rate=30)
    lab.advance(3 * S)
    app = node_of(lab, pods(lab, "app")[0])
    victim = next(pod for pod in pods(lab) if node_of(lab, pod) != app)
    rows = kept_rows(lab)
    assert lab.do(Act("powerOff", Key("Node", "", node_of(lab, victim)))).ok
    lab.advance(70 * S)
    mine = met(rows, lab, victim)
    hand = [row for row in mine if row.start_ns < 3 * S < row.finish_ns]
    fresh = [row for row in mine if row.start_ns > 3 * S]
    assert status_of(hand) == status_of(fresh) == {-Answer.TIMEOUT}
    assert {round(row.latency_ns / S) for row in hand} == {60}
    assert {round(row.latency_ns / S) for row in fresh} == {5}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nginx_waits_5_s_for_a_connect_and_60_s_on_a_kept_connection_to_a_dead_node(method: str) -> None:
    lab = through("node-power-loss-ingress", method, rate=10)
    rows = kept_rows(lab)
    lab.advance(85 * S)
    seen = set()
    for row in rows:
        kept_bits = dict(row.extra)["kept"]
        for k, answer in enumerate(row.answers):
            if answer != Answer.TIMEOUT:
                continue
            kept = bool(kept_bits >> k & 1)
            seen.add(kept)
            assert round((row.try_ends_ns[k] - row.try_starts_ns[k]) / S) == (60 if kept else 5)
            further = len(row.answers) > k + 1
            # Sent on a kept connection, a POST may have been acted on: 504. All else goes to the next pod, thrice.
            assert further == (k < 2 and (method == "GET" or not kept))
            assert row.status == (504 if not further else 200 if Answer.OK in row.answers else 504)
    assert seen == {False, True}


# --- the rules have nowhere to send it -----------------------------------------------------------------------------


def test_a_service_without_endpoints_refuses_and_nginx_answers_503() -> None:
    lab = direct()
    lab.advance(2 * S)
    assert lab.do(Scale(Key("Deployment", "default", "web"), 0)).ok
    lab.advance(6 * S)
    rows = kept_rows(lab)
    lab.advance(7 * S)
    assert status_of(rows) == {-Answer.REJECTED}
    assert max(row.latency_ns for row in rows) < 1 * MS
    lab = through()
    lab.advance(2 * S)
    assert lab.do(Scale(Key("Deployment", "default", "product"), 0)).ok
    lab.advance(12 * S)
    rows = kept_rows(lab)
    lab.advance(13 * S)
    assert status_of(rows) == {503}


def test_a_service_that_the_node_does_not_know_yet_gets_no_answer() -> None:
    text = MANIFESTS.format(replicas=2, service="type: ClusterIP")
    lab = Lab(LabSpec("late", (Tab("web.yaml", text, None, "documents"),)))
    lab.advance(2 * S)
    for key in lab.store.keys("Node"):
        assert lab.do(Stop(f"kube-proxy/{key.name}")).ok
    late = "\n---\napiVersion: v1\nkind: Service\nmetadata: {name: late}\nspec:\n  selector: {app: web}\n"
    rows = kept_rows(lab)
    assert lab.do(Apply((("web.yaml", f"{text}{late}  ports: [{{port: 80, targetPort: 8080}}]\n"),))).ok
    lab.advance(30 * S)
    stream = next(entry.index for entry in lab.entries() if entry.service.name == "late")
    mine = [row for row in rows if row.stream == stream]
    assert status_of(mine) == {-Answer.TIMEOUT}  # its address is no rule's: the packet follows the default route
    assert {row.latency_ns for row in mine} == {5 * S}
    (bill,) = lab.gantt.report().bills
    assert bill.cause == "not-programmed"


def test_local_policy_without_a_pod_on_the_node_drops() -> None:
    lab = direct(rate=20, replicas=1, service="internalTrafficPolicy: Local")
    (web,), (app,) = pods(lab), pods(lab, "app")
    assert node_of(lab, web) != node_of(lab, app)
    rows = kept_rows(lab)
    lab.advance(8 * S)
    assert status_of(rows) == {-Answer.TIMEOUT}
    assert {row.latency_ns for row in rows} == {5 * S}


def test_a_udp_sender_is_black_holed_by_its_stale_entry() -> None:
    lab = Lab(load("udp-stale").spec)
    rows = kept_rows(lab)
    lab.advance(40 * S)
    late = [row for row in rows if row.start_ns > 15 * S]
    assert status_of(late) == {-Answer.TIMEOUT}
    bill = lab.gantt.report().bills[-1]
    assert bill.cause == "stale-udp-entry"


# --- the endpoint was removed, the connection is open --------------------------------------------------------------


def test_a_kept_connection_to_a_removed_endpoint_works_as_long_as_its_pod() -> None:
    spec = load("overview-keepalive").spec
    delays = {**spec.delays, "app_stop_listening_s": 8.0, "app_exit_s": 8.0}
    lab = Lab(replace(spec, delays=delays, clients=tuple(replace(c, rate_rps=300.0) for c in spec.clients)))
    lab.advance(5 * S)
    victim = pods(lab, "product")[0]
    assert lab.do(Kill(victim, "delete")).ok
    lab.advance(8 * S)
    rows = kept_rows(lab)
    lab.advance(12 * S)
    mine = met(rows, lab, victim)
    assert mine  # no rule names it any more, but connections opened before lead there
    assert status_of(mine) == {200}
    assert all(dict(row.extra)["kept"] & 1 for row in mine)
    lab.advance(15 * S)
    rows = kept_rows(lab)
    lab.advance(17 * S)
    assert not met(rows, lab, victim)
