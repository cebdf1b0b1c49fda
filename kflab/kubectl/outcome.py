"""What a command of the command line printed."""

from kflab.records import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command printed."""

    out: str = ""
    """Standard output: what a pipe reads."""
    err: str = ""
    """Standard error: warnings and errors; never piped, printed first."""
    code: int = 0
    """Exit code the real command would have had."""
    trace_id: int | None = None
    """The request a `curl` made."""

    @property
    def text(self) -> str:
        """Both, as a terminal shows them."""
        return self.err + self.out
