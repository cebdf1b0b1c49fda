"""Members of ipsets from the output of `ipset save` (ipset(8)): `create NAME TYPE …` and `add NAME ENTRY …`."""

from collections.abc import Mapping
from typing import Final

from kflab.errors import KflabError, Place

MOST_MEMBERS: Final = 1_000_000

_READABLE: Final = ("hash:ip", "hash:net", "hash:ip,port", "hash:net,port", "bitmap:ip", "bitmap:port")
"""Types whose members can be held against a packet; sets of others stay undecided."""


def read_sets(text: str, name: str = "ipsets") -> Mapping[str, tuple[str, ...]]:
    """Read `ipset save`.

    Returns:
        Members by set. Sets of other types, and sets with entries that take members out again (nomatch), are left out.

    Raises:
        KflabError: With its line, if it is something else.
    """
    members: dict[str, list[str]] = {}
    skipped: dict[str, None] = {}
    total = 0
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] == "create" and len(words) >= 3:
            members.setdefault(words[1], [])
            if words[2] not in _READABLE:
                skipped[words[1]] = None
        elif words[0] == "add" and len(words) >= 3 and words[1] in members:
            total += 1
            if total > MOST_MEMBERS:
                raise KflabError(f"more than {MOST_MEMBERS} members", Place(name, number))
            members[words[1]].append(words[2])
            if "nomatch" in words[3:]:
                skipped[words[1]] = None
        else:
            raise KflabError(
                "expected `create NAME TYPE` or `add NAME ENTRY`, as ipset save prints", Place(name, number)
            )
    return {key: tuple(entries) for key, entries in members.items() if key not in skipped}
