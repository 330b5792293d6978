-- What does the table with oid $1 look like? One row, or none when it is gone:
-- its name, kind, owner, file, storage, and a text that changes whenever its
-- columns do. By the primary keys of the catalogs.
SELECT n.nspname, c.relname, c.relkind::text, c.relpersistence::text, pg_get_userbyid(c.relowner),
       coalesce(pg_relation_filenode(c.oid), 0), coalesce(t.spcname, ''), coalesce(am.amname, ''),
       c.reloptions || ARRAY(SELECT 'toast.' || o FROM pg_class toast, unnest(toast.reloptions) o WHERE toast.oid = c.reltoastrelid),
       c.relreplident::text, coalesce(obj_description(c.oid, 'pg_class'), ''), a.signature, a.columns, a.types,
       coalesce(pg_relation_size(c.oid), 0) / current_setting('block_size')::bigint
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_tablespace t ON t.oid = c.reltablespace
LEFT JOIN pg_am am ON am.oid = c.relam
CROSS JOIN LATERAL (
    SELECT md5(string_agg(format('%s %s %s %s %s', quote_ident(attname), atttypid, atttypmod, attnotnull,
                                 coalesce(pg_get_expr(adbin, adrelid), '')), E'\n' ORDER BY attnum)) AS signature,
           -- Columns that are written: generated ones are not.
           coalesce(array_agg(attname::text ORDER BY attnum) FILTER (WHERE attgenerated = ''), '{}') AS columns,
           coalesce(array_agg(atttypid::regtype::text ORDER BY attnum) FILTER (WHERE attgenerated = ''), '{}') AS types
    FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) a
WHERE c.oid = $1
