"""What a node has in its kernel, on the command line: its rules, by the tool that prints them, and its connections."""

from dataclasses import replace

from kflab.cluster.store import Store
from kflab.errors import KflabError
from kflab.kubectl.commands import TOOLS, Conntrack, IptablesSave
from kflab.kubectl.conntrack import conntrack
from kflab.kubectl.env import Env
from kflab.kubectl.hostile import printable
from kflab.kubectl.outcome import Outcome
from kflab.manifest.objects import Key


def rules_of(command: IptablesSave, store: Store, env: Env) -> Outcome:
    """Print a node's rules.

    Raises:
        KflabError: If there is no such node or table.
    """
    name, note = _node(command.node, store)
    text = env.rules_text(name)
    if text.startswith("# no rules"):
        return Outcome("", note + text)
    parts = _parts(text)
    if command.tool not in parts:
        there = f"# no rules of kube-proxy here: on {printable(name)} `{next(iter(parts))}` prints them\n"
        return Outcome("", note + there)
    found = parts[command.tool]
    return Outcome(_table(found, command.table) if command.table else found, note)


def conntrack_of(command: Conntrack, store: Store, env: Env) -> Outcome:
    """Print a node's conntrack table.

    Raises:
        KflabError: If there is no such node.
    """
    name, note = _node(command.node, store)
    shown = conntrack(command, env.conntrack(name, command.protocol), env.now_ns)
    return replace(shown, err=note + shown.err)


def _node(given: str, store: Store) -> tuple[str, str]:
    """The node asked about, and a line that says so where it was not named."""
    nodes = sorted(key.name for key in store.keys("Node"))
    name = given or (nodes[0] if nodes else "")
    if store.get(Key("Node", "", name)) is None:
        known = ", ".join(nodes[:5]) or "none"
        raise KflabError(f"there is no node {printable(name)!r}; nodes: {known}")
    return name, "" if given or len(nodes) < 2 else f"# on {printable(name)}; another node's: --node NODE\n"


def _parts(text: str) -> dict[str, str]:
    """A mode's text by the tool that prints it: IPVS mode's has a line with the tool before each part."""
    if text.startswith("table "):
        return {"nft list ruleset": text}
    if not text.startswith("# ipvsadm -Sn\n"):
        return {"iptables-save": text}
    parts: dict[str, list[str]] = {}
    tool = ""
    for line in text.splitlines(keepends=True):
        head = line.removeprefix("# ").rstrip("\n").replace("ip6tables", "iptables")
        if line.startswith("# ") and head in TOOLS:
            tool = head
            parts[tool] = []
        else:
            parts[tool].append(line)
    return {tool: "".join(lines) for tool, lines in parts.items()}


def _table(text: str, table: str) -> str:
    """The lines of one table.

    Raises:
        KflabError: If there is no such table.
    """
    lines = text.splitlines()
    if f"*{table}" not in lines:
        raise KflabError(f"there is no table {printable(table)!r} here")
    start = lines.index(f"*{table}")
    end = next((i for i in range(start, len(lines)) if lines[i] == "COMMIT"), len(lines) - 1)
    return "".join(line + "\n" for line in lines[start : end + 1])
