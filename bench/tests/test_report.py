"""What a report concludes from results that are made up here."""

import json
from pathlib import Path
from typing import Any

from bench import report, targets
from bench.rounds import Run, Step, Trial
from bench.suite import Watched
from bench.trial import Result, Task

MIB = 2**20


def a_run(*trials: Trial) -> Run:
    return Run(
        form="short",
        main="1m",
        command="bash bench/run.sh short",
        began="2026-01-01 00:00 UTC",
        facts={"processor": "a processor", "commit": "0123456789ab"},
        versions={"duckdb": "1.5.5"},
        database={"server_version": "15.1"},
        seed=1,
        loads=[0.0],
        trials=list(trials),
    )


def done(name: str, task: Task, seconds: float, layers: str = "1m", *, server: int = 0, **result: Any) -> Trial:
    answered = {} if task == "limit" else {"right": True, "answer": "yes"}
    watched = Watched(peak_bytes=server, samples=[(0.0, server), (1.0, server)]) if server else None
    return Trial(Step(name, task, layers), 1, Result(seconds=seconds, peak_bytes=MIB, **answered | result), watched)


def finding(run: Run, part: str) -> targets.Finding:
    (found,) = [f for f in targets.findings(run) if part in f.what]
    return found


def test_ratio_of_medians():
    run = a_run(
        *(done("duckdb_postgres", "parquet", t) for t in (2.0, 9.0, 4.0)),
        *(done("loom", "parquet", t, server=MIB) for t in (1.0, 2.0, 5.0)),
    )
    found = finding(run, "DuckDB's postgres extension")
    assert found.met
    assert found.measured.startswith("2.00 ×")


def test_missed_by_how_much():
    run = a_run(done("duckdb_postgres", "arrow", 1.2), done("loom", "arrow", 1.0))
    found = finding(run, "DuckDB → Arrow")
    assert found.met is False
    assert found.verdict == "**missed** by 25 %"


def test_limit_is_the_sum_of_both():
    run = a_run(
        done("packed_two", "limit", 2.0), done("parquet_zstd", "limit", 1.0), done("loom", "parquet", 3.6, server=MIB)
    )
    assert finding(run, "packed COPY").measured.startswith("1.20 ×")


def test_a_wrong_answer_has_no_time():
    run = a_run(
        done("duckdb_postgres", "parquet", 2.0),
        done("loom", "parquet", 0.1, right=False, answer="no: 1 wrong values"),
    )
    assert run.seconds("loom", "parquet", "1m") is None
    assert finding(run, "DuckDB's postgres extension").met is None
    assert [t.result.answer for t in run.failures()] == ["no: 1 wrong values"]


def test_the_best_by_hand_is_the_measure():
    run = a_run(done("adbc_numpy", "arrow", 3.0), done("psql_numpy", "arrow", 2.0), done("loom", "arrow", 1.0))
    assert "psql_numpy" in finding(run, "scatter by hand").measured


def test_memory_growth():
    run = a_run(
        done("loom", "stream", 1.0, "1m#0", server=100 * MIB), done("loom", "stream", 99.0, "100m", server=115 * MIB)
    )
    found = finding(run, "from 1 M cells to 100 M")
    assert found.measured == "+15 % (100 → 115 MiB)"
    assert found.verdict == "**missed** by 5 points"


def test_a_migration_is_judged_by_speed_ratio_and_wait():
    run = a_run(
        *(done("loom", "migrate", t, "1m#0", rows=1_000_000, longest_wait_seconds=0.1 * t) for t in (0.8, 2.6, 0.5)),
        done("old_script", "migrate", 2.0, "1m#0", rows=1_000_000, longest_wait_seconds=1.9),
    )
    speed, ratio, wait = (f for f in targets.findings(run) if "stored coordinates" in f.what)
    assert speed.met
    assert speed.measured.startswith("1.25 M rows/s")
    assert ratio.verdict == "**missed** by 7 %"
    assert wait.verdict == "**missed** by 10 ms"  # the longest counts, not the median
    wrong = a_run(done("loom", "migrate", 0.1, "1m#0", rows=1, right=False, answer="no: 1 wrong coordinates"))
    assert [f.met for f in targets.findings(wrong) if "stored coordinates" in f.what] == [None] * 3
    assert len(wrong.failures()) == 1


def test_a_migration_to_tiles_is_judged_by_speed():
    def tiled(seconds: float, **more: Any) -> Trial:
        return done("loom_tiled", "migrate", seconds, "1m#0", rows=1_000_000, longest_wait_seconds=0.1, **more)

    assert finding(a_run(tiled(0.2), tiled(0.5), tiled(0.25)), "moved to tiles").measured == "4.00 M cells/s (0.25 s)"
    assert finding(a_run(tiled(0.5)), "moved to tiles").verdict == "**missed** by 50 %"
    wrong = a_run(tiled(0.1, right=False, answer="no: 1 wrong values"))
    assert finding(wrong, "moved to tiles").met is None
    assert len(wrong.failures()) == 1


def test_a_migration_is_judged_by_a_limit():
    moved = done("loom", "migrate", 1.0, "1m#0", rows=1_000_000, longest_wait_seconds=0.1)
    for seconds, share, met in ((0.8, "20 % (1.00 of 5.00 M/s)", True), (0.4, "10 % (1.00 of 10.00 M/s)", False)):
        found = finding(a_run(moved, done("copy_one", "limit", seconds, rows=4_000_000)), "x and y stored")
        assert (found.measured, found.met) == (share, met)
    assert finding(a_run(moved), "x and y stored").met is None


def test_report_of_results_read_back(tmp_path: Path):
    run = a_run(
        done("pandas_join", "parquet", 50.0, right=False, answer="no: 7 values lost (every zero)"),
        done("duckdb_postgres", "parquet", 2.0),
        done("duckdb_postgres", "arrow", 0.0, error="not finished in 60 s"),
        done("loom", "parquet", 1.0, server=90 * MIB),
        done("loom", "stream", 1.0, server=90 * MIB, first_seconds=0.1),
        done("loom", "first", 0.1, server=90 * MIB),
        done("packed_two", "limit", 0.5, rows=4_000_000),
        done("loom", "migrate", 1.0, "1m#0", server=90 * MIB, rows=1_000_000, longest_wait_seconds=0.02),
        done("old_script", "migrate", 3.0, "1m#0", rows=1_000_000, longest_wait_seconds=2.9),
        done("loom", "ingest", 0.5, "1m#0", server=90 * MIB, rows=1_000_000, bytes=8_000_000),
    )
    again = Run.from_json(json.loads(json.dumps(run.to_json())))
    text = report.write(again, tmp_path).read_text()
    assert "| DuckDB with its postgres extension | 2.00 s (1) | 2.00 |" in text
    assert "not finished in 60 s" in text
    assert "no: 7 values lost (every zero)" in text
    assert "8.0 M cells/s" in text
    assert "ALTER TABLE and one UPDATE | 3.00 s (1) | 0.33 M rows/s | 3.00 | 2,900 ms | yes |" in text
    assert "| `1m#0` | 0.50 s (1) | 2.0 M cells/s, 16 MB/s | 0.0 s | 0.0 s | 90 MiB | yes |" in text
    assert "## Failures" not in text
    assert (tmp_path / "benchmarks.png").read_bytes().startswith(b"\x89PNG")
