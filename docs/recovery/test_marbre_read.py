#!/usr/bin/env python3
"""Tests of marbre-read.py against repositories written here by hand, from docs/FORMAT.md and with stock tools alone:
a second implementation of the writer. Run: python3 docs/recovery/test_marbre_read.py

Needs age, zstd, ssh-keygen, sqlite3 and the programs of a PostgreSQL server (in PG_BIN, or Debian's newest).
"""
import difflib, hashlib, json, math, os, re, shutil, sqlite3, struct, subprocess, tempfile, unittest
from pathlib import Path

READER = Path(__file__).with_name("marbre-read.py")
EPOCH, SNAPSHOT = "20261122T020000Z-00000001", "20261122T020000Z-1f3a9c4e"


def run(*command, input=None, **options):
    done = subprocess.run([str(c) for c in command], input=input, capture_output=True, **options)
    if done.returncode != 0:
        raise AssertionError(f"{command[0]} failed: {done.stderr.decode()}")
    return done.stdout


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def padme(length):
    e = math.floor(math.log2(length))
    low = e - (math.floor(math.log2(e)) + 1)
    return (length + (1 << low) - 1) >> low << low


def skippable(magic, content):
    return struct.pack("<II", magic, len(content)) + content


def leb128(number):
    out = bytearray()
    while number >= 128:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out + bytes([number]))


def edit_script(old, new):
    """What makes the lines `new` of the lines `old`: a script, and the bytes that it takes."""
    size = lambda lines: sum(map(len, lines))
    script, taken = bytearray(), b""
    for tag, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        copied = size(new[c:d]) if tag == "equal" else 0
        fresh = b"" if tag == "equal" else b"".join(new[c:d])
        script += leb128(copied) + leb128(0 if tag == "equal" else size(old[a:b])) + leb128(len(fresh))
        taken += fresh
    return bytes(script), taken


def frame(data):
    return run("zstd", "-cq", f"--stream-size={len(data)}", input=data)


def pack_plaintext(data, padded, size):
    frames = [(frame(data[i:i + size]), len(data[i:i + size])) for i in range(0, len(data), size)]
    body = b"".join(f for f, _ in frames)
    sizes = [(len(f), n) for f, n in frames]
    table = lambda: skippable(0x184D2A5E, b"".join(struct.pack("<II", *s) for s in sizes) + struct.pack("<IBI", len(sizes), 0, 0x8F92EAB1))
    if padded:
        sizes.append((8, 0))
        missing = padme(len(body) + 8 + len(table())) - (len(body) + 8 + len(table()))
        sizes[-1] = (8 + missing, 0)
        body += skippable(0x184D2A50, bytes(missing))
    return body + table()


class Repository:
    """A target's directory with one publisher, one database, one epoch."""
    def __init__(self, folder):
        self.folder, self.base = folder, folder / "objects" / "le-monde" / "abonnes"
        self.restore_key, self.agent = folder / "restore.key", folder / "agent"
        for path in (self.restore_key, folder / "epoch.key", folder / "other.key"):
            run("age-keygen", "-o", path)
        for path in (self.agent, folder / "stranger"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path)
        self.recipient = run("age-keygen", "-y", self.restore_key).decode().strip()
        self.epoch_recipient = run("age-keygen", "-y", folder / "epoch.key").decode().strip()
        (folder / "allowed_signers").write_text("agent " + (folder / "agent.pub").read_text())
        self.objects = {}
        self.put("epoch.age", run("age", "-r", self.recipient, input=(folder / "epoch.key").read_bytes()))

    def put(self, name, data):
        path = self.base / "epochs" / EPOCH / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        key = f"epochs/{EPOCH}/{name}"
        self.objects[key] = {"key": key, "sha256": sha256(data), "size": len(data)}
        return path

    def seal(self, data):
        return run("age", "-r", self.epoch_recipient, input=data)

    def snapshot(self, streams, engine="sqlite", settings={}, signer=None, length=2500, size=1000,
                 change=lambda layers: None, lose=lambda layers: [], **receipt_changes):
        """Cuts streams (name, kind, tables, bytes) into runs of a length, which go to three packs in turn; cuts packs
        into frames of a size that no run fits. Instead of bytes, a stream may have a list of versions, each of which is a layer."""
        contents, entries, turn = [bytearray(b"x" * 10) for _ in range(3)], [], 0
        def extents(data):
            nonlocal turn
            placed = []
            for start in range(0, len(data), length):
                piece = data[start:start + length]
                placed.append([turn, len(contents[turn]), len(piece)])
                contents[turn] += piece
                turn = (turn + 1) % 3
            return placed
        for name, kind, tables, data in streams:
            versions = data if isinstance(data, list) else [data]
            data = versions[-1]
            layers = [{"length": len(versions[0]), "data": extents(versions[0])}] if versions[0] else []
            for old, new in zip(versions, versions[1:]):
                script, taken = edit_script(old.splitlines(keepends=True), new.splitlines(keepends=True))
                layers.append({"length": len(new), "script": extents(script), "data": extents(taken)})
            for extent in lose(layers):
                extent[0] = None
            change(layers)
            entries.append({"name": name, "kind": kind, "length": len(data), "sha256": sha256(data), "tables": tables, "layers": layers})
        packs = []
        for number, content in enumerate(contents):
            data = self.seal(pack_plaintext(bytes(content), number == 2, size))
            self.put(f"packs/{sha256(data)}.zst.age", data)
            packs.append({"sha256": sha256(data), "size": len(data)})
        place = {"format": 1, "publisher": "le-monde", "database": "abonnes", "snapshot": SNAPSHOT, "epoch": EPOCH}
        source = {"engine": engine, "version": "15", "consistent_at": "2026-11-22T02:00:01Z", "consistency_point": "",
                  "settings": settings, "inventory": {}, "details": {}}
        manifest = {**place, "source": source, "row_key": "00" * 32, "packs": packs, "streams": entries, "unknown": 1}
        plain = frame(json.dumps(manifest).encode())
        plain += skippable(0x184D2A50, bytes(padme(len(plain) + 8) - len(plain) - 8))
        self.put(f"manifests/{SNAPSHOT}.json.zst.age", self.seal(plain))
        receipt = {**place, "kind": "snapshot", "sequence": 1, "previous": None, "agent": "by hand", "engine": engine,
                   "consistent_at": "2026-11-22T02:00:01Z", "recipients": [sha256(self.recipient.encode())],
                   "objects": sorted(self.objects.values(), key=lambda o: o["key"]), **receipt_changes}
        self.sign(receipt, signer or self.agent)

    def sign(self, receipt, key):
        path = self.base / "receipts" / f"{SNAPSHOT}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(canonical(receipt))
        path.with_suffix(".json.sig").write_bytes(
            run("ssh-keygen", "-Y", "sign", "-n", "snapshot-receipt@marbre", "-f", key, input=canonical(receipt)))

    def read(self, *more, key=None, trust=None):
        trust = trust or ["--allowed-signers", self.folder / "allowed_signers"]
        command = ["python3", READER, self.folder / "objects", "--key", key or self.restore_key, *trust, "--out", self.folder / "out", *more]
        return subprocess.run([str(c) for c in command], capture_output=True, text=True)

    def read_all(self, test, streams):
        done = self.read()
        test.assertEqual(done.returncode, 0, done.stderr)
        for name, data in streams.items():
            test.assertEqual((self.folder / "out" / name).read_bytes(), data)
        test.assertEqual([p.name for p in (self.folder / "out").iterdir() if p.name.startswith(".")], [])
        shutil.rmtree(self.folder / "out")


class Reader(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.repository = Repository(self.folder)

    def simple(self, rows=4000, **changes):
        data = b"".join(b"%d\t\xc3\xa9\n" % n for n in range(4000))
        table = {"schema": "", "table": "t", "columns": ["a", "b"], "rows": rows, "digest": "00" * 16}
        self.repository.snapshot([("rows/0001", "rows", [table], data), ("empty", "bytes", [], b"")], **changes)
        return data

    def refused(self, status, text, **options):
        done = self.repository.read(**options)
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertIn(text, done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        return done.stderr

    def packs(self):
        return sorted((self.repository.base / "epochs" / EPOCH / "packs").iterdir())

    def test_streams_come_back(self):
        data = self.simple()
        done = self.repository.read()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual((self.folder / "out/rows/0001").read_bytes(), data)
        self.assertEqual((self.folder / "out/empty").read_bytes(), b"")
        self.assertEqual((self.folder / "out/rows/0001").stat().st_mode & 0o777, 0o600)
        self.refused(1, "not empty")

    def test_runs_longer_than_a_block(self):
        data = hashlib.shake_256(b"seed").digest(4_000_000)
        self.repository.snapshot([("a/b", "bytes", [], data), ("c", "bytes", [], b"yyyyy")], length=1_300_000, size=1 << 20)
        self.assertEqual(self.repository.read().returncode, 0)
        self.assertEqual((self.folder / "out/a/b").read_bytes(), data)

    def versions(self):
        """A table over four nights: rows changed, removed, inserted, and all gone but a few."""
        nights = [[b"%d\tname %d\n" % (n, n) for n in range(3000)]]
        nights.append([row if n % 97 else row.upper() for n, row in enumerate(nights[0])])
        nights.append(nights[1][100:900] + nights[1][1500:] + [b"new %d\n" % n for n in range(200)])
        nights.append(nights[2][:5] + [b"x\n"] + nights[2][-300:])
        return [b"".join(rows) for rows in nights]

    def test_layers_are_put_together(self):
        versions = self.versions()
        for nights in range(1, 5):
            with self.subTest(nights=nights):
                self.repository.snapshot([("rows/0001", "bytes", [], versions[:nights]), ("b", "bytes", [], b"z" * 5000)], length=700)
                self.repository.read_all(self, {"rows/0001": versions[nights - 1], "b": b"z" * 5000})

    def test_bytes_that_are_lost_and_not_needed_do_not_matter(self):
        versions = self.versions()
        self.repository.snapshot([("rows/0001", "bytes", [], versions)], lose=lambda layers: layers[0]["data"][12:13])
        self.repository.read_all(self, {"rows/0001": versions[-1]})

    def test_a_script_that_does_not_fit_is_refused(self):
        for change, text in [(lambda l: l[1].update(length=5), "length"), (lambda l: l[1].update(script=[]), "lacks its script"),
                             (lambda l: l[1]["data"].pop(), "fewer bytes"), (lambda l: l[1]["script"].append([0, 0, 1]), "within a step"),
                             (lambda l: l[0]["data"].pop(), "add up")]:
            with self.subTest(text=text):
                self.repository.snapshot([("rows/0001", "bytes", [], self.versions()[:2])], change=change)
                self.refused(9, text)
                shutil.rmtree(self.folder / "out", ignore_errors=True)

    def test_the_commands_of_recovery_md(self):
        data = self.versions()
        self.repository.snapshot([("rows/0001", "bytes", [], data), ("one", "bytes", [], data[0])], length=4_000)
        data = data[-1]
        text = READER.parent.with_name("RECOVERY.md").read_text()
        script = text.split("<!-- tested: by hand -->\n```sh\n")[1].split("```")[0]
        for name, path in [("KEY", self.repository.restore_key), ("SIGNERS", self.folder / "allowed_signers"), ("OUT", self.folder / "out")]:
            script = re.sub(rf"\b{name}=/path/to/[a-z_.]+", f"{name}={path}", script, count=1)
        self.assertIn(f"SNAPSHOT={SNAPSHOT} ", script)
        output = run("sh", "-c", script, cwd=self.repository.base).decode()
        self.assertIn('Good "snapshot-receipt@marbre" signature', output)
        self.assertIn("rows/0001: OK", output)
        self.assertEqual((self.folder / "out/rows/0001").read_bytes(), data)
        pack = self.packs()[0]
        pack.write_bytes(pack.read_bytes()[:-1])
        done = subprocess.run(["sh", "-c", script], cwd=self.repository.base, capture_output=True, text=True)
        self.assertNotEqual(done.returncode, 0)

    def test_sqlite(self):
        path = self.folder / "source.sqlite"
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
            connection.executemany("INSERT INTO t VALUES (?, ?)", ((n, f"é{n}") for n in range(5000)))
        connection.close()
        self.repository.snapshot([("database.sqlite", {"pages": {"page_size": 4096}}, [], path.read_bytes())])
        self.assertEqual(self.repository.read("--database", "le-monde/abonnes", "--snapshot", SNAPSHOT).returncode, 0)
        dump = lambda file: run("sqlite3", file, ".dump")
        self.assertEqual(dump(self.folder / "out/database.sqlite"), dump(path))

    def test_a_signer_is_confirmed_by_fingerprint(self):
        self.simple()
        listed = run("ssh-keygen", "-l", "-f", self.repository.agent).decode().split()[1]
        shown = self.refused(11, listed, trust=["--accept-signer", "SHA256:other"])
        self.assertIn("--accept-signer", shown)
        self.assertEqual(self.repository.read(trust=["--accept-signer", listed]).returncode, 0)

    def test_of_two_snapshots_of_a_second_the_one_with_the_higher_number_is_newer(self):
        self.simple()
        receipts = self.repository.base / "receipts"
        older = (receipts / f"{SNAPSHOT}.json").read_bytes().replace(b'"sequence":1', b'"sequence":0')
        (receipts / f"{SNAPSHOT[:17]}ffffffff.json").write_bytes(older)
        self.assertEqual(self.repository.read().returncode, 0)

    def test_a_key_that_was_replaced_is_good_for_what_it_signed_before(self):
        self.simple(finished_at="2026-11-22T02:00:05Z")
        allowed = self.folder / "allowed_signers"
        line = allowed.read_text().removeprefix("agent ")
        allowed.write_text(f'agent valid-before="20261123000000Z" {line}')
        self.assertEqual(self.repository.read().returncode, 0)
        shutil.rmtree(self.folder / "out")
        allowed.write_text(f'agent valid-before="20261121000000Z" {line}')
        self.refused(11, "signature")

    def test_a_forgery_is_refused_before_it_is_decrypted(self):
        self.simple(signer=self.folder / "stranger")
        self.repository.restore_key.unlink()
        self.refused(11, "signature")
        self.assertFalse((self.folder / "out").exists())

    def test_a_changed_receipt_is_refused(self):
        self.simple()
        path = self.repository.base / "receipts" / f"{SNAPSHOT}.json"
        path.write_bytes(path.read_bytes().replace(b'"sequence":1', b'"sequence":2'))
        self.refused(11, "signature")

    def test_a_receipt_in_another_place_is_refused(self):
        self.simple()
        self.repository.base.rename(self.repository.base.with_name("other"))
        self.refused(9, "another database")

    def test_damage_is_found_in_every_object(self):
        self.simple()
        for path in [p for p in (self.repository.base / "epochs").rglob("*") if p.is_file()]:
            good = path.read_bytes()
            for bad in (good[:-1], good + b"x", good[:-1] + bytes([good[-1] ^ 1]), None):
                path.unlink() if bad is None else path.write_bytes(bad)
                self.refused(9, path.name)
                shutil.rmtree(self.folder / "out", ignore_errors=True)
            path.write_bytes(good)
        self.assertEqual(self.repository.read().returncode, 0)

    def test_an_object_that_is_not_in_the_receipt_is_not_used(self):
        self.simple()
        receipt = json.loads((self.repository.base / "receipts" / f"{SNAPSHOT}.json").read_bytes())
        receipt["objects"] = [o for o in receipt["objects"] if self.packs()[0].name not in o["key"]]
        self.repository.sign(receipt, self.repository.agent)
        self.refused(9, "not an object of this snapshot's receipt")

    def test_what_does_not_add_up_is_found(self):
        self.simple(rows=3999)
        self.refused(9, "4000 rows, not 3999")

    def test_keys_and_versions(self):
        self.simple()
        self.refused(11, "not among the recipients", key=self.folder / "other.key")
        self.simple(format=2)
        self.refused(1, "format 2")
        shutil.rmtree(self.repository.base / "receipts")
        self.refused(5, "no receipts")


TORTURE = r'''
CREATE ROLE reader;
CREATE SCHEMA "Odd ""schema""";
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TABLE "Odd ""schema"""."it's
two lines" ("key" int PRIMARY KEY, "a b" text, m mood, t timestamptz, f float8, b bytea, d int GENERATED ALWAYS AS (key * 2) STORED);
INSERT INTO "Odd ""schema"""."it's
two lines" SELECT n, CASE WHEN n % 7 = 0 THEN NULL ELSE E'é\t\\.\n' || n END, 'ok', '2026-01-02 12:00+01', 'NaN', '\x00ff' FROM generate_series(1, 5000) n;
CREATE TABLE part (id int, v text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (100);
INSERT INTO part SELECT n, repeat('x', n) FROM generate_series(1, 99) n;
CREATE TABLE child (id serial PRIMARY KEY, parent int REFERENCES part);
INSERT INTO child (parent) SELECT n FROM generate_series(1, 50) n;
CREATE TABLE none ();
INSERT INTO none DEFAULT VALUES;
CREATE VIEW v AS SELECT count(*) FROM child;
GRANT SELECT ON v TO reader;
SELECT lo_from_bytea(0, 'large');
'''


class Postgres(unittest.TestCase):
    """A real cluster, written by hand into a snapshot, read, and loaded by the load.sh that the reader wrote."""
    def setUp(self):
        found = [p.parent for p in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
        self.bin = Path(os.environ.get("PG_BIN") or max(found, key=lambda p: int(p.parent.name)))
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.folder.chmod(0o755)
        server = self.folder / "server"
        server.mkdir()
        # PostgreSQL never runs as root.
        self.drop = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.geteuid() == 0 else []
        if self.drop:
            shutil.chown(server, "postgres", "postgres")
        run(*self.drop, self.bin / "initdb", "-N", "-A", "trust", "-U", "postgres", "-E", "UTF8", "-D", server / "data", cwd="/")
        ctl = [*self.drop, self.bin / "pg_ctl", "-w", "-D", server / "data"]
        subprocess.run([str(c) for c in ctl] + ["-l", str(server / "log"), "-o", f"-c listen_addresses='' -k {server}", "start"],
                       check=True, cwd="/", stdout=subprocess.DEVNULL)
        self.addCleanup(lambda: run(*ctl, "-m", "immediate", "stop", cwd="/"))
        self.environment = {**os.environ, "PGHOST": str(server), "PGUSER": "postgres", "PATH": f"{self.bin}:{os.environ['PATH']}"}

    def psql(self, database, sql):
        return run("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql, env=self.environment)

    def test_load(self):
        for database in ("source", "destination"):
            self.psql("postgres", f"CREATE DATABASE {database} TEMPLATE template0")
        self.psql("source", TORTURE)
        # Text that means another day without the settings under which it was written.
        self.psql("postgres", "ALTER DATABASE source SET datestyle = 'SQL, DMY'")
        tables = [('Odd "schema"', "it's\ntwo lines", ["key", "a b", "m", "t", "f", "b"], 5000),
                  ("public", "part_1", ["id", "v"], 99), ("public", "child", ["id", "parent"], 50), ("public", "none", [], 1)]
        streams = []
        quote = lambda name: '"' + name.replace('"', '""') + '"'
        for number, (schema, table, columns, rows) in enumerate(tables, 1):
            name = f"{quote(schema)}.{quote(table)}"
            listed = ", ".join(map(quote, columns))
            text = self.psql("source", f"COPY {name} {f'({listed})' if listed else ''} TO STDOUT")
            proof = {"schema": schema, "table": table, "columns": columns, "rows": rows, "digest": "00" * 16}
            streams.append((f"rows/{number:04}", "rows", [proof], text))
        dump = lambda *more: run("pg_dump", "-d", "source", *more, env=self.environment)
        streams += [("schema.dump", "bytes", [], dump("-Fc", "--section=pre-data", "--section=post-data")),
                    ("data.dump", "bytes", [], dump("-Fc", "--section=data", "--exclude-table-data=*.*")),
                    ("sequences.sql", "bytes", [], b"SELECT pg_catalog.setval('public.child_id_seq', 50, true);\n"),
                    ("globals.sql", "bytes", [], run("pg_dumpall", "--globals-only", env=self.environment))]
        repository = Repository(self.folder)
        repository.snapshot(streams, engine="postgres", settings={"DateStyle": "SQL, DMY", "server_version": "not to be set"})
        self.assertEqual(repository.read().returncode, 0)
        self.psql("source", "DROP OWNED BY reader; DROP ROLE reader")
        load = subprocess.run([str(self.folder / "out/load.sh"), "destination"], env={**self.environment, "GLOBALS": "1"}, capture_output=True, text=True)
        self.assertEqual(load.returncode, 0, load.stderr)
        whole = lambda database: [l for l in run("pg_dump", "-d", database, "--inserts", "--rows-per-insert=1", env=self.environment).splitlines()
                                  if not l.startswith((b"\\restrict", b"\\unrestrict"))]
        self.psql("source", "GRANT SELECT ON v TO reader")
        self.psql("postgres", "ALTER DATABASE source RESET datestyle")
        self.assertEqual(whole("destination"), whole("source"))
        # A destination that is not empty is noticed, not passed over.
        again = subprocess.run([str(self.folder / "out/load.sh"), "destination"], env=self.environment, capture_output=True, text=True)
        self.assertEqual(again.returncode, 1)
        self.assertIn("WITH ERRORS", again.stderr)


if __name__ == "__main__":
    unittest.main()
