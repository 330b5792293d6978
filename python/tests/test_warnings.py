"""What a merge does to positions is told once, where the caller reads it."""

from __future__ import annotations

import warnings

import pytest

import rasterloom as rl

SST = ["coads_sst_jan", "oisst_19811231"]
HALF = r"oisst_19811231 is shifted by 0.5 px on x \(\+1 in units of the CRS\) to the lattice of coads_sst_jan"


@pytest.mark.parametrize("read", ["to_arrow", "to_pandas", "to_numpy", "to_xarray", "to_reader", "to_batches"])
def test_the_first_read_tells_of_a_shift(loom: rl.Loom, read: str) -> None:
    merge = loom.merge(SST)
    with pytest.warns(rl.AlignmentWarning, match=HALF) as told:
        next(iter(getattr(merge, read)()))
    assert len(told) == 1
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        merge.to_arrow()
        assert merge.plan


@pytest.mark.parametrize(
    ("layers", "options"),
    [
        (["nc_pr_01", "nc_tas_01"], {}),  # one lattice
        (["oisst_19811231"], {"reference": rl.Grid("EPSG:4326", 90, 180, 21, 90, 2, 2)}),  # apart by whole cells
        (SST, {"reference": "coads_sst_jan", "resampling": {"oisst_19811231": "bilinear"}}),
        ({"rain": "nc_pr_01", "sea": "coads_sst_jan"}, {"reference": "nc_pr_01", "resampling": "bilinear"}),
    ],
)
def test_what_is_no_shift(loom: rl.Loom, layers, options: dict[str, object]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loom.merge(layers, **options).to_arrow()


def test_a_shift_is_refused_where_warnings_are_errors(loom: rl.Loom) -> None:
    merge = loom.merge(SST)
    with warnings.catch_warnings():
        warnings.simplefilter("error", rl.AlignmentWarning)
        for _ in range(2):
            with pytest.raises(rl.AlignmentWarning, match=HALF):
                merge.to_arrow()


def test_tolerance_is_of_what_remains_after_a_shift(loom: rl.Loom) -> None:
    """docs/python.md says that it refuses no shift."""
    with pytest.warns(rl.AlignmentWarning):
        assert loom.merge(SST, tolerance=1e-6).to_arrow().num_rows
