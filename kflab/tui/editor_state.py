"""The editor without a screen: what was opened, what runs, what is on disk, and what is being typed."""

import re
from dataclasses import field
from pathlib import Path

from kflab.errors import KflabError
from kflab.lab.handle import Tab
from kflab.manifest.objects import Key
from kflab.records import dataclass
from kflab.tui.atomic_write import reason_of, write_atomically

CLUSTER_SCOPED = frozenset(
    {
        "Node",
        "Namespace",
        "IngressClass",
        "PriorityClass",
        "ClusterRole",
        "ClusterRoleBinding",
        "PersistentVolume",
        "StorageClass",
    }
)
"""Kinds without a namespace among those that manifests usually hold (Kubernetes API reference, resource scope)."""

_SEPARATOR = re.compile(r"^---(\s|$)")
_TOP_LEVEL = re.compile(r"^(?P<field>[A-Za-z]+):\s*(?P<value>.*)$")
_BELOW = re.compile(r"^\s+(?P<field>name|namespace):\s*(?P<value>\S.*)$")


@dataclass(frozen=True, slots=True)
class DocumentSpan:
    """One document of a text: its lines (from 0, end excluded) and, where its head says so, which object it is."""

    first: int
    end: int
    key: Key | None

    @property
    def title(self) -> str:
        """kubectl's kind/name, or "document" where the text does not tell."""
        return str(self.key) if self.key else "document"


def split_documents(text: str) -> tuple[DocumentSpan, ...]:
    """Find the documents of a YAML text by its separators, and their names by their top-level fields.

    This reads the text as an editor does, line by line; it is no YAML parser and is only used for titles, jumps and
    the remark about removed documents. What is applied is always what `lab` makes of the whole text.
    """
    lines = text.split("\n")
    starts = [0] + [number for number, line in enumerate(lines) if number and _SEPARATOR.match(line)]
    spans = []
    for first, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        body = [line for line in lines[first:end] if line.strip() and not line.lstrip().startswith("#")]
        if not body or all(_SEPARATOR.match(line) for line in body):
            continue
        spans.append(DocumentSpan(first, end, _key_of(body)))
    return tuple(spans)


def _key_of(lines: list[str]) -> Key | None:
    """Read kind, metadata.name and metadata.namespace from the lines of one document."""
    kind = name = namespace = ""
    inside, indent = "", ""
    for line in lines:
        top = _TOP_LEVEL.match(line)
        if top:
            inside, indent = top["field"], ""
            if inside == "kind":
                kind = _scalar(top["value"])
            continue
        if inside != "metadata":
            continue
        own_indent = line[: len(line) - len(line.lstrip())]
        indent = indent or own_indent
        below = _BELOW.match(line)
        if below and own_indent == indent:
            if below["field"] == "name":
                name = _scalar(below["value"])
            else:
                namespace = _scalar(below["value"])
    if not kind or not name:
        return None
    return Key(kind, "" if kind in CLUSTER_SCOPED else namespace or "default", name)


def _scalar(text: str) -> str:
    """Take quotes and a trailing comment off a plain value."""
    text = re.sub(r"\s+#.*$", "", text.strip())
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'" else text


def with_unix_newlines(text: str) -> str:
    """Return the text as the editor holds it: lines end with a single newline."""
    return text.replace("\r\n", "\n")


@dataclass(slots=True)
class Buffer:
    """One tab: its text in four states. Texts in here have Unix newlines; files keep the newlines they had."""

    name: str
    path: str | None
    role: str
    text: str
    """As typed so far."""
    applied: str
    """As the lab runs it."""
    written: str
    """As on disk when last read or written; for a text without a file, as it was opened."""
    newline: str = "\n"

    @classmethod
    def of_tab(cls, tab: Tab) -> "Buffer":
        """Open a tab."""
        text = with_unix_newlines(tab.text)
        newline = "\r\n" if "\r\n" in tab.text else "\n"
        return cls(tab.name, tab.path, tab.role, text, text, text, newline)

    @property
    def edited(self) -> bool:
        """Whether what is typed is not what runs."""
        return self.text != self.applied

    @property
    def unwritten(self) -> bool:
        """Whether what is typed is not on disk."""
        return self.text != self.written

    @property
    def locked(self) -> str:
        """Why this text must not be edited, or "".

        A text with other line separators would be changed by any line editor without a word.
        """
        if "\n".join(self.text.splitlines()) != (self.text[:-1] if self.text.endswith("\n") else self.text):
            return "read-only: it holds line separators (such as U+2028) that an editor would change"
        return ""


class ChangedOnDisk(KflabError):
    """The file holds a text that nobody here has seen: ask before it is overwritten."""


@dataclass(slots=True)
class EditorState:
    """All tabs and which one is open."""

    buffers: list[Buffer]
    current: int = 0
    applied_ns: int = 0
    """Simulated time of the last apply; 0 when the lab opened."""
    removed: tuple[str, ...] = field(default=())
    """Titles of documents that the last apply no longer held; they are still in the cluster."""

    @classmethod
    def of_tabs(cls, tabs: tuple[Tab, ...]) -> "EditorState":
        """Open every tab."""
        return cls([Buffer.of_tab(tab) for tab in tabs])

    @property
    def buffer(self) -> Buffer | None:
        """The open tab; None when the lab has no text at all."""
        return self.buffers[self.current] if self.buffers else None

    @property
    def edited(self) -> bool:
        return any(buffer.edited for buffer in self.buffers)

    @property
    def unwritten(self) -> tuple[Buffer, ...]:
        return tuple(buffer for buffer in self.buffers if buffer.unwritten)

    def texts(self) -> tuple[tuple[str, str], ...]:
        """What check and Apply take: every tab with its whole text."""
        return tuple((buffer.name, buffer.text) for buffer in self.buffers)

    def index_of(self, name: str) -> int | None:
        """Which tab has this name."""
        return next((index for index, buffer in enumerate(self.buffers) if buffer.name == name), None)

    def took(self, texts: tuple[tuple[str, str], ...], t_ns: int) -> None:
        """Remember that the lab accepted these texts, and which documents are gone from them."""
        removed: list[str] = []
        new_texts = dict(texts)
        kept = {span.key for text in new_texts.values() for span in split_documents(text)}
        for buffer in self.buffers:
            if buffer.name not in new_texts:
                continue
            if buffer.role != "patches":
                removed += [
                    str(span.key)
                    for span in split_documents(buffer.applied)
                    if span.key is not None and span.key not in kept
                ]
            buffer.applied = new_texts[buffer.name]
        self.removed = tuple(dict.fromkeys(removed))
        self.applied_ns = t_ns

    def restarted(self, texts: dict[str, str]) -> None:
        """The lab runs these texts again; what differs from them is edited."""
        for buffer in self.buffers:
            if buffer.name in texts:
                buffer.applied = with_unix_newlines(texts[buffer.name])
        self.removed = ()
        self.applied_ns = 0

    def write(self, buffer: Buffer, file: str | None = None, overwrite: bool = False) -> str:
        """Write one tab to its file or to another.

        Args:
            buffer: The tab.
            file: Where to; None for the tab's own file.
            overwrite: Do not ask when the file holds something else.

        Returns:
            What was done, one line.

        Raises:
            ChangedOnDisk: The file's content is not what this tab last read or wrote; nothing was written.
            KflabError: There is no file to write to, or it cannot be written.
        """
        if not file and not buffer.path:
            raise KflabError(f"{buffer.name} has no file of its own: :w FILE writes it")
        path = Path(file or buffer.path or "").expanduser()
        own = buffer.path is not None and _same_file(path, Path(buffer.path))
        if not overwrite:
            self._refuse_unseen(path, buffer.written if own else None)
        write_atomically(path, buffer.text.replace("\n", buffer.newline))
        if own or buffer.path is None:
            buffer.path = str(path)
            buffer.written = buffer.text
        lines = buffer.text.count("\n") + (not buffer.text.endswith("\n"))
        return f"written: {path}, {lines} lines"

    @staticmethod
    def _refuse_unseen(path: Path, seen: str | None) -> None:
        """Raise ChangedOnDisk if the file holds anything but `seen` (None: any content is unseen)."""
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            if seen is None:
                return
            raise ChangedOnDisk(f"{path} is no longer there") from None
        except OSError as error:
            raise KflabError(f"cannot read {path}: {reason_of(error)}") from error
        if seen is None:
            raise ChangedOnDisk(f"{path} exists already")
        if with_unix_newlines(content.decode("utf-8", "replace").removeprefix("\ufeff")) != seen.removeprefix("\ufeff"):
            raise ChangedOnDisk(f"{path} changed on disk since it was read")


def _same_file(one: Path, other: Path) -> bool:
    """Whether two paths name the same file, which need not exist."""
    return one.absolute() == other.absolute() or (one.exists() and other.exists() and one.samefile(other))


class Documents:
    """The documents of the text that was looked at last."""

    def __init__(self) -> None:
        self._words = ""
        self.spans: tuple[DocumentSpan, ...] = ()

    def at(self, words: str, row: int, resting: bool) -> DocumentSpan | None:
        """The document around a line (from 0); while keys come fast, as of the last rest."""
        if (resting or not self.spans) and self._words != words:
            self._words, self.spans = words, split_documents(words)
        return next((span for span in self.spans if span.first <= row < span.end), None)
