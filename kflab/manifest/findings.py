"""What the loader has to say about manifests, and how serious it is."""

from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

from kflab.errors import KflabError, Place
from kflab.manifest.objects import Key
from kflab.records import dataclass

Path = tuple[str | int, ...]
"""Steps from the root of an object: field names and list indices."""

PlaceOf = Callable[[Path], Place | None]
"""Finds where a field's value is written; None when nobody wrote it."""


class Places(Protocol):
    """Positions of fields, as marks.py gives them."""

    def place(self, path: Path) -> Place | None:
        """Where the value is written."""
        ...

    def key_place(self, path: Path) -> Place | None:
        """Where the key is written."""
        ...


class Severity(IntEnum):
    """How serious a finding is; higher is worse."""

    INFO = 0
    """Worth knowing: a kind that the lab keeps without behaviour."""
    WARNING = 1
    """Looks wrong, and Kubernetes would take it."""
    REFUSED = 2
    """The API server would refuse it: `apply` refuses; on opening files the lab goes on under `Finding.assumption`."""
    ERROR = 3
    """Nothing loads."""

    @property
    def word(self) -> str:
        """The lower-case name shown to people."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to say about one field."""

    severity: Severity
    message: str
    """One line; for REFUSED and ERROR in the API server's words where it has some."""
    place: Place | None = None
    path: Path = ()
    key: Key | None = None
    assumption: str = ""
    """What the lab assumes in order to go on; only with REFUSED."""

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        tail = f" (assumed: {self.assumption})" if self.assumption else ""
        return f"{where}{self.severity.word}: {self.message}{tail}"

    def error(self) -> KflabError:
        """The finding as an exception."""
        return KflabError(self.message, self.place)


class Report:
    """Collects findings about one object while it is read."""

    __slots__ = ("findings", "key", "places")

    def __init__(self, key: Key | None, places: Places) -> None:
        self.key = key
        self.places = places
        self.findings: list[Finding] = []

    def add(self, severity: Severity, path: Path, message: str, assumption: str = "", at_key: bool = False) -> None:
        """Note a finding about the field at `path`, at its value or (`at_key`) at its name."""
        place = self.places.key_place(path) if at_key else self.places.place(path)
        self.findings.append(Finding(severity, message, place, path, self.key, assumption))

    def error(self, path: Path, message: str) -> None:
        """Nothing can load."""
        self.add(Severity.ERROR, path, f"{dotted(path)}: {message}" if path else message)

    def refused(self, path: Path, message: str, assumption: str) -> None:
        """The API server would refuse; `assumption` says how the lab goes on."""
        self.add(Severity.REFUSED, path, f"{dotted(path)}: {message}" if path else message, assumption)

    def warn(self, path: Path, message: str) -> None:
        """It looks wrong."""
        self.add(Severity.WARNING, path, f"{dotted(path)}: {message}" if path else message)

    @property
    def failed(self) -> bool:
        return any(finding.severity is Severity.ERROR for finding in self.findings)


def dotted(path: Path) -> str:
    """A path as the API server prints it: `spec.ports[0].port`, `metadata.labels[app.kubernetes.io/name]`.

    Source: apimachinery pkg/util/validation/field/path.go; keys of maps stand in brackets there too.
    """
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif "." in step or "/" in step:
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return text


def quoted(value: object) -> str:
    """A value as Go's %#v / strconv.Quote shows it in validation messages."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in escaped) + '"'
    if value is None:
        return "null"
    return str(value)
