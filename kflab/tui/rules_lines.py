"""A node's rules as lines to look at: one or two screen lines a rule, ids shortened in the middle."""

import re
from dataclasses import dataclass

from kflab.tui.text import safe

_ID = re.compile(r"\b(KUBE-(?:SVC|SVL|SEP|EXT|FW|XLB)-)([A-Z0-9]{16})\b")
_COMMENT = re.compile(r'-m comment --comment (?:"(?:[^"\\]|\\.)*"|\S+) ?')
_NOISE = re.compile(r"-m (?:tcp|udp|sctp)(?: |$)")
_ADDRESS = re.compile(r"--to-destination (\S+)")
_CHAIN = re.compile(r"^-A (\S+)")


FOLD_FROM = 72
"""Characters from which a rule takes two lines, match and target; about what a pane of 58 cells shows of it."""


@dataclass(frozen=True, slots=True)
class RuleLine:
    """One line of a rule set."""

    number: int
    """Line of the text, from 0."""
    full: str
    """As printed by iptables-save."""
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
    def folded(self) -> bool:
        """Whether it takes two screen lines when shortened."""
        return len(self.full) > FOLD_FROM and " -j " in self.full


def rule_lines(text: str) -> tuple[RuleLine, ...]:
    """Split a rule set; each jump to an endpoint's chain is told where that chain leads."""
    lines = text.splitlines()
    leads: dict[str, str] = {}
    for line in lines:
        if "--to-destination" not in line:
            continue
        chain, address = _CHAIN.match(line), _ADDRESS.search(line)
        if chain and address:
            leads[chain[1]] = address[1]
    made = []
    for number, line in enumerate(lines):
        target = line.rpartition(" -j ")[2].split(" ", 1)[0] if " -j " in line else ""
        made.append(RuleLine(number, line, leads.get(target, "")))
    return tuple(made)


def short(line: str, ellipsis: str) -> str:
    """A rule with ids shortened in the middle and comments left out, the comment's place marked."""
    line = _COMMENT.sub(f"{ellipsis} ", line)
    line = _NOISE.sub("", line).replace("--mode random ", f"{ellipsis} ")
    return safe(_ID.sub(lambda found: f"{found[1]}{found[2][:4]}{ellipsis}{found[2][-4:]}", line))


def same_rule(line: str) -> str:
    """A rule reduced to what identifies it, however its comment is quoted and spaced."""
    return " ".join(_COMMENT.sub("", line).split())
