"""The package as others get it: built, installed beside nothing of this checkout, and used."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import rasterloom as rl

if TYPE_CHECKING:
    import suite as demo_suite

PROJECT = Path(__file__).resolve().parents[1]
SOURCE = PROJECT / "src" / "rasterloom"
REQUIRED = ("google.protobuf", "google.rpc", "grpc", "numpy", "pyarrow", "tqdm", "xxhash")
"""What the package cannot be imported without; everything else must be optional."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist, and the wheel that was built from it; with what is installed, so without a network."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(PROJECT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


def test_nothing_is_missing_and_nothing_too_much(built: tuple[Path, Path]) -> None:
    sdist, wheel = built
    sources = {
        str(path.relative_to(SOURCE.parent))
        for path in SOURCE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "rasterloom/py.typed" in sources
    with zipfile.ZipFile(wheel) as file:
        packed = set(file.namelist())
    info = f"rasterloom-{rl.__version__}.dist-info/"
    assert {name for name in packed if not name.startswith(info)} == sources
    assert info + "licenses/LICENSE" in packed
    with tarfile.open(sdist) as file:
        members = {member.name for member in file.getmembers() if member.isfile()}
    top = f"rasterloom-{rl.__version__}/"
    assert {top + "src/" + name for name in sources} <= members
    assert {top + "pyproject.toml", top + "README.md", top + "LICENSE"} <= members


def test_it_works_without_the_checkout(built: tuple[Path, Path], suite: demo_suite.Suite, tmp_path: Path) -> None:
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", str(built[1])], check=True)
    # Its dependencies are borrowed; a .pth file that is reached by another is not read,
    # so nothing of the checkout comes along.
    (site,) = (home / "lib").glob("python*/site-packages")
    borrowed = {
        str(Path(next(iter(importlib.import_module(name).__path__))).parents[name.count(".")]) for name in REQUIRED
    }
    (site / "borrowed.pth").write_text("\n".join(sorted(borrowed)))
    program = (
        "import rasterloom as rl, sys\n"
        "optional = {'pandas', 'polars', 'xarray', 'duckdb', 'matplotlib', 'rasterio'} & set(sys.modules)\n"
        "with rl.connect(sys.argv[1]) as loom:\n"
        "    loom.adopt()\n"
        "    table = loom.merge(['coads_sst_jan']).to_arrow()\n"
        "print(rl.__file__, rl.__version__, table.num_rows, sorted(optional), sep='|')"
    )
    done = subprocess.run(
        [str(python), "-I", "-W", "error", "-c", program, suite.url],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    file, version, rows, optional = done.stdout.strip().split("|")
    assert Path(file).is_relative_to(home)
    assert (version, optional) == (rl.__version__, "[]")
    assert int(rows) > 5000
