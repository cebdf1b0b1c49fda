"""What the command line understands besides kubectl's words: parsing only, no doing."""

from difflib import get_close_matches

from kflab.control.verbs import VERBS
from kflab.dataplane.modes import MODES
from kflab.errors import KflabError
from kflab.kubectl.parse import COMMANDS, begins
from kflab.lab.commands import (
    Command,
    Kill,
    KillRandom,
    NextEvent,
    Pause,
    Restart,
    Resume,
    Run,
    Save,
    SetLoad,
    SetMode,
    SetSpeed,
    Stop,
)
from kflab.lab.commands import Start as StartComponent
from kflab.manifest.objects import Key
from kflab.records import dataclass
from kflab.scenario.acting import read_words

WORDS: dict[str, str] = {
    "q": "leave kflab",
    "w [FILE]": "write the open text, or all edited ones that have a file",
    "save NAME": "write what was done since the start as a scenario",
    "assumptions": "what the lab assumed, each with how to override it",
    "findings": "what looked wrong on opening the manifests",
    "speed N": "simulated seconds per second, 0.01 to 100",
    "load N": "multiply the configured load",
    "pause": "hold the clock",
    "resume": "let it run",
    "next": "go to the next control-plane event",
    "restart": "start the scenario again",
    "crash [POD]": "its container exits with 137; without a name, that of a random ready application pod",
    "stop COMPONENT": "stop kube-proxy/NODE, kubelet/NODE or apiserver",
    "start COMPONENT": "start it again",
    "mode MODE": "kube-proxy's mode: iptables, nftables or ipvs; its pods restart, node by node",
    "view NAME": "ledger, schematic or nodes",
    "theme NAME": "slate, paper or ansi",
    "filter [TEXT]": "show only rows with this text",
}
"""Usage → what it does; everything else goes to the lab as a kubectl command, curl or iptables-save."""


ARGUMENTS: dict[str, tuple[str, ...]] = {
    "mode": MODES,
    "view": ("ledger", "schematic", "nodes"),
    "theme": ("slate", "paper", "ansi"),
}
"""Word → what may stand behind it, for completion."""


@dataclass(frozen=True, slots=True)
class FaceWord:
    """Something the screen does itself: `name` is q, w, assumptions, findings, view, theme or filter."""

    name: str
    argument: str = ""


def _number(word: str, argument: str, low: float, high: float) -> float:
    try:
        value = float(argument.lstrip("×x"))
    except ValueError:
        raise KflabError(f"{word} takes a number from {low:g} to {high:g}, not {argument!r}") from None
    if not low <= value <= high:
        raise KflabError(f"{word} takes a number from {low:g} to {high:g}, not {argument}")
    return value


def parse(line: str) -> Command | FaceWord | None:
    """What a line asks for.

    Args:
        line: As typed, with or without the leading colon.

    Returns:
        A command for the lab, a word for the screen, or None for an empty line.

    Raises:
        KflabError: If a word of the lab has a missing or wrong argument, or the line begins with no word that is
            here; the message says what is taken, or which word is nearest.
    """
    line = line.strip().removeprefix(":").strip()
    if not line:
        return None
    word, _, argument = line.partition(" ")
    argument = argument.strip()
    plain: dict[str, Command] = {
        "pause": Pause(),
        "resume": Resume(),
        "run": Resume(),
        "next": NextEvent(),
        "restart": Restart(),
        "crash": KillRandom(),
    }
    if word in plain and not argument:
        return plain[word]
    if word == "crash":
        return Kill(_pod(argument))
    if word == "speed":
        return SetSpeed(_number(word, argument, 0.01, 100))
    if word == "load":
        return SetLoad(_number(word, argument, 0, 1000))
    if word in ("save", "stop", "start", "view", "theme", "mode") and not argument:
        usage = next(usage for usage in WORDS if usage.split(" ")[0] == word)
        raise KflabError(f"{usage}: {WORDS[usage]}")
    taken = ARGUMENTS.get(word, ())
    if taken and argument not in taken:
        raise KflabError(f"{word} takes {', '.join(taken[:-1])} or {taken[-1]}, not {argument!r}")
    if word == "mode":
        return SetMode(argument)
    if word == "save":
        return Save(argument)
    if word == "stop":
        return Stop(argument)
    if word == "start":
        return StartComponent(argument)
    if word in VERBS and " --" not in f" {argument}":  # with kubectl's options it is kubectl's command
        return read_words(word, argument)
    if word in ("q", "quit", "q!", "exit"):
        return FaceWord("q")
    if word in ("w", "assumptions", "findings", "view", "theme", "filter"):
        return FaceWord(word, argument)
    if not begins(word):
        raise KflabError(f'no command "{word}" here{_nearest(word)}')
    return Run(line)


def _pod(argument: str) -> Key:
    """A pod as kubectl names it: NAME, pod/NAME or NAMESPACE/NAME."""
    words = argument.split("/")
    if words[0] in ("pod", "pods", "po"):
        del words[0]
    if " " in argument or not 1 <= len(words) <= 2 or not all(words):
        raise KflabError(f"crash takes one pod, NAME or NAMESPACE/NAME, not {argument!r}")
    return Key("Pod", words[0] if len(words) == 2 else "", words[-1])


def _nearest(word: str) -> str:
    """What was perhaps meant: first what begins like the word, then what is spelled like it."""
    known = {each.lower(): each for each in (*(usage.split(" ")[0] for usage in WORDS), *VERBS, *COMMANDS)}
    typed = word.lower()
    near = [each for each in known if len(typed) > 2 and each.startswith(typed)]
    near += [each for each in get_close_matches(typed, known, n=2, cutoff=0.6) if each not in near]
    if not near:
        return "; ? and :help list what there is"
    return f"; did you mean {' or '.join(known[each] for each in near[:2])}?"
