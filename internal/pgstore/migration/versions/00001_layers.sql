-- The catalog of layers: what adoption found, and since when.
-- Everything of ours is in the schema rasterloom, which the runner creates
-- before the first version. Names are compared byte for byte (collation "C").

-- +goose Up
CREATE TABLE rasterloom.layer (
    name              text COLLATE "C" PRIMARY KEY CHECK (octet_length(name) BETWEEN 1 AND 255),
    -- Facts: a change of any of these is a new generation.
    band              text NOT NULL,
    format            text NOT NULL CHECK (format IN ('LEGACY', 'COORDINATE', 'WINDOWED', 'TILED', 'PARTIAL', 'INVALID')),
    -- The grid, all of it or, where the metadata give none, nothing.
    crs               text NOT NULL,
    grid_rows         bigint,
    grid_cols         bigint,
    origin_x          double precision,
    origin_y          double precision,
    step_x            double precision,
    step_y            double precision,
    -- Where the cells are. The oid and the file tell a table that was dropped
    -- and made again, or truncated, from the one adopted; 0 where there is none.
    table_schema      text COLLATE "C" NOT NULL,
    table_name        text COLLATE "C" NOT NULL,
    table_oid         oid NOT NULL,
    table_file        oid NOT NULL,
    declared_type     text NOT NULL,
    stored_type       text NOT NULL,
    nodata            double precision,
    registration      text NOT NULL CHECK (registration IN ('UNKNOWN', 'CENTER', 'UPPER_LEFT')),
    south_up          boolean NOT NULL,
    target_resolution double precision,
    has_indices       boolean NOT NULL,
    has_coordinates   boolean NOT NULL,
    has_key           boolean NOT NULL,
    -- Observations: kept up to date without a new generation.
    estimated_rows    bigint NOT NULL,
    problems          jsonb NOT NULL CHECK (jsonb_typeof(problems) = 'array'),
    -- Where the facts come from: the adopted catalog table and its row.
    source_schema     text COLLATE "C" NOT NULL,
    source_table      text COLLATE "C" NOT NULL,
    source_oid        oid NOT NULL,
    source_row        bigint,
    generation        bigint NOT NULL CHECK (generation >= 1),
    create_time       timestamptz NOT NULL DEFAULT now(),
    update_time       timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT layer_grid_whole CHECK (
        num_nulls(grid_rows, grid_cols, origin_x, origin_y, step_x, step_y) IN (0, 6))
);

COMMENT ON TABLE rasterloom.layer IS 'The raster layers that Rasterloom knows, one row a layer.';

-- +goose Down
DROP TABLE rasterloom.layer;
