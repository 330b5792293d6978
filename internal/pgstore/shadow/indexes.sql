-- Which indexes does the table with oid $1 have? By oid. The definition is what
-- follows the table's name. The key is the columns of which no two rows can ever
-- have the same values; of another index, or one of expressions or of some rows, none.
-- Then, whether none of the columns can be NULL, as a replica identity wants it.
-- Comments are its own and its constraint's. None of an index that is not valid.
SELECT ic.relname, i.indisunique, coalesce(con.contype::text, ''), coalesce(ts.spcname, ''), i.indisreplident,
       substr(pg_get_indexdef(i.indexrelid),
              length(format('CREATE %sINDEX %I ON %I.%I', CASE WHEN i.indisunique THEN 'UNIQUE ' END, ic.relname, n.nspname, c.relname)) + 1),
       ARRAY(SELECT a.attname::text
             FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS key (attnum, place)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = key.attnum
             WHERE key.place <= i.indnkeyatts AND i.indisunique AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
             ORDER BY key.place),
       NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[]) AND NOT a.attnotnull),
       coalesce(obj_description(i.indexrelid, 'pg_class'), ''), coalesce(obj_description(con.oid, 'pg_constraint'), '')
FROM pg_index i
JOIN pg_class ic ON ic.oid = i.indexrelid
JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_tablespace ts ON ts.oid = ic.reltablespace
LEFT JOIN pg_constraint con ON con.conindid = i.indexrelid AND con.conrelid = i.indrelid AND con.contype IN ('p', 'u', 'x')
WHERE i.indrelid = $1 AND i.indisvalid
ORDER BY i.indexrelid
