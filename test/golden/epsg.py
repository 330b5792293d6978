"""The table of geographic systems in grid/crs_geographic.go, made from PROJ's registry.

    python test/golden/epsg.py            # rewrite the table
    python test/golden/epsg.py --check    # fail if it would change

pyproj's copy of the registry decides the version; the table names it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pyproj import CRS
from pyproj.database import get_database_metadata, query_crs_info
from pyproj.enums import PJType

FILE = Path(__file__).parents[2] / "grid/crs_geographic.go"
MARK = "// geographicEPSG holds"
DEGREES = {
    "degree",
    "degree hemisphere",
    "degree minute second hemisphere",
    "degree (supplier to define representation)",
}


def runs() -> list[list[int]]:
    """First and last codes of runs that no other kind of system interrupts."""
    every = {int(i.code) for i in query_crs_info(auth_name="EPSG", allow_deprecated=True)}
    two_d = query_crs_info(auth_name="EPSG", pj_types=[PJType.GEOGRAPHIC_2D_CRS], allow_deprecated=True)
    degrees = sorted(
        int(i.code) for i in two_d
        if {axis.unit_name for axis in CRS.from_epsg(int(i.code)).axis_info} <= DEGREES
    )
    others = every.difference(degrees)
    found: list[list[int]] = []
    for code in degrees:
        if found and not any(c in others for c in range(found[-1][1] + 1, code)):
            found[-1][1] = code
        else:
            found.append([code, code])
    return found


def table() -> str:
    lines = [
        "// geographicEPSG holds the codes of all geographic 2D systems in degrees of the",
        f"// EPSG registry, version {get_database_metadata('EPSG.VERSION').lstrip('v')} as PROJ has it, deprecated ones included: first",
        "// and last of runs that no other kind of system interrupts. Made by",
        "// test/golden/epsg.py.",
        "var geographicEPSG = [][2]uint32{",
    ]
    line = "\t"
    for first, last in runs():
        item = f"{{{first}, {last}}}, "
        if len(line) + len(item) > 108:
            lines.append(line.rstrip())
            line = "\t"
        line += item
    return "\n".join([*lines, line.rstrip(), "}", ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the file instead of rewriting it")
    args = parser.parse_args()
    code = FILE.read_text()
    fresh = code[: code.index(MARK)] + table()
    if not args.check:
        FILE.write_text(fresh)
    elif fresh != code:
        print(f"{FILE.name} is not what PROJ's EPSG registry says: run {Path(__file__).name}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
