-- Tables of engines without transactions: what they hold can only be read consistently while nobody writes.

SET NAMES utf8mb4;
SET sql_mode = '';
CREATE TABLE my_isam (id int NOT NULL AUTO_INCREMENT PRIMARY KEY, t text, FULLTEXT KEY (t)) ENGINE = MyISAM AUTO_INCREMENT = 50 CHECKSUM = 1 DELAY_KEY_WRITE = 1;
INSERT INTO my_isam (t) VALUES ('un'), ('deux'), (NULL);
DELETE FROM my_isam WHERE t = 'un';
CREATE TABLE my_isam_second (kind char(1) NOT NULL, id int NOT NULL AUTO_INCREMENT, PRIMARY KEY (kind, id)) ENGINE = MyISAM;
INSERT INTO my_isam_second (kind) VALUES ('a'), ('a'), ('b'), ('a');
CREATE TABLE in_memory (id int PRIMARY KEY, v varchar(20), KEY (v) USING BTREE) ENGINE = MEMORY MAX_ROWS = 1000;
INSERT INTO in_memory VALUES (1, 'gone after a restart'), (2, NULL);
CREATE TABLE csv_file (id int NOT NULL, t varchar(100) NOT NULL) ENGINE = CSV;
INSERT INTO csv_file VALUES (1, 'a,"b"'), (1, 'line\nbreak'), (2, '');
CREATE TABLE swallowed (id int, t text) ENGINE = BLACKHOLE;
INSERT INTO swallowed VALUES (1, 'nowhere');
CREATE TABLE merged_1 (id int) ENGINE = MyISAM;
CREATE TABLE merged_2 (id int) ENGINE = MyISAM;
INSERT INTO merged_1 VALUES (1);
INSERT INTO merged_2 VALUES (2);
CREATE TABLE merged (id int) ENGINE = MERGE UNION = (merged_1, merged_2) INSERT_METHOD = LAST;
/*M! CREATE TABLE aria (id int PRIMARY KEY, t text) ENGINE = Aria TRANSACTIONAL = 1 */;
/*M! INSERT INTO aria VALUES (1, 'a'), (2, NULL) */;
