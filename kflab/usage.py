"""What the command line takes: commands, options and their help. What they do is in `cli`."""

import argparse

from kflab import KUBERNETES_RELEASE, __version__, exits

_EPILOG = """\
examples:
  kflab                                  open the lab on the built-in scenario overview
  kflab my-manifests/ --rate 500         open it on your own manifests
  kflab my-manifests/ --calls none       … without the calls between pods that their manifests imply
  kubectl get all,ep,ing -A -o yaml | kflab -   … or on a dump of a cluster
  kflab replay pod-crash                 replay a scenario (plain lines without a terminal)
  kflab trace https://api.example.com/products
  kflab trace http://cart:8080/ --from default/client -f shop/
  kflab rules --node node-a | grep product-service
  iptables-save | kflab trace 10.96.0.1:443 --rules - --node 10.0.0.5
  kflab drift --rules node-a.iptables --node node-a -f cluster.yaml
  kflab get svc,ep -A -o wide
  kflab scenarios                        list what is built in

exit status: 0 all well; 1 an expectation or check did not hold; 2 bad usage or input.
"""

_TRACE_EPILOG = """\
exit status: 0 whatever the request got, a refusal or a 404 too: the first line
says what, and `status` of -o json; 2 bad usage or input.
"""

_TUNE_WHAT = """\
Play a scenario many times, with more and more of a workload's settings, until
no run loses more requests than the budget allows; then prove it with seeds that
the search never saw, with and without the patch. In manifests that nothing
happens in, the workload is restarted (a rolling update) after 5 s."""

_TUNE_EPILOG = """\
examples:
  kflab tune rolling-update --over preStop
  kflab tune my-scenario.yaml --target errors=0.1% --over preStop,maxSurge
  kflab tune my-manifests/ --workload default/Deployment/shop --rate 500
  kflab tune rolling-update -o patch > patch.yaml

exit status: 0 found and proved, or nothing to change; 1 nothing was enough, or
the proof failed; 2 bad usage or input.
"""

COMMANDS = (
    "replay",
    "trace",
    "rules",
    "get",
    "describe",
    "scenarios",
    "bench",
    "conform",
    "verify",
    "drift",
    "screenshots",
    "tune",
)


class _Parser(argparse.ArgumentParser):
    """Errors are one line and exit 2."""

    def error(self, message: str) -> None:  # type: ignore[override]  # argparse says NoReturn; exiting is what we do
        self.exit(exits.USAGE, f"kflab: {message}; see {self.prog} --help\n")


def _manifest_options(parser: argparse.ArgumentParser, files: bool) -> None:
    if files:
        parser.add_argument(
            "-f", "--filename", action="append", default=[], metavar="FILE|DIR|-", help="manifests (default: overview)"
        )
    parser.add_argument("-R", "--recursive", action="store_true", help="also read sub-folders")
    parser.add_argument("-n", "--namespace", default=None, help="namespace of objects that name none, and to look in")
    parser.add_argument("--nodes", type=int, default=0, metavar="N", help="make N nodes (default: those given, else 3)")
    parser.add_argument("--seed", type=int, default=None, help="random seed (default: the scenario's, else 7)")
    parser.add_argument("--profile", default="", metavar="NAME", help="how fast: laptop, small (default) or 5000-nodes")
    parser.add_argument(
        "--load-balancer", default="", metavar="NAME", help="whose load balancers Services get (default: as they say)"
    )


def _calls_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--calls", default="", metavar="none|guess|FILE",
        help="calls between pods per request: none, guessed from what containers name (default), or as a file says",
    )  # fmt: skip


def _traffic_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--traffic", default="", choices=("flows", "auto"),
        help="follow each request (flows, default), or only count them while nothing changes (auto), which is faster",
    )  # fmt: skip


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; `command` of what it returns says which one was given."""
    parser = _Parser(
        prog="kflab",
        description="A terminal lab for the Kubernetes request path.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="version", version=f"kflab {__version__} (follows Kubernetes {KUBERNETES_RELEASE})"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    opened = commands.add_parser("open", help="open manifests or a scenario in the lab (the word may be left out)")
    opened.add_argument("what", nargs="*", metavar="FILE|DIR|-|SCENARIO")
    _manifest_options(opened, files=False)
    opened.add_argument("--url", default="", help="send traffic from outside to this URL only")
    opened.add_argument("--rate", type=float, default=None, help="requests per second from outside (default 100)")
    opened.add_argument("--speed", type=float, default=1.0, help="simulated seconds per second, 0.01 to 100")
    opened.add_argument("--cold", action="store_true", help="start from nothing instead of a settled cluster")
    opened.add_argument("--theme", default=None, choices=("slate", "paper", "ansi"), help="colours")
    opened.add_argument("--ascii", action="store_true", help="draw with ASCII only")
    _calls_option(opened)

    replay = commands.add_parser("replay", help="play a scenario or manifests")
    replay.add_argument("what", nargs="?", default="overview", metavar="NAME|FILE|DIR|-")
    _manifest_options(replay, files=False)
    replay.add_argument("--plain", action="store_true", help="print lines even on a terminal")
    replay.add_argument(
        "--speed", type=float, default=None, help="pace of the plain lines (default: as fast as it can)"
    )
    replay.add_argument("--duration", default=None, help="simulated time, e.g. 30s (default: the scenario's, else 60s)")
    replay.add_argument("--rate", type=float, default=None, help="requests per second from outside, for manifests")
    replay.add_argument("--url", default="", help="send traffic from outside to this URL only")
    _traffic_option(replay)
    replay.add_argument("-o", "--output", default="text", choices=("text", "json"))
    replay.add_argument("--cold", action="store_true", help="start from nothing instead of a settled cluster")
    replay.add_argument("--ascii", action="store_true", help="draw with ASCII only")
    replay.add_argument(
        "--compare",
        default="",
        metavar="SETTING=VALUE",
        help="play it again with one setting changed, both side by side as plain lines: preStop=15, maxUnavailable=0, "
        "minReadySeconds=10, mode=ipvs, profile=laptop, same …",
    )
    _calls_option(replay)

    trace = commands.add_parser(
        "trace", help="follow one request through every hop", formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_TRACE_EPILOG,
    )  # fmt: skip
    trace.add_argument("url", nargs="?", default="", metavar="URL")
    _manifest_options(trace, files=True)
    trace.add_argument("--scenario", default="", help="a scenario instead of manifests")
    trace.add_argument("--from", dest="source", default="client", metavar="client|NS/POD|node/NAME")
    trace.add_argument("-X", "--method", default="GET")
    trace.add_argument("-o", "--output", default="text", choices=("text", "json"))
    trace.add_argument(
        "--rules",
        default="",
        metavar="FILE|-",
        help="walk a real node's iptables-save or nft [-j] list ruleset instead of kflab's own rules",
    )
    trace.add_argument("--node", default="", metavar="NAME|IP,…", help="with --rules: the node, or its own addresses")
    trace.add_argument("--in-interface", default="", metavar="IF", help="with --rules: where packets come in")
    trace.add_argument("--out-interface", default="", metavar="IF", help="with --rules: where packets go out")
    trace.add_argument("--ipsets", default="", metavar="FILE", help="with --rules: the node's ipset save")
    _calls_option(trace)

    rules = commands.add_parser(
        "rules", help="a node's rules as iptables-save, nft list ruleset or ipvsadm prints them"
    )
    _manifest_options(rules, files=True)
    rules.add_argument("--scenario", default="")
    rules.add_argument("--node", required=True)
    rules.add_argument(
        "--mode",
        default="",
        choices=("iptables", "nftables", "ipvs"),
        help="kube-proxy's mode (default: the KubeProxyConfiguration's)",
    )

    for verb, text in (("get", "list objects in kubectl's columns"), ("describe", "describe objects as kubectl does")):
        kubectl = commands.add_parser(verb, help=text, prefix_chars="\0")
        kubectl.add_argument("words", nargs="*", metavar="ARG")

    tune = commands.add_parser(
        "tune", help="find the smallest settings that meet an error budget, and prove them",
        description=_TUNE_WHAT,
        epilog=_TUNE_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    tune.add_argument("what", nargs="?", default="rolling-update", metavar="NAME|FILE|DIR|-")
    _manifest_options(tune, files=False)
    tune.add_argument(
        "--target", default="errors=0", metavar="errors=N[%]",
        help="failed requests allowed in each single run, or their share of all (default errors=0)",
    )  # fmt: skip
    tune.add_argument(
        "--over", default="", metavar="SETTING,…",
        help="what may change: preStop, terminationGracePeriodSeconds, minReadySeconds, maxSurge, maxUnavailable, "
        "readiness (default: all that the workload has)",
    )  # fmt: skip
    tune.add_argument("--workload", default="", metavar="NS/KIND/NAME", help="default: what the actions are about")
    tune.add_argument("--seeds", type=int, default=8, metavar="N", help="runs of each choice (default 8)")
    tune.add_argument("--jobs", type=int, default=0, metavar="N", help="processes (default: one for each core)")
    tune.add_argument("--duration", default=None, help="simulated time of a run, e.g. 30s (default: the scenario's)")
    tune.add_argument("--rate", type=float, default=None, help="requests per second from outside, for manifests")
    tune.add_argument("--url", default="", help="send traffic from outside to this URL only")
    tune.add_argument(
        "-o", "--output", default="text", choices=("text", "json", "patch"),
        help="table, patch and proof as text or data, or the patch alone, for kubectl patch --patch-file",
    )  # fmt: skip
    _calls_option(tune)

    commands.add_parser("scenarios", help="list the built-in scenarios")

    bench = commands.add_parser("bench", help="measure kflab on this machine")
    bench.add_argument("--json", action="store_true")
    bench.add_argument("--only", default="", help="letters of the workloads to run, e.g. abd")
    bench.add_argument("--quick", action="store_true", help="smaller: no 5,000 nodes, 50 keys, minutes for hours")
    bench.add_argument("--paused", type=float, default=30.0, metavar="SECONDS", help="how long to watch a held lab")

    drift = commands.add_parser(
        "drift", help="hold a real node's iptables-save or nft list ruleset against what manifests imply"
    )
    drift.add_argument(
        "--rules", required=True, metavar="FILE|-", help="the node's iptables-save or nft [-j] list ruleset"
    )
    drift.add_argument("--node", required=True, help="which node of the manifests it is")
    _manifest_options(drift, files=True)
    drift.add_argument("--scenario", default="", help="a scenario instead of manifests")

    screenshots = commands.add_parser("screenshots", help="make the pictures of the README from real runs, as SVG")
    screenshots.add_argument("folder", nargs="?", default="screenshots", metavar="DIR")
    screenshots.add_argument("--only", action="append", default=[], metavar="NAME", help="only this picture")

    conform = commands.add_parser("conform", help="run conformance vector files")
    conform.add_argument("files", nargs="+", metavar="FILE")
    conform.add_argument(
        "--mode", default="iptables", choices=("iptables", "nftables", "ipvs"), help="kube-proxy's mode"
    )

    verify = commands.add_parser("verify", help="ask the real kernel: namespaces, its own rules, real sockets (root)")
    verify.add_argument("what", nargs="*", metavar="FILE|DIR|-|SCENARIO")
    _manifest_options(verify, files=False)
    verify.add_argument("--mode", default="iptables", choices=("iptables", "nftables"), help="proxy mode")
    return parser
