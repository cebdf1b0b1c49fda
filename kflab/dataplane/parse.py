"""Read iptables-save text of the dialect kube-proxy's rules are in, so that it can be walked and printed again.

What kflab prints comes back byte for byte. Matches and targets it does not know are kept word for word as `Unknown`;
they never match (see `rule_match`).
"""

from collections.abc import Iterable
from fractions import Fraction

from kflab.dataplane.addresses import IPV4, is_loopback, network
from kflab.dataplane.dump_words import split_words
from kflab.dataplane.endpoints import ProxyEndpoint
from kflab.dataplane.iptables import save_text
from kflab.dataplane.packets import Packet
from kflab.dataplane.rules import (
    AddrType,
    Chain,
    Comment,
    CtState,
    Dport,
    Dst,
    InIface,
    Mark,
    Match,
    Nfacct,
    Proto,
    RecentCheck,
    RecentSet,
    Rule,
    Src,
    Statistic,
    Tables,
    Target,
    Unknown,
    quote_saved,
)
from kflab.errors import KflabError, Place
from kflab.records import dataclass

_BUILT_IN = frozenset({"ACCEPT", "DROP"})


@dataclass(frozen=True)
class ParsedRules:
    """A parsed dump as something to walk.

    Args:
        tables: The chains.
        family: IPv4 or IPv6.
        local_ips: Addresses of the node, for address type LOCAL.
    """

    tables: Tables
    family: str = IPV4
    local_ips: tuple[str, ...] = ()

    def is_local(self, address: str) -> bool:
        """One of the node's addresses, or loopback."""
        return address in self.local_ips or is_loopback(address)

    def chain_for(self, table: str, name: str, packet: Packet) -> Chain | None:
        """The whole chain."""
        return next((chain for chain in self.tables.get(table, ()) if chain.name == name), None)

    def endpoint(self, packet: Packet, address: str, port: int) -> ProxyEndpoint | None:
        """A dump knows no pods."""
        return None

    def text(self) -> str:
        """Print it again."""
        return save_text(self.tables, self.family)


def parse_save(text: str, name: str = "rules", local_ips: tuple[str, ...] = ()) -> ParsedRules:
    """Parse iptables-save text.

    Args:
        text: The dump.
        name: For error messages.
        local_ips: Addresses of the node it was taken on.

    Raises:
        KflabError: With its line, if the text is not iptables-save's.
    """
    chains: dict[str, dict[str, Chain]] = {}
    rules: dict[tuple[str, str], list[Rule]] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        place = Place(name, number)
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if stripped.startswith("*"):
            table = stripped[1:]
            chains.setdefault(table, {})
        elif stripped == "COMMIT":
            table = ""
        elif not table:
            raise KflabError("expected a table (*nat, *filter…) first", place)
        elif stripped.startswith(":"):
            parts = stripped[1:].split()
            if len(parts) < 2:
                raise KflabError("expected :CHAIN POLICY [packets:bytes]", place)
            policy = parts[1] if parts[1] in _BUILT_IN else ""
            chains[table][parts[0]] = Chain(parts[0], policy=policy)
        elif stripped.startswith("-A "):
            words = [word.text for word in split_words(stripped, place)]
            if len(words) < 2 or words[1] not in chains[table]:
                raise KflabError("a rule is appended to a chain that is not declared", place)
            rules.setdefault((table, words[1]), []).append(_Reader(words[2:], place).rule())
        else:
            raise KflabError("expected *table, :CHAIN, -A rule, COMMIT or a comment", place)
    tables = {
        title: tuple(
            Chain(chain.name, tuple(rules.get((title, chain.name), ())), chain.policy) for chain in found.values()
        )
        for title, found in chains.items()
    }
    return ParsedRules(tables, _family(tables), local_ips)


def _family(tables: Tables) -> str:
    for chains in tables.values():
        for chain in chains:
            for rule in chain.rules:
                for match in rule.matches:
                    if isinstance(match, Src | Dst):
                        parts = network(match.cidr)
                        if parts is not None:
                            return IPV4 if parts[0] == 4 else "IPv6"
                if rule.target is not None and "icmp6" in rule.target.argument:
                    return "IPv6"
    return IPV4


class _Reader:
    """The words of one rule, read from left to right."""

    def __init__(self, words: list[str], place: Place) -> None:
        self._words = words
        self._place = place
        self._i = 0

    def _next(self) -> str:
        if self._i >= len(self._words):
            raise KflabError("the rule ends in the middle of an option", self._place)
        self._i += 1
        return self._words[self._i - 1]

    def _peek(self) -> str:
        return self._words[self._i] if self._i < len(self._words) else ""

    def _rest(self) -> list[str]:
        """The words up to the next module, target or end."""
        found = []
        while self._peek() and self._peek() not in {"-m", "-j", "-g"}:
            found.append(self._next())
        return found

    def rule(self) -> Rule:
        matches: list[Match] = []
        protocol = ""
        while self._peek():
            inverted = self._peek() == "!"
            if inverted:
                self._next()
            word = self._next()
            if word == "-j":
                target = self._next()
                argument = " ".join(self._words[self._i :])
                return Rule(self._finish(matches, protocol), Target(target, argument))
            if word == "-s":
                matches.append(Src(self._next(), inverted))
            elif word == "-d":
                matches.append(Dst(self._next(), inverted))
            elif word == "-i":
                matches.append(InIface(self._next(), None, inverted))
            elif word == "-p" and not inverted:
                protocol = self._next()
            elif word == "-m":
                matches.extend(self._module(self._next()))
            else:
                rest = " ".join(quote_saved(item) for item in self._rest())
                matches.append(Unknown(f"{'! ' if inverted else ''}{word} {rest}".strip()))
        return Rule(self._finish(matches, protocol), None)

    @staticmethod
    def _finish(matches: list[Match], protocol: str) -> tuple[Match, ...]:
        """A protocol without its module is kept as a match nobody judges."""
        if protocol and not any(isinstance(match, Proto) and match.name == protocol for match in matches):
            matches.insert(0, Unknown(f"-p {protocol}"))
        return tuple(matches)

    def _module(self, name: str) -> Iterable[Match]:
        options = self._rest()
        unknown = (Unknown(" ".join(["-m", name, *(_again(option) for option in options)])),)
        try:
            return _known(name, options) or unknown
        except (ValueError, IndexError, ZeroDivisionError):
            return unknown


def _again(option: str) -> str:
    return option if option.startswith("-") or "/" in option or "," in option or ":" in option else quote_saved(option)


def _known(name: str, options: list[str]) -> tuple[Match, ...]:
    """Matches of a module kflab judges; () for others."""
    inverted = bool(options) and options[0] == "!"
    if inverted:
        options = options[1:]
    match name, options:
        case "comment", ["--comment", text] if not inverted:
            return (Comment(text),)
        case (("tcp" | "udp" | "sctp"), []):
            return (Proto(name),)
        case (("tcp" | "udp" | "sctp"), ["--dport", port]) if not inverted:
            return (Proto(name), Dport(int(port)))
        case "addrtype", ["--dst-type", "LOCAL"] if not inverted:
            return (AddrType("dst"),)
        case "addrtype", ["--src-type", "LOCAL"] if not inverted:
            return (AddrType("src"),)
        case "conntrack", ["--ctstate", states]:
            return (CtState(tuple(states.split(",")), inverted),)
        case "mark", ["--mark", value]:
            number, _, mask = value.partition("/")
            return (Mark(int(number, 0), int(mask or "0xffffffff", 0), inverted),)
        case "statistic", ["--mode", "random", "--probability", value] if (
            not inverted and value.strip(".0123456789") == ""
        ):
            return (Statistic(Fraction(value)),)
        case "nfacct", ["--nfacct-name", value] if not inverted:
            return (Nfacct(value),)
        case "recent", ["--rcheck", "--seconds", seconds, "--reap", "--name", chain, "--mask", _, "--rsource"]:
            return (RecentCheck(chain, int(seconds)),)
        case "recent", ["--set", "--name", chain, "--mask", _, "--rsource"] if not inverted:
            return (RecentSet(chain),)
    return ()
