"""iptables rules as data: matches, targets, rules, chains, and their two texts.

`written` is what kube-proxy feeds to iptables-restore; `saved` is what iptables-save prints of the same rule:
addresses and protocol first, modules in the order they were named, values as the kernel stores them (netfilter
iptables/ip6tables `save_rule`, and the `save` functions of libxt_comment, libxt_statistic, libxt_recent,
libxt_conntrack, libxt_mark, libxt_MARK, libxt_nfacct, libipt_REJECT, libipt_DNAT).
"""

import math
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Final, NamedTuple

from kflab.dataplane.addresses import IPV4, canonical_cidr, network
from kflab.records import dataclass

_PLAIN: Final = frozenset("_-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
"""Characters iptables-save leaves unquoted (libxtables, xtables_save_string)."""

_STATES: Final = ("INVALID", "NEW", "RELATED", "ESTABLISHED", "UNTRACKED", "SNAT", "DNAT")
"""Order in which conntrack states are saved (libxt_conntrack.c)."""


def quote_saved(text: str) -> str:
    """Quote as xtables_save_string does."""
    if text and all(char in _PLAIN for char in text):
        return text
    escaped = "".join("\\" + char if char in "\"\\'" else char for char in text)
    return f'"{escaped}"'


def quote_written(text: str) -> str:
    """Quote as kube-proxy does: comments with a blank go in double quotes."""
    return f'"{text}"' if " " in text else text


def _not(inverted: bool) -> str:
    return "! " if inverted else ""


class Comment(NamedTuple):
    """-m comment."""

    text: str

    def written(self) -> str:
        return f"-m comment --comment {quote_written(self.text)}"

    def saved(self, family: str) -> str:
        return f"-m comment --comment {quote_saved(self.text)}"


class Proto(NamedTuple):
    """-p with the module of the same name; lower case."""

    name: str

    def written(self) -> str:
        return f"-m {self.name} -p {self.name}"

    def saved(self, family: str) -> str:
        return f"-m {self.name}"


class Dport(NamedTuple):
    """Destination port; belongs to the protocol named before it."""

    port: int

    def written(self) -> str:
        return f"--dport {self.port}"

    def saved(self, family: str) -> str:
        return f"--dport {self.port}"


class Src(NamedTuple):
    """Source address or CIDR."""

    cidr: str
    inverted: bool = False

    def written(self) -> str:
        return f"{_not(self.inverted)}-s {self.cidr}"

    def saved(self, family: str) -> str:
        return f"{_not(self.inverted)}-s {canonical_cidr(self.cidr)}"


class Dst(NamedTuple):
    """Destination address or CIDR."""

    cidr: str
    inverted: bool = False

    def written(self) -> str:
        return f"{_not(self.inverted)}-d {self.cidr}"

    def saved(self, family: str) -> str:
        return f"{_not(self.inverted)}-d {canonical_cidr(self.cidr)}"


class InIface(NamedTuple):
    """Interface that a packet came in by; `+` at the end stands for any rest of the name."""

    name: str
    cidr: str | None = None
    """Whose packets come in by it, as kflab's packets have no interface; "": nobody's; None: it cannot be told."""
    inverted: bool = False

    def written(self) -> str:
        return f"{_not(self.inverted)}-i {self.name}"

    def saved(self, family: str) -> str:
        return self.written()


class AddrType(NamedTuple):
    """-m addrtype: source or destination address is of type LOCAL."""

    of: str
    """src or dst."""

    def written(self) -> str:
        return f"-m addrtype --{self.of}-type LOCAL"

    def saved(self, family: str) -> str:
        return self.written()


class CtState(NamedTuple):
    """-m conntrack --ctstate."""

    states: tuple[str, ...]
    inverted: bool = False

    def written(self) -> str:
        return f"-m conntrack {_not(self.inverted)}--ctstate {','.join(self.states)}"

    def saved(self, family: str) -> str:
        ordered = ",".join(state for state in _STATES if state in self.states)
        return f"-m conntrack {_not(self.inverted)}--ctstate {ordered}"


class Mark(NamedTuple):
    """-m mark."""

    value: int
    mask: int
    inverted: bool = False

    def written(self) -> str:
        return f"-m mark {_not(self.inverted)}--mark {self.value:#x}/{self.mask:#x}"

    def saved(self, family: str) -> str:
        return self.written()


class Statistic(NamedTuple):
    """-m statistic --mode random: true with a probability, each time anew."""

    probability: Fraction

    def written(self) -> str:
        return f"-m statistic --mode random --probability {probability_text(self.probability)}"

    def saved(self, family: str) -> str:
        # The kernel keeps 31 bits (libxt_statistic.c: lround(0x80000000 * p), printed with %.11f).
        return f"-m statistic --mode random --probability {_kept_probability(*self.probability.as_integer_ratio())}"


class RecentCheck(NamedTuple):
    """-m recent --rcheck: the source was seen within so many seconds."""

    name: str
    seconds: int

    def written(self) -> str:
        return f"-m recent --name {self.name} --rcheck --seconds {self.seconds} --reap"

    def saved(self, family: str) -> str:
        return f"-m recent --rcheck --seconds {self.seconds} --reap --name {self.name} {_recent_mask(family)}"


class RecentSet(NamedTuple):
    """-m recent --set: remember the source; always true."""

    name: str

    def written(self) -> str:
        return f"-m recent --name {self.name} --set"

    def saved(self, family: str) -> str:
        return f"-m recent --set --name {self.name} {_recent_mask(family)}"


def _recent_mask(family: str) -> str:
    mask = "255.255.255.255" if family == IPV4 else "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
    return f"--mask {mask} --rsource"


class Nfacct(NamedTuple):
    """-m nfacct: count; always true."""

    name: str

    def written(self) -> str:
        return f"-m nfacct --nfacct-name {self.name}"

    def saved(self, family: str) -> str:
        # Two blanks: libxt_nfacct.c prints one, xtables_save_string another.
        return f"-m nfacct --nfacct-name  {quote_saved(self.name)}"


class Unknown(NamedTuple):
    """A match of somebody else's rule that kflab does not judge; kept word for word."""

    text: str

    def written(self) -> str:
        return self.text

    def saved(self, family: str) -> str:
        return self.text


Match = (
    Comment
    | Proto
    | Dport
    | Src
    | Dst
    | InIface
    | AddrType
    | CtState
    | Mark
    | Statistic
    | RecentCheck
    | RecentSet
    | Nfacct
    | Unknown
)


class Target(NamedTuple):
    """-j: a chain's name or a verdict. `argument` is what follows it."""

    name: str
    argument: str = ""

    def written(self) -> str:
        return f"-j {self.name} {self.argument}" if self.argument else f"-j {self.name}"

    def saved(self, family: str) -> str:
        if self.name == "REJECT" and not self.argument:
            with_what = "icmp-port-unreachable" if family == IPV4 else "icmp6-port-unreachable"
            return f"-j REJECT --reject-with {with_what}"
        if self.name == "MARK":
            option, _, value = self.argument.partition(" ")
            number = int(value.partition("/")[0], 0)
            if option == "--or-mark":
                return f"-j MARK --set-xmark {number:#x}/{number:#x}"
            if option == "--xor-mark":
                return f"-j MARK --set-xmark {number:#x}/0x0"
        return self.written()


ACCEPT: Final = Target("ACCEPT")
DROP: Final = Target("DROP")
REJECT: Final = Target("REJECT")
RETURN: Final = Target("RETURN")


class Rule(NamedTuple):
    """One rule of a chain. `target` None: it matches and changes nothing."""

    matches: tuple[Match, ...]
    target: Target | None

    def written(self, chain: str) -> str:
        """As kube-proxy writes it, `-A CHAIN …`."""
        words = [f"-A {chain}"]
        words.extend(match.written() for match in self.matches)
        if self.target is not None:
            words.append(self.target.written())
        return " ".join(words)

    def saved(self, chain: str, family: str = IPV4) -> str:
        """As iptables-save (ip6tables-save) prints it."""
        source = destination = interface = protocol = ""
        rest = ""
        for match in self.matches:
            kind = type(match)
            text = match.saved(family)
            if kind is Src:
                source = f" {text}"
            elif kind is Dst:
                destination = f" {text}"
            elif kind is InIface:
                interface = f" {text}"
            elif kind is Dport:
                # A port belongs to the module of its protocol, wherever the address stood in between.
                head, module, tail = rest.rpartition(protocol.replace("-p", "-m"))
                rest = f"{head}{module} {text}{tail}"
            else:
                if kind is Proto:
                    protocol = text.replace("-m", " -p")
                rest = f"{rest} {text}"
        target = f" {self.target.saved(family)}" if self.target is not None else ""
        return f"-A {chain}{source}{destination}{interface}{protocol}{rest}{target}"

    @property
    def comment(self) -> str:
        """The rule's comment, "" without."""
        return next((match.text for match in self.matches if isinstance(match, Comment)), "")

    @property
    def statistic(self) -> Fraction | None:
        """Its probability, None for a rule without `statistic`."""
        return next((match.probability for match in self.matches if isinstance(match, Statistic)), None)


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain of one table.

    `shares` is (index of the first, n) where n rules in a row share evenly: probabilities 1/n, 1/(n-1) … and the
    last without. It is a derived index: reading the rules one by one gives the same answer.
    """

    name: str
    rules: tuple[Rule, ...] = ()
    policy: str = ""
    """ACCEPT or DROP of a built-in chain, "" for others."""
    shares: tuple[int, int] | None = None


Tables = Mapping[str, tuple[Chain, ...]]
"""Table name → its chains, in order of printing."""


def probability_text(probability: Fraction) -> str:
    """Go's `%0.10f` of the nearest float64 (proxier.go, computeProbability)."""
    return f"{probability.numerator / probability.denominator:.10f}"


@lru_cache(maxsize=8192)
def _kept_probability(numerator: int, denominator: int) -> str:
    """By its two numbers: a Fraction's own hash is the slowest part of printing a rule."""
    written = Fraction(probability_text(Fraction(numerator, denominator)))
    kept = math.floor(written * (1 << 31) + Fraction(1, 2))
    return f"{kept / (1 << 31):.11f}"


def network_hit(cidr: str, number: tuple[int, int] | None) -> bool:
    """Whether an address (as `addresses.address_number`) lies in a CIDR."""
    parts = network(cidr)
    return parts is not None and number is not None and parts[0] == number[0] and number[1] & parts[2] == parts[1]
