"""What can go wrong, as exceptions a program can act on.

Every exception of the client is a :class:`RasterloomError` with a stable
``reason`` (``LAYER_NOT_FOUND``, ``RESIDUAL_TOO_LARGE`` …) and ``fields`` with
the names, measured values and limits. The class follows the status code, the
same for RPCs and for Arrow Flight streams. Never read the message in a program.
"""

from __future__ import annotations

import reprlib
from contextlib import contextmanager
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2  # pyright: ignore[reportMissingTypeStubs]

from rasterloom._diagnose import why_unreachable

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from rasterloom.connection import TLS

__all__ = [
    "Aborted",
    "AlignmentWarning",
    "AlreadyExists",
    "Cancelled",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "IncompleteStream",
    "Internal",
    "InvalidArgument",
    "NotFound",
    "NotInstalled",
    "OutOfRange",
    "PermissionDenied",
    "RasterloomError",
    "ResourceExhausted",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
]

DOMAIN = "rasterloom.dev"
PROPOSED = 5
"""Names that are told where there is none as was asked for."""
NO_CRS = "(none)"
"""How the server writes the CRS of a layer that has none."""
STATUS_DETAILS = "grpc-status-details-bin"
HINTS = {
    "COLUMN_REPEATED": "loom.merge({column: layer}) names columns otherwise",
    "CRS_MISSING": "a layer without a CRS gets one by loom.register or loom.ingest with crs=…",
    "DUPLICATE_CELL": "in a merge, duplicates='first', 'last' or 'mean' takes one value of them",
    "LAYER_EXISTS": "loom.ingest(…, replace=True) replaces one that was ingested",
    "NARROWING_LOSS": "types='stored' merges values as they are stored",
    "RESIDUAL_TOO_LARGE": "as in loom.merge(…, resampling={column: 'average'})",
}
"""What helps in Python, by reason: the server's sentences are for clients of any kind."""


class RasterloomError(Exception):
    """Any error that the client raises.

    Attributes
    ----------
    message : str
        One sentence for people. ``str(error)`` adds what would help in Python,
        where the reason says it.
    reason : str
        The problem for programs, in UPPER_SNAKE: one of the server's
        (``rasterloom.fault.v1.Reason``), or ``SERVER_UNREACHABLE``,
        ``NOT_OFFERED``, ``INCOMPLETE_STREAM``, ``PROGRAM_NOT_FOUND``,
        ``SUITE_NOT_STARTED``, ``NOT_OURS``, ``NOT_CONNECTED``, ``FORKED``,
        ``NOT_INSTALLED`` from the client itself.
    fields : dict of str to str
        The names, measured values and limits of the message.
    code : str
        The status code, such as ``"not_found"``.

    Examples
    --------
    >>> try:
    ...     loom.layer("coads_sst_jam")
    ... except rl.NotFound as error:
    ...     print(error.reason, error.fields["layer"])
    LAYER_NOT_FOUND coads_sst_jam
    """

    code = "unknown"

    def __init__(self, message: str, *, reason: str = "", fields: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.fields = dict(fields or {})

    def __str__(self) -> str:
        unknown = self.reason == "CRS_MISMATCH" and NO_CRS in self.fields.values()
        hint = HINTS.get("CRS_MISSING" if unknown else self.reason)
        return self.message if hint is None else f"{self.message}; {hint}"

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword arguments do not survive the default pickling, and workers of
        # Dask or multiprocessing send exceptions home pickled.
        return _restore, (type(self), self.message, self.reason, self.fields)


def _restore(kind: type[RasterloomError], message: str, reason: str, fields: dict[str, str]) -> RasterloomError:
    return kind(message, reason=reason, fields=fields)


class InvalidArgument(RasterloomError, ValueError):
    """The request can never work: a bad value, a layer twice, no layer."""

    code = "invalid_argument"


class NotFound(RasterloomError, LookupError):
    """Something named in the request is not there."""

    code = "not_found"


class NoSuchName(NotFound, KeyError):
    """A list has nothing of that name."""


class NotInstalled(RasterloomError, ImportError):
    """Something needs a package that is not installed; ``fields`` has its name."""

    code = "failed_precondition"


class AlreadyExists(RasterloomError):
    """Something that should be made is there already."""

    code = "already_exists"


class FailedPrecondition(RasterloomError):
    """The request does not fit the state of things, such as layers half a pixel apart."""

    code = "failed_precondition"


class OutOfRange(RasterloomError):
    """Nothing lies where the request looks."""

    code = "out_of_range"


class ResourceExhausted(RasterloomError):
    """A limit was met; ``fields`` has what was asked and what is allowed."""

    code = "resource_exhausted"


class Aborted(RasterloomError):
    """Somebody else was faster, or a layer changed meanwhile; try again."""

    code = "aborted"


class Unavailable(RasterloomError, ConnectionError):
    """A server, or the database behind it, cannot be reached now."""

    code = "unavailable"


class Unauthenticated(RasterloomError):
    """The server does not know who asks."""

    code = "unauthenticated"


class PermissionDenied(RasterloomError, PermissionError):
    """The server knows who asks, and refuses."""

    code = "permission_denied"


class Unimplemented(RasterloomError):
    """The server cannot do this; it may be older than the client."""

    code = "unimplemented"


class DeadlineExceeded(RasterloomError, TimeoutError):
    """The answer did not come in time."""

    code = "deadline_exceeded"


class Cancelled(RasterloomError):
    """The call was cancelled."""

    code = "cancelled"


class Internal(RasterloomError):
    """A bug in the server, whose log has it."""

    code = "internal"


class DataLoss(RasterloomError):
    """Stored or sent data disagree with themselves."""

    code = "data_loss"


class IncompleteStream(DataLoss):
    """A stream of record batches ended early, or is not what was sent.

    The rows that came are never handed out as if they were all: what was
    written of a Parquet file is removed.
    """


class AlignmentWarning(UserWarning):
    """A read moves layers by a part of a cell, so that values sit beside where they were measured."""


_BY_CODE: dict[int, type[RasterloomError]] = {
    1: Cancelled,
    3: InvalidArgument,
    4: DeadlineExceeded,
    5: NotFound,
    6: AlreadyExists,
    7: PermissionDenied,
    8: ResourceExhausted,
    9: FailedPrecondition,
    10: Aborted,
    11: OutOfRange,
    12: Unimplemented,
    13: Internal,
    14: Unavailable,
    15: DataLoss,
    16: Unauthenticated,
}


@contextmanager
def needs(package: str, what: str) -> Generator[None]:
    """Around an import: say of an optional package that is missing what needs it, and how to get it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        raise NotInstalled(
            f"{what} needs {package}: pip install {package}", reason="NOT_INSTALLED", fields={"package": package}
        ) from error


def no_such_name(what: str, name: object, names: Sequence[str]) -> NoSuchName:
    """Say that nothing has this name, and which names there are.

    >>> print(no_such_name("layer", "coads", ["oisst_19811231", "coads_sst_jan", "nc_land"]))
    there is no layer 'coads' here: coads_sst_jan, nc_land, oisst_19811231
    """
    asked = str(name).lower()

    def strangeness(other: str) -> tuple[bool, bool, float]:
        folded = other.lower()
        return not folded.startswith(asked), asked not in folded, -SequenceMatcher(None, asked, folded).ratio()

    nearest = sorted(names, key=strangeness)
    more = f" and {len(nearest) - PROPOSED} more" if len(nearest) > PROPOSED else ""
    there = f": {', '.join(nearest[:PROPOSED])}{more}" if nearest else ", and no other"
    return NoSuchName(f"there is no {what} {name!r} here{there}", reason="LAYER_NOT_FOUND", fields={"layer": str(name)})


def invalid(parameter: str, value: object, must: str) -> InvalidArgument:
    """Say what an argument is, and what it ``must`` be.

    >>> print(invalid("rows", 7, "'any' or 'all'"))
    rows is 7, and must be 'any' or 'all'
    """
    return InvalidArgument(
        f"{parameter} is {' '.join(reprlib.repr(value).split())}, and must be {must}",
        reason="INVALID_ARGUMENT",
        fields={"field": parameter, "value": str(value)},
    )


def of_code(code: str, message: str, *, reason: str, fields: Mapping[str, str]) -> RasterloomError:
    """Give the exception of a status code, such as ``"not_found"``, that came as data."""
    kinds = {kind.code: kind for kind in _BY_CODE.values()}
    return kinds.get(code, RasterloomError)(message, reason=reason, fields=fields)


def unreachable(url: str, problem: str = "", tls: TLS | None = None) -> Unavailable:
    """Say that no server answers at ``url``, and why; ``problem`` is what gRPC says."""
    return Unavailable(
        f"no Rasterloom server answers at {url}: {why_unreachable(url, tls)}",
        reason="SERVER_UNREACHABLE",
        fields={"url": url} | ({"problem": problem} if problem else {}),
    )


def from_status(details: bytes) -> RasterloomError | None:
    """Read an error from a serialized ``google.rpc.Status``.

    None when the bytes are not a status. This is the one place that decides
    classes, for gRPC and Flight alike.
    """
    try:
        status = status_pb2.Status.FromString(details)
    except DecodeError:
        return None
    if status.code not in _BY_CODE:
        return None
    reason, fields = "", dict[str, str]()
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == DOMAIN:
            reason, fields = info.reason, dict(info.metadata)
    return _BY_CODE[status.code](status.message, reason=reason, fields=fields)


def from_rpc(error: grpc.RpcError, url: str, tls: TLS | None = None) -> RasterloomError:
    """Turn the error of a gRPC call to ``url`` into ours."""
    if not isinstance(error, grpc.Call):
        return RasterloomError(str(error))
    metadata = cast("tuple[tuple[str, str | bytes], ...]", error.trailing_metadata() or ())
    for key, value in metadata:
        if key == STATUS_DETAILS and isinstance(value, bytes) and (ours := from_status(value)) is not None:
            return ours
    return of_bare_status(error.code().value[0], error.details() or "", url, tls)


def of_bare_status(number: int, text: str, url: str, tls: TLS | None = None) -> RasterloomError:
    """Give the exception of a status that has no details of ours: something else than Rasterloom made it."""
    fields = {"url": url} | ({"problem": text} if text else {})
    kind = _BY_CODE.get(number, RasterloomError)
    if kind is Unavailable:
        return unreachable(url, text, tls)
    if kind is DeadlineExceeded and "this server allows" in text:  # its limit ended the call, not ours
        return kind(f"{url} ended the call: {text}", fields=fields)
    if kind is DeadlineExceeded:
        return kind(f"{url} did not answer in time", fields=fields)
    if kind is Unimplemented:
        return kind(
            f"{url} does not offer this call: a Rasterloom older than this client, a service of it that runs "
            "elsewhere, or another server",
            reason="NOT_OFFERED",
            fields=fields,
        )
    if kind is Unauthenticated:
        return kind(
            f"{url} wants to know who asks: rl.connect(token=…) or the environment variable RASTERLOOM_TOKEN says it",
            reason="UNAUTHENTICATED",
            fields=fields,
        )
    return kind(text or f"the call to {url} failed", fields=fields)
