"""Fixtures of the engine's tests."""

import pytest
from small_path import MakeEngine, make


@pytest.fixture
def make_engine() -> MakeEngine:
    return make
