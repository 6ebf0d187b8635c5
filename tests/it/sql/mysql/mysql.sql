-- What only MySQL has. Loaded last.

SET NAMES utf8mb4;
SET time_zone = '+00:00';
SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION';

CREATE TABLE vectors (id int PRIMARY KEY, v vector(3), big vector(16383));
INSERT INTO vectors VALUES (1, TO_VECTOR('[1, -2.5, 1e-30]'), NULL), (2, TO_VECTOR('[0, 0, 3.4028234e38]'), NULL), (3, NULL, NULL);
CREATE TABLE functional (
  id int PRIMARY KEY, j json, name varchar(50), KEY upper_name ((UPPER(name))), KEY many ((CAST(j -> '$.tags' AS UNSIGNED ARRAY))), KEY unseen (name) INVISIBLE
);
INSERT INTO functional VALUES (1, '{"tags": [1, 2, 3]}', 'Été'), (2, NULL, NULL), (3, '{"tags": []}', '');
CREATE TABLE defaults (
  id int PRIMARY KEY, u binary(16) DEFAULT (UUID_TO_BIN('123e4567-e89b-12d3-a456-426655440000')), t text DEFAULT ('it''s'), j json DEFAULT (JSON_ARRAY(1, 'é')),
  off int, CONSTRAINT unenforced CHECK (off > 100) NOT ENFORCED
);
INSERT INTO defaults (id, off) VALUES (1, 1);
-- No column that a SELECT * would show is its key.
SET sql_generate_invisible_primary_key = ON;
CREATE TABLE hidden_key (a int, t text);
SET sql_generate_invisible_primary_key = OFF;
INSERT INTO hidden_key (my_row_id, a, t) VALUES (3, 1, 'x'), (9, NULL, NULL);
CREATE TABLE located (id int PRIMARY KEY, p point NOT NULL SRID 4326, g geometry NOT NULL SRID 0, SPATIAL KEY (p), SPATIAL KEY (g));
INSERT INTO located VALUES (1, ST_GeomFromText('POINT(48.85 2.35)', 4326), ST_GeomFromText('LINESTRING(0 0, 1 1)'));
CREATE TABLE numbers_in_json (id int PRIMARY KEY, j json);
INSERT INTO numbers_in_json VALUES (1, '[1.0, 1e100, -0.0, 18446744073709551615]');
CREATE TABLE collated (a varchar(20) COLLATE utf8mb4_0900_as_cs PRIMARY KEY, b varchar(20) COLLATE utf8mb4_ja_0900_as_cs_ks);
INSERT INTO collated VALUES ('a', 'か'), ('A', 'ガ'), ('á', ''), ('a ', NULL);
CREATE TABLE attributes (id int PRIMARY KEY) SECONDARY_ENGINE_ATTRIBUTE = '{"a": "it''s"}';
ANALYZE TABLE integers UPDATE HISTOGRAM ON i WITH 4 BUCKETS;

CREATE ROLE IF NOT EXISTS torture_readers;
CREATE USER IF NOT EXISTS `torture o'neil`@`%.example.org` IDENTIFIED BY 'secret' REQUIRE SSL WITH MAX_USER_CONNECTIONS 7 PASSWORD EXPIRE NEVER ACCOUNT LOCK;
CREATE USER IF NOT EXISTS torture_plain@localhost IDENTIFIED BY '' COMMENT 'it''s plain';
GRANT torture_readers TO torture_plain@localhost WITH ADMIN OPTION;
SET DEFAULT ROLE torture_readers TO torture_plain@localhost;
