"""The example notebooks, run from the first cell to the last against the real suite."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import rasterloom as rl

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


# Jupyter's client, not ours, leaves its event loop and sockets to the end of the process.
@pytest.mark.filterwarnings("ignore")
def test_north_carolina(loom: rl.Loom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert loom.layers("nc_land")
    # A kernel that is this interpreter, whatever kernels the machine has.
    kernel = tmp_path / "kernels" / "python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(
        f'{{"argv": ["{sys.executable}", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"], '
        '"display_name": "Python 3", "language": "python"}'
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    path = EXAMPLES / "north_carolina.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    # It is kept clean: what it shows is what a reader's own run shows.
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)

    assert os.environ["RASTERLOOM_URL"]
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(EXAMPLES)}}
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
