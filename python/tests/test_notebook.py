"""The example notebooks, run from the first cell to the last against the real suite."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import load
import nbformat
import psycopg
import pytest
from nbclient import NotebookClient

import rasterloom as rl

if TYPE_CHECKING:
    from collections.abc import Iterator

    import suite as demo_suite

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
UPDATE = "RASTERLOOM_UPDATE_NOTEBOOKS"
"""Set, the outputs that tutorial.ipynb keeps are written anew."""
PROGRESS = re.compile(r"(\s*(merge .*)?)*")
HANGS_AFTER = 600
"""Seconds: far beyond what any cell takes on a busy machine."""

# Jupyter's client, not ours, leaves its event loop and sockets to the end of the process.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A kernel that is this interpreter, whatever kernels the machine has."""
    folder = tmp_path / "kernels" / "python3"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(
        f'{{"argv": ["{sys.executable}", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"], '
        '"display_name": "Python 3", "language": "python"}'
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    # Threads that spin for each other take minutes where others want the cores, too.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return "python3"


@pytest.fixture
def demo_alone(suite: demo_suite.Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What `make demo` leaves and nothing else, where `rl.local()` finds it."""
    with psycopg.connect(suite.database_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE tutorial")
    url = psycopg.conninfo.make_conninfo(suite.database_url, dbname="tutorial")
    load.load(url)
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("RASTERLOOM_URL", "http://127.0.0.1:9")  # where nothing answers: ours is to be found
    monkeypatch.setenv("RASTERLOOM_BINARY", str(EXAMPLES.parent / ".bin" / "rasterloom"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with rl.local(url) as loom:
        loom.adopt()
        yield


def run(notebook: Any, kernel: str, folder: Path) -> None:
    """Run every cell, in ``folder``."""
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=HANGS_AFTER, kernel_name=kernel, record_timing=False, resources=where).execute()


def without_progress(notebook: Any) -> Any:
    """Take out progress bars, which are gone when a cell is done, and nothing else that went to stderr."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                assert PROGRESS.fullmatch(output.text), output.text
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def shown(cell: Any) -> list[tuple[str, str]]:
    """What a reader sees below a cell; of a picture, only that there is one."""
    seen: list[tuple[str, str]] = []
    for output in cell.outputs:
        if output.output_type == "stream":
            seen.append((output.name, output.text))
            continue
        picture = "image/png" in output.data
        seen += [(mime, "" if picture else str(text)) for mime, text in sorted(output.data.items())]
    return seen


@pytest.mark.usefixtures("demo_alone")
def test_tutorial_prints_what_it_keeps(kernel: str, tmp_path: Path) -> None:
    path = EXAMPLES / "tutorial.ipynb"
    kept, fresh = (nbformat.read(path, as_version=4) for _ in range(2))
    nbformat.validate(kept)
    NotebookClient(
        fresh,
        timeout=HANGS_AFTER,
        kernel_name=kernel,
        record_timing=False,
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    fresh = without_progress(fresh)
    if os.environ.get(UPDATE):
        fresh.metadata = kept.metadata
        nbformat.write(fresh, path)
        return
    assert sum(cell.cell_type == "code" for cell in kept.cells) > 10
    for before, after in zip(kept.cells, fresh.cells, strict=True):
        if before.cell_type == "code":
            assert before.execution_count == after.execution_count
            assert shown(before) == shown(after), (
                f"{before.source}\nprints otherwise: {UPDATE}=1 pytest, and look at it"
            )
    pictures = [output for cell in kept.cells for output in cell.get("outputs", []) if ("image/png", "") in shown(cell)]
    assert len(pictures) == 4


def test_north_carolina(kernel: str, loom: rl.Loom) -> None:
    assert loom.layers("nc_land")
    path = EXAMPLES / "north_carolina.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    # It is kept clean: what it shows is what a reader's own run shows.
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)

    assert os.environ["RASTERLOOM_URL"]
    NotebookClient(
        notebook, timeout=HANGS_AFTER, kernel_name=kernel, resources={"metadata": {"path": str(EXAMPLES)}}
    ).execute()

    text = "".join(output.get("text", "") for cell in code for output in cell.outputs)
    assert "RESIDUAL_TOO_LARGE" in text or "ask for it to be resampled" in text
    assert "with height and land" in text
    scores = [float(line.split("R² ")[1].split(",")[0]) for line in text.splitlines() if "off by" in line]
    assert len(scores) == 3
    place, with_height, trees = scores
    assert place < 0.6 < 0.8 < with_height < trees < 0.95
    pictures = [output for cell in code for output in cell.outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 2
