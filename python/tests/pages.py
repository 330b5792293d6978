"""The pages of docs/: their commands, examples and links."""

from __future__ import annotations

import doctest
import json
import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

Command = tuple[str, str]
"""What is typed, and what is printed below it."""


def console(text: str) -> list[Command]:
    """Give the commands of a page's console blocks; one that ends a line in a backslash goes on in the next."""
    found: list[Command] = []
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = part.split("\n")
            count = 1
            while lines[count - 1].endswith("\\"):
                count += 1
            found.append(("\n".join(lines[:count]), "\n".join(lines[count:])))
    return found


def run(command: str, *, folder: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of a page by the shell, with the programs of this checkout."""
    path = os.pathsep.join([str(ROOT / ".bin"), str(ROOT / ".venv" / "bin"), os.environ["PATH"]])
    return subprocess.run(
        ["/bin/bash", "-o", "pipefail", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=os.environ | {"PATH": path} | environment,
    )


def prints(expected: str, printed: str) -> bool:
    """Compare; `…` stands for what is another each time."""
    pattern = ".*".join(map(re.escape, expected.split("…")))
    return re.fullmatch(pattern, printed, re.DOTALL) is not None


def examples(page: Path) -> doctest.TestResults:
    """Run the page's `>>>` examples."""
    return doctest.testfile(str(page), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)


def prose(path: Path) -> str:
    """Give what a page says beside its code; of a notebook, the cells that are text."""
    text = path.read_text()
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    text = re.sub(r"^( *)(```+).*?^ *\2`*$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", lambda code: "\N{GRAVE ACCENT}" * len(code[0]), text)


def anchors(path: Path) -> set[str]:
    """Give the names of a page's headings, as GitHub makes them."""
    without_code = re.sub(r"^( *)(```+).*?^ *\2`*$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    names: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6} +(.*?) *#*$", without_code, re.MULTILINE):
        plain = re.sub(r"\[([^]]*)]\([^)]*\)", r"\1", heading).replace("`", "")
        name = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        names[name] = names.get(name, -1) + 1
        if names[name]:
            names[f"{name}-{names[name]}"] = 0
    return set(names)


def links(path: Path) -> list[str]:
    """Give the targets of a page's links and pictures, those to other sites left out."""
    found = re.findall(r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)", prose(path))
    return [target for target in found if not re.match(r"[a-z][a-z+.-]*:", target)]
