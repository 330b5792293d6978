-- What does the table with oid $1 have that one in its place must have too, besides
-- indexes? Kind, name, how it looks, and whether it is the table's own; what is not
-- hangs on it. Settings are told where they are not the usual ones. What is given to
-- the other table in the moment in which it takes the place is left out: views,
-- privileges, owner, the table's comment. So are the generated columns, which one of
-- the two has. Catalogs only.
SELECT kind, name, looks, own FROM (
    SELECT d.kind, d.name, '' AS looks, false AS own FROM (/* dependents */) d WHERE NOT d.carried AND d.kind <> 'generated column'
    UNION ALL
    SELECT 'check constraint', conname::text, pg_get_constraintdef(oid) || coalesce(', ' || obj_description(oid, 'pg_constraint'), ''), true
    FROM pg_constraint WHERE conrelid = $1 AND contype = 'c'
    UNION ALL
    SELECT s.kind, a.attname::text, s.looks, true
    FROM pg_attribute a LEFT JOIN pg_attrdef e ON e.adrelid = a.attrelid AND e.adnum = a.attnum
    JOIN pg_type t ON t.oid = a.atttypid,
    LATERAL (VALUES ('column', format('%s %s %s', format_type(a.atttypid, a.atttypmod), a.attcollation, a.attnotnull)),
                    ('default of column', pg_get_expr(e.adbin, e.adrelid)),
                    ('storage of column', nullif(a.attstorage, t.typstorage)::text),
                    ('compression of column', nullif(a.attcompression, '')::text),
                    ('statistics target of column', nullif(coalesce(a.attstattarget, -1), -1)::text),
                    ('options of column', a.attoptions::text),
                    ('comment on column', col_description(a.attrelid, a.attnum))) s (kind, looks)
    WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND s.looks IS NOT NULL
    UNION ALL
    SELECT 'storage parameter', split_part(o, '=', 1), o, true
    FROM pg_class c LEFT JOIN pg_class toast ON toast.oid = c.reltoastrelid,
         unnest(c.reloptions || ARRAY(SELECT 'toast.' || o FROM unnest(toast.reloptions) o)) o WHERE c.oid = $1
    UNION ALL
    SELECT s.kind, '', s.looks, true
    FROM pg_class c LEFT JOIN pg_am m ON m.oid = c.relam LEFT JOIN pg_tablespace t ON t.oid = c.reltablespace,
    LATERAL (VALUES ('persistence', c.relpersistence::text), ('access method', coalesce(m.amname, '')::text), ('tablespace', coalesce(t.spcname, '')::text),
                    ('replica identity', nullif(c.relreplident, 'i')::text)) s (kind, looks) -- or of an index
    WHERE c.oid = $1 AND s.looks IS NOT NULL) f
ORDER BY kind, name
