"""Entries that one request makes on each node, their states and timeouts, and the line that is printed."""

import pytest
from clusters import overview, world

from kflab.dataplane.conntrack import SECOND as S
from kflab.dataplane.conntrack import (
    ConntrackSettings,
    Course,
    Entry,
    Life,
    Tracked,
    last_syn_ns,
    life_of,
    tracked_by,
)
from kflab.dataplane.packets import Packet
from kflab.dataplane.request import Choices, Request, trace_request

BROWSER = Request("https://api.example.com/products", source="203.0.113.45", source_port=54321)
FIRST = Choices(entry=0, backend=(0, 0, 0), upstream_ports=(39123, 39127, 39131))
USUAL = ConntrackSettings()


def lines(found: tuple[Tracked, ...]) -> list[tuple[str, str, str, str, str]]:
    return [
        (each.node, each.original.source, each.original.destination, each.reply.source, each.reply.destination)
        for each in found
    ]


class TestEntriesOfARequest:
    def test_dnat_where_it_happens_and_plain_entries_where_it_only_passes(self) -> None:
        made = world(overview())
        trace = trace_request(made, BROWSER, FIRST)
        assert lines(tracked_by(trace.hops, made.node_of)) == [
            ("node-a", "203.0.113.45:54321", "10.0.1.50:30443", "10.244.1.10:443", "203.0.113.45:54321"),
            ("node-a", "10.244.1.10:39123", "10.96.100.50:80", "10.244.2.25:8080", "10.244.1.10:39123"),
            ("node-b", "10.244.1.10:39123", "10.244.2.25:8080", "10.244.2.25:8080", "10.244.1.10:39123"),
        ]

    def test_masquerade_shows_in_the_reply_and_the_next_node_sees_the_new_source(self) -> None:
        made = world(overview(defaults=True))
        trace = trace_request(made, BROWSER, FIRST)
        dnat = next(hop for hop in trace.hops if hop.mover == "kernel DNAT")
        assert dnat.after is not None
        found = tracked_by(trace.hops, made.node_of)
        assert found[0].src_nat
        assert found[0].dst_nat
        assert found[0].reply.destination == dnat.after.source != "203.0.113.45:54321"

    def test_a_rejected_packet_leaves_no_entry(self) -> None:
        without = [obj for obj in overview() if obj.kind != "EndpointSlice" or "product" not in obj.meta.name]
        made = world(without)
        pod = next(iter(made.pods.values()))
        request = Request("http://10.96.100.50/", source="10.244.2.26", source_port=40000, pod=pod.key, node="node-b")
        trace = trace_request(made, request, Choices())
        assert trace.status == "refused"
        assert tracked_by(trace.hops, made.node_of) == ()


class TestLife:
    @pytest.mark.parametrize(
        ("course", "now_s", "state", "left_s", "flags"),
        [
            (Course(0, None), 0, "SYN_SENT", 120, "[UNREPLIED]"),
            (Course(0, None), 2, "SYN_SENT", 119, "[UNREPLIED]"),  # the SYN was sent again after 1 s
            (Course(0, None, accepted=True), 3, "ESTABLISHED", 86_397, "[ASSURED]"),
            (Course(0, None, accepted=True, idle_since_ns=50 * S), 53, "ESTABLISHED", 86_397, "[ASSURED]"),
            (Course(0, S, "ok", True), 61, "TIME_WAIT", 60, "[ASSURED]"),
            (Course(0, S, "reset", True), 2, "CLOSE", 9, "[ASSURED]"),
            (Course(0, 60 * S, "timeout", True), 61, "FIN_WAIT", 119, "[ASSURED]"),
            (Course(0, 5 * S, "timeout"), 6, "SYN_SENT", 117, "[UNREPLIED]"),
        ],
    )
    def test_tcp(self, course: Course, now_s: int, state: str, left_s: int, flags: str) -> None:
        life = life_of(course, "TCP", USUAL, now_s * S)
        assert life is not None
        assert (life.state, (life.expires_ns - now_s * S) // S) == (state, left_s)
        assert [life.assured, life.unreplied] == [flags == "[ASSURED]", flags == "[UNREPLIED]"]

    @pytest.mark.parametrize("answer", ["refused", "rejected", "no upstream"])
    def test_a_refused_connection_leaves_none(self, answer: str) -> None:
        assert life_of(Course(0, S, answer), "TCP", USUAL, S) is None

    def test_entries_end_at_their_timeout(self) -> None:
        closed = Course(0, S, "ok", True)
        assert life_of(closed, "TCP", USUAL, 121 * S - 1) is not None
        assert life_of(closed, "TCP", USUAL, 121 * S) is None

    def test_udp_is_a_stream_only_after_two_seconds(self) -> None:
        quick, slow = Course(0, S, "ok", True), Course(0, 3 * S, "ok", True)
        assert life_of(quick, "UDP", USUAL, S) == Life("", 31 * S)
        assert life_of(slow, "UDP", USUAL, 3 * S) == Life("", 123 * S, assured=True)
        assert life_of(Course(0, 5 * S, "timeout"), "UDP", USUAL, 6 * S) == Life("", 30 * S, unreplied=True)

    def test_syns_go_out_again_with_doubled_waits(self) -> None:
        assert [last_syn_ns(0, until * S) // S for until in (0, 1, 2, 3, 6, 7, 500)] == [0, 1, 1, 3, 3, 7, 63]


def test_what_kube_proxy_sets_and_what_it_leaves() -> None:
    assert USUAL.tcp_s("ESTABLISHED") == 86_400
    assert USUAL.tcp_s("TIME_WAIT") == 120
    assert ConntrackSettings(tcp_established_s=0).tcp_s("ESTABLISHED") == 432_000
    assert [USUAL.max_of(cores) for cores in (0, 1, 4, 8, 64)] == [131_072, 131_072, 131_072, 262_144, 2_097_152]
    assert ConntrackSettings(max_per_core=0).max_of(64) == 262_144


def test_the_line_is_the_tools_own() -> None:
    packet, back = Packet("10.0.0.1", 4000, "10.96.0.10", 53, "UDP"), Packet("10.244.0.7", 53, "10.0.0.1", 4000, "UDP")
    entry = Entry(Tracked("node-a", packet, back), Life("", 29 * S, unreplied=True))
    assert entry.text(0) == (
        "udp      17 29 src=10.0.0.1 dst=10.96.0.10 sport=4000 dport=53 [UNREPLIED] "
        "src=10.244.0.7 dst=10.0.0.1 sport=53 dport=4000 mark=0 use=1"
    )
