-- Owners, grants, row security, comments, publications, and last the event triggers.

ALTER TABLE numbers OWNER TO torture_owner;
ALTER TABLE texts OWNER TO torture_owner;
ALTER TABLE keyless OWNER TO "Rédaction du ""Soir""";
ALTER TYPE mood OWNER TO torture_owner;
ALTER FUNCTION definer(text) OWNER TO torture_owner;
ALTER VIEW plain_view OWNER TO "back\slash";
ALTER SEQUENCE called OWNER TO "grp-dash.dot";
SET ROLE torture_owner;
CREATE TABLE torture.owned_by_owner (id serial PRIMARY KEY, secret text);
INSERT INTO torture.owned_by_owner (secret) VALUES ('by default privileges');
RESET ROLE;

GRANT SELECT ON ALL TABLES IN SCHEMA "Sales & ""Co""" TO "with space";
GRANT SELECT (id, what), UPDATE (t) ON texts TO "o'neil";
GRANT INSERT ON texts TO "select" WITH GRANT OPTION;
GRANT USAGE ON SCHEMA torture TO "select", torture_reader;
SET ROLE "select";
GRANT INSERT ON torture.texts TO "UPPER";
RESET ROLE;
GRANT ALL ON payments TO torture_writer;
GRANT SELECT ON payments_2024 TO PUBLIC;
REVOKE DELETE, TRUNCATE ON bytes FROM CURRENT_USER;
GRANT USAGE ON SEQUENCE never_called TO "back\slash";
GRANT EXECUTE ON FUNCTION add_tax(numeric, numeric, numeric[]) TO "Rédaction du ""Soir""";
REVOKE EXECUTE ON FUNCTION definer(text) FROM PUBLIC;
REVOKE ALL ON PROCEDURE tidy(int, boolean) FROM PUBLIC, CURRENT_USER;
REVOKE USAGE ON TYPE positive FROM PUBLIC;
GRANT USAGE ON LANGUAGE sql TO torture_reader;
GRANT USAGE ON FOREIGN SERVER elsewhere TO torture_reader WITH GRANT OPTION;
GRANT SELECT ON zz_base TO "with space";
GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_waldir() TO torture_reader;
GRANT SELECT (relname) ON pg_catalog.pg_class TO torture_reader;

CREATE TABLE secured (id int PRIMARY KEY, who text, secret text);
INSERT INTO secured VALUES (1, 'torture_reader', 'a'), (2, 'o''neil', 'b'), (3, NULL, 'c');
ALTER TABLE secured OWNER TO torture_owner;
ALTER TABLE secured ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON secured FOR SELECT TO torture_reader, "o'neil" USING (who = current_user);
CREATE POLICY "no one else's" ON secured AS RESTRICTIVE FOR ALL USING (id > 0) WITH CHECK (id > 1 AND EXISTS (SELECT FROM torture.employees e WHERE e.id = secured.id));
CREATE POLICY "insert" ON secured FOR INSERT WITH CHECK (true);
COMMENT ON POLICY own_rows ON secured IS 'one''s own';
CREATE TABLE secured_off (id int PRIMARY KEY);
INSERT INTO secured_off VALUES (1);
CREATE POLICY sleeping ON secured_off USING (false);
CREATE TABLE secured_keyless (t text);
INSERT INTO secured_keyless VALUES ('x'), ('x');
ALTER TABLE secured_keyless ENABLE ROW LEVEL SECURITY;

COMMENT ON TABLE numbers IS E'many\nlines; -- not a comment\n\\connect postgres\n\\! true';
COMMENT ON COLUMN numbers.n IS 'n''importe';
COMMENT ON INDEX stored_many IS 'an index';
COMMENT ON COLLATION libc_utf8 IS NULL;
COMMENT ON SERVER elsewhere IS 'somewhere';
COMMENT ON TYPE shell_only IS 'a shell';
COMMENT ON DOMAIN no_null_text IS E'tab\there';

ALTER TABLE keyless REPLICA IDENTITY FULL;
ALTER TABLE no_rows REPLICA IDENTITY NOTHING;
CREATE PUBLICATION some_tables FOR TABLE ONLY parent_a, TABLE numbers (id, i4) WHERE (id > 3), "Sales & ""Co"""."star*" WITH (publish = 'insert, delete');
CREATE PUBLICATION "all ""tables""" FOR ALL TABLES WITH (publish = 'insert', publish_via_partition_root);
CREATE PUBLICATION a_schema FOR TABLES IN SCHEMA "Sales & ""Co""", torture_login WITH (publish = 'truncate');
CREATE PUBLICATION nothing;
ALTER PUBLICATION some_tables OWNER TO marbre;
COMMENT ON PUBLICATION some_tables IS 'published';
CREATE SUBSCRIPTION asleep CONNECTION 'host=127.0.0.1 port=1 dbname=nowhere' PUBLICATION p, "q r" WITH (connect = false, slot_name = NONE, enabled = false);
COMMENT ON SUBSCRIPTION asleep IS 'never connects';

-- These would break a restore that let them fire.
CREATE FUNCTION no_new_tables() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
  IF coalesce(current_setting('torture.ddl_allowed', true), '') <> 'yes' THEN
    RAISE 'this database refuses %', tg_tag;
  END IF;
END $$;
CREATE EVENT TRIGGER no_new_tables ON ddl_command_start WHEN TAG IN ('CREATE TABLE', 'CREATE INDEX', 'ALTER TABLE', 'CREATE TRIGGER') EXECUTE FUNCTION no_new_tables();
CREATE EVENT TRIGGER no_drops ON sql_drop EXECUTE FUNCTION no_new_tables();
CREATE EVENT TRIGGER "disabled ""one""" ON ddl_command_end EXECUTE FUNCTION no_new_tables();
ALTER EVENT TRIGGER "disabled ""one""" DISABLE;
CREATE EVENT TRIGGER always_end ON ddl_command_end WHEN TAG IN ('CREATE VIEW') EXECUTE FUNCTION no_new_tables();
ALTER EVENT TRIGGER always_end ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER no_drops IS 'nothing is dropped here';
