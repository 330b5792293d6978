-- The last generation of each layer that was dropped: a layer that comes back
-- under its name goes on from there, so that no plan, ticket or cache made for
-- the one can take the other for it.

-- +goose Up
CREATE TABLE rasterloom.dropped_layer (
    name       text COLLATE "C" PRIMARY KEY,
    generation bigint NOT NULL CHECK (generation >= 1),
    drop_time  timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE rasterloom.dropped_layer IS 'Names of layers that were dropped, with their last generation.';

-- +goose Down
DROP TABLE rasterloom.dropped_layer;
