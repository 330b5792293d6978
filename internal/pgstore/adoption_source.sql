-- What is the relation of this name, and which columns has it, of which types?
--
-- $1 schema, $2 name, compared byte for byte with the system catalogs. One row
-- for each column, in the table's order; none when there is no such relation.
-- Uses pg_namespace_nspname_index, pg_class_relname_nsp_index and
-- pg_attribute_relid_attnum_index.
SELECT c.oid, c.relkind::text, a.attname::text, a.atttypid
FROM pg_catalog.pg_namespace n
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname::text = $1 AND c.relname::text = $2
ORDER BY a.attnum
