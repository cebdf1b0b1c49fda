"""Which date a simulated instant has: controllers write dates into annotations, kubectl prints them."""

from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH: Final = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
"""The date of simulated t = 0. Arbitrary: nothing in the lab depends on it."""


def instant(t_ns: int) -> datetime:
    """The date of a simulated instant."""
    return EPOCH + timedelta(microseconds=t_ns // 1000)


def rfc3339(t_ns: int) -> str:
    """As the API server writes timestamps (metav1.Time, whole seconds)."""
    return f"{instant(t_ns):%Y-%m-%dT%H:%M:%SZ}"
