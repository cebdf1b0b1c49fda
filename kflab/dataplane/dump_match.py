"""Whether the matches of a dump's rule hold for the first packet of a connection: yes, no, or not to be known.

Sources: iptables-extensions(8) and the kernel's net/netfilter/xt_*.c of the same names. What a dump cannot tell
(members of an ipset, rates, interfaces, bridge ports, packet contents…) is `None`: undecided, never guessed. The
options of each module are in `dump_options`.
"""

import re
from fractions import Fraction
from functools import lru_cache
from typing import Final, NamedTuple

from kflab.dataplane.addresses import IPV4
from kflab.dataplane.dump_meeting import Answer, Meeting, both
from kflab.dataplane.dump_options import (
    MODULES,
    Judge,
    always,
    in_set,
    never,
    of_protocol,
    recent,
    small_number,
    undecided,
)
from kflab.dataplane.dump_words import Group, Option
from kflab.dataplane.rules import Statistic, probability_text

_PORTED: Final = frozenset({"tcp", "udp", "sctp", "udplite", "dccp"})

_OTHER_PROTOCOLS: Final = frozenset({"icmp", "icmp6", "icmpv6", "ipv6-icmp", "esp", "ah", "udplite", "dccp"})
"""Modules of protocols that no packet here has."""

_FRACTION: Final = re.compile(r"[01]?(\.\d{1,20})?|\.\d{1,20}")


class Test(NamedTuple):
    """One match of a rule."""

    text: str
    """In words of the dump."""
    judge: Judge
    lasting: bool = True
    """Whether its answer is the packet's; False where each rule has a state of its own (limit, quota…)."""


_OF_THE_RULE: Final = frozenset({"limit", "hashlimit", "quota", "quota2", "connlimit", "statistic", "connbytes"})


@lru_cache(maxsize=65_536)
def test_of(group: Group) -> Test:
    """The match of a group of options. Unknown modules and options are undecided.

    `statistic` is the walker's to judge, see `chance_of`.
    """
    try:
        judge = _judge(group)
    except (ValueError, IndexError, ZeroDivisionError):
        judge = undecided
    return Test(group.text(), judge, group.module not in _OF_THE_RULE)


def _judge(group: Group) -> Judge:
    module, options = group.module, group.options
    if module in _OTHER_PROTOCOLS:
        return never
    if module in ("comment", "nfacct"):
        return always
    judges: list[Judge] = []
    if module in _PORTED:
        judges.append(of_protocol(Option("-p", (module,))))
    if module == "set":
        judges.append(in_set(options))
    elif module == "recent":
        judges.append(recent(options))
    else:
        table = MODULES.get(module, {})
        for option in options:
            make = table.get(option.name)
            if make is None:
                return undecided
            judge = make(option)
            judges.append(_inverted(judge) if option.inverted else judge)
        if not judges:
            return undecided
    return judges[0] if len(judges) == 1 else lambda at: both(judge(at) for judge in judges)


def _inverted(judge: Judge) -> Judge:
    def opposite(at: Meeting) -> Answer:
        answer = judge(at)
        return None if answer is None else not answer

    return opposite


def chance_of(group: Group) -> Fraction | None:
    """Chance that a `statistic` match holds; None where it cannot be read.

    kube-proxy's 1/n come back exact: the dump shows what the kernel kept of them in 31 bits. `--mode nth` is taken as
    the share it gives over many connections.
    """
    mode = group.find("--mode")
    share = group.find("--probability")
    if mode is not None and mode.value == "nth":
        every = group.find("--every")
        n = small_number(every.value) if every is not None else 0
        found, inverted = (Fraction(1, n) if n else None), bool(every and every.inverted)
    elif share is not None and _FRACTION.fullmatch(share.value) and any(char.isdigit() for char in share.value):
        found, inverted = _exact(share.value), share.inverted
    else:
        return None
    if found is None or found > 1:
        return None
    return 1 - found if inverted else found


@lru_cache(maxsize=16_384)
def _exact(text: str) -> Fraction:
    given = Fraction(text)
    if given:
        simple = Fraction(1, round(1 / given))
        if text in (probability_text(simple), Statistic(simple).saved(IPV4).rpartition(" ")[2]):
            return simple
    return given
