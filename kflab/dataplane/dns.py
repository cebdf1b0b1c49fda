"""Names: the public DNS in front, CoreDNS inside, and the search list a pod's resolver walks.

Sources: kubernetes/dns specification (records), coredns plugin/kubernetes, plugin/autopath, the cluster's Corefile,
resolv.conf(5), k/k pkg/kubelet/network/dns/dns.go; lifecycle.md 1.7.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from typing import Final

from kflab.dataplane.addresses import IPV4, address_number, family_of
from kflab.manifest.corefile import KUBEADM, Corefile, read_corefile
from kflab.manifest.objects import Key
from kflab.manifest.objects_network import EndpointSlice, Service
from kflab.manifest.objects_pods import PodSpec
from kflab.records import dataclass

DOMAIN: Final = "cluster.local"
NDOTS: Final = 5
KUBEADM_COREFILE: Final = read_corefile(KUBEADM)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer."""

    name: str
    addresses: tuple[str, ...] = ()
    cname: str = ""
    exists: bool = True
    """False: NXDOMAIN."""
    service: Key | None = None
    words: str = ""

    @property
    def found(self) -> bool:
        return bool(self.addresses)


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a resolver asked and got, query by query."""

    asked: tuple[Answer, ...] = ()
    """In order; the last one is the answer that was used, or a miss."""

    @property
    def addresses(self) -> tuple[str, ...]:
        return self.asked[-1].addresses if self.asked else ()

    @property
    def service(self) -> Key | None:
        return self.asked[-1].service if self.asked else None

    @property
    def words(self) -> str:
        """ "product-service.default.svc.cluster.local → 10.96.100.50, the 1st name asked"."""
        if not self.asked:
            return "an address: DNS was not asked"
        last = self.asked[-1]
        if not last.found:
            tried = "name" if len(self.asked) == 1 else f"{len(self.asked)} names"
            of_other_family = (answer for answer in self.asked if answer.exists and answer.service is not None)
            told = next(of_other_family, last)
            return f"{told.name}: {told.words or 'no such name'} ({tried} asked)"
        misses = len(self.asked) - 1
        after = f", after {misses} {'miss' if misses == 1 else 'misses'}" if misses else ""
        return f"{last.name} → {', '.join(last.addresses)}{after}"


@dataclass(frozen=True)
class ClusterDns:
    """CoreDNS as of one revision of what it watches.

    Args:
        services: Services by key.
        slices: EndpointSlices by Service.
        public: Names outside the cluster, with their addresses.
        domain: The cluster domain.
    """

    services: Mapping[Key, Service] = field(default_factory=dict)
    slices: Mapping[Key, tuple[EndpointSlice, ...]] = field(default_factory=dict)
    public: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    domain: str = DOMAIN
    corefile: Corefile = KUBEADM_COREFILE
    """How CoreDNS is configured."""

    @classmethod
    def of(
        cls,
        services: Iterable[Service],
        slices: Iterable[EndpointSlice],
        public: Mapping[str, tuple[str, ...]] | None = None,
        corefile: Corefile = KUBEADM_COREFILE,
    ) -> "ClusterDns":
        """Build from plain objects."""
        grouped: dict[Key, list[EndpointSlice]] = {}
        for piece in slices:
            grouped.setdefault(piece.service, []).append(piece)
        return cls(
            {service.key: service for service in services},
            {key: tuple(pieces) for key, pieces in grouped.items()},
            {name.lower().removesuffix("."): tuple(addresses) for name, addresses in (public or {}).items()},
            corefile.domain or DOMAIN,
            corefile,
        )

    def lookup(self, name: str, family: str = IPV4) -> Answer:
        """A (or AAAA) records of a fully qualified name. CNAMEs are followed, at most 8."""
        wanted = name.lower().removesuffix(".")
        for _ in range(8):
            answer = self._once(wanted, family)
            if not answer.cname:
                return Answer(name, answer.addresses, "", answer.exists, answer.service, answer.words)
            wanted = answer.cname
        return Answer(name, exists=False, words="CNAME chain too long")

    def _once(self, name: str, family: str) -> Answer:
        suffix = f".{self.domain}"
        if not self.corefile.domain and name.endswith(suffix):
            return Answer(name, exists=False, words="CoreDNS' Corefile has no kubernetes plugin")
        if not name.endswith(suffix) and not self.corefile.forwards:
            return Answer(name, exists=False, words="CoreDNS forwards to nobody")
        if not name.endswith(suffix):
            addresses = tuple(ip for ip in self.public.get(name, ()) if family_of(ip) == family)
            return Answer(name, addresses, exists=name in self.public, words="" if addresses else "no such name")
        labels = name.removesuffix(suffix).split(".")
        if len(labels) == 3 and labels[2] == "pod":
            address = labels[0].replace("-", "." if family == IPV4 else ":")
            known = address_number(address) is not None and family_of(address) == family
            known = known and self.corefile.pods != "disabled"
            return Answer(name, (address,) if known else (), exists=known)
        if len(labels) not in {3, 4} or labels[-1] != "svc":
            return Answer(name, exists=False, words="no such name")
        service = self.services.get(Key("Service", labels[-2], labels[-3]))
        if service is None:
            return Answer(name, exists=False, words="no such Service")
        host = labels[0] if len(labels) == 4 else ""
        if service.type == "ExternalName":
            return Answer(name, cname=service.external_name.lower().removesuffix("."), service=service.key)
        if service.headless:
            addresses = self._endpoints(service, host, family)
            words = "headless: the ready endpoints" if addresses else "headless, without a ready endpoint"
            return Answer(name, addresses, exists=bool(addresses), service=service.key, words=words)
        if host:  # an endpoint's own name, which any Service's endpoints have (kubernetes.go, findServices)
            addresses = self._endpoints(service, host, family)
            words = "an endpoint of the Service" if addresses else "no ready endpoint of this name"
            return Answer(name, addresses, exists=bool(addresses), service=service.key, words=words)
        addresses = tuple(ip for ip in service.cluster_ips if family_of(ip) == family)
        # The lab's own clients ask for IPv4; a real one of a dual-stack cluster asks for both.
        words = "ClusterIP" if addresses else f"no {family} ClusterIP, and kflab's clients ask for {family} only"
        return Answer(name, addresses, service=service.key, words=words)

    def _endpoints(self, service: Service, host: str, family: str) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for piece in self.slices.get(service.key, ()):
            for endpoint in piece.endpoints:
                if not (endpoint.ready is None or endpoint.ready or service.publish_not_ready):
                    continue
                for address in endpoint.addresses:
                    label = endpoint.hostname or re.sub(r"[.:]", "-", address)
                    if family_of(address) == family and (not host or host == label):
                        found[address] = None
        return tuple(found)


def asks_cluster_dns(spec: PodSpec) -> bool:
    """Whether a pod's resolv.conf names CoreDNS; else its node's resolvers, which know no Services.

    Source: Kubernetes documentation, Pod's DNS Policy; k/k pkg/kubelet/network/dns/dns.go, getPodDNSType. Of dnsPolicy
    None, where dnsConfig names the servers, the servers are not looked at.
    """
    return spec.dns_policy != "Default" and not (spec.host_network and spec.dns_policy == "ClusterFirst")


def search_list(namespace: str, domain: str = DOMAIN) -> tuple[str, ...]:
    """The search list in a pod's resolv.conf under dnsPolicy ClusterFirst."""
    return (f"{namespace}.svc.{domain}", f"svc.{domain}", domain)


def names_to_ask(name: str, namespace: str, domain: str = DOMAIN, ndots: int = NDOTS) -> tuple[str, ...]:
    """Names a pod's resolver tries, in order: with fewer than `ndots` dots the search list comes first."""
    if name.endswith("."):
        return (name,)
    searched = tuple(f"{name}.{suffix}" for suffix in search_list(namespace, domain))
    return (*searched, name) if name.count(".") < ndots else (name, *searched)


def resolve(dns: ClusterDns, name: str, namespace: str | None, family: str = IPV4, ndots: int = NDOTS) -> Resolution:
    """Resolve a host name.

    Args:
        dns: What CoreDNS (and the public DNS behind it) knows.
        name: Host of a URL; an address needs no query.
        namespace: Namespace of the asking pod; None asks from outside, public names only, without a search list.
        family: IPv4 for A, IPv6 for AAAA.
        ndots: Names with fewer dots go through the search list first.
    """
    if address_number(name) is not None:
        return Resolution()
    if namespace is None:
        key = name.lower().removesuffix(".")
        addresses = tuple(ip for ip in dns.public.get(key, ()) if family_of(ip) == family)
        words = "" if addresses else "public DNS does not know it"
        return Resolution((Answer(name, addresses, exists=bool(addresses), words=words),))
    asked = []
    for candidate in names_to_ask(name, namespace, dns.domain, ndots):
        answer = dns.lookup(candidate, family)
        asked.append(answer)
        if answer.found:
            break
    if dns.corefile.autopath and len(asked) > 1 and asked[-1].found:
        # CoreDNS walks the search list itself, when it is asked for the first name of it (plugin/autopath).
        last = asked[-1]
        asked = [
            replace(last, name=asked[0].name, words=f"{last.words}, found by autopath as {last.name}".lstrip(", "))
        ]
    return Resolution(tuple(asked))
