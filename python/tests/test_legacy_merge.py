"""The deprecated way to merge warns, and gives the same table."""

from __future__ import annotations

import json

import pytest

import rasterloom as rl


def test_legacy_merge_warns_and_gives_the_same_table(loom: rl.Loom) -> None:
    layers = ["coads_sst_jan", "oisst_19811231"]
    with pytest.warns(DeprecationWarning, match="use_legacy_merge is deprecated"):
        old = loom.merge(layers, use_legacy_merge=True)
    new = loom.merge(layers)
    assert any("use_legacy_merge is deprecated" in text for text in old.plan.warnings)
    assert not any("deprecated" in text for text in new.plan.warnings)
    assert "deprecated" in json.loads(old.schema.metadata[b"rasterloom"])
    assert old.to_arrow().num_rows > 10_000
    assert old.to_arrow().equals(new.to_arrow())
