"""Which changes reload NGINX: routes do, certificates do not; and what it says of each."""

import pytest
from control_clusters import S, cluster, deployment, pods, service

from kflab.control import made
from kflab.control.facts import What
from kflab.errors import KflabError
from kflab.manifest.loader import load
from kflab.manifest.sources import SourceText

INGRESS = """
apiVersion: v1
kind: Namespace
metadata: {name: other}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop, annotations: {NOTES}}
spec:
  ingressClassName: nginx
  tls: [{hosts: [shop.example.com], secretName: shop-tls}]
  rules:
  - host: shop.example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: product-service, port: {number: 80}}}}]}
"""

SECRET = """
apiVersion: v1
kind: Secret
metadata: {name: NAME, namespace: SPACE}
data: {tls.crt: VALUE}
"""

CERTIFICATES, RELOADED = "picked up new certificates", "reloaded with new routes"


def objects(text):
    return load([SourceText("a.yaml", text)]).objects


def told(notes, name, space="default"):
    """What NGINX says it did when a Secret came, and when it changed."""
    given = objects(INGRESS.replace("NOTES", notes))
    plane = cluster(deployment(), service(), *given, *made.ingress_controllers(given).objects)
    facts = []
    for n, value in enumerate(("YQ==", "Yg==")):
        secret = SECRET.replace("NAME", name).replace("SPACE", space).replace("VALUE", value)
        plane.apply(objects(secret))
        facts += plane.run_until((n + 1) * 20 * S)
    return {f.text.split(" ", 3)[-1] for f in facts if f.what is What.RULES_SYNCED and f.text.startswith("NGINX")}


@pytest.mark.parametrize(
    ("notes", "name", "space", "says"),
    [
        ("", "shop-tls", "default", {CERTIFICATES}),
        ("", "of-nobody", "default", set()),
        ("nginx.ingress.kubernetes.io/auth-secret: users", "users", "default", {RELOADED}),
        ("nginx.ingress.kubernetes.io/auth-secret: users", "users", "other", set()),
        ("nginx.ingress.kubernetes.io/auth-tls-secret: other/ca", "ca", "other", {RELOADED}),
    ],
)
def test_a_secret_reloads_nginx_only_where_its_content_is_part_of_the_configuration(notes, name, space, says):
    assert told(notes, name, space) == says


def test_a_slow_controllers_sync_takes_longer_and_later_ones_wait_for_it():
    given = objects(INGRESS.replace("NOTES", ""))

    def picked_up(by):
        plane = cluster(deployment(), service(), *given, *made.ingress_controllers(given).objects)
        plane.run_until(10 * S)
        name = next(name for name in plane.observers if name.startswith("ingress/"))
        plane.slow(name, by)
        plane.crash(pods(plane, app="product")[0].key)
        facts = plane.run_until(40 * S)
        return [f.t_ns for f in facts if f.what is What.RULES_SYNCED and f.by == name]

    usual, late = picked_up(0), picked_up(6 * S)
    assert 5 * S < late[0] - usual[0] <= 7 * S  # the Lua timer's tick after it
    assert late[1] - late[0] >= 6 * S - S
    assert len(usual) >= 2
    plane = cluster(deployment(), service(), *given, *made.ingress_controllers(given).objects)
    with pytest.raises(KflabError, match="kube-proxy/NODE and ingress/NAMESPACE/POD"):
        plane.slow("kubelet/node-1", S)
