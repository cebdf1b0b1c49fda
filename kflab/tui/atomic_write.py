"""Write a file so that a crash, a full disk or a dropped line leaves the old text or the new, never half of one."""

import os
import stat
import tempfile
from pathlib import Path

from kflab.errors import KflabError


def write_atomically(path: Path, text: str) -> None:
    """Replace a file's content in one step: temporary file beside it, fsync, rename, fsync of the folder.

    The mode of an existing file is kept, and a symbolic link is followed, so that the link stays a link.

    Args:
        path: The file to write; its folder must exist.
        text: The whole new content, written as UTF-8.

    Raises:
        KflabError: If it cannot be written; the message is one line with the system's reason. Nothing changed then.
    """
    target = Path(os.path.realpath(path))
    temporary: str | None = None
    try:
        try:
            mode = stat.S_IMODE(target.stat().st_mode)
        except FileNotFoundError:
            mode = 0o666 & ~_umask()
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name[:80]}.", suffix=".tmp", dir=target.parent)
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, target)
        temporary = None
        _sync_folder(target.parent)
    except (OSError, UnicodeEncodeError) as error:
        raise KflabError(f"cannot write {path}: {reason_of(error)}") from error
    finally:
        if temporary is not None:
            _remove_quietly(temporary)


def reason_of(error: Exception) -> str:
    """Say why a file operation failed, in the system's words and without the path that the caller prints."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split()) or type(error).__name__


def _umask() -> int:
    """Read the process's umask (there is no call that only reads it)."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable; file systems that cannot are left alone, the content is synced already."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        return
    finally:
        os.close(handle)


def _remove_quietly(path: str) -> None:
    """Take the temporary file away; on a broken disk this may fail too, and the first error is the one to tell."""
    try:
        os.unlink(path)
    except OSError:
        return
