"""The examples of docs/python.md, run as they are printed there."""

from __future__ import annotations

import doctest
from pathlib import Path

import rasterloom as rl

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"


def test_examples_of_the_page(loom: rl.Loom) -> None:
    assert loom.layers()
    result = doctest.testfile(str(PAGE), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 10
    assert result.failed == 0
