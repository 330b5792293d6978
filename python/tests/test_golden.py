"""The golden files of the Go tests are what their sources answer today."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

GOLDEN = Path(__file__).resolve().parents[2] / "test" / "golden"


@pytest.mark.parametrize("script", ["odcgeo.py", "epsg.py"])
def test_golden_file_is_fresh(script: str) -> None:
    run = subprocess.run([sys.executable, GOLDEN / script, "--check"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
