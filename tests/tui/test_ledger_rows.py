"""Which rows the ledger has, and what folds when rows run out."""

from dataclasses import replace

import pytest

from kflab.lab.snapshot import Snapshot
from kflab.tui.ledger_rows import (
    Folding,
    LedgerRow,
    RowKind,
    Wanted,
    address_of,
    choose_folding,
    count_rows,
    make_rows,
    outside,
)
from kflab.tui.ledger_tiers import address_range

from .fakes import PODS, PRODUCT_SVC, crash_half, sixty_pods, steady

ORDERS = "service/shop/orders:80"


def rows_in(snapshot: Snapshot, height: int, wanted: Wanted) -> list[LedgerRow]:
    return make_rows(snapshot, wanted, choose_folding(snapshot, wanted, height))


def kinds(rows: list[LedgerRow]) -> list[str]:
    return [row.kind.value for row in rows]


class TestOrder:
    def test_bands_stand_in_path_order_with_every_candidate(self) -> None:
        titles = [row.band.title for row in rows_in(steady(), 23, Wanted()) if row.kind is RowKind.HEAD and row.band]
        assert titles == ["client", "DNS", "load balancer", "ingress", "Service"]

    def test_the_failed_row_follows_the_client(self) -> None:
        assert kinds(rows_in(steady(), 23, Wanted()))[:2] == ["head", "failed"]

    @pytest.mark.parametrize("enough", [1, 5, 1000])
    def test_rows_are_counted_only_as_far_as_it_matters(self, enough: int) -> None:
        every = len(make_rows(sixty_pods(), Wanted(), Folding()))
        assert count_rows(sixty_pods(), Wanted(), Folding(), enough) == min(enough, every)

    def test_a_crash_moves_no_row(self) -> None:
        before = [row.id for row in rows_in(steady(), 23, Wanted())]
        after = [row.id for row in rows_in(crash_half(), 23, Wanted())]
        assert after == before

    def test_low_terminals_lose_connector_rows_and_nothing_else(self) -> None:
        full = [row.id for row in rows_in(steady(), 23, Wanted())]
        low = [row.id for row in rows_in(steady(), 20, Wanted(connectors=False))]
        gone = [name for name in full if name not in low]
        assert [name for name in full if name in low] == low
        assert all("blank" in name or "footer" in name or name.startswith("route") for name in gone)


class TestFolding:
    def test_what_fits_is_not_folded(self) -> None:
        assert choose_folding(steady(), Wanted(), 23) == Folding()

    @pytest.mark.parametrize(("height", "folded"), [(22, "lb"), (19, "ingress")])
    def test_nodes_fold_first_then_ingress_pods(self, height: int, folded: str) -> None:
        rows = rows_in(steady(), height, Wanted())
        groups = [row.band.kind for row in rows if row.kind is RowKind.GROUP and row.band]
        assert groups[-1] == folded
        assert len(rows) <= height

    def test_sixty_pods_stand_as_in_the_picture(self) -> None:
        rows = rows_in(sixty_pods(), 24, Wanted(unfolded=ORDERS))
        assert len(rows) == 24
        assert kinds(rows)[8:13] == ["fold", "fold", "fold", "fold", "candidate"]
        names = [row.candidate.name[-5:] for row in rows if row.candidate is not None]
        assert names == ["2h9xw", "5kfjq", "8ctzv", "b7m4n", "d2rlp", "gx6ks"]
        more = next(row for row in rows if row.kind is RowKind.MORE)
        assert more.text.startswith("4 more as expected, 10.")
        assert more.refused == "27 refused"

    def test_the_crashed_pod_is_listed_however_little_room_there_is(self) -> None:
        rows = rows_in(sixty_pods(), 20, Wanted(unfolded=ORDERS, connectors=False))
        assert any(row.candidate is not None and row.candidate.name.endswith("b7m4n") for row in rows)

    def test_a_selected_pod_is_listed(self) -> None:
        snapshot = sixty_pods()
        pod = snapshot.bands[-2].candidates[9].key
        rows = rows_in(snapshot, 24, Wanted(unfolded=ORDERS, keep=frozenset({pod})))
        assert pod in [row.key for row in rows]

    def test_client_failed_and_who_knows_never_fold(self) -> None:
        rows = rows_in(sixty_pods(), 8, Wanted(connectors=False))
        assert kinds(rows)[:2] == ["head", "failed"]
        assert RowKind.KNOWS in [row.kind for row in rows]

    def test_many_services_share_a_row(self) -> None:
        snapshot = sixty_pods()
        bands = snapshot.bands
        many = [
            replace(bands[-1], id=f"service/shop/s{i}:80", key=PRODUCT_SVC._replace(name=f"s{i}")) for i in range(30)
        ]
        rows = rows_in(replace(snapshot, bands=(*bands, *many)), 24, Wanted(unfolded=ORDERS))
        line = next(row for row in rows if row.kind is RowKind.SERVICES)
        assert "more Services as expected · " in line.text
        assert ORDERS in [row.id for row in rows]

    def test_rules_of_many_nodes_are_one_strip(self) -> None:
        rows = rows_in(sixty_pods(), 24, Wanted(unfolded=ORDERS))
        strip = [row for row in rows if row.kind is RowKind.STRIP]
        assert [len(row.knowers) for row in strip] == [8]

    def test_by_hand_wins(self) -> None:
        band = next(band for band in steady().bands if band.kind == "lb")
        rows = rows_in(steady(), 40, Wanted(by_hand={band.id: True}))
        assert [row.kind for row in rows if row.band is band] == []  # bands are rebuilt per snapshot
        assert any(row.kind is RowKind.GROUP and row.band and row.band.id == band.id for row in rows)


class TestFilter:
    def test_only_matching_candidates_stay_under_their_heads(self) -> None:
        rows = rows_in(sixty_pods(), 60, Wanted(filter_text="B7M4N"))
        found = [row.candidate.name for row in rows if row.candidate is not None]
        assert len(found) == 5
        assert all("b7m4n" in name for name in found)

    def test_state_and_node_match_too(self) -> None:
        rows = rows_in(sixty_pods(), 60, Wanted(filter_text="starting"))
        assert [row.candidate.name[-5:] for row in rows if row.candidate is not None] == ["b7m4n"]


class TestWords:
    def test_address_of_a_service_is_read_from_its_detail(self) -> None:
        band = steady().bands[-1]
        assert address_of(band) == "10.96.100.50"
        assert address_of(replace(band, detail="web [fd00::1]:80 → :8080")) == "fd00::1"

    def test_a_run_of_addresses_is_a_range(self) -> None:
        assert address_range(["10.0.1.50", "10.0.1.51", "10.0.1.52"]) == "10.0.1.50–52"
        assert address_range(["10.0.1.50", "10.0.1.60"]) == "10.0.1.50 +1"

    def test_outside_needs_an_expectation(self) -> None:
        pod = steady().bands[-1].candidates[0]
        assert outside(pod) == 0
        assert outside(replace(pod, share=0.9)) == 1
        assert outside(replace(pod, share=0.01)) == -1
        assert outside(replace(pod, share=0.9, expected=None)) == 0
        assert pod.key == PODS[0]
