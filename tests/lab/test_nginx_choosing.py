"""By what NGINX chooses among the pods of an upstream: by turns, or by the hash of what a request has."""

import re
from collections import Counter

import pytest
from small_labs import kept_rows
from test_nginx_timeouts import agrees, manifests

from kflab.dataplane.nginx_choice import hash_key, subset, unknown_variables
from kflab.engine.types import Pick
from kflab.lab.handle import Tab
from kflab.lab.records import Record
from kflab.lab.running import Lab
from kflab.lab.spec import ClientSpec, LabSpec

S = 1_000_000_000


def ran(text: str, *urls: str, seconds: int = 2) -> tuple[Lab, list[Record]]:
    clients = tuple(ClientSpec(url, 40.0, f"c{i}") for i, url in enumerate(urls or ("http://web.example.com/",)))
    lab = Lab(LabSpec("choosing", (Tab("web.yaml", text, None),), clients=clients))
    rows = kept_rows(lab)
    lab.advance(seconds * S)
    return lab, rows


def shares(rows: list[Record]) -> Counter[int]:
    return Counter(row.servers[row.tries - 1] for row in rows)


REQUEST = {
    "request_uri": "/cart?Item=7&item=8&empty=", "uri": "/cart", "host": "shop.example.com", "scheme": "https",
    "http_host": "shop.example.com:8443", "request_method": "PUT", "remote_addr": "203.0.113.45",
}  # fmt: skip


@pytest.mark.parametrize(
    ("expression", "key"),
    [
        ("$request_uri$host", "/cart?Item=7&item=8&empty=shop.example.com"),
        ("${uri}-text", "/cart-text"),
        ("$arg_item,$arg_empty,$arg_none", "7,,"),
        ("$is_args$args", "?Item=7&item=8&empty="),
        ("$binary_remote_addr|$request_method", "203.0.113.45|PUT"),
        ("$http_host $http_x_user $cookie_id", "shop.example.com:8443 ann 42"),
        ("$http_x_nobody$cookie_none$msec", ""),
    ],
)
def test_an_expression_comes_to_what_the_request_has(expression: str, key: str) -> None:
    assert hash_key(expression, REQUEST, {"x-user": "ann", "cookie": "id=42; id=43"}) == key


def test_variables_that_the_lab_does_not_have_are_named() -> None:
    assert unknown_variables("$msec${request_id}-$arg_user-$http_x$msec") == ("msec", "request_id")


@pytest.mark.parametrize("expression", ["$http_x_user", "$cookie_user", "$arg_user", "$request_id"])
def test_requests_that_lack_what_is_hashed_all_go_to_one_pod(expression: str) -> None:
    lab, rows = ran(manifests(upstream_hash_by=expression), "http://web.example.com/a", "http://web.example.com/b")
    assert len(rows) > 100
    assert len(shares(rows)) == 1
    agrees(lab, rows[0])
    said = [text for text, _ in lab.assumptions if "upstream-hash-by" in text]
    assert len(said) == (expression == "$request_id"), said


def test_an_argument_of_the_query_spreads_its_values_over_the_pods() -> None:
    urls = [f"http://web.example.com/?user={name}" for name in ("ann", "bob", "cy", "dora", "eve", "fay")]
    lab, rows = ran(manifests(upstream_hash_by="$arg_user"), *urls)
    of_stream = {stream: shares([row for row in rows if row.stream == stream]) for stream in range(len(urls))}
    assert all(len(found) == 1 for found in of_stream.values()), "a user keeps a pod"
    assert len(shares(rows)) > 1
    for stream in of_stream:
        agrees(lab, next(row for row in rows if row.stream == stream))


def test_nginx_workers_and_the_address_that_is_hashed_are_among_the_assumptions() -> None:
    lab, _ = ran(manifests(upstream_hash_by="$remote_addr"))
    said = "\n".join(text for text, _ in lab.assumptions)
    assert "one worker process in each ingress pod" in said
    assert "goes by the client's own address" in said


SMALL = """---
apiVersion: v1
kind: Pod
metadata: {name: small, labels: {app: web}, annotations: {kflab.dev/workers: "1"}}
spec: {containers: [{name: c, image: "web:1", ports: [{containerPort: 8080}]}]}
"""
"""A pod beside the three, with one worker."""

BUSY = {"service_p50_ns": 20_000_000, "service_p99_ns": 60_000_000}


def lab_with_a_small_pod(**settings: str) -> tuple[Lab, list[Record]]:
    client = ClientSpec("http://web.example.com/", 240.0, "out")
    tabs = (Tab("web.yaml", manifests(**settings) + SMALL, None),)
    lab = Lab(LabSpec("choosing", tabs, clients=(client,), timing=BUSY))
    rows = kept_rows(lab)
    lab.advance(10 * S)
    return lab, rows


def of_small(lab: Lab) -> float:
    """Part of NGINX's connections that went to the small pod."""
    [chooser] = (chooser for chooser in lab.wiring.choosers if chooser.kind == "upstream")
    given = lab.engine.connections(chooser.index)
    pods = {server: lab.wiring.servers[server][3] for server, _ in given}
    return sum(n for server, n in given if pods[server].name == "small") / sum(n for _, n in given)


def test_ewma_spares_a_pod_that_answers_late_and_round_robin_does_not() -> None:
    turns, scored = lab_with_a_small_pod(), lab_with_a_small_pod(load_balance="ewma")
    assert of_small(turns[0]) == pytest.approx(0.25, abs=0.001)
    assert 0.02 < of_small(scored[0]) < 0.15
    slowest = [max(row.latency_ns for row in rows if row.finish_ns > 7 * S) for _, rows in (turns, scored)]
    assert slowest[0] > 5 * slowest[1]


def test_an_opened_request_tells_the_scores_it_went_by() -> None:
    lab, rows = lab_with_a_small_pod(load_balance="ewma")
    why = []
    for row in rows[-40:]:
        agrees(lab, row)
        why += [hop.why for hop in lab.reopener.open_record(row).hops if hop.chooser == "ewma"]
    assert len(why) == 40
    found = [re.search(r"ewma: score ([\d.]+)(?: ms)?, the other one drawn has ([\d.]+)", text) for text in why]
    assert all(match and float(match[1]) <= float(match[2]) for match in found), why[:3]
    group = next(group for group in lab.snapshot().shares if group.title == "web")
    assert (group.word, "sooner" in group.why) == ("structural", True)


def test_the_first_ingress_that_names_a_service_says_how_its_pods_are_chosen() -> None:
    lab, _ = ran(manifests(load_balance="ewma"), seconds=1)
    assert [chooser.picker for chooser in lab.wiring.choosers if chooser.kind == "upstream"] == [Pick.EWMA]
    lab, _ = ran(manifests(load_balance="ewma", upstream_hash_by="$uri"), seconds=1)
    assert [chooser.picker for chooser in lab.wiring.choosers if chooser.kind == "upstream"] == [Pick.ROUND_ROBIN]
    said = [text for text, _ in ran(manifests(load_balance="least_conn"), seconds=1)[0].assumptions]
    assert any("load-balance least_conn: pods take turns here" in text for text in said)


def test_a_request_is_drawn_among_the_subset_of_its_key() -> None:
    settings = {"upstream_hash_by": "$uri", "upstream_hash_by_subset": "true", "upstream_hash_by_subset_size": "2"}
    lab, rows = ran(manifests(**settings), "http://web.example.com/a", "http://web.example.com/b", seconds=5)
    found = shares([row for row in rows if row.stream == 0])
    assert len(found) == 2, "a key keeps its subset, not its pod"
    assert min(found.values()) > 0.35 * found.total()
    for row in rows[-20:]:
        agrees(lab, row)


def test_a_subset_is_filled_up_with_the_first_pods() -> None:
    peers = ("a", "b", "c", "d", "e")
    found = {subset(peers, str(key), 3) for key in range(50)}
    assert found == {(("a", "b", "c"), (1, 1, 1)), (("d", "e", "a"), (1, 1, 1))}
    assert subset(("a", "b"), "any", 3) == (("a", "b"), (2, 1)), "as build_subset_map repeats the first"


def curled(lab: Lab, times: int) -> list[tuple[str, str]]:
    """(pod, why) of requests sent one at a time."""
    asked = lab.singles.request_for("http://web.example.com/", "GET", None)
    traces = [lab.singles.send(asked, "out") for _ in range(times)]
    return [next((hop.after.dst, hop.why) for hop in trace.hops if hop.where == "ingress, NGINX") for trace in traces]


def test_single_requests_take_turns_of_their_own_or_go_by_the_scores_of_now() -> None:
    lab, _ = ran(manifests())
    assert sorted(Counter(pod for pod, _ in curled(lab, 6)).values()) == [2, 2, 2]
    lab, _ = lab_with_a_small_pod(load_balance="ewma")
    before = dict(lab.engine.memory.scores.of[0])
    found = curled(lab, 20)
    assert len({pod for pod, _ in found}) > 1
    assert all("ewma: score" in why for _, why in found)
    assert lab.engine.memory.scores.of[0] == before, "they move no score"
