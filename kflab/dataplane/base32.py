"""Base32 as Go's encoding/base32 (StdEncoding) and Python's base64 write it, for the fixed lengths of chain names.

`base64.b32encode` pads, checks and works byte by byte; the names of 100,000 endpoint chains are made at a stroke.
"""

from typing import Final

_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

_PAIRS: Final = tuple(high + low for high in _ALPHABET for low in _ALPHABET)
"""Two characters for each number of ten bits."""


def base32_80(data: bytes) -> str:
    """The 16 characters of ten bytes (of more, the first ten count)."""
    n = int.from_bytes(data[:10], "big")
    return (
        f"{_PAIRS[n >> 70]}{_PAIRS[n >> 60 & 1023]}{_PAIRS[n >> 50 & 1023]}{_PAIRS[n >> 40 & 1023]}"
        f"{_PAIRS[n >> 30 & 1023]}{_PAIRS[n >> 20 & 1023]}{_PAIRS[n >> 10 & 1023]}{_PAIRS[n & 1023]}"
    )


def base32_40(data: bytes) -> str:
    """The 8 characters of five bytes (of more, the first five count)."""
    n = int.from_bytes(data[:5], "big")
    return f"{_PAIRS[n >> 30]}{_PAIRS[n >> 20 & 1023]}{_PAIRS[n >> 10 & 1023]}{_PAIRS[n & 1023]}"
