"""Splitting a command line into words as a POSIX shell does, without being a shell.

Quotes, backslashes, comments and pipes work; substitutions, redirections and lists of commands are refused by name
instead of being half understood. Source: POSIX.1-2017 XCU chapter 2.2 (quoting), 2.3 (token recognition).
"""

from kflab.errors import KflabError

MAX_LINE = 4096
"""Longest line taken, in characters: far above anything typed, far below what would make a regex slow."""


def stages(line: str) -> list[list[str]]:
    """Words of each command of a pipeline.

    Args:
        line: What was typed; a `#` at the start of a word begins a comment, a single `&` at the end is ignored
            (nothing here blocks).

    Returns:
        One list of words per stage; [] for an empty line.

    Raises:
        KflabError: For an open quote or something only a shell can do.
    """
    if len(line) > MAX_LINE:
        raise KflabError(f"the line has {len(line)} characters; at most {MAX_LINE} are taken")
    pipeline: list[list[str]] = [[]]
    word: str | None = None
    quote = ""
    i = 0
    while i < len(line):
        char = line[i]
        following = line[i + 1 : i + 2]
        if quote:
            if char == quote:
                quote = ""
            elif char == "\\" and quote == '"' and following and following in '"\\$`':
                word = (word or "") + following
                i += 1
            else:
                word = (word or "") + char
        elif char in "'\"":
            quote = char
            word = word or ""
        elif char == "\\":
            if not following:
                raise KflabError("the line ends in a backslash; write it whole on one line")
            word = (word or "") + following
            i += 1
        elif char.isspace():
            _end(pipeline, word)
            word = None
            if char in "\r\n" and line[i:].strip():
                raise KflabError("one command at a time: this has several lines")
        elif char == "#" and word is None:
            break
        elif char == "|":
            _end(pipeline, word)
            word = None
            if following == "|":
                raise KflabError("`||` needs a shell; type one command at a time")
            pipeline.append([])
        elif char == "&" and not line[i + 1 :].strip():
            break
        elif char in ";<>" or (char == "&" and following == "&"):
            raise KflabError(
                f"`{char}` needs a shell; here one command runs at a time, with | grep, head, tail, wc, sort"
            )
        elif char == "`" or (char == "$" and following in ("(", "{")):
            raise KflabError("substitutions need a shell; type the name itself")
        else:
            word = (word or "") + char
        i += 1
    if quote:
        raise KflabError(f"a {quote} is open: close it")
    _end(pipeline, word)
    if len(pipeline) == 1 and not pipeline[0]:
        return []
    if any(not words for words in pipeline):
        raise KflabError("nothing stands on one side of a |")
    return pipeline


def _end(pipeline: list[list[str]], word: str | None) -> None:
    if word is not None:
        pipeline[-1].append(word)
