"""Streams that are cut go on where they were, or say that they cannot."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psycopg
import pyarrow.flight as fl
import pytest

import rasterloom as rl
import rasterloom.stream
from rasterloom.stream import FlightSource, _prefetched

from .test_flight_scenarios import cutting

if TYPE_CHECKING:
    import suite as demo_suite

BANDS = [f"olinda-l7-b{band}" for band in range(1, 5)]


def test_a_cut_stream_goes_on_behind_its_last_whole_batch(loom: rl.Loom) -> None:
    """Every connection is cut after so many bytes; the table is whole all the same."""
    merge = loom.merge(BANDS, batch_rows=2000, progress=False)
    whole = merge.to_arrow()
    with cutting(merge.plan.flight_uri) as cut:
        cut.limit = 1_500_000
        source = FlightSource(cut.uri, timeout=10)
        asked: list[str] = []
        resumed = source._resumed

        def counted(*arguments, **options):
            asked.append("resume")
            return resumed(*arguments, **options)

        source._resumed = counted  # type: ignore[method-assign]
        info = source.flight_info(merge.spec.SerializeToString())
        batches = list(source.batches(info))
        source.close()
    assert len(asked) >= 2, "nothing was cut"
    assert [b.num_rows for b in batches] == [b.num_rows for b in whole.to_batches()]
    import pyarrow as pa

    assert pa.Table.from_batches(batches, schema=info.schema).equals(whole)
    print(f"cut {len(asked)} times, {whole.num_rows:,} rows")


def test_a_server_that_starts_again_is_waited_for(loom: rl.Loom) -> None:
    """It is not only the stream that is cut: what asks for the rest of it finds nobody, more than once."""
    merge = loom.merge(BANDS, batch_rows=2000, progress=False)
    whole = merge.to_arrow()
    with cutting(merge.plan.flight_uri) as cut:
        cut.limit, cut.away = 1_500_000, 4
        source = FlightSource(cut.uri, timeout=10)
        info = source.flight_info(merge.spec.SerializeToString())
        rows = sum(batch.num_rows for batch in source.batches(info))
        source.close()
    assert cut.away == 0
    assert rows == whole.num_rows


def test_a_server_that_stays_away_is_told_of_soon(loom: rl.Loom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rasterloom.stream, "MAX_FAILURES", 2)
    merge = loom.merge(BANDS, batch_rows=2000, progress=False)
    with cutting(merge.plan.flight_uri) as cut:
        cut.limit, cut.away = 1_500_000, 1_000_000
        source = FlightSource(cut.uri, timeout=10)
        info = source.flight_info(merge.spec.SerializeToString())
        came: list[int] = []
        with pytest.raises(rl.Unavailable, match=r"was cut after .* rows, and could not go on: no ") as caught:
            came.extend(batch.num_rows for batch in source.batches(info))
        source.close()
    assert caught.value.reason == "SERVER_UNREACHABLE"
    assert caught.value.fields["rows"] == str(sum(came))


@pytest.mark.parametrize(("limit", "value"), [("MAX_FAILURES", 1), ("PATIENCE", 0.1)])
def test_a_server_that_says_nothing_is_told_of_too(
    loom: rl.Loom, limit: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rasterloom.stream, limit, value)
    merge = loom.merge(BANDS, batch_rows=2000, progress=False)
    with cutting(merge.plan.flight_uri) as cut:
        cut.limit = 1_500_000
        source = FlightSource(cut.uri, timeout=10)

        def silence(*_: object) -> None:
            raise rl.DeadlineExceeded("it did not answer in time")

        source._resumed = silence  # type: ignore[method-assign,assignment]
        info = source.flight_info(merge.spec.SerializeToString())
        with pytest.raises(rl.DeadlineExceeded, match=r"was cut after .* rows, and could not go on: it did not"):
            list(source.batches(info))
        source.close()


def test_the_pauses_leave_a_server_time_to_start() -> None:
    from rasterloom.stream import FIRST_PAUSE, LONGEST_PAUSE, MAX_FAILURES

    pauses = [min(FIRST_PAUSE * 4**failures, LONGEST_PAUSE) for failures in range(MAX_FAILURES)]
    assert 15 <= sum(pauses) <= 20


def test_an_endpoint_whose_ticket_is_forgotten_is_asked_for_again(loom: rl.Loom) -> None:
    """As after a restart of the server, which signs with another key: endpoints that did not begin have old tickets."""
    merge = loom.merge(BANDS, endpoints=3, progress=False)
    whole = merge.to_arrow()
    source = FlightSource(merge.plan.flight_uri, timeout=10)
    info = source.flight_info(merge.spec.SerializeToString())
    endpoints = [info.endpoints[0]] + [
        fl.FlightEndpoint(b"of another key", [], app_metadata=endpoint.app_metadata) for endpoint in info.endpoints[1:]
    ]
    old = fl.FlightInfo(info.schema, info.descriptor, endpoints, -1, -1)
    assert sum(batch.num_rows for batch in source.batches(old)) == whole.num_rows
    source.close()


def test_layers_that_changed_are_never_mixed(loom: rl.Loom, suite: demo_suite.Suite) -> None:
    """A stream that is cut while its layer changes ends with ABORTED."""
    band = loom.layer("olinda-l7-b1")
    loom.register("bumped", band.table, band.grid)
    merge = loom.merge(["bumped"], batch_rows=2000, progress=False)
    try:
        with cutting(merge.plan.flight_uri) as cut:
            cut.limit = 600_000
            source = FlightSource(cut.uri, timeout=10)
            info = source.flight_info(merge.spec.SerializeToString())
            batches = source.batches(info)
            next(batches)
            with psycopg.connect(suite.database_url) as database:
                database.execute("UPDATE rasterloom.layer SET generation = generation + 1 WHERE name = 'bumped'")
            with pytest.raises(rl.Aborted) as caught:
                list(batches)
            source.close()
        assert caught.value.reason == "LAYER_CHANGED"
    finally:
        loom.drop("bumped")


@pytest.mark.parametrize("endpoints", [1, 3, 16, 200])
def test_endpoints_are_the_table(loom: rl.Loom, endpoints: int) -> None:
    whole = loom.merge(BANDS, progress=False).to_arrow()
    assert loom.merge(BANDS, endpoints=endpoints, progress=False).to_arrow().equals(whole)


def test_ctrl_c_reaches_the_database(suite: demo_suite.Suite) -> None:
    """A second after SIGINT in the middle of a table no query of it runs any more."""
    program = (
        "import rasterloom as rl\n"
        f"merge = rl.connect().merge({BANDS!r}, batch_rows=1, rows='every', progress=False)\n"
        "for i, batch in enumerate(merge.to_batches()):\n"
        "    if i == 100: print('reading', flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "reading\n"
    question = (
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' "
        "AND pid <> pg_backend_pid() AND state <> 'idle'"
    )
    with psycopg.connect(suite.database_url, autocommit=True) as database:
        assert database.execute(question).fetchone() != (0,), "nothing is being read"
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        while database.execute(question).fetchone() != (0,):
            assert time.monotonic() - began < 1, "the server still reads"
            time.sleep(0.02)
        print(f"idle after {time.monotonic() - began:.2f} s")
    assert process.communicate(timeout=10)[1].rstrip().endswith("KeyboardInterrupt")


def test_large_batches_are_not_read_ahead_by_the_dozen() -> None:
    """What a slow consumer has in memory is bounded, whatever ``batch_rows`` it asked for."""
    assert [_prefetched(size) for size in (0, 48, 1 << 20, 2 << 20, 4 << 20, 48 << 20)] == [16, 16, 16, 8, 4, 4]
