"""Raster layers that live in PostgreSQL, woven into one aligned Arrow table.

>>> import rasterloom as rl
>>> loom = rl.connect()
>>> table = loom.merge(["coads_sst_jan", "oisst_19811231"]).to_arrow()
>>> table.column_names
['x', 'y', 'coads_sst_jan', 'oisst_19811231']
"""

from rasterloom.alignment import AlignmentReport, Issue
from rasterloom.catalog import Adoption
from rasterloom.check import CheckList, CoordinateCheck, CoordinateError, LayerCheck
from rasterloom.client import Loom, connect
from rasterloom.connection import TLS
from rasterloom.errors import (
    Aborted,
    AlignmentWarning,
    AlreadyExists,
    Cancelled,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    IncompleteStream,
    Internal,
    InvalidArgument,
    NotFound,
    NotInstalled,
    OutOfRange,
    PermissionDenied,
    RasterloomError,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from rasterloom.export import Export, ExportList, ExportPart, Exports, ExportStatus
from rasterloom.grid import Bounds, Grid, Relation, Vector, Verdict, Window
from rasterloom.lattice import Lattice, to_numpy, to_xarray
from rasterloom.layers import Layer, LayerList, Problem
from rasterloom.local import LocalLoom, local
from rasterloom.merge import Merge
from rasterloom.migration import Migration, MigrationList, Migrations
from rasterloom.migration_plan import Dependent, MigrationPlan, Refusal
from rasterloom.migration_status import DifferingRow, MigrationStatus, Verification
from rasterloom.plan import Plan, PlannedLayer, Resampled

__version__ = "0.1.0"

__all__ = [
    "TLS",
    "Aborted",
    "Adoption",
    "AlignmentReport",
    "AlignmentWarning",
    "AlreadyExists",
    "Bounds",
    "Cancelled",
    "CheckList",
    "CoordinateCheck",
    "CoordinateError",
    "DataLoss",
    "DeadlineExceeded",
    "Dependent",
    "DifferingRow",
    "Export",
    "ExportList",
    "ExportPart",
    "ExportStatus",
    "Exports",
    "FailedPrecondition",
    "Grid",
    "IncompleteStream",
    "Internal",
    "InvalidArgument",
    "Issue",
    "Lattice",
    "Layer",
    "LayerCheck",
    "LayerList",
    "LocalLoom",
    "Loom",
    "Merge",
    "Migration",
    "MigrationList",
    "MigrationPlan",
    "MigrationStatus",
    "Migrations",
    "NotFound",
    "NotInstalled",
    "OutOfRange",
    "PermissionDenied",
    "Plan",
    "PlannedLayer",
    "Problem",
    "RasterloomError",
    "Refusal",
    "Relation",
    "Resampled",
    "ResourceExhausted",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Vector",
    "Verdict",
    "Verification",
    "Window",
    "connect",
    "local",
    "to_numpy",
    "to_xarray",
]
