-- What are these tables: kind, columns, keys, size, and may we read them?
--
-- $1 schemas and $2 names, of equal length, compared byte for byte, so that a
-- name which would be cut to 63 bytes finds nothing. One row for each name found,
-- by position. All from the system catalogs by their own indexes, so the cost of
-- a table does not depend on its size: some 50 microseconds.
SELECT
    wanted.position,
    c.oid,
    COALESCE(pg_catalog.pg_relation_filenode(c.oid), 0)::oid,
    c.relkind::text,
    c.relpersistence = 't',
    c.relrowsecurity,
    pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT'),
    c.reltuples::bigint,
    COALESCE(pg_catalog.pg_relation_size(c.oid), 0),
    columns.names, columns.types, columns.required,
    COALESCE(keys.on_indices, '{}'), COALESCE(keys.on_coordinates, '{}'), COALESCE(keys.on_tiles, false),
    -- A table of tiles says in its comment how it is read.
    CASE WHEN columns.names @> '{tile_row,tile_col}' THEN COALESCE(pg_catalog.obj_description(c.oid, 'pg_class'), '') ELSE '' END
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS wanted (schema_name, table_name, position)
JOIN pg_catalog.pg_namespace n ON n.nspname = wanted.schema_name::name AND n.nspname::text = wanted.schema_name
JOIN pg_catalog.pg_class c
    ON c.relnamespace = n.oid AND c.relname = wanted.table_name::name AND c.relname::text = wanted.table_name
CROSS JOIN LATERAL (
    SELECT
        COALESCE(array_agg(a.attname::text ORDER BY a.attnum), '{}') AS names,
        COALESCE(array_agg(pg_catalog.format_type(a.atttypid, NULL) ORDER BY a.attnum), '{}') AS types,
        COALESCE(array_agg(a.attnotnull ORDER BY a.attnum), '{}') AS required
    FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      AND a.attname IN ('row_idx', 'col_idx', 'x_coord', 'y_coord', 'value',
        'tile_row', 'tile_col', 'cells', 'min', 'max', 'valid', 'data')
) AS columns
-- A key is a unique index over exactly the two columns, valid, of the whole
-- table, and not of expressions. An index does not reach into child tables, but for
-- partitions.
CROSS JOIN LATERAL (
    SELECT
        (array_agg(k.columns) FILTER (WHERE k.columns @> '{row_idx,col_idx}'))[1:1][1:2] AS on_indices,
        (array_agg(k.columns) FILTER (WHERE k.columns @> '{x_coord,y_coord}'))[1:1][1:2] AS on_coordinates,
        bool_or(k.columns @> '{tile_row,tile_col}') AS on_tiles
    FROM (
        SELECT (
            SELECT array_agg(a.attname::text ORDER BY key.place)
            FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS key (attnum, place)
            JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = key.attnum
            WHERE key.place <= i.indnkeyatts
        ) AS columns
        FROM pg_catalog.pg_index i
        WHERE i.indrelid = c.oid AND (c.relkind = 'p' OR NOT c.relhassubclass) AND i.indisunique AND i.indisvalid
          AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indnkeyatts = 2
        OFFSET 0 -- else the planner writes the inner query out three times
    ) AS k
) AS keys
ORDER BY wanted.position
