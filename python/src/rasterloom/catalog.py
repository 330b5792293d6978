"""The catalog: what is stored, and how tables get into it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rasterloom._choices import DTYPES, POINTS, PixelPoint, box, choice, crs_text, number, text
from rasterloom._gen.grid.v1 import grid_pb2
from rasterloom._gen.layer.v1 import layer_pb2
from rasterloom._gen.schema.v1 import coordinates_pb2, schema_pb2
from rasterloom.check import CheckList, CoordinateCheck, LayerCheck
from rasterloom.errors import invalid
from rasterloom.layers import Layer, LayerList, name_of, names_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rasterloom._progress import Progress
    from rasterloom.connection import Connection
    from rasterloom.grid import Grid

__all__ = ["Adoption", "Catalog"]

PAGE_SIZE = 1000


@dataclass(frozen=True, slots=True)
class Adoption:
    """What adopting a catalog found.

    Attributes
    ----------
    layers : LayerList
        Every layer of the catalog table, by name.
    added, changed, unchanged : int
        Layers new to our catalog, with other facts than before, as they were.
    invalid : int
        Layers among all of them that cannot be read; their problems say why.
    seconds : float
        Time it took.
    """

    layers: LayerList
    added: int
    changed: int
    unchanged: int
    invalid: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{len(self.layers)} layers in {self.seconds:.2f} s: {self.added} added, {self.changed} changed, "
            f"{self.unchanged} unchanged; {self.invalid} of them cannot be read"
        )


class Catalog:
    """The part of a :class:`Loom` that is about the catalog."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def adopt(
        self, table: str = "public.resampled_datasets", *, data_schema: str = "", dry_run: bool = False
    ) -> Adoption:
        """Take over the layers of an existing catalog; nothing of it is changed.

        May be repeated: what did not change stays as it is.

        Parameters
        ----------
        table : str
            Catalog table, as ``schema.name`` or ``name`` in ``public``.
        data_schema : str
            Database schema of the pixel tables. Default: that of ``table``.
        dry_run : bool
            Only say what would be adopted.

        Raises
        ------
        NotFound
            There is no such table.
        FailedPrecondition
            The table is not shaped like a catalog.

        Examples
        --------
        >>> adoption = loom.adopt()
        >>> len(adoption.layers), adoption.invalid
        (35, 0)
        """
        namespace, _, name = table.rpartition(".")
        request = schema_pb2.AdoptCatalogRequest(
            table=layer_pb2.Table(schema=namespace or "public", name=name),
            data_schema=data_schema,
            dry_run=dry_run,
        )
        answer = self._connection.call(self._connection.schema.AdoptCatalog, request, "schema")
        return Adoption(
            layers=LayerList([Layer.from_proto(layer, self._connection) for layer in answer.layers]),
            added=answer.added,
            changed=answer.changed,
            unchanged=answer.unchanged,
            invalid=answer.invalid,
            seconds=answer.elapsed.ToTimedelta().total_seconds(),
        )

    def register(
        self,
        name: str,
        table: str,
        grid: Grid | None = None,
        *,
        bounds: tuple[float, float, float, float] | None = None,
        shape: tuple[int, int] | None = None,
        resolution: float | None = None,
        crs: str = "",
        band: str = "",
        dtype: str = "",
        nodata: float | None = None,
        registration: PixelPoint | None = None,
        south_up: bool | None = None,
        dry_run: bool = False,
    ) -> Layer:
        """Take one pixel table into the catalog that no existing catalog lists.

        Every row of the table is read, and nothing of it is changed. The same
        call again gives the same layer.

        Parameters
        ----------
        name : str
            Name of the new layer, at most 63 bytes.
        table : str
            Its table, as ``schema.name`` or ``name`` in ``public``.
        grid : Grid, optional
            The grid that its cells lie on; else ``bounds`` with ``shape`` or
            ``resolution``, and ``crs``.
        bounds : (min_x, min_y, max_x, max_y), optional
            Outer edges of the grid, in units of the CRS.
        shape : (rows, cols), optional
            Number of rows and columns.
        resolution : float, optional
            Edge of a cell, of which ``bounds`` must be a whole number.
        crs : str
            Coordinate reference system of ``bounds``.
        band : str
            Name of the band in its source.
        dtype : str
            numpy type of the source raster. Default: as the values are stored.
        nodata : float, optional
            Value that means "no data", besides NULL, NaN and absence.
        registration : str, optional
            Point of a cell that stored coordinates name, ``"center"`` or
            ``"upper_left"``. Default: as they say; what they contradict is refused.
        south_up : bool, optional
            Whether row 0 is the south row. Default: as stored coordinates say.
        dry_run : bool
            Only say what would be registered.

        Raises
        ------
        NotFound
            There is no such table.
        AlreadyExists
            There is another layer of that name.
        FailedPrecondition
            Not an ordinary table of indices or coordinates and values, or rows
            that are no cells of the grid; ``fields`` has the counts.

        Examples
        --------
        >>> layer = loom.register("again", "resampled_coads_sst_jan", loom.layer("coads_sst_jan").grid)
        >>> layer.format, layer.grid.shape, loom.drop("again").generation
        ('LEGACY', (90, 180), 1)
        """
        namespace, _, relation = table.rpartition(".")
        request = schema_pb2.RegisterLayerRequest(
            name=text("name", name),
            band=band,
            table=layer_pb2.Table(schema=namespace or "public", name=relation),
            declared_type=choice("dtype", dtype, DTYPES),
            nodata=number("nodata", nodata),
            registration=choice("registration", registration or "", POINTS),
            south_up=south_up,
            dry_run=dry_run,
        )
        if grid is not None:
            request.grid.CopyFrom(grid.to_proto())
        else:
            try:
                rows, cols = (int(count) for count in shape or (0, 0))
            except (TypeError, ValueError):
                raise invalid("shape", shape, "(rows, cols)") from None
            request.extent.CopyFrom(
                grid_pb2.Extent(
                    crs=crs_text(crs),
                    bounds=() if bounds is None else box("bounds", bounds),
                    rows=rows,
                    cols=cols,
                    resolution=number("resolution", resolution),
                )
            )
        return Layer.from_proto(
            self._connection.call(self._connection.schema.RegisterLayer, request, "schema").layer, self._connection
        )

    def ingest(
        self,
        source: Any,
        *,
        name: str,
        band: int | str | Sequence[int | str] | None = None,
        nodata: float | None = None,
        crs: str | None = None,
        bounds: tuple[float, float, float, float] | None = None,
        transform: Any = None,
        grid: Grid | None = None,
        registration: PixelPoint = "center",
        unscale: bool | None = None,
        replace: bool = False,
        same_grid_as: str | Layer = "",
        progress: Progress = "auto",
    ) -> LayerList:
        """Send a raster to the server, where each of its bands becomes a layer.

        It is read and sent window by window, in memory that does not grow with
        it. Nothing of a band is seen by anybody until all of it is stored.

        Parameters
        ----------
        source : path, rasterio dataset, xarray object or array
            Whatever GDAL reads (needs rasterio); an xarray DataArray or Dataset
            with x and y; a numpy array (rows, cols) or (bands, rows, cols) from
            the north, with ``crs`` and where it is. A mask, of the file or of a
            masked array, says which cells are missing.
        name : str
            Name of the layer. Where there are several bands, each is
            ``name_band``, by its number or its name.
        band : int, str or several, optional
            The bands to take: by number from 1, by name of a variable, or by
            coordinate. Default: all.
        nodata : float, optional
            Value that means "no data". Default: as the source says.
        crs : str, optional
            Coordinate reference system. Default: as the source says.
        bounds : (min_x, min_y, max_x, max_y), optional
            Outer edges, in units of the CRS, of a source that does not say them.
        transform : Affine or six numbers, optional
            The same as a transform, as rasterio has it.
        grid : Grid, optional
            The same as a grid.
        registration : str
            Point of a cell that coordinates of xarray name, ``"center"`` or
            ``"upper_left"``.
        unscale : bool, optional
            For packed values (a scale and an offset, also those that xarray has as
            ``scale_factor`` and ``add_offset``): True stores what they mean, as
            float64, False what is there. Default: refuse.
        replace : bool
            Replace layers of the same names that were ingested.
        same_grid_as : str or Layer
            A layer whose grid the raster must have, such as another band of the
            same dataset.
        progress : bool or "auto"
            Show a progress bar; ``"auto"`` does on terminals and in notebooks.

        Returns
        -------
        LayerList
            The layers, one for each band.

        Raises
        ------
        InvalidArgument
            The raster cannot become a layer: it is not north-up, does not say
            where it is, or has values of a type that no layer has.
        AlreadyExists
            There is a layer of that name.

        Examples
        --------
        >>> import numpy as np
        >>> heights = np.arange(6, dtype="int16").reshape(2, 3)
        >>> loom.ingest(heights, name="steps", crs="EPSG:32633", bounds=(0, 0, 30, 20), replace=True).names
        ['steps']
        >>> loom.merge(["steps"]).to_pandas()["steps"].tolist()
        [0, 1, 2, 3, 4, 5]
        >>> loom.drop("steps").format
        'TILED'
        """
        from rasterloom.ingest import ingest

        return ingest(
            self._connection, source, name=name, band=band, nodata=nodata, crs=crs, bounds=bounds, transform=transform,
            grid=grid, registration=registration, unscale=unscale, replace=replace,
            same_grid_as=name_of(same_grid_as, "same_grid_as"),
            progress=progress,
        )  # fmt: skip

    def drop(self, name: str | Layer, *, generation: int = 0, delete_tiles: bool = False) -> Layer:
        """Remove a layer from the catalog; its table stays, unless its tiles are to be deleted.

        A layer of an adopted catalog comes back when that is adopted again.

        Parameters
        ----------
        name : str or Layer
            The layer, or its name.
        generation : int
            The one that it must still have; 0: whatever it is.
        delete_tiles : bool
            Delete its cells as well. Only of a layer that was ingested, or migrated to tiles. There is no way back.

        Returns
        -------
        Layer
            As it was.

        Raises
        ------
        NotFound
            No layer of that name.
        Aborted
            It has another generation.
        FailedPrecondition
            A migration of it is not over.
        """
        request = schema_pb2.DropLayerRequest(
            name=name_of(name, "name"), generation=generation, delete_tiles=delete_tiles
        )
        return Layer.from_proto(
            self._connection.call(self._connection.schema.DropLayer, request, "schema").layer, self._connection
        )

    def check(
        self,
        layers: str | Layer | Iterable[str | Layer] | None = None,
        *,
        scan: bool = False,
        coordinates: bool = False,
        tolerance: float | None = None,
    ) -> CheckList:
        """Look at the tables of layers again and say what is wrong.

        The catalog stays as it is.

        Parameters
        ----------
        layers : str, Layer, or iterable of these, optional
            Layers, or their names. Default: all of the catalog.
        scan : bool
            Read every row and count what is wrong; else a sample is looked at.
        coordinates : bool
            Compare the stored coordinates of every row with the grid.
        tolerance : float, optional
            How far off a coordinate may be, in pixels, from 0 (every bit must be
            right) to 0.5. Default 0.001.

        Examples
        --------
        >>> checks = loom.check("oisst_19811231", coordinates=True)
        >>> checks.ok, checks[0].coordinates.registration
        (True, 'UPPER_LEFT')
        """
        limit = number("tolerance", tolerance)
        names = self.layers().names if layers is None else names_of(layers)
        checks: list[LayerCheck] = []
        for name in names:
            request = schema_pb2.DetectFormatRequest(name=name, scan=scan)
            found = self._connection.call(self._connection.schema.DetectFormat, request, "schema")
            layer = Layer.from_proto(found.layer, self._connection)
            compared = None
            if coordinates and layer.has_coordinates and layer.format != "INVALID":
                question = coordinates_pb2.ValidateCoordinatesRequest(layer=name, tolerance_pixels=limit)
                answer = self._connection.call(self._connection.coordinates.ValidateCoordinates, question, "schema")
                compared = CoordinateCheck.from_proto(answer.validation)
            rows = max(found.rows_read, compared.rows if compared else 0)
            checks.append(LayerCheck(layer=layer, rows_read=rows, coordinates=compared))
        return CheckList(checks)

    def layers(self, containing: str = "") -> LayerList:
        """List the layers of the catalog, by name.

        Parameters
        ----------
        containing : str
            Only layers whose name contains this text, without regard to case.

        Examples
        --------
        >>> loom.layers("sst").names
        ['coads_sst_jan', 'oisst_19811231']
        """
        text("containing", containing)
        found: list[Layer] = []
        token = ""
        while True:
            request = schema_pb2.ListLayersRequest(name_contains=containing, page_size=PAGE_SIZE, page_token=token)
            page = self._connection.call(self._connection.schema.ListLayers, request, "schema")
            found += [Layer.from_proto(layer, self._connection) for layer in page.layers]
            token = page.next_page_token
            if not token:
                return LayerList(found, containing)

    def layer(self, name: str | Layer) -> Layer:
        """Give one layer, by its name; of a layer, how it is now.

        Raises
        ------
        NotFound
            No layer of that name; the message proposes the nearest ones.

        Examples
        --------
        >>> loom.layer("olinda-l7-b1").grid.shape
        (352, 349)
        """
        request = schema_pb2.GetLayerRequest(name=name_of(name, "name"))
        answer = self._connection.call(self._connection.schema.GetLayer, request, "schema")
        return Layer.from_proto(answer.layer, self._connection)
