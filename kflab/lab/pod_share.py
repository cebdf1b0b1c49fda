"""How a workload's requests are spread over its pods."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from kflab.engine.bins import BIN_NS, Count
from kflab.manifest.objects import Key

if TYPE_CHECKING:
    from kflab.lab.running import Lab

WINDOW_NS = 30_000_000_000
"""How far back it looks; the engine keeps counts of 51 s."""


def least_share(lab: "Lab", pods: Collection[Key]) -> float | None:
    """Share of the pod that answered fewest, of all tries that these pods answered in the last 30 s.

    Args:
        lab: The lab, at its instant.
        pods: The pods of a workload that exist.

    Returns:
        From 0 to 1 / len(pods); None where none of them answered anything.
    """
    bins = WINDOW_NS // BIN_NS
    by_server = lab.engine.bins.series(Count.SERVER_OK, lab.t_ns // BIN_NS - bins, bins).sum(axis=0)
    answered = dict.fromkeys(pods, 0)
    for (_, _, _, pod), count in zip(lab.wiring.servers, by_server.tolist(), strict=False):
        if pod in answered:
            answered[pod] += count
    total = sum(answered.values())
    return min(answered.values()) / total if total else None
