-- What hangs on the table with oid $1, and is it carried over? Kind, name, and
-- whether the migration carries it. By kind, then name. Catalogs only.
SELECT kind, name, carried FROM (
    SELECT 'index' AS kind, ic.relname::text AS name, i.indisvalid AND i.indimmediate AND NOT i.indisexclusion AS carried
    FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid WHERE i.indrelid = $1
    UNION ALL
    SELECT CASE v.relkind WHEN 'm' THEN 'materialized view' ELSE 'view' END, format('%I.%I', n.nspname, v.relname), v.relkind = 'v'
    FROM (SELECT DISTINCT r.ev_class FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid AND r.rulename = '_RETURN'
          WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = $1
            AND r.ev_class <> $1) e
    JOIN pg_class v ON v.oid = e.ev_class JOIN pg_namespace n ON n.oid = v.relnamespace
    UNION ALL
    SELECT 'grant', CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee) END || ': ' || string_agg(a.privilege_type, ', '), true
    FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = $1 AND a.grantee <> c.relowner GROUP BY a.grantee
    UNION ALL
    SELECT 'foreign key', format('%I on %s', conname, conrelid::regclass), false
    FROM pg_constraint WHERE contype = 'f' AND (conrelid = $1 OR confrelid = $1)
    UNION ALL
    SELECT 'trigger', tgname::text, false FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid
    WHERE tgrelid = $1 AND NOT tgisinternal
      AND NOT (f.pronamespace = 'rasterloom'::regnamespace AND tgname = f.proname AND tgname ~ '^rasterloom_row_[0-9]+$')
    UNION ALL
    SELECT 'rule', rulename::text, false FROM pg_rewrite WHERE ev_class = $1
    UNION ALL
    -- It goes on writing to the table that it was made for, whatever the view reads.
    SELECT DISTINCT 'rule', format('%I on %s', r.rulename, r.ev_class::regclass), false FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
    WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = $1
      AND r.rulename <> '_RETURN' AND r.ev_class <> $1
    UNION ALL
    SELECT 'row-level security', relname::text, false FROM pg_class WHERE oid = $1 AND (relrowsecurity OR relforcerowsecurity)
    UNION ALL
    SELECT 'policy', polname::text, false FROM pg_policy WHERE polrelid = $1
    UNION ALL
    SELECT DISTINCT 'policy', format('%I on %s', p.polname, p.polrelid::regclass), false FROM pg_depend d JOIN pg_policy p ON p.oid = d.objid
    WHERE d.classid = 'pg_policy'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = $1 AND p.polrelid <> $1
    UNION ALL
    SELECT 'publication', pubname::text, false FROM pg_publication p
    WHERE p.puballtables OR EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = $1)
       OR EXISTS (SELECT FROM pg_class c WHERE c.oid = $1 AND format('%I.%I', c.relnamespace::regnamespace, c.relname)
                  IN (SELECT format('%I.%I', t.schemaname, t.tablename) FROM pg_publication_tables t WHERE t.pubname = p.pubname))
    UNION ALL
    -- What comes by it is written to the table with the oid, whatever its name.
    SELECT 'subscription', s.subname::text, false FROM pg_subscription_rel r JOIN pg_subscription s ON s.oid = r.srsubid WHERE r.srrelid = $1
    UNION ALL
    SELECT 'inheritance', format('%s', CASE WHEN inhrelid = $1 THEN inhparent ELSE inhrelid END::regclass), false
    FROM pg_inherits WHERE $1 IN (inhrelid, inhparent)
    UNION ALL
    SELECT 'extended statistics', stxname::text, false FROM pg_statistic_ext WHERE stxrelid = $1
    UNION ALL
    SELECT 'sequence', objid::regclass::text, false FROM pg_depend
    WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass AND refobjid = $1 AND deptype IN ('a', 'i')
      AND (SELECT relkind FROM pg_class WHERE oid = objid) = 'S'
    UNION ALL
    SELECT 'generated column', attname::text, false FROM pg_attribute WHERE attrelid = $1 AND attgenerated <> '' AND NOT attisdropped
    UNION ALL
    SELECT DISTINCT 'function', objid::regprocedure::text, false FROM pg_depend
    WHERE classid = 'pg_proc'::regclass AND (refclassid = 'pg_class'::regclass AND refobjid = $1
       OR refclassid = 'pg_type'::regclass AND refobjid IN (SELECT unnest(ARRAY[t.oid, t.typarray]) FROM pg_class c JOIN pg_type t ON t.oid = c.reltype WHERE c.oid = $1))
    UNION ALL
    SELECT 'row type', format('%s, column %s', a.attrelid::regclass, a.attname), false
    FROM (SELECT t.* FROM pg_class c JOIN pg_type t ON t.oid = c.reltype WHERE c.oid = $1) t JOIN pg_depend d ON d.refclassid = 'pg_type'::regclass AND d.refobjid IN (t.oid, t.typarray) AND d.classid = 'pg_class'::regclass
    JOIN pg_attribute a ON a.attrelid = d.objid AND a.attnum = d.objsubid AND NOT a.attisdropped
    UNION ALL
    -- Whatever else there may be, on the row's type: domains, casts, operators, views that read it alone.
    SELECT DISTINCT 'row type', pg_describe_object(d.classid, d.objid, d.objsubid), false
    FROM (SELECT t.* FROM pg_class c JOIN pg_type t ON t.oid = c.reltype WHERE c.oid = $1) t JOIN pg_depend d ON d.refclassid = 'pg_type'::regclass AND d.refobjid IN (t.oid, t.typarray)
    WHERE d.classid NOT IN ('pg_class'::regclass, 'pg_proc'::regclass) AND (d.classid, d.objid) <> ('pg_type'::regclass, t.typarray)
      AND NOT EXISTS (SELECT FROM pg_depend o WHERE (o.classid, o.objid) = (d.classid, d.objid) AND o.refclassid = 'pg_class'::regclass AND o.refobjid = $1)
    UNION ALL
    SELECT 'security label', provider || ' ' || label, false FROM pg_seclabel WHERE classoid = 'pg_class'::regclass AND objoid = $1
    UNION ALL
    SELECT 'extension', extname::text, false FROM pg_depend JOIN pg_extension e ON e.oid = refobjid
    WHERE classid = 'pg_class'::regclass AND objid = $1 AND refclassid = 'pg_extension'::regclass
) d ORDER BY kind, name
