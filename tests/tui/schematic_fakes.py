"""More snapshots for the schematic and the nodes view: many pods, no NAT, black holes, other shapes of paths."""

from dataclasses import replace
from typing import Any

from textual.app import App, ComposeResult

from kflab.lab.snapshot import Band, Candidate, NodeRow, PodRow, Snapshot
from kflab.manifest.objects import Key
from kflab.tui.canvas_view import CanvasView
from kflab.tui.glyphs import UNICODE
from kflab.tui.messages import ObjectSelected
from kflab.tui.tokens import THEMES
from tests.tui.fakes import INGRESS_1, INGRESS_2, PRODUCT_SVC, SNAPSHOTS

LETTERS = "bcdfghjklmnpqrstvwxz2456789"


def steady() -> Snapshot:
    return SNAPSHOTS["steady"]()


def crash() -> Snapshot:
    return SNAPSHOTS["crash_half"]()


def service_band(snapshot: Snapshot) -> Band:
    return next(band for band in snapshot.bands if band.kind == "service")


def with_service(snapshot: Snapshot, band: Band, nodes: tuple[NodeRow, ...] | None = None) -> Snapshot:
    """The same lab with another Service band (and nodes)."""
    bands = tuple(band if one.kind == "service" else one for one in snapshot.bands)
    return replace(snapshot, bands=bands, nodes=snapshot.nodes if nodes is None else nodes)


def pod(name: str, at: int, node: str, share: float, rate: float, state: str = "ready", **more: object) -> Candidate:
    listed = state in ("ready", "crashed")
    return replace(
        Candidate(
            Key("Pod", "default", name),
            name,
            state,
            f"10.244.{ord(node[-1]) - 96}.{10 + at}",
            node,
            share if listed else None,
            share if listed else None,
            share * 0.9,
            share * 1.1,
            rate if listed else 0.0,
            listed=listed,
        ),
        **more,  # type: ignore[arg-type]  # fields by name
    )


def many(n_nodes: int = 8, each: int = 9) -> Snapshot:
    """Picture 10: pods grouped by node, one starting, one terminating."""
    base = steady()
    total = n_nodes * each
    candidates = []
    rows = [base.nodes[0]]
    for n in range(n_nodes):
        node = f"node-{chr(98 + n)}"
        pods = []
        for i in range(each):
            number = n * each + i
            tail = f"{LETTERS[number % 27]}{LETTERS[number * 7 % 27]}n4{LETTERS[number // 27 % 27]}"
            state = "starting" if number == 2 * each + 3 else "terminating" if number == 4 * each + 7 else "ready"
            one = pod(f"product-6f9c7d5b8-{tail}", i, node, 1 / total, 1000 / total, state)
            candidates.append(one)
            pods.append(PodRow(one.key, one.state, one.address, one.rate_rps, False, 0, one.share, one.expected))
        key = Key("Node", "", node)
        rows.append(
            NodeRow(key, f"10.0.1.{51 + n}", "True", "zone-1", "rev 655", True, True, True, False, 0, None, tuple(pods))
        )
    lb = next(band for band in base.bands if band.kind == "lb")
    idle = tuple(
        Candidate(row.key, row.key.name, "unhealthy", row.address, "", 0.0, None, note="no ingress pod")
        for row in rows[1:]
    )
    bands = tuple(replace(band, candidates=(lb.candidates[0], *idle)) if band is lb else band for band in base.bands)
    band = replace(service_band(base), candidates=tuple(candidates))
    return with_service(replace(base, bands=bands), band, tuple(rows))


def no_nat() -> Snapshot:
    """`overview-defaults`: NGINX goes straight to the pods, traffic enters at every node."""
    base = steady()
    band = replace(
        service_band(base), title="upstream", detail="product-service 10.244.2.25-27:8080 · round robin, in NGINX"
    )
    base = with_service(base, band)
    bands = tuple(
        replace(
            one,
            candidates=tuple(
                replace(row, state="healthy", expected=1 / 3, share=1 / 3, rate_rps=333.0, note="")
                for row in one.candidates
            ),
        )
        if one.kind == "lb"
        else one
        for one in base.bands
    )
    return replace(base, bands=bands)


def black_hole() -> Snapshot:
    """A pod whose sandbox is gone while rules still list it: nobody answers."""
    base = crash()
    band = service_band(base)
    rows = tuple(replace(one, state="gone") if one.failing else one for one in band.candidates)
    return replace(with_service(base, replace(band, candidates=rows)), traces=())


def cluster_ip() -> Snapshot:
    """A client pod calls a Service that nobody reaches from outside; pods on three nodes."""
    base = steady()
    client = replace(base.bands[0], detail="pod default/client", rate_rps=1.0)
    band = replace(
        service_band(base),
        parent=client.id,
        rate_rps=1.0,
        candidates=tuple(
            replace(one, node=f"node-{'abc'[i]}", rate_rps=0.33) for i, one in enumerate(service_band(base).candidates)
        ),
        caller_nodes=("node-a",),
    )
    return replace(base, bands=(client, band), uncalled=(PRODUCT_SVC,))


def two_ingress_nodes() -> Snapshot:
    """Ingress pods on two nodes, both entered; pods on both of them, too."""
    base = steady()
    band = service_band(base)
    nodes = ("node-a", "node-b", "node-b")
    band = replace(
        band,
        candidates=tuple(replace(one, node=nodes[i]) for i, one in enumerate(band.candidates)),
        caller_nodes=("node-a", "node-b"),
    )
    bands = []
    for one in with_service(base, band).bands:
        if one.kind == "ingress":
            rows = tuple(
                replace(row, node="node-a" if row.key == INGRESS_1 else "node-b" if row.key == INGRESS_2 else row.node)
                for row in one.candidates
            )
            one = replace(one, candidates=rows, caller_nodes=("node-a", "node-b"))
        if one.kind == "lb":
            rows = tuple(
                replace(row, state="healthy", expected=0.5, share=0.5, rate_rps=500.0, note="")
                if row.name != "node-c"
                else row
                for row in one.candidates
            )
            one = replace(one, candidates=rows)
        bands.append(one)
    return replace(base, bands=tuple(bands))


def load_balancer_only() -> Snapshot:
    """A LoadBalancer Service without an ingress."""
    base = steady()
    kept = [band for band in base.bands if band.kind in ("client", "dns", "lb")]
    lb = replace(kept[2], detail="52.100.10.20:80 → :30080 · NLB hash, 1 of 3")
    band = replace(service_band(base), parent=lb.id)
    return replace(base, bands=(kept[0], kept[1], lb, band))


CASES = {
    "steady": steady,
    "crash": crash,
    "crash_two": SNAPSHOTS["crash_two"],
    "sixty": SNAPSHOTS["sixty_pods"],
    "many": many,
    "no_nat": no_nat,
    "black_hole": black_hole,
    "cluster_ip": cluster_ip,
    "two_ingress_nodes": two_ingress_nodes,
    "load_balancer_only": load_balancer_only,
}
"""Every shape, by name."""


class OneView(App[None]):
    """Nothing but the view."""

    CSS = "Screen { background: $tok-bg; }"

    def __init__(self, view: type[CanvasView], snapshot: Snapshot, glyphs: Any = UNICODE) -> None:
        super().__init__()
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = "slate"
        self.glyphs = glyphs
        self.kind = view
        self.first = snapshot
        self.chosen: list[Key | None] = []

    def compose(self) -> ComposeResult:
        self.view = self.kind()
        yield self.view

    def on_mount(self) -> None:
        self.view.focus()
        self.view.show(self.first)

    def on_object_selected(self, message: ObjectSelected) -> None:
        if not message.relayed:
            self.chosen.append(message.key)

    def lines(self) -> list[str]:
        """What the terminal shows."""
        height = self.view.size.height
        return [self.view.render_line(y).text.rstrip() for y in range(height)]

    def text(self) -> str:
        return "\n".join(self.lines())


def row_of(lines: list[str], word: str, where: int = 0) -> int:
    return [y for y, line in enumerate(lines) if word in line][where]
