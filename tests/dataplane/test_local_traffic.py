"""detectLocalMode: what tells pods from others, in every mode's text and for packets."""

from pathlib import Path

import pytest

from kflab.cli import main

APP = """---
apiVersion: v1
kind: Node
metadata: {name: node-a}
spec: {podCIDR: 10.244.1.0/24}
status: {addresses: [{type: InternalIP, address: 10.0.1.50}]}
---
apiVersion: v1
kind: Node
metadata: {name: node-b}
spec: {podCIDR: 10.244.2.0/24}
status: {addresses: [{type: InternalIP, address: 10.0.1.51}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.80, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec: {nodeName: node-b, containers: [{name: c, image: "web:1", ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: node-a, containers: [{name: c, image: "curl:1"}]}
"""
CONFIG = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: {mode}\n{how}\n"
BRIDGE = "detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: cbr0}"
PREFIX = "detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: veth}"
CLUSTER = "clusterCIDR: 10.244.0.0/16"


def write(folder: Path, mode: str, how: str) -> str:
    (folder / "a.yaml").write_text(CONFIG.format(mode=mode, how=how) + APP)
    return str(folder)


@pytest.mark.parametrize(
    ("mode", "how", "written"),
    [
        ("iptables", BRIDGE, "-d 10.96.0.80/32 ! -i cbr0 -p tcp"),
        ("iptables", PREFIX, "-d 10.96.0.80/32 ! -i veth+ -p tcp"),
        ("nftables", BRIDGE, 'ip daddr 10.96.0.80 tcp dport 80 iif != "cbr0" jump mark-for-masquerade'),
        ("nftables", PREFIX, 'ip daddr 10.96.0.80 tcp dport 80 iifname != "veth*" jump mark-for-masquerade'),
        ("ipvs", BRIDGE, "-A KUBE-SERVICES ! -i cbr0"),
    ],
)
def test_the_text_asks_for_the_interface(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: str, how: str, written: str
) -> None:
    assert main(["rules", "-f", write(tmp_path, mode, how), "--node", "node-a"]) == 0
    assert written in capsys.readouterr().out


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
@pytest.mark.parametrize(
    ("how", "caller", "seen"),
    [
        (BRIDGE, "default/client", "10.244.1.2"),  # a pod of this node comes in by the bridge
        (BRIDGE, "node/node-a", "10.0.1.50"),
        ("detectLocalMode: BridgeInterface", "default/client", "10.244.1.2"),  # no name: no detector
        (CLUSTER, "default/client", "10.244.1.2"),
    ],
)
def test_who_is_masqueraded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: str, how: str, caller: str, seen: str
) -> None:
    folder = write(tmp_path, mode, how)
    assert main(["trace", "http://10.96.0.80/", "-f", folder, "--from", caller]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if "Service to Pod" in line)
    assert row.split(":")[1].split()[-1] == seen


def test_a_missing_name_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path, "iptables", "detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: ''}")
    assert main(["replay", folder, "--duration", "1s"]) == 0
    assert 'detectLocal.bridgeInterface: Invalid value: "": must not be empty' in capsys.readouterr().out
