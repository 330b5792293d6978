-- Which columns do these tables have now, of which types, and how do their cells
-- lie on disk?
--
-- $1 and $2 are schemas and names of equal length. Names are compared byte for
-- byte with the system catalogs, so a name that would have been cut to 63 bytes
-- finds nothing. Order: by position in the arrays. Uses the unique indexes
-- pg_namespace_nspname_index, pg_class_relname_nsp_index,
-- pg_attribute_relid_attnum_index and pg_statistic_relid_att_inh_index, and
-- pg_index_indrelid_index.
--
-- keyed: whether a unique index begins and ends with (row_idx, col_idx), holds
-- for all rows of the table, and none of its rows are in child tables.
-- estimated_rows is -1, and correlation (of the order of the column with that of
-- the heap) 0, where the table was never analysed.
--
-- The statistics are asked for table by table: as a join, the planner takes the
-- view pg_stats for all tables at once, which costs 2 ms a layer and more the
-- larger the database is.
SELECT t.position, t.kind, a.attname::text, a.atttypid, a.attnotnull, t.estimated_rows, t.keyed, coalesce(t.correlation, 0)::float8
FROM (
    SELECT asked.position, c.oid, c.relkind::text AS kind, c.reltuples::float8 AS estimated_rows,
        NOT c.relhassubclass AND EXISTS (
            SELECT FROM pg_catalog.pg_index i
            JOIN pg_catalog.pg_attribute r ON r.attrelid = i.indrelid AND r.attnum = i.indkey[0] AND r.attname = 'row_idx'
            JOIN pg_catalog.pg_attribute k ON k.attrelid = i.indrelid AND k.attnum = i.indkey[1] AND k.attname = 'col_idx'
            WHERE i.indrelid = c.oid AND i.indnkeyatts = 2
                AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
        ) AS keyed,
        (
            SELECT s.correlation
            FROM pg_catalog.pg_stats s
            WHERE s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = 'row_idx' AND NOT s.inherited
        ) AS correlation
    FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS asked (schema_name, table_name, position)
    JOIN pg_catalog.pg_namespace n ON n.nspname = asked.schema_name::name AND n.nspname::text = asked.schema_name
    JOIN pg_catalog.pg_class c
        ON c.relnamespace = n.oid AND c.relname = asked.table_name::name AND c.relname::text = asked.table_name
    OFFSET 0
) AS t
JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE a.attname IN ('row_idx', 'col_idx', 'x_coord', 'y_coord', 'value',
    'tile_row', 'tile_col', 'cells', 'min', 'max', 'valid', 'data')
ORDER BY t.position, a.attnum
