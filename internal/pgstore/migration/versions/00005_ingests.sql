-- What clients sent us, where they gave it a key of their own; and the tables of
-- layers that were replaced, until nobody reads them any more.

-- +goose Up
CREATE TABLE rasterloom.ingest (
    -- Never used again for anything else.
    idempotency_key text COLLATE "C" PRIMARY KEY CHECK (octet_length(idempotency_key) BETWEEN 1 AND 255),
    -- What was asked for under it.
    spec            text NOT NULL,
    layer           text COLLATE "C" NOT NULL,
    generation      bigint NOT NULL CHECK (generation >= 1),
    cells           bigint NOT NULL CHECK (cells >= 0),
    tiles           bigint NOT NULL CHECK (tiles >= 0),
    bytes           bigint NOT NULL CHECK (bytes >= 0),
    create_time     timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE rasterloom.ingest IS 'Ingests by their idempotency keys, one row each.';

CREATE TABLE rasterloom.replaced_table (
    table_oid    oid PRIMARY KEY,
    table_schema text COLLATE "C" NOT NULL,
    table_name   text COLLATE "C" NOT NULL,
    replace_time timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE rasterloom.replaced_table IS 'Tables of tiles that are no layer''s any more and are to be dropped.';

-- +goose Down
DROP TABLE rasterloom.replaced_table;
DROP TABLE rasterloom.ingest;
