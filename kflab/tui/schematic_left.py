"""The left column: client, load balancer, the nodes where traffic enters and calls are made."""

from kflab.lab.snapshot import Band
from kflab.records import dataclass
from kflab.tui import text
from kflab.tui.glyphs import of_state, state_token
from kflab.tui.schematic_draw import DIM, LATE, LOST, SPINE, STRONG, TEXT, Circuit
from kflab.tui.schematic_layout import box_nodes, entry_apart, entry_nodes, idle_targets
from kflab.tui.schematic_path import parts
from kflab.tui.schematic_service import ServiceRules
from kflab.tui.wires import Weight, ink


@dataclass(slots=True)
class LeftColumn:
    """Client, load balancer, the nodes where traffic enters and calls are made."""

    circuit: Circuit

    def draw(self) -> None:
        self._boxes()
        self._trunk()
        self._client()
        self._dns()
        self._load_balancer()
        self._entry()
        self._ingress()
        ServiceRules(self.circuit).draw()

    def _boxes(self) -> None:
        c, plan = self.circuit, self.circuit.left
        x, width = c.frame.left_edge, c.frame.left_right - c.frame.left_edge + 1
        if plan.client >= 0:
            c.canvas.box(x, plan.client, width, 2, SPINE)
        if plan.lb >= 0:
            c.canvas.box(x, plan.lb, width, 3, SPINE)
        if plan.entry >= 0:
            c.canvas.box(x, plan.entry, width, plan.entry_rows + 3, SPINE)
        if plan.node >= 0:
            c.canvas.box(x, plan.node, width, plan.bottom - plan.node + 1, SPINE)

    def _trunk(self) -> None:
        """The wire from the client down to where connections are first handed out."""
        c, plan = self.circuit, self.circuit.left
        x, entry = c.frame.trunk, c.path.entry_rps
        start = plan.client + 1 if plan.client >= 0 else plan.lb + 2
        ends = [y for y in (plan.lb, plan.entry, plan.node) if y > start]
        if not ends:
            return
        if plan.lb >= 0:
            c.wire("trunk", entry, (x, start), (x, plan.lb))
            start = plan.lb + 2
        last = max(plan.dnat, plan.node)
        c.wire("trunk", entry, (x, start), (x, last))

    def _stub(self, y: int, rate: float = 1.0) -> None:
        x = self.circuit.frame.trunk
        if rate:
            self.circuit.canvas.wire([(x, y), (x + 1, y)], Weight.LIGHT, self.circuit.flow)

    def _client(self) -> None:
        c, plan, band = self.circuit, self.circuit.left, self.circuit.path.client
        if band is None or plan.client < 0:
            return
        words = parts(band.detail)
        edge = c.frame.left_right - 1
        rate = c.rate_text(band.rate_rps)
        c.title(c.frame.trunk, plan.client, edge, band.title or "client", words[0] if words else "", rate, STRONG)
        failures = c.snapshot.failures
        if failures.since_event or failures.rate_rps > 0:
            sign = c.glyphs.crashed
            if band.title == "caller":
                sign += " users:"  # it is not this caller's requests that are counted
            said = f"{sign} {c.rate_text(failures.rate_rps)} failed, {failures.since_event:,} in all"
            if failures.rate_rps <= 0:
                said = f"{failures.since_event:,} failed, now none"
            elif c.frame.text + len(said) + 3 > edge:
                said = said.removesuffix(" in all")
            c.canvas.text(c.frame.text, plan.client + 1, f" {said} ", LOST if failures.rate_rps > 0 else DIM)
        c.hit(band.key, c.frame.left_edge + 1, plan.client, edge - c.frame.left_edge, 2)

    def _dns(self) -> None:
        c, plan, band = self.circuit, self.circuit.left, self.circuit.path.dns
        if band is None or plan.dns < 0:
            return
        self._stub(plan.dns)
        words = parts(band.detail)
        end = c.canvas.text(c.frame.text, plan.dns, "DNS ", DIM)
        host, arrow, address = (words[0] if words else "").partition(" → ")
        room = c.frame.width - end - 1
        if arrow:
            host = text.shorten(host, max(8, room - len(address) - 3), c.glyphs.ellipsis)
        end = c.canvas.text(end, plan.dns, f"{host}{arrow}{address}", TEXT, room)
        if band.figure and end + len(band.figure) + 3 < c.frame.width:
            c.canvas.text(end, plan.dns, f", {band.figure}", DIM)
        c.hit(band.key, c.frame.text, plan.dns, end - c.frame.text, 1)

    def _load_balancer(self) -> None:
        c, plan, band = self.circuit, self.circuit.left, self.circuit.path.lb
        if band is None:
            return
        edge = c.frame.left_right - 1
        c.title(c.frame.text, plan.lb, edge, band.title or "load balancer", "", "", DIM)
        words = parts(band.detail)
        address = words[0].partition(" ")[0] if words else ""
        end = c.canvas.text(c.frame.text, plan.lb + 1, address, TEXT)
        how = words[-1].partition(",")[0] if len(words) > 1 else ""
        if "flow hash" in band.detail and "hash" not in how:
            how = words[-1]
        c.canvas.text(end + 1, plan.lb + 1, how, DIM, edge - end)
        c.hit(band.key, c.frame.left_edge + 1, plan.lb, edge - c.frame.left_edge, 3)
        self._stub(plan.targets)
        healthy, count = len(entry_nodes(c.path)), len(band.candidates)
        said = f"{healthy} healthy target{'' if healthy == 1 else 's'} of {count}"
        x = c.canvas.text(c.frame.text, plan.targets, said, TEXT if healthy else LOST)
        if healthy == 1 and (c.right.out_row < 0 or x + 13 < c.frame.bus):
            c.canvas.text(x, plan.targets, ", only choice", DIM)

    def _node_title(self, names: list[str]) -> tuple[str, str, str, int]:
        """(title, address or names, state, its ink) of a box that stands for some nodes."""
        c = self.circuit
        rows = [c.nodes[name] for name in names if name in c.nodes]
        if len(names) == 1:
            state, tone = c.rules_words(rows[0] if rows else None, c.frame.left_right - 30)
            return names[0], rows[0].address if rows else "", state, tone
        stale = sum(not row.rules_in_step or not row.proxy_running for row in rows)
        state, tone = (f"{c.glyphs.stale} {stale} stale", LATE) if stale else (rows[0].rules if rows else "", DIM)
        listed = ", ".join(names) if len(names) == 2 else f"{names[0]} {c.glyphs.ellipsis} {names[-1]}" if names else ""
        return f"{len(names)} nodes", listed, state, tone

    def _entry(self) -> None:
        """Nodes where traffic enters, where they are not those that make the next choice."""
        c, plan = self.circuit, self.circuit.left
        if plan.entry < 0:
            return
        nodes = entry_apart(c.path)
        names = [node.name for node in nodes]
        edge = c.frame.left_right - 1
        title, more, state, tone = self._node_title(names)
        c.title(c.frame.text, plan.entry, edge, title, more, state, tone)
        if len(nodes) <= 2:
            for row, node in enumerate(nodes, plan.entry + 1):
                self._stub(row)
                c.canvas.text(c.frame.text, row, of_state(c.glyphs, node.state), ink(state_token(node.state)))
                end = c.canvas.text(c.frame.text + 2, row, node.name, c.name_ink(node.key, TEXT))
                c.canvas.text(end + 1, row, node.address, DIM)
                c.figure(edge - 1, row, node.rate_rps)
                c.hit(node.key, c.frame.text - 1, row, edge - c.frame.text + 1, 1)
        else:
            row = plan.entry + 1
            self._stub(row)
            end = c.strip(c.frame.text, row, nodes, edge - 12)
            at = c.figure(edge - 1, row, sum(node.rate_rps for node in nodes))
            listed = f"{names[0]} {c.glyphs.ellipsis} {names[-1]}"
            if end + len(listed) + 2 <= at and len(title) + len(more) + len(state) + 7 > edge - c.frame.text:
                c.canvas.text(end + 1, row, listed, DIM)

    def _ingress(self) -> None:
        c, plan, band = self.circuit, self.circuit.left, self.circuit.path.ingress
        if plan.node < 0:
            return
        frame, canvas = c.frame, c.canvas
        names = box_nodes(c.path) or [node.name for node in entry_nodes(c.path)]
        title, more, state, tone = self._node_title(names)
        edge = frame.left_right - 1
        c.title(frame.text, plan.node, edge, title, more, state, tone)
        if len(names) == 1 and names[0] in c.nodes:
            c.hit(c.nodes[names[0]].key, frame.left_edge + 1, plan.node, edge - frame.left_edge, 1)
        if plan.dnat >= 0:
            self._stub(plan.dnat)
            chooser = band or c.path.lb
            words = parts(chooser.detail) if chooser is not None else []
            port = (words[0] if words else "").removeprefix("NodePort ").replace("→", c.glyphs.arrow)
            if band is None:
                port = port.partition(f"{c.glyphs.arrow} ")[2] or port
            local = (
                band is not None
                and len(names) == 1
                and any("no ingress pod" in one.note for one in idle_targets(c.path))
            )
            if local and f"{c.glyphs.arrow} :" in port:
                longer = port.replace(f"{c.glyphs.arrow} :", f"{c.glyphs.arrow} local pods :")
                port = longer if len(longer) + 6 <= edge - frame.text else port
            canvas.text(canvas.text(frame.text, plan.dnat, "DNAT ", DIM), plan.dnat, port, TEXT, edge - frame.text - 5)
        if band is None or plan.pods < 0:
            return
        rows = self._ingress_rows(band)
        first = max(plan.dnat, plan.node)
        for at, (y, rate, key) in enumerate(rows):
            rest = sum(one[1] for one in rows[at:])
            c.wire(f"ingress-trunk/{at}", rest, (frame.trunk, first), (frame.trunk, y))
            c.wire(f"ingress/{key}", rate, (frame.trunk, y), (frame.trunk + 2, y))
            canvas.text(frame.trunk + 2, y, "▶" if not canvas.ascii else ">", c.flow if rate else SPINE)
            first = y
        if plan.join >= 0:
            carried = 0.0
            for at, (y, rate, key) in enumerate(rows):
                c.wire(f"out/{key}", rate, (frame.collector - 1, y), (frame.collector, y))
                carried += rate
                end = rows[at + 1][0] if at + 1 < len(rows) else plan.join
                c.wire(f"collector/{at}", carried, (frame.collector, y), (frame.collector, end))
            first_service = next((y for y, one in plan.services if one is not None), plan.join + 1)
            c.wire(
                "return", carried, (frame.collector, plan.join), (frame.trunk, plan.join), (frame.trunk, first_service)
            )
        if plan.route >= 0 and c.path.route is not None:
            self._route(c.path.route)

    def _ingress_rows(self, band: Band) -> list[tuple[int, float, str]]:
        """Draw the ingress pods, or their nodes; (row, rate, name of the wire) of each."""
        c, plan, frame = self.circuit, self.circuit.left, self.circuit.frame
        names = box_nodes(c.path)
        x, edge = frame.trunk + 4, frame.collector - 1
        rows = []
        if not plan.pods_folded:
            for at, pod in enumerate(band.candidates):
                y = plan.pods + at * plan.pod_rows
                where = pod.node if len(names) > 1 else ""
                c.pod(pod.key, x, y, edge, plan.pod_rows, pod, c.trouble_word(pod), where)
                c.hit(pod.key, x - 1, y, edge - x + 1, plan.pod_rows)
                rows.append((y, pod.rate_rps, pod.name))
            return rows
        for at in range(plan.pod_count):
            last = at == plan.pod_count - 1 and len(names) > plan.pod_count
            some = names[at:] if last else names[at : at + 1]
            members = [pod for pod in band.candidates if pod.node in some]
            rate = sum(pod.rate_rps for pod in members)
            y = plan.pods + at
            label = f"{len(some)} more nodes" if last else text.shorten(some[0], 10, c.glyphs.ellipsis)
            c.canvas.text(x, y, label, TEXT)
            c.strip(x + 11, y, members, edge - 7)
            c.figure(edge, y, rate)
            rows.append((y, rate, label))
        return rows

    def _route(self, band: Band) -> None:
        c, y = self.circuit, self.circuit.left.route
        words = [word for word in parts(band.detail) if word != "only choice" and "upstreams, " not in word]
        if band is c.path.dead_end and words:
            answer = [word.partition(" → ")[2] for word in words if " → " in word] + words[-1:]
            words = list(words[:-1]) or words
            said = f"{c.glyphs.crashed} {', '.join(dict.fromkeys(word for word in answer if word))}"
            c.canvas.text(c.frame.trunk, y + 1, said, LOST, c.frame.collector - c.frame.trunk)
        host = self._host()
        said = " · ".join(word.partition(" → ")[0] for word in words)
        head, _, rest = said.partition(" ")
        beads = c.way.route if c.way is not None else ()
        room = c.frame.collector - c.frame.trunk - 1 - (2 * len(beads) + 1 if beads else 0)
        if host and len(head) + len(host) + 2 <= room and "TLS" in rest:
            path = rest.rpartition(" · ")[2]
            if path.startswith("/") and len(f"{head} {host}{path}") <= room:
                rest = f"{host}{path}"
        if c.canvas.ascii:
            rest = rest.replace("·", "-").replace("→", ">")
        end = c.canvas.text(c.frame.trunk, y, f"{head} ", DIM, room)
        c.canvas.text(end, y, rest, TEXT, room - (end - c.frame.trunk))
        c.hit(band.key, c.frame.left_edge + 1, y, c.frame.collector - c.frame.left_edge - 2, 1)

    def _host(self) -> str:
        """The host clients ask for, where they ask for one only."""
        client = self.circuit.path.client
        for word in parts(client.detail) if client is not None else []:
            scheme, sep, rest = word.partition("://")
            if sep and scheme in ("http", "https"):
                return rest.partition("/")[0]
        return ""
