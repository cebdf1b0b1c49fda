"""Clients that ask DNS for every request: which names, and which Service they send their questions to.

Simplified: how many names it takes is worked out when the lab starts; a Service that comes or goes later does not
change it.
"""

from dataclasses import replace

from kflab.cluster.store import Store
from kflab.control.corednspods import corefile_in
from kflab.dataplane.dns import NDOTS, ClusterDns, asks_cluster_dns, resolve
from kflab.errors import KflabError
from kflab.lab.entries import Entry
from kflab.manifest.objects import Key
from kflab.manifest.objects_network import Service
from kflab.manifest.objects_pods import Pod

KUBE_DNS = Key("Service", "kube-system", "kube-dns")
"""What the kubelet writes into pods' resolv.conf in kubeadm clusters."""
MOST_NDOTS = 15
"""RES_MAXNDOTS of glibc's resolv.h."""


def dns_entry(store: Store, entry: Entry) -> Entry:
    """The queries of a client's pod, as something that it sends to a Service.

    Raises:
        KflabError: Where there is no kube-dns Service to ask.
    """
    service = store.get(KUBE_DNS)
    ports = service.ports if isinstance(service, Service) else ()
    port = next((port for port in ports if (port.port, port.protocol) == (53, "UDP")), None)
    if port is None:
        raise KflabError("lookups: there is no Service kube-system/kube-dns with port 53/UDP to ask")
    return replace(entry, service=KUBE_DNS, port=port, host=KUBE_DNS.name)


def names_asked(store: Store, pod: Pod, host: str) -> int:
    """How many names a pod's resolver asks until it has a host's address; 0 for an address.

    Raises:
        KflabError: Where the pod does not ask cluster DNS.
    """
    spec = pod.spec
    if not asks_cluster_dns(spec):
        where = " on the host's network" if spec.host_network else ""
        raise KflabError(f"lookups: pod {pod.key.name} does not ask cluster DNS: dnsPolicy {spec.dns_policy}{where}")
    services = [obj for obj in store.of_kind("Service") if isinstance(obj, Service)]
    dns = ClusterDns.of(services, (), corefile=corefile_in(store))
    asked = len(resolve(dns, host, pod.meta.namespace, ndots=ndots(spec.dns_options)).asked)
    # A name outside is one that CoreDNS finds elsewhere: by autopath in the answer to the first question.
    return min(1, asked) if dns.corefile.autopath else asked


def ndots(options: tuple[tuple[str, str], ...]) -> int:
    """The option ndots of a pod's dnsConfig, capped as glibc does; 5 as the kubelet writes it."""
    given = dict(options).get("ndots", "")
    return min(int(given), MOST_NDOTS) if given.isdecimal() else NDOTS
