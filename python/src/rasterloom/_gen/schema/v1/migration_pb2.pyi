import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from rasterloom._gen.layer.v1 import layer_pb2 as _layer_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MigrationState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MIGRATION_STATE_UNSPECIFIED: _ClassVar[MigrationState]
    MIGRATION_STATE_PLANNED: _ClassVar[MigrationState]
    MIGRATION_STATE_CAPTURING: _ClassVar[MigrationState]
    MIGRATION_STATE_BACKFILLING: _ClassVar[MigrationState]
    MIGRATION_STATE_INDEXED: _ClassVar[MigrationState]
    MIGRATION_STATE_SYNCED: _ClassVar[MigrationState]
    MIGRATION_STATE_VERIFIED: _ClassVar[MigrationState]
    MIGRATION_STATE_CUT_OVER: _ClassVar[MigrationState]
    MIGRATION_STATE_FINALIZED: _ClassVar[MigrationState]
    MIGRATION_STATE_ROLLED_BACK: _ClassVar[MigrationState]
    MIGRATION_STATE_ABORTED: _ClassVar[MigrationState]

class MigrationCondition(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MIGRATION_CONDITION_UNSPECIFIED: _ClassVar[MigrationCondition]
    MIGRATION_CONDITION_RUNNING: _ClassVar[MigrationCondition]
    MIGRATION_CONDITION_PAUSED: _ClassVar[MigrationCondition]
    MIGRATION_CONDITION_FAILED: _ClassVar[MigrationCondition]

class MigrationLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MIGRATION_LEVEL_UNSPECIFIED: _ClassVar[MigrationLevel]
    MIGRATION_LEVEL_STORED: _ClassVar[MigrationLevel]
    MIGRATION_LEVEL_TILED: _ClassVar[MigrationLevel]
MIGRATION_STATE_UNSPECIFIED: MigrationState
MIGRATION_STATE_PLANNED: MigrationState
MIGRATION_STATE_CAPTURING: MigrationState
MIGRATION_STATE_BACKFILLING: MigrationState
MIGRATION_STATE_INDEXED: MigrationState
MIGRATION_STATE_SYNCED: MigrationState
MIGRATION_STATE_VERIFIED: MigrationState
MIGRATION_STATE_CUT_OVER: MigrationState
MIGRATION_STATE_FINALIZED: MigrationState
MIGRATION_STATE_ROLLED_BACK: MigrationState
MIGRATION_STATE_ABORTED: MigrationState
MIGRATION_CONDITION_UNSPECIFIED: MigrationCondition
MIGRATION_CONDITION_RUNNING: MigrationCondition
MIGRATION_CONDITION_PAUSED: MigrationCondition
MIGRATION_CONDITION_FAILED: MigrationCondition
MIGRATION_LEVEL_UNSPECIFIED: MigrationLevel
MIGRATION_LEVEL_STORED: MigrationLevel
MIGRATION_LEVEL_TILED: MigrationLevel

class TileOptions(_message.Message):
    __slots__ = ("sql_view", "declared_type")
    SQL_VIEW_FIELD_NUMBER: _ClassVar[int]
    DECLARED_TYPE_FIELD_NUMBER: _ClassVar[int]
    sql_view: bool
    declared_type: bool
    def __init__(self, sql_view: _Optional[bool] = ..., declared_type: _Optional[bool] = ...) -> None: ...

class Migration(_message.Message):
    __slots__ = ("id", "layer", "table", "level", "state", "condition", "failure", "etag", "rows_per_second_limit", "rows_total", "rows_copied", "fraction_copied", "notes_pending", "verification", "create_time", "state_time", "in_place", "disk_bytes", "tiles", "waiting")
    ID_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    ROWS_PER_SECOND_LIMIT_FIELD_NUMBER: _ClassVar[int]
    ROWS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    ROWS_COPIED_FIELD_NUMBER: _ClassVar[int]
    FRACTION_COPIED_FIELD_NUMBER: _ClassVar[int]
    NOTES_PENDING_FIELD_NUMBER: _ClassVar[int]
    VERIFICATION_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    STATE_TIME_FIELD_NUMBER: _ClassVar[int]
    IN_PLACE_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    TILES_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    id: str
    layer: str
    table: _layer_pb2.Table
    level: MigrationLevel
    state: MigrationState
    condition: MigrationCondition
    failure: MigrationFailure
    etag: str
    rows_per_second_limit: int
    rows_total: int
    rows_copied: int
    fraction_copied: float
    notes_pending: int
    verification: Verification
    create_time: _timestamp_pb2.Timestamp
    state_time: _timestamp_pb2.Timestamp
    in_place: bool
    disk_bytes: int
    tiles: TileOptions
    waiting: MigrationFailure
    def __init__(self, id: _Optional[str] = ..., layer: _Optional[str] = ..., table: _Optional[_Union[_layer_pb2.Table, _Mapping]] = ..., level: _Optional[_Union[MigrationLevel, str]] = ..., state: _Optional[_Union[MigrationState, str]] = ..., condition: _Optional[_Union[MigrationCondition, str]] = ..., failure: _Optional[_Union[MigrationFailure, _Mapping]] = ..., etag: _Optional[str] = ..., rows_per_second_limit: _Optional[int] = ..., rows_total: _Optional[int] = ..., rows_copied: _Optional[int] = ..., fraction_copied: _Optional[float] = ..., notes_pending: _Optional[int] = ..., verification: _Optional[_Union[Verification, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., state_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., in_place: _Optional[bool] = ..., disk_bytes: _Optional[int] = ..., tiles: _Optional[_Union[TileOptions, _Mapping]] = ..., waiting: _Optional[_Union[MigrationFailure, _Mapping]] = ...) -> None: ...

class MigrationFailure(_message.Message):
    __slots__ = ("reason", "message", "fields")
    class FieldsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    fields: _containers.ScalarMap[str, str]
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ..., fields: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Verification(_message.Message):
    __slots__ = ("old_rows", "new_rows", "old_hash", "new_hash", "wrong_coordinates", "off_grid", "differing", "elapsed", "rows_without_value", "tiles", "lagging_tiles")
    OLD_ROWS_FIELD_NUMBER: _ClassVar[int]
    NEW_ROWS_FIELD_NUMBER: _ClassVar[int]
    OLD_HASH_FIELD_NUMBER: _ClassVar[int]
    NEW_HASH_FIELD_NUMBER: _ClassVar[int]
    WRONG_COORDINATES_FIELD_NUMBER: _ClassVar[int]
    OFF_GRID_FIELD_NUMBER: _ClassVar[int]
    DIFFERING_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_FIELD_NUMBER: _ClassVar[int]
    ROWS_WITHOUT_VALUE_FIELD_NUMBER: _ClassVar[int]
    TILES_FIELD_NUMBER: _ClassVar[int]
    LAGGING_TILES_FIELD_NUMBER: _ClassVar[int]
    old_rows: int
    new_rows: int
    old_hash: str
    new_hash: str
    wrong_coordinates: int
    off_grid: int
    differing: _containers.RepeatedCompositeFieldContainer[DifferingRow]
    elapsed: _duration_pb2.Duration
    rows_without_value: int
    tiles: int
    lagging_tiles: int
    def __init__(self, old_rows: _Optional[int] = ..., new_rows: _Optional[int] = ..., old_hash: _Optional[str] = ..., new_hash: _Optional[str] = ..., wrong_coordinates: _Optional[int] = ..., off_grid: _Optional[int] = ..., differing: _Optional[_Iterable[_Union[DifferingRow, _Mapping]]] = ..., elapsed: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., rows_without_value: _Optional[int] = ..., tiles: _Optional[int] = ..., lagging_tiles: _Optional[int] = ...) -> None: ...

class DifferingRow(_message.Message):
    __slots__ = ("row", "col", "difference")
    ROW_FIELD_NUMBER: _ClassVar[int]
    COL_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    row: int
    col: int
    difference: str
    def __init__(self, row: _Optional[int] = ..., col: _Optional[int] = ..., difference: _Optional[str] = ...) -> None: ...

class MigrationPlan(_message.Message):
    __slots__ = ("layer", "level", "rows", "table_bytes", "disk_bytes", "wal_bytes", "estimate", "locks", "dependents", "refusals", "notices", "disk_headroom_bytes", "disk_headroom_measured", "tiles", "rows_without_value")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    TABLE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    WAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    ESTIMATE_FIELD_NUMBER: _ClassVar[int]
    LOCKS_FIELD_NUMBER: _ClassVar[int]
    DEPENDENTS_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    NOTICES_FIELD_NUMBER: _ClassVar[int]
    DISK_HEADROOM_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_HEADROOM_MEASURED_FIELD_NUMBER: _ClassVar[int]
    TILES_FIELD_NUMBER: _ClassVar[int]
    ROWS_WITHOUT_VALUE_FIELD_NUMBER: _ClassVar[int]
    layer: str
    level: MigrationLevel
    rows: int
    table_bytes: int
    disk_bytes: int
    wal_bytes: int
    estimate: _duration_pb2.Duration
    locks: _containers.RepeatedScalarFieldContainer[str]
    dependents: _containers.RepeatedCompositeFieldContainer[Dependent]
    refusals: _containers.RepeatedCompositeFieldContainer[Refusal]
    notices: _containers.RepeatedScalarFieldContainer[str]
    disk_headroom_bytes: int
    disk_headroom_measured: bool
    tiles: int
    rows_without_value: int
    def __init__(self, layer: _Optional[str] = ..., level: _Optional[_Union[MigrationLevel, str]] = ..., rows: _Optional[int] = ..., table_bytes: _Optional[int] = ..., disk_bytes: _Optional[int] = ..., wal_bytes: _Optional[int] = ..., estimate: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., locks: _Optional[_Iterable[str]] = ..., dependents: _Optional[_Iterable[_Union[Dependent, _Mapping]]] = ..., refusals: _Optional[_Iterable[_Union[Refusal, _Mapping]]] = ..., notices: _Optional[_Iterable[str]] = ..., disk_headroom_bytes: _Optional[int] = ..., disk_headroom_measured: _Optional[bool] = ..., tiles: _Optional[int] = ..., rows_without_value: _Optional[int] = ...) -> None: ...

class Dependent(_message.Message):
    __slots__ = ("kind", "name")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    kind: str
    name: str
    def __init__(self, kind: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("code", "message", "count", "fix")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    FIX_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    count: int
    fix: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., count: _Optional[int] = ..., fix: _Optional[str] = ...) -> None: ...

class MigrationSpec(_message.Message):
    __slots__ = ("layer", "level", "rows_per_second_limit", "in_place", "tiles")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    ROWS_PER_SECOND_LIMIT_FIELD_NUMBER: _ClassVar[int]
    IN_PLACE_FIELD_NUMBER: _ClassVar[int]
    TILES_FIELD_NUMBER: _ClassVar[int]
    layer: str
    level: MigrationLevel
    rows_per_second_limit: int
    in_place: bool
    tiles: TileOptions
    def __init__(self, layer: _Optional[str] = ..., level: _Optional[_Union[MigrationLevel, str]] = ..., rows_per_second_limit: _Optional[int] = ..., in_place: _Optional[bool] = ..., tiles: _Optional[_Union[TileOptions, _Mapping]] = ...) -> None: ...

class PlanMigrationRequest(_message.Message):
    __slots__ = ("spec", "disk_headroom_bytes")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    DISK_HEADROOM_BYTES_FIELD_NUMBER: _ClassVar[int]
    spec: MigrationSpec
    disk_headroom_bytes: int
    def __init__(self, spec: _Optional[_Union[MigrationSpec, _Mapping]] = ..., disk_headroom_bytes: _Optional[int] = ...) -> None: ...

class PlanMigrationResponse(_message.Message):
    __slots__ = ("plan",)
    PLAN_FIELD_NUMBER: _ClassVar[int]
    plan: MigrationPlan
    def __init__(self, plan: _Optional[_Union[MigrationPlan, _Mapping]] = ...) -> None: ...

class StartMigrationRequest(_message.Message):
    __slots__ = ("spec", "idempotency_key", "disk_headroom_bytes")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    DISK_HEADROOM_BYTES_FIELD_NUMBER: _ClassVar[int]
    spec: MigrationSpec
    idempotency_key: str
    disk_headroom_bytes: int
    def __init__(self, spec: _Optional[_Union[MigrationSpec, _Mapping]] = ..., idempotency_key: _Optional[str] = ..., disk_headroom_bytes: _Optional[int] = ...) -> None: ...

class StartMigrationResponse(_message.Message):
    __slots__ = ("migration",)
    MIGRATION_FIELD_NUMBER: _ClassVar[int]
    migration: Migration
    def __init__(self, migration: _Optional[_Union[Migration, _Mapping]] = ...) -> None: ...

class GetMigrationRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class GetMigrationResponse(_message.Message):
    __slots__ = ("migration",)
    MIGRATION_FIELD_NUMBER: _ClassVar[int]
    migration: Migration
    def __init__(self, migration: _Optional[_Union[Migration, _Mapping]] = ...) -> None: ...

class ListMigrationsRequest(_message.Message):
    __slots__ = ("layer", "limit")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    layer: str
    limit: int
    def __init__(self, layer: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class ListMigrationsResponse(_message.Message):
    __slots__ = ("migrations",)
    MIGRATIONS_FIELD_NUMBER: _ClassVar[int]
    migrations: _containers.RepeatedCompositeFieldContainer[Migration]
    def __init__(self, migrations: _Optional[_Iterable[_Union[Migration, _Mapping]]] = ...) -> None: ...

class WatchMigrationRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class WatchMigrationResponse(_message.Message):
    __slots__ = ("migration", "rows_per_second", "remaining")
    MIGRATION_FIELD_NUMBER: _ClassVar[int]
    ROWS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    migration: Migration
    rows_per_second: float
    remaining: _duration_pb2.Duration
    def __init__(self, migration: _Optional[_Union[Migration, _Mapping]] = ..., rows_per_second: _Optional[float] = ..., remaining: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class PauseMigrationRequest(_message.Message):
    __slots__ = ("id", "etag")
    ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    id: str
    etag: str
    def __init__(self, id: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class PauseMigrationResponse(_message.Message):
    __slots__ = ("migration",)
    MIGRATION_FIELD_NUMBER: _ClassVar[int]
    migration: Migration
    def __init__(self, migration: _Optional[_Union[Migration, _Mapping]] = ...) -> None: ...

class ResumeMigrationRequest(_message.Message):
    __slots__ = ("id", "etag")
    ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    id: str
    etag: str
    def __init__(self, id: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class ResumeMigrationResponse(_message.Message):
    __slots__ = ("migration",)
    MIGRATION_FIELD_NUMBER: _ClassVar[int]
    migration: Migration
    def __init__(self, migration: _Optional[_Union[Migration, _Mapping]] = ...) -> None: ...

class CutOverRequest(_message.Message):
    __slots__ = ("id", "etag")
    ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    id: str
    etag: str
    def __init__(self, id: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class CutOverResponse(_message.Message):
    __slots__ = ("migration",)
    MIGRATION_FIELD_NUMBER: _ClassVar[int]
    migration: Migration
    def __init__(self, migration: _Optional[_Union[Migration, _Mapping]] = ...) -> None: ...

class RollbackRequest(_message.Message):
    __slots__ = ("id", "etag")
    ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    id: str
    etag: str
    def __init__(self, id: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class RollbackResponse(_message.Message):
    __slots__ = ("migration",)
    MIGRATION_FIELD_NUMBER: _ClassVar[int]
    migration: Migration
    def __init__(self, migration: _Optional[_Union[Migration, _Mapping]] = ...) -> None: ...

class FinalizeRequest(_message.Message):
    __slots__ = ("id", "etag", "drop_old_table", "drop_name", "lose_writes")
    ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    DROP_OLD_TABLE_FIELD_NUMBER: _ClassVar[int]
    DROP_NAME_FIELD_NUMBER: _ClassVar[int]
    LOSE_WRITES_FIELD_NUMBER: _ClassVar[int]
    id: str
    etag: str
    drop_old_table: bool
    drop_name: bool
    lose_writes: bool
    def __init__(self, id: _Optional[str] = ..., etag: _Optional[str] = ..., drop_old_table: _Optional[bool] = ..., drop_name: _Optional[bool] = ..., lose_writes: _Optional[bool] = ...) -> None: ...

class FinalizeResponse(_message.Message):
    __slots__ = ("migration",)
    MIGRATION_FIELD_NUMBER: _ClassVar[int]
    migration: Migration
    def __init__(self, migration: _Optional[_Union[Migration, _Mapping]] = ...) -> None: ...

class AbortMigrationRequest(_message.Message):
    __slots__ = ("id", "etag")
    ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    id: str
    etag: str
    def __init__(self, id: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class AbortMigrationResponse(_message.Message):
    __slots__ = ("migration",)
    MIGRATION_FIELD_NUMBER: _ClassVar[int]
    migration: Migration
    def __init__(self, migration: _Optional[_Union[Migration, _Mapping]] = ...) -> None: ...
