"""A load balancer that has a node in each zone, each of which takes turns among its zone's targets (AWS Classic).

A client's DNS answer leads it to a zone, drawn here; the turns are those of a virtual server (`schedulers`) per zone.
"""

from dataclasses import field

import numpy as np

from kflab.engine.types import Int64Array
from kflab.records import dataclass


@dataclass(slots=True)
class ZonedTurns:
    """One load balancer's listener."""

    of: dict[int, int] = field(default_factory=dict)
    """Target → the virtual server of its zone."""

    def virtual_servers(self, drawn: Int64Array) -> Int64Array:
        """The virtual server of each drawn target's zone, shape (n,)."""
        found, inverse = np.unique(drawn, return_inverse=True)
        zones: Int64Array = np.array([self.of[target] for target in found.tolist()], dtype=np.int64)[inverse]
        return zones
