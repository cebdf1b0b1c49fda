"""`apply` in the lab: kubectl's three-way rules, all documents or none, and what follows from them."""

from typing import cast

from kflab.lab.commands import Apply, Kill, Result, Scale, Start, Stop
from kflab.lab.handle import Tab
from kflab.lab.running import Lab
from kflab.lab.spec import ClientSpec, LabSpec
from kflab.manifest.objects import Key
from kflab.manifest.objects_network import Service
from kflab.manifest.objects_pods import Pod
from kflab.manifest.objects_workloads import Deployment
from kflab.scenario.format import load

S = 1_000_000_000

WEB = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: "web:1", ports: [{containerPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
"""

SERVICE = Key("Service", "default", "web")


def web(text: str = WEB) -> Lab:
    lab = Lab(LabSpec("web", (Tab("web.yaml", text, None),)))
    lab.advance(2 * S)
    return lab


def apply(lab: Lab, text: str, tab: str = "web.yaml") -> Result:
    return lab.do(Apply(((tab, text),)))


def pods(lab: Lab) -> set[str]:
    return {key.name for key in lab.store.keys("Pod") if key.name.startswith(("web-", "product-"))}


def state(lab: Lab) -> tuple[object, ...]:
    return lab.store.revision, lab.tabs, len(lab.journal.actions), lab.digest()


def test_a_changed_template_rolls_the_pods() -> None:
    lab = web()
    before = pods(lab)
    done = apply(lab, WEB.replace("web:1", "web:2"))
    assert (done.ok, done.text) == (True, "1 configured, 0 created, 1 unchanged")
    lab.advance(60 * S)
    after = pods(lab)
    assert len(after) == 2
    assert not after & before
    assert all(cast(Pod, obj).status.ready for obj in lab.store.of_kind("Pod"))
    assert lab.totals.ok > 5_000
    assert lab.totals.failed < 0.03 * lab.totals.sent, "pods without a preStop lose what comes before the rules change"


def test_what_changes_nothing_rolls_nothing() -> None:
    lab = web()
    before = pods(lab)
    assert apply(lab, "# a comment\n" + WEB).text == "0 configured, 0 created, 2 unchanged"
    lab.advance(10 * S)
    assert pods(lab) == before
    assert lab.facts == []


def test_a_changed_port_changes_rules_and_traffic() -> None:
    lab = web()
    node = lab.store.keys("Node")[0].name
    assert ":8080" in lab.rules_text(node)
    assert apply(lab, WEB.replace("targetPort: 8080", "targetPort: 9090")).ok
    lab.advance(10 * S)
    rules = lab.rules_text(node)
    assert ":9090" in rules
    assert ":8080" not in rules
    failed = lab.totals.failed
    assert failed > 500, "nothing listens on 9090: refused"
    assert apply(lab, WEB).ok
    lab.advance(20 * S)
    failed = lab.totals.failed
    lab.advance(25 * S)
    assert lab.totals.failed == failed, "and back again"


def test_an_immutable_field_is_refused_in_the_api_servers_words() -> None:
    lab = web()
    before = state(lab)
    text = WEB.replace("matchLabels: {app: web}", "matchLabels: {app: other}").replace(
        "labels: {app: web}", "labels: {app: other}"
    )
    done = apply(lab, text)
    assert not done.ok
    assert "field is immutable" in done.text
    assert done.findings
    assert done.findings[0].severity == "refused"
    assert done.findings[0].place is not None
    assert done.findings[0].place.file == "web.yaml"
    assert state(lab) == before


def test_all_documents_or_none() -> None:
    lab = web()
    before = state(lab)
    text = WEB.replace("replicas: 2", "replicas: 5").replace("port: 80,", "port: 0,")
    assert not apply(lab, text).ok
    assert state(lab) == before
    lab.advance(10 * S)
    assert len(pods(lab)) == 2


def test_a_refusal_of_the_allocator_leaves_everything_as_it_was() -> None:
    lab = web()
    service = cast(Service, lab.store.get(SERVICE))
    before = state(lab)
    text = WEB.replace("replicas: 2", "replicas: 5") + (
        "---\napiVersion: v1\nkind: Service\nmetadata: {name: thief}\n"
        f"spec: {{clusterIP: {service.cluster_ip}, selector: {{app: web}}, ports: [{{port: 80}}]}}\n"
    )
    done = apply(lab, text)
    assert not done.ok
    assert "already allocated" in done.text
    assert state(lab) == before
    lab.advance(10 * S)
    assert len(pods(lab)) == 2


def test_a_broken_text_changes_nothing() -> None:
    lab = web()
    before = state(lab)
    for text in ("kind: [", "", "\tx: 1", WEB.replace("kind: Service", "kind: Service\nkind: Service")):
        done = apply(lab, text)
        assert not done.ok
        assert "\n" not in done.text
        assert state(lab) == before


def test_a_document_that_left_the_text_stays_in_the_cluster() -> None:
    lab = web()
    deployment, service = WEB.split("---\n")
    done = apply(lab, deployment)
    assert done.ok
    assert "service/web" in done.text.lower()
    assert "deletes nothing" in done.text
    assert lab.store.get(SERVICE) is not None
    again = apply(lab, deployment)
    assert "deletes nothing" not in again.text, "said once"
    # It comes back with a field less: kubectl's last-applied annotation is still on the live object.
    assert apply(lab, deployment + "---\n" + service.replace("  type: LoadBalancer\n", "")).ok
    assert cast(Service, lab.store.get(SERVICE)).type == "ClusterIP"


def test_a_field_removed_from_the_text_goes_back_to_its_default_and_others_writers_stay() -> None:
    text = WEB.replace(
        "metadata: {name: web}\nspec:\n  replicas", "metadata: {name: web, labels: {a: b}}\nspec:\n  replicas"
    )
    lab = web(text)
    key = Key("Deployment", "default", "web")
    assert cast(Deployment, lab.store.get(key)).meta.labels == {"a": "b"}
    address = cast(Service, lab.store.get(SERVICE)).cluster_ip
    assert apply(lab, WEB).ok
    assert cast(Deployment, lab.store.get(key)).meta.labels == {}
    assert cast(Service, lab.store.get(SERVICE)).cluster_ip == address, "what the API server allocated stays"


def test_a_stopped_api_server_refuses() -> None:
    lab = web()
    lab.do(Stop("apiserver"))
    before = state(lab)
    done = apply(lab, WEB.replace("web:1", "web:2"))
    assert not done.ok
    assert "was refused" in done.text
    assert state(lab) == before
    lab.do(Start("apiserver"))
    assert apply(lab, WEB.replace("web:1", "web:2")).ok


def test_tabs_of_a_scenario_are_merged() -> None:
    lab = Lab(load("overview").spec)
    lab.advance(S)
    patches = next(tab for tab in lab.tabs if tab.role == "patches")
    documents = next(tab for tab in lab.tabs if tab.role == "documents" and "replicas: 3" in tab.text)
    assert apply(lab, patches.text, patches.name).text.startswith("0 configured, 0 created")
    product = Key("Deployment", "default", "product")
    selector = cast(Deployment, lab.store.get(product)).template.spec.node_selector
    before = pods(lab)
    assert apply(lab, documents.text.replace("replicas: 3", "replicas: 4"), documents.name).ok
    lab.advance(20 * S)
    live = cast(Deployment, lab.store.get(product))
    assert live.replicas == 4
    assert live.template.spec.node_selector == selector, "the patch is still in force"
    assert before < pods(lab)


INGRESS = """\
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  ingressClassName: nginx
  rules:
  - host: web.example
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
"""


def test_the_url_of_a_client_may_lose_its_service_and_get_it_back() -> None:
    clients = (ClientSpec("http://web.example/", 50.0),)
    text = WEB + INGRESS
    lab = Lab(LabSpec("web", (Tab("web.yaml", text, None),), clients=clients))
    lab.advance(5 * S)
    assert lab.totals.failed == 0
    assert apply(lab, text.replace("name: web, port: {number: 80}", "name: gone, port: {number: 80}")).ok
    lab.advance(10 * S)
    assert lab.totals.by_status["503"] > 100
    assert apply(lab, text).ok
    lab.advance(15 * S)
    failed = lab.totals.failed
    lab.advance(20 * S)
    assert lab.totals.failed == failed


def test_refused_commands_leave_no_trace() -> None:
    lab = web()
    lab.do(Stop("apiserver"))
    before = state(lab)
    story = lab.knowledge()
    victim = Key("Pod", "default", sorted(pods(lab))[0])
    for command in (Kill(victim, "delete"), Scale(Key("Deployment", "default", "web"), 7), Kill(Key("Pod", "", "x")),
                    Scale(Key("Deployment", "default", "nobody"), 1), Stop("kubelet/nobody")):  # fmt: skip
        done = lab.do(command)
        assert not done.ok
        assert "\n" not in done.text.rstrip("\n")
        assert state(lab) == before
        assert lab.knowledge() == story
