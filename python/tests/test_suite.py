"""The client against the real suite, on the real rasters, compared with numpy."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from html import escape
from multiprocessing import get_context
from pathlib import Path

import demo
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasters
import suite as demo_suite

import rasterloom as rl

SST = ["coads_sst_jan", "oisst_19811231"]
MONTHS = [f"nc_{v}_{m:02d}" for v in ("pr", "tas") for m in rasters.MONTHS]
BANDS = [f"olinda-l7-b{band}" for band in rasters.BANDS]


def differing(table: pa.Table, expected) -> int:
    lattice = rl.Lattice.of(table.schema)
    return demo.compare(table, lattice, expected(lattice))


def reading() -> bool:
    """Whether a thread reads a stream."""
    return any(thread.name.startswith("rasterloom-endpoint") for thread in threading.enumerate())


def test_every_layer_is_adopted_as_it_was_stored(loom: rl.Loom) -> None:
    layers = loom.layers()
    assert len(layers) == 35
    formats = {f: sum(layer.format == f for layer in layers) for f in ("LEGACY", "COORDINATE", "WINDOWED")}
    assert formats == {"LEGACY": 16, "COORDINATE": 10, "WINDOWED": 9}
    assert layers["oisst_19811231"].registration == "UPPER_LEFT"
    assert layers["nc_tas_01"].south_up
    assert not layers["nc_tas_07"].south_up
    assert not layers["nc_pr_10"].has_key
    assert not layers["nc_tas_06"].has_indices
    again = loom.adopt()
    assert (again.added, again.changed, again.unchanged, again.invalid) == (0, 0, 35, 0)


def test_sea_surface_temperatures_are_half_a_pixel_apart(loom: rl.Loom) -> None:
    report = loom.align(SST)
    assert (report.strategy, report.reference_layer, report.mergeable) == ("SHIFT", "coads_sst_jan", True)
    relation = report.relation("oisst_19811231")
    assert relation.verdict == "SHIFT"
    assert relation.shift == (1.0, 0.0)
    assert relation.shift_pixels == (0.5, 0.0)
    assert relation.residual_pixels == (0.0, 0.0)
    assert relation.position_error.x == 1.0
    assert json.loads(json.dumps(report.to_dict()))["strategy"] == "SHIFT"
    assert "SHIFT" in str(report)
    assert "<table>" in report._repr_html_()
    figure = report.plot()
    assert len(figure.axes) == 1


def test_a_notebook_shows_what_a_merge_would_make(suite: demo_suite.Suite) -> None:
    with rl.connect(suite.url) as loom:
        merge = loom.merge(SST)
        shown = merge._repr_html_()
        # No way to the cells was opened, and the plan is asked for once.
        assert loom._connection._sources == {}
    assert merge._repr_html_() == shown
    assert shown.count("<table>") == 2
    assert "&lt;Merge of coads_sst_jan, oisst_19811231; not read yet&gt;" in shown
    for told in ("lattice", f"at most {merge.plan.max_rows:,}", "SHIFT", *merge.plan.warnings):
        assert escape(told) in shown
    assert merge.plan.warnings


@pytest.mark.parametrize("batch_rows", [None, 1, 1000])
def test_sst_equals_numpy(loom: rl.Loom, batch_rows: int | None) -> None:
    if batch_rows == 1:
        table = loom.merge(SST, batch_rows=1, extent=(280.0, 30.0, 300.0, 40.0)).to_arrow()
        whole = loom.merge(SST, extent=(280.0, 30.0, 300.0, 40.0)).to_arrow()
        assert table.equals(whole)
        return
    assert differing(loom.merge(SST, batch_rows=batch_rows).to_arrow(), demo.expected_sst) == 0


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_compressed_on_its_way_it_is_the_same_table(loom: rl.Loom, compression: rl.client.Compression) -> None:
    table = loom.merge(SST, batch_rows=1000, compression=compression).to_arrow()
    assert table.equals(loom.merge(SST, batch_rows=1000).to_arrow())
    assert differing(table, demo.expected_sst) == 0


def test_an_unknown_compression_is_named(loom: rl.Loom) -> None:
    with pytest.raises(rl.InvalidArgument, match="compression is 'gzip', and must be one of 'none', 'lz4', 'zstd'"):
        loom.merge(SST, compression="gzip")  # type: ignore[arg-type]


def test_north_carolina_equals_numpy(loom: rl.Loom) -> None:
    merge = demo.north_carolina(loom)
    assert differing(merge.to_arrow(), demo.expected_north_carolina) == 0
    assert {p.column for p in merge.plan.layers if p.resampled} == {"elevation", "land"}
    months = loom.merge(MONTHS).to_arrow()
    expected = {
        name: values
        for name, values in demo.expected_north_carolina(rl.Lattice.of(months.schema)).items()
        if name in MONTHS
    }
    assert differing(months, lambda _: expected) == 0


@pytest.mark.parametrize("types", ["stored", "declared"])
def test_landsat_equals_numpy(loom: rl.Loom, types: rl.client.Types) -> None:
    table = loom.merge(BANDS, types=types).to_arrow()
    assert {str(table.schema.field(band).type) for band in BANDS} == {"double" if types == "stored" else "uint8"}
    assert differing(table, demo.expected_olinda) == 0


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("any", lambda a, b: a | b),
        ("all", lambda a, b: a & b),
        ("reference", lambda a, b: a),  # noqa: ARG005
        ("every", lambda a, b: np.ones_like(a | b)),
    ],
)
def test_rows_kept(loom: rl.Loom, rows: rl.client.Rows, expected) -> None:
    table = loom.merge(SST, rows=rows, coordinates="both").to_arrow()
    lattice = rl.Lattice.of(table.schema)
    a, b = (~np.ma.getmaskarray(v) for v in demo.expected_sst(lattice).values())
    assert np.array_equal(lattice.positions(table), np.flatnonzero(expected(a, b)))
    places = table["row"].to_numpy() * lattice.grid.cols + table["col"].to_numpy()
    assert np.all(np.diff(places) > 0)


def test_every_way_out_has_the_same_values(loom: rl.Loom) -> None:
    merge = loom.merge({"jan": SST[0], "dec": SST[1]}, progress=False)
    table = merge.to_arrow()
    assert merge.schema.equals(table.schema, check_metadata=True)
    assert pa.Table.from_batches(merge.to_batches(), schema=merge.schema).equals(table)
    assert merge.to_reader().read_all().equals(table)
    assert merge.to_polars().to_arrow().cast(table.schema).equals(table)
    frame = merge.to_pandas()
    assert list(frame) == ["x", "y", "jan", "dec"]
    assert int(frame["jan"].isna().sum()) == table["jan"].null_count
    relation = merge.to_duckdb()
    assert relation.aggregate("count(*), count(jan), count(dec)").fetchall() == [
        (
            table.num_rows,
            table.num_rows - table["jan"].null_count,
            table.num_rows - table["dec"].null_count,
        )
    ]
    arrays, again = merge.to_numpy(), rl.to_numpy(table)
    ds = merge.to_xarray()
    for name in ("jan", "dec"):
        assert np.array_equal(arrays[name].mask, again[name].mask)
        assert np.array_equal(arrays[name].compressed(), again[name].compressed())
        assert np.array_equal(ds[name].values[~again[name].mask], again[name].compressed())
        assert np.array_equal(np.isnan(ds[name]), again[name].mask)


def test_layers_are_taken_as_their_names(loom: rl.Loom) -> None:
    """Wherever a name is taken, so is what the client itself hands out."""
    sst = [loom.layer(name) for name in SST]
    assert loom.merge(sst).spec == loom.merge(SST).spec
    assert loom.merge({"a": sst[0]}, reference=sst[0]).spec == loom.merge({"a": SST[0]}, reference=SST[0]).spec
    assert loom.merge(sst[0]).spec == loom.merge([SST[0]]).spec
    assert loom.merge(loom.layers("nc_pr_0")).plan.layers[8].column == "nc_pr_09"
    assert loom.align(sst, reference=sst[1]).reference_layer == SST[1]
    assert loom.check(sst[0]).ok
    assert [check.layer.name for check in loom.check(sst)] == SST
    assert loom.layer(sst[0]) == sst[0]
    assert loom.layers()[sst[0]] == sst[0]
    assert loom.check(sst)[sst[1]].layer == sst[1]
    assert loom.migrations.plan(loom.layer("nc_pr_01")).possible
    assert len(loom.migrations.list(sst[0])) == 0
    again = loom.register("again", sst[0].table, sst[0].grid)
    assert loom.drop(again).name == "again"


def test_arrow_libraries_take_a_merge_as_it_is(loom: rl.Loom) -> None:
    import duckdb
    import polars as pl

    merge = loom.merge(SST, batch_rows=1000)
    whole = merge.to_arrow()
    assert pa.table(merge).equals(whole)
    assert pa.table(merge).schema.equals(whole.schema, check_metadata=True)
    assert pl.DataFrame(merge).equals(merge.to_polars())
    assert duckdb.sql("SELECT count(*) FROM merge").fetchall() == [(whole.num_rows,)]
    read = pa.RecordBatchReader.from_stream(merge)
    read.read_next_batch()
    del read
    assert not reading()


def test_a_reader_is_closed(loom: rl.Loom) -> None:
    """It ends the read and its thread, and what is asked of it afterwards is no short table."""
    merge = loom.merge(SST, batch_rows=100)
    whole = merge.to_arrow()
    reader = merge.to_reader()
    assert isinstance(reader, pa.RecordBatchReader)
    assert reader.read_all().equals(whole)
    assert reader.schema.equals(whole.schema, check_metadata=True)
    assert [b.num_rows for b in merge.to_reader()] == [b.num_rows for b in whole.to_batches()]
    with merge.to_reader() as reader:
        reader.read_next_batch()
        assert reading()
    assert not reading()
    with pytest.raises(rl.FailedPrecondition, match="was closed"):
        reader.read_all()
    reader = merge.to_reader()
    reader.read_next_batch()
    del reader
    assert not reading()


def test_a_merge_is_sent_to_a_worker(loom: rl.Loom) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        merge = loom.merge(SST)
        assert pool.submit(merge.to_arrow).result().equals(merge.to_arrow())
        assert pool.submit(loom.layer, SST[0]).result() == loom.layer(SST[0])


def test_lists_say_which_names_they_have(loom: rl.Loom) -> None:
    with pytest.raises(KeyError, match=r"no layer 'coads' here: coads_sst_jan, .* more"):
        loom.layers()["coads"]
    with pytest.raises(KeyError, match="no layer 'zz' here: coads_sst_jan, oisst_19811231"):
        loom.align(SST).relation("zz")
    with pytest.raises(KeyError, match="no layer 'zz' here: coads_sst_jan"):
        loom.check(SST[0])["zz"]
    assert str(loom.layers("zzz")) == "no layer has 'zzz' in its name; loom.layers() lists all"


def test_columns_may_have_the_names_of_coordinates(loom: rl.Loom) -> None:
    plain = loom.merge([SST[1]]).to_numpy()[SST[1]]
    for name in ("row", "col"):
        merge = loom.merge({name: SST[1]})
        assert np.ma.allequal(merge.to_numpy()[name], plain)
        assert np.array_equal(merge.to_xarray()[name], plain.filled(np.nan), equal_nan=True)
        assert name in merge.to_pandas()
    merge = loom.merge({"x": SST[1]}, coordinates="none")
    assert np.ma.allequal(merge.to_numpy()["x"], plain)
    with pytest.raises(rl.InvalidArgument, match=r"a dataset needs the name 'x'.*loom.merge\(\{column: layer\}\)"):
        merge.to_xarray()
    with pytest.raises(rl.InvalidArgument, match=r"named 'row' or 'col', needs the name 'x'"):
        loom.merge({"x": SST[1], "row": "coads_sst_jan"}, coordinates="none").to_numpy()


def test_a_layer_called_x_is_merged_by_another_name(loom: rl.Loom) -> None:
    loom.register("x", "resampled_coads_sst_jan", loom.layer("coads_sst_jan").grid)
    try:
        with pytest.raises(rl.InvalidArgument, match=r'two columns are named "x"; loom.merge\(\{column: layer\}\)'):
            loom.merge(["x"]).to_pandas()
        assert list(loom.merge({"sst": "x"}).to_pandas()) == ["x", "y", "sst"]
    finally:
        loom.drop("x")


def test_row_groups_of_parquet_are_of_many_batches(
    loom: rl.Loom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge = loom.merge(SST, batch_rows=1000)
    table = merge.to_arrow()
    batches = [batch.num_rows for batch in table.to_batches()]
    assert len(batches) > 7

    def groups(size: int) -> list[int]:
        monkeypatch.setattr("rasterloom.merge.ROW_GROUP_BYTES", size)
        file = pq.ParquetFile(merge.to_parquet(tmp_path / f"{size}.parquet"))
        assert file.read().equals(table)
        return [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]

    assert groups(1 << 30) == [table.num_rows]
    assert groups(1) == batches
    three = groups(5 * table.slice(0, 1000).nbytes // 2)  # two batches are too few for it, and three enough
    assert three == [sum(batches[i : i + 3]) for i in range(0, len(batches), 3)]


def test_parquet_has_dictionaries_where_values_repeat(loom: rl.Loom, tmp_path: Path) -> None:
    """A row group says what repeats, and not its first few rows, in which no x does."""
    merge = loom.merge(SST, batch_rows=16)
    table = merge.to_arrow()
    columns = pq.ParquetFile(merge.to_parquet(tmp_path / "sst.parquet")).metadata.row_group(0)
    kinds = {}
    for i, name in enumerate(table.column_names):
        repeats = len(table[name].unique()) * 8 <= table.num_rows
        assert columns.column(i).path_in_schema == name
        assert ("RLE_DICTIONARY" if repeats else "BYTE_STREAM_SPLIT") in columns.column(i).encodings
        kinds[name] = repeats
    assert kinds["x"]
    assert kinds["y"]
    assert not all(kinds.values())


def test_parquet_appears_whole_or_not_at_all(loom: rl.Loom, tmp_path: Path) -> None:
    merge = loom.merge(SST)
    path = merge.to_parquet(tmp_path / "sst.parquet")
    table = merge.to_arrow()
    again = pq.read_table(path)
    assert again.equals(table)
    assert rl.Lattice.of(again.schema) == rl.Lattice.of(table.schema)
    with pytest.raises(FileExistsError, match=r"sst\.parquet exists; overwrite=True"):
        merge.to_parquet(path)
    before = path.read_bytes()
    assert merge.to_parquet(path, overwrite=True).read_bytes() == before
    with pytest.raises(rl.NotFound):
        loom.merge(["nobody"]).to_parquet(tmp_path / "nobody.parquet")
    with pytest.raises(FileNotFoundError):
        merge.to_parquet(tmp_path / "no such folder" / "sst.parquet")
    assert [p.name for p in tmp_path.iterdir()] == ["sst.parquet"]


def test_a_plain_flight_client_gets_the_same_table(loom: rl.Loom) -> None:
    import pyarrow.flight as fl

    merge = loom.merge(SST)
    with fl.connect(merge.plan.flight_uri) as client:
        spec = {"layers": [{"name": name} for name in SST]}
        info = client.get_flight_info(fl.FlightDescriptor.for_command(json.dumps(spec).encode()))
        parts = [client.do_get(endpoint.ticket).read_all() for endpoint in info.endpoints]
    assert pa.concat_tables(parts).equals(merge.to_arrow())


@pytest.mark.parametrize(
    ("layers", "kind", "reason", "field"),
    [
        (["coads_sst_jam"], rl.NotFound, "LAYER_NOT_FOUND", "coads_sst_jam"),
        ([], rl.InvalidArgument, "INVALID_ARGUMENT", ""),
        (["nc_pr_01", "nc_pr_01"], rl.InvalidArgument, "LAYER_REPEATED", "nc_pr_01"),
        ({"a": "nc_pr_01", "x": "nc_pr_02"}, rl.InvalidArgument, "COLUMN_REPEATED", "x"),
        (["nc_pr_01", "olinda-l7-b1"], rl.FailedPrecondition, "CRS_MISMATCH", "olinda-l7-b1"),
        (["nc_pr_01", "coads_sst_jan"], rl.FailedPrecondition, "RESIDUAL_TOO_LARGE", ""),
    ],
)
def test_what_cannot_be_merged(loom: rl.Loom, layers, kind: type[rl.RasterloomError], reason: str, field: str) -> None:
    merge = loom.merge(layers)
    with pytest.raises(kind) as by_plan:
        _ = merge.plan
    with pytest.raises(kind) as by_stream:
        merge.to_arrow()
    source = rl.stream.FlightSource(loom.plan(["nc_pr_01"]).flight_uri, timeout=10)
    with pytest.raises(kind) as by_flight:
        source.flight_info(merge.spec.SerializeToString())
    source.close()
    for caught in (by_plan, by_stream, by_flight):
        assert caught.value.reason == reason
        assert field in str(caught.value) or field in caught.value.fields.values()


def test_unknown_layer_proposes_the_nearest(loom: rl.Loom) -> None:
    with pytest.raises(rl.NotFound, match="coads_sst_jan") as caught:
        loom.layer("coads_sst_jam")
    assert caught.value.fields["layer"] == "coads_sst_jam"
    with pytest.raises(rl.NotFound) as caught:
        loom.adopt("public.no_such_table")
    assert caught.value.reason == "CATALOG_NOT_FOUND"


def test_ctrl_c_is_heard_at_once(loom: rl.Loom) -> None:
    """A process in the middle of a merge ends within a second of SIGINT."""
    import signal

    program = (
        "import rasterloom as rl, sys\n"
        f"merge = rl.connect().merge({BANDS!r}, batch_rows=1, rows='every', progress=False)\n"
        "for i, batch in enumerate(merge.to_batches()):\n"
        "    if i == 100: print('reading', flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "reading\n"
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert time.monotonic() - began < 1
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert loom.merge(SST).to_arrow().num_rows > 0


def test_tables_print(loom: rl.Loom) -> None:
    layers = loom.layers()
    assert str(layers).splitlines()[0].split()[:2] == ["layer", "format"]
    assert len(str(layers).splitlines()) == 36
    assert layers._repr_html_().count("<tr>") == 36
    plan = loom.plan(SST)
    assert "coads_sst_jan" in str(plan)
    assert plan.lattice.shape == plan.window.shape
    assert "LEGACY" in str(layers["coads_sst_jan"])
    assert repr(loom.merge(SST)) == "<Merge of coads_sst_jan, oisst_19811231; not read yet>"
