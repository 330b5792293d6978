-- Of which tables were tiles made that layers are read from now, and where are these?
--
-- $1 schemas and $2 names of tables that are either, of equal length. The newest
-- migration first. The last column is the oid of the table that the tiles were made
-- of: once that is dropped none, since whatever has its name then is another one.
-- Until then the table with our trigger is it, whatever oid it had when it was noted.
SELECT m.table_schema, m.table_name, n.nspname::text, c.relname::text,
       CASE m.state WHEN 'FINALIZED' THEN 0::oid ELSE COALESCE((
           SELECT t.tgrelid FROM pg_trigger t JOIN pg_class p ON p.oid = t.tgrelid JOIN pg_namespace s ON s.oid = p.relnamespace
           WHERE s.nspname = m.table_schema AND p.relname = m.table_name AND t.tgname = 'rasterloom_row_' || m.id), m.old_table) END
FROM rasterloom.migration m
JOIN pg_class c ON c.oid = CASE WHEN m.tiles_name IS NULL THEN m.new_table
    ELSE to_regclass(format('%I.%I', m.tiles_schema, m.tiles_name))::oid END
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE m.level = 'TILED' AND m.state IN ('TILED_CUT_OVER', 'FINALIZED') AND n.nspname = 'rasterloom_tiles' AND (
    (m.table_schema, m.table_name) IN (SELECT * FROM unnest($1::text[], $2::text[])) OR
    (n.nspname::text, c.relname::text) IN (SELECT * FROM unnest($1::text[], $2::text[])))
ORDER BY m.id DESC
