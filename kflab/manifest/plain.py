"""Any YAML document, as safely and with the same positions as manifests: for scenario files."""

from typing import Any

from kflab.errors import KflabError, Place
from kflab.manifest.findings import Path, PlaceOf
from kflab.manifest.limits import MAX_TEXT_BYTES
from kflab.manifest.marks import Marks
from kflab.manifest.reading import Reader
from kflab.manifest.sources import SourceText


def load_plain(text: str, name: str) -> tuple[Any, PlaceOf]:
    """Read exactly one document.

    Args:
        text: YAML or JSON.
        name: What places call it.

    Returns:
        The tree (None when there is nothing but comments) and a function from a path in it to its place.

    Raises:
        KflabError: If it is not safe, bounded YAML, or has more than one document.
    """
    if len(text) > MAX_TEXT_BYTES:
        raise KflabError(f"too large: over {MAX_TEXT_BYTES // 2**20} MiB", Place(name))
    text = text.removeprefix("\ufeff")
    documents = list(Reader(text, name).documents())
    if not documents:
        return None, lambda path: Place(name)
    if len(documents) > 1:
        second = documents[1].span
        raise KflabError("one document was expected, here a second one starts", Place(name, second.line + 1))
    marks = Marks(SourceText(name, text), documents[0].span)

    def place_of(path: Path) -> Place:
        return marks.place(path)

    return documents[0].tree, place_of
