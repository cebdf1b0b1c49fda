"""Hashes of many texts at once are those of each text, and of FNV-1a's published vectors."""

from hypothesis import given, settings
from hypothesis import strategies as st

from kflab.control.hashing import FEW, fnv32a_all
from kflab.control.names import fnv32a


def test_published_vectors() -> None:
    """Source: draft-eastlake-fnv, test vectors for 32 bits."""
    known = {b"": 0x811C9DC5, b"a": 0xE40C292C, b"foobar": 0xBF9CF968}
    assert {text: fnv32a(text) for text in known} == known
    assert fnv32a_all([*known] * FEW) == [*known.values()] * FEW


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=60), min_size=FEW, max_size=3 * FEW))
def test_as_one_by_one(texts: list[bytes]) -> None:
    assert fnv32a_all(texts) == [fnv32a(text) for text in texts]
