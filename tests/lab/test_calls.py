"""Calls behind the front door: what is guessed from manifests, and what it does to requests."""

from pathlib import Path

import pytest

from kflab.errors import KflabError
from kflab.lab.calls import CallGraph
from kflab.lab.commands import Apply, Kill
from kflab.lab.handle import Tab
from kflab.lab.mentions import addresses, mentions
from kflab.lab.running import Lab
from kflab.lab.spec import ClientSpec, GivenCall, LabSpec
from kflab.manifest.objects import Key
from kflab.scenario.opening import open_what

SHARED = Path("/work/shared/manifests")
BOUTIQUE = SHARED / "online-boutique" / "kubernetes-manifests.yaml"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="no shared manifests here")
S = 1_000_000_000


def workload(name: str, env: str = "", more: str = "", replicas: int = 1, namespace: str = "default") -> str:
    """A Deployment and its Service on port 80."""
    return f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers:
      - {{name: app, image: app, ports: [{{containerPort: 8080}}], env: [{env}]{more}}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{selector: {{app: {name}}}, ports: [{{port: 80, targetPort: 8080}}]}}
---"""


def env(name: str, value: str) -> str:
    return f"{{name: {name}, value: '{value}'}}"


def lab_of(text: str, **spec: object) -> Lab:
    client = ClientSpec("http://front.default/", 50.0, from_pod="default/Deployment/front")
    given = {"clients": (client,), **spec}
    return Lab(LabSpec("test", (Tab("app.yaml", text, None),), **given))  # type: ignore[arg-type]  # a test's overrides


def edges(lab: Lab) -> list[str]:
    return [f"{edge.caller.name} → {edge.callee}" for found in lab.calls.edges.values() for edge in found]


def notes(lab: Lab) -> str:
    return "\n".join(text for text, _ in lab.assumptions)


SHOP = workload("front", env("CART_ADDR", "cart:80")) + workload("cart", env("STOCK", "http://stock/"), replicas=2)
SHOP += workload("stock")


# --- what is guessed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cart:7070", [("cart", 7070)]),
        ("http://cart/path?x=1", [("cart", 80)]),
        ("see https://a.shop.svc.cluster.local, or http://b:81.", [("a.shop.svc.cluster.local", 443), ("b", 81)]),
        ("mongodb://user:secret@db-0.db:27017,db-1.db/test", [("db-0.db", 27017), ("db-1.db", 27017)]),
        ("jdbc:mysql://sql:3306/x", [("sql", 3306)]),
        ("root:pw@tcp(sql:3306)/x", [("sql", 3306)]),
        ("redis://:pw@cache", [("cache", 6379)]),
        ("--upstream=http://127.0.0.1:8081/", [("127.0.0.1", 8081)]),
        ("http://[fd00::1]:90/", [("fd00::1", 90)]),
        ("--listen=:8080 12:34:56 registry.example/app:1 a:99999 cart: 80 tcp://nowhere", []),
    ],
)  # fmt: skip
def test_addresses_are_found_in_texts(text: str, found: list[tuple[str, int]]) -> None:
    assert list(addresses(text)) == found


def test_a_container_s_environment_is_put_together_as_the_kubelet_does() -> None:
    maps = {"urls": {"A": "a:1", "HOST": "b"}, "conf": {"nginx.conf": "proxy_pass http://c:3;"}}
    spec = {
        "volumes": [{"name": "v", "configMap": {"name": "conf"}}, {"name": "other", "emptyDir": {}}],
        "containers": [
            {
                "envFrom": [{"prefix": "P_", "configMapRef": {"name": "urls"}}, {"secretRef": {"name": "s"}}],
                "env": [
                    {"name": "B", "value": "$(P_HOST):2"},
                    {"name": "X", "valueFrom": {"configMapKeyRef": {"name": "urls", "key": "A"}}},
                    {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                    {"name": "D", "value": "$$(P_HOST):9"},
                ],
                "args": ["--to=$(B)"],
                "volumeMounts": [{"name": "v", "mountPath": "/etc"}, {"name": "other", "mountPath": "/tmp"}],
            }
        ],
    }
    found = [tuple(one) for one in mentions(spec, lambda name: maps.get(name, {}))]
    assert found == [
        ("a", 1, "ConfigMap urls, key A"), ("b", 2, "env B"), ("a", 1, "ConfigMap urls, key A"), ("b", 2, "args"),
        ("c", 3, "ConfigMap conf, key nginx.conf"),
    ]  # fmt: skip


def test_only_ports_of_services_that_a_pod_would_find_count() -> None:
    named = {
        "A": "cart:80", "B": "cart:81", "C": "nobody:80", "D": "stock.shop:80", "E": "stock:80",
        "F": "http://stock.shop.svc.cluster.local",
    }  # fmt: skip
    text = workload("front", ", ".join(env(name, value) for name, value in named.items())) + workload("cart")
    lab = lab_of(
        f"{text}{workload('stock', namespace='shop')}\napiVersion: v1\nkind: Namespace\nmetadata: {{name: shop}}\n"
    )
    assert edges(lab) == ["front → cart:80", "front → stock.shop:80"]
    assert "Deployment default/front calls (guessed): cart:80 (from env A), stock.shop:80 (from env D)" in notes(lab)
    assert "its worker is free meanwhile" in notes(lab)


def test_a_call_that_would_come_back_is_cut_and_said() -> None:
    text = workload("front", env("C", "cart:80")) + workload("cart", env("F", "front:80") + ", " + env("S", "cart:80"))
    lab = lab_of(text)
    assert edges(lab) == ["front → cart:80"]
    assert "Deployment default/cart does not call front:80 (env F): the call would come back to it" in notes(lab)
    assert "Deployment default/cart does not call cart:80 (env S)" in notes(lab)


def test_a_workload_without_a_service_makes_no_calls_and_says_so() -> None:
    loader = workload("loader", env("F", "front:80")).partition("\n---")[0] + "\n---"
    lab = lab_of(workload("front") + loader)
    assert edges(lab) == []
    assert "Deployment default/loader calls nobody, not front:80 (env F) either: no Service leads to it" in notes(lab)


def test_a_called_service_is_not_called_by_the_client_pod() -> None:
    lab = Lab(LabSpec("test", (Tab("app.yaml", SHOP, None),)))
    assert [key.name for key in lab.uncalled] == ["front"]
    assert [key.name for key in Lab(LabSpec("test", (Tab("app.yaml", SHOP, None),), calls="none")).uncalled] == [
        "front", "cart", "stock",
    ]  # fmt: skip


def test_affinity_of_a_called_service_keeps_a_node_s_callers_together_and_says_so() -> None:
    text = SHOP.replace(
        "name: cart, namespace: default}\nspec: {selector",
        "name: cart, namespace: default}\nspec: {sessionAffinity: ClientIP, selector",
    )
    lab = lab_of(text)
    assert "Service default/cart has session affinity: the pods of a node that call it count as one client" in notes(
        lab
    )
    lab.advance(3 * S)
    called = {row.tries[0].pod for row in lab.snapshot().traces if row.label == "front → cart:80"}
    assert len(called) == 1
    call = next(row for row in lab.snapshot().traces if row.label == "front → cart:80")
    reached = {key.name for hop in lab.open_request(call.id).hops for key in hop.touches if key.kind == "Pod"}
    assert called <= reached
    assert not any(hop.outcome == "mismatch" for hop in lab.open_request(call.id).hops)


# --- what it does -------------------------------------------------------------------------------------------------


def test_requests_of_users_are_counted_apart_from_calls() -> None:
    lab = lab_of(SHOP)
    lab.advance(4 * S)
    counts = {label: figures for label, *figures in lab.call_counts()}
    assert list(counts) == ["front → cart:80", "cart → stock:80"]
    sent, _, failed = counts["front → cart:80"]
    assert 150 < sent <= lab.totals.sent < sent + 5
    assert failed == 0
    assert lab.totals.sent == lab.totals.ok + lab.totals.in_flight
    snapshot = lab.snapshot()
    assert snapshot.sent_total == lab.totals.sent
    rates = {band.id: band.rate_rps for band in snapshot.bands}
    assert rates["service/default/cart:80"] > 20
    assert rates["service/default/stock:80"] > 20
    assert "client/calls/default/Deployment/cart" in rates


def test_a_dead_callee_fails_the_front_and_is_billed() -> None:
    lab = lab_of(SHOP)
    lab.advance(2 * S)
    pod = next(key for key in lab.store.keys("Pod") if key.name.startswith("stock"))
    assert lab.do(Kill(pod, "crash")).ok
    lab.advance(4 * S)
    assert lab.totals.failed > 5
    assert set(lab.totals.by_status) == {"500"}
    bills = lab.autopsy.bills
    assert sum(bill.failed for bill in bills) == lab.totals.failed
    assert all(bill.pod == pod or bill.cause == "no-endpoints" for bill in bills)
    assert not any(row.failing for band in lab.snapshot().bands if band.id == "service/default/front:80"
                   for row in band.candidates)  # fmt: skip


def test_an_opened_request_shows_the_calls_made_for_it_and_each_opens() -> None:
    lab = lab_of(SHOP)
    lab.advance(3 * S)
    rows = lab.snapshot().traces
    front = next(row for row in reversed(rows) if not row.label)
    trace = lab.open_request(front.id)
    words = [hop.why for hop in trace.hops if not hop.number]
    assert [word.partition(" at ")[0] for word in words] == ["calls cart:80", "calls stock:80"]
    assert [hop.number for hop in trace.hops if hop.number] == list(
        range(1, 1 + len([h for h in trace.hops if h.number]))
    )
    assert sum(ns for _, ns in trace.parts) == trace.latency_ns
    assert dict(trace.parts)["calls"] > 2_000_000
    call = next(row for row in reversed(rows) if row.label == "front → cart:80")
    opened = lab.open_request(call.id)
    caller = next(obj for obj in lab.store.of_kind("Pod") if obj.meta.name.startswith("front"))
    assert call.source.startswith(f"{caller.ip}:")  # type: ignore[attr-defined]  # a Pod
    assert opened.hops[-1].after is None or opened.hops[1].after is not None
    assert any(hop.mover == "kernel DNAT" and "SEP" in hop.why for hop in opened.hops)
    assert any(hop.why.startswith("calls stock:80") for hop in opened.hops)


def test_the_story_is_the_same_for_any_slab() -> None:
    digests = set()
    for slab_ns in (17_000_000, 500_000_000):
        spec = lab_of(SHOP).spec
        lab = Lab(spec, slab_ns=slab_ns)
        lab.advance(S)
        lab.do(Kill(next(key for key in lab.store.keys("Pod") if key.name.startswith("cart")), "crash"))
        lab.advance(3 * S)
        digests.add(lab.digest())
    assert len(digests) == 1


def test_new_pods_and_new_manifests_call_too() -> None:
    lab = lab_of(SHOP, nodes=3)
    lab.advance(S)
    added = SHOP.replace("value: 'http://stock/'", "value: 'http://nowhere/'")
    assert lab.do(Apply((("app.yaml", added),))).ok
    lab.advance(2 * S)
    before = {label: sent for label, sent, _, _ in lab.call_counts()}
    lab.advance(3 * S)
    after = {label: sent for label, sent, _, _ in lab.call_counts()}
    assert after["front → cart:80"] > before["front → cart:80"] + 30
    assert after["cart → stock:80"] == before["cart → stock:80"]
    assert "stock:80" not in notes(lab)
    assert lab.do(Apply((("app.yaml", SHOP.replace("replicas: 1", "replicas: 3", 1)),))).ok
    lab.advance(20 * S)
    callers = {row.source.rpartition(":")[0] for row in lab.snapshot().traces if row.label == "front → cart:80"}
    assert len(callers) == 3
    assert set(lab.totals.by_status) <= {"500"}  # the cart's pods were replaced meanwhile


def test_given_calls_replace_guesses_and_may_be_repeated_or_ignored() -> None:
    front, cart = Key("Deployment", "default", "front"), Key("Service", "default", "cart")
    given = (GivenCall(front, cart, 80, times=2, fatal=False),)
    lab = lab_of(SHOP, calls="given", given_calls=given)
    assert edges(lab) == ["front → cart:80"]
    lab.advance(S)
    for key in lab.store.keys("Pod"):
        if key.name.startswith("cart"):
            lab.do(Kill(key, "crash"))
    lab.advance(2 * S)
    (_, sent, _, failed) = lab.call_counts()[0]
    assert failed > 20
    assert lab.totals.failed == 0
    assert 2 * lab.totals.sent - 4 <= sent <= 2 * lab.totals.sent
    with pytest.raises(KflabError, match="Service default/cart has no TCP port 81; it has 80"):
        lab_of(SHOP, calls="given", given_calls=(GivenCall(front, cart, 81),))


def test_what_is_saved_opens_again_as_the_same_lab() -> None:
    front, cart = Key("Deployment", "default", "front"), Key("Service", "default", "cart")
    lab = lab_of(SHOP, calls="given", given_calls=(GivenCall(front, cart, 80, 3, False),))
    tree = lab.journal.as_tree(S)
    assert tree["cluster"]["calls"] == {
        "default/Deployment/front": [
            {"service": "default/cart", "port": 80, "times": 3, "onFailure": "ignore"},
        ]
    }  # fmt: skip


# --- real manifests ------------------------------------------------------------------------------------------------


@needs_shared
def test_without_the_cart_online_boutique_s_front_fails_and_recommendations_go_on() -> None:
    spec = open_what([str(BOUTIQUE)]).spec
    clients = (
        ClientSpec("http://frontend.default/", 40.0, from_pod="default/Deployment/loadgenerator"),
        ClientSpec("http://recommendationservice.default:8080/", 40.0, from_pod="default/Deployment/loadgenerator"),
    )
    lab = Lab(LabSpec("boutique", spec.tabs, clients=clients))
    assert len(CallGraph(lab.store, lab.spec).edges[Key("Deployment", "default", "frontend")]) == 7
    lab.advance(2 * S)
    assert lab.totals.failed == 0
    pod = next(key for key in lab.store.keys("Pod") if key.name.startswith("cartservice"))
    lab.do(Kill(pod, "delete"))
    lab.advance(6 * S)
    finished = {0: [0, 0], 1: [0, 0]}
    for one in lab.sampler.recent():
        if one.stream in finished and one.start_ns > 4 * S:
            finished[one.stream][one.ok] += 1
    assert finished[0][0] > 40
    assert finished[0][1] == 0
    assert finished[1][0] == 0
    assert finished[1][1] > 40
    assert sum(bill.failed for bill in lab.autopsy.bills) == lab.totals.failed
