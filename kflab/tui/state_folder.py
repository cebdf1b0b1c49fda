"""Where kflab keeps what should outlive a session: drafts of the editor and the command line's history."""

import os
from collections.abc import Mapping
from pathlib import Path


def state_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Return `$XDG_STATE_HOME/kflab`, or `~/.local/state/kflab` (XDG base directory specification 0.8).

    A relative XDG_STATE_HOME is ignored, as the specification asks. The folder need not exist.
    """
    variables = os.environ if environment is None else environment
    given = variables.get("XDG_STATE_HOME", "")
    if given and os.path.isabs(given):
        return Path(given) / "kflab"
    home = variables.get("HOME") or os.path.expanduser("~")
    return Path(home) / ".local" / "state" / "kflab"
