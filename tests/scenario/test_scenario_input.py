"""Scenario files as people mistype them: one line says what is wrong, never a traceback. Nothing is lost in saving."""

import io
from pathlib import Path

import pytest

from kflab.errors import KflabError
from kflab.lab.commands import Apply, Save, SetLoad, SetMode
from kflab.lab.running import Lab
from kflab.scenario.format import load_text
from kflab.scenario.opening import open_what
from kflab.scenario.plain import play

HEAD = """kflab: scenario/v1
duration: 1s
manifests:
  documents:
  - name: a.yaml
    text: |
      apiVersion: v1
      kind: Service
      metadata: {name: a}
      spec: {type: NodePort, selector: {a: b}, ports: [{port: 80}]}
"""

WRONG = """\
expect: [{requestsFailed: {equals: abc}}]
expect: [{requestsFailed: {min: [1]}}]
expect: [{requestsFailed: {}}]
expect: [{readyPods: {equals: 3}}]
expect: [{podShare: {pod: default/a-1, min: 0.2}}]
expect: [{podShare: {pod: a-1, service: default/a, min: 0.2}}]
expect: [{okShare: {pod: default/a-1, service: default/a, min: 0.2}}]
actions: [{at: 0.5, scale: {workload: a/Deployment/b, replicas: x}}]
actions: [{at: 0.5, load: x}]
actions: [{at: 0.5, load: -3}]
actions: [{at: 0.5, load: .nan}]
actions: [{at: 0.5, mode: userspace}]
actions: [{at: 0.5, mode: iptables}]
actions: [{at: 0.5, apply: x}]
actions: [{at: 0.5, apply: [x]}]
actions: [{at: 0.5, apply: 3}]
actions: [{at: 0.5, crash: {workload: a/b/c, ordinal: x}}]
actions: [{at: 0.5, crash: {workload: a/b/c, ordinal: -1}}]
clients: [{url: "http://[::1"}]
clients: [{url: "http://a/", firstRequest: 3}]
clients: [{url: "http://a/", firstRequest: {clientPort: x}}]
cluster: {nodes: x}
cluster: {nodes: -1}
cluster: {nodes: 10000000000}
cluster: {namespace: A B}
cluster: {cold: 3}
cluster: {pins: 3}
cluster: {pins: [podIPs]}
cluster: {pins: {podIPs: 3}}
cluster: {pins: {podIPs: {a/Deployment/b: 3}}}
cluster: {pins: {podIPs: {a/Deployment/b: [nope]}}}
cluster: {pins: {loadBalancerIPs: [a]}}
cluster: {pins: {loadBalancerIPs: {a: nope}}}
cluster: {delays: 3}
timing: {service_p50_ns: x}
timing: {service_p50_ns: 1.5}
timing: {service_p50_ns: 0}
timing: {service_p99_ns: 1}
timing: {connect_timeout_ns: 99999999999999999999999}
traffic: {rate: x}
traffic: {rate: .nan}
traffic: {rate: -1}
traffic: {mode: counts}
traffic: {mode: [auto]}
cluster: {profile: [laptop]}
cluster: {loadBalancer: [kind]}
""".splitlines()


@pytest.mark.parametrize("line", WRONG)
def test_a_mistyped_scenario_is_told_in_one_line(line: str) -> None:
    with pytest.raises(KflabError) as caught:
        play(load_text(HEAD + line, "x.yaml"), io.StringIO())
    assert "\n" not in str(caught.value)


def test_a_cold_lab_is_saved_cold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.yaml").write_text(HEAD)
    lab = Lab(open_what(["in.yaml"], cold=True).spec)
    lab.advance(1_500_000_000)
    assert lab.do(SetLoad(2.0)).ok
    lab.advance(6_000_000_000)
    assert lab.do(Save("cold")).ok
    again = Lab(open_what(["cold.yaml"]).spec)
    again.advance(6_000_000_000)
    assert again.digest() == lab.digest()


def test_files_of_one_name_stay_apart(tmp_path: Path) -> None:
    head = "apiVersion: v1\nkind: Service\nmetadata: {{name: {}}}\n"
    service = head + "spec: {{selector: {{app: x}}, ports: [{{port: 80}}]}}\n"
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.yaml").write_text(service.format(folder))
    (tmp_path / "y.yaml").write_text(service.format("z"))
    (tmp_path / "s.yaml").write_text("kflab: scenario/v1\nmanifests: {documents: [a/x.yaml, b/x.yaml, ./y.yaml]}\n")
    lab = Lab(open_what([str(tmp_path / "s.yaml")]).spec)
    assert [tab.name for tab in lab.tabs] == ["a/x.yaml", "b/x.yaml", "y.yaml"]
    edited = service.format("a").replace("port: 80", "port: 81")
    assert lab.do(Apply((("a/x.yaml", edited),))).text.endswith("2 unchanged")
    refused = lab.do(Apply((("nope.yaml", ""),)))
    assert not refused.ok
    assert "no text named 'nope.yaml'" in refused.text


@pytest.mark.parametrize(
    ("action", "where", "what"),
    [
        ("{at: 5s, mode: userspace}", "3:19", "mode 'userspace': expected one of iptables, ipvs, nftables"),
        ("{at: 5s, mode: [nftables]}", "3:13", "mode ['nftables']: expected one of"),
        ("{at: soon, mode: nftables}", "3:9", "'soon' is not a duration"),
        ("{at: 5s, load: much}", "3:19", "load 'much' must be a number"),
        ("{at: 5s, mod: ipvs}", "3:18", "unknown field 'mod' of an action"),
    ],
)
def test_a_wrong_action_is_told_at_its_place(action: str, where: str, what: str) -> None:
    text = f"kflab: scenario/v1\nactions:\n - {action}\nmanifests: {{documents: [{{name: a, text: ''}}]}}\n"
    with pytest.raises(KflabError) as caught:
        load_text(text, "x.yaml")
    assert str(caught.value).startswith(f"x.yaml:{where}: {what}")


@pytest.mark.parametrize(
    ("action", "where", "what"),
    [
        (
            "delete: endpointslice/x",
            "3:21",
            "pods \"x\" not found in namespace 'endpointslice'; expected NAMESPACE/POD",
        ),
        ("drain: node-9", "3:20", 'nodes "node-9" not found'),
        ("hang: default/x-1", "3:19", "pods \"x-1\" not found in namespace 'default'; expected NAMESPACE/POD"),
        ("crash: {workload: a/Deployment/b}", "3:13", "a/Deployment/b has 0 pods, no ordinal 0"),
    ],
)
def test_an_action_that_cannot_be_done_is_told_at_its_place(action: str, where: str, what: str) -> None:
    space = "{apiVersion: v1, kind: Namespace, metadata: {name: a}}"
    documents = f"documents: [{{name: a, text: '{space}'}}]"
    text = f"kflab: scenario/v1\nactions:\n - {{at: 1s, {action}}}\nmanifests: {{{documents}}}\n"
    lab = Lab(load_text(text, "x.yaml").spec)
    with pytest.raises(KflabError) as caught:
        lab.advance(2 * 10**9)
    assert str(caught.value).startswith(f"x.yaml:{where}: the scenario's action at 1 s failed: ")
    assert what in str(caught.value)


@pytest.mark.parametrize(
    ("line", "where", "what"),
    [
        ("cluster: {delays: {watch_s: 0.1, proxy_sync: 1}}", "3:46", "unknown delay 'proxy_sync'; did you mean"),
        ("cluster: {delays: {proxy_sync_s: [3, 1]}}", "3:20", "delay proxy_sync_s must be a number of seconds"),
        ("timing: {client_lb: 3}", "3:21", "unknown timing 'client_lb'; did you mean 'client_lb_ns'?"),
        ("timing: {dns_ns: soon}", "3:18", "timing.dns_ns 'soon' must be a whole number"),
        ("timing: {dns_timeout_ns: 10}", "3:26", "timing.dns_timeout_ns"),
        ("timing: {neighbour_delay_ns: 9000000000000}", "3:30", "timing.neighbour_delay_ns"),
    ],
)
def test_a_wrong_delay_is_told_at_its_place(line: str, where: str, what: str) -> None:
    with pytest.raises(KflabError) as caught:
        load_text(f"kflab: scenario/v1\nextends: overview\n{line}\n", "x.yaml")
    assert str(caught.value).startswith(f"x.yaml:{where}: {what}")


def test_a_mode_action_is_carried_out_and_saved_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.yaml").write_text("kflab: scenario/v1\nextends: overview\nactions:\n- {at: 1.5s, mode: nftables}\n")
    lab = Lab(open_what(["in.yaml"]).spec)
    lab.advance(7_000_000_000)
    assert "table ip kube-proxy {" in lab.rules_text("node-a")
    assert lab.do(Save("again")).ok
    spec = open_what(["again.yaml"]).spec
    assert [(action.t_ns, action.command) for action in spec.actions] == [(1_500_000_000, SetMode("nftables"))]
    again = Lab(spec)
    again.advance(7_000_000_000)
    assert again.digest() == lab.digest()


def test_a_folder_of_manifests_stands_for_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    for name in ("b.yaml", "a.yml", "notes.txt"):
        text = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name.partition('.')[0]}}}\n"
        (folder / name).write_text(text if name != "notes.txt" else "no: [yaml")
    file = tmp_path / "s.yaml"
    file.write_text("kflab: scenario/v1\nmanifests: {documents: [shop/]}\n")
    assert [tab.name for tab in open_what([str(file)]).spec.tabs] == ["a.yml", "b.yaml"]
    for name in ("b.yaml", "a.yml"):
        (folder / name).unlink()
    with pytest.raises(KflabError, match=r"s\.yaml:2:13: the folder .*shop has no \*\.json, \*\.yaml, \*\.yml files"):
        open_what([str(file)])


def test_a_folder_of_a_scenarios_parts_says_whose_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: a, image: b}]}\n"
    (folder / "web.yaml").write_text(pod)
    assert open_what([str(folder)]).spec.part_of == ""
    (tmp_path / "shop.yaml").write_text(pod)  # a manifest that only happens to have the folder's name
    assert open_what([str(folder)]).spec.part_of == ""
    (tmp_path / "shop.yaml").write_text("kflab: scenario/v1\ntitle: Shop\nmanifests: {documents: [shop/web.yaml]}\n")
    spec = open_what([f"{folder}/"]).spec
    assert spec.part_of == str(tmp_path / "shop.yaml")
    first, how = Lab(spec).assumptions[0]
    assert first.startswith(f"these files are parts of scenario {tmp_path / 'shop.yaml'}")
    assert how == f"kflab {tmp_path / 'shop.yaml'}"
    assert open_what([str(folder / "web.yaml")]).spec.part_of == ""
