-- Which statements give table $2 (oid) the privileges of table $1, and no
-- others? In the order in which they must run. Owners are the same.
WITH target AS (
    SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name, c.relacl, c.relowner
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $2),
source AS (SELECT oid, relacl, relowner FROM pg_class WHERE oid = $1),
wanted AS (
    SELECT a.grantee, a.privilege_type, a.is_grantable, NULL::name AS col
    FROM source, aclexplode(coalesce(relacl, acldefault('r', relowner))) a
    UNION ALL
    SELECT a.grantee, a.privilege_type, a.is_grantable, attname
    FROM source JOIN pg_attribute ON attrelid = source.oid AND attnum > 0 AND NOT attisdropped, aclexplode(attacl) a),
present AS (
    SELECT DISTINCT a.grantee FROM target, aclexplode(relacl) a
    UNION SELECT DISTINCT a.grantee FROM target JOIN pg_attribute ON attrelid = target.oid, aclexplode(attacl) a),
columns AS (
    SELECT attrelid, jsonb_object_agg(attname, attacl::text) AS acl FROM pg_attribute
    WHERE attrelid IN ($1, $2) AND attnum > 0 AND NOT attisdropped AND attacl IS NOT NULL GROUP BY attrelid),
differs AS (
    SELECT FROM source, target
    WHERE source.relacl IS DISTINCT FROM target.relacl
       OR (SELECT acl FROM columns WHERE attrelid = $1) IS DISTINCT FROM (SELECT acl FROM columns WHERE attrelid = $2))
SELECT statement FROM (
    SELECT 1 AS turn, format('REVOKE ALL ON TABLE %s FROM %s CASCADE', target.name,
                             CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END) AS statement
    FROM target, present, differs
    UNION ALL
    SELECT 2, format('GRANT %s%s ON TABLE %s TO %s%s', privilege_type, ' (' || quote_ident(col) || ')', target.name,
                     CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
                     CASE WHEN is_grantable AND grantee <> target.relowner THEN ' WITH GRANT OPTION' END)
    FROM target, wanted, differs
) s ORDER BY turn
