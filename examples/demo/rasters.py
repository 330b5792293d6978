"""The rasters of the demo, read from data/ as plain arrays.

These arrays are also what the demo and the tests compare merged tables with.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio

DATA = Path(__file__).resolve().parents[2] / "data"
MONTHS = range(1, 13)
BANDS = range(1, 7)


@dataclass(frozen=True)
class Raster:
    """One band.

    values : masked array of shape (rows, cols), north row first; masked where
        nothing was measured
    bounds : (min_x, min_y, max_x, max_y), outer edges, in units of the CRS
    """

    name: str
    source: str
    band: str
    crs: str
    bounds: tuple[float, float, float, float]
    values: np.ma.MaskedArray
    unit: str

    @property
    def step(self) -> tuple[float, float]:
        """Size of a cell in units of the CRS: x, y."""
        rows, cols = self.values.shape
        min_x, min_y, max_x, max_y = self.bounds
        return (max_x - min_x) / cols, (max_y - min_y) / rows

    @property
    def x(self) -> np.ndarray:
        """Cell centres, west to east."""
        return self.bounds[0] + (np.arange(self.values.shape[1]) + 0.5) * self.step[0]

    @property
    def y(self) -> np.ndarray:
        """Cell centres, north to south."""
        return self.bounds[3] - (np.arange(self.values.shape[0]) + 0.5) * self.step[1]


def read_all() -> list[Raster]:
    """Read the 35 layers."""
    climate = [*north_carolina("pr", "mm/month"), *north_carolina("tas", "degC")]
    return [coads(), oisst(), *climate, *landsat(), relief(), land(), height()]


def coads() -> Raster:
    """Sea surface temperature, January climatology, cell edges on even degrees."""
    return _read("global/coads_sst_monthly_2deg.tif", 1, name="coads_sst_jan", band="SST", unit="degC")


def oisst() -> Raster:
    """Sea surface temperature of 1981-12-31, cell centres on even degrees of longitude.

    Stored as int16 hundredths; what years of use left in the database are degrees.
    """
    raw = _read("global/oisst_19811231_2deg.nc", 1, variable="sst", name="oisst_19811231", band="sst", unit="degC")
    degrees = np.ma.masked_array(raw.values.data.astype(np.float64) / 100, raw.values.mask)
    return Raster(**{**vars(raw), "values": degrees})


def north_carolina(variable: str, unit: str) -> list[Raster]:
    """Twelve months of 1999; the sea is missing."""
    path = "north_carolina/bcsd_obs_1999.nc"
    return [
        _read(path, month, variable=variable, name=f"nc_{variable}_{month:02d}", band=variable, unit=unit)
        for month in MONTHS
    ]


def landsat() -> list[Raster]:
    """Six Landsat 7 bands; every cell has a value."""
    return [
        _read("olinda/L7_ETMs.tif", band, name=f"olinda-l7-b{band}", band=f"B{7 if band == 6 else band}", unit="DN")
        for band in BANDS
    ]


def relief() -> Raster:
    """Height around North Carolina in metres, below zero in the sea; longitudes 274 to 286."""
    return _read("north_carolina/etopo5_relief.tif", 1, name="nc_relief", band="relief", unit="m")


def land() -> Raster:
    """1 on land and 0 at sea around North Carolina."""
    return _read("north_carolina/globe_landmask_30s.tif", 1, name="nc_land", band="land", unit="1")


def height() -> Raster:
    """Height around Olinda in metres.

    The file names UTM 25 south on the ellipsoid GRS80 without a code; its corner
    is that of the Landsat bands, which say EPSG:31985.
    """
    raw = _read("olinda/olinda_dem_utm25s.tif", 1, name="olinda_dem", band="dem", unit="m")
    return Raster(**{**vars(raw), "crs": "EPSG:31985"})


def _read(path: str, index: int, *, name: str, band: str, unit: str, variable: str = "") -> Raster:
    opened = f"netcdf:{DATA / path}:{variable}" if variable else str(DATA / path)
    with rasterio.open(opened) as source:
        # GDAL turns rows that run from south to north. The netCDF files name no
        # CRS; their axes are longitude and latitude.
        values = source.read(index, masked=True)
        return Raster(
            name=name,
            source=path,
            band=band,
            crs=source.crs.to_string() if source.crs else "EPSG:4326",
            bounds=tuple(source.bounds),
            values=np.ma.masked_array(values.data, np.ma.getmaskarray(values)),
            unit=unit,
        )
