"""`conntrack -L`, `-C` and `-S`: a node's table, filtered and printed, its count, and what the kernel dropped."""

from collections.abc import Sequence

from kflab.dataplane.cni import MASQUERADE_PORTS as N_PORTS
from kflab.dataplane.conntrack import Entry, NodeTable
from kflab.kubectl.commands import Conntrack
from kflab.kubectl.outcome import Outcome

VERSION = "v1.4.8"
"""Release of conntrack-tools whose output is printed."""


def conntrack(command: Conntrack, table: NodeTable, now_ns: int) -> Outcome:
    """Print a table as the tool does; on standard error how many of all it is.

    Args:
        command: What was asked.
        table: The node's table.
        now_ns: Simulated now.
    """
    about = [f"# {table.node}: {table.count} of {table.max} entries (nf_conntrack_max)"]
    if not table.enforced:
        about.append("# the maximum is not enforced: nobody says how many CPUs this node has")
    for destination, used in table.ports:
        about.append(f"# {used} of {N_PORTS} source ports in use towards {destination} (MASQUERADE)")
    if command.statistics:
        return Outcome(_statistics(table), _joined([f"# {table.node}: all CPUs in one line; what is 0 is not counted"]))
    if command.count:
        return Outcome(f"{table.count}\n", _joined(about))
    shown = [entry for entry in table.entries if _wanted(command, entry)]
    more = table.count - len(table.entries)
    if more > 0 and not command.protocol:
        about.append(f"# {more} more are in the table and not named here: the newest of each kind are")
    flows = "flow entry has" if len(shown) == 1 else "flow entries have"
    about.insert(0, f"conntrack {VERSION} (conntrack-tools): {len(shown)} {flows} been shown.")
    return Outcome(_joined([entry.text(now_ns) for entry in shown]), _joined(about))


def _statistics(table: NodeTable) -> str:
    """The line of `conntrack -S` (conntrack-tools, src/conntrack.c, nfct_stats_attr_cb)."""
    dropped = table.no_room + table.no_port
    counted = {"insert_failed": table.no_port, "drop": dropped, "early_drop": table.early_drops}
    names = "found invalid insert insert_failed drop early_drop error search_restart clash_resolve chaintoolong"
    return "cpu=0   \t" + " ".join(f"{name}={counted.get(name, 0)}" for name in names.split()) + " \n"


def _joined(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _wanted(command: Conntrack, entry: Entry) -> bool:
    """Whether an entry passes every filter given."""
    tracked, life = entry.tracked, entry.life
    original, back = tracked.original, tracked.reply
    pairs: tuple[tuple[object, object], ...] = (
        (command.protocol, original.protocol),
        (command.src, original.src),
        (command.dst, original.dst),
        (command.sport, original.sport),
        (command.dport, original.dport),
        (command.reply_src, back.src),
        (command.reply_dst, back.dst),
        (command.state, life.state),
    )
    if any(wanted and wanted != found for wanted, found in pairs):
        return False
    has = {
        "": True,
        "ASSURED": life.assured,
        "UNREPLIED": life.unreplied,
        "SEEN_REPLY": not life.unreplied,
        "SRC_NAT": tracked.src_nat,
        "DST_NAT": tracked.dst_nat,
    }
    if not has[command.status]:
        return False
    if command.any_nat and not (tracked.src_nat or tracked.dst_nat):
        return False
    return (not command.src_nat or tracked.src_nat) and (not command.dst_nat or tracked.dst_nat)
