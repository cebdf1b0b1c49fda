"""The opened request, printed: the design's picture, and what must not be lost when it is narrow."""

from dataclasses import replace

from kflab.tui.glyphs import ASCII, UNICODE
from kflab.tui.request_rows import possible_sentences, request_page, title_words
from tests.tui import fakes


def text(width: int, selected: int = 0, **changes: object) -> list[str]:
    trace = replace(fakes.request(), **changes)
    return [row.text for row in request_page(trace, width, selected, UNICODE).rows]


def test_the_page_of_the_picture() -> None:
    lines = [" ".join(line.split()) for line in text(118)]
    assert lines[1] == "1 client 203.0.113.45:54321 → 52.100.10.20:443 1 DNS answered 52.100.10.20; only choice"
    assert lines[2] == "2 load balancer same → 10.0.1.50:30443 1 flow hash; 1 healthy target of 3"
    assert lines[5] == "5 node-a, kernel same → 10.244.2.26:8080 1/3 DNAT · KUBE-SERVICES → SVC → SEP, rules 41"
    assert lines[6] == "pod m4dd8 ✖ refused in 0.2 ms: crashed 0.13 s before; node-a does not know"
    assert lines[7] == "6 ingress, NGINX 10.244.1.10:39127 → 10.96.100.50:80 1 2nd try of 3, after an error"
    assert lines[9].startswith("↩ conntrack undoes 7 and 3: the client sees 52.100.10.20:443")
    assert "refused try 0.2 ━ queue 0.7 ━ service 2.9 ━ network 0.3" in lines[10]
    assert lines[11].endswith("not modelled: TLS handshake time")


def test_the_refused_destination_and_sentence_are_in_the_colour_of_loss() -> None:
    rows = request_page(fakes.request(), 118, 0, UNICODE).rows
    refused = {piece[0] for row in rows for piece in row.pieces if piece[1] == "lost"}
    assert "10.244.2.26:8080" in refused
    assert any(words.startswith("✖ refused") for words in refused)
    assert "10.244.2.25:8080" not in refused


def test_what_else_was_possible_names_no_candidate_that_was_tried() -> None:
    assert possible_sentences(fakes.request()) == [
        "at 3: 10.244.1.11:443 (1/2)",
        "at 5 and 7: 10.244.2.27:8080 (1/3)",
    ]


def test_a_narrow_page_moves_reasons_below_and_loses_no_word() -> None:
    wide, narrow = " ".join(text(118)), " ".join(text(78))
    for word in ("flow hash;", "KUBE-SERVICES", "does", "know", "10.244.2.26:8080", "handshake", "service"):
        assert word in wide
        assert word in narrow
    assert all(len(line) <= 78 for line in text(78))


def test_the_selected_hop_lists_its_candidates_and_writer() -> None:
    lines = text(118, 5)
    assert any("✓" in line and "10.244.2.26:8080" in line for line in lines)
    assert any("written by" in line and "kube-proxy on node-a" in line for line in lines)


def test_parts_fill_the_bar_each_with_a_cell_at_least() -> None:
    parts = (("refused", 1), ("queue", 1), ("service", 10_000_000))
    rows = request_page(replace(fakes.request(), parts=parts), 118, 0, UNICODE).rows
    bar = next(row for row in rows if "4.1 ms" in row.text)
    tokens = [(piece[1], len(piece[0])) for piece in bar.pieces if set(piece[0]) == {"━"}]
    assert [token for token, _ in tokens[:3]] == ["lost", "late", "traffic"]
    assert sum(cells for _, cells in tokens[:3]) == 40


def test_ipv6_and_hostile_words_keep_the_page_whole() -> None:
    hops = tuple(
        replace(hop, why="[/] \x1b[31mred\u202e" if hop.number == 4 else hop.why) for hop in fakes.request().hops
    )
    lines = text(118, hops=hops)
    assert any("[/] \\e[31mred\\u202e" in line for line in lines)


def test_ascii_terminals_get_ascii() -> None:
    rows = request_page(fakes.request(), 118, 5, ASCII).rows
    assert all(row.text.isascii() for row in rows)


def test_a_title_too_long_for_the_pane_gives_up_the_host_first() -> None:
    assert title_words(fakes.request(), UNICODE, 50) == "GET /products · 200 · 2 tries · 4.1 ms · at 12.53 s"


def test_a_long_reason_is_one_line_until_its_hop_is_chosen() -> None:
    why = "TLS ends; host ✓ and /products ✓; NGINX did not ask DNS, it read the ClusterIP from the API"
    hops = tuple(replace(hop, why=why if hop.number == 4 else hop.why) for hop in fakes.request().hops)
    assert "TLS ends; host ✓ and /products ✓ …" in " ".join(text(118, hops=hops))
    assert "ClusterIP from the API" not in " ".join(text(118, hops=hops))
    assert "ClusterIP from the API" in " ".join(" ".join(text(118, 4, hops=hops)).split())


def test_under_the_chosen_hop_stands_who_its_receiver_sees() -> None:
    made = fakes.request()
    words = (
        "pod 4kq2x sees 10.0.1.51, node-b, not 203.0.113.45, the client: externalTrafficPolicy Cluster masquerades it"
    )
    hops = tuple(replace(hop, seen=words) if hop.number == 3 else hop for hop in made.hops)
    trace = replace(made, hops=hops)
    for width in (78, 120):
        page = request_page(trace, width, 3, UNICODE)
        text = " ".join(" ".join(row.text for row in page.rows).split())
        assert words in text
        assert "10.0.1.51, node-b" in "".join(row.text for row in page.rows[page.row_of_hop[3] :][:4])
        other = request_page(trace, width, 2, UNICODE)
        assert words not in " ".join(" ".join(row.text for row in other.rows).split())
