"""Where scenarios come from: the ones bundled in the wheel, files, and standard input."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from kflab.errors import KflabError, Place
from kflab.manifest.sources import EXTENSIONS
from kflab.records import dataclass

LARGEST_BYTES = 8 << 20
"""A scenario or one of its texts larger than this is refused."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A text and where it came from."""

    name: str
    """As shown and used in error messages."""
    short: str
    """Name of the scenario."""
    text: str
    folder: Path | None
    """Where relative names are looked up; None inside the wheel or for standard input."""
    inside: str = ""
    """Folder inside the bundled scenarios, for texts from the wheel."""
    path: Path | None = None

    def files(self, name: str, place: Place | None) -> list[str]:
        """The files that a name stands for: itself, or what a folder holds, as `kubectl apply -f` reads it.

        Raises:
            KflabError: If it is a folder that has no manifests or cannot be read.
        """
        folder = self.folder / name if self.folder is not None else None
        if folder is None or not folder.is_dir():
            return [name]
        try:
            inside = sorted(file.name for file in folder.iterdir() if file.name.endswith(EXTENSIONS) and file.is_file())
        except OSError as error:
            raise KflabError(f"cannot read the folder {folder}: {error.strerror}", place) from None
        if not inside:
            raise KflabError(f"the folder {folder} has no {', '.join('*' + e for e in EXTENSIONS)} files", place)
        return [f"{name.rstrip('/')}/{file}" for file in inside]

    def relative(self, name: str, place: Place) -> "Origin":
        """Read a text named by this one.

        Raises:
            KflabError: If it cannot be read, or leads outside the folder's tree.
        """
        if self.folder is not None:
            return _from_file(self.folder / name, place)
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise KflabError(f"{name!r} must stay inside the scenario's folder", place)
        found = _bundle().joinpath(self.inside, name) if self.inside else _bundle().joinpath(name)
        if not found.is_file():
            raise KflabError(f"no bundled text named {name!r}", place)
        return Origin(name, PurePosixPath(name).stem, found.read_text("utf-8"), None, self.inside)


@cache
def _bundle() -> Path:
    """Where the package of scenarios is, as wheels are installed: a folder. (`importlib.resources` costs 5 ms.)"""
    spec = find_spec("kflab_scenarios")
    if spec is None or not spec.submodule_search_locations:
        raise KflabError("the built-in scenarios are not installed (package kflab_scenarios)")
    return Path(spec.submodule_search_locations[0])


def bundled() -> tuple[str, ...]:
    """Names of the scenarios in the wheel, sorted."""
    return tuple(
        sorted(entry.name[:-5] for entry in _bundle().iterdir() if entry.is_file() and entry.name.endswith(".yaml"))
    )


def _from_file(path: Path, place: Place | None = None) -> Origin:
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise KflabError(f"{path} is larger than {LARGEST_BYTES >> 20} MiB", place)
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        raise KflabError(f"{path} is not UTF-8 text", place) from None
    except OSError as error:
        raise KflabError(f"cannot read {path}: {error.strerror}", place) from None
    return Origin(str(path), path.stem, text, path.parent, path=path)


def find(name: str, asked_by: Origin | None = None) -> Origin:
    """Find a scenario: a name with a dot or slash is a file, else a bundled one.

    Raises:
        KflabError: If there is none of that name; the message lists those there are.
    """
    if asked_by is not None and asked_by.folder is not None and ("/" in name or name.endswith((".yaml", ".yml"))):
        return _from_file(asked_by.folder / name)
    if name in bundled():
        return Origin(f"{name}.yaml", name, _bundle().joinpath(f"{name}.yaml").read_text("utf-8"), None)
    if "/" in name or name.endswith((".yaml", ".yml")):
        return _from_file(Path(name))
    raise KflabError(f"no scenario named {name!r}; there are {', '.join(bundled())}")
