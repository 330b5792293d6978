"""Writes what `rasterloom demo` stores: the part of the demo's database that the program brings along.

Nothing is made up for it: each table has the rows that load.py would store. The
archive has, for each table, the statement that makes it and its rows as
PostgreSQL's binary COPY format.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from load import CATALOG, CREATE_CATALOG, binary_rows, catalog_row, cells, columns_of, create_table, habit, table_name
from rasters import Raster, coads, north_carolina, oisst, relief

ARCHIVE = Path(__file__).resolve().parents[2] / "cmd/rasterloom/internal/demo/old_database.zip"
THE_DAY = (1999, 1, 1, 0, 0, 0)  # of every entry, so that the same rows make the same archive


def brought_along() -> list[Raster]:
    """Two sea surface temperatures half a cell apart, a year of temperatures, and height at another resolution."""
    return [coads(), oisst(), *north_carolina("tas", "degC"), relief()]


def entries() -> dict[str, bytes]:
    """Give the files of the archive by their names."""
    files: dict[str, bytes] = {}
    statements = [CREATE_CATALOG]
    for raster in brought_along():
        stored = habit(raster.name)
        table = f"public.{table_name(raster, stored)}"
        statements.append(catalog_row(raster, stored).as_string(None))
        files[f"{table}.sql"] = create_table(raster, stored).as_string(None).encode()
        rows = binary_rows(cells(raster, stored), columns_of(stored), null=stored.missing == "null")
        files[f"{table}.copy"] = b"".join(rows)
    files[f"public.{CATALOG}.sql"] = ";\n".join(statements).encode()
    return files


def main() -> None:
    """Write the archive anew."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, text in sorted(entries().items()):
            archive.writestr(zipfile.ZipInfo(name, THE_DAY), text, zipfile.ZIP_DEFLATED, 9)
    ARCHIVE.write_bytes(out.getvalue())
    print(f"{ARCHIVE.name}: {len(brought_along())} layers, {ARCHIVE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
