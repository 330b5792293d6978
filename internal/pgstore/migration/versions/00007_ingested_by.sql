-- Who sent the cells of a layer: who may replace it, besides an operator.

-- +goose Up
-- NULL: nobody is known, because the layer was not ingested, or by a program of
-- the version before.
ALTER TABLE rasterloom.layer ADD COLUMN ingested_by text COLLATE "C";

-- +goose Down
ALTER TABLE rasterloom.layer DROP COLUMN ingested_by;
