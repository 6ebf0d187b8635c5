-- The torture database: one of everything that PostgreSQL can hold and that a backup can lose.
--
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -f torture.sql
--
-- Loads on PostgreSQL 15 and later, as superuser, into an empty UTF-8 database. Everything is deterministic.
-- Set `-v portable=true` to leave out what a server built without ICU, libxml and LZ4 could not restore.

\set ON_ERROR_STOP on
\set QUIET on
SET client_min_messages = error;
SET check_function_bodies = true;
SET timezone = 'UTC';
SET datestyle = 'ISO, DMY';
SET intervalstyle = 'postgres';

\if :{?portable}
\else
  \set portable false
\endif
SELECT current_setting('server_version_num')::int >= 170000 AS pg17,
       current_setting('server_version_num')::int >= 180000 AS pg18,
       NOT :'portable'::bool AND (SELECT CASE WHEN current_setting('server_version_num')::int < 160000 THEN setting LIKE '%--with-icu%'
         ELSE setting NOT LIKE '%--without-icu%' END FROM pg_config() WHERE name = 'CONFIGURE') AS icu,
       NOT :'portable'::bool AND (SELECT setting LIKE '%--with-libxml%' FROM pg_config() WHERE name = 'CONFIGURE') AS xml,
       NOT :'portable'::bool AND (SELECT setting LIKE '%--with-lz4%' FROM pg_config() WHERE name = 'CONFIGURE') AS lz4
\gset

-- ---------------------------------------------------------------- roles
-- Roles belong to the cluster: another torture database may have made them before.
DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['torture_owner', 'torture_reader', 'torture_writer', 'Rédaction du "Soir"', 'o''neil',
                              'with space', 'back\slash', 'UPPER', 'select', 'grp-dash.dot', 'torture_login'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
      EXECUTE format('CREATE ROLE %I', name);
    END IF;
  END LOOP;
END $$;
ALTER ROLE torture_login LOGIN CREATEDB CONNECTION LIMIT 3 VALID UNTIL '2038-01-19 03:14:07+00'
  PASSWORD 'SCRAM-SHA-256$4096:dG9ydHVyZXNhbHQhISEhIQ==$Us1GGmg0mNuLhkxoR8HbhVwHkyCGVjhrVdzfDZkwzAA=:ltSmUvDXdDCPqyaEfOz6sYgYKXXvyAZ2QkKBbi9gVBA=';
ALTER ROLE torture_login SET statement_timeout = '17s';
ALTER ROLE torture_login SET search_path = 'Sales & "Co"', public;
ALTER ROLE torture_writer NOINHERIT BYPASSRLS;
COMMENT ON ROLE torture_login IS 'Se connecte; l''été aussi';
GRANT torture_reader TO torture_login WITH ADMIN OPTION;
GRANT torture_writer TO "Rédaction du ""Soir""";

-- ---------------------------------------------------------------- the database itself
ALTER DATABASE :"DBNAME" SET search_path = "$user", public, 'Sales & "Co"';
ALTER DATABASE :"DBNAME" SET default_statistics_target = 42;
ALTER DATABASE :"DBNAME" SET bytea_output = 'escape';
ALTER DATABASE :"DBNAME" SET intervalstyle = 'iso_8601';
ALTER DATABASE :"DBNAME" SET datestyle = 'German, DMY';
ALTER DATABASE :"DBNAME" SET timezone = 'Europe/Paris';
ALTER DATABASE :"DBNAME" SET extra_float_digits = -10;
ALTER ROLE torture_login IN DATABASE :"DBNAME" SET work_mem = '5MB';
ALTER ROLE "o'neil" IN DATABASE :"DBNAME" SET application_name = 'it''s me; DROP TABLE x --';
ALTER DATABASE :"DBNAME" CONNECTION LIMIT 77;
REVOKE ALL ON DATABASE :"DBNAME" FROM PUBLIC;
GRANT CONNECT, TEMPORARY ON DATABASE :"DBNAME" TO torture_login;
GRANT CREATE ON DATABASE :"DBNAME" TO "Rédaction du ""Soir""" WITH GRANT OPTION;
COMMENT ON DATABASE :"DBNAME" IS E'La base de torture: l''apostrophe, "guillemets",\nsaut de ligne, \\antislash, œ, 🗞️';

-- ---------------------------------------------------------------- schemas and extensions
CREATE SCHEMA torture AUTHORIZATION torture_owner;
CREATE SCHEMA "Sales & ""Co""";
CREATE SCHEMA torture_login AUTHORIZATION torture_login;
CREATE SCHEMA "select" AUTHORIZATION "select";
CREATE SCHEMA ext;
GRANT USAGE ON SCHEMA ext TO PUBLIC;
CREATE SCHEMA empty_schema;
COMMENT ON SCHEMA public IS 'not the standard comment';
COMMENT ON SCHEMA "Sales & ""Co""" IS 'awkward';
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO torture_reader, "with space";
GRANT USAGE, CREATE ON SCHEMA "Sales & ""Co""" TO "o'neil" WITH GRANT OPTION;

CREATE EXTENSION citext SCHEMA ext;
CREATE EXTENSION hstore SCHEMA ext;
CREATE EXTENSION pg_trgm SCHEMA ext;
CREATE EXTENSION btree_gist SCHEMA ext;
CREATE EXTENSION ltree SCHEMA ext;
CREATE EXTENSION unaccent SCHEMA ext;
CREATE EXTENSION postgres_fdw SCHEMA ext;
COMMENT ON EXTENSION citext IS 'own comment on an extension';

SET search_path = torture, ext, public;

-- Default privileges come early, so that objects made below carry them.
ALTER DEFAULT PRIVILEGES FOR ROLE torture_owner IN SCHEMA torture GRANT SELECT ON TABLES TO torture_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE torture_owner GRANT USAGE ON SEQUENCES TO "with space";
ALTER DEFAULT PRIVILEGES FOR ROLE torture_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE torture_login GRANT ALL ON TYPES TO "back\slash";
ALTER DEFAULT PRIVILEGES FOR ROLE "UPPER" GRANT USAGE ON SCHEMAS TO "grp-dash.dot";

\ir torture/types.sql
\ir torture/values.sql
\ir torture/names.sql
\ir torture/tables.sql
\ir torture/partitions.sql
\ir torture/relations.sql
\ir torture/code.sql
\ir torture/large_objects.sql
\ir torture/rights.sql
