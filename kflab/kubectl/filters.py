"""Running the stages of a pipe over text."""

import re
from collections.abc import Sequence
from itertools import groupby

from kflab.errors import KflabError
from kflab.kubectl.commands import Filter, Grep, Head, Sort, Tail, Uniq, WordCount

MAX_PATTERN = 512
"""Longest grep pattern taken, in characters."""


def run_filters(text: str, filters: Sequence[Filter]) -> str:
    """Pass text through each filter in turn.

    Raises:
        KflabError: For a pattern that is no regular expression.
    """
    for stage in filters:
        text = _run(text, stage)
    return text


def _run(text: str, stage: Filter) -> str:
    lines = text.splitlines()
    match stage:
        case Grep():
            lines = _grep(lines, stage)
        case Head(n):
            lines = lines[:n]  # a negative n leaves the last ones out, as GNU head does
        case Tail(n, from_line):
            lines = lines[max(0, n - 1) :] if from_line else lines[-n:] if n else []
        case Sort(reverse, unique, numeric):
            lines = sorted(lines, key=_numeric if numeric else None, reverse=reverse)
            lines = list(dict.fromkeys(lines)) if unique else lines
        case Uniq(count):
            runs = [(line, len(list(same))) for line, same in groupby(lines)]
            lines = [f"{n:>7} {line}" if count else line for line, n in runs]
        case WordCount(show_lines, show_words, show_bytes):
            counts = (text.count("\n"), len(text.split()), len(text.encode()))
            shown = [n for n, show in zip(counts, (show_lines, show_words, show_bytes), strict=True) if show]
            lines = [str(shown[0]) if len(shown) == 1 else "".join(f"{n:>8}" for n in shown)[1:]]
    return "".join(line + "\n" for line in lines)


def _numeric(line: str) -> tuple[float, str]:
    match = re.match(r"\s*(-?\d+(\.\d+)?)", line)
    return (float(match[1]) if match else 0.0, line)


def _grep(lines: Sequence[str], stage: Grep) -> list[str]:
    pattern = _compile(stage)
    hits = [i for i, line in enumerate(lines) if bool(pattern.search(line)) is not stage.invert]
    if stage.count:
        return [str(len(hits))]
    if stage.only:
        return [match.group() for i in hits for match in pattern.finditer(lines[i]) if match.group()]
    if not (stage.before or stage.after):
        return [f"{i + 1}:{lines[i]}" if stage.numbers else lines[i] for i in hits]
    matched = set(hits)
    wanted = sorted({j for i in hits for j in range(max(0, i - stage.before), min(len(lines), i + stage.after + 1))})
    out: list[str] = []
    for previous, i in zip([None, *wanted], wanted, strict=False):
        if previous is not None and i != previous + 1:
            out.append("--")
        out.append(f"{i + 1}{':' if i in matched else '-'}{lines[i]}" if stage.numbers else lines[i])
    return out


def _compile(stage: Grep) -> re.Pattern[str]:
    parts = []
    for given in stage.patterns:
        if len(given) > MAX_PATTERN:
            raise KflabError(f"grep: the pattern has {len(given)} characters; at most {MAX_PATTERN} are taken")
        parts.append(re.escape(given) if stage.fixed else _translate(given, stage.extended))
    text = "|".join(f"(?:{part})" for part in parts)
    if stage.word:
        text = rf"(?<!\w)(?:{text})(?!\w)"
    try:
        return re.compile(text, re.IGNORECASE if stage.ignore_case else 0)
    except (re.error, OverflowError, RecursionError) as error:
        raise KflabError(f"grep: {stage.patterns[0]!r} is not a regular expression: {error}") from None


_CLASSES = {
    "alpha": "a-zA-Z", "digit": "0-9", "alnum": "a-zA-Z0-9", "upper": "A-Z", "lower": "a-z", "space": r"\s",
    "blank": r" \t", "punct": r"!-/:-@\[-`{-~", "xdigit": "0-9A-Fa-f",
}  # fmt: skip


def _translate(pattern: str, extended: bool) -> str:
    r"""Turn a POSIX pattern into Python's.

    In a basic pattern ``+ ? { } ( ) |`` are themselves and mean something with a backslash (GNU's extension for
    ``\+ \? \|``); in an extended one it is the other way round. A ``*`` with nothing before it is a star.

    Source: POSIX.1-2017 XBD chapter 9; GNU grep manual, "Basic vs Extended".
    """
    out: list[str] = []
    i = 0
    while i < len(pattern):
        char = pattern[i]
        if char == "\\" and i + 1 < len(pattern):
            following = pattern[i + 1]
            i += 2
            if following in "+?{}()|":
                out.append(("\\" if extended else "") + following)
            elif following in "<>":
                out.append(r"\b")
            elif following in "bBwWsS" or following.isdigit():
                out.append("\\" + following)
            else:
                out.append(re.escape(following))
            continue
        if char == "[":
            end = _bracket_end(pattern, i)
            out.append(_bracket(pattern[i:end]))
            i = end
            continue
        if (char in "+?{}()|" and not extended) or (char == "*" and not "".join(out).strip("^(")):
            out.append("\\" + char)
        else:
            out.append(char)
        i += 1
    return "".join(out)


def _bracket_end(pattern: str, start: int) -> int:
    i = start + 1
    if pattern[i : i + 1] == "^":
        i += 1
    if pattern[i : i + 1] == "]":
        i += 1
    while i < len(pattern) and pattern[i] != "]":
        close = pattern.find(":]", i + 2) if pattern[i : i + 2] == "[:" else -1
        i = close + 2 if close >= 0 else i + 1
    if i >= len(pattern):
        raise KflabError("grep: Unmatched [, [^, [:, [., or [=")
    return i + 1


def _bracket(text: str) -> str:
    inner = text[1:-1]
    negated, inner = (inner[:1] == "^", inner[1:]) if inner[:1] == "^" else (False, inner)
    body = re.sub(r"\[:(\w+):\]|([\\\[\]^&~|])", lambda m: _CLASSES.get(m[1], "") if m[1] else "\\" + m[2], inner)
    return f"[{'^' if negated else ''}{body}]"
