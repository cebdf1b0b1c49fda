"""Corefiles: what CoreDNS would do by them, and what it would not start with."""

import pytest

from kflab.errors import KflabError
from kflab.manifest.corefile import KUBEADM, Corefile, is_coredns, read_corefile
from kflab.manifest.objects_pods import Container

OLD = """# kubeadm before 1.32
.:53 {
    errors
    health
    kubernetes cluster.local. in-addr.arpa {
       pods verified
    }
    autopath @kubernetes
    hosts { # a block of its own
       10.0.0.1 db.internal
    }
    forward . 8.8.8.8
    cache 30
}
"""


def test_kubeadms_own():
    assert read_corefile(KUBEADM) == Corefile(
        lameduck_ms=5000, ports={"health": 8080, "ready": 8181, "prometheus": 9153}, domain="cluster.local",
        pods="insecure", ttl_s=30, forwards=True,
    )  # fmt: skip


def test_an_older_one_without_lameduck_ready_and_with_a_cache_of_the_cluster():
    found = read_corefile(OLD)
    assert (found.lameduck_ms, found.domain, found.pods, found.autopath) == (0, "cluster.local", "verified", True)
    assert found.ports == {"health": 8080}
    assert (found.ttl_s, found.caches_s) == (5, 5)
    assert found.left_out == ("hosts",)
    assert [found.listens(port) for port in (53, 8080, 8181, 9153, 12345)] == [True, True, False, False, True]


def test_server_blocks_have_zones_and_ports_and_their_lameducks_add_up():
    found = read_corefile(
        "dns://.:1053, example.org:1053 {\n health :8090 {\n  lameduck 1m500ms\n }\n}\n"
        "cluster.local:1053 {\n kubernetes\n health :8091 {\n  lameduck 2s\n }\n cache 30 {\n  disable success\n }\n}\n"
    )
    assert found.zones == ((".", 1053), ("example.org", 1053), ("cluster.local", 1053))
    assert found.lameduck_ms == 62_500
    assert found.domain == "cluster.local"
    assert not found.listens(53)
    assert not found.forwards
    assert found.caches_s == 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (".:53 {\n errors\n", "Corefile:1: the block of .:53 does not end"),
        (".:53 {\n}\n}\n", "Corefile:3: '}' without a block"),
        (".:53\n", "Corefile:1: '.:53' stands alone"),
        ("{\n}\n", "Corefile:1: a server block without a zone"),
        (".:dns {\n}\n", "Corefile:1: '.:dns' has no port"),
        (".:53 {\n health {\n  lameduck soon\n }\n}\n", "Corefile:2: lameduck 'soon'; expected a duration"),
        (".:53 {\n kubernetes {\n  ttl 4000\n }\n}\n", "Corefile:2: ttl '4000'; expected seconds from 0 to 3600"),
        (".:53 {\n kubernetes {\n  pods some\n }\n}\n", "Corefile:2: pods 'some'; expected disabled, insecure"),
    ],
)
def test_what_coredns_would_not_start_with(text, words):
    with pytest.raises(KflabError) as caught:
        read_corefile(text)
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize(
    ("image", "is_it"),
    [
        ("registry.k8s.io/coredns/coredns:v1.12.0", True),
        ("rancher/mirrored-coredns-coredns:1.10.1", True),
        ("602401143452.dkr.ecr.eu-west-1.amazonaws.com/eks/coredns:v1.11.4-eksbuild.2", True),
        ("k8s.gcr.io/dns/k8s-dns-node-cache:1.23", False),
        ("coredns.example.org/nginx", False),
    ],
)
def test_who_is_coredns(image, is_it):
    assert is_coredns(Container("x", image)) is is_it
