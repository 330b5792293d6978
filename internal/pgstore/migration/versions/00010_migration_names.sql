-- Where a migration's tiles are, by name: a database that was restored from a dump
-- has other oids, and the tables of tiles have names that nothing else says. All
-- other tables of migrations have names that are made of their id.

-- +goose Up
ALTER TABLE rasterloom.migration
    ADD COLUMN tiles_schema text COLLATE "C",
    ADD COLUMN tiles_name   text COLLATE "C";

-- The catalog of layers notes oid and name together, so it holds good after a restore
-- too; what it does not list is looked up by its oid. A program of the version before
-- leaves both NULL: then the oid says where the tiles are.
UPDATE rasterloom.migration m SET (tiles_schema, tiles_name) = (
    SELECT t.table_schema, t.table_name FROM (
        SELECT l.table_schema, l.table_name, 1 AS turn FROM rasterloom.layer l
        WHERE l.table_oid = m.new_table AND l.table_schema = 'rasterloom_tiles' AND l.format = 'TILED'
        UNION ALL
        SELECT 'rasterloom_tiles', c.relname::text, 2 FROM pg_catalog.pg_class c
        WHERE c.oid = m.new_table AND c.relnamespace = 'rasterloom_tiles'::regnamespace AND c.relkind = 'r') t
    ORDER BY t.turn LIMIT 1)
WHERE m.level = 'TILED' AND m.state NOT IN ('ROLLED_BACK', 'ABORTED');

-- +goose Down
ALTER TABLE rasterloom.migration DROP COLUMN tiles_schema, DROP COLUMN tiles_name;
