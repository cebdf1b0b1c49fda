"""Load balancers and what they send to, in a row's words."""

from typing import TYPE_CHECKING

from kflab.control.lbprofiles import FLOW_HASH, NODE_PORT, ONE_NODE, POD, LbProfile

if TYPE_CHECKING:
    pass


def balancer_words(profile: LbProfile) -> str:
    """Whose load balancer it is and how it picks, for a row: "NLB hash"."""
    picks = {FLOW_HASH: "hash", ONE_NODE: "one node"}.get(profile.picks, profile.picks)
    return f"{profile.short} {picks}"


def way_in(profile: LbProfile | None, node_port: int) -> str:
    """What a load balancer (None: a client that picks a node itself) sends to: ":30443"."""
    if profile is None or profile.destination == NODE_PORT:
        return f":{node_port}"
    return "pods" if profile.destination == POD else "nodes"


def way_in_words(profile: LbProfile | None, node_port: int) -> str:
    """By what packets come in from outside, in words."""
    if profile is None or profile.destination == NODE_PORT:
        return f"NodePort :{node_port}"
    return "IP target" if profile.destination == POD else "LB address"
