-- What holds in one context only: under a search path, in a time zone, once other tables have their rows. `pg_restore` cannot make
-- all of it, so it is loaded apart from the rest.

\set QUIET on
SET torture.ddl_allowed = yes;

SET search_path = torture, ext, public;

-- The grammar has no place for the schema of these operators. Under an empty path they are those of `text`, or none.
CREATE TABLE old_mails (id int PRIMARY KEY, m citext, path ltree);
CREATE TABLE new_mails (id int PRIMARY KEY, m citext, path ltree);
INSERT INTO old_mails VALUES (1, 'Ann@x.fr', 'a.b'), (2, 'bob@x.fr', 'a'), (3, NULL, NULL);
INSERT INTO new_mails VALUES (1, 'ann@x.fr', 'a.b'), (2, 'zoe@x.fr', 'c');
CREATE VIEW both_mails AS SELECT m, o.id AS old, n.id AS new FROM old_mails o JOIN new_mails n USING (m);
CREATE VIEW natural_paths AS SELECT path FROM (SELECT path FROM old_mails) o NATURAL FULL JOIN (SELECT path FROM new_mails) n;
CREATE VIEW over_both AS SELECT CASE m WHEN 'ANN@X.FR' THEN 'Ann' ELSE 'another' END AS name, NULLIF(m, 'BOB@X.FR') AS other FROM both_mails;
CREATE MATERIALIZED VIEW kept_mails AS SELECT * FROM over_both WITH DATA;
CREATE UNIQUE INDEX kept_mails_name ON kept_mails (name);
CREATE VIEW over_kept AS SELECT k.name FROM kept_mails k WHERE k.name IS DISTINCT FROM 'Ann'::citext;
CREATE DOMAIN not_ann AS citext DEFAULT lower('X') CHECK (VALUE IS DISTINCT FROM 'ANN@X.FR');
CREATE TABLE moves (id int PRIMARY KEY, a citext, b not_ann, same boolean GENERATED ALWAYS AS (a IS NOT DISTINCT FROM b) STORED,
  CONSTRAINT not_x CHECK (a IS DISTINCT FROM 'x'));
INSERT INTO moves VALUES (1, 'Bob@x.fr', 'bob@x.fr'), (2, NULL, NULL), (3, 'c', 'd');
CREATE INDEX moves_not_bob ON moves (a) WHERE a IS DISTINCT FROM 'BOB@X.FR';
CREATE STATISTICS moves_pairs ON (NULLIF(a, b)), id FROM moves;
ALTER TABLE moves ENABLE ROW LEVEL SECURITY;
CREATE POLICY not_ours ON moves FOR SELECT TO torture_reader USING (a IS DISTINCT FROM 'OURS');
CREATE RULE no_same AS ON DELETE TO moves WHERE old.a IS NOT DISTINCT FROM old.b DO INSTEAD NOTHING;
CREATE FUNCTION moved() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER moved AFTER UPDATE ON old_mails FOR EACH ROW WHEN (old.path IS DISTINCT FROM new.path) EXECUTE FUNCTION moved();
CREATE VIEW on_true AS SELECT o.id FROM old_mails o LEFT JOIN LATERAL (SELECT 1) l ON true;

-- Sessions of the database are in Paris, those of its owner in Tokyo.
SET timezone = 'Europe/Paris';
CREATE TABLE logins (id int PRIMARY KEY, at timestamptz, day date, CONSTRAINT own_day CHECK (day = at::date));
INSERT INTO logins VALUES (1, '2026-07-01 00:30+02', '2026-07-01'), (2, '2026-01-01 00:30+01', '2026-01-01');
ALTER ROLE torture_login SET timezone = 'Asia/Tokyo';
SET timezone = 'Asia/Tokyo';
CREATE TABLE torture_login.logins (id int PRIMARY KEY, at timestamptz, day date, CONSTRAINT own_day CHECK (day = at::date));
INSERT INTO torture_login.logins VALUES (1, '2026-07-01 00:30+09', '2026-07-01');
ALTER TABLE torture_login.logins OWNER TO torture_login;
SET timezone = 'UTC';

-- Checks that look at other tables, in the wrong order of names.
CREATE TABLE zz_plans (id int PRIMARY KEY);
CREATE FUNCTION has_plan(int) RETURNS boolean LANGUAGE plpgsql STABLE AS 'BEGIN RETURN EXISTS (SELECT FROM torture.zz_plans WHERE id = $1); END';
INSERT INTO zz_plans SELECT generate_series(1, 50);
CREATE TABLE aa_contracts (id int PRIMARY KEY, plan int CONSTRAINT plan_is_there CHECK (has_plan(plan)));
INSERT INTO aa_contracts SELECT g, g FROM generate_series(1, 50) g;

-- Hashes of enumerations behind other types.
CREATE DOMAIN known_mood AS mood;
CREATE TABLE by_domain (m known_mood, id int) PARTITION BY HASH (m);
CREATE TABLE by_domain_0 PARTITION OF by_domain FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE by_domain_1 PARTITION OF by_domain FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO by_domain SELECT e, g FROM unnest(enum_range(NULL::mood)) e, generate_series(1, 5) g;
CREATE TABLE by_array (m mood[], id int) PARTITION BY HASH (m);
CREATE TABLE by_array_0 PARTITION OF by_array FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE by_array_1 PARTITION OF by_array FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO by_array SELECT ARRAY[e, 'triste'], g FROM unnest(enum_range(NULL::mood)) e, generate_series(1, 5) g;

-- An operator that another one names as its negator, and that nobody made.
CREATE FUNCTION never(int, int) RETURNS boolean LANGUAGE sql IMMUTABLE RETURN false;
CREATE OPERATOR <<>> (LEFTARG = int, RIGHTARG = int, FUNCTION = never, NEGATOR = >><<);

-- An owner for whom nobody can act.
CREATE TABLE of_database_owner (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED);
ALTER TABLE of_database_owner OWNER TO pg_database_owner;
INSERT INTO of_database_owner VALUES (1), (2);
