"""Any dump of a node's rules, told apart by its content: iptables-save, or nft's listing as JSON or text."""

import re
from typing import Final

from kflab.dataplane.addresses import family_of
from kflab.dataplane.dump import Dump, of_family, read_dump
from kflab.dataplane.dump_meeting import Known
from kflab.dataplane.dump_outcome import Exploration
from kflab.dataplane.dump_walk import explore
from kflab.dataplane.nft_dump import Listing
from kflab.dataplane.nft_dump_json import read_json
from kflab.dataplane.nft_dump_text import read_nft_text
from kflab.dataplane.nft_dump_walk import explore_listing
from kflab.dataplane.packets import Packet

Rules = tuple[Dump, ...] | Listing
"""iptables-save: one dump per address family. nft: all families in one listing."""

_JSON: Final = re.compile(r"\s*\{")

_NFT_TEXT: Final = re.compile(r"(?:\s*#[^\n]*(?:\n|$))*\s*table\s")
"""`table …` after comments: nft warns there of tables that iptables-nft looks after."""


def read_rules(text: str, name: str = "rules") -> Rules:
    """Read a dump of whichever tool.

    Args:
        text: The dump.
        name: For messages.

    Raises:
        KflabError: With its line, if the text is no such dump.
    """
    if _JSON.match(text):
        return read_json(text, name)
    if _NFT_TEXT.match(text):
        return read_nft_text(text, name)
    return read_dump(text, name)


def explore_rules(rules: Rules, packet: Packet, known: Known) -> Exploration:
    """Walk a packet through a node's rules.

    Raises:
        KflabError: If chains call each other in a circle, or the dump is of the other address family.
    """
    if isinstance(rules, Listing):
        return explore_listing(rules, packet, known)
    return explore(of_family(rules, family_of(packet.dst)), packet, known)
