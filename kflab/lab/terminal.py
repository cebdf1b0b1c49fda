"""The lab's command line: kubectl's commands on the live store, `curl`, `iptables-save` and pipes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kflab.control.facts import Fact
from kflab.dataplane.conntrack import NodeTable
from kflab.errors import KflabError
from kflab.kubectl import execute
from kflab.kubectl.curl import CurlAnswer, CurlRequest
from kflab.kubectl.logs import AccessRecord
from kflab.kubectl.outcome import Outcome
from kflab.kubectl.portforward import Forwards
from kflab.lab.access_log import logged_by
from kflab.lab.commands import Act, Kill, Result, Scale
from kflab.manifest.objects import Key

if TYPE_CHECKING:
    from kflab.lab.running import Lab


class Terminal:
    """Implements `kubectl.env.Env` on a running lab."""

    def __init__(self, lab: "Lab") -> None:
        self._lab = lab
        self._forwards = Forwards()

    def run(self, line: str) -> Result:
        """Run one line as typed."""
        return self._result(execute.run(line, self._lab.store, self))

    def run_words(self, words: Sequence[str]) -> Result:
        """Run a line that a shell has split."""
        return self._result(execute.run_words(words, self._lab.store, self))

    @staticmethod
    def _result(outcome: Outcome) -> Result:
        return Result(outcome.code == 0, outcome.text, trace_id=outcome.trace_id, err=outcome.err)

    # --- Env ------------------------------------------------------------------------------------------------

    @property
    def now_ns(self) -> int:
        return self._lab.t_ns

    @property
    def namespace(self) -> str:
        return self._lab.spec.namespace

    @property
    def forwards(self) -> Forwards:
        return self._forwards

    def _reach(self, node: str) -> None:
        if not self._lab.plane.core.reachable(node):
            raise KflabError(f"ssh: connect to host {node} port 22: Connection timed out")

    def rules_text(self, node: str) -> str:
        self._reach(node)
        return self._lab.rules_text(node)

    def conntrack(self, node: str, protocol: str) -> NodeTable:
        self._reach(node)
        return self._lab.conntrack.table(node, protocol)

    def access_log(self, pod: Key) -> Sequence[AccessRecord]:
        return logged_by(self._lab, pod)

    def curl(self, request: CurlRequest) -> CurlAnswer:
        return self._lab.singles.curl(request)

    def scale(self, workload: Key, replicas: int) -> str:
        result = self._lab.do(Scale(workload, replicas))
        return "" if result.ok else result.text

    def kill(self, pod: Key, how: str) -> str:
        result = self._lab.do(Kill(pod, how))
        return "" if result.ok else result.text

    def act_on_node(self, verb: str, node: str, options: Sequence[tuple[str, int | bool]]) -> str:
        result = self._lab.do(Act(verb, Key("Node", "", node), tuple(options)))
        return "" if result.ok else result.text

    def act_on_workload(self, verb: str, workload: Key, options: Sequence[tuple[str, int | str]]) -> str:
        result = self._lab.do(Act(verb, workload, tuple(options)))
        return "" if result.ok else result.text

    def facts(self) -> Sequence[Fact]:
        return self._lab.facts

    def running(self, component: str) -> bool:
        return self._lab.running(component)

    def talks(self, node: str) -> bool:
        return self._lab.plane.core.talks(node)
