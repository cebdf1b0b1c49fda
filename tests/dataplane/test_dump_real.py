"""What the real iptables-save prints, of kube-proxy's rules and of others', is read, printed again and walked the same.

The rules are loaded in a network namespace without a name (`unshare -n`): it is gone when the command ends.
"""

import os
import shutil
import subprocess

import pytest
from clusters import overview
from test_real_iptables import saved_again

from kflab.dataplane.dump import read_dump
from kflab.dataplane.dump_meeting import Known
from kflab.dataplane.dump_walk import explore
from kflab.dataplane.packets import Packet
from kflab.dataplane.world import StaticWorld

PACKETS = [
    Packet("203.0.113.9", 40000, "10.0.1.50", 30443),
    Packet("10.244.1.9", 40000, "10.96.100.50", 80),
    Packet("10.0.1.50", 40000, "10.96.100.50", 80),
    Packet("10.244.2.25", 40000, "10.96.100.50", 80),
    Packet("10.244.1.9", 40000, "10.96.0.10", 53, "UDP"),
    Packet("203.0.113.9", 40000, "10.0.1.50", 22),
]

FOREIGN = r"""
-t raw -A PREROUTING -d 10.0.1.50 -p udp --dport 4789 -j CT --notrack
-t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
-t mangle -A PREROUTING -m conntrack --ctstate INVALID -j DROP
-t nat -N DOCKER
-t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-t nat -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-t nat -A DOCKER -i docker0 -j RETURN
-t nat -A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
-t nat -A POSTROUTING -s 10.244.0.0/16 ! -d 10.244.0.0/16 -m comment --comment "flanneld masq" -j MASQUERADE
-t nat -A POSTROUTING -s 10.0.0.0/255.0.255.0 -j SNAT --to-source 192.0.2.1-192.0.2.4
-t nat -A PREROUTING -p tcp --dport 81 -j REDIRECT --to-ports 8081
-N DOCKER-USER
-A FORWARD -j DOCKER-USER
-A DOCKER-USER -j RETURN
-A INPUT -i lo -j ACCEPT
-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p tcp -m multiport --dports 22,6000:6100 -m limit --limit 3/min -j LOG --log-prefix "in \"odd\" 'way': "
-A INPUT -p tcp -m tcp --dport 22 -m recent --update --seconds 60 --hitcount 4 --name SSH -j DROP
-A INPUT -p tcp -m tcp --dport 22 -m recent --set --name SSH
-A INPUT -p tcp -m tcp ! --syn -m conntrack --ctstate NEW -j REJECT --reject-with tcp-reset
-A INPUT -m u32 --u32 "0x0>>0x18&0xf=0x5:0xf" -j NFLOG --nflog-group 5 --nflog-prefix "a b"
-A INPUT -m iprange --src-range 192.0.2.1-192.0.2.9 -j DROP
-A INPUT -m statistic --mode nth --every 3 --packet 0 -j NFQUEUE --queue-num 2 --queue-bypass
-A INPUT -m hashlimit --hashlimit-above 10/sec --hashlimit-mode srcip --hashlimit-name h -j DROP
-A INPUT -m physdev --physdev-is-bridged -j ACCEPT
-A INPUT -m connmark --mark 0x10/0xf0 -j CONNMARK --restore-mark --nfmask 0xffff --ctmask 0xffff
-A FORWARD -m mark ! --mark 0x0/0xf00 -g DOCKER-USER
-A INPUT -p icmp -m icmp --icmp-type 8 -j ACCEPT
-A INPUT -m comment --comment "it's \\ 100% \"fine\"" -j MARK --set-xmark 0x1/0x1
-P FORWARD DROP
"""


def walks(text: str) -> list[object]:
    (dump,) = read_dump(text, "x")
    known = Known("node-a", ("10.0.1.50", "10.244.1.1"))
    found = []
    for packet in PACKETS:
        explored = explore(dump, packet, known)
        found.append(
            [
                (
                    [(item.question.what, item.holds) for item in case.assumed],
                    [
                        (outcome.result, outcome.chance, [step.text() for step in outcome.path])
                        for outcome in case.outcomes
                    ],
                )
                for case in explored.cases
            ]
        )
    return found


def without_comments(text: str) -> str:
    return "".join(f"{line}\n" for line in text.splitlines() if not line.startswith("#"))


@pytest.mark.parametrize("node", ["node-a", "node-b"])
def test_kube_proxys_rules_as_the_real_tool_saves_them_walk_the_same(node: str) -> None:
    text = StaticWorld.of(overview()).rules[node].save_text()
    saved = saved_again(text, "iptables")
    assert walks(saved) == walks(text)
    (dump,) = read_dump(saved, "x")
    assert dump.family == "IPv4"
    assert dump.text() == without_comments(saved)


def test_rules_of_others_come_back_byte_for_byte_and_are_walked() -> None:
    text = StaticWorld.of(overview()).rules["node-a"].save_text()
    saved_again(text, "iptables")  # skips where that cannot be tried
    if not shutil.which("iptables-save") or os.geteuid() != 0:
        pytest.skip("needs root and iptables")
    lines = [line for line in FOREIGN.splitlines() if line]
    script = "iptables-restore || exit 1\n" + "".join(f"iptables {line} || echo lacking >&2\n" for line in lines)
    command = ["unshare", "-n", "sh", "-c", script + "iptables-save -c\n"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lacking = done.stderr.count("lacking\n")
    assert lacking < len(lines) // 2, done.stderr
    (dump,) = read_dump(done.stdout, "x")
    assert dump.text() == without_comments(done.stdout)
    assert all(walks(done.stdout))
