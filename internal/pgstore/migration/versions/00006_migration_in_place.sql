-- Migrations within the table itself, and what each takes of the disk.

-- +goose Up
ALTER TABLE rasterloom.migration
    ADD COLUMN in_place   boolean NOT NULL DEFAULT false,
    -- What the plan said that it takes until it is finalized.
    ADD COLUMN disk_bytes bigint NOT NULL DEFAULT 0 CHECK (disk_bytes >= 0);

-- A version before would take one that is in place for one with a second table.
-- +goose Down
DELETE FROM rasterloom.migration_lane WHERE migration IN (SELECT id FROM rasterloom.migration WHERE in_place);
DELETE FROM rasterloom.migration WHERE in_place;
ALTER TABLE rasterloom.migration DROP COLUMN in_place, DROP COLUMN disk_bytes;
