-- Layers that are stored as tiles: docs/tiles.md specifies their tables, which
-- are in a schema of their own.

-- +goose Up
CREATE SCHEMA IF NOT EXISTS rasterloom_tiles;
COMMENT ON SCHEMA rasterloom_tiles IS 'Tables of raster tiles, one a layer: rasterloom.layer says whose.';

-- How the tiles of the layer are encoded: the metadata of a Zarr v3 array. A
-- program of the version before knows no TILED layers, and so never writes one;
-- where it adopts a layer that was tiled, what is here is left over.
ALTER TABLE rasterloom.layer
    ADD COLUMN tiling json,
    ADD CONSTRAINT layer_tiling CHECK (format <> 'TILED' OR tiling IS NOT NULL);

-- +goose Down
ALTER TABLE rasterloom.layer DROP COLUMN tiling;
DROP SCHEMA rasterloom_tiles;
