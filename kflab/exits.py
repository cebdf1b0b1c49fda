"""Exit codes of every kflab command, in one place."""

from typing import Final

OK: Final = 0
"""The command did what was asked."""

FAILED: Final = 1
"""It ran, and an expectation or check did not hold."""

USAGE: Final = 2
"""Bad input or bad usage: one clear line was printed, nothing was run."""
