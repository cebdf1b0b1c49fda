"""Words of a request's hops: short chain paths, times, who wrote a rule."""

from collections import Counter

from kflab.control.lbprofiles import LB_ADDRESS, ROUTE
from kflab.dataplane import iptables_names as names
from kflab.dataplane.lb import in_service, shares
from kflab.dataplane.packets import Verdict
from kflab.dataplane.walk import Walk
from kflab.dataplane.world import ConfigInForce, Fate, LbInForce, RulesInForce
from kflab.manifest.objects import Key

_SECOND = 1_000_000_000

NO_NEIGHBOUR = (
    "ARP asks for it three times and gets no answer, so the caller's node drops the SYN and says host unreachable"
)
"""Why a connect to a node that is gone fails on one Ethernet."""


def seconds(duration_ns: int) -> str:
    """A duration in words: "0.2 ms", "0.13 s", "57.3 s"."""
    if abs(duration_ns) < _SECOND // 10:
        return f"{duration_ns / 1_000_000:.1f} ms"
    return f"{duration_ns / _SECOND:.2f} s" if abs(duration_ns) < 10 * _SECOND else f"{duration_ns / _SECOND:.1f} s"


def when(t_ns: int) -> str:
    """When something was written: "57.3 s before the start" or "at 12.40 s"."""
    return f"{seconds(-t_ns)} before the start" if t_ns < 0 else f"at {t_ns / _SECOND:.2f} s"


def rules_writer(node: str, known: RulesInForce) -> str:
    """Who wrote a node's rules, or removed them."""
    if known.removed:
        return f"kube-proxy on {node}, which removed the rules of the mode before {when(known.written_ns)}"
    return f"kube-proxy on {node}, rules rev {known.revision}, written {when(known.written_ns)}"


def config_writer(pod: Key, known: ConfigInForce) -> str:
    """Who wrote NGINX's configuration."""
    return f"ingress controller in {pod.name}, from rev {known.revision}, in force {_since(known.since_ns)}"


def lb_writer(known: LbInForce) -> str:
    """Who registered the load balancer's targets."""
    key = known.service.key
    name = f"{key.namespace}/{key.name}"
    return f"{known.profile.writer}, from Service {name}; targets in force {_since(known.since_ns)}"


def balancing_words(known: LbInForce, address: str, source: str = "") -> str:
    """How a load balancer chose and what it did, in one line.

    Args:
        known: The load balancer.
        address: Where the client connected.
        source: The load balancer's own address, where it hides the client.
    """
    profile, targets = known.profile, known.targets
    n_healthy = sum(target.healthy for target in targets)
    state = f"{n_healthy} healthy target{'s' if n_healthy != 1 else ''} of {len(targets)}"
    if profile.cluster_check.how == ROUTE:
        state = "a route on the client's machine leads to it, alive or not"
    elif profile.follows_api:
        state = f"{n_healthy} of {len(targets)} nodes may announce {address}"
    elif not n_healthy:
        how = "fails open, all get traffic" if in_service(targets, profile, address) else "nobody gets traffic"
        count = Counter(target.state for target in targets if target.state)
        states = f" ({', '.join(f'{n} {name}' for name, n in sorted(count.items()))})" if count else ""
        state = f"no healthy target of {len(targets)}{states}: {how}"
    words = [profile.picks, state]
    parts = shares(targets, profile, address)
    if len(set(parts.values())) > 1:
        words.append("cross-zone is off: DNS spreads clients over the zones, not over the targets")
    if source:
        words.append(f"the target sees {source}, the load balancer's own address: {profile.told}")
    else:
        words.append("the client's address is kept")
    if profile.destination == LB_ADDRESS:
        words.append("the destination stays the load balancer's address, and answers do not pass it")
    chosen = f"{profile.title}, chosen by {profile.chosen_by}" if profile.chosen_by else profile.title
    return "; ".join([*words, chosen]) + (f" ({profile.note})" if profile.note else "")


def _since(t_ns: int) -> str:
    return f"since {when(t_ns).removeprefix('at ')}"


def chain_path(walk: Walk) -> str:
    """The chains of a walk, short: "KUBE-SERVICES → NODEPORTS → EXT → SVL → SEP".

    nftables: "services → external → local → endpoint"; ipvs: "KUBE-SERVICES → virtual server 10.96.100.50:80".
    """
    short = [_short(chain) for chain in walk.chains if chain != names.POSTROUTING]
    if not short:
        return ""
    return " → ".join([short[0], *(part.removeprefix("KUBE-") for part in short[1:])])


def _short(chain: str) -> str:
    if chain.startswith(("-t ", "-u ", "--sctp-service ")):
        return f"virtual server {chain.rpartition(' ')[2]}"
    if not chain.startswith("KUBE-"):
        return chain.partition("-")[0]
    prefix = names.prefix_of(chain)
    return prefix[:-1] if prefix else chain


def short_pod(pod: Key) -> str:
    """The last part of a made pod name: m4dd8."""
    return pod.name.rpartition("-")[2] if pod.name.count("-") >= 2 else pod.name


def of_rule(walk: Walk) -> str:
    """Why a packet was refused or dropped by the rules."""
    comment = walk.taken[-1].rule.comment if walk.taken else ""
    if walk.verdict is Verdict.REJECT:
        return f"REJECT ({comment}): ICMP port unreachable, the caller sees connection refused"
    return f"DROP ({comment}): no answer, the caller times out"


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th."""
    suffix = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def fate_words(fate: Fate | None, t_ns: int, node: str, known: RulesInForce | None) -> str:
    """Why a listed pod did not answer: "crashed 0.13 s before; node-a does not know"."""
    if fate is None:
        return ""
    if fate.t_ns > t_ns:
        return f"it {fate.word} {seconds(fate.t_ns - t_ns)} after the connection was opened"
    ago = f"{fate.word} {seconds(t_ns - fate.t_ns)} before"
    if node and known is not None and known.written_ns < fate.t_ns:
        return f"{ago}; {node} does not know"
    return ago
