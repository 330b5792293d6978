"""Checks what `make sbom` made: one argument, the folder of the lists.

Each binary has its list in CycloneDX, with a name, a version and a package URL for
every component, and the libraries that stand between us and others are not older
than the versions that mended what was found in them.
"""

import json
import re
import sys
from pathlib import Path

EVERYWHERE = {"google.golang.org/grpc": "1.82.1", "golang.org/x/net": "0.56.0", "connectrpc.com/connect": "1.19.0"}
DATABASE = {"github.com/jackc/pgx/v5": "5.9.2", "github.com/klauspost/compress": "1.18.7"}
WANTED = {
    "aligner": EVERYWHERE,
    "schema": EVERYWHERE | DATABASE,
    "merger": EVERYWHERE | DATABASE,
    "rasterloom": EVERYWHERE | DATABASE,
}


def numbers(version):
    """Read a version such as v1.2.3."""
    return [int(n) for n in re.findall(r"\d+", version)[:3]]


def problems(name, least, path):
    """Say what is wrong with a list."""
    if not path.exists():
        yield f"{path} is not there"
        return
    sbom = json.loads(path.read_text())
    if sbom.get("bomFormat") != "CycloneDX":
        yield f"{path} is not CycloneDX"
    libraries = {c["name"]: c for c in sbom.get("components", []) if c["type"] == "library"}
    print(f"{name}: {len(libraries)} components, {sbom.get('bomFormat')} {sbom.get('specVersion')}")
    for library in libraries.values():
        if not library.get("version") or not library.get("purl", "").startswith("pkg:golang/"):
            yield f"{name}: {library['name']} has no version or no package URL"
    for module, version in least.items():
        has = libraries.get(module, {}).get("version", "")
        if not has or numbers(has) < numbers(version):
            yield f"{name}: {module} is {has or 'not listed'}, and must be {version} at least"


wrong = [p for name, least in WANTED.items() for p in problems(name, least, Path(sys.argv[1]) / f"{name}.cdx.json")]
print(*wrong, sep="\n", end="")
sys.exit(bool(wrong))
