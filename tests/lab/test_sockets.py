"""WebSockets through ingress-nginx: who cuts them, when, and whom they are led to."""

from pathlib import Path

import pytest

from kflab.control.facts import What
from kflab.errors import KflabError
from kflab.lab.commands import Apply, Kill, Scale
from kflab.lab.running import Lab
from kflab.manifest.objects import Key
from kflab.scenario.format import load, load_text

SCENARIOS = Path(__file__).parents[2] / "scenarios"
S = 1_000_000_000
PATH = """      - path: /{name}
        pathType: Prefix
        backend: {{service: {{name: product, port: {{number: 80}}}}}}
"""


def quiet(shutdown_s: float = 30, sockets: int = 900) -> Lab:
    text = f"""
kflab: scenario/v1
duration: 120s
manifests: {{documents: [{SCENARIOS}/node-power-loss/product.yaml, {SCENARIOS}/node-power-loss/shop.yaml]}}
cluster: {{nodes: 3, delays: {{ingress_worker_shutdown_s: {shutdown_s:g}}}}}
clients:
- {{name: browser, url: "http://shop.example.com/", rate: 5, sockets: {sockets}}}
"""
    return Lab(load_text(text, "s.yaml").spec)


def reload(lab: Lab, name: str) -> int:
    """Add a path to the Ingress; return when NGINX had reloaded, ns."""
    text = next(tab.text for tab in lab.tabs if tab.name == "shop.yaml") + PATH.format(name=name)
    assert lab.do(Apply((("shop.yaml", text),))).ok
    start = lab.t_ns
    lab.advance(start + 5 * S)
    return next(f.t_ns for f in lab.facts if f.what is What.RULES_SYNCED and f.t_ns > start and "reloaded" in f.text)


def test_the_old_workers_sockets_are_cut_when_their_time_is_over_and_not_before() -> None:
    lab = quiet()
    lab.advance(5 * S)
    reloaded = reload(lab, "one")
    group = lab.sockets.groups[0]
    lab.advance(reloaded + 30 * S - 1)
    assert (group.open, lab.sockets.cut) == (900, 0)
    lab.advance(reloaded + 30 * S + 1)
    assert (group.open, lab.sockets.cut) == (900, 900), "they were opened anew"
    assert set(group.opened_ns.tolist()) == {reloaded + 30 * S}


def test_a_second_reload_does_not_put_the_first_ones_end_off() -> None:
    lab = quiet()
    lab.advance(5 * S)
    first = reload(lab, "one")
    second = reload(lab, "two")
    lab.advance(first + 30 * S + 1)
    assert lab.sockets.cut == 900
    lab.advance(second + 30 * S + 1)
    assert lab.sockets.cut == 900, "what was opened after both is over new workers"


def test_endpoints_alone_cut_nothing_but_what_led_to_the_pod_that_ended() -> None:
    lab = quiet()
    group = lab.sockets.groups[0]
    shares = {pod: int((group.server == i).sum()) for i, (_, _, _, pod) in enumerate(lab.wiring.servers) if pod}
    product = {pod: n for pod, n in shares.items() if pod.name.startswith("product-")}
    assert sum(product.values()) == 900
    assert all(240 < n < 360 for n in product.values()), product
    assert lab.do(Scale(Key("Deployment", "default", "product"), 4)).ok
    lab.advance(30 * S)
    assert lab.sockets.cut == 0
    victim = next(iter(product))
    assert lab.do(Kill(victim)).ok
    lab.advance(31 * S)
    assert lab.sockets.cut == product[victim]
    assert group.cut == {"the pod behind them ended": product[victim]}


def test_an_ingress_pod_that_crashes_cuts_all_and_they_come_back_with_it() -> None:
    lab = quiet()
    lab.advance(5 * S)
    group = lab.sockets.groups[0]
    ingress = lab.wiring.servers[int(group.ingress[0])][3]
    assert lab.do(Kill(ingress)).ok
    lab.advance(5 * S + 1)
    assert lab.sockets.cut == 900
    lab.advance(30 * S)
    assert group.open == 900


def test_the_story_does_not_depend_on_steps() -> None:
    found = []
    for step in (100_000_000, 7 * S):
        lab = quiet()
        while lab.t_ns < 42 * S:
            lab.advance(lab.t_ns + step)
            if lab.t_ns == 7 * S:
                pod = next(key for key in lab.store.keys("Pod") if key.name.startswith("product-"))
                assert lab.do(Kill(pod)).ok
        group = lab.sockets.groups[0]
        found.append((group.cut, group.opened_ns.tolist(), group.server.tolist()))
    assert found[0] == found[1]


def test_the_lab_says_what_it_assumes_and_saves_it(tmp_path: Path) -> None:
    scenario = load(str(SCENARIOS / "ingress-reload.yaml"))
    lab = Lab(scenario.spec)
    assert any("keeps 10,000 WebSockets open" in text for text, _ in lab.assumptions)
    path = tmp_path / "again.yaml"
    assert lab.journal.save(str(path), lab).ok
    assert load(str(path)).spec.clients == scenario.spec.clients
    assert lab.sockets.words() == ["browser: 10,000 open; none cut"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("url: http://web, from: default/x, sockets: 3", "sockets is for a client outside"),
        ("url: tcp://web, sockets: 3", "sockets is for a client outside"),
        ("url: http://web, sockets: many", "sockets 'many' must be a whole number"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(fields: str, said: str) -> None:
    text = f"kflab: scenario/v1\nmanifests: {{documents: [{{name: a.yaml, text: ''}}]}}\nclients:\n- {{{fields}}}\n"
    with pytest.raises(KflabError, match=r"^s\.yaml:\d+:\d+: ") as caught:
        load_text(text, "s.yaml")
    assert said in str(caught.value)


def test_the_screen_says_what_was_cut_and_why_and_marks_the_instant() -> None:
    lab = quiet()
    lab.advance(5 * S)
    snapshot = lab.snapshot()
    assert [(row.client, row.open, row.cut) for row in snapshot.sockets] == [("browser", 900, ())]
    reloaded = reload(lab, "one")
    lab.advance(reloaded + 33 * S)
    snapshot = lab.snapshot()
    row = snapshot.sockets[0]
    assert (row.open, row.cut, row.last_cut_ns) == (900, (("NGINX ended its old workers", 900),), reloaded + 30 * S)
    said = "".join(span.text for span in snapshot.story)
    assert said == "✖ 900 WebSockets cut 3.00 s ago: NGINX ended its old workers. browser has 900 open."
    assert [(mark.t_ns, mark.kind) for mark in snapshot.marks][-1] == (reloaded + 30 * S, "cut")
    lab.advance(reloaded + 41 * S)
    assert lab.snapshot().story == ()


def test_a_killed_pods_own_story_comes_before_the_sockets_that_it_took_along() -> None:
    lab = quiet()
    lab.advance(5 * S)
    pod = next(key for key in lab.store.keys("Pod") if key.name.startswith("product-"))
    assert lab.do(Kill(pod)).ok
    lab.advance(5 * S + S // 20)
    snapshot = lab.snapshot()
    assert snapshot.story[0].text.startswith(f"✖ {pod.name} crashed 0.05 s ago")
    assert snapshot.sockets[0].cut[0][0] == "the pod behind them ended"
    assert sum(number for _, number in snapshot.sockets[0].cut) in range(230, 370), "a third of them"
