"""A node's rules as lines to look at, in every mode's text: where each rule stands, and ids shortened in the middle.

A rule is known by the text that a request's hop gives it: `iptables-save` and `ipvsadm -Sn` name the chain or virtual
server in the line; of `nft list ruleset` a hop says "chain: rule", and the element of a verdict map is "@map key".
"""

import re
from collections.abc import Sequence

from kflab.dataplane.packets import Hop
from kflab.records import dataclass
from kflab.tui.text import safe

_ID = re.compile(r"\b(KUBE-(?:SVC|SVL|SEP|EXT|FW|XLB)-)([A-Z0-9]{16})\b")
_COMMENT = re.compile(r'-m comment --comment (?:"(?:[^"\\]|\\.)*"|\S+) ?')
_NOISE = re.compile(r"-m (?:tcp|udp|sctp)(?: |$)")
_ADDRESS = re.compile(r"--to-destination (\S+)")
_CHAIN = re.compile(r"^-A (\S+)")
_SERVER = re.compile(r"^-[Aa] (?:-t|-u|--sctp-service) (\S+)")
_BLOCK = re.compile(r"^\t(chain|map|set) (\S+) \{$")
_ELEMENT = re.compile(r"(?:elements = \{ )?(.+?)(?: comment \"[^\"]*\")? : (?:goto|jump|drop)\b")
_VERDICT_MAP = re.compile(r" vmap @(\S+)$")
_NOT_IN_CHAIN = ("type ", "comment ", "policy ")

TOOLS = (
    ("# ipvsadm -Sn", "as ipvsadm -Sn, ipset save and iptables-save print them"),
    ("table ip", "as nft list ruleset prints them"),
    ("#", ""),
)
"""How a text begins, and how it is printed; any other is iptables-save's."""
_AFTER = re.compile(r"-A KUBE-(?:POSTROUTING|MARK-MASQ) |masquerading: |mark-for-masquerade: ")

FOLD_FROM = 72
"""Characters from which a rule takes two lines, match and target; about what a pane of 58 cells shows of it."""


@dataclass(frozen=True, slots=True)
class RuleLine:
    """One line of a rule set."""

    number: int
    """Line of the text, from 0."""
    full: str
    """As its tool prints it."""
    rule: str = ""
    """What a hop calls it, without comments; "" for a line that is no rule."""
    room: str = ""
    """Where it stands: "nat KUBE-SERVICES", "chain services", "map service-ips", "virtual server 10.96.0.10:80"."""
    target: str = ""
    """Where the rule's target (`-j …`) leads, in words: the address its chain DNATs to, or ""."""

    @property
    def match(self) -> str:
        """What stands before `-j`."""
        return self.full.partition(" -j ")[0]

    @property
    def jump(self) -> str:
        """`-j` and what follows; "" for a line without a target."""
        _match, found, rest = self.full.partition(" -j ")
        return f"-j {rest}" if found else ""

    @property
    def nft(self) -> bool:
        """Whether it is a line of an nftables table: a rule that was taken is shown whole, it names its endpoints."""
        return self.full.startswith("\t")

    @property
    def folded(self) -> bool:
        """Whether it takes two screen lines when shortened."""
        return len(self.full) > FOLD_FROM and " -j " in self.full and not self.nft


def rule_lines(text: str) -> tuple[RuleLine, ...]:
    """Split a rule set; each jump to an endpoint's chain is told where that chain leads."""
    if text.startswith("table ip"):
        return _nft_lines(text)
    lines = text.splitlines()
    leads: dict[str, str] = {}
    for line in lines:
        if "--to-destination" not in line:
            continue
        chain, address = _CHAIN.match(line), _ADDRESS.search(line)
        if chain and address:
            leads[chain[1]] = address[1]
    made, table = [], ""
    for number, line in enumerate(lines):
        table = line[1:] if line.startswith("*") else table
        target = line.rpartition(" -j ")[2].split(" ", 1)[0] if " -j " in line else ""
        chain, server = _CHAIN.match(line), _SERVER.match(line)
        room = f"virtual server {server[1]}" if server else f"{table} {chain[1]}" if chain else ""
        made.append(RuleLine(number, line, same_rule(line) if room else "", room, leads.get(target, "")))
    return tuple(made)


def _nft_lines(text: str) -> tuple[RuleLine, ...]:
    """Split what `nft list ruleset` prints: rules by their chain, elements of verdict maps by their map."""
    made, kind, name = [], "", ""
    for number, line in enumerate(text.splitlines()):
        block, words = _BLOCK.match(line), line.strip()
        if block:
            kind, name = block[1], block[2]
            made.append(RuleLine(number, line))
            continue
        rule = ""
        if kind == "chain" and words not in ("", "}") and not words.startswith(_NOT_IN_CHAIN):
            rule = same_rule(f"{name}: {words}")
        elif kind == "map" and (element := _ELEMENT.match(words)):
            rule = f"@{name} {element[1]}"
        made.append(RuleLine(number, line, rule, f"{kind} {name}" if rule else ""))
    return tuple(made)


def printed(lines: Sequence[RuleLine]) -> str:
    """How the rules are printed: "as iptables-save prints them"."""
    first = lines[0].full if lines else ""
    return next((words for start, words in TOOLS if first.startswith(start)), "as iptables-save prints them")


def taken_rules(hop: Hop) -> list[str]:
    """What a hop took, as `RuleLine.rule` says it: its rules, and the elements that their verdict maps held for it."""
    found = []
    for rule in hop.rules:
        found.append(same_rule(rule))
        asked = _VERDICT_MAP.search(rule)
        if asked and hop.before is not None:
            packet = hop.before
            key = f"{packet.protocol.lower()} . {packet.dport}"
            found.append(f"@{asked[1]} {packet.dst} . {key}" if " daddr . meta" in rule else f"@{asked[1]} {key}")
    return found


def deciding(rules: Sequence[str]) -> int:
    """Which of the rules that a hop took decided: the one that chose an endpoint, else the last but marks and SNAT.

    Args:
        rules: As a hop has them, in order; not empty.
    """
    chose = [
        at
        for at, rule in enumerate(rules)
        if " -j KUBE-SEP-" in rule or "goto endpoint-" in rule or rule.startswith("-a ")
    ]
    if chose:
        return chose[-1]
    last = [at for at, rule in enumerate(rules) if not _AFTER.match(rule)]
    return last[-1] if last else len(rules) - 1


def short(line: str, ellipsis: str) -> str:
    """A rule with ids shortened in the middle and comments left out, the comment's place marked."""
    line = _COMMENT.sub(f"{ellipsis} ", line).expandtabs(4)
    line = _NOISE.sub("", line).replace("--mode random ", f"{ellipsis} ")
    return safe(_ID.sub(lambda found: f"{found[1]}{found[2][:4]}{ellipsis}{found[2][-4:]}", line))


def same_rule(line: str) -> str:
    """A rule reduced to what identifies it, however its comment is quoted and spaced."""
    return " ".join(_COMMENT.sub("", line).split())
