-- Which ordinary views read the table with oid $1 itself, and how are they
-- defined? By oid. search_path is pg_catalog, so every name is qualified.
SELECT DISTINCT v.oid, n.nspname, v.relname, coalesce(v.reloptions, '{}'), pg_get_viewdef(v.oid)
FROM pg_depend d
JOIN pg_rewrite r ON r.oid = d.objid AND r.rulename = '_RETURN'
JOIN pg_class v ON v.oid = r.ev_class AND v.relkind = 'v'
JOIN pg_namespace n ON n.oid = v.relnamespace
WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = $1
ORDER BY v.oid
