"""What the sentence above the ledger says when changes overlap, or when there is nothing to learn."""

import pytest

from kflab.errors import KflabError
from kflab.lab.commands import Act, Apply, Kill, Run, Scale, Start, Stop
from kflab.lab.running import Lab
from kflab.lab.snapshot import Knower
from kflab.lab.thread import LabThread
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod
from kflab.scenario.format import load, load_text

S = 10**9


def product_pod(lab: Lab) -> Key:
    return next(key for key in lab.store.keys("Pod") if key.name.startswith("product-"))


def test_a_component_that_missed_nothing_is_not_said_to_catch_up_for_ever() -> None:
    lab = Lab(load("overview").spec)
    lab.advance(S)
    assert lab.do(Stop("kubelet/node-b")).ok
    lab.advance(2 * S)
    assert lab.do(Start("kubelet/node-b")).ok
    lab.advance(20 * S)
    assert lab.snapshot().story == ()


def test_scaling_takes_no_credit_for_an_earlier_crash() -> None:
    lab = Lab(load("overview").spec)
    lab.advance(2 * S)
    assert lab.do(Kill(product_pod(lab))).ok
    lab.advance(2 * S + 100_000_000)
    assert lab.do(Scale(Key("Deployment", "kube-system", "coredns"), 1)).ok
    lab.advance(6 * S)
    incident = lab.knowing.incident
    assert incident is not None
    assert {service.name for service in incident.services} <= {"kube-dns"}
    assert incident.moved_ns is None


def test_a_command_that_ends_the_lab_answers_whoever_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = LabThread(load("overview").spec)

    def broken(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(Lab, "do", broken)
    with pytest.raises(KflabError, match="the lab has stopped: a defect"):
        handle.submit(Run("kubectl get pods")).result(timeout=10)
    with pytest.raises(RuntimeError, match="a defect"):
        handle.close()


def said(lab: Lab) -> str:
    return "".join(span.text for span in lab.snapshot().story)


def test_a_rollout_says_how_far_it_is_and_when_it_is_over() -> None:
    lab = Lab(load("overview").spec)
    workload = Key("Deployment", "default", "product")
    lab.advance(2 * S)
    assert lab.do(Act("restart", workload)).ok
    seen = []
    while len(seen) < 400 and "rolled out" not in said(lab):
        lab.advance(lab.t_ns + S // 20)
        seen.append(said(lab).partition(": ")[2].partition(";")[0])
    steps = list(dict.fromkeys(seen))
    order = [step for step in steps if "updated" in step]
    assert order == ["0 of 3 updated", "1 of 3 updated", "2 of 3 updated"]
    status = lab.do(Run("kubectl rollout status deployment product"))
    assert "successfully rolled out" in status.text
    after = float(said(lab).removeprefix("◆ product: rolled out in ").partition(" s")[0])
    assert 3 < after < 15, "three pods, one after the other"
    assert lab.knowledge().what.endswith("· over")
    lab.advance(lab.t_ns + 30 * S)
    assert "rolled out" not in said(lab)


def pods_on(lab: Lab, node: str) -> int:
    pods = [lab.store.get(key) for key in lab.store.keys("Pod")]
    return sum(isinstance(pod, Pod) and pod.spec.node_name == node for pod in pods)


def test_a_drain_says_how_many_pods_it_waits_for() -> None:
    lab = Lab(load("overview").spec)
    lab.advance(2 * S)
    there = pods_on(lab, "node-b")
    assert lab.do(Act("drain", Key("Node", "", "node-b"))).ok
    assert said(lab).startswith(f"◇ node-b: 0 of {there} gone; the drain of node-b began 0.0")
    assert lab.knowledge().what.endswith(f"· 0 of {there} gone")
    lab.advance(5 * S)
    # All pods of the Service were there, and no other node takes them: that is more than how far the drain is.
    progress, _, rest = said(lab).partition("; ")
    assert progress == "◇ node-b: 3 of 4 gone"
    assert rest == "the drain of node-b began 3.00 s ago; product-service has no ready endpoint"
    lab.advance(40 * S)
    assert pods_on(lab, "node-b") == 0
    assert said(lab).startswith("✖ product-service: no ready endpoint since +"), "requests still fail"


def test_a_drain_names_what_a_budget_holds_until_that_is_evicted() -> None:
    lab = Lab(load("drain-pdb").spec)
    seen = []
    while lab.t_ns < 40 * S:
        lab.advance(lab.t_ns + S // 2)
        words = said(lab).partition(";")[0]
        if words.startswith("◇ node-2: ") and words not in seen:
            seen.append(words)
    held = "1 held by its budget"
    # The second pod is evicted 15 s after the first, and then runs out its preStop and its grace: nothing holds it.
    assert seen == [
        "◇ node-2: 0 of 3 gone", f"◇ node-2: 0 of 3 gone, {held}", f"◇ node-2: 1 of 3 gone, {held}",
        f"◇ node-2: 2 of 3 gone, {held}", "◇ node-2: 2 of 3 gone",
    ]  # fmt: skip


def test_who_knows_follows_a_rollout_from_pod_to_pod() -> None:
    """The rows are those of the newest change of a pod, as the Gantt has them; beside it how many of all are known."""
    lab = Lab(load("overview").spec)
    lab.advance(2 * S)
    assert lab.do(Act("restart", Key("Deployment", "default", "product"))).ok
    told: list[tuple[str, tuple[int, int]]] = []
    spreading = 0
    while "rolled out" not in said(lab) or lab.knowledge().known < lab.knowledge().count:
        lab.advance(lab.t_ns + S // 20)
        knowledge = lab.knowledge()
        assert len(knowledge.knowers) == 4, "no row comes or goes"
        if knowledge.changes is None:
            continue
        assert knowledge.t_ns is not None
        what = knowledge.what.removeprefix("that ").partition(" at ")[0]
        if not told or told[-1][0] != what:
            told.append((what, knowledge.changes))
        spreading += 0 < knowledge.known < knowledge.count
        for row in knowledge.knowers:
            assert row.learned_ns is None or row.learned_ns >= knowledge.t_ns
    assert spreading, "it is seen on its way from observer to observer"
    ends = [event for group in lab.gantt.report().groups for event in group.events]
    assert [what for what, _ in told] == [event.what for event in sorted(ends, key=lambda e: e.t_ns)]
    counts = [count for _, (_, count) in told]
    assert counts == sorted(counts)
    assert lab.knowledge().changes == (6, 6)
    last = next(event for event in ends if event.what == told[-1][0])
    knew = {row.name: row.knew_ns for row in last.rows}
    assert all(knew[row.name] == row.learned_ns for row in lab.knowledge().knowers)
    marks = [mark.label for mark in lab.snapshot().marks if mark.kind in ("delete", "begin")]
    assert marks == [what for what, _ in told]


def test_a_pod_that_no_service_selects_is_no_change_of_a_drain() -> None:
    lab = Lab(load("overview").spec)
    lab.advance(2 * S)
    assert lab.do(Act("drain", Key("Node", "", "node-b"))).ok
    while "drained" not in said(lab):
        lab.advance(lab.t_ns + S)
    lab.advance(lab.t_ns + 20 * S)
    changes = lab.knowledge().changes
    assert changes is not None
    known, count = changes
    gone = [event.pod for group in lab.gantt.report().groups for event in group.events if event.kind == "end"]
    assert count >= len(gone) >= 3
    assert known <= count


def test_a_dead_node_is_told_of_until_all_rules_avoid_it_and_then_until_its_pods_are_replaced() -> None:
    spec = load("node-power-loss").spec
    lab = Lab(spec)
    lab.advance(40 * S)
    knowledge = lab.knowledge()
    assert (knowledge.known, knowledge.count) == (0, 4), "what the dead node knew matters to nobody"
    assert {row.name: row.in_step for row in knowledge.knowers if not row.off} == {
        "node controller": False, "EndpointSlice": False, "node-1 rules": False, "node-2 rules": False,
    }  # fmt: skip
    lease = next(row.revision for row in knowledge.knowers if row.name == "node controller")
    age = int(lease.removeprefix("lease ").removesuffix("s"))
    assert 30 <= age <= 41, "renewed every 10 s until it lost power at 10 s"
    assert said(lab).startswith("✖ node-3 lost power 30.00 s ago. ")
    assert said(lab).endswith(f"Its lease is {age} s old, Unknown at 50 s: node-1's rules still send "
                              "1 try in 3 there.")  # fmt: skip
    lab.advance(62 * S)
    knowledge = lab.knowledge()
    assert (knowledge.known, knowledge.count) == (4, 4)
    assert said(lab).startswith("◆ Traffic moved at +4")
    lab.advance(100 * S)
    assert said(lab).startswith("◇ node-3 is given up. Its ")
    waits = {pod.left for node in lab.snapshot().nodes if node.key.name == "node-3" for pod in node.pods}
    assert len(waits) == 1
    left = int(waits.pop().removeprefix("evict ").removesuffix("s"))
    assert 260 <= left <= 270
    assert f"evicted in {left} s" in said(lab)
    lab.advance((100 + left + 15) * S)
    assert said(lab) == ""


def test_a_client_that_went_dark_with_its_node_is_said_before_anything_else() -> None:
    lab = Lab(load("node-power-loss").spec)
    lab.advance(5 * S)
    assert lab.do(Act("powerOff", Key("Node", "", "node-1"))).ok
    lab.advance(8 * S)
    assert said(lab).startswith("✖ node-1 lost power 3.00 s ago. Its clients went dark too. Its lease is ")


def test_traffic_that_has_nowhere_to_go_is_not_said_to_have_moved() -> None:
    """All pods of product are on node-b: with its power they are gone, and node-a's rules REJECT."""
    lab = Lab(load("overview").spec)
    lab.advance(2 * S)
    assert lab.do(Act("powerOff", Key("Node", "", "node-b"))).ok
    lab.advance(40 * S)
    while "lost power" in said(lab):
        lab.advance(lab.t_ns + S)
    assert said(lab).startswith("✖ product-service: no ready endpoint since +4")
    assert said(lab).endswith("s. node-a's rules REJECT what comes.")
    assert [row.word for row in lab.knowledge().knowers if row.name == "node-a rules"] == ["none is left"]
    lab.advance(120 * S)
    assert said(lab).startswith("✖ product-service: no ready endpoint so far. node-b's 4 pods are evicted in 2")
    lab.advance(400 * S)
    assert said(lab).startswith("✖ product-service: no ready endpoint"), "it lasts for as long as requests fail"
    assert said(lab).endswith("REJECT what comes.")


def test_a_pod_without_peers_comes_back() -> None:
    lab = Lab(load("overview").spec)
    assert lab.do(Scale(Key("Deployment", "default", "product"), 1)).ok
    lab.advance(20 * S)
    (pod,) = [key for key in lab.store.keys("Pod") if key.name.startswith("product-")]
    assert lab.do(Kill(pod)).ok
    while "crashed" in said(lab):
        lab.advance(lab.t_ns + S // 10)
    assert said(lab).startswith("✖ product-service: no ready endpoint since +")
    while "✖" in said(lab):
        lab.advance(lab.t_ns + S // 10)
    assert said(lab).startswith("◆ product-service: ready again since +")
    lab.advance(lab.t_ns + 20 * S)
    assert said(lab) == ""


def test_a_rollout_is_no_wrong_port_and_its_losses_are_kept_when_its_pods_are_gone() -> None:
    lab = Lab(load("rolling-update").spec)
    told = set()
    while lab.t_ns < 30 * S:
        lab.advance(lab.t_ns + S // 10)
        told.add(said(lab).partition(":")[0])
    assert "✖ Tries are refused" not in told
    (footer,) = [band.footer for band in lab.snapshot().bands if band.footer]
    assert lab.totals.lost_tries > 50
    assert footer == f"{lab.totals.lost_tries} tries lost so far"


def test_a_port_on_which_nothing_listens_is_told() -> None:
    lab = Lab(load("node-power-loss").spec)
    lab.advance(2 * S)
    texts = tuple((tab.name, tab.text.replace("targetPort: 8080", "targetPort: 8081")) for tab in lab.spec.tabs)
    assert lab.do(Apply(texts)).ok
    lab.advance(6 * S)
    assert said(lab).startswith("✖ Tries are refused: the rules of product lead to port 8081, and nothing listens")


HEADLESS = """
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 3
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      containers:
      - {name: db, image: "db:1", ports: [{containerPort: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 5432}]}
---
apiVersion: v1
kind: Pod
metadata: {name: alone, labels: {app: alone}}
spec:
  containers: [{name: alone, image: "alone:1"}]
"""

WITH_ADDRESS = """
---
apiVersion: v1
kind: Service
metadata: {name: z-db}
spec: {selector: {app: db}, ports: [{port: 5432}]}
"""


def of_texts(texts: str, client: str = "") -> Lab:
    indented = "".join(f"      {line}\n" for line in texts.splitlines())
    text = f"kflab: scenario/v1\nmanifests:\n  documents:\n  - name: db.yaml\n    text: |\n{indented}{client}"
    return Lab(load_text(text, "db").spec)


def rules_rows(lab: Lab) -> list[Knower]:
    return [knower for knower in lab.snapshot().knowledge.knowers if knower.name.endswith(" rules")]


def test_no_node_is_stale_for_a_pod_that_only_a_headless_service_has() -> None:
    lab = of_texts(HEADLESS)
    lab.advance(2 * S)
    assert lab.do(Kill(Key("Pod", "default", "db-1"))).ok
    lab.advance(25 * S)
    slice_row = next(row for row in lab.snapshot().knowledge.knowers if row.name == "EndpointSlice")
    assert slice_row.word == "written"
    assert all(row.in_step and row.word == "" and row.learned_ns is None for row in rules_rows(lab))
    assert all(row.rules_in_step for row in lab.snapshot().nodes)
    assert said(lab) == ""
    assert lab.do(Scale(Key("StatefulSet", "default", "db"), 2)).ok
    lab.advance(35 * S)
    assert lab.snapshot().knowledge.changes == (1, 1)


def test_with_a_service_of_an_address_beside_it_nodes_learn_and_traffic_moves() -> None:
    client = "clients:\n- {from: default/alone, url: tcp://z-db:5432, rate: 50}\n"
    lab = of_texts(HEADLESS + WITH_ADDRESS, client)
    lab.advance(2 * S)
    assert lab.do(Kill(Key("Pod", "default", "db-1"))).ok
    lab.advance(2 * S + S // 50)
    assert not any(row.in_step for row in rules_rows(lab))
    lab.advance(6 * S)
    incident = lab.knowing.incident
    assert incident is not None
    assert [service.name for service in incident.services] == ["z-db"]
    assert incident.moved_ns is not None
    assert all(row.learned_ns is not None for row in rules_rows(lab))


def test_a_started_kube_proxy_is_in_step_though_a_headless_slice_was_written_last() -> None:
    lab = of_texts(HEADLESS + WITH_ADDRESS)
    lab.advance(2 * S)
    assert lab.do(Stop("kube-proxy/node-1")).ok
    assert lab.do(Kill(Key("Pod", "default", "db-1"))).ok
    lab.advance(10 * S)
    assert lab.do(Start("kube-proxy/node-1")).ok
    lab.advance(30 * S)
    assert all(row.in_step for row in rules_rows(lab))
    assert said(lab) == ""


def test_nobody_has_to_learn_of_a_pod_that_no_service_has() -> None:
    lab = of_texts(HEADLESS + WITH_ADDRESS)
    lab.advance(2 * S)
    assert lab.do(Kill(Key("Pod", "default", "alone"), "delete")).ok
    lab.advance(3 * S)
    slice_row = next(row for row in lab.snapshot().knowledge.knowers if row.name == "EndpointSlice")
    assert (slice_row.in_step, slice_row.word) == (True, "not listed")
    assert all(row.in_step and row.word == "" for row in rules_rows(lab))


def test_of_a_node_that_is_unknown_its_power_is_no_news_and_its_removal_is() -> None:
    lab = of_texts(HEADLESS + WITH_ADDRESS)
    lab.advance(2 * S)
    node = Key("Node", "", "node-2")
    assert lab.do(Act("partition", node)).ok
    lab.advance(70 * S)

    def controllers_row() -> Knower:
        return next(row for row in lab.snapshot().knowledge.knowers if row.name == "node controller")

    assert controllers_row().word == "noticed"
    assert lab.do(Act("powerOff", node)).ok
    lab.advance(75 * S)
    row = controllers_row()
    assert (row.in_step, row.revision, row.word, row.learned_ns) == (True, "Unknown", "knew before", None)
    assert said(lab).endswith("Its node was NotReady before.")
    assert lab.do(Act("deleteVM", node)).ok
    assert (controllers_row().in_step, controllers_row().word) == (False, "not noticed yet")
    lab.advance(90 * S)
    row = controllers_row()
    assert (row.revision, row.word) == ("gone", "noticed")
    assert row.learned_ns is not None
    assert 75 * S < row.learned_ns < 81 * S  # asked every 5 s, and the cloud's answer


def test_rules_that_have_let_a_pod_go_and_take_it_back_do_not_still_send_to_it() -> None:
    pod = (
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {0}}}\nspec: {{nodeName: {1}, containers: [{{name: c}}]}}\n"
    )
    callers = pod.format("one", "node-1") + pod.format("two", "node-2")
    url = "url: tcp://z-db:5432, rate: 50"
    clients = f"clients:\n- {{name: one, from: default/one, {url}}}\n- {{name: two, from: default/two, {url}}}\n"
    lab = of_texts(HEADLESS + WITH_ADDRESS + callers, clients)
    lab.advance(2 * S)
    assert lab.do(Stop("kube-proxy/node-2")).ok
    assert lab.do(Kill(Key("Pod", "default", "db-1"))).ok
    lab.advance(2 * S + S // 50)
    assert "node-1's rules still send it 1 try in 3" in said(lab)
    lab.advance(8 * S)
    back = lab.store.get(Key("Pod", "default", "db-1"))
    assert isinstance(back, Pod)
    assert back.status.ready
    assert "node-2's rules still send it 1 try in 3" in said(lab)
    assert "node-1" not in said(lab)
