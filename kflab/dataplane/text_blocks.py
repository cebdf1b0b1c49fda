"""A long text kept in pieces: changing one piece costs one block of it, not the whole.

A node's rules at 10,000 Services are thirty megabytes; a pod that comes or goes changes a few lines of them.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Hashable
from typing import Any, Final, Generic, TypeVar

Place = TypeVar("Place")
"""What orders the pieces; any type with `<`."""

_SIZE: Final = 256
"""Pieces of a new block; a block of twice as many is split."""


class _Block:
    """Some pieces in a row, joined."""

    __slots__ = ("lengths", "places", "text")

    def __init__(self, places: list[Any], lengths: list[int], text: str) -> None:
        self.places, self.lengths, self.text = places, lengths, text

    def write(self, place: Any, piece: str | None) -> None:
        """Put, replace or (None) remove a piece."""
        i = bisect_left(self.places, place)
        known = i < len(self.places) and self.places[i] == place
        if not known and piece is None:
            return
        start = sum(self.lengths[:i])
        end = start + self.lengths[i] if known else start
        if known and piece is not None and self.text[start:end] == piece:
            return
        self.text = f"{self.text[:start]}{piece or ''}{self.text[end:]}"
        if piece is None:
            del self.places[i], self.lengths[i]
        elif known:
            self.lengths[i] = len(piece)
        else:
            self.places.insert(i, place)
            self.lengths.insert(i, len(piece))


class TextBlocks(Generic[Place]):
    """Pieces of text in the order of their places. Writes are gathered and done when the text is asked for."""

    def __init__(self) -> None:
        self._blocks: list[_Block] = []
        self._firsts: list[Any] = []
        """Each block's first place."""
        self._pending: dict[Place, str | None] = {}

    def put(self, place: Place, piece: str) -> None:
        """Put a piece at a place, instead of what is there."""
        self._pending[place] = piece

    def drop(self, place: Place) -> None:
        """Remove the piece at a place, if there is one."""
        self._pending[place] = None

    @property
    def changed(self) -> bool:
        """Whether something was written since the text was last asked for."""
        return bool(self._pending)

    def texts(self) -> list[str]:
        """The text in blocks. Blocks in which nothing changed are the same objects as before."""
        if self._pending:
            self._settle()
        return [block.text for block in self._blocks]

    def __bool__(self) -> bool:
        """Whether there is any piece."""
        return bool(self.texts())

    def _settle(self) -> None:
        pending, self._pending = self._pending, {}
        if self._blocks:
            for place, piece in pending.items():
                self._write(place, piece)
            return
        places: list[Any] = sorted([place for place, piece in pending.items() if piece is not None])
        pieces: list[str] = [pending[place] or "" for place in places]
        for i in range(0, len(places), _SIZE):
            mine = pieces[i : i + _SIZE]
            self._blocks.append(_Block(places[i : i + _SIZE], [len(piece) for piece in mine], "".join(mine)))
        self._firsts = [block.places[0] for block in self._blocks]

    def _write(self, place: Place, piece: str | None) -> None:
        if not self._blocks:
            self._blocks, self._firsts = [_Block([], [], "")], [place]
        i = max(0, bisect_right(self._firsts, place) - 1)
        block = self._blocks[i]
        block.write(place, piece)
        if not block.places:
            del self._blocks[i], self._firsts[i]
            return
        self._firsts[i] = block.places[0]
        if len(block.places) > 2 * _SIZE:
            half = len(block.places) // 2
            cut = sum(block.lengths[:half])
            self._blocks.insert(i + 1, _Block(block.places[half:], block.lengths[half:], block.text[cut:]))
            self._firsts.insert(i + 1, block.places[half])
            self._blocks[i] = _Block(block.places[:half], block.lengths[:half], block.text[:cut])


class ClaimedBlocks(Generic[Place]):
    """Text blocks of things that several may claim: the first claimant in order has it, the others wait."""

    def __init__(self) -> None:
        self.blocks: TextBlocks[Place] = TextBlocks()
        self._claims: dict[Hashable, list[tuple[Any, Place, str]]] = {}
        """Thing → its claims, (claimant, place, piece), in order of claimants."""

    def claim(self, thing: Hashable, claimant: Any, place: Place, piece: str) -> None:
        """`claimant` writes `piece` at `place`, unless an earlier one has the thing."""
        claims = self._claims.setdefault(thing, [])
        before = claims[0] if claims else None
        if any(known[0] == claimant for known in claims):
            return
        insort(claims, (claimant, place, piece))
        self._show(before, claims[0])

    def release(self, thing: Hashable, claimant: Any) -> None:
        """`claimant` claims it no longer."""
        claims = self._claims.get(thing, [])
        before = claims[0] if claims else None
        claims[:] = [known for known in claims if known[0] != claimant]
        if not claims:
            self._claims.pop(thing, None)
        self._show(before, claims[0] if claims else None)

    def _show(self, before: tuple[Any, Place, str] | None, after: tuple[Any, Place, str] | None) -> None:
        if before is after:
            return
        if before is not None:
            self.blocks.drop(before[1])
        if after is not None:
            self.blocks.put(after[1], after[2])
