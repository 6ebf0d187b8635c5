-- Names that break those who paste, split, glob or truncate.

CREATE FUNCTION pg_temp.awkward(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('CREATE TABLE "Sales & ""Co""".%1$I (%1$I int PRIMARY KEY, "a ""b"" c" text DEFAULT %2$L, "from" int)', name, name);
  EXECUTE format('INSERT INTO "Sales & ""Co""".%1$I VALUES (1, %2$L, 1), (2, NULL, 2)', name, name);
  EXECUTE format('COMMENT ON TABLE "Sales & ""Co""".%1$I IS %1$L', name);
  EXECUTE format('COMMENT ON COLUMN "Sales & ""Co""".%1$I.%1$I IS %1$L', name);
  EXECUTE format('CREATE INDEX ON "Sales & ""Co""".%1$I ("from", "a ""b"" c")', name);
END $$;
SELECT pg_temp.awkward(name) FROM unnest(ARRAY[
  'with space', 'dou"ble', 'sin''gle', E'new\nline', E'carriage\r\nreturn', E'tab\ttab', E'back\\slash', E'\\.', 'semi;colon--', '/* comment',
  'star*', 'question?', 'dot.dot', 'a.b.c', '*', '*.*', '.', '?', '[abc]', '(a|b)+', '$1', '${HOME}', '`id`', '$(id)', '%s%n', '--flag', '-T',
  'UPPER', 'upper', 'MiXeD', 'select', 'table', 'user', 'order', 'été', 'e' || U&'\0301' || 't' || U&'\0301', '新聞', '🗞️', U&'\00A0', ' ', '  x  ',
  repeat('x', 63), repeat('é', 31), '../../etc/passwd', 'C:\temp', 'NULL', 'true', '0', '1e5', 'a,b', '{a}', '"', '""', '''', '#hash', '~', '|pipe', '&', '!'
]) AS name;
-- One table name that starts as another one's pattern would.
CREATE TABLE "Sales & ""Co""".abc (id int PRIMARY KEY);
INSERT INTO "Sales & ""Co""".abc VALUES (1);
CREATE TABLE "select"."select" ("from" int, "where" text, PRIMARY KEY ("where", "from"));
INSERT INTO "select"."select" VALUES (1, 'x'), (2, 'x'), (1, 'y');
CREATE TABLE torture_login.mine ("*" int PRIMARY KEY, "?" text);
INSERT INTO torture_login.mine VALUES (1, '?'), (2, '*');
ALTER TABLE torture_login.mine OWNER TO torture_login;
CREATE TYPE "Sales & ""Co"".Type" AS ENUM ('a b', 'c"d', 'e''f', E'g\nh', E'i\\j');
CREATE TABLE "Sales & ""Co""".values_of_type (v "Sales & ""Co"".Type" PRIMARY KEY, w "Sales & ""Co"".Type"[]);
INSERT INTO "Sales & ""Co""".values_of_type SELECT e, ARRAY[e, e] FROM unnest(enum_range(NULL::"Sales & ""Co"".Type")) e;
CREATE SEQUENCE "Sales & ""Co"""."seq ""uence" START 5;
SELECT nextval($q$"Sales & ""Co"""."seq ""uence"$q$);
