"""Statements and expressions of libnftables-json(5) as `nft list` prints them.

For people to read, and to compare with what nft itself prints; what kflab does not know is shown as its JSON.
Source: nftables src/json.c, src/expression.c, src/statement.c.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

_SHORT_META: Final = frozenset({"iif", "oif", "iifname", "oifname", "iiftype", "oiftype", "iifgroup", "oifgroup"})

_QUOTED_META: Final = frozenset({"iif", "oif", "iifname", "oifname"})

_BITS: Final = ("&", "|", "^", "<<", ">>")

_PORTLESS: Final = frozenset({"accept", "drop", "continue", "return", "notrack"})


def rule_text(parts: Sequence[tuple[str, Any]], comment: str = "") -> str:
    """A rule without its chain."""
    words = [statement_text(kind, body) for kind, body in parts]
    if comment:
        words.append(f'comment "{comment}"')
    return " ".join(filter(None, words))


def statement_text(kind: str, body: Any) -> str:
    """One statement."""
    if kind in _PORTLESS and body is None:
        return kind
    if kind in ("jump", "goto") and isinstance(body, dict) and isinstance(body.get("target"), str):
        return f"{kind} {body['target']}"
    if isinstance(body, dict):
        match kind:
            case "match":
                return _match(body)
            case "vmap":
                return f"{expression_text(body.get('key'))} vmap {expression_text(body.get('data'))}"
            case "mangle":
                key = body.get("key")
                return f"{expression_text(key)} set {expression_text(body.get('value'), _numbers(key))}"
            case "dnat" | "snat" | "redirect" | "masquerade" | "tproxy":
                return _nat(kind, body)
            case "counter" if {"packets", "bytes"} <= body.keys():
                return f"counter packets {body['packets']} bytes {body['bytes']}"
            case "reject":
                words = [str(body[key]) for key in ("type", "expr") if isinstance(body.get(key), str)]
                if words[1:] == ["port-unreachable"]:  # what it answers by default, and then leaves out
                    return kind
                return f"reject with {' '.join(words)}" if words else "reject"
            case "limit":
                return _limit(body)
            case "log":
                return _log(body)
            case "set":
                return _set(body)
            case "ct count":
                return f"ct count {'over ' if body.get('inv') else ''}{body.get('val')}"
            case "quota":
                return f"quota {'over ' if body.get('inv') else ''}{body.get('val')} {body.get('val_unit', 'bytes')}"
            case "unread":
                return str(body.get("text"))
            case "xt":
                return f'xt {body.get("type")} "{body.get("name")}"'
    if body is None:
        return kind
    return f"{kind} {_json(body)}"


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _match(body: dict[str, Any]) -> str:
    left, op = body.get("left"), body.get("op")
    right = expression_text(body.get("right"), _numbers(left), _quotes(left))
    masked = left.get("&") if isinstance(left, dict) else None
    if isinstance(masked, list) and len(masked) == 2 and _flags(masked[0]) and body.get("right") != 0:
        shown = f"{'!= ' if op == '!=' else ''}{right} / {expression_text(masked[1])}"
        return f"{expression_text(masked[0])} {shown}"
    if isinstance(left, dict) and isinstance(left.get("fib"), dict) and isinstance(body.get("right"), bool):
        right = "exists" if body["right"] else "missing"
    elif isinstance(body.get("right"), bool):
        right = "exists" if body["right"] else "missing"
    shown_op = "" if op == "in" or (op == "==" and not _is_bits(left)) else f"{op} "
    return f"{expression_text(left)} {shown_op}{right}"


def _is_bits(expression: Any) -> bool:
    return isinstance(expression, dict) and any(operator in expression for operator in _BITS)


def _flags(expression: Any) -> bool:
    payload = expression.get("payload") if isinstance(expression, dict) else None
    return isinstance(payload, dict) and payload.get("field") == "flags"


def _meta_key(expression: Any) -> str:
    """The key of a meta or ct expression, also where it is masked."""
    while isinstance(expression, dict) and _is_bits(expression):
        inside = next(expression[operator] for operator in _BITS if operator in expression)
        expression = inside[0] if isinstance(inside, list) and inside else None
    for kind in ("meta", "ct"):
        body = expression.get(kind) if isinstance(expression, dict) else None
        if isinstance(body, dict) and isinstance(body.get("key"), str):
            return str(body["key"])
    return ""


def _numbers(left: Any) -> str:
    """How numbers compared with an expression are printed: marks in eight hex digits."""
    return "#010x" if _meta_key(left) == "mark" else ""


def _quotes(left: Any) -> bool:
    if isinstance(left, dict) and isinstance(left.get("concat"), list):
        return any(_meta_key(part) in _QUOTED_META for part in left["concat"])
    return _meta_key(left) in _QUOTED_META | {"time", "day", "hour"}


def expression_text(value: Any, numbers: str = "", quoted: bool = False) -> str:
    """One expression.

    Args:
        value: As libnftables-json writes it.
        numbers: Format of plain numbers.
        quoted: Whether plain words stand in quotes.
    """
    match value:
        case bool():
            return "1" if value else "0"
        case int():
            return format(value, numbers)
        case str():
            return f'"{value}"' if quoted and not value.startswith("@") else value
        case list():
            return ",".join(expression_text(item, numbers) for item in value)
        case dict() if len(value) == 1:
            ((kind, body),) = value.items()
            return _expression(kind, body, numbers, quoted)
    return _json(value)


def _expression(kind: str, body: Any, numbers: str, quoted: bool) -> str:
    match kind, body:
        case "payload", {"protocol": str(protocol), "field": str(field)}:
            return f"{protocol} {field}"
        case "payload", {"base": base, "offset": offset, "len": length}:
            return f"@{base},{offset},{length}"
        case "meta", {"key": str(key)}:
            return key if key in _SHORT_META else f"meta {key}"
        case "ct", {"key": str(key)}:
            direction = body.get("dir")
            return f"ct {direction} {key}" if isinstance(direction, str) else f"ct {key}"
        case "fib", {"result": str(result), "flags": flags}:
            names = [str(flag) for flag in flags] if isinstance(flags, list) else [str(flags)]
            return f"fib {' . '.join(names)} {result}"
        case "numgen", {"mode": mode, "mod": mod}:
            offset = body.get("offset")
            return f"numgen {mode} mod {mod}" + (f" offset {offset}" if offset else "")
        case "jhash", {"mod": mod, "expr": inner}:
            seed = body.get("seed")
            return f"jhash {expression_text(inner)} mod {mod}" + (f" seed {seed:#x}" if isinstance(seed, int) else "")
        case "symhash", {"mod": mod}:
            return f"symhash mod {mod}"
        case "concat", list():
            return " . ".join(expression_text(part, numbers, quoted) for part in body)
        case "set", list():
            return f"{{ {', '.join(_element(item, numbers, quoted) for item in body)} }}"
        case "map", {"key": key, "data": data}:
            return f"{expression_text(key)} map {expression_text(data)}"
        case "prefix", {"addr": addr, "len": length}:
            return f"{expression_text(addr)}/{length}"
        case "range", [first, last]:
            return f"{expression_text(first, numbers, quoted)}-{expression_text(last, numbers, quoted)}"
        case "elem", {"val": inner}:
            return _element(body, numbers, quoted)
        case (("&" | "|" | "^" | "<<" | ">>"), [left, right]):
            format_of = numbers or _numbers(left)
            return f"{expression_text(left, format_of)} {kind} {expression_text(right, format_of)}"
        case (("&" | "|" | "^"), list()):
            return f" {kind} ".join(expression_text(part, numbers) for part in body)
        case (("jump" | "goto"), {"target": str(target)}):
            return f"{kind} {target}"
        case (("socket" | "rt"), {"key": str(key)}):
            return f"{kind} {key}"
        case "tcp option", {"name": str(name), "field": str(field)}:
            return f"tcp option {name} {field}"
        case (("exthdr" | "tcp option" | "ip option"), {"name": str(name)}):
            return f"{kind} {name}"
        case _, None:
            return kind
    return _json({kind: body})


def _element(item: Any, numbers: str, quoted: bool) -> str:
    match item:
        case [key, data]:
            return f"{_element(key, numbers, quoted)} : {expression_text(data)}"
        case {"elem": {"val": inner} as body}:
            return _element({**body, "val": inner}, numbers, quoted)
        case {"val": inner}:
            words = [expression_text(inner, numbers, quoted)]
            words += [f"{key} {item[key]}s" for key in ("timeout", "expires") if isinstance(item.get(key), int)]
            if isinstance(item.get("comment"), str):
                words.append(f'comment "{item["comment"]}"')
            return " ".join(words)
    return expression_text(item, numbers, quoted)


def _nat(kind: str, body: dict[str, Any]) -> str:
    words = [kind]
    if isinstance(body.get("family"), str):
        words.append(body["family"])
    addr, port = body.get("addr"), body.get("port")
    if addr is not None or port is not None:
        at = expression_text(addr) if addr is not None else ""
        if port is not None:
            at = f"[{at}]:" if ":" in at else f"{at}:"
            at += expression_text(port)
        words += ["to", at]
    flags = body.get("flags")
    if flags:
        words.append(expression_text(flags))
    return " ".join(words)


def _limit(body: dict[str, Any]) -> str:
    unit = body.get("rate_unit", "packets")
    rate = f"{body.get('rate')}" if unit == "packets" else f"{body.get('rate')} {unit}"
    words = f"limit rate {'over ' if body.get('inv') else ''}{rate}/{body.get('per')}"
    burst, usual = body.get("burst"), 5 if unit == "packets" else 0
    return words if burst in (None, usual) else f"{words} burst {burst} {body.get('burst_unit', 'packets')}"


def _log(body: dict[str, Any]) -> str:
    words = ["log"]
    if isinstance(body.get("prefix"), str):
        words.append(f'prefix "{body["prefix"]}"')
    words += [f"{key} {body[key]}" for key in ("group", "snaplen", "queue-threshold", "level") if key in body]
    if "flags" in body:
        words.append(f"flags {expression_text(body['flags'])}")
    return " ".join(words)


def _set(body: dict[str, Any]) -> str:
    inside = [_element(body.get("elem"), "", False)]
    statements = body.get("stmt")
    if isinstance(statements, list):
        inside += [
            statement_text(kind, inner) for item in statements if isinstance(item, dict) for kind, inner in item.items()
        ]
    return f"{body.get('op')} {expression_text(body.get('set'))} {{ {' '.join(inside)} }}"
