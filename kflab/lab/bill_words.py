"""Bills and rows of the Gantt in words."""

from kflab.control.facts import What
from kflab.engine.types import Answer
from kflab.lab.bills import Bill, Cause
from kflab.lab.spread import ENDINGS, Spread
from kflab.lab.truth import OPEN

WHILE_RUNNING = {
    What.CONTAINER_EXITED: "crashed",
}
"""The same happening to a pod that nobody had deleted."""


LONG_NS = 1_000_000_000
"""A stage of at least so long is named in the sentence of a bill; shorter ones are what is usual."""


def seconds_word(ns: int) -> str:
    """A span in seconds with three digits; below a tenth of a millisecond it is none."""
    return f"{ns / 1e9:.3f} s"


def observer_words(observer: str, *, whose: bool = False) -> str:
    """An observer as a noun ("node-a's rules"), or as a row's name ("node-a rules")."""
    kind, _, rest = observer.partition("/")
    name = rest.rpartition("/")[2]
    if kind == "kube-proxy":
        return f"{rest}'s rules" if whose else f"{rest} rules"
    if kind == "ingress":
        return f"NGINX in {name}" if whose else f"{name} upstreams"
    if kind == "lb":
        return f"load balancer {name}" if whose else f"{name} targets"
    return observer


def fate_words(spread: Spread | None, at_ns: int) -> str:
    """What had befallen a pod by an instant: "crashed", "got SIGTERM", "stopped answering"."""
    if spread is None:
        return "stopped answering"
    marks = [what for t_ns, what in spread.marks if t_ns <= at_ns]
    if not marks:
        return "stopped answering"
    last = marks[-1]
    if last is What.CONTAINER_EXITED and not spread.deleted and What.SIGTERM_SENT in marks:
        return "was stopped by its kubelet"  # a probe failed, or its node shuts down: nobody deleted it
    return ENDINGS[last] if spread.deleted else WHILE_RUNNING.get(last, ENDINGS[last])


def _bill_fate(bill: Bill) -> str:
    """What had befallen the pod of a bill; of one whose callers waited in vain, why they heard nothing of its end."""
    marks = [what for _, what in bill.spread.marks] if bill.spread is not None else []
    if What.NETWORK_REMOVED in marks and (bill.answers[Answer.TIMEOUT] or bill.answers[Answer.GAVE_UP]):
        return "lost its network before its process ended"
    return fate_words(bill.spread, bill.from_ns)


def title(bill: Bill, waits_ns: int) -> str:
    """The sentence of a bill, whose callers wait so long for a connection, or of NO_NAME for DNS."""
    who = observer_words(bill.observer, whose=True)
    pod = bill.pod.name if bill.pod else bill.address or "nobody"
    service = bill.service.name if bill.service else "it"
    match bill.cause:
        case Cause.STALE:
            fate = _bill_fate(bill)
            were = "were" if bill.observer.startswith("kube-proxy/") else "was"
            timeouts = bill.answers[Answer.TIMEOUT]
            waited_s = (bill.patience_ns or waits_ns) / 1e9
            wait = f"; {waited_s:g} s {bill.waits_for} timeout ×{timeouts:,}" if timeouts else ""
            if timeouts and bill.waits_for == "answer":
                wait = f"; no answer in {waited_s:g} s ×{timeouts:,}"
            if bill.until_ns is None:
                return f"{who} still lead{'' if were == 'were' else 's'} to {pod}, which {fate}{wait}"
            behind = seconds_word(bill.until_ns - bill.from_ns)
            if bill.cut and bill.spread is not None and (bill.spread.written_ns or OPEN) > bill.until_ns:
                return f"{who} led to {pod}, which {fate} for {behind}{wait}"  # healed before anybody noticed
            return f"{who} {were} {behind} behind when {pod} {fate}{_mostly(bill)}{wait}"
        case Cause.IN_FLIGHT:
            if bill.pod is None:
                return f"in hand by way of {bill.node} when it left the network"
            if bill.spread is not None and any(what is What.SIGKILL_SENT for _, what in bill.spread.marks):
                return f"in hand at {pod} when its grace period was over: SIGKILL"
            return f"in hand at {pod} when it {_bill_fate(bill)}"
        case Cause.DEAF:
            lead = "lead" if bill.observer.startswith("kube-proxy/") else "leads"
            return f"{who} {lead} to {bill.address} of {pod}, on which nothing listens yet"
        case Cause.KEPT:
            return f"kept connections to {pod}, which {_bill_fate(bill)}"
        case Cause.IDLE:
            return f"NGINX sent over kept connections that {pod} was closing, idle for as long as it lets them"
        case Cause.STALE_FLOW:
            fate = fate_words(bill.spread, bill.from_ns)
            return f"the sender's conntrack entry on {bill.node} still led to {pod}, which {fate}"
        case Cause.NO_ENDPOINTS:
            if bill.observer.startswith("ingress/"):
                return f"{who} had no endpoint of {service}: 503"
            return f"{service} has no ready endpoint: REJECT by {who}"
        case Cause.NO_LOCAL:
            how = "REJECT" if bill.answers[Answer.REJECTED] else "DROP"
            return f"policy Local and no endpoint of {service} on the node: {how} by {who}"
        case Cause.BYPASSED:
            return f"policy Local and no endpoint of {service} on the node: answers do not come back by {who}"
        case Cause.NOT_PROGRAMMED:
            return f"{who or 'the node'} had no rule for {service}: the packet follows the default route"
        case Cause.NO_RULES:
            return f"{who} were removed while kube-proxy was replaced"
        case Cause.NO_TARGETS:
            return f"{who} had no healthy target"
        case Cause.FLOW_ENDED:
            return f"{who} ended its connections to {bill.node}"
        case Cause.NODE_LOST:
            if not bill.observer:
                return f"{bill.node} was off the network: no packet reached or left it"
            if bill.until_ns is None:
                return f"{who} still sends to {bill.node}, which is off the network"
            return (
                f"{who} sent to {bill.node} for {seconds_word(bill.until_ns - bill.from_ns)} after it left the network"
            )
        case Cause.TABLE_FULL:
            return f"the conntrack table of {bill.node or 'a node'} was full: packets dropped"
        case Cause.NO_PORT:
            return f"{bill.node or 'a node'} had no free source port left for MASQUERADE: packets dropped"
        case Cause.DEADLINE:
            return f"{pod} had not answered yet when the clients' deadline was over: queued or being served"
        case Cause.NO_NAME:
            again = f"each question is asked again after {waits_ns / 1e9:g} s, once"
            return f"DNS did not answer callers on {bill.node} in time: {again}"
        case Cause.SYN_LOST:
            return f"SYNs of callers on {bill.node}, or the answers, were lost: sent again after 1 s, 3 s, …"
        case Cause.NO_ROUTE:
            return "NGINX has no rule for this host and path: 404"
        case _:
            return f"not explained: {pod}, {', '.join(_answer_word(code) for code in sorted(bill.answers))}"


def _mostly(bill: Bill) -> str:
    """What took most of a stale window of seconds, where it was not the observer itself; "" else."""
    spread = bill.spread
    if spread is None or bill.until_ns is None or spread.noticed_ns is None or spread.written_ns is None:
        return ""
    unnoticed = 0 if spread.deleted else spread.noticed_ns - bill.from_ns
    unwritten = spread.written_ns - (bill.from_ns + max(unnoticed, 0))
    longest, words = max((unnoticed, "still Ready"), (unwritten, "its EndpointSlice not written"))
    if longest < LONG_NS or 2 * longest < bill.until_ns - bill.from_ns:
        return ""
    return f", {words} for {longest / 1e9:.1f} s"


def _answer_word(code: int) -> str:
    words = {
        Answer.REFUSED: "refused", Answer.RESET: "reset", Answer.TIMEOUT: "timeout", Answer.REJECTED: "rejected",
        Answer.NO_UPSTREAM: "no upstream", Answer.TABLE_FULL: "dropped",
        Answer.UNREACHABLE: "no route to host", Answer.GAVE_UP: "client timeout",
    }  # fmt: skip
    return words.get(code, "no answer")


def outcome_words(bill: Bill) -> str:
    """What clients got: "11 failed (502 ×11), 127 saved by a further try"."""
    parts = []
    if bill.failed:
        statuses = ", ".join(f"{status} ×{n:,}" for status, n in sorted(bill.outcomes.items()))
        parts.append(f"{bill.failed:,} failed ({statuses})")
    if bill.slowed and bill.cause in (Cause.NO_NAME, Cause.SYN_LOST):
        parts.append(f"{bill.slowed:,} late")
    elif bill.slowed:
        parts.append(f"{bill.slowed:,} saved by a further try")
    if bill.sent > bill.lost:
        parts.append(f"sent {bill.sent:,} times in all")
    return ", ".join(parts)


def shortened(happened: str) -> str:
    """The words of `happening` where there is little room: "product-… deleted", "product-… answers"."""
    happened = happened.replace(" was ", " ").replace("began to answer", "answers")
    return happened.replace(" is back with its node", " is back")


def happening(spread: Spread) -> str:
    """What an event of the Gantt is about: "product-… crashed", "product-… began to answer"."""
    if spread.node_back:
        return f"{spread.pod.name} is back with its node"
    if not spread.ends:
        return f"{spread.pod.name} began to answer"
    if spread.deleted:
        return f"{spread.pod.name} was deleted"
    return f"{spread.pod.name} {fate_words(spread, spread.truth_ns or spread.t_ns)}"
