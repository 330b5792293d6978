"""From the rows of a merged table back to rasters.

A merged table says in its schema's metadata which lattice it lies on, so that
rows become arrays by one scatter on integer indices: no pivot, no sort, no
comparison of floating-point coordinates. The metadata survive in Parquet.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from rasterloom.errors import InvalidArgument, invalid, needs
from rasterloom.grid import Grid, Window

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa
    import xarray as xr
    from numpy.typing import NDArray

    Masked = np.ma.MaskedArray[tuple[int, ...], np.dtype[Any]]

__all__ = ["METADATA_KEY", "Lattice", "to_numpy", "to_xarray"]

METADATA_KEY = b"rasterloom"
COORDINATES = ("x", "y", "row", "col")


@dataclass(frozen=True, slots=True)
class Lattice:
    """What the metadata of a merged table say.

    Attributes
    ----------
    grid : Grid
        The reference lattice.
    window : Window
        The part of it that the table covers.
    reference : str
        The layer that the lattice comes from; empty for an explicit grid.
    layers : tuple of dict
        Per column: layer, generation, verdict, shift, position error and more.
    """

    grid: Grid
    window: Window
    reference: str
    layers: tuple[dict[str, Any], ...]

    @classmethod
    def of(cls, schema: pa.Schema) -> Lattice:
        """Read the metadata of a schema.

        Raises
        ------
        InvalidArgument
            The schema has no such metadata, so it is not of a merged table, or
            it lost them on the way (pandas and polars drop them).
        """
        text = (schema.metadata or {}).get(METADATA_KEY)
        if text is None:
            raise InvalidArgument(
                "the table has no rasterloom metadata in its schema, so its lattice is not known",
                reason="INVALID_ARGUMENT",
                fields={"field": "schema.metadata"},
            )
        facts: dict[str, Any] = json.loads(text)
        if facts.get("version") != 1:
            raise InvalidArgument(
                f"the table has metadata of version {facts.get('version')}, and this client reads version 1",
                reason="INVALID_ARGUMENT",
                fields={"field": "schema.metadata", "version": str(facts.get("version"))},
            )
        return cls(
            grid=Grid(crs=facts["crs"], **facts["grid"]),
            window=Window(**facts["window"]),
            reference=facts["reference"],
            layers=tuple(facts["layers"]),
        )

    @property
    def columns(self) -> set[str]:
        """Names of the layers' columns."""
        return {layer["column"] for layer in self.layers}

    @property
    def shifts(self) -> list[str]:
        """Say of each layer that was moved by a part of a cell how far; whole cells, and resampling, are no shift."""
        onto = f"the lattice of {self.reference}" if self.reference else "the reference lattice"
        said: list[str] = []
        for layer in self.layers:
            if layer["verdict"] == "SHIFT" and not layer.get("resampling"):
                axes = zip("xy", layer["shift_pixels"], layer["shift"], strict=True)
                moves = [f"{abs(px):.3g} px on {axis} ({by:+.6g} in units of the CRS)" for axis, px, by in axes if px]
                said.append(f"{layer['name']} is shifted by {' and '.join(moves)} to {onto}")
        return said

    @property
    def cropped(self) -> Grid:
        """The window as a grid of its own."""
        rows, cols = self.window.shape
        return Grid(
            crs=self.grid.crs,
            rows=rows,
            cols=cols,
            origin_x=self.grid.origin_x + self.window.col_start * self.grid.step_x,
            origin_y=self.grid.origin_y - self.window.row_start * self.grid.step_y,
            step_x=self.grid.step_x,
            step_y=self.grid.step_y,
        )

    @property
    def x(self) -> NDArray[np.float64]:
        """Centres of the window's columns, shape (cols,), equal to the table's x to the bit."""
        cols = np.arange(self.window.col_start, self.window.col_stop, dtype=np.float64)
        return self.grid.origin_x + (cols + 0.5) * self.grid.step_x

    @property
    def y(self) -> NDArray[np.float64]:
        """Centres of the window's rows, shape (rows,), equal to the table's y to the bit."""
        rows = np.arange(self.window.row_start, self.window.row_stop, dtype=np.float64)
        return self.grid.origin_y - (rows + 0.5) * self.grid.step_y

    def positions(self, table: pa.Table) -> NDArray[np.int64]:
        """Give each row's place in the flattened window, from row and col, or else from x and y.

        A column of a layer says nothing of it, whatever its name.
        """
        names = set(table.column_names) - self.columns
        if {"row", "col"} <= names:
            rows = _numbers(table, "row").astype(np.int64)
            cols = _numbers(table, "col").astype(np.int64)
        elif {"x", "y"} <= names:
            # Centres lie half a step from the edges: rounding cannot go wrong.
            cols = np.rint((_numbers(table, "x") - self.grid.origin_x) / self.grid.step_x - 0.5).astype(np.int64)
            rows = np.rint((self.grid.origin_y - _numbers(table, "y")) / self.grid.step_y - 0.5).astype(np.int64)
        else:
            raise InvalidArgument(
                "the table has neither x and y nor row and col, so its cells have no place; "
                "merge with coordinates='xy' or 'row_col'",
                reason="INVALID_ARGUMENT",
                fields={"field": "coordinates"},
            )
        height, width = self.window.shape
        rows -= self.window.row_start
        cols -= self.window.col_start
        if len(rows) and (min(rows.min(), cols.min()) < 0 or rows.max() >= height or cols.max() >= width):
            raise InvalidArgument(
                "the table has cells outside the window that its metadata name",
                reason="INVALID_ARGUMENT",
                fields={"field": "schema.metadata"},
            )
        return rows * width + cols


def window_of(schema: pa.Schema) -> Window | None:
    """Give the window of a merged table; None for a table that does not tell."""
    return Lattice.of(schema).window if METADATA_KEY in (schema.metadata or {}) else None


def check_names(columns: Iterable[str], taken: Iterable[str], what: str) -> None:
    """Refuse layers whose columns have names that are needed otherwise."""
    for name in columns:
        if name in taken:
            raise InvalidArgument(
                f"{what} needs the name {name!r}, which the column of a layer has",
                reason="COLUMN_REPEATED",
                fields={"field": "layers", "column": name},
            )


def to_numpy(table: pa.Table) -> dict[str, Masked]:
    """Lay out each layer of a merged table as a masked array.

    Parameters
    ----------
    table : pyarrow.Table
        A merged table with its metadata, from a merge or from its Parquet file.

    Returns
    -------
    dict of str to numpy.ma.MaskedArray
        Per column an array of shape (rows, cols), north row first, of the
        column's own type; masked where the layer has no value.

    Examples
    --------
    >>> arrays = rl.to_numpy(loom.merge(["olinda-l7-b1", "olinda-l7-b4"], types="declared").to_arrow())
    >>> arrays["olinda-l7-b4"].shape, arrays["olinda-l7-b4"].dtype
    ((352, 349), dtype('uint8'))
    """
    lattice = _lattice_of(table)
    shape = lattice.window.shape
    positions = lattice.positions(table)
    out: dict[str, Masked] = {}
    for name in table.column_names:
        if name in COORDINATES and name not in lattice.columns:
            continue
        column = table.column(name)
        values = np.zeros(shape, column.type.to_pandas_dtype())
        mask = np.ones(shape, bool)
        values.ravel()[positions] = column.fill_null(cast("Any", 0)).to_numpy()
        mask.ravel()[positions] = column.is_null().to_numpy()
        out[name] = np.ma.masked_array(values, mask)
    return out


def to_xarray(table: pa.Table) -> xr.Dataset:
    """Lay out a merged table as a dataset with dimensions (y, x).

    Parameters
    ----------
    table : pyarrow.Table
        A merged table with its metadata, from a merge or from its Parquet file.

    Returns
    -------
    xarray.Dataset
        One variable per layer; y runs from north to south. A layer without
        missing cells keeps its type. In others missing is NaN: integers up to
        16 bits become float32, wider ones float64. The attributes are what
        netCDF can keep; :meth:`Loom.ingest` takes the dataset as it is.

    Examples
    --------
    >>> ds = loom.merge(["coads_sst_jan", "oisst_19811231"]).to_xarray()
    >>> dict(ds.sizes)
    {'y': 90, 'x': 180}
    >>> ds.coads_sst_jan.attrs["verdict"]
    'IDENTICAL'
    """
    with needs("xarray", "to_xarray"):
        import xarray as xr

    lattice = _lattice_of(table)
    check_names(lattice.columns, ("x", "y"), "a dataset")
    about = {layer["column"]: layer for layer in lattice.layers}
    variables: dict[str, tuple[tuple[str, str], NDArray[Any], dict[str, Any]]] = {}
    for name, array in to_numpy(table).items():
        # The CRS besides that of the dataset, since a variable is taken out of it.
        variables[name] = (("y", "x"), _filled(array), _attributes(about.get(name, {}) | {"crs": lattice.grid.crs}))
    return xr.Dataset(
        variables,
        coords={"y": ("y", lattice.y), "x": ("x", lattice.x)},
        attrs={"crs": lattice.grid.crs, "reference": lattice.reference},
    )


def _attributes(facts: dict[str, Any]) -> dict[str, Any]:
    """Write facts as netCDF takes them: those of a fact with its name before theirs, a flag as 0 or 1."""
    flat: dict[str, Any] = {}
    for key, value in facts.items():
        if isinstance(value, dict):
            inner = cast("dict[str, Any]", value)
            flat |= {f"{key}_{name}": fact for name, fact in _attributes(inner).items()}
        elif value not in ("", None):
            flat[key] = int(value) if isinstance(value, bool) else value
    return flat


def _lattice_of(table: object) -> Lattice:
    """Read the metadata of what should be a table of Arrow's."""
    import pyarrow as pa

    if not isinstance(table, pa.Table):
        raise invalid(
            "table", type(table), "a pyarrow.Table: other libraries drop the metadata, which have the lattice"
        )
    return Lattice.of(table.schema)


def _filled(array: Masked) -> NDArray[Any]:
    if not array.mask.any():
        return cast("NDArray[Any]", array.data)
    if array.dtype.kind == "f":
        return array.filled(np.nan)
    filled = array.data.astype(np.float32 if array.dtype.itemsize <= 2 else np.float64)
    filled[array.mask] = np.nan
    return filled


def _numbers(table: pa.Table, name: str) -> NDArray[Any]:
    return table.column(name).to_numpy()
