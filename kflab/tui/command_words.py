"""What a line on the command line means: the screen's own words; all else goes to the lab, as kubectl's."""

from dataclasses import dataclass

from kflab.lab.commands import Command, KillRandom, NextEvent, Pause, Restart, Resume, Run, Save, SetLoad, SetSpeed


@dataclass(frozen=True, slots=True)
class Word:
    """A word of the screen's own."""

    name: str
    argument: str
    """As printed: "[FILE]", "NAME", ""."""
    words: str


WORDS = (
    Word("w", "[FILE]", "write the text of the Manifest pane; asks if the file changed on disk"),
    Word("apply", "", "apply the edited texts"),
    Word("save", "NAME", "write what was done since the start as a scenario"),
    Word("assumptions", "", "everything the lab assumed, each with how to override it"),
    Word("findings", "", "what looks wrong in the manifests, each a jump to its line"),
    Word("speed", "FACTOR", "simulated seconds per second, 0.01 to 100"),
    Word("load", "FACTOR", "multiply the configured load"),
    Word("pause", "", "hold the clock"),
    Word("run", "", "let the clock run"),
    Word("next", "", "to the next control-plane event"),
    Word("crash", "", "crash a random ready application pod"),
    Word("restart", "", "start the scenario again"),
    Word("view", "NAME", "the topology as ledger, schematic or nodes"),
    Word("filter", "TEXT", "only rows with this text"),
    Word("theme", "NAME", "slate, paper or ansi"),
    Word("help", "", "all keys and words"),
    Word("q", "", "leave kflab"),
)
"""The screen's own words, in the order of help."""

KUBECTL = (
    ("get pods|svc|endpoints|ingress|nodes [-o wide|yaml]", "as kubectl prints them"),
    ("describe KIND NAME", "with the events so far"),
    ("logs POD", "the access lines of its requests"),
    ("port-forward POD|svc/NAME PORT:PORT", "then curl reaches it"),
    ("curl URL", "one traced request, from the client or with --from from a pod"),
    ("scale deployment NAME --replicas=N", "rolls at once"),
    ("iptables-save | grep TEXT", "rules of a node"),
)
"""What the lab's command line takes, for the help."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What to do with a line.

    `what`: "command" (send `command`), "write" (`argument` may be a file), "apply", "show" (`argument` is
    assumptions or findings), "screen" (a word of the shell), "theme", "help", "quit", "nothing", or "wrong"
    (`argument` says why).
    """

    what: str
    argument: str = ""
    command: Command | None = None


def meaning(line: str) -> Meaning:
    """Read a line; a leading colon or the word kubectl is as if it were not there."""
    line = line.strip().lstrip(":").strip()
    if not line:
        return Meaning("nothing")
    name, _, argument = line.partition(" ")
    argument = argument.strip()
    simple: dict[str, Command] = {
        "pause": Pause(),
        "next": NextEvent(),
        "restart": Restart(),
        "crash": KillRandom(),
    }
    if name in simple and not argument:
        return Meaning("command", command=simple[name])
    if name == "run" and not argument:
        return Meaning("command", command=Resume())
    if name in ("q", "quit", "exit") and not argument:
        return Meaning("quit")
    if name in ("w", "write"):
        return Meaning("write", argument)
    if name == "apply" and not argument:
        return Meaning("apply")
    if name in ("assumptions", "findings") and not argument:
        return Meaning("show", name)
    if name in ("help", "?") and not argument:
        return Meaning("help")
    if name in ("view", "filter"):
        return Meaning("screen", line)
    if name == "theme":
        return Meaning("theme", argument) if argument else Meaning("wrong", "theme slate, paper or ansi")
    if name == "save":
        return Meaning("command", command=Save(argument)) if argument else Meaning("wrong", "save NAME: which name?")
    if name in ("speed", "load"):
        return _factor(name, argument)
    return Meaning("command", command=Run(line))


def _factor(name: str, argument: str) -> Meaning:
    """A number between its bounds."""
    try:
        factor = float(argument.removeprefix("×").removeprefix("x"))
    except ValueError:
        return Meaning("wrong", f"{name} takes a number, such as {name} 0.1; given was {argument or 'nothing'}")
    if not 0.01 <= factor <= 100:
        return Meaning("wrong", f"{name} goes from 0.01 to 100; given was {argument}")
    return Meaning("command", command=SetSpeed(factor) if name == "speed" else SetLoad(factor))


def completions(line: str, of_lab: tuple[str, ...]) -> tuple[str, ...]:
    """Whole lines that the typed one may become: own words first, then the lab's.

    The lab may answer with whole lines or with last words; a last word is put behind what is typed.
    """
    own = [f"{word.name} " if word.argument else word.name for word in WORDS if word.name.startswith(line)]
    before = line[: len(line) - len(line.split(" ")[-1])]
    lines = [each if each.startswith(line) else before + each for each in of_lab]
    fitting = [each for each in lines if each.startswith(line) and each != line]
    return tuple(dict.fromkeys([*(own if line and " " not in line else []), *fitting]))


def common_start(lines: tuple[str, ...]) -> str:
    """The longest start that all share."""
    if not lines:
        return ""
    first, last = min(lines), max(lines)
    count = next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), None)
    return first[: min(len(first), len(last)) if count is None else count]
