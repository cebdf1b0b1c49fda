"""upstream-keepalive-*: what a ConfigMap says of the connections that NGINX keeps."""

import pytest

from kflab.dataplane.nginx_keepalive import Keepalive, keepalive_of, seconds


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1h", 3600),
        ("1h 30m", 5400),
        ("90", 90),
        ("500ms", 0.5),
        ("1d12h", 129_600),
        ("", None),
        ("1x", None),
        ("h", None),
    ],
)
def test_times_as_nginx_writes_them(text: str, found: float | None) -> None:
    assert seconds(text) == found


def test_what_is_given_is_read_and_what_is_no_number_is_said() -> None:
    given = {"upstream-keepalive-connections": "0", "upstream-keepalive-timeout": "5", "upstream-keepalive-time": "2m"}
    assert keepalive_of(given) == Keepalive(0, 5, 120.0)
    odd = keepalive_of({"upstream-keepalive-requests": "many", "upstream-keepalive-time": "soon"})
    assert (odd.requests, odd.time_s, odd.connections) == (None, None, 320)
    assert [text.split(" ")[0] for text in odd.left_out] == ["upstream-keepalive-time", "upstream-keepalive-requests"]
