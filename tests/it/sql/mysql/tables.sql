-- Keys, names, generated columns, constraints, partitions, views and code that both servers have.

SET NAMES utf8mb4;
SET time_zone = '+00:00';
SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION';

CREATE TABLE `composite` (a int NOT NULL, b varchar(20) COLLATE utf8mb4_general_ci NOT NULL, c varbinary(10) NOT NULL, v int, PRIMARY KEY (b, a, c));
INSERT INTO `composite` VALUES (1, 'b', '', 1), (1, 'a', 0x00, 2), (2, 'a', 0x00, 3), (-1, 'É', 0xFF, 4), (1, '', 0x5C, 5), (1, 'b', 0x27, 6);
CREATE TABLE text_key (k varchar(100) COLLATE utf8mb4_unicode_ci PRIMARY KEY, v int) DEFAULT CHARSET = utf8mb4;
INSERT INTO text_key VALUES ('', 0), ('a', 1), ('é', 2), ('😀', 3), ('tab\t', 4), ('new\nline', 5), ('quote''s', 6), ('%', 7), ('\\', 8), ('0', 9), ('10', 10), ('9', 11);
CREATE TABLE float_key (k double PRIMARY KEY, f float, KEY (f));
INSERT INTO float_key VALUES (0.1, 0.1), (1e300, 3e38), (-5e-324, 1e-45), (2, NULL);
CREATE TABLE date_key (d datetime(6) PRIMARY KEY, v int);
INSERT INTO date_key VALUES ('0000-00-00', 0), ('2024-02-29 00:00:00.000001', 1), ('9999-12-31 23:59:59.999999', 2);
CREATE TABLE decimal_key (d decimal(65,30) PRIMARY KEY, e enum('z', 'a') NOT NULL, b bit(3));
INSERT INTO decimal_key VALUES (0.000000000000000000000000000001, 'z', 1), (-7, 'a', 7), (99999999999999999999999999999999999, 'z', 0);
CREATE TABLE prefix_key (t text NOT NULL, b blob NOT NULL, PRIMARY KEY (t(10), b(5)));
INSERT INTO prefix_key VALUES ('', ''), ('a', 0x00), ('a', 0x01), ('longer than the prefix', 'longer');
CREATE TABLE unique_only (u int NOT NULL, n int, t varchar(5), UNIQUE KEY (u), UNIQUE KEY (n, t));
INSERT INTO unique_only VALUES (1, NULL, NULL), (2, NULL, NULL), (3, 1, '');
CREATE TABLE keyless (a int, t text, b blob);
INSERT INTO keyless VALUES (1, 'same', 0x00), (1, 'same', 0x00), (NULL, NULL, NULL), (NULL, NULL, NULL), (2, '', '');
CREATE TABLE no_rows (id int PRIMARY KEY, t text);
CREATE TABLE only_generated_and_default (id int NOT NULL AUTO_INCREMENT PRIMARY KEY) AUTO_INCREMENT = 77;
INSERT INTO only_generated_and_default VALUES (0), (-5), (12);
CREATE TABLE counted (line int NOT NULL, id bigint unsigned NOT NULL AUTO_INCREMENT, PRIMARY KEY (line, id), KEY by_id (id)) AUTO_INCREMENT = 18446744073709551000;
INSERT INTO counted VALUES (1, 0), (1, 3), (2, 18446744073709550000);

CREATE TABLE `select` (`from` int PRIMARY KEY, `order``by` int, `a.b` int, `with space` int, `100%` int, `été` int, `'quote"` int, KEY `key``s` (`order``by`));
-- A column that is gone, and one that stands where it was not made.
ALTER TABLE `select` DROP COLUMN `été`, ADD COLUMN `été œ` int AFTER `a.b`;
INSERT INTO `select` VALUES (1, 2, 3, 4, 5, 6, 7);
CREATE TABLE `a.b` LIKE `select`;
CREATE TABLE `back``tick` (id int PRIMARY KEY);
CREATE TABLE `with space` (id int PRIMARY KEY);
CREATE TABLE `%s %d 100%` (id int PRIMARY KEY);
CREATE TABLE `étés-œuvre` (id int PRIMARY KEY) COMMENT = 'named in French';
CREATE TABLE `back\slash/'quote"` (id int PRIMARY KEY);
CREATE TABLE `-- comment` (id int PRIMARY KEY);
CREATE TABLE `MixedCase` (`Id` int PRIMARY KEY);
INSERT INTO `back``tick` VALUES (1); INSERT INTO `with space` VALUES (2); INSERT INTO `%s %d 100%` VALUES (3);
INSERT INTO `étés-œuvre` VALUES (4); INSERT INTO `back\slash/'quote"` VALUES (5); INSERT INTO `-- comment` VALUES (6); INSERT INTO `a.b` VALUES (1, 2, 3, 4, 5, 6, 7);

CREATE TABLE with_generated (
  id int PRIMARY KEY, a int, v int GENERATED ALWAYS AS (a * 2) VIRTUAL, s varchar(50) GENERATED ALWAYS AS (CONCAT('«', a, '''»')) STORED,
  hidden int DEFAULT 3 INVISIBLE, computed varchar(36) DEFAULT (CONCAT('x', 1 + 1)), last int COMMENT 'it''s "last"\nof all', KEY (v), KEY (s)
);
INSERT INTO with_generated (id, a, hidden, last) VALUES (1, 5, 9, 1), (2, NULL, NULL, 2), (3, -7, 0, NULL);
INSERT INTO with_generated (id, a) VALUES (4, 4);
CREATE TABLE all_generated (id int PRIMARY KEY, one int GENERATED ALWAYS AS (id + 1) STORED);
INSERT INTO all_generated (id) VALUES (1), (2);
CREATE TABLE constrained (
  id int PRIMARY KEY, a int CHECK (a > 0), b int, CONSTRAINT `b is "more"` CHECK (b > a), CONSTRAINT named CHECK (id <> 13)
);
INSERT INTO constrained VALUES (1, 1, 2), (2, NULL, NULL);

-- References in a cycle, to themselves, to a table that sorts later, and with every action.
CREATE TABLE cycle_a (id int PRIMARY KEY, b int, parent int, CONSTRAINT own FOREIGN KEY (parent) REFERENCES cycle_a (id) ON DELETE SET NULL ON UPDATE CASCADE);
CREATE TABLE cycle_b (id int PRIMARY KEY, a int, CONSTRAINT `to a` FOREIGN KEY (a) REFERENCES cycle_a (id) ON DELETE CASCADE);
ALTER TABLE cycle_a ADD CONSTRAINT to_b FOREIGN KEY (b) REFERENCES cycle_b (id) ON DELETE RESTRICT;
SET foreign_key_checks = 0;
INSERT INTO cycle_a VALUES (1, 1, 2), (2, 2, 2), (3, NULL, 1);
INSERT INTO cycle_b VALUES (1, 2), (2, 1), (3, NULL);
CREATE TABLE aa_child (id int PRIMARY KEY, z int NOT NULL, CONSTRAINT forward FOREIGN KEY (z) REFERENCES zz_parent (id) ON UPDATE NO ACTION);
CREATE TABLE zz_parent (id int PRIMARY KEY);
INSERT INTO aa_child VALUES (1, 1), (2, 1);
INSERT INTO zz_parent VALUES (1);
SET foreign_key_checks = 1;

CREATE TABLE by_range (id int NOT NULL, y year NOT NULL, PRIMARY KEY (id, y)) COMMENT = 'by year'
  PARTITION BY RANGE (y) (PARTITION p2000 VALUES LESS THAN (2000) COMMENT = 'old', PARTITION `p 2010` VALUES LESS THAN (2010), PARTITION pmax VALUES LESS THAN MAXVALUE);
INSERT INTO by_range VALUES (1, 1990), (2, 2005), (3, 2024), (4, 1999);
CREATE TABLE by_list (id int, k varchar(10)) PARTITION BY LIST COLUMNS (k) (PARTITION pa VALUES IN ('a', 'b'), PARTITION pn VALUES IN (NULL, ''));
INSERT INTO by_list VALUES (1, 'a'), (2, NULL), (3, ''), (4, 'b');
CREATE TABLE by_hash (id int PRIMARY KEY, t text) PARTITION BY HASH (id) PARTITIONS 3;
INSERT INTO by_hash VALUES (1, 'a'), (2, 'b'), (3, 'c'), (-4, 'd');
CREATE TABLE by_key (k varchar(20) PRIMARY KEY) PARTITION BY KEY (k) PARTITIONS 2;
INSERT INTO by_key VALUES ('a'), ('b'), (''), ('é');
CREATE TABLE by_two (id int, d date, v int) PARTITION BY RANGE (TO_DAYS(d)) SUBPARTITION BY HASH (id) SUBPARTITIONS 2
  (PARTITION early VALUES LESS THAN (730000), PARTITION late VALUES LESS THAN MAXVALUE);
INSERT INTO by_two VALUES (1, '1990-01-01', 1), (2, '2024-01-01', 2), (3, NULL, 3);

CREATE TABLE indexed (
  id int PRIMARY KEY, t text, title varchar(100), at point NOT NULL, a int, b int COMMENT 'b', FULLTEXT KEY words (t, title), SPATIAL KEY place (at),
  KEY prefix (t(7)), KEY two (a DESC, b), UNIQUE KEY (title), KEY hashed (b) USING BTREE COMMENT 'it''s a comment'
);
INSERT INTO indexed VALUES (1, 'un journal du soir', 'Le Soir', ST_GeomFromText('POINT(1 2)'), 1, 2), (2, NULL, NULL, ST_GeomFromText('POINT(0 0)'), NULL, NULL);
CREATE TABLE formats (id int PRIMARY KEY, t text) ROW_FORMAT = COMPRESSED KEY_BLOCK_SIZE = 8;
INSERT INTO formats VALUES (1, REPEAT('x', 10000));
CREATE TABLE statistics_of (id int PRIMARY KEY) ROW_FORMAT = DYNAMIC STATS_PERSISTENT = 0 STATS_SAMPLE_PAGES = 7;

-- In this order the names of the views cannot be followed.
CREATE VIEW zz_base AS SELECT id, t FROM texts WHERE id < 5;
CREATE VIEW aa_on_top AS SELECT id, UPPER(t) AS `big ``t` FROM zz_base;
CREATE ALGORITHM = MERGE SQL SECURITY INVOKER VIEW mm_between (a, b) AS SELECT a.id, z.id FROM aa_on_top a JOIN zz_base z ON a.id = z.id;
CREATE ALGORITHM = TEMPTABLE DEFINER = gone@nowhere VIEW of_nobody AS SELECT COUNT(*) AS n FROM keyless;
CREATE VIEW checked AS SELECT * FROM composite WHERE a > 0 WITH LOCAL CHECK OPTION;
CREATE VIEW `vue d'été` AS SELECT 'é' AS `é`, _utf8mb4'😀' AS smile, 1 / 3 AS third;
CREATE TABLE for_broken (id int);
CREATE VIEW broken AS SELECT id FROM for_broken;
DROP TABLE for_broken;

DELIMITER //
CREATE TRIGGER texts_first BEFORE INSERT ON texts FOR EACH ROW SET NEW.v = IF(NEW.v = 'by trigger', CONCAT(NEW.v, ' 1'), NEW.v)//
CREATE TRIGGER a_second BEFORE INSERT ON texts FOR EACH ROW FOLLOWS texts_first SET NEW.v = IF(NEW.v LIKE 'by trigger%', CONCAT(NEW.v, ' 2'), NEW.v)//
CREATE TRIGGER zero_th BEFORE INSERT ON texts FOR EACH ROW PRECEDES texts_first BEGIN
  -- It's "here" that a ; does not end it, nor this \ anything.
  IF NEW.v = 'never' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'never; never'; END IF;
END//
CREATE TRIGGER `after``delete` AFTER DELETE ON keyless FOR EACH ROW INSERT INTO no_rows VALUES (OLD.a + 100000, 'deleted')//
CREATE DEFINER = gone@nowhere TRIGGER by_nobody BEFORE UPDATE ON no_rows FOR EACH ROW SET NEW.t = UPPER(NEW.t)//
-- Rows that are loaded must not go through it.
CREATE TRIGGER refuses BEFORE INSERT ON counted FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no new rows'//

CREATE FUNCTION doubled(n int) RETURNS int DETERMINISTIC NO SQL COMMENT 'it''s "twice"' RETURN n * 2//
CREATE FUNCTION `é fn`(t varchar(20) CHARACTER SET latin1) RETURNS varchar(20) CHARSET utf8mb4 READS SQL DATA SQL SECURITY INVOKER
BEGIN DECLARE x varchar(20) DEFAULT '😀;'; RETURN CONCAT(t, x, (SELECT COUNT(*) FROM keyless)); END//
CREATE PROCEDURE several(IN a int, OUT b int, INOUT c text) MODIFIES SQL DATA
BEGIN
  DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; END;
  SET b = a; SET c = CONCAT(c, '\\', '''');
END//
CREATE DEFINER = gone@nowhere PROCEDURE of_nobody() SELECT 1//
SET sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES'//
CREATE PROCEDURE "ansi ""p"""() SELECT "id" || '\' FROM "texts"//
CREATE TRIGGER "ansi_t" AFTER UPDATE ON "composite" FOR EACH ROW BEGIN SET @"x" = 'a\' || 'b'; END//
CREATE EVENT "ansi_e" ON SCHEDULE AT '2037-12-31 23:59:59' ON COMPLETION PRESERVE DISABLE COMMENT 'back\slash' DO SELECT 'a\' || "id" FROM "texts"//
SET sql_mode = ''//
CREATE EVENT enabled ON SCHEDULE EVERY 1 DAY STARTS '2037-01-01 00:00:00' ENDS '2037-12-31 00:00:00' ON COMPLETION PRESERVE ENABLE COMMENT 'it''s on' DO BEGIN DELETE FROM no_rows; DELETE FROM no_rows; END//
SET time_zone = '+05:30'//
CREATE DEFINER = gone@nowhere EVENT elsewhere ON SCHEDULE EVERY '1:30' HOUR_MINUTE STARTS '2037-06-01 12:00:00' DISABLE DO DELETE FROM no_rows//
SET time_zone = '+00:00'//
DELIMITER ;
SET NAMES latin1;
CREATE VIEW of_latin1 AS SELECT 'latin' AS a;
SET NAMES utf8mb4;
