"""Simulated instants as kubectl prints them: AGE columns and dates.

The lab counts nanoseconds from its opening; a date needs an origin, and a fixed one keeps every run's output the same.
"""

from typing import Final

from kflab.control.dates import EPOCH, instant, rfc3339

SECOND_NS: Final = 1_000_000_000


def human_duration(duration_ns: int) -> str:
    """Write a duration in at most two units, coarser the longer it is: 45s, 3m20s, 17m, 5h3m, 2d4h, 12d, 2y11d.

    Source: k8s.io/apimachinery pkg/util/duration/duration.go, HumanDuration.
    """
    # Go's division truncates toward zero: half a second in the future is still "0s".
    seconds = abs(duration_ns) // SECOND_NS * (1 if duration_ns >= 0 else -1)
    if seconds < -1:
        return "<invalid>"
    if seconds < 0:
        return "0s"
    if seconds < 120:
        return f"{seconds}s"
    minutes = seconds // 60
    if minutes < 10:
        return _two(minutes, "m", seconds % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    hours = minutes // 60
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if days < 730:
        return f"{days}d"
    years = days // 365
    return _two(years, "y", days % 365, "d") if years < 8 else f"{years}y"


def _two(high: int, high_unit: str, low: int, low_unit: str) -> str:
    return f"{high}{high_unit}" if low == 0 else f"{high}{high_unit}{low}{low_unit}"


def rfc1123z(t_ns: int) -> str:
    """As `kubectl describe` prints times (Go's time.RFC1123Z)."""
    t = instant(t_ns)
    return f"{_DAYS[t.weekday()]}, {t.day:02d} {_MONTHS[t.month - 1]} {t:%Y %H:%M:%S} +0000"


def time_local(t_ns: int) -> str:
    """nginx's $time_local."""
    t = instant(t_ns)
    return f"{t.day:02d}/{_MONTHS[t.month - 1]}/{t:%Y:%H:%M:%S} +0000"


_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")  # strftime's %a would follow the locale
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

__all__ = ["EPOCH", "human_duration", "instant", "rfc1123z", "rfc3339", "time_local"]
