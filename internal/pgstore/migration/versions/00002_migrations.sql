-- Migrations of layers' tables: one row is all that is known of one. PostgreSQL's
-- DDL is transactional, so this row and the tables it speaks of cannot disagree:
-- every change of state is one transaction with what it does.

-- +goose Up
CREATE TABLE rasterloom.migration (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The request. A key is never used again for anything else.
    idempotency_key text COLLATE "C" NOT NULL UNIQUE CHECK (octet_length(idempotency_key) BETWEEN 1 AND 255),
    layer           text COLLATE "C" NOT NULL,
    level           text NOT NULL CHECK (level IN ('STORED')),
    rows_per_second bigint NOT NULL CHECK (rows_per_second >= 0),
    -- What it works on. Names as at the start; oids tell a table from another
    -- one of its name. old_table has the name until the cut-over.
    table_schema    text COLLATE "C" NOT NULL,
    table_name      text COLLATE "C" NOT NULL,
    old_table       oid NOT NULL,
    new_table       oid,
    -- Columns of the old table, and the file its rows are in: a change of the
    -- former fails the migration, one of the latter begins the copying again.
    signature       text NOT NULL,
    new_signature   text,
    old_file        oid NOT NULL,
    crs             text NOT NULL,
    grid_rows       bigint NOT NULL,
    grid_cols       bigint NOT NULL,
    origin_x        double precision NOT NULL,
    origin_y        double precision NOT NULL,
    step_x          double precision NOT NULL,
    step_y          double precision NOT NULL,
    south_up        boolean NOT NULL,
    -- How the layer was catalogued, to go back to.
    old_format       text NOT NULL,
    old_registration text NOT NULL,
    -- Names of indexes: [{old, new, constraint}], set when the indexes are made.
    indexes         jsonb NOT NULL DEFAULT '[]',
    state           text NOT NULL CHECK (state IN ('PLANNED', 'CAPTURING', 'BACKFILLING', 'INDEXED', 'SYNCED',
                                                   'VERIFIED', 'CUT_OVER', 'FINALIZED', 'ROLLED_BACK', 'ABORTED')),
    condition       text NOT NULL CHECK (condition IN ('RUNNING', 'PAUSED', 'FAILED')),
    failure         jsonb,
    verification    jsonb,
    revision        bigint NOT NULL DEFAULT 1,
    fence           bigint NOT NULL DEFAULT 1,
    lease_until     timestamptz,
    -- The transaction that made the new table complete: snapshots older than
    -- it would see a part of it.
    synced_xid      xid8,
    rows_total      bigint NOT NULL,
    create_time     timestamptz NOT NULL DEFAULT now(),
    state_time      timestamptz NOT NULL DEFAULT now(),
    update_time     timestamptz NOT NULL DEFAULT now()
);

-- One live migration of a table.
CREATE UNIQUE INDEX migration_live ON rasterloom.migration (table_schema, table_name)
    WHERE state NOT IN ('FINALIZED', 'ROLLED_BACK', 'ABORTED');

COMMENT ON TABLE rasterloom.migration IS 'Migrations of layers to other storage, one row each.';

-- The copying of one migration, cut into lanes that are copied at the same time:
-- half-open ranges of the old table's pages.
CREATE TABLE rasterloom.migration_lane (
    migration  bigint NOT NULL REFERENCES rasterloom.migration,
    lane       integer NOT NULL,
    start_block bigint NOT NULL,
    next_block bigint NOT NULL,
    stop_block bigint NOT NULL,
    rows       bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (migration, lane),
    CHECK (start_block <= next_block AND next_block <= stop_block)
);

COMMENT ON TABLE rasterloom.migration_lane IS 'How far the copying of a migration is, one row a lane.';

-- +goose Down
DROP TABLE rasterloom.migration_lane;
DROP TABLE rasterloom.migration;
