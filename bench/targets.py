"""The targets, as ratios within one run, and what the run says about each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Literal

from bench.migration import WAIT_MS
from bench.rounds import Run
from bench.sets import find
from bench.trial import Task
from bench.ways import PEERS

MIB = 2**20


@dataclass(frozen=True)
class Finding:
    """A target and what was measured; ``met`` is None where the run cannot tell."""

    what: str
    target: str
    measured: str
    met: bool | None
    by: str = ""

    @property
    def verdict(self) -> str:
        """For the report."""
        if self.met is None:
            return "not measured"
        return "met" if self.met else f"**missed** {self.by}"


def findings(run: Run) -> list[Finding]:
    """Every target that this benchmark speaks of."""
    main = run.main
    return [
        _faster(run, "→ Parquet, against DuckDB's postgres extension", 1.6, "parquet", ["duckdb_postgres"]),
        _faster(run, "→ Parquet, against the old pipeline", 40, "parquet", ["pandas_join"]),
        _within_limits(run, main),
        _faster(
            run,
            "→ pyarrow by Flight, against the best scatter by hand",
            1.3,
            "arrow",
            [p.name for p in PEERS if p.by_hand],
        ),
        _faster(run, "→ pyarrow by Flight, against DuckDB → Arrow", 1.6, "arrow", ["duckdb_postgres"]),
        *(
            _tiles(run, f"{main}-{chain}", what, factor, others)
            for chain in ("raw", "zstd")
            for what, factor, others in (
                ("the best peer from row tables", 10, [p.name for p in PEERS if p.source == "row tables"]),
                ("numpy from GeoTIFFs", 2, ["geotiff_numpy"]),
            )
        ),
        *(_tiles_of_flight(run, f"{main}-{chain}", task) for chain in ("raw", "zstd") for task in ("arrow", "stream")),
        _memory_size(run),
        _memory_growth(run),
        _first_batch(run),
        _linear_in_cells(run),
        _linear_in_layers(run, main),
        *_migration(run, f"{main}#0"),
        _migration_to_tiles(run, f"{main}#0"),
        # The same two speeds as ratios, which another machine may be compared by.
        _of_limit(run, "loom", f"{main}#0", "→ x and y stored, of the speed of one binary COPY", "copy_one", 1.0 / 5.0),
        _of_limit(
            run,
            "loom_tiled",
            f"{main}#0",
            "→ tiles, of the speed of rows packed over two connections",
            "packed_two",
            4 / 12.8,
        ),
    ]


def _migration(run: Run, layers: str) -> list[Finding]:
    what = f"{layers} moved to stored coordinates under a writer, indexed and verified"
    trials = run.of("loom", "migrate", layers)
    if not trials:
        targets = ("≥ 1.0 M rows/s", "≥ 2.7 × ALTER + UPDATE", f"< {WAIT_MS} ms for the writer")
        return [Finding(what, target, "", None) for target in targets]
    own = median(t.result.seconds for t in trials)
    rate = trials[0].result.rows / own / 1e6
    found = [
        Finding(what, "≥ 1.0 M rows/s", f"{rate:.2f} M rows/s ({own:.2f} s)", rate >= 1, f"by {(1 - rate) * 100:.0f} %")
    ]
    old = run.seconds("old_script", "migrate", layers)
    ratio = None if old is None else old / own
    found.append(
        Finding(what, "≥ 2.7 × ALTER + UPDATE", "", None)
        if ratio is None
        else Finding(
            what, "≥ 2.7 × ALTER + UPDATE", f"{ratio:.2f} × ({old:.2f} s / {own:.2f} s)", ratio >= 2.7,
            f"by {(1 - ratio / 2.7) * 100:.0f} %",
        )
    )  # fmt: skip
    waits = [t.result.longest_wait_seconds for t in trials if t.result.longest_wait_seconds is not None]
    longest = max(waits) * 1000
    found.append(
        Finding(what, f"< {WAIT_MS} ms for the writer", f"{longest:.0f} ms at most in {len(waits)} of {len(trials)}",
                longest < WAIT_MS, f"by {longest - WAIT_MS:.0f} ms")
    )  # fmt: skip
    return found


def _migration_to_tiles(run: Run, layers: str) -> Finding:
    what, target = f"{layers} moved to tiles under a writer, verified cell by cell", "≥ 4 M cells/s"
    trials = run.of("loom_tiled", "migrate", layers)
    if not trials:
        return Finding(what, target, "", None)
    own = median(t.result.seconds for t in trials)
    rate = trials[0].result.rows / own / 1e6
    return Finding(what, target, f"{rate:.2f} M cells/s ({own:.2f} s)", rate >= 4, f"by {(1 - rate / 4) * 100:.0f} %")


def _of_limit(run: Run, name: str, layers: str, what: str, limit: str, share: float) -> Finding:
    """Judge a migration by a limit; ``share`` is of the rates that the targets were set by."""
    what, target = f"{layers} {what}", f"≥ {share * 100:.0f} %"
    trials, seconds = run.of(name, "migrate", layers), run.seconds(limit, "limit", run.main)
    if not trials or seconds is None:
        return Finding(what, target, "", None)
    most = find(run.main).cells * len(find(run.main).layers) / seconds / 1e6
    rate = trials[0].result.rows / median(t.result.seconds for t in trials) / 1e6
    return Finding(
        what, target, f"{rate / most * 100:.0f} % ({rate:.2f} of {most:.2f} M/s)", rate / most >= share,
        f"by {(share - rate / most) * 100:.0f} points",
    )  # fmt: skip


def _faster(run: Run, what: str, factor: float, task: Task, peers: Iterable[str]) -> Finding:
    own = run.seconds("loom", task, run.main)
    times = {name: t for name in peers if (t := run.seconds(name, task, run.main)) is not None}
    target = f"≥ {factor:g} ×"
    if own is None or not times:
        return Finding(f"{run.main} {what}", target, "", None)
    best = min(times, key=lambda name: times[name])
    ratio = times[best] / own
    named = f" ({best})" if len(times) > 1 else ""
    return Finding(
        f"{run.main} {what}",
        target,
        f"{ratio:.2f} × ({times[best]:.2f} s{named} / {own:.2f} s)",
        ratio >= factor,
        f"by {(1 - ratio / factor) * 100:.0f} %",
    )


def _tiles(run: Run, layers: str, what: str, factor: float, peers: Iterable[str]) -> Finding:
    own = run.seconds("loom", "arrow", layers)
    times = {name: t for name in peers if (t := run.seconds(name, "arrow", run.main)) is not None}
    what, target = f"{layers} tiles → pyarrow by Flight, against {what}", f"≥ {factor:g} ×"
    if own is None or not times:
        return Finding(what, target, "", None)
    best = min(times, key=lambda name: times[name])
    ratio = times[best] / own
    return Finding(
        what, target, f"{ratio:.2f} × ({times[best]:.2f} s ({best}) / {own:.2f} s)", ratio >= factor,
        f"by {(1 - ratio / factor) * 100:.0f} %",
    )  # fmt: skip


def _tiles_of_flight(run: Run, layers: str, task: Literal["arrow", "stream"]) -> Finding:
    """Both read into a table by a new process, or both dropped."""
    how, name = ("a table of both", "flight_table") if task == "arrow" else ("dropped by both", "flight")
    what, target = f"{layers} tiles → pyarrow by Flight, of what a C++ server's loopback does, {how}", "≥ 40 %"
    own, limit = run.seconds("loom", task, layers), run.seconds(name, "limit", run.main)
    if own is None or limit is None:
        return Finding(what, target, "", None)
    share = limit / own
    return Finding(what, target, f"{share * 100:.0f} % ({limit:.2f} s / {own:.2f} s)", share >= 0.4,
                   f"by {(0.4 - share) * 100:.0f} points")  # fmt: skip


def _within_limits(run: Run, main: str) -> Finding:
    what, target = f"{main} → Parquet, against packed COPY + Parquet write", "≤ 1.35 ×"
    own = run.seconds("loom", "parquet", main)
    packed, write = run.seconds("packed_two", "limit", main), run.seconds("parquet_zstd", "limit", main)
    if own is None or packed is None or write is None:
        return Finding(what, target, "", None)
    ratio = own / (packed + write)
    return Finding(
        what, target, f"{ratio:.2f} × ({own:.2f} s / ({packed:.2f} s + {write:.2f} s))", ratio <= 1.35,
        f"by {(ratio / 1.35 - 1) * 100:.0f} %",
    )  # fmt: skip


def peak(run: Run, layers: str | None = None) -> int | None:
    """Largest resident size of the server over all trials, or those of one set."""
    sizes = [t.server.peak_bytes for t in run.trials if t.server and layers in (None, t.step.layers)]
    return max(sizes, default=None)


def _memory_size(run: Run) -> Finding:
    size = peak(run)
    return Finding(
        "server memory, the largest of all trials, 40 layers too", "≤ 512 MiB",
        "" if size is None else f"{size / MIB:.0f} MiB", None if size is None else size <= 512 * MIB,
        "" if size is None else f"by {size / MIB - 512:.0f} MiB",
    )  # fmt: skip


def _memory_growth(run: Run) -> Finding:
    what, target = "server memory, one layer, from 1 M cells to 100 M", "≤ 10 % more"
    small, large = _stream_peak(run, "1m#0"), _stream_peak(run, "100m")
    if small is None or large is None:
        return Finding(what, target, "", None)
    growth = large / small - 1
    return Finding(
        what, target, f"{growth * 100:+.0f} % ({small / MIB:.0f} → {large / MIB:.0f} MiB)", growth <= 0.1,
        f"by {(growth - 0.1) * 100:.0f} points",
    )  # fmt: skip


def _stream_peak(run: Run, layers: str) -> float | None:
    sizes = [t.server.peak_bytes for t in run.of("loom", "stream", layers) if t.server]
    return median(sizes) if sizes else None


def _first_batch(run: Run) -> Finding:
    sets = dict.fromkeys(t.step.layers for t in run.trials if t.step.task == "first")
    times = {name: t for name in sets if (t := run.seconds("loom", "first", name)) is not None}
    what, target = "time to the first batch, from connecting on, the slowest set", "≤ 150 ms"
    if not times:
        return Finding(what, target, "", None)
    slowest = max(times, key=lambda name: times[name])
    worst = times[slowest]
    return Finding(
        what, target, f"{worst * 1000:.0f} ms ({slowest})", worst <= 0.15, f"by {(worst - 0.15) * 1000:.0f} ms"
    )


def _linear_in_cells(run: Run) -> Finding:
    what, target = "a cell of 100 M costs what a cell of 9 M does (one layer, streamed)", "≤ 1.1 ×"
    large, small = run.seconds("loom", "stream", "100m"), run.seconds("loom", "stream", "9m#0")
    if large is None or small is None:
        return Finding(what, target, "", None)
    ratio = (large / find("100m").cells) / (small / find("9m").cells)
    return Finding(what, target, f"{ratio:.2f} ×", ratio <= 1.1, f"by {(ratio / 1.1 - 1) * 100:.0f} %")


def _linear_in_layers(run: Run, main: str) -> Finding:
    layers = len(find(main).layers)
    what, target = f"{main}: {layers} layers at once, against one by one (streamed)", "≤ 1.1 ×"
    together = run.seconds("loom", "stream", main)
    alone = [run.seconds("loom", "stream", f"{main}#{n}") for n in range(layers)]
    singles = [t for t in alone if t is not None]
    if together is None or len(singles) < layers:
        return Finding(what, target, "", None)
    ratio = together / sum(singles)
    return Finding(
        what,
        target,
        f"{ratio:.2f} × ({together:.2f} s / {sum(singles):.2f} s)",
        ratio <= 1.1,
        f"by {(ratio / 1.1 - 1) * 100:.0f} %",
    )
