"""A typed line → a frozen command with its pipe. `kubectl` (or `k`) in front may be left out."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import get_close_matches

from kflab.errors import KflabError
from kflab.kubectl.commands import (
    TOOLS,
    Command,
    DeletePods,
    Describe,
    Get,
    Help,
    IptablesSave,
    Line,
    Logs,
    Nothing,
    PortForward,
    Rollout,
    ScaleTo,
    SetImage,
    StopForward,
    Target,
    TendNode,
    Version,
)
from kflab.kubectl.options import Options, read
from kflab.kubectl.parse_conntrack import parse_conntrack
from kflab.kubectl.parse_curl import parse_curl, parse_exec
from kflab.kubectl.parse_filters import parse_filter
from kflab.kubectl.words import stages

ROLLOUTS = ("status", "history", "restart", "undo", "pause", "resume")
"""Words of `rollout`."""

MAX_REPLICAS = 100_000
"""Most replicas `scale` takes: above what one lab can hold, below what would freeze it by a slip of the finger."""


def parse(line: str) -> Line:
    """Parse one line.

    Raises:
        KflabError: One clear line: what is unknown or missing, and what was perhaps meant.
    """
    pipeline = stages(line)
    if not pipeline:
        return Line(Nothing())
    first, *piped = pipeline
    return Line(parse_words(first), tuple(parse_filter(words) for words in piped))


def parse_words(words: Sequence[str]) -> Command:
    """Parse a command that a shell has split already (`kflab get …`).

    Raises:
        KflabError: As `parse`.
    """
    return _command(words) if words else Nothing()


def _command(words: Sequence[str]) -> Command:
    name, rest = words[0], list(words[1:])
    if name in ("$", ">"):  # a prompt copied along
        return _command(rest) if rest else Nothing()
    if name == "sudo" and rest:
        return _command(rest)
    if name in ("kubectl", "k"):
        # Global options may stand before the verb: `kubectl -n shop get pods`.
        lead: list[str] = []
        while rest and rest[0].startswith("-"):
            lead.append(rest.pop(0))
            if lead[-1] in ("-n", "--namespace") and rest:
                lead.append(rest.pop(0))
        if not rest:
            return Help()
        name, rest = rest[0], lead + rest[1:]
        if name in _NOT_KUBECTL:
            raise KflabError(f'unknown command "{name}" for "kubectl" (here: `{name}` alone)')
    parser = _COMMANDS.get(name)
    if parser is not None:
        return parser(rest)
    if name in _KNOWN_KUBECTL:
        raise KflabError(f"`kubectl {name}` is not here: {_KNOWN_KUBECTL[name]}")
    near = get_close_matches(name, sorted(_COMMANDS), n=2, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(COMMANDS)}"
    raise KflabError(f'unknown command "{name}"; {hint}')


def begins(word: str) -> bool:
    """Whether a line may begin with this word: a command that is here, or one of kubectl's that says why it is not."""
    return word in _COMMANDS or word in _KNOWN_KUBECTL or word in ("kubectl", "k", "sudo", "$", ">")


# --- names ----------------------------------------------------------------------------------------------------


def _named(words: Sequence[str]) -> tuple[tuple[str, ...], tuple[Target, ...]]:
    """Split `svc,ep`, `svc a b` and `svc/a pod/b` into resource words and targets."""
    if not words:
        return (), ()
    if any("/" in word for word in words):
        targets: list[Target] = []
        for word in words:
            resource, slash, name = word.partition("/")
            if not slash:
                raise KflabError(
                    "there is no need to specify a resource type as a separate argument when passing arguments in "
                    "resource/name form (e.g. 'kubectl get resource/<resource_name>' instead of 'kubectl get resource "
                    "resource/<resource_name>'"
                )
            if not resource or not name:
                raise KflabError(f"arguments in resource/name form may not have an empty side: {word}")
            targets.extend(Target(kind, name) for kind in resource.split(","))
        return (), tuple(targets)
    resources = tuple(filter(None, words[0].split(",")))
    if len(words) == 1:
        return resources, ()
    return (), tuple(Target(resource, name) for resource in resources for name in words[1:])


def _one_target(words: Sequence[str], default: str, verb: str) -> Target:
    """`NAME`, `KIND/NAME` or `KIND NAME`."""
    if len(words) == 2 and "/" not in words[0]:
        return Target(words[0], words[1])
    if len(words) != 1:
        raise KflabError(f"expected one POD or TYPE/NAME for `{verb}`, got {len(words)}")
    resource, slash, name = words[0].partition("/")
    return Target(resource, name) if slash else Target(default, words[0])


# --- verbs ----------------------------------------------------------------------------------------------------

_COMMON = {"n": "namespace", "l": "selector"}


def _get(words: list[str]) -> Command:
    options = read(
        words,
        "namespace selector output field-selector label-columns chunk-size sort-by",
        "all-namespaces show-labels no-headers ignore-not-found watch watch-only show-kind",
        short={**_COMMON, "A": "all-namespaces", "o": "output", "L": "label-columns", "w": "watch"},
    )
    if options.flag("watch") or options.flag("watch-only"):
        raise KflabError("`-w` would wait for changes; the panes show them live, and `get` again prints them")
    if options.text("sort-by"):
        raise KflabError("`--sort-by` is not supported; pipe into sort")
    output = options.text("output")
    if output not in ("", "wide", "yaml", "json", "name"):
        raise KflabError(f'unable to match a printer suitable for the output format "{output}", '
                         "allowed formats here are: json,name,wide,yaml")  # fmt: skip
    if not options.words:
        raise KflabError("required resource not specified; e.g. `get pods`, `get svc,ep`, `get all`")
    resources, targets = _named(options.words)
    if targets and options.flag("all-namespaces"):
        raise KflabError("a resource cannot be retrieved by name across all namespaces")
    return Get(
        resources,
        targets,
        options.text("namespace"),
        options.flag("all-namespaces"),
        output,
        options.text("selector"),
        options.text("field-selector"),
        options.flag("show-labels"),
        not options.flag("no-headers"),
        tuple(column for given in options.values.get("label-columns", ()) for column in given.split(",")),
        options.flag("ignore-not-found"),
    )


def _describe(words: list[str]) -> Command:
    options = read(
        words,
        "namespace selector show-events",
        "all-namespaces",
        short={**_COMMON, "A": "all-namespaces"},
    )
    if not options.words:
        raise KflabError("you must specify the type of resource to describe; e.g. `describe ingress NAME`")
    resources, targets = _named(options.words)
    return Describe(
        resources, targets, options.text("namespace"), options.flag("all-namespaces"), options.text("selector")
    )


def _logs(words: list[str]) -> Command:
    options = read(
        words,
        "namespace selector container tail since limit-bytes max-log-requests",
        "follow previous all-containers timestamps prefix ignore-errors",
        short={**_COMMON, "c": "container", "f": "follow", "p": "previous"},
    )
    selector = options.text("selector")
    if not options.words and not selector:
        raise KflabError("expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'")
    if options.words and selector:
        raise KflabError("only a selector (-l) or a POD name is allowed")
    name = list(options.words)
    container = options.text("container")
    if len(name) == 2 and "/" not in name[1]:  # `logs POD CONTAINER`; `logs TYPE NAME` does not exist
        container = container or name.pop()
    tail = options.number("tail")
    return Logs(
        _one_target(name, "pod", "logs") if name else None,
        options.text("namespace"),
        selector,
        container,
        None if tail is not None and tail < 0 else tail,
        _duration(options, "since"),
        options.flag("follow"),
        options.flag("previous"),
        options.flag("prefix"),
    )


_UNITS = {"ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000}


def _duration(options: Options, name: str) -> int | None:
    """A Go duration such as 5s, 1m30s or 2h; None if not given."""
    text = options.text(name)
    if not text:
        return None
    if not re.fullmatch(r"(\d{1,6}(ms|s|m|h))+", text):
        raise KflabError(f'invalid argument "{text}" for "--{name}" flag: a duration like 5s, 2m or 3h')
    return sum(int(count) * _UNITS[unit] for count, unit in re.findall(r"(\d+)(ms|s|m|h)", text))


def _scale(words: list[str]) -> Command:
    options = read(words, "namespace replicas current-replicas timeout", "", short=_COMMON)
    replicas = options.number("replicas")
    if replicas is None:
        raise KflabError('required flag(s) "replicas" not set; e.g. `scale deployment/product --replicas=5`')
    if replicas < 0:
        raise KflabError("The --replicas=COUNT flag is required, and COUNT must be greater than or equal to 0")
    if replicas > MAX_REPLICAS:
        raise KflabError(f"--replicas is {replicas}; the lab takes at most {MAX_REPLICAS}")
    _, targets = _named(options.words)
    if not targets:
        raise KflabError("name what to scale: `scale deployment/NAME --replicas=N`")
    return ScaleTo(targets, replicas, options.text("namespace"), options.number("current-replicas"))


def _delete(words: list[str]) -> Command:
    options = read(
        words,
        "namespace selector grace-period wait timeout",
        "force now ignore-not-found all",
        short=_COMMON,
    )
    if not options.words:
        raise KflabError("name what to delete: `delete pod NAME`")
    resources, targets = _named(options.words)
    for word in (*resources, *(target.resource for target in targets)):
        if word.lower() not in ("pod", "pods", "po"):
            raise KflabError(f"only pods can be deleted here, not {word}: take it out of the manifests instead")
    grace = options.number("grace-period")
    force = options.flag("force")
    if grace is not None and grace > 0:
        raise KflabError("pods end within their own terminationGracePeriodSeconds; of --grace-period, only 0 is here")
    # Without --force, kubectl raises a zero grace period to 1 s: still a graceful deletion, so it is one here.
    if not targets and not options.text("selector"):
        raise KflabError("resource(s) were provided, but no name was specified")
    return DeletePods(targets, options.text("namespace"), options.text("selector"), force)


def _tend(verb: str) -> Callable[[list[str]], Command]:
    """`cordon` and `uncordon`."""

    def read_words(words: list[str]) -> Command:
        options = read(words, "", "", short={})
        return TendNode(verb, _node_names(verb, options.words))

    return read_words


def _drain(words: list[str]) -> Command:
    options = read(words, "grace-period timeout", "force ignore-daemonsets delete-emptydir-data", short={})
    found: list[tuple[str, int | bool]] = []
    grace = options.number("grace-period")
    if grace is not None and grace >= 0:
        found.append(("gracePeriod", grace * 1_000_000_000))
    found += [(name, True) for flag, name in _DRAIN_FLAGS if options.flag(flag)]
    return TendNode("drain", _node_names("drain", options.words), tuple(found))


_DRAIN_FLAGS = (("force", "force"), ("ignore-daemonsets", "ignoreDaemonsets"))


def _node_names(verb: str, words: Sequence[str]) -> tuple[str, ...]:
    if not words:
        raise KflabError(f"name a node: `{verb} NODE`")
    return tuple(word.removeprefix("node/").removeprefix("nodes/") for word in words)


def _rollout(words: list[str]) -> Command:
    options = read(words, "namespace timeout revision to-revision", "watch", short={**_COMMON, "w": "watch"})
    verb = options.words[0] if options.words else ""
    if verb not in ROLLOUTS:
        raise KflabError(f"`rollout` needs one of {', '.join(ROLLOUTS)}: `rollout restart deployment/NAME`")
    name = {"undo": "to-revision", "history": "revision"}.get(verb, "")
    given = next((other for other in ("revision", "to-revision") if options.text(other) and other != name), "")
    if given:
        raise KflabError(f"unknown flag: --{given} of `rollout {verb}`")
    revision = (options.number(name) or 0) if name else 0
    if revision < 0:
        raise KflabError(f"revision must be a positive integer: {revision}")
    target = _one_target(options.words[1:], "deployment", f"rollout {verb}")
    return Rollout(verb, target, options.text("namespace"), revision)


def _set(words: list[str]) -> Command:
    options = read(words, "namespace", "", short=_COMMON)
    if not options.words or options.words[0] != "image":
        raise KflabError("of `set`, only `set image deployment/NAME CONTAINER=IMAGE` is here")
    names = [word for word in options.words[1:] if "=" not in word]
    images = []
    for word in options.words[1:]:
        container, equals, image = word.partition("=")
        if equals and not (container and image):
            raise KflabError(f"expected CONTAINER=IMAGE, got {word}")
        if equals:
            images.append((container, image))
    if not images:
        raise KflabError("at least one image update is required: `set image deployment/NAME CONTAINER=IMAGE`")
    return SetImage(_one_target(names, "deployment", "set image"), tuple(images), options.text("namespace"))


def _port_forward(words: list[str]) -> Command:
    options = read(words, "namespace address pod-running-timeout", "", short={"n": "namespace"})
    if not options.words:
        return PortForward()
    if options.words[0] == "stop" and len(options.words) == 2 and options.words[1].isdecimal():
        return StopForward(int(options.words[1][:6]))
    if len(options.words) < 2:
        raise KflabError("TYPE/NAME and list of ports are required for port-forward: `port-forward svc/web 8080:80`")
    target = _one_target(options.words[:1], "pod", "port-forward")
    ports = []
    for word in options.words[1:]:
        local, colon, remote = word.partition(":")
        if not colon:
            remote = local
            if not remote.isdecimal():
                local = ""
        for part in (local, remote):
            if part.isdecimal() and not 0 <= int(part[:6]) <= 65535:
                raise KflabError(f"invalid port {part}: not in 0–65535")
        if not remote or remote == "0":
            raise KflabError(f"remote port must be > 0: {word}")
        if local and not (local.isdecimal() and local.isascii()):
            raise KflabError(f"error parsing local port '{local}'")
        ports.append((int(local) or None if local else None, remote))
    return PortForward(target, tuple(ports), options.text("namespace"))


def _iptables_save(words: list[str]) -> Command:
    options = read(words, "table node modprobe", "counters", short={"t": "table", "c": "counters"})
    if options.words:
        raise KflabError(f"iptables-save takes no {options.words[0]!r}; another node's rules: --node NODE")
    return IptablesSave(options.text("node"), options.text("table"))


_FORMS = {"ipvsadm -Sn": (["-Sn"], ["-S", "-n"], ["--save", "-n"])}
"""Other ways to write a tool's arguments."""


def _tool(name: str) -> Callable[[list[str]], Command]:
    """Reads `nft list ruleset`, `ipvsadm -Sn` or `ipset save`, with --node."""
    usage = next(tool for tool in TOOLS if tool.startswith(f"{name} "))
    forms = _FORMS.get(usage, (usage.split(" ")[1:],))

    def read_tool(words: list[str]) -> Command:
        node = ""
        if "--node" in words[:-1]:
            at = words.index("--node")
            node = words[at + 1]
            words = words[:at] + words[at + 2 :]
        if words not in forms:
            raise KflabError(f"of {name} only `{usage}` is here; another node's: --node NODE")
        return IptablesSave(node, tool=usage)

    return read_tool


def _ssh(words: list[str]) -> Command:
    """`ssh NODE iptables-save` (or `conntrack -L`) is how one looks at a node's rules in a real cluster."""
    options = 0
    while options < len(words) and words[options].startswith("-"):
        options += 1
    node, command = (words[options].rpartition("@")[2], words[options + 1 :]) if options < len(words) else ("", [])
    if command[:1] == ["sudo"]:
        command = command[1:]
    if node and command[:1] == ["conntrack"]:
        return replace(parse_conntrack(command[1:]), node=node)
    tool = next((tool for tool in TOOLS if command and command[0] == tool.split(" ")[0]), "")
    if not node or not tool:
        raise KflabError(f"over ssh, only `ssh NODE` with {', '.join((*TOOLS, 'conntrack -L'))} is here")
    if tool == TOOLS[0]:
        return IptablesSave(node)
    return _COMMANDS[command[0]]([*command[1:], "--node", node])


def _version(words: list[str]) -> Command:
    del words
    return Version()


def _help(words: list[str]) -> Command:
    del words
    return Help()


_COMMANDS: dict[str, Callable[[list[str]], Command]] = {
    "get": _get,
    "describe": _describe,
    "logs": _logs,
    "log": _logs,
    "scale": _scale,
    "delete": _delete,
    "rollout": _rollout,
    "set": _set,
    "cordon": _tend("cordon"),
    "uncordon": _tend("uncordon"),
    "drain": _drain,
    "port-forward": _port_forward,
    "exec": parse_exec,
    "version": _version,
    "help": _help,
    "curl": parse_curl,
    "iptables-save": _iptables_save,
    "nft": _tool("nft"),
    "ipvsadm": _tool("ipvsadm"),
    "ipset": _tool("ipset"),
    "conntrack": parse_conntrack,
    "ssh": _ssh,
}

COMMANDS = tuple(sorted(set(_COMMANDS) - {"log"}))
"""Names for completion and help."""

_NOT_KUBECTL = frozenset({"conntrack", "curl", "iptables-save", "nft", "ipvsadm", "ipset", "ssh"})

_KNOWN_KUBECTL = {
    "apply": "edit the manifest and press ctrl+s, which applies it",
    "create": "write it into the manifest and press ctrl+s",
    "edit": "the manifest pane edits; ctrl+s applies",
    "patch": "edit the manifest and press ctrl+s",
    "run": "write the Pod into the manifest and press ctrl+s",
    "expose": "write the Service into the manifest and press ctrl+s",
    "label": "edit the manifest and press ctrl+s",
    "annotate": "edit the manifest and press ctrl+s",
    "top": "the ledger shows rates per pod; CPU and memory are not modelled",
    "attach": "containers run nothing one could attach to",
    "cp": "containers have no files",
    "debug": "containers run nothing one could debug",
    "config": "there is one cluster; -n names a namespace",
    "explain": "see the Kubernetes API reference",
    "api-resources": "`get` takes pods, svc, ep, endpointslices, ing, no, deploy, rs, sts, ds, cm, secrets, ns, events",
}
"""kubectl's commands that the lab does otherwise, and how."""
