-- What only MariaDB has. Loaded last.

SET NAMES utf8mb4;
SET time_zone = '+00:00';
SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION';

CREATE TABLE addresses (id uuid PRIMARY KEY, six inet6, four inet4);
INSERT INTO addresses VALUES
  ('00000000-0000-0000-0000-000000000000', '::', '0.0.0.0'), ('ffffffff-ffff-ffff-ffff-ffffffffffff', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', '255.255.255.255'),
  ('123e4567-e89b-12d3-a456-426655440000', '::ffff:192.0.2.1', '192.0.2.1'), ('123e4567-e89b-12d3-a456-426655440001', NULL, NULL);
CREATE TABLE compressed (id int PRIMARY KEY, t text COMPRESSED, v varchar(500) COMPRESSED DEFAULT 'x', KEY none (id) IGNORED);
INSERT INTO compressed VALUES (1, REPEAT('ab', 5000), ''), (2, NULL, NULL);
CREATE TABLE defaults (id int PRIMARY KEY DEFAULT (1 + 2), u uuid DEFAULT uuid(), t text DEFAULT ('it''s' ), d datetime(6) DEFAULT (NOW(6) + INTERVAL 1 DAY), g int AS (id + 1) PERSISTENT INVISIBLE);
INSERT INTO defaults VALUES (1, '123e4567-e89b-12d3-a456-426655440000', 't', '2024-01-01 00:00:00.5');
CREATE TABLE long_unique (id int PRIMARY KEY, b blob UNIQUE, t text, UNIQUE KEY (t) USING HASH);
INSERT INTO long_unique VALUES (1, 0x00, REPEAT('x', 5000)), (2, NULL, NULL);
CREATE TABLE periods (id int, a date, b date, PERIOD FOR valid (a, b), UNIQUE KEY (id, valid WITHOUT OVERLAPS));
INSERT INTO periods VALUES (1, '2020-01-01', '2021-01-01'), (1, '2021-01-01', '2022-01-01');

-- Rows that were and are no more.
SET @@timestamp = 1600000000;
CREATE TABLE versioned (id int PRIMARY KEY, a varchar(20), skipped int WITHOUT SYSTEM VERSIONING) WITH SYSTEM VERSIONING;
INSERT INTO versioned VALUES (1, 'first', 1), (2, 'gone', 1);
CREATE TABLE versioned_columns (
  id int PRIMARY KEY, a int, since timestamp(6) GENERATED ALWAYS AS ROW START INVISIBLE, until timestamp(6) GENERATED ALWAYS AS ROW END,
  PERIOD FOR SYSTEM_TIME (since, until)
) WITH SYSTEM VERSIONING;
INSERT INTO versioned_columns (id, a) VALUES (1, 1), (2, 1);
SET @@timestamp = 1600000001.5;
UPDATE versioned SET a = 'second' WHERE id = 1;
DELETE FROM versioned WHERE id = 2;
UPDATE versioned_columns SET a = 2 WHERE id = 1;
SET @@timestamp = 1600000002.25;
UPDATE versioned SET a = 'third' WHERE id = 1;
DELETE FROM versioned_columns WHERE id = 2;
SET @@timestamp = DEFAULT;

CREATE SEQUENCE never_called;
CREATE SEQUENCE called START WITH 5 INCREMENT BY 3 MINVALUE -10 MAXVALUE 1000 CACHE 7 CYCLE;
DO NEXTVAL(called); DO NEXTVAL(called);
CREATE SEQUENCE `down``wards` START WITH -1 INCREMENT BY -1 NOCACHE;
DO NEXTVAL(`down``wards`); DO SETVAL(`down``wards`, -100);
CREATE TABLE numbered (id bigint DEFAULT NEXTVAL(called) PRIMARY KEY, t text);
INSERT INTO numbered VALUES (1, 'a');

SET sql_mode = ORACLE;
DELIMITER //
CREATE PACKAGE pack AS
  -- a comment; with a semicolon
  FUNCTION twice(n int) RETURN int;
  PROCEDURE say(t varchar2(20));
END//
CREATE PACKAGE BODY pack AS
  count_ int := 0;
  FUNCTION twice(n int) RETURN int AS BEGIN RETURN n * 2; END;
  PROCEDURE say(t varchar2(20)) AS BEGIN SELECT t || "x" FROM DUAL; END;
BEGIN
  count_ := 1;
END//
CREATE PROCEDURE oracle_way(n IN int) AS x int := 1; BEGIN SELECT n + x FROM DUAL; END//
SET sql_mode = ''//
CREATE AGGREGATE FUNCTION summed(x int) RETURNS int READS SQL DATA BEGIN
  DECLARE total int DEFAULT 0;
  DECLARE CONTINUE HANDLER FOR NOT FOUND RETURN total;
  LOOP FETCH GROUP NEXT ROW; SET total = total + x; END LOOP;
END//
DELIMITER ;

CREATE ROLE IF NOT EXISTS torture_readers;
CREATE USER IF NOT EXISTS `torture o'neil`@`%.example.org` IDENTIFIED BY 'secret' REQUIRE SSL WITH MAX_USER_CONNECTIONS 7 ACCOUNT LOCK;
CREATE USER IF NOT EXISTS torture_plain@localhost;
GRANT torture_readers TO torture_plain@localhost WITH ADMIN OPTION;
SET DEFAULT ROLE torture_readers FOR torture_plain@localhost;
GRANT DELETE HISTORY ON versioned TO torture_readers;
