"""What docs/alignment.md prints is what the suite says."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
from pathlib import Path

import pytest

import rasterloom as rl

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "alignment.md"
ISSUES = ROOT / "services" / "aligner" / "internal" / "align" / "issue.go"


def commands() -> list[tuple[str, str]]:
    """Give the commands of the page's console blocks with the output printed below each."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = part.split("\n")
            count = 1
            while lines[count - 1].endswith("\\"):
                count += 1
            found.append(("\n".join(lines[:count]), "\n".join(lines[count:])))
    return found


@pytest.mark.parametrize(("command", "output"), commands(), ids=range(len(commands())))
def test_commands_print_what_the_page_shows(loom: rl.Loom, command: str, output: str) -> None:
    assert loom.layers()
    environment = os.environ | {"PATH": f"{ROOT / '.bin'}{os.pathsep}{os.environ['PATH']}"}
    run = subprocess.run(
        ["/bin/bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False, env=environment
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == output


def test_examples_of_the_page(loom: rl.Loom) -> None:
    assert loom.layers()
    result = doctest.testfile(str(PAGE), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 2
    assert result.failed == 0


def test_the_table_of_issue_codes_is_that_of_the_code() -> None:
    code = re.findall(r'^\tCode\w+\s+= "(\w+)"\s+// (.+)$', ISSUES.read_text(), re.MULTILINE)
    assert len(code) > 10
    page = re.findall(r"^\| `([A-Z_]+)` \| [a-z, ]+ \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    assert page == code
