-- Tables of every build: generated columns, inheritance, constraints, storage, without key, columns or rows.

CREATE TABLE generated (
  a int, full_price numeric GENERATED ALWAYS AS (a * 1.2) STORED, b text DEFAULT upper('x'), id int GENERATED ALWAYS AS IDENTITY,
  label text GENERATED ALWAYS AS (coalesce(b, '') || '!') STORED, CONSTRAINT generated_key PRIMARY KEY (id));
INSERT INTO generated (a, b) VALUES (1, 'x'), (NULL, NULL), (-5, E'\n');
ALTER TABLE generated ALTER id RESTART WITH 1000;
CREATE TABLE generated_key_column (a int NOT NULL, k int GENERATED ALWAYS AS (a * 2) STORED PRIMARY KEY);
INSERT INTO generated_key_column (a) VALUES (3), (1), (2);
CREATE TABLE generated_only (x int GENERATED ALWAYS AS (42) STORED);
INSERT INTO generated_only DEFAULT VALUES;
INSERT INTO generated_only DEFAULT VALUES;
\if :pg18
  CREATE TABLE generated_virtual (id int PRIMARY KEY, a int, v int GENERATED ALWAYS AS (a + 1) VIRTUAL);
  INSERT INTO generated_virtual VALUES (1, 1), (2, NULL);
  CREATE TABLE temporal (room int, during tstzrange, PRIMARY KEY (room, during WITHOUT OVERLAPS));
  INSERT INTO temporal VALUES (1, '[2026-01-01,2026-02-01)'), (1, '[2026-02-01,)');
  CREATE TABLE not_null_not_valid (id int PRIMARY KEY, a int);
  INSERT INTO not_null_not_valid VALUES (1, NULL);
  ALTER TABLE not_null_not_valid ADD CONSTRAINT "a, later" NOT NULL a NOT VALID;
  CREATE TABLE not_enforced (id int PRIMARY KEY, a int, CONSTRAINT a_is_big CHECK (a > 100) NOT ENFORCED);
  INSERT INTO not_enforced VALUES (1, 1);
\endif

CREATE TABLE parent_a (id int PRIMARY KEY, a text DEFAULT 'parent', CONSTRAINT a_short CHECK (length(a) < 100));
CREATE TABLE parent_b (b int NOT NULL, id int, CONSTRAINT own_only CHECK (b <> 13) NO INHERIT);
CREATE TABLE child (c date, PRIMARY KEY (id)) INHERITS (parent_a, parent_b);
CREATE TABLE grandchild () INHERITS (child);
ALTER TABLE grandchild ALTER a SET DEFAULT 'grandchild';
INSERT INTO parent_a VALUES (1, 'p'), (2, NULL);
INSERT INTO parent_b VALUES (7, 7), (7, 7);
INSERT INTO child (id, a, b, c) VALUES (1, 'the id of a parent row', 1, '2026-01-01'), (3, 'c', 3, NULL);
INSERT INTO grandchild (id, b) VALUES (1, 1), (1, 1);

CREATE TABLE dropped (gone1 int, a int, gone2 text, b text NOT NULL, gone3 numeric);
INSERT INTO dropped VALUES (1, 2, 'x', 'y', 3), (4, 5, 'z', 'w', 6);
ALTER TABLE dropped DROP gone1, DROP gone2, DROP gone3, ADD c int DEFAULT 9, ADD PRIMARY KEY (b);
INSERT INTO dropped (a, b, c) VALUES (7, 'later', NULL);
ALTER TABLE dropped RENAME a TO renamed;
CREATE TABLE added_default (id int PRIMARY KEY);
INSERT INTO added_default SELECT generate_series(1, 10);
ALTER TABLE added_default ADD fast text DEFAULT 'not in the heap';
ALTER TABLE added_default ALTER fast SET DEFAULT 'another';
INSERT INTO added_default VALUES (11);

CREATE TABLE keyless (a int, b text);
INSERT INTO keyless SELECT g % 3, 'twice' FROM generate_series(1, 9) g;
INSERT INTO keyless VALUES (NULL, NULL), (NULL, NULL), (NULL, ''), (0, E'\n'), (0, E'\\N');
CREATE TABLE no_columns ();
INSERT INTO no_columns DEFAULT VALUES;
INSERT INTO no_columns DEFAULT VALUES;
INSERT INTO no_columns DEFAULT VALUES;
CREATE TABLE lost_columns (a int);
INSERT INTO lost_columns VALUES (1), (2);
ALTER TABLE lost_columns DROP a;
CREATE TABLE no_rows (id int PRIMARY KEY, t text);
CREATE TABLE no_rows_keyless (t text);
CREATE TABLE no_rows_no_columns ();
CREATE TABLE deleted_rows (id int PRIMARY KEY);
INSERT INTO deleted_rows SELECT generate_series(1, 100);
DELETE FROM deleted_rows WHERE id <> 50;
CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY, t text);
INSERT INTO unlogged VALUES (1, 'lost at a crash, not by a backup'), (2, NULL);
CREATE UNLOGGED TABLE unlogged_keyless (t text);
INSERT INTO unlogged_keyless VALUES ('x'), ('x');

CREATE TABLE stored (
  id int PRIMARY KEY WITH (fillfactor = 70), a int, b int, c int, t text COMPRESSION pglz)
  WITH (fillfactor = 50, autovacuum_enabled = false, toast.autovacuum_enabled = false, parallel_workers = 2);
INSERT INTO stored SELECT g, g % 10, g % 100, g, repeat('s', 3000) FROM generate_series(1, 200) g;
ALTER TABLE stored ALTER t SET STORAGE EXTERNAL, ALTER a SET STATISTICS 500, ALTER b SET (n_distinct = -0.5);
CREATE INDEX stored_many ON stored (a DESC NULLS LAST, (left(t, 9)) COLLATE "C" text_pattern_ops) INCLUDE (c) WHERE a > 3;
CREATE INDEX "stored, by expression" ON stored ((a + b), lower(left(t, 9))) WITH (deduplicate_items = off);
CREATE INDEX stored_brin ON stored USING brin (id) WITH (pages_per_range = 4);
CREATE INDEX stored_hash ON stored USING hash (c);
ALTER INDEX "stored, by expression" ALTER COLUMN 1 SET STATISTICS 333;
ALTER TABLE stored CLUSTER ON stored_pkey;
CREATE STATISTICS stored_statistics (ndistinct, dependencies, mcv) ON a, b, c FROM stored;
CREATE STATISTICS stored_expression ON (a + b) FROM stored;
ALTER STATISTICS stored_statistics SET STATISTICS 77;
COMMENT ON STATISTICS stored_statistics IS 'a, b and c';
ANALYZE stored;

-- Foreign keys: to oneself, in a circle, deferred, not valid, with every action.
CREATE TABLE employees (id int PRIMARY KEY, boss int REFERENCES employees ON DELETE SET NULL);
INSERT INTO employees VALUES (3, NULL), (2, 3), (1, 2), (4, 4);
CREATE TABLE hen (id int PRIMARY KEY, egg int NOT NULL);
CREATE TABLE egg (id int PRIMARY KEY, hen int NOT NULL);
INSERT INTO hen VALUES (1, 2), (2, 1);
INSERT INTO egg VALUES (1, 1), (2, 2);
ALTER TABLE hen ADD CONSTRAINT hen_egg FOREIGN KEY (egg) REFERENCES egg DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE egg ADD CONSTRAINT egg_hen FOREIGN KEY (hen) REFERENCES hen ON DELETE CASCADE ON UPDATE RESTRICT DEFERRABLE;
COMMENT ON CONSTRAINT hen_egg ON hen IS 'who was first?';
CREATE TABLE orphans (id int PRIMARY KEY, hen int, a int, b int, CHECK (a < b));
INSERT INTO orphans VALUES (1, 99, 1, 2), (2, NULL, 1, NULL), (3, 1, 5, 6);
ALTER TABLE orphans ADD CONSTRAINT orphan_hen FOREIGN KEY (hen) REFERENCES hen NOT VALID;
ALTER TABLE orphans ADD CONSTRAINT not_valid_check CHECK (a > 1) NOT VALID;
CREATE TABLE pair (a int, b int, UNIQUE (b, a), PRIMARY KEY (a, b));
INSERT INTO pair VALUES (1, 1), (1, 2), (2, 1);
CREATE TABLE pair_user (id int PRIMARY KEY, a int, b int,
  FOREIGN KEY (a, b) REFERENCES pair (a, b) MATCH FULL ON DELETE SET NULL,
  FOREIGN KEY (b, a) REFERENCES pair (b, a) ON DELETE SET DEFAULT (a));
INSERT INTO pair_user VALUES (1, 1, 2), (2, NULL, NULL);
CREATE TABLE bookings (
  id int PRIMARY KEY, room int, during tstzrange,
  CONSTRAINT no_overlap EXCLUDE USING gist (room WITH =, during WITH &&) WHERE (room > 0) DEFERRABLE INITIALLY DEFERRED);
INSERT INTO bookings VALUES (1, 1, '[2026-01-01,2026-01-02)'), (2, 1, '[2026-01-02,2026-01-03)'), (3, 0, '[2026-01-01,2027-01-01)'), (4, 0, '[2026-01-01,2027-01-01)');

-- Sequences in every state.
CREATE SEQUENCE never_called;
CREATE SEQUENCE called START 10 INCREMENT 5;
SELECT nextval('called'), nextval('called');
CREATE SEQUENCE set_not_called;
SELECT setval('set_not_called', 55, false);
CREATE SEQUENCE descending INCREMENT -3 MINVALUE -100 MAXVALUE -1 START -1 CACHE 5;
SELECT nextval('descending');
CREATE SEQUENCE cycled AS smallint MINVALUE 1 MAXVALUE 3 CYCLE;
SELECT nextval('cycled') FROM generate_series(1, 4);
CREATE SEQUENCE exhausted MAXVALUE 2;
SELECT nextval('exhausted'), nextval('exhausted');
CREATE SEQUENCE biggest;
SELECT setval('biggest', 9223372036854775807);
CREATE UNLOGGED SEQUENCE unlogged_sequence;
SELECT nextval('unlogged_sequence');
CREATE SEQUENCE owned_elsewhere OWNED BY keyless.a;
SELECT setval('owned_elsewhere', 4321);
COMMENT ON SEQUENCE called IS 'twice';
CREATE TABLE shared_sequence (id int PRIMARY KEY DEFAULT nextval('called'));
INSERT INTO shared_sequence DEFAULT VALUES;

CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '1', dbname 'no''where');
CREATE USER MAPPING FOR torture_reader SERVER elsewhere OPTIONS (user 'x');
CREATE FOREIGN TABLE far_away (id int OPTIONS (column_name 'ID'), t text NOT NULL) SERVER elsewhere OPTIONS (table_name 'x "y"');
COMMENT ON FOREIGN TABLE far_away IS 'reading this fails';
