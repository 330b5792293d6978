-- Migrations to tiles, and what each has to know of the table that they are made
-- of: how its cells are read, and how the layer was catalogued.

-- +goose Up
ALTER TABLE rasterloom.migration
    DROP CONSTRAINT migration_level_check,
    ADD CONSTRAINT migration_level_check CHECK (level IN ('STORED', 'TILED')),
    ADD COLUMN tiles jsonb,
    ADD CONSTRAINT migration_tiles CHECK ((level = 'TILED') = (tiles IS NOT NULL));

-- A version before knows no migrations to tiles. One that is not over keeps this
-- one from going down: it has to be ended first.
-- +goose Down
-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (SELECT FROM rasterloom.migration WHERE level = 'TILED' AND state NOT IN ('FINALIZED', 'ROLLED_BACK', 'ABORTED')) THEN
        RAISE EXCEPTION 'a migration to tiles is not over: finalize it, roll it back or abort it first';
    END IF;
END
$$;
-- +goose StatementEnd
DELETE FROM rasterloom.migration_lane WHERE migration IN (SELECT id FROM rasterloom.migration WHERE level = 'TILED');
DELETE FROM rasterloom.migration WHERE level = 'TILED';
ALTER TABLE rasterloom.migration
    DROP CONSTRAINT migration_tiles,
    DROP COLUMN tiles,
    DROP CONSTRAINT migration_level_check,
    ADD CONSTRAINT migration_level_check CHECK (level IN ('STORED'));
