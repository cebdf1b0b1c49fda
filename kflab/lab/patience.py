"""How long a client waits and how often it tries, in the words of the scenario format."""

from typing import Any

from kflab.engine.types import Retry
from kflab.lab.spec import ClientSpec

SERVER_ERRORS = frozenset(range(500, 600))
"""What `5xx` stands for."""


def seconds_text(t_ns: int) -> str:
    """Exact seconds, as the scenario format reads them back."""
    whole, rest = divmod(t_ns, 1_000_000_000)
    return f"{whole}.{rest:09d}".rstrip("0").rstrip(".") + "s" if rest else f"{whole}s"


def retry_words(retry: Retry) -> list[str]:
    """What is tried again, as `retryOn` lists it."""
    named = {"connect-failure": retry.connect_failure, "reset": retry.reset, "timeout": retry.timeout}
    words = [name for name, on in named.items() if on]
    whole = retry.statuses >= SERVER_ERRORS
    others = retry.statuses - SERVER_ERRORS if whole else retry.statuses
    return [*words, *(["5xx"] if whole else []), *map(str, sorted(others))]


def patience_tree(client: ClientSpec) -> dict[str, Any]:
    """The fields of a client that say so, those that are set."""
    times = {
        "timeout": client.timeout_ns,
        "attemptTimeout": client.attempt_timeout_ns,
        "connectTimeout": client.connect_timeout_ns,
        "keepaliveTimeout": client.keepalive_timeout_ns,
    }
    tree: dict[str, Any] = {name: seconds_text(t_ns) for name, t_ns in times.items() if t_ns}
    retry = client.retry
    if retry is None:
        return tree
    tree["retries"] = retry.attempts
    tree["retryOn"] = retry_words(retry)
    tree["backoff"] = {"base": seconds_text(retry.backoff_ns), "max": seconds_text(retry.backoff_max_ns)}
    if retry.budget_percent >= 0:
        interval = seconds_text(retry.budget_interval_ns)
        tree["retryBudget"] = {
            "percent": retry.budget_percent, "interval": interval, "minRetryRate": retry.budget_min_rate,
        }  # fmt: skip
    return tree


def patience_words(client: ClientSpec) -> str:
    """The same in a line; "" for a client that waits as plain ones do and never tries again."""
    tree, parts = patience_tree(client), []
    for name, words in (
        ("timeout", "gives a request up after"), ("attemptTimeout", "an attempt after"),
        ("connectTimeout", "a connect after"), ("keepaliveTimeout", "a silent connection after"),
    ):  # fmt: skip
        if name in tree:
            parts.append(f"{words} {tree[name]}")
    if client.retry is not None:
        times = "once more" if client.retry.attempts == 1 else f"up to {client.retry.attempts} times more"
        wait = f"within {tree['backoff']['base']}, doubled up to {tree['backoff']['max']}"
        parts.append(f"tries {times} on {', '.join(tree['retryOn'])}, {wait}")
        if "retryBudget" in tree:
            budget = tree["retryBudget"]
            parts.append(
                f"retries at most {budget['percent']} % of the requests in {budget['interval']} plus "
                f"{budget['minRetryRate']} per second"
            )
    return "; ".join(parts)
