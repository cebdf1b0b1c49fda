"""One request through all hops: the overview's packet table, its variants, retries, and calls from inside."""

from dataclasses import replace

import pytest
from clusters import INGRESS_SERVICE, PRODUCT_SERVICE, overview, world

from kflab.dataplane.memory_view import BlankMemory, KeptConnection
from kflab.dataplane.packets import Hop, RequestTrace
from kflab.dataplane.request import Choices, Record, Request, TryRecord, trace_request
from kflab.dataplane.trace_text import render_json, render_text
from kflab.dataplane.world import Fate, StaticWorld
from kflab.errors import KflabError
from kflab.manifest.objects import Key

BROWSER = Request("https://api.example.com/products", source="203.0.113.45", source_port=54321)
FIRST = Choices(entry=0, backend=(0, 0, 0), upstream_ports=(39123, 39127, 39131))
CRASHED = 1 << 31
"""A backend draw that picks the second of three pods."""


def numbered(trace: RequestTrace) -> list[Hop]:
    return [hop for hop in trace.hops if hop.number]


def rows(trace: RequestTrace) -> list[tuple[str, str]]:
    return [(hop.after.source, hop.after.destination) for hop in numbered(trace) if hop.after]


def without(made: StaticWorld, address: str, *, gone: bool = False) -> StaticWorld:
    """The same cluster in which a pod refuses (its container crashed) or nobody has its address."""
    if gone:
        return replace(made, silent=frozenset({address}))
    pod = made.pods[address]
    return replace(made, pods={**made.pods, address: replace(pod, status=replace(pod.status, ready=False))})


class TestOverview:
    def test_the_packet_table_of_the_brief(self) -> None:
        trace = trace_request(world(overview()), BROWSER, FIRST)
        assert rows(trace) == [
            ("203.0.113.45:54321", "52.100.10.20:443"),
            ("203.0.113.45:54321", "10.0.1.50:30443"),
            ("203.0.113.45:54321", "10.244.1.10:443"),
            ("10.244.1.10:39123", "10.96.100.50:80"),
            ("10.244.1.10:39123", "10.244.2.25:8080"),
        ]
        assert [hop.number for hop in numbered(trace)] == [1, 2, 3, 4, 5]
        assert [str(hop.chance) for hop in numbered(trace)] == ["1", "1", "1/2", "1", "1/3"]
        assert [hop.where for hop in numbered(trace)] == [
            "client",
            "load balancer",
            "node-a, kernel",
            "ingress, NGINX",
            "node-a, kernel",
        ]
        assert trace.status == "200"
        assert trace.tries == 1

    def test_the_text_names_the_five_steps_as_the_brief_does(self) -> None:
        text = render_text(trace_request(world(overview()), BROWSER, FIRST))
        steps = [" ".join(line.split()) for line in text.splitlines() if line.startswith("  Step ")]
        assert steps == [
            "Step 1: Browser to LoadBalancer 203.0.113.45:54321 → 52.100.10.20:443 1",
            "Step 2: LoadBalancer to Node 203.0.113.45:54321 → 10.0.1.50:30443 1",
            "Step 3: Node to Ingress Pod 203.0.113.45:54321 → 10.244.1.10:443 1/2",
            "Step 4: Ingress to Service 10.244.1.10:39123 → 10.96.100.50:80 1",
            "Step 5: Service to Pod 10.244.1.10:39123 → 10.244.2.25:8080 1/3",
        ]

    def test_the_way_back_undoes_each_rewriting_in_reverse(self) -> None:
        trace = trace_request(world(overview()), BROWSER, FIRST)
        assert [(hop.where, hop.after.source, hop.after.destination) for hop in trace.back if hop.after] == [
            ("pod 7xk2p", "10.244.2.25:8080", "10.244.1.10:39123"),
            ("node-a, kernel", "10.96.100.50:80", "10.244.1.10:39123"),
            ("ingress, NGINX", "10.244.1.10:443", "203.0.113.45:54321"),
            ("node-a, kernel", "10.0.1.50:30443", "203.0.113.45:54321"),
            ("load balancer", "52.100.10.20:443", "203.0.113.45:54321"),
        ]

    def test_each_hop_names_who_moved_it_who_wrote_the_rule_and_what_else_could_have_been(self) -> None:
        _, balancer, entry, nginx, backend = numbered(trace_request(world(overview()), BROWSER, FIRST))
        assert balancer.chooser == "only choice"
        assert balancer.why.startswith("flow hash; 1 healthy target of 2")
        assert [(item.address, str(item.chance)) for item in balancer.alternatives] == [
            ("10.0.1.50:30443", "1"),
            ("10.0.1.51:30443", "0"),
        ]
        assert entry.mover == "kernel DNAT"
        assert entry.writer == "kube-proxy on node-a, rules rev 41, written 57.3 s before the start"
        assert entry.rules[-1].endswith("-j DNAT --to-destination 10.244.1.10:443")
        assert entry.why == "DNAT · KUBE-SERVICES → NODEPORTS → EXT → SVL → SEP, rules 41"
        assert nginx.chooser == "only choice"
        assert "did not ask DNS, it read the ClusterIP from the API" in nginx.why
        assert "CoreDNS would have answered the same" in nginx.why
        assert [str(item.chance) for item in backend.alternatives] == ["1/3", "1/3", "1/3"]
        assert [item.chosen for item in backend.alternatives] == [True, False, False]
        assert PRODUCT_SERVICE in backend.touches
        assert backend.outcome == "200"

    def test_defaults_rewrite_the_source_and_go_straight_to_a_pod(self) -> None:
        to_node_b = replace(FIRST, flow_hash=(1 << 32) - 1)
        trace = trace_request(world(overview(defaults=True)), BROWSER, to_node_b)
        _, balancer, entry, nginx = numbered(trace)
        assert balancer.chooser == "flow hash"
        assert entry.after is not None
        assert entry.after.src == "10.0.1.51"
        assert entry.after.destination == "10.244.1.10:443"
        assert "MASQUERADE: the pod sees 10.0.1.51 (the node's InternalIP" in entry.why
        assert entry.rules[-1].endswith("-j MASQUERADE --random-fully")
        assert nginx.chooser == "round robin"
        assert nginx.after is not None
        assert nginx.after.destination == "10.244.2.25:8080"
        assert trace.back[-1].after is not None
        assert trace.back[-1].after.destination == "203.0.113.45:54321"

    def test_masquerade_to_a_pod_on_the_same_node_shows_the_bridge(self) -> None:
        trace = trace_request(world(overview(defaults=True)), BROWSER, replace(FIRST, flow_hash=0))
        entry = numbered(trace)[2]
        assert entry.after is not None
        assert entry.after.src == "10.244.1.1"
        assert "bridge" in entry.why


class TestRetries:
    def test_a_refused_try_is_a_remark_and_the_next_one_a_new_draw(self) -> None:
        made = without(world(overview()), "10.244.2.26")
        trace = trace_request(made, BROWSER, replace(FIRST, backend=(CRASHED, 0, 0)))
        assert rows(trace)[4:] == [
            ("10.244.1.10:39123", "10.244.2.26:8080"),
            ("10.244.1.10:39127", "10.96.100.50:80"),
            ("10.244.1.10:39127", "10.244.2.25:8080"),
        ]
        remark = next(hop for hop in trace.hops if not hop.number)
        assert (remark.where, remark.outcome) == ("pod m4dd8", "refused")
        assert numbered(trace)[5].why == "2nd try of 3, after an error"
        assert numbered(trace)[6].why == "DNAT · same rules, a new draw"
        assert (trace.status, trace.tries) == ("200", 2)
        assert len(trace.back) == 5

    def test_three_refused_tries_are_a_502_of_nginx(self) -> None:
        made = without(world(overview()), "10.244.2.26")
        trace = trace_request(made, BROWSER, replace(FIRST, backend=(CRASHED,) * 3))
        assert (trace.status, trace.tries) == ("502", 3)
        assert trace.back[0].where == "ingress, NGINX"

    def test_silent_pods_are_a_504(self) -> None:
        made = without(world(overview()), "10.244.2.26", gone=True)
        assert trace_request(made, BROWSER, replace(FIRST, backend=(CRASHED,) * 3)).status == "504"

    def test_a_service_without_endpoints_is_refused_by_rule_at_every_try(self) -> None:
        objects = [item for item in overview() if item.key.name != "product-service-x1"]
        trace = trace_request(world(objects), BROWSER, FIRST)
        rejected = [hop for hop in numbered(trace) if hop.outcome == "refused"]
        assert len(rejected) == 3
        assert rejected[0].rules[-1].endswith("-j REJECT --reject-with icmp-port-unreachable")
        assert trace.status == "502"


class TestRecord:
    RECORD = Record(
        status="200",
        finish_ns=4_100_000,
        tries=(
            TryRecord("refused", 300_000, 500_000, "10.244.2.26:8080"),
            TryRecord("ok", 500_000, 4_000_000, "10.244.2.25:8080"),
        ),
        queue_ns=700_000,
        service_ns=2_400_000,
        node="node-a",
        ingress="10.244.1.10:443",
    )
    CHOICES = replace(FIRST, backend=(CRASHED, 0, 0))

    def test_times_come_from_the_record_and_add_up(self) -> None:
        trace = trace_request(world(overview()), BROWSER, self.CHOICES, record=self.RECORD)
        assert trace.latency_ns == 4_100_000
        assert trace.parts == (
            ("refused", 200_000),
            ("queue", 700_000),
            ("service", 2_400_000),
            ("network", 800_000),
        )
        assert sum(value for _, value in trace.parts) == trace.latency_ns

    def test_the_refused_try_says_how_long_and_who_did_not_know(self) -> None:
        class Crashed(StaticWorld):
            def fate_of(self, pod: Key, t_ns: int) -> Fate | None:
                return Fate("crashed", t_ns - 130_000_000) if pod.name.endswith("m4dd8") else None

        made = world(overview())
        crashed = Crashed(**{name: getattr(made, name) for name in made.__dataclass_fields__})
        trace = trace_request(crashed, BROWSER, self.CHOICES, record=self.RECORD)
        remark = next(hop for hop in trace.hops if not hop.number)
        assert remark.why.startswith("refused in 0.2 ms: crashed 0.13 s before; node-a does not know")

    def test_a_walk_that_differs_from_the_record_says_so(self) -> None:
        other = replace(self.RECORD, ingress="10.244.1.11:443")
        trace = trace_request(world(overview()), BROWSER, self.CHOICES, record=other)
        assert [hop.outcome for hop in trace.hops if hop.where == "kflab"] == ["mismatch"]

    def test_a_kept_connection_stays_on_its_pod_by_conntrack(self) -> None:
        class Kept(BlankMemory):
            def kept_connection(self, ingress: Key, upstream: str, try_number: int) -> KeptConnection | None:
                return KeptConnection("10.244.2.27:8080", 41000)

        trace = trace_request(world(overview()), BROWSER, FIRST, Kept())
        assert rows(trace)[3:] == [
            ("10.244.1.10:41000", "10.96.100.50:80"),
            ("10.244.1.10:41000", "10.244.2.27:8080"),
        ]
        assert numbered(trace)[4].mover == "conntrack"
        assert numbered(trace)[4].rules == ()


class TestOtherWays:
    POD = Key("Pod", "default", "product-5b6c8-7xk2p")

    def from_pod(self, url: str) -> RequestTrace:
        request = Request(url, source="10.244.2.25", source_port=40000, pod=self.POD, node="node-b")
        return trace_request(world(overview()), request, FIRST)

    def test_a_curl_from_a_pod_asks_coredns_first_and_is_dnated_on_its_own_node(self) -> None:
        asked, dialled, dnat = numbered(self.from_pod("http://product-service/products"))
        assert asked.mover == "resolver"
        assert asked.after is not None
        assert asked.after.destination == "10.244.2.2:53"
        assert "product-service.default.svc.cluster.local → 10.96.100.50" in asked.why
        assert dialled.after is not None
        assert dialled.after.destination == "10.96.100.50:80"
        assert dnat.node == "node-b"

    def test_a_pod_that_reaches_itself_is_masqueraded(self) -> None:
        dnat = numbered(self.from_pod("http://product-service/"))[-1]
        assert dnat.after is not None
        assert (dnat.after.src, dnat.after.dst) == ("10.244.2.1", "10.244.2.25")

    def test_a_name_that_does_not_exist(self) -> None:
        trace = self.from_pod("http://nope/")
        assert trace.status == "no such host"
        assert "4 names asked" in render_text(trace)

    def test_a_port_the_service_lacks_times_out(self) -> None:
        trace = self.from_pod("http://10.96.100.50:81/")
        assert trace.status == "timeout"
        assert "no Service rule takes it" in trace.hops[-1].why

    def test_a_pods_own_address_meets_no_rule(self) -> None:
        trace = self.from_pod("http://10.244.2.26:8080/")
        assert trace.status == "200"
        assert [hop.mover for hop in numbered(trace)] == ["CNI route"]

    def test_local_policy_drops_on_the_wrong_node(self) -> None:
        request = replace(BROWSER, url="http://10.0.1.51:30443/")
        trace = trace_request(world(overview()), request, FIRST)
        assert trace.status == "timeout"
        assert trace.hops[-1].outcome == "dropped"
        assert "has no local endpoints" in trace.hops[-1].why

    def test_nginx_answers_404_itself_for_a_path_no_rule_has(self) -> None:
        trace = trace_request(world(overview()), replace(BROWSER, url="https://api.example.com/x"), FIRST)
        assert (trace.status, trace.tries) == ("404", 0)
        assert trace.back[-1].after is not None

    def test_http_is_redirected_where_the_host_has_tls(self) -> None:
        request = replace(BROWSER, url="http://api.example.com/products", connect_to=("10.0.1.50", 30443))
        trace = trace_request(world(overview()), request, FIRST)
        assert trace.status == "308"
        assert "https://api.example.com/products" in trace.hops[-1].why

    @pytest.mark.parametrize("url", ["https://", "ftp://x/", "http://x:99999/", "http://[/"])
    def test_a_bad_url_is_one_clear_error(self, url: str) -> None:
        with pytest.raises(KflabError, match="URL"):
            trace_request(world(overview()), replace(BROWSER, url=url), FIRST)

    def test_hostile_text_is_shown_escaped_and_json_is_stable(self) -> None:
        trace = trace_request(world(overview()), replace(BROWSER, url="https://api.example.com/\x1b[2J\u202e"), FIRST)
        assert "\x1b" not in render_text(trace)
        assert "\u202e" not in render_text(trace)
        assert render_json(trace).isascii()

    def test_the_ingress_service_is_touched_by_its_hops(self) -> None:
        trace = trace_request(world(overview()), BROWSER, FIRST)
        assert INGRESS_SERVICE in trace.hops[1].touches
        assert INGRESS_SERVICE in trace.hops[2].touches
