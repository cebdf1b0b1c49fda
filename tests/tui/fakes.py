"""A lab made by hand: snapshots of the states in the design's pictures, and a `LabHandle` that plays them.

Everything is deterministic. `SNAPSHOTS` names the states; `FakeLab(snapshot)` records the commands it was given.
"""

from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from kflab.dataplane.packets import RequestTrace
from kflab.lab.commands import Command, Finding, Result, SetSpeed
from kflab.lab.handle import Tab
from kflab.lab.session import Session
from kflab.lab.snapshot import Snapshot
from kflab.lab.spec import LabSpec
from kflab.lab.targets import Target
from kflab.manifest.objects import Key
from tests.tui.fake_overview import crash_half, crash_two, steady, trace_rows
from tests.tui.fake_parts import CRASH_NS, INGRESS_1, INGRESS_2, MS, NODE_A, NODE_B, NODE_C, PODS, PRODUCT_SVC, SLICE, S
from tests.tui.fake_request import request
from tests.tui.fake_sixty import sixty_pods

__all__ = [
    "CRASH_NS",
    "FakeLab",
    "INGRESS_1",
    "INGRESS_2",
    "MS",
    "NODE_A",
    "NODE_B",
    "NODE_C",
    "PODS",
    "PRODUCT_SVC",
    "S",
    "SERVICE_YAML",
    "SLICE",
    "SNAPSHOTS",
    "answered",
    "crash_half",
    "crash_two",
    "request",
    "sixty_pods",
    "steady",
    "trace_rows",
]

SNAPSHOTS = {"steady": steady, "crash_half": crash_half, "crash_two": crash_two, "sixty_pods": sixty_pods}
"""The states of the pictures, by name."""


SERVICE_YAML = """\
apiVersion: v1
kind: Service
metadata:
  name: product-service
spec:
  selector:
    app: product
  ports:
  - port: 80
    targetPort: 8080
"""

DEPLOYMENT_YAML = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: product  # three of them
spec:
  replicas: 3
"""


def answered(value: Any) -> "Future[Any]":
    future: Future[Any] = Future()
    future.set_result(value)
    return future


class FakeLab:
    """A `LabHandle` that shows one snapshot (or whatever is put into `current`) and records what it was asked."""

    def __init__(self, current: Snapshot | str = "steady") -> None:
        self.current = SNAPSHOTS[current]() if isinstance(current, str) else current
        self.commands: list[Command] = []
        self.opened: list[int] = []
        self.closed = False
        self.results: dict[type, Result] = {}
        """What `submit` answers, by type of command."""
        self.trace = request()
        self.problems: tuple[Finding, ...] = ()

    def snapshot(self) -> Snapshot:
        return self.current

    def submit(self, command: Command) -> "Future[Result]":
        self.commands.append(command)
        name = type(command).__name__
        if name in ("Pause", "Resume"):
            self.current = replace(self.current, paused=name == "Pause")
        if isinstance(command, SetSpeed):
            self.current = replace(self.current, speed_asked=command.factor, speed_reached=command.factor)
        return answered(self.results.get(type(command), Result(True, "")))

    def open_request(self, trace_id: int) -> "Future[RequestTrace]":
        self.opened.append(trace_id)
        return answered(self.trace)

    def tabs(self) -> tuple[Tab, ...]:
        return (
            Tab("product-service.yaml", SERVICE_YAML, None),
            Tab("product.yaml", DEPLOYMENT_YAML, None),
            Tab(
                "additions.yaml",
                "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: ingress-nginx\n",
                None,
                "additions",
            ),
        )

    def check(self, texts: tuple[tuple[str, str], ...]) -> tuple[Finding, ...]:
        return self.problems

    def locate(self, key: Key) -> tuple[str, int] | None:
        if key == PRODUCT_SVC:
            return "product-service.yaml", 1
        if key in PODS:
            return "product.yaml", 1
        return None

    def targets(self, key: Key | None) -> tuple[Target, ...]:
        found = []
        if key is not None and key.kind in ("Pod", "Node"):
            found.append(Target(key.kind.lower(), key))
        names = ["kube-proxy/node-a", "kubelet/node-a", "apiserver"] if key == NODE_A else ["apiserver"]
        stopped = {each.name for each in self.snapshot().components if not each.running}
        found += [Target("component", Key("Component", "", name),
                         frozenset({"stopped"} if name in stopped else ())) for name in names]  # fmt: skip
        return tuple(found)

    def live_yaml(self, key: Key) -> "Future[str]":
        return answered(f"apiVersion: v1\nkind: {key.kind}\nmetadata:\n  name: {key.name}\nstatus: {{}}\n")

    def rules_text(self, node: str, t_ns: int | None = None) -> "Future[str]":
        return answered(
            "*nat\n:KUBE-SERVICES - [0:0]\n"
            "-A KUBE-SERVICES -d 10.96.100.50/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-4WTCEQOV7PEPC2YB\n"
            "-A KUBE-SVC-4WTCEQOV7PEPC2YB -m statistic --mode random --probability 0.33333333349 "
            "-j KUBE-SEP-7JQFTL5WMJAKL5MD\n"
            "-A KUBE-SEP-7JQFTL5WMJAKL5MD -p tcp -m tcp -j DNAT --to-destination 10.244.2.25:8080\nCOMMIT\n"
        )

    def session(self) -> "Future[Session]":
        return answered(Session(LabSpec("fake", self.tabs()), self.current.t_ns, "", "", 0, 0, None, "iptables", False))

    def completions(self, line: str) -> tuple[str, ...]:
        words = ("get pods", "get svc", "describe pod", "logs", "curl https://api.example.com/products")
        return tuple(word for word in words if word.startswith(line))

    def assumptions(self) -> tuple[tuple[str, str], ...]:
        return (("container api listens on 8080 (declared)", "annotation kflab.dev/listens"),)

    def findings(self) -> tuple[Finding, ...]:
        return self.problems

    def close(self) -> None:
        self.closed = True
