"""Which node on the way of a lost try was off the network: when its server was picked, or from a later instant on."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kflab.lab.running import Lab


def out_when_picked(lab: "Lab", caller: str, server: int, stream: int, pick_ns: int) -> str:
    """The node that was off the network when a packet came to it, left it or had to reach it; "" for none.

    The caller's own comes first: what it knows does not matter while nothing leaves it.
    """
    there = _node_of(lab, server)
    if server < 0:
        nodes: tuple[str, ...] = () if _calls_inside(lab, stream) else (caller,)
    else:
        nodes = (caller, there) if there != caller else ()
    return next((name for name in nodes if name and lab.world.outage_of(name, pick_ns)), "")


def out_while_in_hand(
    lab: "Lab", caller: str, server: int, stream: int, pick_ns: int, end_ns: int
) -> tuple[int, str] | None:
    """The node on the way that went off the network first, after the pick and before the caller knew, and when."""
    there = _node_of(lab, server)
    if there == caller and _calls_inside(lab, stream):
        return None  # from pod to pod of one node no packet leaves it
    went = [
        (t_ns, name)
        for name in dict.fromkeys((caller, there))
        if name and (t_ns := lab.world.first_outage(name, pick_ns, end_ns)) is not None
    ]
    return min(went, default=None)


def _calls_inside(lab: "Lab", stream: int) -> bool:
    return lab.wiring.wired[stream].entry.kind == "pod"


def _node_of(lab: "Lab", server: int) -> str:
    place = int(lab.engine.memory.place[server]) if server >= 0 else -1
    return lab.wiring.places[place] if place >= 0 else ""
