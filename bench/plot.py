"""The picture of a run."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from bench.rounds import Run
from bench.sets import find
from bench.trial import Task
from bench.ways import LOOM, PEERS, Peer

MIB = 2**20
PLATE = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85}
OWN, TABLES, FILES, LIMIT = "#ea580c", "#94a3b8", "#dbe3ec", "#0f766e"


def draw(run: Run, path: Path) -> None:
    """Draw times, peak memory of clients, and the server's memory over time."""
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure = plt.figure(figsize=(13, 8.6), layout="constrained")
    cells = find(run.main).values
    figure.suptitle(
        f"{len(find(run.main).layers)} layers, {cells / 1e6:,.0f} M cells in PostgreSQL tables → one aligned table"
        f"   ·   {run.facts['processor']}   ·   {run.began}",
        fontsize=11,
    )
    # Figures of their own, so that long names in one column take nothing from the others.
    (upper_left, upper_right), (lower_left, lower_right) = figure.subfigures(2, 2)
    _times(upper_left.subplots(), run, "parquet", "to a Parquet file, seconds")
    _times(upper_right.subplots(), run, "arrow", "to an Arrow table in memory, seconds")
    _client_memory(lower_left.subplots(), run)
    _server_memory(lower_right.subplots(), run)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _colour(peer: Peer) -> str:
    return OWN if peer is LOOM else FILES if peer.source != "row tables" else TABLES


def _times(axes: Axes, run: Run, task: Task, title: str) -> None:
    timed = [(peer, t) for peer in (*PEERS, LOOM) if (t := run.seconds(peer.name, task, run.main)) is not None]
    timed.sort(key=lambda pair: -pair[1])
    # The old pipeline would leave nothing to see of the others: its bar runs off the edge.
    right = max((t for peer, t in timed if not peer.old), default=1.0) * 1.3
    for place, (peer, seconds) in enumerate(timed):
        times = [t.result.seconds for t in run.of(peer.name, task, run.main)]
        axes.barh(place, min(seconds, right), color=_colour(peer), height=0.68)
        text = f"{seconds:.3g}"
        if peer.old:
            text += ", and a wrong answer"
        if seconds < right:
            axes.plot([min(times), max(times)], [place, place], color="#1e293b", linewidth=1)
            axes.text(max(times) + right / 60, place, text, va="center", bbox=PLATE)
        else:
            axes.text(right * 0.98, place, f"{text} →", va="center", ha="right", color="#0f172a")
    axes.set_yticks(range(len(timed)), [peer.title for peer, _ in timed])
    _emphasise_own(axes)
    packed = run.seconds("packed_two", "limit", run.main)
    write = run.seconds("parquet_zstd", "limit", run.main) if task == "parquet" else 0.0
    if packed is not None and write is not None:
        axes.axvline(packed + write, color=LIMIT, linewidth=1, linestyle=(0, (4, 3)))
        label = "packed COPY" + (" + Parquet write" if task == "parquet" else "")
        axes.text(packed + write, len(timed) - 0.45, f" limit: {label}", color=LIMIT, va="bottom", fontsize=8)
    axes.set_xlim(0, right)
    axes.set_ylim(-0.6, len(timed))
    _dress(axes, title)


def _emphasise_own(axes: Axes) -> None:
    for label in axes.get_yticklabels():
        if label.get_text().startswith("Rasterloom"):
            label.set_fontweight("bold")


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left")
    axes.grid(axis="x", color="#e2e8f0")
    axes.set_axisbelow(True)


def _client_memory(axes: Axes, run: Run) -> None:
    """Peak of the process that ends up with the file, imports included; and of our server."""
    bars: list[tuple[str, float, str]] = []
    for peer in (*PEERS, LOOM):
        if trials := run.of(peer.name, "parquet", run.main):
            bars.append((peer.title, median(t.result.peak_bytes for t in trials) / MIB, _colour(peer)))
        if peer is LOOM and trials and (served := [t.server.peak_bytes for t in trials if t.server]):
            bars[-1] = ("Rasterloom, the client", *bars[-1][1:])
            bars.append(("Rasterloom, the server", median(served) / MIB, OWN))
    bars.sort(key=lambda bar: -bar[1])
    for place, (_, size, colour) in enumerate(bars):
        axes.barh(place, size, color=colour, height=0.68)
        axes.text(size, place, f" {size:,.0f}", va="center")
    axes.set_yticks(range(len(bars)), [bar[0] for bar in bars])
    _emphasise_own(axes)
    _dress(axes, "to a Parquet file, peak memory in MiB")


def _server_memory(axes: Axes, run: Run) -> None:
    curves = [t for t in run.trials if t.server and t.server.samples and t.step.task == "stream"]
    curves = [t for t in curves if t.step.layers in (run.main, "1m", "1m#0", "9m", "9m#0", "40", "100m")]
    curves.sort(key=lambda t: find(t.step.layers).values)
    for t, colour in zip(
        curves, plt.get_cmap("viridis")([i / max(len(curves), 1) for i in range(len(curves))]), strict=True
    ):
        assert t.server is not None
        last = t.server.samples[-1][0]
        layers = find(t.step.layers)
        axes.plot(
            [100 * at / last for at, _ in t.server.samples],
            [size / MIB for _, size in t.server.samples],
            color=colour,
            label=f"{len(layers.layers)} × {layers.cells / 1e6:g} M cells ({t.result.seconds:.1f} s)",
        )
    axes.axhline(512, color=LIMIT, linewidth=1, linestyle=(0, (4, 3)))
    axes.text(0, 512, " the default limit", color=LIMIT, va="bottom", fontsize=8)
    axes.set_ylim(0, 600)
    axes.set_xlabel("part of the stream, %")
    axes.set_xlim(0, 100)
    _dress(axes, "Rasterloom's server as it streams, resident MiB")
    if curves:
        axes.legend(frameon=False, fontsize=8, loc="upper right", bbox_to_anchor=(1, 0.84))
