"""The overview: its packet table, byte for byte its documents, and what the traces say."""

import io
import re
from pathlib import Path

import pytest

from kflab.lab.running import Lab
from kflab.scenario.format import load
from kflab.scenario.tracing import first_request, trace

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared"
BRIEF = SHARED / "brief" / "request-flow-overview.md"

TABLE = [
    ("203.0.113.45:54321", "52.100.10.20:443"),
    ("203.0.113.45:54321", "10.0.1.50:30443"),
    ("203.0.113.45:54321", "10.244.1.10:443"),
    ("10.244.1.10:39123", "10.96.100.50:80"),
    ("10.244.1.10:39123", "10.244.2.25:8080"),
]
"""The brief's "Packet Transformation Example"."""


@pytest.fixture(scope="module")
def overview() -> Lab:
    return Lab(load("overview").spec)


def test_the_documents_are_the_briefs_own_byte_for_byte() -> None:
    if not BRIEF.exists():
        pytest.skip("the shared folder with the brief is not beside this checkout")
    blocks = re.findall(r"```yaml\n(.*?)```", BRIEF.read_text("utf-8"), re.S)
    texts = [tab.text for tab in load("overview").spec.tabs if tab.role == "documents"]
    assert texts == blocks


def test_request_0_makes_the_packet_table(overview: Lab) -> None:
    found = first_request(overview, 0)
    hops = [(hop.after.source, hop.after.destination) for hop in found.hops if hop.number and hop.after]
    assert hops == TABLE
    assert found.status == "200"
    assert found.tries == 1


def test_the_way_back_is_un_nated() -> None:
    found = first_request(Lab(load("overview").spec), 0)
    packets = [(hop.after.source, hop.after.destination) for hop in found.back if hop.after]
    assert packets[0] == ("10.244.2.25:8080", "10.244.1.10:39123")
    assert ("10.96.100.50:80", "10.244.1.10:39123") in packets
    assert packets[-1] == ("52.100.10.20:443", "203.0.113.45:54321")


def test_nginx_did_not_ask_dns_and_a_pod_does() -> None:
    lab = Lab(load("overview").spec)
    found = first_request(lab, 0)
    assert "did not ask DNS" in found.hops[3].why
    pod = next(key for key in lab.store.keys("Pod") if key.name.startswith("product-"))
    asked = lab.run_words(["curl", "http://product-service/products", "--from", f"default/{pod.name}"])
    assert asked.ok
    assert asked.trace_id is not None
    own = lab.open_request(asked.trace_id)
    assert any("product-service.default.svc.cluster.local" in hop.why for hop in own.hops)


def test_defaults_rewrite_the_source_and_go_straight_to_pods() -> None:
    found = first_request(Lab(load("overview-defaults").spec), 0)
    into_pod = found.hops[2].after
    assert into_pod is not None
    assert not into_pod.source.startswith("203.0.113.45")
    upstream = found.hops[3].after
    assert upstream is not None
    assert upstream.destination.startswith("10.244.2.")
    assert found.hops[3].chooser == "round robin"
    assert found.hops[1].chooser == "flow hash"
    assert len([option for option in found.hops[1].alternatives if option.chance]) == 2


def test_defaults_differ_from_overview_in_two_settings_only() -> None:
    texts = {name: next(t.text for t in load(name).spec.tabs if t.role == "patches")
             for name in ("overview", "overview-defaults")}  # fmt: skip

    def settings(text: str) -> list[str]:
        return [line for line in text.splitlines() if not line.lstrip().startswith("#")]

    gone = [line.strip() for line in settings(texts["overview"]) if line not in settings(texts["overview-defaults"])]
    assert gone == ["externalTrafficPolicy: Local", 'nginx.ingress.kubernetes.io/service-upstream: "true"']
    assert not [line for line in settings(texts["overview-defaults"]) if line not in settings(texts["overview"])]


def test_trace_of_any_url_prints_text_and_json(overview: Lab) -> None:
    out = io.StringIO()
    assert trace(overview, "https://api.example.com/nothing", "client", "GET", "text", out) == 0
    assert "404" in out.getvalue().splitlines()[0]
    out = io.StringIO()
    assert trace(overview, "http://10.96.100.50/", "node/node-a", "GET", "json", out) == 0
    assert '"status": "200"' in out.getvalue()
