-- Functions, procedures, aggregates, operators, casts, triggers.

CREATE FUNCTION add_tax(amount numeric, rate numeric DEFAULT 0.2, VARIADIC more numeric[] DEFAULT '{}', OUT total numeric, OUT "Le taux" numeric)
  LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE COST 7 AS $body$
BEGIN
  -- $$ inside, and 'quotes', and a \ too
  total := amount * (1 + rate); "Le taux" := rate;
END $body$;
CREATE FUNCTION sql_body(a int, b int DEFAULT 3) RETURNS TABLE (x int, y text) LANGUAGE sql STABLE STRICT ROWS 5
  BEGIN ATOMIC
    SELECT a + b, t.what FROM torture.texts t WHERE t.id = a;
    SELECT e.id, 'x' AS y FROM torture.employees e WHERE e.boss = b;
  END;
CREATE FUNCTION definer(t text) RETURNS text LANGUAGE sql SECURITY DEFINER LEAKPROOF SET search_path = torture, 'Sales & "Co"', pg_temp SET timezone = 'UTC' AS $$ SELECT upper(t) $$;
CREATE FUNCTION current_setting_path() RETURNS text LANGUAGE sql SET search_path FROM CURRENT AS 'SELECT current_setting(''search_path'')';
CREATE FUNCTION overloaded(int) RETURNS int LANGUAGE sql RETURN 1;
CREATE FUNCTION overloaded(text) RETURNS int LANGUAGE sql RETURN 2;
CREATE FUNCTION overloaded(mood[]) RETURNS int LANGUAGE sql RETURN 3;
CREATE FUNCTION polymorphic(anyelement, anyarray) RETURNS anyelement LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION lives_in_the_future() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT x FROM table_that_is_not); END';
CREATE FUNCTION E_fold(text) RETURNS text LANGUAGE sql IMMUTABLE SET search_path = torture, ext, pg_temp AS 'SELECT lower(unaccent($1))';
CREATE INDEX articles_folded ON articles (E_fold(title));
CREATE PROCEDURE tidy(INOUT n int, keep boolean DEFAULT true) LANGUAGE plpgsql AS $$ BEGIN n := n + 1; COMMIT; END $$;
CREATE PROCEDURE atomic_procedure(i int) LANGUAGE sql BEGIN ATOMIC INSERT INTO torture.ruled_log VALUES (i, 'by procedure'); END;
COMMENT ON FUNCTION add_tax(numeric, numeric, numeric[]) IS 'TVA; ''20 %''';
COMMENT ON PROCEDURE tidy(int, boolean) IS 'tidies';

CREATE FUNCTION concat_step(state text, next text) RETURNS text LANGUAGE sql IMMUTABLE RETURN coalesce(state || ',', '') || coalesce(next, 'NULL');
CREATE AGGREGATE concat_all(text) (SFUNC = concat_step, STYPE = text, PARALLEL = SAFE);
CREATE AGGREGATE last_percentile(float8 ORDER BY anyelement) (SFUNC = ordered_set_transition, STYPE = internal, FINALFUNC = percentile_disc_final, FINALFUNC_EXTRA);
COMMENT ON AGGREGATE concat_all(text) IS 'joins';
CREATE FUNCTION absolute_less(int, int) RETURNS bool LANGUAGE sql IMMUTABLE STRICT RETURN abs($1) < abs($2);
CREATE FUNCTION absolute_equal(int, int) RETURNS bool LANGUAGE sql IMMUTABLE STRICT RETURN abs($1) = abs($2);
CREATE FUNCTION absolute_compare(int, int) RETURNS int LANGUAGE sql IMMUTABLE STRICT RETURN sign(abs($1) - abs($2))::int;
CREATE OPERATOR <| (LEFTARG = int, RIGHTARG = int, FUNCTION = absolute_less, COMMUTATOR = |>, RESTRICT = scalarltsel);
CREATE OPERATOR |> (LEFTARG = int, RIGHTARG = int, FUNCTION = absolute_less, COMMUTATOR = <|);
CREATE OPERATOR ==| (LEFTARG = int, RIGHTARG = int, FUNCTION = absolute_equal, COMMUTATOR = ==|, MERGES);
COMMENT ON OPERATOR <| (int, int) IS 'less, whatever the sign';
CREATE OPERATOR FAMILY absolute_family USING btree;
CREATE OPERATOR CLASS absolute_ops FOR TYPE int USING btree FAMILY absolute_family AS
  OPERATOR 1 <| (int, int), OPERATOR 3 ==| (int, int), FUNCTION 1 absolute_compare(int, int);
CREATE TABLE absolutes (i int, id int PRIMARY KEY);
INSERT INTO absolutes VALUES (-5, 1), (3, 2), (-3, 3);
CREATE INDEX absolutes_i ON absolutes (i absolute_ops);
CREATE FUNCTION mood_to_int(mood) RETURNS int LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT CASE $1 WHEN 'triste' THEN 0 ELSE 1 END $$;
CREATE CAST (mood AS int) WITH FUNCTION mood_to_int(mood) AS ASSIGNMENT;
CREATE CAST (point3 AS text[]) WITH INOUT;
COMMENT ON CAST (mood AS int) IS 'mood as a number';
CREATE TABLE casted (id int PRIMARY KEY, f int DEFAULT ('triste'::mood)::int, g int GENERATED ALWAYS AS (mood_to_int('après')) STORED);
INSERT INTO casted VALUES (1), (2);
CREATE CONVERSION own_conversion FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE ACCESS METHOD own_heap TYPE TABLE HANDLER heap_tableam_handler;
CREATE TABLE in_own_heap (id int PRIMARY KEY, t text) USING own_heap;
INSERT INTO in_own_heap VALUES (1, 'own access method');

-- Triggers: none of them may fire during a restore; several would make it fail.
CREATE TABLE watched (id int PRIMARY KEY, t text, n int);
CREATE TABLE watched_log (what text, at_id int);
CREATE FUNCTION log_it() RETURNS trigger LANGUAGE plpgsql SET search_path = torture, pg_temp AS
  $$ BEGIN INSERT INTO watched_log VALUES (tg_name || ' ' || coalesce(tg_argv[0], '-'), coalesce(new.id, old.id)); RETURN coalesce(new, old); END $$;
CREATE FUNCTION log_statement() RETURNS trigger LANGUAGE plpgsql SET search_path = torture, pg_temp AS
  $$ BEGIN INSERT INTO watched_log SELECT tg_name, count(*) FROM new_rows; RETURN NULL; END $$;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused by %', tg_name; END $$;
CREATE TRIGGER a_before BEFORE INSERT OR UPDATE OF t ON watched FOR EACH ROW WHEN (new.n > 0) EXECUTE FUNCTION log_it('arg with ''quote''', E'\\x');
CREATE TRIGGER b_after AFTER INSERT ON watched FOR EACH ROW EXECUTE FUNCTION log_it();
CREATE TRIGGER c_statement AFTER INSERT ON watched REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION log_statement();
CREATE CONSTRAINT TRIGGER d_deferred AFTER UPDATE ON watched DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION log_it();
INSERT INTO watched VALUES (1, 'a', 1), (2, 'b', -1);
CREATE TRIGGER e_always BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION refuse();
ALTER TABLE watched ENABLE ALWAYS TRIGGER e_always;
CREATE TRIGGER f_replica BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION refuse();
ALTER TABLE watched ENABLE REPLICA TRIGGER f_replica;
CREATE TRIGGER g_disabled BEFORE DELETE ON watched FOR EACH ROW EXECUTE FUNCTION refuse();
ALTER TABLE watched DISABLE TRIGGER g_disabled;
CREATE TRIGGER h_truncate BEFORE TRUNCATE ON watched EXECUTE FUNCTION refuse();
CREATE TRIGGER on_view INSTEAD OF INSERT OR UPDATE OR DELETE ON plain_view FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE TRIGGER on_partitions BEFORE INSERT ON payments FOR EACH ROW EXECUTE FUNCTION refuse();
ALTER TABLE payments_2024 DISABLE TRIGGER on_partitions;
COMMENT ON TRIGGER a_before ON watched IS 'a trigger';
