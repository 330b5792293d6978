"""Rasters sent by the client, and merged: the same as what their files hold."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.flight as fl
import pytest
import rasterio
import xarray as xr
from numpy.typing import NDArray

import rasterloom as rl
from rasterloom._gen.merger.v1 import merger_pb2

DATA = Path(__file__).resolve().parents[2] / "data"


@pytest.fixture(scope="module", autouse=True)
def _others_find_the_catalog_as_it_was(loom: rl.Loom) -> Iterator[None]:
    before = set(loom.layers().names)
    yield
    for name in set(loom.layers().names) - before:
        loom.drop(name)


def merged(loom: rl.Loom, name: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Give a layer as a merge has it: values, and where they are."""
    grid = loom.layer(name).grid
    assert grid is not None
    table = loom.merge([name], reference=name, coordinates="row_col").to_arrow()
    column = table[name].combine_chunks()
    valid = np.zeros(grid.shape, dtype=bool)
    values = np.zeros(grid.shape, dtype=column.type.to_pandas_dtype())
    at = table["row"].to_numpy(), table["col"].to_numpy()
    valid[at] = column.is_valid().to_numpy(zero_copy_only=False)
    values[at] = column.fill_null(0).to_numpy()
    return values, valid


def same(loom: rl.Loom, name: str, wanted: np.ma.MaskedArray[Any, Any]) -> None:
    values, valid = merged(loom, name)
    assert values.dtype == wanted.dtype
    there = ~np.ma.getmaskarray(wanted)
    np.testing.assert_array_equal(valid, there)
    assert values[there].tobytes() == wanted.data[there].tobytes()


def of_file(path: str | Path, band: int) -> np.ma.MaskedArray[Any, Any]:
    with rasterio.open(path) as source:
        array = source.read(band, masked=True)
    return np.ma.masked_invalid(array) if array.dtype.kind == "f" else array


@pytest.mark.parametrize(
    ("path", "bands"),
    [
        ("olinda/L7_ETMs.tif", 6),
        ("olinda/olinda_dem_utm25s.tif", 1),
        ("olinda/etopo5_relief.tif", 1),
        ("north_carolina/globe_landmask_30s.tif", 1),
        ("global/coads_sst_monthly_2deg.tif", 12),
    ],
)
def test_files_come_back_bit_for_bit(loom: rl.Loom, path: str, bands: int) -> None:
    name = "file_" + Path(path).stem.lower()
    layers = loom.ingest(DATA / path, name=name)
    names = [name] if bands == 1 else [f"{name}_{i + 1}" for i in range(bands)]
    assert layers.names == names
    with rasterio.open(DATA / path) as source:
        for i, layer in enumerate(layers):
            assert (layer.format, layer.stored_type) == ("TILED", source.dtypes[i])
            assert layer.nodata == source.nodatavals[i]
            assert layer.grid is not None
            assert tuple(layer.grid.bounds) == pytest.approx(tuple(source.bounds))
    for i, layer in enumerate(names):
        same(loom, layer, of_file(DATA / path, i + 1))


def test_netcdf_by_gdal(loom: rl.Loom) -> None:
    path = DATA / "north_carolina" / "bcsd_obs_1999.nc"
    layers = loom.ingest(path, name="bcsd", band=["pr_1", "tas_12"], crs="EPSG:4326")
    assert layers.names == ["bcsd_pr_1", "bcsd_tas_12"]
    same(loom, "bcsd_pr_1", of_file(f"netcdf:{path}:pr", 1))
    same(loom, "bcsd_tas_12", of_file(f"netcdf:{path}:tas", 12))


def test_a_cloud_optimized_geotiff(loom: rl.Loom, tmp_path: Path) -> None:
    # Larger than a tile, with overviews, which are no cells of the layer.
    path = tmp_path / "cloud.tif"
    rows, cols = np.mgrid[0:700, 0:900]
    values = (rows * 31 + cols * 17).astype("int16")
    values[rows % 97 == 5] = -1
    profile = {"width": 900, "height": 700, "count": 1, "dtype": "int16", "crs": "EPSG:32633", "nodata": -1}
    transform = rasterio.Affine(10, 0, 500_000, 0, -10, 5_600_000)
    with rasterio.open(
        path, "w", driver="COG", transform=transform, blocksize=128, compress="deflate", **profile
    ) as file:
        file.write(values, 1)
    with rasterio.open(path) as file:
        assert file.overviews(1)
    (layer,) = loom.ingest(path, name="cloud")
    assert (layer.grid, layer.nodata) == (rl.Grid("EPSG:32633", 700, 900, 500_000, 5_600_000, 10, 10), -1)
    same(loom, "cloud", np.ma.masked_equal(values, -1))


def test_zarr_by_xarray_and_by_gdal(loom: rl.Loom, tmp_path: Path) -> None:
    path = tmp_path / "store.zarr"
    values = np.arange(2 * 300 * 400, dtype="float32").reshape(2, 300, 400)
    values[:, 7, 9] = np.nan
    array = xr.DataArray(
        values,
        dims=("time", "y", "x"),
        coords={"time": [1, 2], "y": 50 - np.arange(300) * 0.5, "x": 10 + np.arange(400) * 0.5},
        attrs={"crs": "EPSG:4326"},
    )
    array.to_dataset(name="heat").to_zarr(path, zarr_format=2, encoding={"heat": {"chunks": (1, 128, 100)}})
    grid = rl.Grid("EPSG:4326", 300, 400, 9.75, 50.25, 0.5, 0.5)
    with xr.open_zarr(path) as opened:
        layers = loom.ingest(opened, name="store")
    assert [layer.grid for layer in layers] == [grid, grid]
    for i, name in enumerate(layers.names):
        same(loom, name, np.ma.masked_invalid(values[i]))
    layers = loom.ingest(f'ZARR:"{path}":/heat', name="by_gdal", crs="EPSG:4326")
    assert [layer.grid for layer in layers] == [grid, grid]
    for i, name in enumerate(layers.names):
        same(loom, name, np.ma.masked_invalid(values[i]))


def test_packed_values_are_not_guessed(loom: rl.Loom) -> None:
    path = DATA / "global" / "oisst_19811231_2deg.nc"
    with pytest.raises(rl.InvalidArgument, match="packed"):
        loom.ingest(path, name="packed", band="sst", crs="EPSG:4326")
    loom.ingest(path, name="packed", band="sst", crs="EPSG:4326", unscale=False)
    same(loom, "packed", of_file(f"netcdf:{path}:sst", 1))
    loom.ingest(path, name="unpacked", band="sst", crs="EPSG:4326", unscale=True)
    raw = of_file(f"netcdf:{path}:sst", 1)
    with rasterio.open(f"netcdf:{path}:sst") as source:
        same(loom, "unpacked", raw * np.float64(source.scales[0]) + source.offsets[0])


def test_packed_arrays_are_not_guessed(loom: rl.Loom) -> None:
    """As xarray.open_dataset(mask_and_scale=False) gives them."""
    raw = np.array([[1, 2, 3], [4, -99, 6]], dtype="int16")
    array = xr.DataArray(
        raw,
        dims=("y", "x"),
        coords={"y": [1.5, 0.5], "x": [0.5, 1.5, 2.5]},
        attrs={"crs": "EPSG:4326", "scale_factor": np.array([0.1]), "add_offset": 5.0, "_FillValue": np.int16(-99)},
        name="heat",
    )
    with pytest.raises(rl.InvalidArgument, match=r"array heat are packed \(times 0.1, plus 5\): ") as caught:
        loom.ingest(array, name="array_packed")
    assert caught.value.fields["field"] == "unscale"
    with pytest.raises(rl.InvalidArgument, match="packed"):
        loom.ingest(array.to_dataset(), name="array_packed")
    loom.ingest(array, name="array_packed", unscale=False)
    same(loom, "array_packed", np.ma.masked_equal(raw, -99))
    loom.ingest(array, name="array_unpacked", unscale=True)
    same(loom, "array_unpacked", np.ma.masked_equal(raw, -99) * np.float64(0.1) + 5.0)
    # A scale of one and no offset pack nothing.
    plain = array.assign_attrs(scale_factor=1.0, add_offset=0)
    loom.ingest(plain, name="array_plain")
    same(loom, "array_plain", np.ma.masked_equal(raw, -99))


def test_a_merge_is_stored_again(loom: rl.Loom, tmp_path: Path) -> None:
    """What to_xarray gives can be ingested, whole and in part, and by way of a netCDF."""
    layers = {"rain": "nc_pr_01", "sea": "coads_sst_jan"}
    merge = loom.merge(layers, reference="nc_pr_01", extent="reference", resampling={"sea": "bilinear"})
    ds = merge.to_xarray()
    assert ds.sea.attrs["resampling_method"] == "bilinear"
    assert ds.sea.attrs["resampling_widened"] == 0
    assert "resampling_method" not in ds.rain.attrs
    ds.to_netcdf(tmp_path / "merge.nc")
    with xr.open_dataset(tmp_path / "merge.nc") as kept:
        assert kept.sea.attrs["resampling_method"] == "bilinear"
        np.testing.assert_equal(kept.sea.attrs["resampling_ratio"], ds.sea.attrs["resampling_ratio"])
        for name, source in (("back", ds), ("kept", kept), ("back_one", ds.rain), ("back_scaled", ds * 2)):
            options = {"crs": ds.attrs["crs"]} if name == "back_scaled" else {}
            loom.ingest(source, name=name, **options)
    again = loom.merge(["nc_pr_01", "back_rain", "kept_rain", "back_one"], reference="nc_pr_01")
    assert {layer.relation.verdict for layer in again.plan.layers} == {"IDENTICAL"}
    arrays = again.to_numpy()
    for name in ("back_rain", "kept_rain", "back_one"):
        assert np.ma.allequal(arrays[name], arrays["nc_pr_01"])
        assert np.array_equal(np.ma.getmaskarray(arrays[name]), np.ma.getmaskarray(arrays["nc_pr_01"]))


def test_a_variable_may_have_another_crs_than_its_dataset(loom: rl.Loom) -> None:
    axes = {"y": [1.5, 0.5], "x": [0.5, 1.5]}
    a, b = (
        xr.DataArray(np.ones((2, 2)), dims=("y", "x"), coords=axes, attrs=own) for own in ({"crs": "EPSG:3857"}, {})
    )
    layers = loom.ingest(xr.Dataset({"a": a, "b": b}, attrs={"crs": "EPSG:32633"}), name="of")
    assert [layer.grid.crs for layer in layers] == ["EPSG:3857", "EPSG:32633"]


def test_the_rows_of_tiles_are_no_cells(loom: rl.Loom) -> None:
    loom.ingest(np.ones((300, 10)), name="counted", crs="EPSG:4326", bounds=(0, 0, 10, 30))
    assert "~2 tiles" in str(loom.layers("counted"))


def test_woven_with_the_old_tables(loom: rl.Loom) -> None:
    loom.ingest(DATA / "olinda" / "L7_ETMs.tif", name="new_b2", band=2, same_grid_as="olinda-l7-b1")
    table = loom.merge(["olinda-l7-b2", "new_b2"], rows="all").to_arrow()
    assert table.num_rows == 352 * 349
    assert table["new_b2"].type == pa.uint8()
    assert table["olinda-l7-b2"].to_numpy().astype("u1").tolist() == table["new_b2"].to_numpy().tolist()


def test_masks_of_files_and_arrays(loom: rl.Loom, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    values = rng.integers(0, 255, (300, 400), dtype="uint8")
    holes = rng.random(values.shape) < 0.3
    path = tmp_path / "masked.tif"
    profile = {"driver": "GTiff", "width": 400, "height": 300, "dtype": "uint8", "crs": "EPSG:32633"}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", count=1, transform=rasterio.Affine(10, 0, 5e5, 0, -10, 5e6), **profile) as out,
    ):
        out.write(values, 1)
        out.write_mask(~holes)
    wanted = np.ma.masked_array(values, holes)
    loom.ingest(path, name="mask_of_file")
    same(loom, "mask_of_file", wanted)
    loom.ingest(wanted, name="mask_of_array", crs="EPSG:32633", bounds=(5e5, 4997000, 504000, 5e6))
    same(loom, "mask_of_array", wanted)
    assert loom.layer("mask_of_file").grid == loom.layer("mask_of_array").grid


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "float32", "float64"]
)
def test_every_type(loom: rl.Loom, dtype: str) -> None:
    rng = np.random.default_rng(6)
    values = rng.integers(0, 256, (270, 260 * 8), dtype="uint8").view(dtype)[:, :260]
    values = np.ma.masked_invalid(values) if values.dtype.kind == "f" else np.ma.masked_array(values)
    loom.ingest(values.data, name=f"type_{dtype}", crs="EPSG:32633", bounds=(0, 0, 2600, 2700))
    same(loom, f"type_{dtype}", values)


def test_xarray_says_where_it_is(loom: rl.Loom) -> None:
    values = np.arange(3 * 4 * 5, dtype="float32").reshape(3, 4, 5)
    values[1, 2, 3] = np.nan
    times = np.array(["2021-01-01", "2021-02-01", "2021-03-01"], dtype="datetime64[ns]")
    south_up = xr.DataArray(
        values,
        dims=("time", "lat", "lon"),
        coords={"time": times, "lat": [10.0, 10.5, 11.0, 11.5], "lon": [20, 21, 22, 23, 24]},
        attrs={"crs": "EPSG:4326"},
        name="tas",
    )
    layers = loom.ingest(south_up.to_dataset(), name="months")
    assert layers.names == ["months_tas_2021-01-01", "months_tas_2021-02-01", "months_tas_2021-03-01"]
    grid = layers[0].grid
    assert grid == rl.Grid("EPSG:4326", 4, 5, 19.5, 11.75, 1.0, 0.5)
    for i, name in enumerate(layers.names):
        same(loom, name, np.ma.masked_invalid(values[i, ::-1]))
    corners = loom.ingest(south_up[0], name="corners", registration="upper_left")[0].grid
    assert corners == rl.Grid("EPSG:4326", 4, 5, 20.0, 11.5, 1.0, 0.5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "does not say its CRS"),
        ({"crs": "EPSG:32633"}, "does not say where it is"),
        ({"crs": "EPSG:32633", "transform": (10, 1, 0, 0, -10, 0)}, "rotated or sheared"),
        ({"crs": "EPSG:32633", "transform": (10, 0, 0, 0, 10, 0)}, "from south to north"),
        ({"crs": "EPSG:32633", "bounds": (0, 0, 0, 10)}, "min_x|step_x"),
        ({"crs": "EPSG:32633", "bounds": (0, 0, 30, 20), "band": 2}, "no band 2"),
    ],
)
def test_what_is_no_layer_is_refused_with_the_reason(loom: rl.Loom, options: dict[str, Any], words: str) -> None:
    with pytest.raises(rl.InvalidArgument, match=words):
        loom.ingest(np.zeros((2, 3)), name="refused", **options)
    with pytest.raises(rl.NotFound):
        loom.layer("refused")


def test_types_that_no_layer_has(loom: rl.Loom) -> None:
    where: dict[str, Any] = {"crs": "EPSG:32633", "bounds": (0, 0, 30, 20)}
    for dtype in ("uint64", "complex64"):
        with pytest.raises(rl.InvalidArgument, match=dtype):
            loom.ingest(np.zeros((2, 3), dtype), name="refused", **where)
    assert loom.ingest(np.ones((2, 3), "?"), name="widened", **where)[0].stored_type == "uint8"


def test_replacing(loom: rl.Loom) -> None:
    where: dict[str, Any] = {"crs": "EPSG:32633", "bounds": (0, 0, 30, 20)}
    loom.ingest(np.zeros((2, 3)), name="anew", **where)
    with pytest.raises(rl.AlreadyExists):
        loom.ingest(np.ones((2, 3)), name="anew", **where)
    assert loom.ingest(np.ones((2, 3)), name="anew", replace=True, **where)[0].generation == 2
    same(loom, "anew", np.ma.masked_array(np.ones((2, 3))))
    with pytest.raises(rl.AlreadyExists, match="adopted"):
        loom.ingest(np.ones((2, 3)), name="coads_sst_jan", replace=True, **where)


def test_a_large_array_in_flat_memory(loom: rl.Loom, tmp_path: Path) -> None:
    """Ten million cells from a file on disk: the memory of the client does not follow."""
    script = tmp_path / "send.py"
    path = tmp_path / "large.tif"
    rng = np.random.default_rng(8)
    profile = {"driver": "GTiff", "count": 1, "dtype": "float32", "crs": "EPSG:32633", "tiled": True}
    transform = rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)
    with rasterio.open(path, "w", width=4000, height=2500, transform=transform, nodata=-1, **profile) as out:
        for top in range(0, 2500, 250):
            part = rng.random((250, 4000), dtype="float32")
            part[:, ::7] = -1
            out.write(part, 1, window=((top, top + 250), (0, 4000)))
    script.write_text(
        "import resource, sys, rasterloom as rl, rasterio, pyarrow.flight\n"
        "import rasterloom.ingest\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "rl.connect().ingest(sys.argv[1], name='large', replace=True, progress=False)\n"
        "print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    done = subprocess.run([sys.executable, script, path], check=True, capture_output=True, text=True)
    before, after = (int(kib) // 1024 for kib in done.stdout.split())
    # Windows, tiles of them and messages; GDAL's own cache of blocks is bounded, too.
    assert after - before < 300, f"{before} MiB before, {after} MiB at most"
    same(loom, "large", of_file(path, 1))


def flight_of(loom: rl.Loom) -> fl.FlightClient:
    """Give a plain client of the server."""
    spec = merger_pb2.MergeSpec(layers=[merger_pb2.LayerSelection(name="coads_sst_jan")])
    plan = loom._connection.merger.PlanMerge(merger_pb2.PlanMergeRequest(spec=spec))
    return fl.FlightClient(plan.flight_uri)


SPEC = {
    "name": "plain",
    "dataType": "DATA_TYPE_INT16",
    "grid": {"crs": "EPSG:32633", "rows": 4, "cols": 6, "originX": 0, "originY": 40, "stepX": 10, "stepY": 10},
}
CELLS = pa.schema([("row", pa.int32()), ("col", pa.int32()), ("value", pa.int16())])


def put(
    client: fl.FlightClient, schema: pa.Schema, batches: list[pa.RecordBatch], words: str | None, **options: Any
) -> Any:
    call = fl.FlightCallOptions(**options)
    writer, reader = client.do_put(fl.FlightDescriptor.for_command(json.dumps(SPEC)), schema, call)
    try:
        for batch in batches:
            writer.write_batch(batch)
        if words is not None:
            writer.write_metadata(pa.py_buffer(words.encode()))
        writer.done_writing()
        answer = reader.read()
        return None if answer is None else json.loads(answer.to_pybytes())
    finally:
        writer.close()


def cells(*rows: tuple[Any, Any, Any], schema: pa.Schema = CELLS) -> pa.RecordBatch:
    columns = zip(*rows, strict=True) if rows else ([], [], [])
    return pa.record_batch([pa.array(list(c), f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)


POINTS = pa.schema([("x", pa.float64()), ("y", pa.float64()), ("value", pa.int16())])
ONE = '{"complete": true, "rows": 1}'


@pytest.mark.parametrize(
    ("schema", "batch", "words"),
    [
        (CELLS, cells((0, 0, 1)), None),
        (CELLS, cells((0, 0, 1)), '{"complete": true, "rows": 2}'),
        (CELLS, cells((0, 0, 1)), '{"complete": true, "rows": 1, "hash": "xxh3-128:00"}'),
        (CELLS, cells((0, 0, 1)), "garbage"),
        (CELLS, cells((None, 0, 1)), ONE),
        (CELLS, cells((-1, 0, 1)), ONE),
        (CELLS, cells((0, 6, 1)), ONE),
        (CELLS, cells((0, 0, 1), (0, 0, 2)), '{"complete": true, "rows": 2}'),
        (POINTS, cells((float("nan"), 5.0, 1), schema=POINTS), ONE),
        (POINTS, cells((7.0, 5.0, 1), schema=POINTS), ONE),
        (CELLS.set(2, pa.field("value", pa.int32())), None, ONE),
        (CELLS.set(2, pa.field("value", pa.dictionary(pa.int32(), pa.int16()))), None, ONE),
        (CELLS.set(2, pa.field("value", pa.string_view())), None, ONE),
    ],
)
def test_plain_clients_are_refused(loom: rl.Loom, schema: pa.Schema, batch: pa.RecordBatch | None, words: str) -> None:
    with flight_of(loom) as client, pytest.raises(pa.ArrowException):
        put(client, schema, [batch] if batch else [], words)
    with pytest.raises(rl.NotFound):
        loom.layer("plain")


def test_compressed_bodies_are_refused(loom: rl.Loom) -> None:
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with flight_of(loom) as client, pytest.raises(pa.ArrowException, match="compressed"):
        put(client, CELLS, [cells((0, 0, 1))], ONE, write_options=options)


def test_the_example_of_the_page(loom: rl.Loom, capsys: pytest.CaptureFixture[str]) -> None:
    """The plain client of docs/ingest.md, run as it is printed there but for the port."""
    text = (DATA.parent / "docs" / "ingest.md").read_text()
    example = next(part.split("```")[0] for part in text.split("```python")[1:] if "do_put" in part)
    spec = merger_pb2.MergeSpec(layers=[merger_pb2.LayerSelection(name="coads_sst_jan")])
    uri = loom._connection.merger.PlanMerge(merger_pb2.PlanMergeRequest(spec=spec)).flight_uri
    exec(example.replace("grpc://127.0.0.1:7401", uri), {})  # noqa: S102
    assert capsys.readouterr().out == "120000\n"
    wanted = np.arange(300 * 400, dtype="int32").reshape(300, 400)
    same(loom, "plain_heights", np.ma.masked_equal(wanted, -1))


def test_the_command_of_the_suite(loom: rl.Loom) -> None:
    """`rasterloom ingest` runs the client, and says what to install where there is none."""
    program = DATA.parent / ".bin" / "rasterloom"
    path = str(DATA / "olinda" / "etopo5_relief.tif")
    command = [program, "ingest", path, "--name=by_program", "--nodata=-32768"]
    done = subprocess.run([*command, f"--python={sys.executable}"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    same(loom, "by_program", of_file(path, 1))
    done = subprocess.run([*command, "--python=/bin/false"], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install './python[ingest]'" in done.stderr


def test_the_command_line(loom: rl.Loom) -> None:
    command = [sys.executable, "-m", "rasterloom", "ingest", str(DATA / "olinda" / "olinda_dem_utm25s.tif")]
    done = subprocess.run([*command, "--name", "by_command"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "by_command" in done.stdout
    same(loom, "by_command", of_file(DATA / "olinda" / "olinda_dem_utm25s.tif", 1))
    done = subprocess.run([*command, "--name", "by_command"], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "error: there is a layer" in done.stderr
