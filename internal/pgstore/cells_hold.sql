-- Is one of these tables, or a part of one, stored in another file now than the
-- snapshot says?
--
-- $1 and $2 are schemas and names of equal length. pg_class is read at the
-- snapshot; pg_relation_filenode looks at the state now, and gives NULL for a
-- table that is gone. Call it with the tables locked. Uses the unique indexes
-- pg_namespace_nspname_index, pg_class_relname_nsp_index and pg_class_oid_index,
-- and pg_inherits_parent_index.
WITH RECURSIVE stored (oid, relfilenode) AS (
    SELECT c.oid, c.relfilenode
    FROM unnest($1::text[], $2::text[]) AS asked (schema_name, table_name)
    JOIN pg_catalog.pg_namespace n ON n.nspname = asked.schema_name::name AND n.nspname::text = asked.schema_name
    JOIN pg_catalog.pg_class c
        ON c.relnamespace = n.oid AND c.relname = asked.table_name::name AND c.relname::text = asked.table_name
    UNION ALL
    SELECT c.oid, c.relfilenode
    FROM stored
    JOIN pg_catalog.pg_inherits i ON i.inhparent = stored.oid
    JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
)
-- 0 is what has no file: a partitioned table, a view.
SELECT EXISTS (SELECT FROM stored WHERE relfilenode <> 0 AND relfilenode IS DISTINCT FROM pg_catalog.pg_relation_filenode(oid)::oid)
