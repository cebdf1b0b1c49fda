"""Drafts: what was typed and not yet written, kept where a crash or a dropped connection cannot take it."""

import hashlib
import json
from pathlib import Path

from kflab.errors import KflabError
from kflab.records import dataclass
from kflab.tui.atomic_write import reason_of, write_atomically
from kflab.tui.editor_state import Buffer, EditorState
from kflab.tui.state_folder import state_folder

VERSION = 1
"""Of the draft file."""

LIMIT = 64 * 1024 * 1024
"""Bytes of a draft file that are read at most; manifests are bounded to the same size."""


@dataclass(frozen=True, slots=True)
class Draft:
    """One tab's text as of a moment."""

    name: str
    path: str | None
    base: str
    """Digest of the text it was typed into."""
    text: str


def digest(text: str) -> str:
    """What a draft remembers of the text it was typed into."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class DraftFile:
    """The draft of one set of tabs. Nothing is read or written before the first call."""

    def __init__(self, scenario: str, buffers: list[Buffer], folder: Path | None = None) -> None:
        names = json.dumps([scenario, *((buffer.name, buffer.path or "") for buffer in buffers)])
        self.path = (folder or state_folder() / "drafts") / f"{digest(names)[:16]}.json"

    def snapshot(self, state: EditorState) -> str:
        """The file's content for the state of now; "" when nothing is unwritten. Called on the screen's thread."""
        drafts = [
            {"name": buffer.name, "path": buffer.path, "base": digest(buffer.written), "text": buffer.text}
            for buffer in state.unwritten
        ]
        return json.dumps({"version": VERSION, "drafts": drafts}) if drafts else ""

    def keep(self, content: str) -> None:
        """Write what `snapshot` gave, or take the file away when there is nothing to keep. May run in any thread.

        Raises:
            KflabError: If it cannot be written; the text is still in the editor.
        """
        try:
            if not content:
                self.path.unlink(missing_ok=True)
                return
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise KflabError(f"no draft kept: {reason_of(error)}") from error
        try:
            write_atomically(self.path, content)
        except KflabError as error:
            raise KflabError(f"no draft kept: {error.message.rpartition(': ')[2]}") from error

    def read(self) -> tuple[Draft, ...]:
        """The drafts of an earlier session; () when there are none or the file is not readable as one."""
        try:
            if self.path.stat().st_size > LIMIT:
                return ()
            content = json.loads(self.path.read_text("utf-8"))
        except (OSError, ValueError):
            return ()
        if not isinstance(content, dict) or content.get("version") != VERSION:
            return ()
        drafts = []
        for each in content.get("drafts", ()):
            if isinstance(each, dict) and all(isinstance(each.get(name), str) for name in ("name", "base", "text")):
                path = each.get("path")
                drafts.append(Draft(each["name"], path if isinstance(path, str) else None, each["base"], each["text"]))
        return tuple(drafts)


def restorable(drafts: tuple[Draft, ...], state: EditorState) -> tuple[dict[str, str], tuple[str, ...]]:
    """Which drafts fit what was opened.

    Returns:
        Text by tab name for those typed into exactly the text that is open now, and the names of those whose file
        has changed since (their draft stays in the file until something is typed).
    """
    fitting: dict[str, str] = {}
    strange: list[str] = []
    for draft in drafts:
        index = state.index_of(draft.name)
        if index is None or draft.text == state.buffers[index].text:
            continue
        if draft.base == digest(state.buffers[index].written):
            fitting[draft.name] = draft.text
        else:
            strange.append(draft.name)
    return fitting, tuple(strange)
