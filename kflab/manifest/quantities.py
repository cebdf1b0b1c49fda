"""Amounts of CPU: a quantity's text and thousandths of a CPU.

Source: k8s.io/apimachinery pkg/api/resource/quantity.go (MilliValue rounds up; String prints the canonical form).
"""

import re
from decimal import ROUND_CEILING, Decimal
from typing import Any

_SCALES = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1), "k": Decimal(1000),
    "M": Decimal(10**6), "G": Decimal(10**9), "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30),
}  # fmt: skip

_MOST_MILLI = 10**15


def milli_of(quantity: Any) -> int | None:
    """Thousandths of a quantity such as 2, "0.5", "100m" or "1e3", rounded up; None for anything else."""
    match = re.fullmatch(
        r"\+?(\d{1,18}(?:\.\d{0,9})?|\.\d{1,9})(?:[eE]([+-]?\d{1,2})|(n|u|m|k|M|G|Ki|Mi|Gi)?)", str(quantity)
    )
    if match is None:
        return None
    scale = Decimal(10) ** int(match[2]) if match[2] else _SCALES[match[3] or ""]
    milli = (Decimal(match[1]) * scale * 1000).to_integral_value(ROUND_CEILING)
    return min(int(milli), _MOST_MILLI)


def milli_text(milli: int) -> str:
    """As Kubernetes prints it: "1500m", "2"."""
    return str(milli // 1000) if milli % 1000 == 0 else f"{milli}m"
