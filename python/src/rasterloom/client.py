"""The way in: a connection to the services, and what they can be asked."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self, cast

from rasterloom._choices import (
    COMPRESSIONS,
    COORDINATES,
    DUPLICATES,
    ROWS,
    TYPES,
    Compression,
    Coordinates,
    Duplicates,
    ExtentRule,
    Resampling,
    Rows,
    Types,
    aligner_reference,
    choice,
    extent_of,
    merger_reference,
    number,
    resample,
    text,
    whole,
)
from rasterloom._gen.aligner.v1 import aligner_pb2
from rasterloom._gen.merger.v1 import merger_pb2
from rasterloom._gen.schema.v1 import schema_pb2
from rasterloom.alignment import AlignmentReport
from rasterloom.catalog import Catalog
from rasterloom.connection import DEFAULT_URL, TLS, TOKEN_VARIABLE, Connection
from rasterloom.errors import invalid
from rasterloom.export import Exports
from rasterloom.grid import Grid
from rasterloom.layers import name_of, names_of
from rasterloom.merge import Merge
from rasterloom.migration import Migrations

if TYPE_CHECKING:
    from rasterloom.layers import Layer
    from rasterloom.merge import Progress
    from rasterloom.plan import Plan

__all__ = ["Loom", "connect"]

URL_VARIABLE = "RASTERLOOM_URL"


def connect(
    url: str | None = None,
    *,
    aligner: str | None = None,
    schema: str | None = None,
    merger: str | None = None,
    flight: str | None = None,
    token: str | Callable[[], str] | None = None,
    tls: bool | str | os.PathLike[str] | TLS | None = None,
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
    token : str or callable, optional
        Says who asks, where servers want to know: sent as ``authorization:
        Bearer …``. A callable is asked for each call, for tokens that run out.
        Default: the environment variable ``RASTERLOOM_TOKEN``, if set.
    tls : bool, path or TLS, optional
        How to trust servers whose address begins with ``https``: a file of
        certificates (PEM) that vouch for them, or :class:`TLS` with a
        certificate of our own besides. Default, and True: by the certificates
        that gRPC comes with.
    timeout : float
        Seconds that one call may take. Reading a table, and planning and
        moving a migration, may take longer.

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
    seconds = number("timeout", timeout) or 0.0
    if not seconds > 0:
        raise invalid("timeout", timeout, "a number of seconds above 0")
    base = url or os.environ.get(URL_VARIABLE) or DEFAULT_URL
    return Loom(
        Connection(
            aligner=aligner or base,
            schema=schema or base,
            merger=merger or base,
            flight=flight,
            token=token or os.environ.get(TOKEN_VARIABLE) or None,
            tls=TLS.of(tls),
            timeout=seconds,
        )
    )


class Loom(Catalog):
    """A connection to Rasterloom; make one with :func:`connect`.

    Safe to use from several threads. Close it, or use it in a ``with``
    statement.

    Attributes
    ----------
    exports : Exports
        Files that the server wrote, or writes.
    migrations : Migrations
        Tables that get, or got, stored coordinates.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.exports = Exports(connection)
        self.migrations = Migrations(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Loom at {', '.join(self._connection.urls)}>"

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def align(
        self,
        layers: Iterable[str | Layer],
        *,
        reference: str | Layer | Grid | None = None,
        tolerance: float | None = None,
    ) -> AlignmentReport:
        """Report how layers fit together, from metadata alone.

        Parameters
        ----------
        layers : iterable of str or Layer
            Layers, or their names, two at least.
        reference : str, Layer or Grid, optional
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
        names = names_of(layers)
        request = aligner_pb2.AnalyzeAlignmentRequest(
            layers=[aligner_pb2.LayerSource(name=name) for name in names],
            reference=aligner_reference(reference),
            tolerance_pixels=number("tolerance", tolerance),
        )
        answer = self._connection.call(self._connection.aligner.AnalyzeAlignment, request, "aligner")
        wanted = schema_pb2.BatchGetLayersRequest(names=names)
        found = self._connection.call(self._connection.schema.BatchGetLayers, wanted, "schema")
        grids = {layer.name: Grid.from_proto(layer.grid) for layer in found.layers if layer.HasField("grid")}
        return AlignmentReport.from_proto(answer, grids)

    def merge(
        self,
        layers: Iterable[str | Layer] | Mapping[str, str | Layer],
        *,
        reference: str | Layer | Grid | None = None,
        extent: ExtentRule | tuple[float, float, float, float] = "union",
        rows: Rows = "any",
        tolerance: float | None = None,
        coordinates: Coordinates = "xy",
        types: Types = "stored",
        duplicates: Duplicates = "error",
        resampling: Resampling | Mapping[str, Resampling] = "none",
        min_share: float | Mapping[str, float] | None = None,
        batch_rows: int | None = None,
        endpoints: int | None = None,
        compression: Compression = "none",
        use_legacy_merge: bool | None = None,
        progress: Progress = "auto",
    ) -> Merge:
        """Describe one table of aligned layers; nothing is read yet.

        Parameters
        ----------
        layers : iterable of str or Layer, or mapping of str to these
            Layers, or their names, in the order of their columns, or ``{column: layer}``.
        reference : str, Layer or Grid, optional
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
        resampling : str, or mapping of str to str
            How layers are resampled that no shift brings onto the lattice, for all
            of them or by column (or layer): ``"nearest"``, ``"bilinear"``,
            ``"cubic"``, ``"average"``, ``"mode"``, ``"min"``, ``"max"``, ``"sum"``;
            ``"auto"`` by the type of the values, or, saying what these are,
            ``"continuous"``, ``"categorical"`` or ``"count"``. A method named for a
            column is also used where a shift would do. ``"none"`` refuses.
        min_share : float, or mapping of str to float, optional
            Least share of a cell's area, from 0 to 1, that cells with a value must
            cover for a resampled value; for all layers or by column. Default 0.
        batch_rows : int, optional
            Rows in a record batch. Default: 16,384, halved until a batch has at
            most 1 MiB.
        endpoints : int, optional
            Parts to cut the table into, from north to south; those that fit in
            memory are read four at a time. Each part is read at a moment of its
            own. Default: the server decides; one, for all but huge tables.
        compression : str
            How the table is compressed on its way from the server: ``"lz4"`` is worth
            it on networks slower than some 2 Gbit/s, ``"zstd"`` on those slower than
            some 400 Mbit/s. Coordinates all but vanish; the table is the same.
            Default: ``"none"``, the fastest on one machine.
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
        >>> layers = {"rain": "nc_pr_01", "sst": "coads_sst_jan"}
        >>> plan = loom.merge(layers, reference="nc_pr_01", resampling={"sst": "continuous"}).plan
        >>> plan.layers[1].resampled.method
        'bilinear'
        """
        if use_legacy_merge:
            warnings.warn(
                "use_legacy_merge is deprecated and will be removed: leave it out, the table is the same",
                DeprecationWarning,
                stacklevel=2,
            )
        pairs: list[tuple[str, str]] = []
        if isinstance(layers, Mapping):
            named = cast("Mapping[object, object]", layers)
            pairs += [(text("a column", column), name_of(layer)) for column, layer in named.items()]
        else:
            pairs += [("", name) for name in names_of(layers)]
        spec = merger_pb2.MergeSpec(
            layers=[merger_pb2.LayerSelection(name=name, column=column) for column, name in pairs],
            reference=merger_reference(reference),
            extent=extent_of(extent),
            rows_kept=choice("rows", rows, ROWS),
            tolerance_pixels=number("tolerance", tolerance),
            coordinate_columns=choice("coordinates", coordinates, COORDINATES),
            value_types=choice("types", types, TYPES),
            duplicates=choice("duplicates", duplicates, DUPLICATES),
            batch_rows=whole("batch_rows", batch_rows),
            endpoints=whole("endpoints", endpoints),
            body_compression=choice("compression", compression, COMPRESSIONS),
            use_legacy_merge=use_legacy_merge,
        )
        resample(spec, resampling, min_share)
        return Merge(self._connection, spec, progress)

    def plan(self, layers: Iterable[str | Layer] | Mapping[str, str | Layer], **options: Any) -> Plan:
        """Say what a merge would do, without reading a cell.

        Takes the parameters of :meth:`merge`; the same as ``merge(…).plan``.

        Examples
        --------
        >>> loom.plan(["coads_sst_jan", "oisst_19811231"]).lattice.shape
        (90, 180)
        """
        return self.merge(layers, **options).plan
