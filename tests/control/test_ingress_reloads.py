"""Which changes reload NGINX: routes do, certificates do not."""

import pytest
from control_clusters import S, cluster, deployment, service

from kflab.control import made
from kflab.control.facts import What
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


def objects(text):
    return load([SourceText("a.yaml", text)]).objects


def told(notes, name, space="default"):
    """What NGINX does when a Secret comes, and when it changes."""
    given = objects(INGRESS.replace("NOTES", notes))
    plane = cluster(deployment(), service(), *given, *made.ingress_controllers(given).objects)
    facts = []
    for n, value in enumerate(("YQ==", "Yg==")):
        secret = SECRET.replace("NAME", name).replace("SPACE", space).replace("VALUE", value)
        plane.apply(objects(secret))
        facts += plane.run_until((n + 1) * 20 * S)
    found = [f.text for f in facts if f.what is What.RULES_SYNCED and f.text.startswith("NGINX")]
    assert found, "NGINX hears of it in any case"
    return ["reloaded" in text for text in found]


@pytest.mark.parametrize(
    ("notes", "name", "space", "reloads"),
    [
        ("", "shop-tls", "default", False),
        ("", "of-nobody", "default", False),
        ("nginx.ingress.kubernetes.io/auth-secret: users", "users", "default", True),
        ("nginx.ingress.kubernetes.io/auth-secret: users", "users", "other", False),
        ("nginx.ingress.kubernetes.io/auth-tls-secret: other/ca", "ca", "other", True),
    ],
)
def test_a_secret_reloads_nginx_only_where_its_content_is_part_of_the_configuration(notes, name, space, reloads):
    assert set(told(notes, name, space)) == {reloads}
