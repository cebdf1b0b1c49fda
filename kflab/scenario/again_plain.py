"""`kflab replay NAME --compare SETTING=VALUE`: both plays, one after the other, and what differs."""

import json
from typing import TextIO

from kflab import exits
from kflab.kubectl.hostile import printable
from kflab.lab.session import session_of
from kflab.scenario.again import Play, changed, compared, key_of, read_change
from kflab.scenario.again_text import as_json as tree_of
from kflab.scenario.again_text import report
from kflab.scenario.format import Scenario


def compare(scenario: Scenario, setting: str, out: TextIO, as_json: bool = False, ascii_only: bool = False) -> int:
    """Play a scenario as it is written and again with one setting changed; print both.

    Args:
        scenario: What to play.
        setting: As `read_change` takes it.
        out: Where lines go.
        as_json: Print one JSON object instead.
        ascii_only: Draw with ASCII; so it is anyway where `out` is not UTF-8.

    Returns:
        0: a comparison has no expectation to hold.

    Raises:
        KflabError: If the setting cannot be read or has no place, or one of the two cannot be played.
    """
    change, spec = read_change(setting), scenario.spec
    first = Play(spec, scenario.duration_ns)
    first.run()
    session = session_of(first.lab)
    key = key_of(session)
    was = first.played(key)
    second = Play(changed(session, change), scenario.duration_ns)
    second.run()
    both = compared(session, change, was, second.played(key))
    if as_json:
        out.write(json.dumps(tree_of(both, spec.name, spec.seed), indent=2, ensure_ascii=False) + "\n")
        return exits.OK
    encoding = (getattr(out, "encoding", None) or "utf-8").lower().replace("-", "")
    for line in report(both, spec.name, spec.seed, ascii_only or encoding != "utf8"):
        # Names from manifests must not steer the terminal.
        out.write((line if line.isprintable() else printable(line)) + "\n")
    return exits.OK
