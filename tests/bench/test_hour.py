"""The simulated hour: what it measures is what it says, never how fast something was."""

import pytest

from kflab.bench import hour
from kflab.lab.spec import AUTO, FLOWS


@pytest.mark.parametrize("path", hour.PATHS)
def test_a_short_one(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NODES": 3, "PODS": 8, "RATE_RPS": 100}.items():
        monkeypatch.setattr(hour, name, value)
    counted, flows = hour.measure(path, AUTO, 120), hour.measure(path, FLOWS, 40)
    assert counted.sent == pytest.approx(12_000, rel=0.05)
    assert flows.sent == pytest.approx(4000, rel=0.05)
    # Every pod is replaced with a preStop sleep: nobody is refused, and the update is followed.
    assert counted.failed == 0
    assert 0 < counted.update_cpu_s < counted.cpu_s
    assert 50 < counted.counted_s < 110
    assert counted.counted == pytest.approx(100 * counted.counted_s, rel=0.1)
    assert flows.counted == flows.counted_s == flows.update_cpu_s == 0
    assert min(counted.rate, flows.rate, counted.peak_mib) > 0
