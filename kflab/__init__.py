"""kflab: a terminal lab for the Kubernetes request path."""

__version__ = "0.1.0"

KUBERNETES_RELEASE = "1.33"
"""The Kubernetes minor release whose defaults and behaviour the lab follows."""
