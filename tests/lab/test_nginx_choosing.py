"""By what NGINX chooses among the pods of an upstream: by turns, or by the hash of what a request has."""

from collections import Counter

import pytest
from small_labs import kept_rows
from test_nginx_timeouts import agrees, manifests

from kflab.dataplane.nginx_choice import hash_key, unknown_variables
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
