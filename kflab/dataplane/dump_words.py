"""The words of one line of iptables-save, and the options they form.

The grammar is that of iptables-restore (netfilter iptables/xshared.c, `add_param_to_argv` and `do_parse`): words are
split at blanks, double quotes hold them together, a backslash in quotes keeps the next character; `!` inverts the
option that follows it; options after `-m NAME` are that match's, those after `-j NAME` the target's.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from kflab.errors import KflabError, Place

_LONG: Final = {
    "--source": "-s",
    "--src": "-s",
    "--destination": "-d",
    "--dst": "-d",
    "--in-interface": "-i",
    "--out-interface": "-o",
    "--protocol": "-p",
    "--proto": "-p",
    "--match": "-m",
    "--jump": "-j",
    "--goto": "-g",
    "--fragment": "-f",
}

_BASE: Final = frozenset({"-s", "-d", "-i", "-o", "-p", "-f", "-4", "-6"})
"""Options of every rule, whatever was named before them."""

_SHORT: Final = _BASE | {"-m", "-j", "-g"}

_ALONE: Final = frozenset({"-f", "-4", "-6"})
"""Options of every rule that take no value."""


class Word(NamedTuple):
    """One word. `quoted` tells whether it stood in double quotes: then it is a value, whatever it looks like."""

    text: str
    quoted: bool = False

    def printed(self) -> str:
        """As iptables-save prints it (libxtables, xtables_save_string)."""
        if not self.quoted:
            return self.text
        escaped = "".join("\\" + char if char in "\"\\'" else char for char in self.text)
        return f'"{escaped}"'

    @property
    def option(self) -> str:
        """The option's short name; "" for a value."""
        text = self.text
        if text[:1] != "-" or self.quoted:
            return ""
        name = _LONG.get(text, text)
        return name if name in _SHORT or (name[:2] == "--" and len(name) > 2) else ""

    @property
    def inverts(self) -> bool:
        return self.text == "!" and not self.quoted


class Option(NamedTuple):
    """One option with its values."""

    name: str
    values: tuple[str, ...] = ()
    inverted: bool = False

    def text(self) -> str:
        """In words, for messages."""
        return ("! " if self.inverted else "") + " ".join((self.name, *map(_shown, self.values)))

    @property
    def value(self) -> str:
        """The first value, "" without."""
        return self.values[0] if self.values else ""


class Group(NamedTuple):
    """The options of one match module; module "" holds those of every rule (-s, -d, -i, -o, -p, -f)."""

    module: str
    options: tuple[Option, ...] = ()

    def text(self) -> str:
        """In words, for messages: `-m set ! --match-set blocked src`."""
        head = [f"-m {self.module}"] if self.module else []
        return " ".join([*head, *(option.text() for option in self.options)])

    def find(self, *names: str) -> Option | None:
        """The first option of one of these names."""
        return next((option for option in self.options if option.name in names), None)


class RuleWords(NamedTuple):
    """A rule taken apart."""

    groups: tuple[Group, ...]
    target: str
    """"" without -j or -g."""
    goto: bool
    arguments: tuple[Option, ...]


def _shown(value: str) -> str:
    plain = value and all(char.isalnum() or char in "_-.,:/+*@=" for char in value)
    return value if plain else Word(value, quoted=True).printed()


def split_words(line: str, place: Place) -> list[Word]:
    """Split a line.

    Raises:
        KflabError: If a quote is not closed.
    """
    if '"' not in line:
        return [Word(word) for word in line.replace("\t", " ").split(" ") if word]
    return _split_simple(line) or _split_any(line, place)


def _split_simple(line: str) -> list[Word]:
    """The common case, fast: quotes around whole words, nothing escaped; [] where it is not that."""
    parts = line.split('"')
    if "\\" in line or not len(parts) % 2:
        return []
    words: list[Word] = []
    last = len(parts) - 1
    for i, part in enumerate(parts):
        if i % 2:
            words.append(Word(part, True))
        else:
            if (i and part and part[0] not in " \t") or (i < last and (not part or part[-1] not in " \t")):
                return []
            words += [Word(word) for word in part.replace("\t", " ").split(" ") if word]
    return words


def _split_any(line: str, place: Place) -> list[Word]:
    words: list[Word] = []
    word: list[str] = []
    inside = quoted = False
    chars = iter(line)
    for char in chars:
        if inside and char == "\\":
            word.append(next(chars, ""))
        elif char == '"':
            inside = not inside
            quoted = True
        elif char in " \t" and not inside:
            if word or quoted:
                words.append(Word("".join(word), quoted))
            word, quoted = [], False
        else:
            word.append(char)
    if inside:
        raise KflabError("a double quote is not closed", place)
    if word or quoted:
        words.append(Word("".join(word), quoted))
    return words


def take_apart(words: Sequence[Word], place: Place) -> RuleWords:
    """Read the words after `-A CHAIN`.

    Raises:
        KflabError: If they are no rule.
    """
    base: list[Option] = []
    groups: list[tuple[str, list[Option]]] = []
    target, goto = "", False
    arguments: list[Option] | None = None
    kept: list[Option] = []
    protocol = ""
    named = [word.option for word in words]
    inverting = [word.inverts for word in words]
    i, n = 0, len(words)
    while i < n:
        inverted = inverting[i]
        i += inverted
        name = named[i] if i < n else ""
        if not name:
            what = f"unexpected {words[i].text!r}" if i < n else "the rule ends in '!'"
            raise KflabError(f"{what}: expected an option such as -s, -m or -j", place)
        i += 1
        values: list[str] = []
        if i < n and name in _BASE and inverting[i]:  # the order of iptables before 1.4.3: -s ! 10.0.0.0/8
            inverted = not inverted
            i += 1
        most = 0 if name in _ALONE else 1 if name in _SHORT else n
        while i < n and len(values) < most and not named[i] and not inverting[i]:
            values.append(words[i].text)
            i += 1
        if name in _SHORT and name not in _ALONE and not values:
            raise KflabError(f"{name} needs a value", place)
        if name in ("-m", "-j", "-g") and inverted:
            raise KflabError(f"'!' cannot stand before {name}", place)
        option = Option(name, tuple(values), inverted)
        if name == "-m":
            groups.append((values[0], []))
            arguments = None
        elif name in ("-j", "-g"):
            if target:
                raise KflabError("a second target in one rule", place)
            target, goto = values[0], name == "-g"
            arguments = kept
        elif name in _BASE:
            base.append(option)
            protocol = values[0] if name == "-p" else protocol
        elif arguments is not None:
            arguments.append(option)
        elif groups:
            groups[-1][1].append(option)
        elif protocol:
            groups.append((protocol, [option]))
        else:
            raise KflabError(f"{name} belongs to no match: expected -m or -p before it", place)
    made = [Group("", tuple(base))] if base else []
    made += [Group(module, tuple(options)) for module, options in groups]
    return RuleWords(tuple(made), target, goto, tuple(kept))
