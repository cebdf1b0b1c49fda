"""Running one line of the command line against a store and a lab."""

from collections.abc import Sequence
from dataclasses import replace

from kflab import KUBERNETES_RELEASE
from kflab.cluster.store import Store
from kflab.errors import KflabError
from kflab.kubectl.commands import (
    Command,
    Conntrack,
    Curl,
    DeletePods,
    Describe,
    Filter,
    Get,
    Help,
    IptablesSave,
    Logs,
    Nothing,
    PortForward,
    Rollout,
    ScaleTo,
    SetImage,
    StopForward,
    TendNode,
    Version,
)
from kflab.kubectl.curl import CurlAnswer, CurlRequest, host_and_port, is_local, render
from kflab.kubectl.describe import describe
from kflab.kubectl.env import Env
from kflab.kubectl.filters import run_filters
from kflab.kubectl.get import get
from kflab.kubectl.hostile import printable
from kflab.kubectl.lookup import ApiError, source_key
from kflab.kubectl.outcome import Outcome
from kflab.kubectl.parse import parse, parse_words
from kflab.kubectl.run_forward import port_forward, reach, stop_forward
from kflab.kubectl.run_logs import logs
from kflab.kubectl.run_nodes import tend_node
from kflab.kubectl.run_rollout import rollout, set_image
from kflab.kubectl.run_rules import conntrack_of, rules_of
from kflab.kubectl.run_writes import delete_pods, scale

API_SERVER_DOWN = "The connection to the server localhost:6443 was refused - did you specify the right host or port?\n"

HELP = """\
get po,svc,ep,ing,no,deploy,…   [NAME] [-n NS|-A] [-l SELECTOR] [-o wide|yaml|json|name]
describe KIND NAME              svc, ing, po, no, deploy, ep, endpointslice…
logs POD|deployment/NAME        [-n NS] [--tail N] [--since 5s]
scale deployment/NAME --replicas=N      delete pod NAME [--force]
rollout status|history|restart|undo|pause|resume deployment/NAME      set image deployment/NAME CONTAINER=IMAGE
cordon NODE      uncordon NODE      drain NODE [--ignore-daemonsets] [--force] [--grace-period N]
port-forward pod/NAME 8080:8080         then: curl localhost:8080/path
curl URL                        from the client; from a pod: --from NS/POD, or exec POD -- curl URL
iptables-save                   [--node NODE] [-t nat]; in other modes: nft list ruleset, ipvsadm -Sn, ipset save
conntrack -L                    [--node NODE] [-p tcp] [-s IP] [-d IP] [--dport N] [-n]; -C counts, -S: drops
… | grep [-Eivc] PATTERN | head -5 | wc -l
"""


def run_line(line: str, store: Store, env: Env) -> str:
    """Run one line and return what a terminal would show."""
    return run(line, store, env).text


def run(line: str, store: Store, env: Env) -> Outcome:
    """Run one line, its pipe included.

    Returns:
        Output, errors and exit code apart; nothing is raised for what a person can mistype.
    """
    try:
        parsed = parse(line)
    except KflabError as error:
        return Outcome("", f"error: {printable(error.message)}\n", 1)
    return _run(parsed.command, parsed.filters, store, env)


def run_words(words: Sequence[str], store: Store, env: Env) -> Outcome:
    """Run a command that a shell has split already (`kflab get …`)."""
    try:
        command = parse_words(words)
    except KflabError as error:
        return Outcome("", f"error: {printable(error.message)}\n", 1)
    return _run(command, (), store, env)


def _run(command: Command, filters: Sequence[Filter], store: Store, env: Env) -> Outcome:
    try:
        outcome = _dispatch(command, store, env)
        if not filters:
            return outcome
        out = run_filters(outcome.out, filters)
    except ApiError as error:
        return Outcome("", f"Error from server {error.message}\n", 1)
    except KflabError as error:
        return Outcome("", f"{_led(error.message)}\n", 1)
    # A pipe's exit code is its last command's: grep without a match answers 1.
    return Outcome(out, outcome.err, 0 if out else 1, outcome.trace_id)


def _led(message: str) -> str:
    return message if message.startswith(("curl:", "grep:", "conntrack:", "Error", "Unable")) else f"error: {message}"


_NEED_API = (Get, Describe, Logs, ScaleTo, DeletePods, TendNode, Rollout, SetImage, PortForward)


def _dispatch(command: Command, store: Store, env: Env) -> Outcome:
    if isinstance(command, _NEED_API) and not env.running("apiserver"):
        return Outcome("", API_SERVER_DOWN, 1)
    match command:
        case Get():
            return get(command, store, env)
        case Describe():
            return describe(command, store, env)
        case Logs():
            return logs(command, store, env)
        case ScaleTo():
            return scale(command, store, env)
        case DeletePods():
            return delete_pods(command, store, env)
        case TendNode():
            return tend_node(command, store, env)
        case Rollout():
            return rollout(command, store, env)
        case SetImage():
            return set_image(command, store, env)
        case PortForward():
            return port_forward(command, store, env)
        case StopForward():
            return stop_forward(command, env)
        case Curl():
            return _curl(command, store, env)
        case IptablesSave():
            return rules_of(command, store, env)
        case Conntrack():
            return conntrack_of(command, store, env)
        case Version():
            version = f"v{KUBERNETES_RELEASE}.0"
            return Outcome(f"Client Version: {version}\nServer Version: {version}\n")
        case Help():
            return Outcome(HELP)
        case Nothing():
            return Outcome()


# --- curl -----------------------------------------------------------------------------------------------------


def _curl(command: Curl, store: Store, env: Env) -> Outcome:
    host, port = host_and_port(command.url)
    if command.source is not None and not env.running("apiserver") and command.source.resource != "node":
        return Outcome("", API_SERVER_DOWN, 1)
    source = source_key(command.source, command.namespace or env.namespace, store, env)
    via = None
    notes = ""
    if source is None and is_local(host):
        reached = reach(port, store, env)
        if isinstance(reached, CurlAnswer):
            return render(command, reached, env.now_ns)
        if isinstance(reached, Outcome):
            failed = render(command, CurlAnswer("empty"), env.now_ns)
            return Outcome(failed.out, reached.err + failed.err, failed.code)
        via = reached
        notes = f"Handling connection for {port}\n"
    request = CurlRequest(
        command.url, source, command.method, command.headers, via, command.resolve, command.max_time_ns
    )
    answer = env.curl(request)
    if via is not None and answer.status == "refused":
        # Nothing listens inside the pod: port-forward closes the connection it had already accepted.
        answer = CurlAnswer("empty", answer.latency_ns, answer.answered_by, answer.trace_id)
        notes += (
            f"error forwarding port {via.port} to pod {via.pod.name}: failed to connect to localhost:{via.port} inside "
            f"namespace: dial tcp4 127.0.0.1:{via.port}: connect: connection refused\n"
        )
    elif via is not None and answer.answered_by is None:
        answer = replace(answer, answered_by=via.pod)  # a forward reaches its one pod and nothing else
    shown = render(command, answer, env.now_ns)
    return Outcome(shown.out, notes + shown.err, shown.code, answer.trace_id)
