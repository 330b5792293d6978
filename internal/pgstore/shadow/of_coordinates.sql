-- What hangs on the columns x_coord and y_coord of the table with oid $1 and would go
-- with them, or keep them? Kind and name, by both; the trigger named $2 is ours.
SELECT DISTINCT kind, name FROM (
    SELECT CASE WHEN v.relkind = 'm' THEN 'materialized view' WHEN r.rulename <> '_RETURN' THEN 'rule' WHEN r.oid IS NOT NULL THEN 'view'
                WHEN i.relkind = 'i' THEN 'index' WHEN con.oid IS NOT NULL THEN 'check constraint' ELSE 'dependent' END AS kind,
           CASE WHEN r.rulename <> '_RETURN' THEN format('%I on %s', r.rulename, v.oid::regclass)
                WHEN r.oid IS NOT NULL THEN format('%I.%I', v.relnamespace::regnamespace, v.relname)
                ELSE coalesce(i.relname::text, con.conname::text, pg_describe_object(d.classid, d.objid, d.objsubid)) END AS name
    FROM pg_attribute a
    JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum
    LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid LEFT JOIN pg_class v ON v.oid = r.ev_class
    LEFT JOIN pg_class i ON d.classid = 'pg_class'::regclass AND i.oid = d.objid AND i.relkind = 'i'
    LEFT JOIN pg_constraint con ON d.classid = 'pg_constraint'::regclass AND con.oid = d.objid AND con.contype = 'c'
    WHERE a.attrelid = $1 AND a.attname IN ('x_coord', 'y_coord')
      AND d.classid <> 'pg_attrdef'::regclass -- their formulas
      AND NOT EXISTS (SELECT FROM pg_trigger t WHERE d.classid = 'pg_trigger'::regclass AND t.oid = d.objid AND t.tgname = $2)
    UNION ALL
    SELECT 'privilege on column', format('%s (%s for %s)', a.attname, p.privilege_type, CASE p.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(p.grantee) END)
    FROM pg_attribute a, aclexplode(a.attacl) p WHERE a.attrelid = $1 AND a.attname IN ('x_coord', 'y_coord')) h
ORDER BY kind, name
