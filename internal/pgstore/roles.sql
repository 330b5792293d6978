-- The roles that Rasterloom logs in by, for the database {{.Database}}.
--
-- Run this once as a superuser, in that database, before the schema service starts
-- there for the first time; running it again changes nothing. It gives no
-- passwords: \password sets them, or pg_hba.conf does without.

DO $roles$
BEGIN
    IF to_regrole({{literal .Schema}}) IS NULL THEN
        CREATE ROLE {{.Schema}} LOGIN;
    END IF;
    IF to_regrole({{literal .Merger}}) IS NULL THEN
        CREATE ROLE {{.Merger}} LOGIN;
    END IF;
END
$roles$;

-- What the schema service makes, it owns: the schemas rasterloom and
-- rasterloom_tiles, and the tables that a migration makes beside the old ones.
GRANT CONNECT, CREATE ON DATABASE {{.Database}} TO {{.Schema}};

-- The merger reads, and cannot but read.
GRANT CONNECT ON DATABASE {{.Database}} TO {{.Merger}};
REVOKE TEMPORARY ON DATABASE {{.Database}} FROM PUBLIC;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
ALTER ROLE {{.Merger}} SET default_transaction_read_only = on;
ALTER DEFAULT PRIVILEGES FOR ROLE {{.Schema}} GRANT USAGE ON SCHEMAS TO {{.Merger}};
ALTER DEFAULT PRIVILEGES FOR ROLE {{.Schema}} GRANT SELECT ON TABLES TO {{.Merger}};
{{range .Schemas}}
-- The tables that are there already, in {{.}}.
GRANT USAGE, CREATE ON SCHEMA {{.}} TO {{$.Schema}};
GRANT USAGE ON SCHEMA {{.}} TO {{$.Merger}};
GRANT SELECT ON ALL TABLES IN SCHEMA {{.}} TO {{$.Schema}}, {{$.Merger}};
{{end}}{{range .Owners}}
-- The tables of {{.}}: PostgreSQL lets only their owner migrate them, and those
-- that it makes from now on are to be read, too. The new table of a migration is
-- its as well, and waits in the schema rasterloom: that it will be, or is.
GRANT {{.}} TO {{$.Schema}};
ALTER DEFAULT PRIVILEGES FOR ROLE {{.}} GRANT SELECT ON TABLES TO {{$.Schema}}, {{$.Merger}};
ALTER DEFAULT PRIVILEGES FOR ROLE {{$.Schema}} GRANT USAGE, CREATE ON SCHEMAS TO {{.}};
DO $owner$
BEGIN
    IF to_regnamespace('rasterloom') IS NOT NULL THEN
        GRANT USAGE, CREATE ON SCHEMA rasterloom TO {{.}};
    END IF;
END
$owner$;
{{end}}{{if .Owners}}
-- A cut-over has to know of the transactions that are older than it, whosever they are.
GRANT pg_read_all_stats TO {{.Schema}};
{{end}}