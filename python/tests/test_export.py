"""Exports by the real suite, read by readers that know nothing of it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import rasterloom as rl

if TYPE_CHECKING:
    from pathlib import Path

SST = ["coads_sst_jan", "oisst_19811231"]


def read_table(path: Path) -> pa.Table:
    return pq.read_table(path)  # pyright: ignore[reportUnknownMemberType]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_is_the_table(loom: rl.Loom, exports: Path) -> None:
    merge = loom.merge(SST, coordinates="both")
    export = merge.export("table.parquet")
    done = export.wait()
    table = merge.to_arrow()
    read = read_table(exports / "table.parquet")
    assert read.equals(table)
    assert read.schema.equals(table.schema, check_metadata=True), (read.schema, table.schema)
    assert (done.state, done.rows, done.fraction) == ("SUCCEEDED", table.num_rows, 1.0)
    assert [part.sha256 for part in done.parts] == [sha256(exports / "table.parquet")]
    assert [status.state for status in export.watch()] == ["SUCCEEDED"]
    # Every reader has its own opinion of what Parquet is.
    assert (
        pl.read_parquet(exports / "table.parquet")
        .to_arrow()
        .column("x")
        .combine_chunks()
        .equals(table.column("x").combine_chunks())
    )
    assert len(duckdb.read_parquet(str(exports / "table.parquet")).fetchall()) == table.num_rows
    dataset = rl.to_xarray(read)
    assert dataset.sizes == {"y": 90, "x": 180}


@pytest.mark.parametrize("types", ["stored", "declared"])
def test_bytes_are_the_same_every_time(loom: rl.Loom, exports: Path, types: str) -> None:
    layers = ["olinda-l7-b1", "olinda-l7-b2"]
    sums = set[str]()
    for batch_rows in (None, 1000):
        name = f"olinda-{types}-{batch_rows}.parquet"
        merge = loom.merge(layers, types=types, batch_rows=batch_rows)  # type: ignore[arg-type]
        merge.export(name).wait()
        sums.add(sha256(exports / name))
        assert read_table(exports / name).equals(merge.to_arrow())
    assert len(sums) == 1


def test_a_directory_is_the_table_in_parts(loom: rl.Loom, exports: Path) -> None:
    merge = loom.merge(SST)
    done = merge.export("parts", part_rows=4000).wait()
    table = merge.to_arrow()
    folder = exports / "parts"
    manifest = json.loads((folder / "_manifest.json").read_text())
    assert manifest["rows"] == done.rows == table.num_rows
    assert [part.rows for part in done.parts[:-1]] == [4000] * (len(done.parts) - 1)
    assert {part["file"]: part["sha256"] for part in manifest["parts"]} == {
        part["file"]: sha256(folder / part["file"]) for part in manifest["parts"]
    }
    assert pa.concat_tables(read_table(folder / part.file) for part in done.parts).equals(table)
    # A reader of directories passes over the manifest.
    found = ds.dataset(folder)  # pyright: ignore[reportUnknownMemberType]
    assert found.to_table().num_rows == table.num_rows


def test_row_groups_can_be_passed_over(loom: rl.Loom, exports: Path) -> None:
    loom.merge(SST).export("stats.parquet").wait()
    group = pq.ParquetFile(exports / "stats.parquet").metadata.row_group(0)
    for i in range(group.num_columns):
        column = group.column(i)
        assert column.is_stats_set
        assert column.compression == "ZSTD"
        assert "BYTE_STREAM_SPLIT" in column.encodings
        assert not column.has_dictionary_page
    assert [(s.column_index, s.descending) for s in group.sorting_columns] == [(1, True), (0, False)]


def test_what_is_refused(loom: rl.Loom, exports: Path) -> None:
    merge = loom.merge(SST)
    for name in ("../out", "/etc/out", "a/b", "", "s3://bucket/a"):
        with pytest.raises(rl.InvalidArgument):
            merge.export(name)
    (exports / "mine.parquet").write_text("mine")
    with pytest.raises(rl.AlreadyExists) as taken:
        merge.export("mine.parquet")
    assert taken.value.reason == "EXPORT_EXISTS"
    assert (exports / "mine.parquet").read_text() == "mine"
    export = merge.export("once.parquet", key="once")
    export.wait()
    assert merge.export("once.parquet", key="once").id == export.id
    with pytest.raises(rl.FailedPrecondition) as late:
        export.cancel()
    assert late.value.reason == "EXPORT_STATE"
    with pytest.raises(rl.NotFound):
        loom.exports.get("a" * 26)
