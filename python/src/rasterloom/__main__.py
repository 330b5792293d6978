"""``python -m rasterloom ingest FILE --name …``: what needs GDAL, on the command line."""

from __future__ import annotations

import argparse
import sys

import rasterloom as rl


def main() -> int:
    """Run a command; 0 when it worked, 1 when not, 2 when it cannot be read, 3 when no server answers."""
    parser = argparse.ArgumentParser(prog="rasterloom", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    ingest = commands.add_parser("ingest", help="send a raster to the server: its bands become layers")
    ingest.add_argument("file", help="whatever GDAL reads: GeoTIFF, COG, netCDF, Zarr ...")
    ingest.add_argument("--name", required=True, help="name of the layer; several bands are NAME_BAND")
    ingest.add_argument(
        "--band", action="append", metavar="BAND", help="band to take, by number or name; again for more"
    )
    ingest.add_argument("--nodata", type=float, help='value that means "no data"; default: as the file says')
    ingest.add_argument("--crs", help="coordinate reference system; default: as the file says")
    ingest.add_argument("--bounds", nargs=4, type=float, metavar=("MIN_X", "MIN_Y", "MAX_X", "MAX_Y"))
    ingest.add_argument(
        "--unscale", action=argparse.BooleanOptionalAction, help="store what packed values mean, or as they are"
    )
    ingest.add_argument("--replace", action="store_true", help="replace layers of these names that were ingested")
    ingest.add_argument("--same-grid-as", default="", metavar="LAYER", help="a layer whose grid the raster must have")
    ingest.add_argument("--url", help="where the suite answers; default: $RASTERLOOM_URL, else 127.0.0.1:7400")
    said = parser.parse_args()
    try:
        with rl.connect(said.url) as loom:
            bands: list[str] | None = said.band
            layers = loom.ingest(
                said.file,
                name=said.name,
                band=bands[0] if bands is not None and len(bands) == 1 else bands,
                nodata=said.nodata,
                crs=said.crs,
                bounds=None if said.bounds is None else tuple(said.bounds),
                unscale=said.unscale,
                replace=said.replace,
                same_grid_as=said.same_grid_as,
            )
    except rl.RasterloomError as error:
        sys.stderr.write(f"error: {error.message}\n")
        return 3 if isinstance(error, rl.Unavailable) else 1
    sys.stdout.write(f"{layers}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
