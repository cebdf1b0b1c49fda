"""Options of one command, read as spf13/pflag reads them: `--name value`, `--name=value`, `-nvalue`, `-Aowide`."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from difflib import get_close_matches

from kflab.errors import KflabError
from kflab.records import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """What was given: values of options by long name (several where repeated), and the remaining words."""

    words: tuple[str, ...]
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rest: tuple[str, ...] = ()
    """What follows `--`."""

    def text(self, name: str, default: str = "") -> str:
        """The last value given."""
        return self.values[name][-1] if name in self.values else default

    def flag(self, name: str, default: bool = False) -> bool:
        """Whether a switch is on; `--name=false` turns it off.

        Raises:
            KflabError: If its value is neither true nor false.
        """
        if name not in self.values:
            return default
        value = self.values[name][-1]
        if value not in ("true", "false"):
            raise KflabError(f'invalid argument "{value}" for "--{name}" flag: must be true or false')
        return value == "true"

    def number(self, name: str) -> int | None:
        """A whole number, None if not given.

        Raises:
            KflabError: If it is not a number, or too large to mean anything.
        """
        if name not in self.values:
            return None
        value = self.values[name][-1]
        if not value.removeprefix("-").isdecimal() or not value.isascii() or len(value) > 10:
            raise KflabError(f'invalid argument "{value}" for "--{name}" flag: must be a whole number')
        return int(value)


def read(words: Sequence[str], takes_value: str, switches: str, *, short: Mapping[str, str]) -> Options:
    """Read a command's options.

    Args:
        words: Words after the command's name.
        takes_value: Long names of options with a value, separated by spaces.
        switches: Long names of options without one.
        short: Letter → long name.

    Raises:
        KflabError: For an unknown option (with the nearest known one) or a missing value.
    """
    valued, plain = frozenset(takes_value.split()), frozenset(switches.split())
    values: dict[str, list[str]] = {}
    found: list[str] = []
    i = 0
    while i < len(words):
        word = words[i]
        i += 1
        if word == "--":
            return Options(tuple(found), {name: tuple(given) for name, given in values.items()}, tuple(words[i:]))
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if name in plain:
                values.setdefault(name, []).append(value if equals else "true")
                continue
            if name not in valued:
                raise KflabError(f"unknown flag: --{name}{_nearest(name, valued | plain)}")
            if not equals:
                if i >= len(words):
                    raise KflabError(f"flag needs an argument: --{name}")
                value = words[i]
                i += 1
            values.setdefault(name, []).append(value)
        elif word.startswith("-") and len(word) > 1:
            letters = word[1:]
            while letters:
                letter, letters = letters[0], letters[1:]
                name = short.get(letter, "")
                if name in plain:
                    values.setdefault(name, []).append("true")
                    continue
                if name not in valued:
                    raise KflabError(f"unknown shorthand flag: '{letter}' in {word}")
                if not letters:
                    if i >= len(words):
                        raise KflabError(f"flag needs an argument: '{letter}' in {word}")
                    letters = words[i]
                    i += 1
                values.setdefault(name, []).append(letters.removeprefix("="))
                letters = ""
        else:
            found.append(word)
    return Options(tuple(found), {name: tuple(given) for name, given in values.items()})


def _nearest(name: str, known: frozenset[str]) -> str:
    near = get_close_matches(name, sorted(known), n=1)
    return f" (did you mean --{near[0]}?)" if near else ""
