-- How many transactions of this database still read from before transaction $1,
-- for how many seconds has the oldest been open, and which sessions are the five oldest?
-- Sessions of other roles are seen with the rights of pg_read_all_stats only.
SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(xact_start)), 0)::float8,
       coalesce(array_to_string((array_agg(pid ORDER BY xact_start))[1:5], ' '), '')
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
  AND backend_xmin IS NOT NULL AND age(backend_xmin) >= age($1::text::xid8::xid)
