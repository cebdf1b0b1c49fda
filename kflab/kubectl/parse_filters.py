"""What may stand behind a `|`: grep, head, tail, wc, sort, uniq (POSIX utilities, with GNU's -A -B -C -o -m)."""

from collections.abc import Sequence

from kflab.errors import KflabError
from kflab.kubectl.commands import Filter, Grep, Head, Sort, Tail, Uniq, WordCount
from kflab.kubectl.options import read

FILTERS = ("egrep", "fgrep", "grep", "head", "sort", "tail", "uniq", "wc")


def parse_filter(words: Sequence[str]) -> Filter:
    """Parse one stage of a pipe.

    Raises:
        KflabError: For a program the lab does not have, or options it does not know.
    """
    name, rest = words[0], words[1:]
    if name in ("grep", "egrep", "fgrep"):
        return _grep(name, rest)
    if name in ("head", "tail"):
        return _head_or_tail(name, rest)
    if name == "wc":
        letters = {"l": "lines", "w": "words", "c": "bytes", "m": "chars"}
        options = read(rest, "", "lines words bytes chars", short=letters)
        _no_files(name, options.words)
        chosen = (options.flag("lines"), options.flag("words"), options.flag("bytes") or options.flag("chars"))
        return WordCount(*chosen) if any(chosen) else WordCount()
    if name == "sort":
        options = read(
            rest, "", "reverse unique numeric-sort", short={"r": "reverse", "u": "unique", "n": "numeric-sort"}
        )
        _no_files(name, options.words)
        return Sort(options.flag("reverse"), options.flag("unique"), options.flag("numeric-sort"))
    if name == "uniq":
        options = read(rest, "", "count", short={"c": "count"})
        _no_files(name, options.words)
        return Uniq(options.flag("count"))
    raise KflabError(f"there is no {name!r} behind a pipe; there are {', '.join(FILTERS)}")


def _no_files(name: str, words: Sequence[str]) -> None:
    if words and words != ("-",):
        raise KflabError(f"{name} reads what comes through the pipe; there is no file {words[0]!r}")


def _grep(name: str, words: Sequence[str]) -> Filter:
    options = read(
        words,
        "regexp context before-context after-context color colour",
        "extended-regexp fixed-strings basic-regexp ignore-case invert-match count word-regexp line-number "
        "only-matching quiet no-filename",
        short={
            "e": "regexp",
            "C": "context",
            "B": "before-context",
            "A": "after-context",
            "E": "extended-regexp",
            "F": "fixed-strings",
            "G": "basic-regexp",
            "i": "ignore-case",
            "v": "invert-match",
            "c": "count",
            "w": "word-regexp",
            "n": "line-number",
            "o": "only-matching",
            "q": "quiet",
            "h": "no-filename",
            "P": "extended-regexp",
        },
    )
    patterns = list(options.values.get("regexp", ()))
    rest = list(options.words)
    if not patterns:
        if not rest:
            raise KflabError("grep needs a pattern")
        patterns = [rest.pop(0)]
    _no_files("grep", rest)
    around = options.number("context") or 0
    return Grep(
        tuple(patterns),
        options.flag("extended-regexp") or name == "egrep",
        options.flag("fixed-strings") or name == "fgrep",
        options.flag("ignore-case"),
        options.flag("invert-match"),
        options.flag("count"),
        options.flag("word-regexp"),
        options.flag("line-number"),
        options.flag("only-matching"),
        options.number("before-context") or around,
        options.number("after-context") or around,
    )


def _head_or_tail(name: str, words: Sequence[str]) -> Filter:
    # `head -5` is older than options and still what hands type.
    given = [f"-n{word[1:]}" if word[:1] == "-" and word[1:].isdecimal() else word for word in words]
    options = read(given, "lines", "follow", short={"n": "lines", "f": "follow"})
    _no_files(name, options.words)
    text = options.text("lines", "10")
    sign, digits = (text[0], text[1:]) if text[:1] in ("+", "-") else ("", text)
    if not (digits.isdecimal() and digits.isascii() and len(digits) < 10):
        raise KflabError(f"{name}: invalid number of lines: {text!r}")
    n = int(digits)
    if name == "head":
        return Head(-n if sign == "-" else n)
    return Tail(n, sign == "+")
