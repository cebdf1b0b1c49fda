"""How long NGINX waits for a peer, and when it asks the next one: ConfigMap keys, and annotations of an Ingress.

Source: kubernetes/ingress-nginx internal/ingress/annotations/proxy/main.go (an annotation that is no number counts as
absent), internal/ingress/controller/config/config.go (defaults 5 s, 60 s, "error timeout", 3 tries),
controller/template/template.go buildNextUpstream; nginx documentation, proxy_next_upstream.
"""

from collections.abc import Callable
from typing import Final

from kflab.records import dataclass

TRIES: Final = 3
"""proxy-next-upstream-tries: tries in all."""

MOST_TRIES: Final = 3
"""More are not modelled."""


@dataclass(frozen=True, slots=True)
class Proxying:
    """Settings of one location."""

    connect_s: int | None = None
    """proxy-connect-timeout; None: not given."""
    read_s: int | None = None
    """proxy-read-timeout; None: not given."""
    tries: int = TRIES
    """Tries in all; 1 where proxy-next-upstream is off."""
    non_idempotent: bool = False
    """POST, LOCK and PATCH are tried again too, also when they were sent."""
    left_out: tuple[str, ...] = ()
    """What of the settings is not modelled, in words."""

    def under(self, text: Callable[[str], str], retry_key: bool = False) -> "Proxying":
        """These settings with those of one place on top.

        Args:
            text: Setting by name, "" where it is not given.
            retry_key: Whether the place has the key retry-non-idempotent: the ConfigMap does.
        """
        words, given = text("proxy-next-upstream"), _whole(text("proxy-next-upstream-tries"))
        non_idempotent = self.non_idempotent or (retry_key and text("retry-non-idempotent").lower() == "true")
        tries, said = self.tries, dict.fromkeys(self.left_out)
        if given is not None:
            if not 0 < given <= MOST_TRIES:
                said[f"proxy-next-upstream-tries {given or 'without end'}: NGINX tries {MOST_TRIES} times here"] = None
            tries = min(given, MOST_TRIES) or MOST_TRIES
        if words:
            cases = set(words.split())
            non_idempotent = non_idempotent or "non_idempotent" in cases
            usual = {"error", "timeout"}
            if "off" in cases or not cases & usual:
                tries = 1
            rest = sorted((cases - usual - {"off", "non_idempotent"}) | (usual - cases if tries > 1 else set()))
            if rest:
                said[f"proxy-next-upstream {words!r}: it goes by errors and timeouts alike here"] = None
        limit = _whole(text("proxy-next-upstream-timeout"))
        if limit:
            said[f"proxy-next-upstream-timeout {limit}: tries go on for longer here"] = None
        connect, read = _whole(text("proxy-connect-timeout")), _whole(text("proxy-read-timeout"))
        return Proxying(connect or self.connect_s, read or self.read_s, tries, non_idempotent, tuple(said))


USUAL: Final = Proxying()
"""Where nothing is given."""


def _whole(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else None
