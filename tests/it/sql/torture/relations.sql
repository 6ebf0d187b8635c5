-- Views, materialized views and rules.

CREATE VIEW plain_view AS SELECT id, t AS "Le texte" FROM texts WHERE t IS NOT NULL;
CREATE VIEW barrier WITH (security_barrier, security_invoker) AS SELECT * FROM employees WHERE boss IS NOT NULL;
CREATE VIEW checked WITH (check_option = cascaded) AS SELECT id, boss FROM employees WHERE id < 100;
CREATE VIEW checked_local AS SELECT id FROM checked WHERE id > 0 WITH LOCAL CHECK OPTION;
CREATE RECURSIVE VIEW chain (id, depth) AS
  SELECT id, 0 FROM employees WHERE boss IS NULL UNION ALL SELECT e.id, depth + 1 FROM employees e JOIN chain c ON e.boss = c.id;
CREATE VIEW uses_key AS SELECT id, what, count(*) FROM texts GROUP BY id;
CREATE VIEW defaulted AS SELECT id, a FROM orphans;
ALTER VIEW defaulted ALTER a SET DEFAULT 5;
CREATE VIEW lateral_and_window AS
  SELECT e.id, x.n, sum(x.n) OVER w FROM employees e, LATERAL (SELECT e.id * g AS n FROM generate_series(1, 2) g) x
  WINDOW w AS (PARTITION BY e.boss ORDER BY x.n ROWS BETWEEN 1 PRECEDING AND CURRENT ROW);
CREATE VIEW of_view AS SELECT v."Le texte", pg_typeof(v) FROM plain_view v;
CREATE VIEW no_columns_view AS SELECT FROM no_columns;
COMMENT ON VIEW plain_view IS 'a view';
COMMENT ON COLUMN plain_view."Le texte" IS 'a column of a view';
-- A function over the row type of a view that calls it again: dumps must break the circle with a placeholder.
CREATE VIEW round AS SELECT 1 AS x, NULL::text AS y;
CREATE FUNCTION round_text(c round) RETURNS text LANGUAGE sql STABLE RETURN (c).x::text;
CREATE OR REPLACE VIEW round AS SELECT 1 AS x, round_text(NULL::round) AS y;

-- A materialized view whose function finds its table by the function's own search path: restores run with none.
CREATE FUNCTION count_texts() RETURNS bigint LANGUAGE plpgsql STABLE SET search_path = torture, pg_temp AS 'BEGIN RETURN (SELECT count(*) FROM texts); END';
CREATE MATERIALIZED VIEW zz_base AS SELECT id, length(t) AS n, count_texts() AS total FROM texts;
CREATE UNIQUE INDEX zz_base_id ON zz_base (id);
CREATE INDEX zz_base_n ON zz_base (n) WHERE n > 3;
ALTER MATERIALIZED VIEW zz_base CLUSTER ON zz_base_id;
CREATE MATERIALIZED VIEW aa_on_top WITH (fillfactor = 60) AS SELECT n, count(*) AS how_many FROM zz_base GROUP BY n;
CREATE MATERIALIZED VIEW mm_between AS SELECT * FROM aa_on_top NATURAL JOIN (SELECT DISTINCT n FROM zz_base) z;
CREATE MATERIALIZED VIEW not_populated AS SELECT id FROM texts WITH NO DATA;
CREATE INDEX not_populated_id ON not_populated (id);
-- One that depends on a view that is not populated itself cannot be refreshed now.
CREATE MATERIALIZED VIEW on_not_populated AS SELECT count(*) FROM not_populated WITH NO DATA;
CREATE MATERIALIZED VIEW uses_key_stored AS SELECT id, what, count(*) FROM texts GROUP BY id;
CREATE MATERIALIZED VIEW "mat. ""view""" AS SELECT E'\n'::text AS "a b";
COMMENT ON MATERIALIZED VIEW zz_base IS 'base';

CREATE TABLE ruled (id int PRIMARY KEY, t text);
INSERT INTO ruled VALUES (1, 'x'), (2, 'y');
CREATE TABLE ruled_log (id int, what text);
INSERT INTO ruled_log VALUES (0, 'first');
CREATE RULE no_insert AS ON INSERT TO ruled DO INSTEAD NOTHING;
CREATE RULE log_update AS ON UPDATE TO ruled WHERE old.t IS DISTINCT FROM new.t DO ALSO INSERT INTO ruled_log VALUES (old.id, new.t);
CREATE RULE "view, insert" AS ON INSERT TO defaulted DO INSTEAD INSERT INTO orphans (id, a) VALUES (new.id, new.a) RETURNING id, a;
CREATE RULE disabled_rule AS ON DELETE TO ruled DO INSTEAD NOTHING;
ALTER TABLE ruled DISABLE RULE disabled_rule;
ALTER TABLE ruled ENABLE ALWAYS RULE log_update;
COMMENT ON RULE no_insert ON ruled IS 'inserts do nothing';
