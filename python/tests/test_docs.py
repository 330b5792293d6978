"""The pages of docs/: what they show is what happens, and what they link to is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from matplotlib import image

import rasterloom as rl

from .pages import DOCS, ROOT, anchors, console, examples, links, prints, run

if TYPE_CHECKING:
    import suite as demo_suite

# Pages whose examples only read: they share the suite of the tests.
EXAMPLES = ["python.md", "alignment.md", "corrections.md", "guides/mixed-formats.md", "memory.md"]
COMMANDS = ["alignment.md", "guides/observe.md"]
SHOWN = [(page, *command) for page in COMMANDS for command in console((DOCS / page).read_text())]
READ_BY_PEOPLE = sorted(
    path
    for path in [*ROOT.rglob("*.md"), *ROOT.glob("examples/*.ipynb")]
    if not any(part.startswith(".") or part == "node_modules" for part in path.relative_to(ROOT).parts)
)


@pytest.mark.parametrize("page", EXAMPLES)
def test_examples_of_the_page(loom: rl.Loom, page: str) -> None:
    assert loom.layers()
    result = examples(DOCS / page)
    assert result.attempted > 3
    assert result.failed == 0


@pytest.mark.parametrize(("page", "command", "output"), SHOWN, ids=range(len(SHOWN)))
def test_commands_print_what_the_page_shows(loom: rl.Loom, page: str, command: str, output: str) -> None:
    assert loom.layers()
    done = run(command)
    assert done.returncode == 0, f"{page}: {done.stderr}"
    assert prints(output, done.stdout), done.stdout


@pytest.mark.parametrize("page", READ_BY_PEOPLE, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.is_relative_to(ROOT), f"{link} leaves the checkout"
        assert target.exists(), f"{link}: there is no {target}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{link}: {target.name} has {sorted(anchors(target))}"


def test_links_are_found() -> None:
    assert len(READ_BY_PEOPLE) > 20
    assert "docs/python.md" in links(ROOT / "README.md")
    assert "#the-drift-ladder" in " ".join(links(DOCS / "corrections.md"))
    assert "the-drift-ladder" in anchors(DOCS / "alignment.md")


def test_every_picture_is_on_a_page() -> None:
    shown = {(page.parent / link).resolve() for page in READ_BY_PEOPLE for link in links(page)}
    assert set(DOCS.rglob("*.png")) <= shown


def test_make_works_in_a_folder_with_a_space(tmp_path: Path) -> None:
    """Make takes such a path for two: `make clean` would remove, and `make venv` write, what is not of the checkout."""
    folder = tmp_path / "my work"
    folder.mkdir()
    for name in ("Makefile", "python", "tools"):
        (folder / name).symlink_to(ROOT / name)
    command = ["make", "-n", "clean", "demo", "tools", "build", "test-python", "test-clusters"]
    planned = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    for step in ("rm -rf", "go install tool", "venv", "pytest"):
        assert step in planned
    assert str(tmp_path) in planned
    assert str(tmp_path) not in re.sub(r'"[^"]*"', "", planned)


@pytest.mark.usefixtures("loom")
def test_corrections_are_pictured_as_they_are(
    suite: demo_suite.Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the script draws today is what the page shows, but for how letters are drawn elsewhere."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(DOCS / "images")])
    import corrections

    drawn = corrections.draw(suite.url, suite.database_url, tmp_path)
    assert len(drawn) == 5
    for path in drawn:
        fresh, kept = image.imread(path), image.imread(DOCS / "images" / path.name)
        assert fresh.shape == kept.shape, f"{path.name}: draw it again by docs/images/corrections.py"
        assert np.abs(fresh - kept).mean() < 0.01, f"{path.name}: draw it again by docs/images/corrections.py"


def test_every_page_is_in_the_index() -> None:
    listed = {(DOCS / link).resolve() for link in links(DOCS / "README.md")}
    assert {page for page in DOCS.rglob("*.md") if page.name != "README.md"} <= listed


def test_each_alert_is_explained() -> None:
    alerts = re.findall(r"- alert: (\w+)", (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())
    assert len(alerts) > 5
    guide = (DOCS / "guides" / "observe.md").read_text()
    assert re.findall(r"^\| `(Rasterloom\w+)`", guide, re.MULTILINE) == alerts


def test_each_example_is_tested() -> None:
    """A page with examples in the form of the interpreter is run by a test."""
    with_examples = {
        str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md") if re.search("^>>> ", page.read_text(), re.M)
    }
    assert with_examples == set(EXAMPLES)
