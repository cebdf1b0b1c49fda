"""Bench (h), small: what it asserts while it measures must hold in every mode."""

import json
from pathlib import Path

import pytest

from kflab.bench import rules
from kflab.dataplane.modes import MODES


@pytest.mark.parametrize("mode", MODES)
def test_naive_and_indexed_walks_agree_after_hundreds_of_changes(mode: str) -> None:
    found = rules.measure(mode, 700, 40)
    assert (found.services, found.endpoints, found.nodes) == (700, 7_000, 40)
    # Each Service has a chain or virtual server of its own, each endpoint a line at least.
    assert found.lines > 7_000
    assert 0 < found.change_p50_ms <= found.change_max_ms


def test_vector_files_are_counted_and_foreign_ones_left_out(tmp_path: Path) -> None:
    assert rules.conform(tmp_path) is None
    folder = tmp_path / "ingress"
    folder.mkdir()
    (folder / "some.json").write_text(json.dumps({"format": "kflab-ingress-vectors", "vectors": []}))
    (folder / "other.json").write_text(json.dumps({"format": "somebody-elses"}))
    found = rules.conform(tmp_path)
    assert found is not None
    assert (found.files, found.left_out, found.failed) == (1, 1, 0)
