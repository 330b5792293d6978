-- Which indexes does the table with oid $1 have? By oid. The definition is what
-- follows the table's name; comments are its own and its constraint's. None of an index that is not valid.
SELECT ic.relname, i.indisunique, coalesce(con.contype::text, ''), coalesce(ts.spcname, ''), i.indisreplident,
       substr(pg_get_indexdef(i.indexrelid),
              length(format('CREATE %sINDEX %I ON %I.%I', CASE WHEN i.indisunique THEN 'UNIQUE ' END, ic.relname, n.nspname, c.relname)) + 1),
       coalesce(obj_description(i.indexrelid, 'pg_class'), ''), coalesce(obj_description(con.oid, 'pg_constraint'), '')
FROM pg_index i
JOIN pg_class ic ON ic.oid = i.indexrelid
JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_tablespace ts ON ts.oid = ic.reltablespace
LEFT JOIN pg_constraint con ON con.conindid = i.indexrelid AND con.conrelid = i.indrelid AND con.contype IN ('p', 'u', 'x')
WHERE i.indrelid = $1 AND i.indisvalid
ORDER BY i.indexrelid
