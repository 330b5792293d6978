"""A merge: described now, read when asked for."""

from __future__ import annotations

import errno
import itertools
import math
import os
import secrets
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rasterloom import lattice
from rasterloom._arrow import dtype_of, fields_of
from rasterloom._gen.merger.v1 import export_pb2, merger_pb2
from rasterloom._progress import BAR, progress_bar
from rasterloom._reader import Reader
from rasterloom._render import html_table
from rasterloom.errors import AlignmentWarning, RasterloomError, needs
from rasterloom.export import Export
from rasterloom.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    import duckdb
    import pandas as pd
    import polars as pl
    import xarray as xr

    from rasterloom._progress import Progress
    from rasterloom.connection import Connection

__all__ = ["Merge"]

ROW_GROUP_BYTES = 32 << 20
"""Size of a row group of a Parquet file before it is encoded, as the exports of the server have it."""
SHIFTS_TOLD = 5
"""Layers that a warning of shifts names."""
NOTEBOOK_PATIENCE = 5.0
"""Seconds that a notebook waits for a plan before it shows a merge without it."""


class Merge:
    """One table of aligned layers, made when it is asked for.

    Made by :meth:`Loom.merge`. Nothing is read before one of the ``to_…``
    methods, and each call reads anew. The order is row-major, north row first.
    A notebook shows its plan. Sent to another process, it connects anew, with
    the token of that one's environment. The first read warns (:class:`AlignmentWarning`)
    where it moves layers by a part of a cell.

    Examples
    --------
    >>> merge = loom.merge(["coads_sst_jan", "oisst_19811231"])
    >>> merge.schema.names
    ['x', 'y', 'coads_sst_jan', 'oisst_19811231']
    >>> merge.to_arrow().num_rows > 10_000
    True
    """

    def __init__(self, connection: Connection, spec: merger_pb2.MergeSpec, progress: Progress = "auto") -> None:
        self._connection = connection
        self._spec = spec
        self._progress: Progress = progress
        self._plan: Plan | None = None
        self._told = False

    @property
    def spec(self) -> merger_pb2.MergeSpec:
        """The request, as the services and the Flight server take it."""
        copy = merger_pb2.MergeSpec()
        copy.CopyFrom(self._spec)
        return copy

    @property
    def plan(self) -> Plan:
        """What the merge would do; asked of the server once."""
        return self._planned()

    @property
    def schema(self) -> pa.Schema:
        """Schema of the table, its metadata included."""
        return self.plan.schema

    def to_batches(self) -> Iterator[pa.RecordBatch]:
        """Read record batches as they come.

        Yields
        ------
        pyarrow.RecordBatch
            Batches with rows, of the ``batch_rows`` asked for.

        Raises
        ------
        IncompleteStream
            After the last batch, when they are not all, or not what was sent.
            A loop that ends without an exception has seen everything.

        Notes
        -----
        Leaving the loop early, by ``break`` or Ctrl-C, cancels the server's work
        as soon as the iterator is closed or collected.
        """
        yield from self._read(self._spec)[1]

    def to_reader(self) -> pa.RecordBatchReader:
        """Read as a stream that other Arrow libraries can consume.

        Those that know Arrow's PyCapsule interface take the merge itself. The
        read ends early when the reader is closed, as by ``with``, or nothing
        refers to it any more.

        Examples
        --------
        >>> pa.table(loom.merge(["coads_sst_jan"])).num_rows > 5000
        True
        """
        return Reader(*self._read(self._spec))

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        # Whoever takes it releases it, which ends the read: no reader of ours is needed.
        reader = pa.RecordBatchReader.from_batches(*self._read(self._spec))
        return cast("Any", reader).__arrow_c_stream__(requested_schema)

    def to_arrow(self) -> pa.Table:
        """Read the whole table.

        Examples
        --------
        >>> table = loom.merge({"band1": "olinda-l7-b1"}, types="declared").to_arrow()
        >>> table.schema.field("band1").type
        DataType(uint8)
        """
        return self._table(self._spec)

    def to_pandas(self, **options: Any) -> pd.DataFrame:
        """Read as a pandas DataFrame.

        ``options`` go to :meth:`pyarrow.Table.to_pandas`. By default integers
        with missing values become float64, as pandas has it.
        """
        with needs("pandas", "to_pandas"):
            import pandas  # noqa: F401  # pyright: ignore[reportUnusedImport] - before anything is read

        return self.to_arrow().to_pandas(**options)  # pyright: ignore[reportUnknownMemberType]

    def to_polars(self) -> pl.DataFrame:
        """Read as a polars DataFrame, without a copy where polars can."""
        with needs("polars", "to_polars"):
            import polars as pl

        return cast("pl.DataFrame", pl.from_arrow(self.to_arrow()))  # pyright: ignore[reportUnknownMemberType]

    def to_duckdb(self, connection: duckdb.DuckDBPyConnection | None = None) -> duckdb.DuckDBPyRelation:
        """Read as a DuckDB relation, on ``connection`` or the default one."""
        with needs("duckdb", "to_duckdb"):
            import duckdb

        table = self.to_arrow()
        return duckdb.from_arrow(table) if connection is None else connection.from_arrow(table)

    def to_numpy(self) -> dict[str, lattice.Masked]:
        """Read each layer as a masked array of shape (rows, cols); see :func:`to_numpy`."""
        return lattice.to_numpy(self._table(self._by_index()))

    def to_xarray(self) -> xr.Dataset:
        """Read as an xarray Dataset with dimensions (y, x); see :func:`to_xarray`."""
        with needs("xarray", "to_xarray"):
            import xarray  # noqa: F401  # pyright: ignore[reportUnusedImport] - before anything is read

        lattice.check_names({layer.column or layer.name for layer in self._spec.layers}, ("x", "y"), "a dataset")
        return lattice.to_xarray(self._table(self._by_index()))

    def export(self, name: str, *, part_rows: int | None = None, key: str = "") -> Export:
        """Have the server write the table as Parquet, into its directory for exports.

        Nothing comes over the network: for tables that are to stay near the
        server, or are larger than this machine.

        Parameters
        ----------
        name : str
            Name in that directory. One that ends in ``.parquet`` gives one
            file, any other a directory of parts with a manifest.
        part_rows : int, optional
            Rows in a part of a directory. Default: the server decides.
        key : str
            Names this request: the same key and request again give the same
            export.

        Returns
        -------
        Export
            Started; ``.wait()`` waits for its end.

        Raises
        ------
        AlreadyExists
            There is something of that name; nothing is ever replaced.
        FailedPrecondition
            The server was given no directory for exports.

        Examples
        --------
        >>> export = loom.merge(["coads_sst_jan", "oisst_19811231"]).export("sst.parquet")
        >>> [part.file for part in export.wait().parts]
        ['sst.parquet']
        """
        spec = export_pb2.ExportSpec(merge=self._spec, name=name, part_rows=part_rows or 0)
        request = export_pb2.StartExportRequest(spec=spec, idempotency_key=key)
        answer = self._connection.call(self._connection.exports.StartExport, request, "merger")
        return Export(self._connection, answer.export, self._progress)

    def to_parquet(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write a Parquet file, batch by batch.

        The file appears under its name only when it is whole: until then it is
        a hidden file beside it. Memory does not grow with the table. Compressed
        by zstd; the schema's metadata are kept.

        Parameters
        ----------
        path : str or path-like
            Where to; its folder must exist.
        overwrite : bool
            Replace a file of that name. Otherwise it is refused.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        FileExistsError
            There is a file of that name.
        FileNotFoundError
            There is no such folder.
        OSError
            The file cannot be written, such as to a full disk; nothing is left of it.
        """
        target = Path(path)
        if not target.parent.is_dir():
            raise FileNotFoundError(f"there is no folder {target.parent} to write {target.name} to")
        if target.exists() and not overwrite:
            raise FileExistsError(f"{target} exists; overwrite=True replaces it")
        schema, batches = self._read(self._spec)
        with _whole_file(target, overwrite=overwrite) as part:
            groups = _row_groups(schema, batches)
            first = next(groups, None)
            repeating, spread = _encodings(schema, first)
            with pq.ParquetWriter(
                part,
                schema,
                compression="zstd",
                compression_level=1,
                use_dictionary=repeating,  # pyright: ignore[reportArgumentType] - a list of columns is fine
                use_byte_stream_split=spread,  # pyright: ignore[reportArgumentType]
            ) as writer:
                for group in itertools.chain([] if first is None else [first], groups):
                    writer.write_table(group, row_group_size=group.num_rows)
        return target

    def _planned(self, patience: float = math.inf) -> Plan:
        if self._plan is None:
            request = merger_pb2.PlanMergeRequest(spec=self._spec)
            answer = self._connection.call(self._connection.merger.PlanMerge, request, "merger", patience=patience)
            self._plan = Plan.from_proto(answer)
        return self._plan

    def _by_index(self) -> merger_pb2.MergeSpec:
        """Give the request with columns that say in which cell a row lies, by names that no layer has."""
        spec = self.spec
        names = {layer.column or layer.name for layer in spec.layers}
        if names.isdisjoint(("row", "col")):
            spec.coordinate_columns = merger_pb2.COORDINATE_COLUMNS_ROW_COL
        else:
            lattice.check_names(names, ("x", "y"), "an array, where others are named 'row' or 'col',")
            spec.coordinate_columns = merger_pb2.COORDINATE_COLUMNS_XY
        return spec

    def _table(self, spec: merger_pb2.MergeSpec) -> pa.Table:
        schema, batches = self._read(spec)
        return pa.Table.from_batches(list(batches), schema=schema)

    def _read(self, spec: merger_pb2.MergeSpec) -> tuple[pa.Schema, Generator[pa.RecordBatch]]:
        # Planning first tells the address, and refuses a bad request in words.
        source = self._connection.flight_source(self._connection.flight or self.plan.flight_uri)
        info = source.flight_info(spec.SerializeToString())
        self._tell_of_shifts(info.schema)

        def batches() -> Generator[pa.RecordBatch]:
            window = lattice.window_of(info.schema)
            rows = 0
            if info.total_records >= 0 or window is None:
                total = info.total_records if info.total_records >= 0 else None
                bar = progress_bar(self._progress, total=total, unit=" rows", unit_scale=True, desc="merge")
            else:
                # How many rows come is not known before; how far down they are, is.
                height = window.row_stop - window.row_start
                bar = progress_bar(self._progress, total=height, desc="merge", bar_format=BAR)
            with bar as shown:

                def reached(row: int) -> None:
                    if info.total_records < 0 and window is not None:
                        shown.set_postfix_str(f"{rows:,} rows", refresh=False)
                        shown.update(row + 1 - window.row_start - shown.n)

                for batch in source.batches(info, reached):
                    rows += batch.num_rows
                    if info.total_records >= 0 or window is None:
                        shown.update(batch.num_rows)
                    yield batch
                if info.total_records < 0 and window is not None:
                    # Where the last batch ended was told before it was counted, and the last rows may be empty.
                    reached(window.row_stop - 1)

        return info.schema, batches()

    def _tell_of_shifts(self, schema: pa.Schema) -> None:
        """Warn once, before anything is read: where warnings are errors, nothing is."""
        if self._told or lattice.METADATA_KEY not in (schema.metadata or {}):
            return
        if shifts := lattice.Lattice.of(schema).shifts:
            more = f"; and {len(shifts) - SHIFTS_TOLD} more layers" if len(shifts) > SHIFTS_TOLD else ""
            text = "; ".join(shifts[:SHIFTS_TOLD]) + more + " (merge.plan tells more)"
            warnings.warn(text, AlignmentWarning, stacklevel=_level_of_caller())
        self._told = True

    def __repr__(self) -> str:
        columns = ", ".join(layer.column or layer.name for layer in self._spec.layers[:4])
        more = len(self._spec.layers) - 4
        return f"<Merge of {columns}{f' and {more} more' if more > 0 else ''}; not read yet>"

    def _repr_html_(self) -> str:
        try:
            plan = self._planned(NOTEBOOK_PATIENCE)
        except Exception as error:  # noqa: BLE001 - a cell that only names a merge must not fail, whatever is away
            return html_table(("no plan",), [[str(error)]], caption=repr(self))
        return plan.to_html(caption=repr(self))


def _level_of_caller() -> int:
    """Count the frames up to the line that a warning is about: the first that is none of ours."""
    frame, level = sys._getframe(1), 1  # pyright: ignore[reportPrivateUsage]
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("rasterloom."):
        frame, level = frame.f_back, level + 1
    return level


def _row_groups(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Generator[pa.Table]:
    """Collect batches up to the size of a row group.

    Each has dictionaries and statistics of its own, which cost time and room: groups of
    one batch are too small for them. Readers go through groups in parallel, and skip
    some, so that they are not too large either.
    """
    group, size = list[pa.RecordBatch](), 0
    for batch in batches:
        group.append(batch)
        size += batch.nbytes
        if size >= ROW_GROUP_BYTES:
            yield pa.Table.from_batches(group, schema=schema)
            group, size = [], 0
    if group:
        yield pa.Table.from_batches(group, schema=schema)


def _encodings(schema: pa.Schema, first: pa.Table | None) -> tuple[list[str], list[str]]:
    """Say which columns get a dictionary, and of which the bytes are split.

    A dictionary pays where values repeat, as coordinates do, categories, and what was
    rounded; else it costs time and saves nothing, and splitting the bytes of floats
    helps zstd more. The first row group decides, so that the same table always gives the
    same file.
    """
    repeating, spread = list[str](), list[str]()
    for field in fields_of(schema):
        if first is not None and len(pc.unique(first[field.name])) * 8 <= first.num_rows:
            repeating.append(field.name)
        elif dtype_of(field).kind == "f":
            spread.append(field.name)
    return repeating, spread


@contextmanager
def _whole_file(target: Path, *, overwrite: bool) -> Generator[Path]:
    """Give a temporary path that becomes ``target`` if nothing fails."""
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    part.touch(exist_ok=False)
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        if overwrite:
            part.replace(target)
        else:
            _rename_if_free(part, target)
    except RasterloomError:
        raise  # Some of them are OSErrors too: of a connection, and of no file.
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        # Arrow says which call failed, and not which file: a full disk, mostly.
        raise OSError(error.errno, f"{os.strerror(error.errno)}; nothing is written", str(target)) from error
    finally:
        part.unlink(missing_ok=True)


def _rename_if_free(part: Path, target: Path) -> None:
    """Rename, but never over a file that somebody else made meanwhile."""
    try:
        os.link(part, target)
    except FileExistsError:
        raise FileExistsError(f"{target} exists; overwrite=True replaces it") from None
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        # A file system without hard links: the check at the start has to do.
        part.rename(target)
