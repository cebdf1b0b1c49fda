"""Completing a line of the command line, and what the help says of kubectl's part of it."""

from kflab.control.verbs import VERBS
from kflab.tui.lab_words import ARGUMENTS, WORDS

KUBECTL = (
    ("get pods|svc|endpoints|ingress|nodes [-o wide|yaml]", "as kubectl prints them"),
    ("describe KIND NAME", "with the events so far"),
    ("logs POD", "the access lines of its requests"),
    ("port-forward POD|svc/NAME PORT:PORT", "then curl reaches it"),
    ("curl URL", "one traced request, from the client or with --from from a pod"),
    ("scale deployment NAME --replicas=N", "rolls at once"),
    ("iptables-save | grep TEXT", "rules of a node; in other modes nft list ruleset, ipvsadm -Sn, ipset save"),
    ("conntrack -L [--node NODE]", "connections a node tracks"),
)
"""What the lab's command line takes besides the words of the screen, for the help."""


def completions(line: str, of_lab: tuple[str, ...]) -> tuple[str, ...]:
    """Whole lines that the typed one may become: own words first, then the lab's.

    The lab may answer with whole lines or with last words; a last word is put behind what is typed.
    """
    own = []
    for usage in WORDS:
        word, argument, _ = usage.partition(" ")
        own += [word + argument] if word.startswith(line) else []
    own += [f"{verb} " for verb in VERBS if verb.startswith(line)]
    word, space, argument = line.partition(" ")
    own += [f"{word} {each}" for each in ARGUMENTS.get(word, ()) if space and each.startswith(argument)]
    before = line[: len(line) - len(line.split(" ")[-1])]
    lines = [each if each.startswith(line) else before + each for each in of_lab]
    fitting = [each for each in lines if each.startswith(line) and each != line]
    return tuple(dict.fromkeys([*(own if line else []), *fitting]))


def common_start(lines: tuple[str, ...]) -> str:
    """The longest start that all share."""
    if not lines:
        return ""
    first, last = min(lines), max(lines)
    count = next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), None)
    return first[: min(len(first), len(last)) if count is None else count]
