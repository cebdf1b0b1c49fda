"""Files, folders and standard input → texts, as `kubectl apply -f` takes them."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from kflab.errors import KflabError, Place
from kflab.manifest.limits import MAX_TEXT_BYTES
from kflab.records import dataclass

EXTENSIONS = (".json", ".yaml", ".yml")
"""What kubectl reads in a folder (cli-runtime pkg/resource/builder.go, FileExtensions)."""


@dataclass(frozen=True, slots=True)
class SourceText:
    """One text with manifests."""

    name: str
    """Shown in places: the path as given, "<stdin>", or a tab's name."""
    text: str
    path: str | None = None
    """Where it can be written back; None for standard input and built-in texts."""


def read_paths(paths: Sequence[str], recursive: bool = False, stdin: TextIO | None = None) -> list[SourceText]:
    """Read what `-f` names.

    Args:
        paths: Files, folders, or "-" for standard input.
        recursive: Also read folders below a given folder (`-R`).
        stdin: What "-" reads.

    Returns:
        The texts; within a folder ordered by path, as kubectl walks it.

    Raises:
        KflabError: If a path does not exist or cannot be read, a folder has no manifests (the message names
            sub-folders that have some), a text is not UTF-8 or all together are too large.
    """
    sources: list[SourceText] = []
    room = MAX_TEXT_BYTES
    for given in paths:
        if given == "-":
            source = _read_stdin(stdin, room)
            room -= len(source.text)
            sources.append(source)
            continue
        for file in _files_of(given, recursive):
            source, size = _read_file(file, room)
            room -= size
            sources.append(source)
    return sources


def decode(data: bytes, name: str) -> str:
    """Bytes → text: UTF-8 with or without byte order mark, or UTF-16 with one (YAML 1.1 §5.1 allows both).

    Raises:
        KflabError: With line and column of the first byte that is not text.
    """
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError:
            raise KflabError("not text: neither UTF-8 nor UTF-16", Place(name)) from None
    if data[:3] == b"\xef\xbb\xbf":
        data = data[3:]
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8")) + 1
        kind = "a binary file" if b"\0" in data[:8192] else "not UTF-8 text"
        raise KflabError(f"{kind}: byte 0x{data[error.start]:02x}", Place(name, line, column)) from None


def _files_of(given: str, recursive: bool) -> list[str]:
    if not os.path.lexists(given):
        raise KflabError(f'the path "{given}" does not exist')
    if not os.path.isdir(given):
        return [given]
    files = _manifests_in(given) if not recursive else _manifests_below(given)
    if files:
        return files
    below = sorted({os.path.dirname(file) for file in _manifests_below(given)})
    if not below:
        raise KflabError(f'the folder "{given}" has no {", ".join("*" + e for e in EXTENSIONS)} files')
    shown = ", ".join(below[:5]) + (f" and {len(below) - 5} more" if len(below) > 5 else "")
    raise KflabError(f'the folder "{given}" has no manifests itself; these below it have some: {shown} (or use -R)')


def _manifests_in(folder: str) -> list[str]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise KflabError(f'cannot read the folder "{folder}": {error.strerror}') from None
    paths = (os.path.join(folder, name) for name in names if name.endswith(EXTENSIONS))
    return [path for path in paths if os.path.isfile(path)]


def _manifests_below(folder: str) -> list[str]:
    files: list[str] = []
    for here, folders, _ in os.walk(folder):
        folders.sort()
        files += _manifests_in(here)
    return files


def _read_file(path: str, room: int) -> tuple[SourceText, int]:
    try:
        if Path(path).is_file() and os.path.getsize(path) > room:
            raise _too_large(path, os.path.getsize(path))
        with open(path, "rb") as file:
            data = file.read(room + 1)  # a pipe or device tells no size
    except OSError as error:
        raise KflabError(f'cannot read "{path}": {error.strerror or error}') from None
    if len(data) > room:
        raise _too_large(path, len(data))
    return SourceText(path, decode(data, path), path), len(data)


def _read_stdin(stdin: TextIO | None, room: int) -> SourceText:
    name = "<stdin>"
    if stdin is None:
        raise KflabError('"-" was given and there is no standard input')
    binary = getattr(stdin, "buffer", None)
    if binary is not None:
        data = binary.read(room + 1)
        if len(data) > room:
            raise _too_large(name, len(data))
        return SourceText(name, decode(data, name))
    text = stdin.read(room + 1)
    if len(text) > room:
        raise _too_large(name, len(text))
    return SourceText(name, text.removeprefix("\ufeff"))


def _too_large(name: str, size: int) -> KflabError:
    return KflabError(
        f"too large: {size / 2**20:.0f} MiB; all manifests together may have {MAX_TEXT_BYTES // 2**20} MiB", Place(name)
    )
