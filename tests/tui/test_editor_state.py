"""The editor without a screen: documents, writing, drafts."""

import os
import stat
from pathlib import Path

import pytest

from kflab.errors import KflabError
from kflab.lab.handle import Tab
from kflab.manifest.objects import Key
from kflab.tui import atomic_write
from kflab.tui.drafts import DraftFile, restorable
from kflab.tui.editor_state import ChangedOnDisk, EditorState, split_documents
from kflab.tui.history import History
from kflab.tui.state_folder import state_folder

TWO = """\
# both of them
apiVersion: v1
kind: Service
metadata:
  labels:
    name: not-this
  name: "orders"  # quoted
  namespace: shop
---
kind: Node
metadata:
  name: node-a
---
# nothing here
"""


def editor(path: Path | None = None, text: str = TWO) -> EditorState:
    return EditorState.of_tabs((Tab("all.yaml", text, str(path) if path else None),))


def test_documents_are_found_by_their_separators_and_named_by_their_heads() -> None:
    spans = split_documents(TWO)
    assert [span.key for span in spans] == [Key("Service", "shop", "orders"), Key("Node", "", "node-a")]
    assert [(span.first, span.end) for span in spans] == [(0, 8), (8, 12)]


def test_a_document_removed_from_the_text_is_named_after_apply() -> None:
    state = editor()
    state.buffers[0].text = TWO.split("---")[0]
    state.took(state.texts(), 5)
    assert state.removed == ("node/node-a",)
    assert not state.edited


def test_writing_keeps_newlines_mode_and_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.yaml", tmp_path / "link.yaml"
    real.write_bytes(b"a: 1\r\nb: 2\r\n")
    real.chmod(0o640)
    link.symlink_to(real)
    state = editor(link, "a: 1\r\nb: 2\r\n")
    state.buffers[0].text = "a: 1\nb: 3\n"
    assert state.write(state.buffers[0]) == f"written: {link}, 2 lines"
    assert real.read_bytes() == b"a: 1\r\nb: 3\r\n"
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert not state.unwritten


def test_a_file_that_changed_on_disk_is_asked_about_and_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("a: 1\n")
    state = editor(file, "a: 1\n")
    state.buffers[0].text = "a: 2\n"
    file.write_text("a: by somebody else\n")
    with pytest.raises(ChangedOnDisk, match="changed on disk"):
        state.write(state.buffers[0])
    assert file.read_text() == "a: by somebody else\n"
    state.write(state.buffers[0], overwrite=True)
    assert file.read_text() == "a: 2\n"


def test_another_file_that_exists_is_asked_about(tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("precious: true\n")
    with pytest.raises(ChangedOnDisk, match="exists already"):
        editor().write(editor().buffers[0], str(other))


def test_a_full_disk_gives_one_line_and_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("a: 1\n")
    state = editor(file, "a: 1\n")
    state.buffers[0].text = "a: 2\n"

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic_write.os, "fsync", full)
    with pytest.raises(KflabError) as caught:
        state.write(state.buffers[0])
    assert caught.value.message == f"cannot write {file}: no space left on device"
    assert file.read_text() == "a: 1\n"
    assert os.listdir(tmp_path) == ["a.yaml"]
    assert state.buffers[0].text == "a: 2\n"


def test_a_text_with_other_line_separators_is_locked() -> None:
    assert editor(text="a: 1\u2028b: 2\n").buffers[0].locked
    assert not editor(text="a: 1\n\n").buffers[0].locked
    assert not editor(text="").buffers[0].locked


def test_a_draft_survives_and_fits_only_the_text_it_was_typed_into(tmp_path: Path) -> None:
    state = editor()
    draft = DraftFile("overview", state.buffers, tmp_path)
    state.buffers[0].text = "typed: true\n"
    draft.keep(draft.snapshot(state))

    again = editor()
    same = DraftFile("overview", again.buffers, tmp_path)
    assert restorable(same.read(), again) == ({"all.yaml": "typed: true\n"}, ())
    changed = editor(text="another: text\n")
    assert restorable(same.read(), changed) == ({}, ("all.yaml",))

    same.keep("")
    assert same.read() == ()


def test_a_draft_on_a_read_only_disk_gives_one_line(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    state = editor()
    state.buffers[0].text = "typed"
    draft = DraftFile("overview", state.buffers, blocked / "drafts")
    with pytest.raises(KflabError, match="no draft kept: not a directory"):
        draft.keep(draft.snapshot(state))


def test_a_broken_draft_file_is_no_draft(tmp_path: Path) -> None:
    state = editor()
    draft = DraftFile("overview", state.buffers, tmp_path)
    for content in ("{", "[]", '{"version": 1, "drafts": [{"name": 3}]}', '{"version": 99}'):
        draft.path.write_text(content)
        assert draft.read() == ()


def test_the_state_folder_follows_xdg() -> None:
    assert state_folder({"XDG_STATE_HOME": "/x", "HOME": "/h"}) == Path("/x/kflab")
    assert state_folder({"XDG_STATE_HOME": "relative", "HOME": "/h"}) == Path("/h/.local/state/kflab")


def test_history_goes_back_and_returns_what_was_typed(tmp_path: Path) -> None:
    history = History(tmp_path / "deep" / "history")
    history.add("get pods")
    history.add("get  svc")
    again = History(tmp_path / "deep" / "history")
    assert [again.back("half"), again.back(""), again.back("")] == ["get svc", "get pods", "get pods"]
    assert [again.forward(""), again.forward("")] == ["get svc", "half"]
    blocked = History(tmp_path / "deep" / "history" / "below")
    assert blocked.add("get pods").startswith("history not kept: ")
