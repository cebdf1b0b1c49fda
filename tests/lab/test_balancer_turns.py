"""A Classic load balancer's TCP listeners take turns among the nodes of a zone."""

import numpy as np
from test_load_balancers import S, finished, lab_of, node, opened

from kflab.engine.types import Finished
from kflab.lab.commands import Scale
from kflab.lab.running import Lab
from kflab.manifest.objects import Key

ZONES = {"n1": "a", "n2": "a", "n4": "a", "n3": "b"}
NODES = "".join(node(name, n, zone) for n, (name, zone) in enumerate(ZONES.items(), start=1))


def chosen(lab: Lab, rows: list[Finished], since_ns: int = 0) -> list[str]:
    """The nodes that connections came to, in the order in which they reached the load balancer."""
    starts, numbers, nodes = (
        np.concatenate([getattr(part, name) for part in rows]) for name in ("start_ns", "number", "node")
    )
    order = np.lexsort((numbers, starts))
    return [lab.wiring.places[nodes[i]] for i in order.tolist() if starts[i] >= since_ns and nodes[i] >= 0]


def in_turn(names: list[str], n: int) -> bool:
    """Whether `n` nodes follow each other in one order, round and round."""
    return len(set(names)) == n and all(name == names[i % n] for i, name in enumerate(names))


def test_each_zone_takes_turns_and_clients_find_zones_by_chance() -> None:
    lab = lab_of("aws-clb", nodes=NODES)
    rows = finished(lab, 6)
    names = chosen(lab, rows)
    assert len(names) > 2000
    assert in_turn([name for name in names if ZONES[name] == "a"], 3)
    assert 0.45 < names.count("n3") / len(names) < 0.55
    opened(lab, rows)


def test_a_node_takes_turns_once_it_passes_health_checks() -> None:
    lab = lab_of("aws-clb", "Local", nodes="".join(node(f"n{i}", i, "a") for i in (1, 2, 3)))
    assert in_turn(chosen(lab, finished(lab, 2)), 2)  # two pods on two nodes
    assert lab.do(Scale(Key("Deployment", "default", "web"), 3)).ok
    rows = finished(lab, 60)
    names = chosen(lab, rows)
    assert in_turn(names[:100], 2)
    assert in_turn(names[-600:], 3)
    opened(lab, rows[-3:])


def test_turns_do_not_depend_on_how_the_lab_is_advanced() -> None:
    told = []
    for steps in (1, 37):
        lab = lab_of("aws-clb", nodes=NODES)
        rows: list[Finished] = []
        lab.watch_rows(rows.append)
        for n in range(steps):
            lab.advance((n + 1) * 3 * S // steps)
        told.append((chosen(lab, rows), lab.engine.digest()))
    assert told[0] == told[1]
