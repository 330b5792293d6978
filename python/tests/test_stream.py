from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.flight as fl
import pytest

import rasterloom as rl
from rasterloom.stream import ContentHash, FlightSource

from .flight_server import Message, Script, scripted, trailer
from .merged_table import table

SCHEMA = pa.schema([pa.field("row", pa.int32(), nullable=False), pa.field("birds", pa.uint8())])


def batch(start: int, rows: int) -> pa.RecordBatch:
    values = pa.array([None if i % 3 == 0 else i % 250 for i in range(start, start + rows)], pa.uint8())
    return pa.RecordBatch.from_arrays([pa.array(range(start, start + rows), pa.int32()), values], schema=SCHEMA)


def whole(sent: list[pa.RecordBatch], **changes: object) -> list[Message]:
    messages = [(b, b'{"sequence": 0, "row": 0}') for b in sent]
    return [*messages, trailer(SCHEMA, sent, changes)]


def read(script: Script) -> pa.Table:
    with scripted(script) as uri:
        source = FlightSource(uri, timeout=10)
        try:
            info = source.flight_info(b"")
            return pa.Table.from_batches(list(source.batches(info)), schema=info.schema)
        finally:
            source.close()


def test_endpoints_come_in_order_whole() -> None:
    parts = [[batch(0, 10), batch(10, 3)], [batch(13, 10)], [], [batch(23, 1)], [batch(24, 5)]]
    table = read(Script(SCHEMA, [whole(part) for part in parts]))
    assert table["row"].to_pylist() == list(range(29))
    assert table.schema.equals(SCHEMA, check_metadata=True)


def test_nothing_but_trailers_is_an_empty_table() -> None:
    table = read(Script(SCHEMA, [whole([]), whole([])]))
    assert (table.num_rows, table.column_names) == (0, ["row", "birds"])


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        pytest.param([(batch(0, 5), b"{}")], "without saying that this is all", id="no trailer"),
        pytest.param([], "without saying that this is all", id="nothing at all"),
        pytest.param(whole([batch(0, 5)])[1:], "has rows 0, and the server sent 5", id="a batch lost"),
        pytest.param(whole([batch(0, 5)], batches=2), "has batches 1, and the server sent 2", id="batches"),
        pytest.param(whole([batch(0, 5)], hash="xxh3-128:" + "0" * 32), "has hash xxh3-128:", id="hash"),
        pytest.param(whole([batch(0, 5)], complete=False), "without saying", id="not complete"),
        pytest.param(
            [*whole([batch(0, 5)]), (batch(5, 1), b"{}")], "rows after its trailer", id="rows after the trailer"
        ),
    ],
)
@pytest.mark.parametrize("before", [0, 2])
def test_a_stream_that_is_not_whole_is_refused(endpoint: list[Message], said: str, before: int) -> None:
    good = [whole([batch(0, 4)])] * before
    with pytest.raises(rl.IncompleteStream, match=said) as caught:
        read(Script(SCHEMA, [*good, endpoint]))
    assert caught.value.reason == "INCOMPLETE_STREAM"
    assert caught.value.fields["endpoint"] == str(before)


def test_an_error_after_the_trailer_is_an_error() -> None:
    script = Script(SCHEMA, [whole([batch(0, 5)])], failure=fl.FlightServerError("too late"))
    with pytest.raises(rl.RasterloomError, match="too late"):
        read(script)


def test_leaving_early_stops_the_server_and_the_threads() -> None:
    sent = 0

    class Endless(list[Message]):
        def __iter__(self) -> Iterator[Message]:
            nonlocal sent
            while True:
                sent += 1
                yield batch(sent * 1000, 1000), b"{}"

    before = threading.active_count()
    with scripted(Script(SCHEMA, [Endless(), Endless()])) as uri:
        source = FlightSource(uri, timeout=10)
        batches = source.batches(source.flight_info(b""))
        for _ in range(3):
            next(batches)
        began = time.monotonic()
        batches.close()
        assert time.monotonic() - began < 1
        assert not [t for t in threading.enumerate() if t.name.startswith("rasterloom-endpoint")]
        stopped_at = sent
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            time.sleep(0.05)
            if sent == stopped_at:
                break
            stopped_at = sent
        assert sent == stopped_at
        source.close()
    assert threading.active_count() <= before


@pytest.mark.parametrize("way", ["to_arrow", "to_pandas", "to_polars", "to_duckdb", "to_numpy", "to_xarray", "reader"])
def test_no_way_out_hands_over_a_short_table(way: str) -> None:
    script = Script(SCHEMA, [whole([batch(0, 5)]), [(batch(5, 5), b"{}")]])
    with scripted(script) as uri, rl.connect("http://127.0.0.1:1", flight=uri) as loom:
        merge = loom.merge(["birds"])
        with pytest.raises(rl.IncompleteStream):
            merge.to_reader().read_all() if way == "reader" else getattr(merge, way)()


def test_no_file_remains_of_a_short_stream(tmp_path: Path) -> None:
    script = Script(SCHEMA, [whole([batch(0, 5)]), [(batch(5, 5), b"{}")]])
    old = tmp_path / "old.parquet"
    old.write_bytes(b"what was there")
    with scripted(script) as uri, rl.connect("http://127.0.0.1:1", flight=uri) as loom:
        for path, overwrite in ((tmp_path / "new.parquet", False), (old, True)):
            with pytest.raises(rl.IncompleteStream):
                loom.merge(["birds"]).to_parquet(path, overwrite=overwrite)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("old.parquet", b"what was there")]


def test_a_file_made_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new.parquet"

    class Meanwhile(list[Message]):
        def __iter__(self) -> Iterator[Message]:
            path.write_bytes(b"somebody else's")
            yield from whole([batch(0, 5)])

    script = Script(SCHEMA, [Meanwhile()])
    with (
        scripted(script) as uri,
        rl.connect("http://127.0.0.1:1", flight=uri) as loom,
        pytest.raises(FileExistsError, match="overwrite=True"),
    ):
        loom.merge(["birds"]).to_parquet(path)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("new.parquet", b"somebody else's")]


@pytest.mark.parametrize(("progress", "shown"), [(True, True), (False, False), ("auto", False)])
def test_progress(capfd: pytest.CaptureFixture[str], progress: bool, shown: bool) -> None:
    script = Script(SCHEMA, [whole([batch(0, 5), batch(5, 5)])])
    with scripted(script) as uri, rl.connect("http://127.0.0.1:1", flight=uri) as loom:
        loom.merge(["birds"], progress=progress).to_arrow()
    said = capfd.readouterr()
    assert said.out == ""
    assert ("10.0 rows" in said.err) == shown


def test_the_last_line_of_the_progress_is_of_all_rows(capfd: pytest.CaptureFixture[str]) -> None:
    window = rl.Window(0, 4, 0, 1)
    layers = {"birds": np.ma.masked_array(np.arange(4.0).reshape(4, 1), np.zeros((4, 1), bool))}
    merged = table(window, (0, 4, 1, 1), layers, np.array([[1], [1], [1], [0]], bool))
    parts = merged.to_batches(max_chunksize=2)
    messages = [(b, json.dumps({"row": 2 * i + b.num_rows - 1}).encode()) for i, b in enumerate(parts)]
    script = Script(merged.schema, [[*messages, trailer(merged.schema, parts, {})]])
    with scripted(script) as uri, rl.connect("http://127.0.0.1:1", flight=uri) as loom:
        loom.merge(["birds"], progress=True).to_arrow()
    last = capfd.readouterr().err.split("\r")[-1]
    assert "100 %" in last
    assert "3 rows" in last


def test_the_hash_is_that_of_the_specification() -> None:
    """docs/flight.md has the reference program; it is run here as it is printed there."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "flight.md").read_text()
    program = next(part.split("```")[0] for part in page.split("```python\n") if "def content_hash" in part)
    names: dict[str, object] = {}
    exec(program, names)  # noqa: S102
    seed = 20261123
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    types = [np.uint8, np.int16, np.uint16, np.int32, np.int64, np.float32, np.float64]
    rows = 10_007
    arrays = {"x": pa.array(rng.normal(size=rows))}
    for t in types:
        values = rng.integers(0, 120, rows).astype(t)
        missing = rng.random(rows) < 0.3
        values[missing] = 0
        arrays[np.dtype(t).name] = pa.array(values, mask=missing)
        arrays[f"whole {np.dtype(t).name} é"] = pa.array(values)
    fields = [pa.field(name, array.type, nullable=name != "x") for name, array in arrays.items()]
    table = pa.Table.from_arrays(list(arrays.values()), schema=pa.schema(fields))
    expected = names["content_hash"](table.schema, table.to_batches())  # type: ignore[operator]
    for size in (1, 7, 64, 1000, rows):
        content = ContentHash(table.schema)
        for part in table.to_batches(max_chunksize=size):
            content.update(part)
        assert content.digest() == expected
