"""The report of a run: Markdown and a plot, from the results alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from bench import plot
from bench.limits import LIMITS
from bench.migration import ABOUT, WAYS
from bench.rounds import Run, Trial
from bench.sets import SETS, find
from bench.targets import findings, peak
from bench.trial import Task
from bench.ways import LOOM, PEERS

MIB = 2**20
NOISE = 1.25


def write(run: Run, folder: Path) -> Path:
    """Write ``benchmarks.md`` and ``benchmarks.png``; gives the path of the first."""
    plot.draw(run, folder / "benchmarks.png")
    path = folder / "benchmarks.md"
    path.write_text("\n\n".join(_sections(run)) + "\n")
    return path


def _sections(run: Run) -> Iterable[str]:
    layers = find(run.main)
    rounds = max((t.round for t in run.trials), default=0)
    yield "# Benchmarks"
    yield (
        f"Written by `{run.command}` on {run.began}, commit {run.facts['commit']}; the raw numbers are in "
        "[benchmarks.json](benchmarks.json).\nCompare ratios within this page only: times depend on machine, hour and neighbours."
    )
    yield _table(["", ""], [[k, v] for k, v in (run.facts | _database(run)).items()])
    yield "![Times and memory](benchmarks.png)"
    if failures := run.failures():
        yield "## Failures"
        yield "\n".join(
            f"- round {t.round}, `{t.step.layers}` {t.step.title}: {t.result.error or t.result.answer}"
            for t in failures
        )
    yield "## Targets"
    yield _table(
        ["what", "target", "measured", ""], [[f.what, f.target, f.measured or "–", f.verdict] for f in findings(run)]
    )
    yield f"## {layers.values / 1e6:,.0f} M cells in row tables → one table"
    yield (
        f"Set `{run.main}`: {layers.about}. Outer join, columns x, y and one float64 per layer. {rounds} round{'s' if rounds > 1 else ''} in random order "
        f"(seed {run.seed}); medians, with the range and the number of runs. *Ratio* is the time over Rasterloom's: "
        f"above 1, Rasterloom is faster; ≈ marks ratios within {NOISE} either way, which are noise. "
        "*Right* says whether every cell of every answer was as the set's formula has it. "
        "Peak memory is that of the process, its libraries included."
    )
    for task, title in (("parquet", "To a Parquet file"), ("arrow", "To an Arrow table in memory")):
        yield f"### {title}"
        yield _ways(run, task)
    if run.left_out:
        yield "Left out: " + "; ".join(f"{what} ({why})" for what, why in run.left_out.items()) + "."
    yield "## Limits"
    yield f"On the tables of `{run.main}`, or on its answer. A row of the answer is 6 float64, {layers.cells * 48 / 1e6:,.0f} MB in all."
    yield _limits(run)
    yield "## Rasterloom as work grows"
    yield (
        "A stream that the client reads to its end and does not keep; `9m#0` is the first layer of `9m` alone. "
        "*First batch* is timed apart, from connecting on, planning included. "
        "Server memory is the largest resident size of the whole process, three services, started for that stream."
    )
    yield _growth(run)
    if other := _other_sets(run):
        yield other
    if any(t.step.task == "ingest" for t in run.trials):
        yield "## Sending a raster"
        yield (
            "A float64 array in a file, mapped into memory, sent by the Python client and stored as tiles; replacing the "
            "layer of the round before. The server's CPU and memory are those of the trial, which also reads all of it back."
        )
        yield _ingests(run)
    if any(t.step.task == "migrate" for t in run.trials):
        yield "## Migration"
        yield ABOUT
        yield _migrations(run)
    yield "## How it is measured"
    yield METHOD.format(sets="\n".join(f"- `{s.name}`: {s.about}" for s in SETS.values()), versions=_versions(run))


def _database(run: Run) -> dict[str, str]:
    settings = ", ".join(f"{k} {v}" for k, v in run.database.items() if k != "server_version")
    loads = ", ".join(f"{load:.1f}" for load in run.loads)
    return {
        "PostgreSQL": f"{run.database['server_version']}; {settings}",
        "load average at the start of each round": loads,
    }


def _versions(run: Run) -> str:
    return ", ".join(f"{name} {version}" for name, version in run.versions.items())


def _ways(run: Run, task: Task) -> str:
    own = run.seconds("loom", task, run.main)
    rows = []
    for peer in (*PEERS, LOOM):
        tried = run.tried(peer.name, task, run.main)
        if not tried:
            continue
        trials = run.of(peer.name, task, run.main)
        name = f"**{peer.title}**" if peer is LOOM else peer.title
        if not trials:
            rows.append((float("inf"), [name, "–", "–", "–", "–", tried[-1].result.error or tried[-1].result.answer]))
            continue
        seconds = median(t.result.seconds for t in trials)
        ratio = "" if own is None or peer is LOOM else _ratio(seconds / own)
        memory = f"{median(t.result.peak_bytes for t in trials) / MIB:,.0f} MiB"
        if peer is LOOM and (servers := [t.server.peak_bytes for t in trials if t.server]):
            memory += f" + server {median(servers) / MIB:,.0f}"
        cpu = f"{median(t.result.cpu_seconds for t in trials):.1f} s"
        if peer is LOOM and (used := [t.server.cpu_seconds for t in trials if t.server]):
            cpu += f" + server {median(used):.1f}"
        failed = f"; {len(tried) - len(trials)} failed or were wrong" if len(tried) > len(trials) else ""
        rows.append((seconds, [name, _seconds(trials), ratio, memory, cpu, _answers(trials) + failed]))
    rows.sort(key=lambda row: -row[0])
    return _table(["who", "time", "ratio", "peak memory", "its CPU", "right"], [row for _, row in rows])


def _answers(trials: Sequence[Trial]) -> str:
    return " / ".join(dict.fromkeys(t.result.answer for t in trials))


def _limits(run: Run) -> str:
    rows = []
    for limit in LIMITS:
        if trials := run.of(limit.name, "limit", run.main):
            seconds = median(t.result.seconds for t in trials)
            result = trials[0].result
            rate = f"{result.rows / seconds / 1e6:,.1f} M rows/s"
            if limit.name.startswith("packed"):
                rate = f"{result.rows / seconds / 1e6:,.1f} M cells/s"
            elif limit.name.startswith(("parquet", "flight")):
                rate += f", {result.bytes / seconds / 1e6:,.0f} MB/s"
            rows.append([limit.title, _seconds(trials), rate, result.answer])
    return _table(["what", "time", "rate", ""], rows)


def _growth(run: Run) -> str:
    names = dict.fromkeys(t.step.layers for t in run.trials if t.step.task == "stream")
    rows = []
    for name in sorted(names, key=lambda name: (find(name).values, name)):
        layers = find(name)
        trials, firsts = run.of("loom", "stream", name), run.of("loom", "first", name)
        if not trials:
            continue
        seconds = median(t.result.seconds for t in trials)
        servers = [t.server for t in trials if t.server]
        rows.append(
            [
                f"`{name}`",
                f"{len(layers.layers)} × {layers.cells / 1e6:g} M",
                _seconds(trials),
                f"{layers.values / seconds / 1e6:.1f} M cells/s",
                f"{median(t.result.seconds for t in firsts) * 1000:,.0f} ms" if firsts else "–",
                f"{median(s.peak_bytes for s in servers) / MIB:,.0f} MiB" if servers else "–",
                f"{median(s.cpu_seconds for s in servers):.1f} s" if servers else "–",
                _verified(run, name) or _answers(trials),
            ]
        )
    table = _table(
        ["set", "layers × cells", "time", "rate", "first batch", "server memory", "server CPU", "right"], rows
    )
    size = peak(run)
    return table + ("" if size is None else f"\n\nThe largest the server ever was in this run: {size / MIB:,.0f} MiB.")


def _ingests(run: Run) -> str:
    rows = []
    for name in dict.fromkeys(t.step.layers for t in run.trials if t.step.task == "ingest"):
        trials, tried = run.of("loom", "ingest", name), run.tried("loom", "ingest", name)
        if not trials:
            rows.append([f"`{name}`", "–", "–", "–", "–", "–", tried[-1].result.error or tried[-1].result.answer])
            continue
        seconds = median(t.result.seconds for t in trials)
        servers = [t.server for t in trials if t.server]
        rows.append(
            [
                f"`{name}`",
                _seconds(trials),
                f"{find(name).values / seconds / 1e6:.1f} M cells/s, {trials[0].result.bytes / seconds / 1e6:,.0f} MB/s",
                f"{median(t.result.cpu_seconds for t in trials):.1f} s",
                f"{median(s.cpu_seconds for s in servers):.1f} s" if servers else "–",
                f"{median(s.peak_bytes for s in servers) / MIB:,.0f} MiB" if servers else "–",
                _answers(trials),
            ]
        )
    return _table(["layer", "time", "rate", "its CPU", "server CPU", "server memory", "right"], rows)


def _migrations(run: Run) -> str:
    rows = []
    for name in dict.fromkeys(t.step.layers for t in run.trials if t.step.task == "migrate"):
        own = run.seconds("loom", "migrate", name)
        for way in WAYS:
            tried, trials = run.tried(way.name, "migrate", name), run.of(way.name, "migrate", name)
            if not trials:
                if tried:
                    rows.append([f"`{name}`", way.title, "–", "–", "–", "–", tried[-1].result.error])
                continue
            seconds = median(t.result.seconds for t in trials)
            waits = [t.result.longest_wait_seconds or 0 for t in trials]
            rows.append(
                [
                    f"`{name}`", way.title, _seconds(trials), f"{trials[0].result.rows / seconds / 1e6:.2f} M rows/s",
                    "" if own is None or way.name == "loom" else _ratio(seconds / own),
                    f"{max(waits) * 1000:,.0f} ms", _answers(trials),
                ]
            )  # fmt: skip
    return _table(["layer", "how", "time", "rate", "ratio", "a writer's longest wait", "right"], rows)


def _verified(run: Run, name: str) -> str:
    checked = run.of("loom", "verify", name)
    return f"{checked[0].result.answer}, every cell" if checked else ""


def _other_sets(run: Run) -> str:
    rows = []
    for name in dict.fromkeys(
        t.step.layers for t in run.trials if t.step.task == "arrow" and t.step.layers != run.main
    ):
        own = run.seconds("loom", "arrow", name)
        for peer in (*PEERS, LOOM):
            if trials := run.of(peer.name, "arrow", name):
                seconds = median(t.result.seconds for t in trials)
                ratio = "" if own is None or peer is LOOM else _ratio(seconds / own)
                rows.append([f"`{name}`", peer.title, _seconds(trials), ratio, _answers(trials)])
    return (
        "### Tiles, and many layers, to an Arrow table\n\n" + _table(["set", "who", "time", "ratio", "right"], rows)
        if rows
        else ""
    )


def _seconds(trials: Sequence[Trial]) -> str:
    times = [t.result.seconds for t in trials]
    if len(times) == 1:
        return f"{times[0]:.2f} s (1)"
    return f"{median(times):.2f} s ({min(times):.2f}–{max(times):.2f}, {len(times)})"


def _ratio(value: float) -> str:
    return f"≈ {value:.2f}" if 1 / NOISE < value < NOISE else f"{value:.2f}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


METHOD = """\
The sets are made inside the server from a formula, so that each cell of each answer can be compared with what it must be, bit for bit:

{sets}

A value is a slope with noise on it, a whole number of hundredths; 2 % are zeros, which are values. Rows lie in row-major order and every table has its
primary key on (row_idx, col_idx), is vacuumed and analysed, and is read once before the rounds.

Each trial is a process of its own, on the same machine as the server, over its Unix socket. Time runs from the end of its imports to the table in
memory or the closed file, connecting included; then peak memory is read (VmHWM); then the answer is checked. The peers are in `bench/ways/`, one file
each, with their libraries' own settings; the scatters by hand write Parquet by zstd 1 with byte stream split, as Rasterloom's client does where values do not repeat. The peers on row tables
take a cell's indices for its place and never look at its layer's bounds: they are right here only because the one layer that lies off lies off by less than half a pixel.
Rasterloom and odc-geo look. The files of the GeoTIFF rows hold the same layers, deflated, in tiles of 256.

Peers: {versions}."""
