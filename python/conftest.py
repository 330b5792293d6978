"""What the examples in docstrings may use: rl, pa and a connected loom."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

import rasterloom as rl

pytest_plugins = ["tests.suite_fixtures"]


@pytest.fixture(autouse=True)
def _names(request: pytest.FixtureRequest, doctest_namespace: dict[str, Any]) -> None:
    if not isinstance(request.node, pytest.DoctestItem):
        return
    doctest_namespace.update(rl=rl, pa=pa)
    if any("loom" in example.source for example in request.node.dtest.examples):
        doctest_namespace["loom"] = request.getfixturevalue("loom")
