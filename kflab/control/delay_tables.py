"""Delays that follow a distribution, as tables of equally likely values."""

from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from kflab.control.delays import Delays, Exponential, LogNormal, ns
from kflab.draws import duration_table


def delay_tables(delays: Delays) -> dict[str, NDArray[np.int64]]:
    """Delays that follow a distribution → their 65,536 equally likely values, in ns, ascending."""
    found: dict[str, NDArray[np.int64]] = {}
    for f in fields(delays):
        match getattr(delays, f.name):
            case LogNormal(p50, p99):
                found[f.name] = duration_table("lognormal", p50_ns=ns(p50), p99_ns=ns(p99))
            case Exponential(mean):
                found[f.name] = duration_table("exponential", mean_ns=ns(mean))
    return found
