-- Types, collations, text search, and tables that use them.

CREATE TYPE mood AS ENUM ('triste', 'content');
ALTER TYPE mood ADD VALUE 'œuf; ''quoted''' BEFORE 'content';
ALTER TYPE mood ADD VALUE 'après';
COMMENT ON TYPE mood IS 'with values added later';
CREATE TYPE point3 AS (x int, y numeric(8,3), "Z label" text);
CREATE TYPE nested AS (p point3, ps point3[], m mood);
CREATE DOMAIN positive AS int DEFAULT 1 CONSTRAINT "is positive" CHECK (VALUE > 0);
CREATE DOMAIN even_positive AS positive CHECK (VALUE % 2 = 0);
CREATE DOMAIN checked_point AS point3 CHECK (VALUE IS NULL OR (VALUE).x IS NOT NULL);
CREATE DOMAIN no_null_text AS text NOT NULL DEFAULT '' COLLATE "C";
COMMENT ON DOMAIN positive IS 'more than nothing';
COMMENT ON CONSTRAINT "is positive" ON DOMAIN positive IS 'checked';
CREATE TYPE textrange AS RANGE (subtype = text, collation = "C", multirange_type_name = textmultirange_own);
CREATE FUNCTION float_diff(a float8, b float8) RETURNS float8 LANGUAGE sql IMMUTABLE STRICT RETURN a - b;
CREATE TYPE floatrange AS RANGE (subtype = float8, subtype_diff = float_diff);
CREATE TYPE shell_only;

CREATE COLLATION libc_utf8 (provider = libc, locale = 'C.utf8');
COMMENT ON COLLATION libc_utf8 IS 'libc';
\if :icu
  CREATE COLLATION french (provider = icu, locale = 'fr-FR');
  CREATE COLLATION case_blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
  CREATE TABLE icu_key (name text COLLATE case_blind PRIMARY KEY, label text COLLATE french);
  INSERT INTO icu_key VALUES ('Zoé', 'côte'), ('élan', 'coté'), ('Élu', 'cote'), ('abc', 'côté');
  CREATE INDEX icu_label ON icu_key (label);
\endif
\if :pg17
  CREATE COLLATION builtin_utf8 (provider = builtin, locale = 'C.UTF-8');
  CREATE TABLE builtin_key (name text COLLATE builtin_utf8 PRIMARY KEY);
  INSERT INTO builtin_key VALUES ('a'), ('É'), ('é');
\endif

CREATE TABLE typed OF point3 (PRIMARY KEY (x), y WITH OPTIONS NOT NULL);
INSERT INTO typed VALUES (1, 1.5, 'one'), (2, -2.125, E'tab\there');

CREATE TABLE typed_values (
  id int PRIMARY KEY,
  m mood, ms mood[], p point3, ps point3[], n nested, dom positive, even even_positive, cp checked_point,
  cps checked_point[], t no_null_text, tr textrange, fr floatrange, ir int4range, mr int4multirange, tsr tstzrange,
  nr nummultirange, om textmultirange_own);
INSERT INTO typed_values VALUES
  (1, 'triste', '{triste,"œuf; ''quoted''"}', '(1,2.5,"a ""b"", c")', ARRAY['(1,1,x)', NULL, '(,,)']::point3[],
   ROW(ROW(1, 2, 'x'), ARRAY[ROW(3, 4, E'\n')::point3], 'après')::nested, 7, 8, '(5,,)', ARRAY['(1,,)']::checked_point[], 'x',
   '[a,é)', '(-infinity,1.5]', '[1,5)', '{[1,3),[7,9)}', '[2000-01-01 00:00+00,infinity)', '{(,1],[5.5,6)}', '{[a,b),[d,e]}'),
  (2, 'après', '{}', NULL, '{}', NULL, 2147483647, 2147483646, NULL, '{}', E'\\N', 'empty', '(,)', 'empty', '{}',
   '(-infinity,)', '{}', '{}'),
  (3, NULL, '[3:4]={triste,content}', '(,,)', NULL, '("(,,)","{}",)', NULL, NULL, NULL, NULL, '', NULL, NULL, '(,)', NULL, NULL, NULL, NULL);

-- Keys of every kind: reading rows in key order must cope with each of them.
CREATE TABLE key_enum (k mood PRIMARY KEY, v int);
INSERT INTO key_enum SELECT e, row_number() OVER () FROM unnest(enum_range(NULL::mood)) e;
CREATE TABLE key_float (k float8 PRIMARY KEY, v text);
INSERT INTO key_float VALUES ('NaN', 'nan'), ('-Infinity', '-inf'), ('Infinity', 'inf'), ('-0', 'minus zero'), (1e-310, 'denormal');
CREATE TABLE key_numeric (k numeric PRIMARY KEY);
INSERT INTO key_numeric VALUES ('NaN'), ('Infinity'), ('-Infinity'), (1.10), (1.2000), (-1e-20), (1e131071);
CREATE TABLE key_bytea (k bytea PRIMARY KEY);
INSERT INTO key_bytea VALUES (''), ('\x00'), ('\xff'), ('\x5c'), ('\x0a');
CREATE TABLE key_composite (k point3 PRIMARY KEY);
INSERT INTO key_composite VALUES ('(1,2,a)'), ('(1,2,)'), ('(,,)');
CREATE TABLE key_range (k int4range PRIMARY KEY);
INSERT INTO key_range VALUES ('empty'), ('(,)'), ('[1,2)');
CREATE TABLE key_array (k int[] PRIMARY KEY);
INSERT INTO key_array VALUES ('{}'), ('{1,2}'), ('{{1},{2}}'), ('{NULL}');
CREATE TABLE key_jsonb (k jsonb PRIMARY KEY);
INSERT INTO key_jsonb VALUES ('null'), ('{}'), ('[1, 2]'), ('"x"');
CREATE TABLE key_citext (k citext PRIMARY KEY, h hstore);
INSERT INTO key_citext VALUES ('Le Monde', '"a"=>"1", "b c"=>NULL'), ('le figaro', ''), ('LIBÉRATION', '"\""=>"\\"');
CREATE TABLE key_timestamptz (k timestamptz, d date, PRIMARY KEY (k, d));
INSERT INTO key_timestamptz VALUES ('-infinity', 'infinity'), ('infinity', '-infinity'), ('0044-03-15 12:00:00+00 BC', '4713-01-01 BC'),
  ('294276-12-31 23:59:59.999999+00', '5874897-12-31'), ('2026-10-25 02:30:00+02', '2026-10-25'), ('2026-10-25 02:30:00+01', '2026-10-25');
CREATE TABLE key_uuid (k uuid PRIMARY KEY DEFAULT gen_random_uuid(), v inet);
INSERT INTO key_uuid VALUES ('00000000-0000-0000-0000-000000000000', '::1/64'), ('ffffffff-ffff-ffff-ffff-ffffffffffff', '10.1.2.3');
CREATE TABLE key_bool (k bool PRIMARY KEY);
INSERT INTO key_bool VALUES (true), (false);
CREATE TABLE key_deferred (k int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, u int UNIQUE DEFERRABLE);
INSERT INTO key_deferred VALUES (1, 2), (2, 1);
CREATE TABLE key_included (b text, a text COLLATE "C", v int, PRIMARY KEY (a, b) INCLUDE (v));
INSERT INTO key_included VALUES ('b', 'a', 1), ('a', 'b', 2), ('', '', 3), ('É', 'e', 4);
CREATE TABLE key_only_unique (k int NOT NULL, v text);
CREATE UNIQUE INDEX key_only_unique_k ON key_only_unique (k);
ALTER TABLE key_only_unique REPLICA IDENTITY USING INDEX key_only_unique_k;
INSERT INTO key_only_unique VALUES (2, 'b'), (1, 'a');
CREATE TABLE key_unique_nulls (k int UNIQUE, k2 int, UNIQUE NULLS NOT DISTINCT (k2));
INSERT INTO key_unique_nulls VALUES (NULL, 1), (NULL, 2), (1, NULL);
CREATE TABLE key_unique_partial (k int NOT NULL, v bool);
CREATE UNIQUE INDEX key_unique_partial_k ON key_unique_partial (k) WHERE v;
INSERT INTO key_unique_partial VALUES (1, true), (1, false), (1, false);
CREATE TABLE key_unique_expression (k text NOT NULL);
CREATE UNIQUE INDEX key_unique_expression_k ON key_unique_expression (lower(k));
INSERT INTO key_unique_expression VALUES ('A'), ('b');

CREATE TEXT SEARCH DICTIONARY french_simple (TEMPLATE = pg_catalog.simple, STOPWORDS = french, ACCEPT = false);
CREATE TEXT SEARCH CONFIGURATION french_unaccented (COPY = pg_catalog.french);
ALTER TEXT SEARCH CONFIGURATION french_unaccented ALTER MAPPING FOR hword, word WITH unaccent, french_stem;
COMMENT ON TEXT SEARCH CONFIGURATION french_unaccented IS 'without accents';
CREATE TABLE articles (
  id int PRIMARY KEY, title text, body text,
  search tsvector GENERATED ALWAYS AS (to_tsvector('torture.french_unaccented', coalesce(title, '') || ' ' || coalesce(body, ''))) STORED,
  path ltree);
INSERT INTO articles (id, title, body, path) VALUES
  (1, 'L''été à Paris', 'Les marchés sont fermés', 'a.b.c'), (2, 'Œuvre', NULL, ''), (3, NULL, 'l''école', 'Top.Un');
CREATE INDEX articles_search ON articles USING gin (search);
CREATE INDEX articles_title_trgm ON articles USING gin (title gin_trgm_ops);
CREATE INDEX articles_body_trgm ON articles USING gist (body gist_trgm_ops (siglen = 32));
CREATE INDEX articles_path ON articles USING gist (path);
CREATE INDEX key_citext_h ON key_citext USING gin (h);
