"""Textual's lines of a frame, kept from becoming cyclic garbage.

`Strip.divide` of Textual 8.2.8 keeps what it returns in a cache of the strip itself, also where that is the strip:
every painted line that one widget fills then waits for the garbage collector, with seven caches of its own. Under load
that was 90,000 objects in 20 s, and the collection that found them held the interpreter for some 190 ms.
"""

from collections.abc import Iterable, Sequence

from textual.strip import Strip

_divide = Strip.divide


def divide(self: Strip, cuts: Iterable[int]) -> Sequence[Strip]:
    """As `Strip.divide`; a strip that is not cut is returned as it is, and not remembered."""
    places = [cut for cut in cuts if cut <= self.cell_length]
    return [self] if places == [self.cell_length] else _divide(self, places)


def keep_out_of_cycles() -> None:
    """Let all strips be divided so."""
    setattr(Strip, "divide", divide)  # noqa: B010 - a method is no variable to the type checker
