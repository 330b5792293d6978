"""The way in: a connection to the services, and what they can be asked."""

from __future__ import annotations

import os
import warnings
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

import grpc

from rasterloom import errors
from rasterloom._gen.aligner.v1 import aligner_pb2, aligner_pb2_grpc
from rasterloom._gen.grid.v1 import grid_pb2
from rasterloom._gen.layer.v1 import layer_pb2
from rasterloom._gen.merger.v1 import export_pb2, export_pb2_grpc, merger_pb2, merger_pb2_grpc
from rasterloom._gen.schema.v1 import coordinates_pb2, coordinates_pb2_grpc, schema_pb2, schema_pb2_grpc
from rasterloom.alignment import AlignmentReport
from rasterloom.check import CheckList, CoordinateCheck, LayerCheck
from rasterloom.grid import Grid
from rasterloom.layers import Layer, LayerList
from rasterloom.merge import Merge
from rasterloom.plan import Plan
from rasterloom.stream import FlightSource, is_loopback

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from rasterloom.merge import Progress

    Request = TypeVar("Request", bound=Message)
    Response = TypeVar("Response", bound=Message)

__all__ = ["Adoption", "Loom", "connect"]

DEFAULT_URL = "http://127.0.0.1:7400"
URL_VARIABLE = "RASTERLOOM_URL"
MAX_MESSAGE_BYTES = 64 << 20
PAGE_SIZE = 1000

Rows = Literal["any", "all", "reference", "every"]
Coordinates = Literal["xy", "row_col", "both", "none"]
Types = Literal["stored", "declared"]
Duplicates = Literal["error", "first", "last", "mean"]
ExtentRule = Literal["union", "intersection", "reference"]
PixelPoint = Literal["center", "upper_left"]


def connect(
    url: str | None = None,
    *,
    aligner: str | None = None,
    schema: str | None = None,
    merger: str | None = None,
    flight: str | None = None,
    timeout: float = 60.0,
) -> Loom:
    """Connect to Rasterloom.

    Parameters
    ----------
    url : str, optional
        Where all services answer, such as ``"http://127.0.0.1:7400"``. Default:
        the environment variable ``RASTERLOOM_URL``, else that address.
    aligner, schema, merger : str, optional
        Where one service answers, if it runs apart from the others.
    flight : str, optional
        Where tables are read from, ``"grpc://host:port"``. Default: what the
        merger says.
    timeout : float
        Seconds that one call may take. Reading a table may take longer.

    Returns
    -------
    Loom
        Nothing has been asked yet: a wrong address shows at the first call, as
        :class:`Unavailable`.

    Examples
    --------
    >>> import rasterloom as rl
    >>> with rl.connect("http://127.0.0.1:1") as nobody:  # doctest: +ELLIPSIS
    ...     nobody.layers()
    Traceback (most recent call last):
    rasterloom.errors.Unavailable: no Rasterloom server answers at http://127.0.0.1:1: ...
    """
    base = url or os.environ.get(URL_VARIABLE) or DEFAULT_URL
    return Loom(aligner=aligner or base, schema=schema or base, merger=merger or base, flight=flight, timeout=timeout)


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


class Loom:
    """A connection to Rasterloom; make one with :func:`connect`.

    Safe to use from several threads. Close it, or use it in a ``with``
    statement.
    """

    def __init__(self, *, aligner: str, schema: str, merger: str, flight: str | None, timeout: float) -> None:
        self._timeout = timeout
        self._flight = flight
        self._channels: dict[str, grpc.Channel] = {}
        self._sources: dict[str, FlightSource] = {}
        self._urls = {"aligner": aligner, "schema": schema, "merger": merger}
        self._aligner = aligner_pb2_grpc.AlignerServiceStub(self._channel(aligner))
        self._schema = schema_pb2_grpc.SchemaServiceStub(self._channel(schema))
        self._coordinates = coordinates_pb2_grpc.CoordinateServiceStub(self._channel(schema))
        self._merger = merger_pb2_grpc.MergerServiceStub(self._channel(merger))
        self._exports = export_pb2_grpc.ExportServiceStub(self._channel(merger))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        urls = dict.fromkeys(self._urls.values())
        return f"<Loom at {', '.join(urls)}>"

    def close(self) -> None:
        """Close the connections."""
        for source in self._sources.values():
            source.close()
        for channel in self._channels.values():
            channel.close()

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
        (32, 0)
        """
        namespace, _, name = table.rpartition(".")
        request = schema_pb2.AdoptCatalogRequest(
            table=layer_pb2.Table(schema=namespace or "public", name=name),
            data_schema=data_schema,
            dry_run=dry_run,
        )
        answer = self._call(self._schema.AdoptCatalog, request, "schema")
        return Adoption(
            layers=LayerList([Layer.from_proto(layer) for layer in answer.layers]),
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
            name=name,
            band=band,
            table=layer_pb2.Table(schema=namespace or "public", name=relation),
            declared_type=_choice("dtype", dtype, _DTYPES),
            nodata=nodata,
            registration=_choice("registration", registration or "", _POINTS),
            south_up=south_up,
            dry_run=dry_run,
        )
        if grid is not None:
            request.grid.CopyFrom(grid.to_proto())
        else:
            rows, cols = shape or (0, 0)
            request.extent.CopyFrom(
                grid_pb2.Extent(crs=crs, bounds=bounds or (), rows=rows, cols=cols, resolution=resolution)
            )
        return Layer.from_proto(self._call(self._schema.RegisterLayer, request, "schema").layer)

    def drop(self, name: str, *, generation: int = 0) -> Layer:
        """Remove a layer from the catalog; its table is not touched.

        A layer of an adopted catalog comes back when that is adopted again.

        Parameters
        ----------
        name : str
            Name of the layer.
        generation : int
            The one that it must still have; 0: whatever it is.

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
        request = schema_pb2.DropLayerRequest(name=name, generation=generation)
        return Layer.from_proto(self._call(self._schema.DropLayer, request, "schema").layer)

    def check(
        self,
        layers: str | Iterable[str] | None = None,
        *,
        scan: bool = False,
        coordinates: bool = False,
        tolerance: float | None = None,
    ) -> CheckList:
        """Look at the tables of layers again and say what is wrong.

        The catalog stays as it is.

        Parameters
        ----------
        layers : str or iterable of str, optional
            Names of layers. Default: all of the catalog.
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
        names = self.layers().names if layers is None else [layers] if isinstance(layers, str) else list(layers)
        checks: list[LayerCheck] = []
        for name in names:
            request = schema_pb2.DetectFormatRequest(name=name, scan=scan)
            found = self._call(self._schema.DetectFormat, request, "schema")
            layer = Layer.from_proto(found.layer)
            compared = None
            if coordinates and layer.has_coordinates and layer.format != "INVALID":
                question = coordinates_pb2.ValidateCoordinatesRequest(layer=name, tolerance_pixels=tolerance)
                answer = self._call(self._coordinates.ValidateCoordinates, question, "schema")
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
        found: list[Layer] = []
        token = ""
        while True:
            request = schema_pb2.ListLayersRequest(name_contains=containing, page_size=PAGE_SIZE, page_token=token)
            page = self._call(self._schema.ListLayers, request, "schema")
            found += [Layer.from_proto(layer) for layer in page.layers]
            token = page.next_page_token
            if not token:
                return LayerList(found)

    def layer(self, name: str) -> Layer:
        """Give one layer.

        Raises
        ------
        NotFound
            No layer of that name; the message proposes the nearest ones.

        Examples
        --------
        >>> loom.layer("olinda-l7-b1").grid.shape
        (352, 349)
        """
        answer = self._call(self._schema.GetLayer, schema_pb2.GetLayerRequest(name=name), "schema")
        return Layer.from_proto(answer.layer)

    def align(
        self, layers: Iterable[str], *, reference: str | Grid | None = None, tolerance: float | None = None
    ) -> AlignmentReport:
        """Report how layers fit together, from metadata alone.

        Parameters
        ----------
        layers : iterable of str
            Names of layers, two at least.
        reference : str or Grid, optional
            The lattice to relate them to: one of the layers, or a grid. Default:
            the layer that needs the fewest and smallest shifts of the others.
        tolerance : float, optional
            Largest residual that still counts as a shift, in pixels of the
            reference, in (0, 0.5). Default 0.1.

        Examples
        --------
        >>> report = loom.align(["coads_sst_jan", "oisst_19811231"])
        >>> report.strategy
        'SHIFT'
        >>> report.relation("oisst_19811231").shift
        Vector(x=1.0, y=0.0)
        """
        names = [layers] if isinstance(layers, str) else list(layers)
        request = aligner_pb2.AnalyzeAlignmentRequest(
            layers=[aligner_pb2.LayerSource(name=name) for name in names],
            reference=_aligner_reference(reference),
            tolerance_pixels=tolerance,
        )
        answer = self._call(self._aligner.AnalyzeAlignment, request, "aligner")
        found = self._call(self._schema.BatchGetLayers, schema_pb2.BatchGetLayersRequest(names=names), "schema")
        grids = {layer.name: Grid.from_proto(layer.grid) for layer in found.layers if layer.HasField("grid")}
        return AlignmentReport.from_proto(answer, grids)

    def merge(
        self,
        layers: Iterable[str] | Mapping[str, str],
        *,
        reference: str | Grid | None = None,
        extent: ExtentRule | tuple[float, float, float, float] = "union",
        rows: Rows = "any",
        tolerance: float | None = None,
        coordinates: Coordinates = "xy",
        types: Types = "stored",
        duplicates: Duplicates = "error",
        batch_rows: int | None = None,
        use_legacy_merge: bool | None = None,
        progress: Progress = "auto",
    ) -> Merge:
        """Describe one table of aligned layers; nothing is read yet.

        Parameters
        ----------
        layers : iterable of str, or mapping of str to str
            Names of layers in the order of their columns, or ``{column: layer}``.
        reference : str or Grid, optional
            The lattice. Default: the layer that needs the fewest and smallest
            shifts of the others.
        extent : str or (min_x, min_y, max_x, max_y)
            The part of the lattice: ``"union"`` or ``"intersection"`` of the
            layers, ``"reference"``, or a box in units of the CRS, of which the
            cells with min_x <= x < max_x and min_y <= y < max_y are taken.
        rows : str
            Which cells become rows: those where ``"any"`` layer has a value (an
            outer join), ``"all"`` have (an inner join), the ``"reference"``
            has, or ``"every"`` cell of the extent.
        tolerance : float, optional
            Largest residual after a shift, in pixels, in (0, 0.5). Default 0.1.
        coordinates : str
            Columns that say where a row is: ``"xy"``, ``"row_col"``, ``"both"``
            or ``"none"``.
        types : str
            Types of the values: as ``"stored"``, or as ``"declared"`` for the
            source raster; a value that does not fit without loss is an error.
        duplicates : str
            What becomes of a cell that a table without a key stores more than
            once: an ``"error"`` that names it, the ``"first"`` or ``"last"``
            value in the order in which the table is stored, or the ``"mean"``
            (of layers stored as floats). Rows without a value are no candidates.
        batch_rows : int, optional
            Rows in a record batch. Default 65,536.
        use_legacy_merge : bool, optional
            Make the table by one full outer join in SQL, as it was made before
            Rasterloom: the same table, slower. Deprecated: True warns. Default:
            as the server is configured.
        progress : bool or "auto"
            Show a progress bar; ``"auto"`` does on terminals and in notebooks.

        Returns
        -------
        Merge
            With ``.plan``, ``.schema`` and ``.to_arrow()``, ``.to_pandas()``,
            ``.to_parquet(path)`` and so on. Errors of the request show there.

        Examples
        --------
        >>> merge = loom.merge({"jan": "coads_sst_jan", "dec": "oisst_19811231"}, rows="all")
        >>> merge.to_arrow().column_names
        ['x', 'y', 'jan', 'dec']
        """
        if use_legacy_merge:
            warnings.warn(
                "use_legacy_merge is deprecated and will be removed: leave it out, the table is the same",
                DeprecationWarning,
                stacklevel=2,
            )
        if isinstance(layers, str):
            layers = [layers]
        pairs: list[tuple[str, str]] = []
        if isinstance(layers, Mapping):
            pairs += layers.items()
        else:
            pairs += [("", name) for name in layers]
        spec = merger_pb2.MergeSpec(
            layers=[merger_pb2.LayerSelection(name=name, column=column) for column, name in pairs],
            reference=_merger_reference(reference),
            extent=_extent(extent),
            rows_kept=_choice("rows", rows, _ROWS),
            tolerance_pixels=tolerance,
            coordinate_columns=_choice("coordinates", coordinates, _COORDINATES),
            value_types=_choice("types", types, _TYPES),
            duplicates=_choice("duplicates", duplicates, _DUPLICATES),
            batch_rows=batch_rows or 0,
            use_legacy_merge=use_legacy_merge,
        )
        return Merge(self, spec, progress)

    def plan(self, layers: Iterable[str] | Mapping[str, str], **options: Any) -> Plan:
        """Say what a merge would do, without reading a cell.

        Takes the parameters of :meth:`merge`; the same as ``merge(…).plan``.

        Examples
        --------
        >>> loom.plan(["coads_sst_jan", "oisst_19811231"]).lattice.shape
        (90, 180)
        """
        return self.merge(layers, **options).plan

    def plan_spec(self, spec: merger_pb2.MergeSpec) -> Plan:
        """Plan a merge that is given as a message of the contract."""
        answer = self._call(self._merger.PlanMerge, merger_pb2.PlanMergeRequest(spec=spec), "merger")
        return Plan.from_proto(answer)

    def start_export(self, spec: export_pb2.ExportSpec, key: str = "") -> export_pb2.Export:
        """Start an export that is given as a message of the contract; see :meth:`Merge.export`."""
        request = export_pb2.StartExportRequest(spec=spec, idempotency_key=key)
        return self._call(self._exports.StartExport, request, "merger").export

    def get_export(self, id: str) -> export_pb2.Export:  # noqa: A002
        """Ask for an export by its id."""
        return self._call(self._exports.GetExport, export_pb2.GetExportRequest(id=id), "merger").export

    def cancel_export(self, id: str) -> export_pb2.Export:  # noqa: A002
        """Cancel an export by its id."""
        return self._call(self._exports.CancelExport, export_pb2.CancelExportRequest(id=id), "merger").export

    def watch_export(self, id: str) -> Generator[export_pb2.Export]:  # noqa: A002
        """Follow an export by its id, until it is over or the generator is closed."""
        call = self._exports.WatchExport(export_pb2.WatchExportRequest(id=id))
        try:
            for answer in call:
                yield answer.export
        except grpc.RpcError as error:
            raise errors.from_rpc(error, self._urls["merger"]) from None
        finally:
            call.cancel()

    def flight_source(self, spec: merger_pb2.MergeSpec) -> FlightSource:
        """Give the Flight server that a merge is read from."""
        # Planning first tells the address, and refuses a bad request in words.
        uri = self._flight or self.plan_spec(spec).flight_uri
        if uri not in self._sources:
            self._sources[uri] = FlightSource(uri, self._timeout)
        return self._sources[uri]

    def _channel(self, url: str) -> grpc.Channel:
        if url not in self._channels:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise errors.InvalidArgument(
                    f"{url!r} is not the address of a server: it should look like {DEFAULT_URL}",
                    reason="INVALID_ARGUMENT",
                    fields={"field": "url", "value": url},
                )
            port = parts.port or (443 if parts.scheme == "https" else 80)
            host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
            options: list[tuple[str, int]] = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
            if is_loopback(url):
                # An http_proxy in the environment is not for this machine.
                options.append(("grpc.enable_http_proxy", 0))
            if parts.scheme == "https":
                channel = grpc.secure_channel(f"{host}:{port}", grpc.ssl_channel_credentials(), options=options)
            else:
                channel = grpc.insecure_channel(f"{host}:{port}", options=options)
            self._channels[url] = channel
        return self._channels[url]

    def _call(
        self, method: grpc.UnaryUnaryMultiCallable[Request, Response], request: Request, service: str
    ) -> Response:
        try:
            return method(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise errors.from_rpc(error, self._urls[service]) from None


_ROWS: dict[str, merger_pb2.RowsKept] = {
    "any": merger_pb2.ROWS_KEPT_ANY,
    "all": merger_pb2.ROWS_KEPT_ALL,
    "reference": merger_pb2.ROWS_KEPT_REFERENCE,
    "every": merger_pb2.ROWS_KEPT_EVERY,
}
_COORDINATES: dict[str, merger_pb2.CoordinateColumns] = {
    "xy": merger_pb2.COORDINATE_COLUMNS_XY,
    "row_col": merger_pb2.COORDINATE_COLUMNS_ROW_COL,
    "both": merger_pb2.COORDINATE_COLUMNS_BOTH,
    "none": merger_pb2.COORDINATE_COLUMNS_NONE,
}
_TYPES: dict[str, merger_pb2.ValueTypes] = {
    "stored": merger_pb2.VALUE_TYPES_STORED,
    "declared": merger_pb2.VALUE_TYPES_DECLARED,
}
_DUPLICATES: dict[str, merger_pb2.Duplicates] = {
    "error": merger_pb2.DUPLICATES_ERROR,
    "first": merger_pb2.DUPLICATES_FIRST,
    "last": merger_pb2.DUPLICATES_LAST,
    "mean": merger_pb2.DUPLICATES_MEAN,
}
_DTYPES: dict[str, layer_pb2.DataType] = {
    "": layer_pb2.DATA_TYPE_UNSPECIFIED,
    "uint8": layer_pb2.DATA_TYPE_UINT8,
    "int8": layer_pb2.DATA_TYPE_INT8,
    "uint16": layer_pb2.DATA_TYPE_UINT16,
    "int16": layer_pb2.DATA_TYPE_INT16,
    "uint32": layer_pb2.DATA_TYPE_UINT32,
    "int32": layer_pb2.DATA_TYPE_INT32,
    "int64": layer_pb2.DATA_TYPE_INT64,
    "float32": layer_pb2.DATA_TYPE_FLOAT32,
    "float64": layer_pb2.DATA_TYPE_FLOAT64,
}
_POINTS: dict[str, grid_pb2.Registration] = {
    "": grid_pb2.REGISTRATION_UNSPECIFIED,
    "center": grid_pb2.REGISTRATION_CENTER,
    "upper_left": grid_pb2.REGISTRATION_UPPER_LEFT,
}
_EXTENTS: dict[str, merger_pb2.ExtentRule] = {
    "union": merger_pb2.EXTENT_RULE_UNION,
    "intersection": merger_pb2.EXTENT_RULE_INTERSECTION,
    "reference": merger_pb2.EXTENT_RULE_REFERENCE,
}

Choice = TypeVar("Choice")


def _choice(parameter: str, value: str, choices: Mapping[str, Choice]) -> Choice:
    try:
        return choices[value]
    except (KeyError, TypeError):
        known = ", ".join(repr(choice) for choice in choices)
        raise errors.InvalidArgument(
            f"{parameter} is {value!r}, and must be one of {known}",
            reason="INVALID_ARGUMENT",
            fields={"field": parameter, "value": str(value)},
        ) from None


def _extent(extent: ExtentRule | tuple[float, float, float, float]) -> merger_pb2.Extent:
    if isinstance(extent, str):
        return merger_pb2.Extent(rule=_choice("extent", extent, _EXTENTS))
    try:
        min_x, min_y, max_x, max_y = (float(side) for side in extent)
    except (TypeError, ValueError):
        raise errors.InvalidArgument(
            f"extent is {extent!r}, and must be 'union', 'intersection', 'reference' or (min_x, min_y, max_x, max_y)",
            reason="INVALID_ARGUMENT",
            fields={"field": "extent", "value": str(extent)},
        ) from None
    return merger_pb2.Extent(bounds=grid_pb2.Bounds(min_x=min_x, min_y=min_y, max_x=max_x, max_y=max_y))


def _aligner_reference(reference: str | Grid | None) -> aligner_pb2.Reference | None:
    if reference is None:
        return None
    if isinstance(reference, Grid):
        return aligner_pb2.Reference(grid=reference.to_proto())
    return aligner_pb2.Reference(layer=reference)


def _merger_reference(reference: str | Grid | None) -> merger_pb2.Reference | None:
    if reference is None:
        return None
    if isinstance(reference, Grid):
        return merger_pb2.Reference(grid=reference.to_proto())
    return merger_pb2.Reference(layer=reference)
