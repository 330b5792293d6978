-- Which layers came from this catalog table?
--
-- $1 schema and $2 name, or $3 oid: a table that was renamed, or dropped and
-- restored, is still the same catalog. By name.
SELECT name FROM rasterloom.layer
WHERE (source_schema = $1 AND source_table = $2) OR source_oid = $3
ORDER BY name
