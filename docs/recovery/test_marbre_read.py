#!/usr/bin/env python3
"""Tests of marbre-read.py against repositories written here by hand, from docs/FORMAT.md and with stock tools alone:
a second implementation of the writer. Run: python3 docs/recovery/test_marbre_read.py

Needs age, zstd, ssh-keygen, sqlite3 and the programs of a PostgreSQL server (in PG_BIN, or Debian's newest).
"""
import copy, difflib, hashlib, json, math, os, random, re, shutil, sqlite3, struct, subprocess, tempfile, unittest
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


def documented(name):
    """A block of commands in RECOVERY.md."""
    return READER.parent.with_name("RECOVERY.md").read_text().split(f"<!-- tested: {name} -->\n```sh\n")[1].split("```")[0]


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

    def snapshot(self, streams, engine="sqlite", settings={}, details={}, signer=None, length=2500, size=1000,
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
                  "settings": settings, "inventory": {}, "details": details}
        self.manifest = {**place, "source": source, "row_key": "00" * 32, "packs": packs, "streams": entries, "unknown": 1}
        self.receipt = {**place, "kind": "snapshot", "sequence": 1, "previous": None, "agent": "by hand", "engine": engine,
                   "consistent_at": "2026-11-22T02:00:01Z", "recipients": [sha256(self.recipient.encode())],
                   **receipt_changes}
        self.record(json.dumps(self.manifest).encode(), self.receipt, signer or self.agent)

    def record(self, manifest, receipt, signer):
        """Puts a manifest, which may be any bytes, and signs a receipt that names all objects."""
        plain = frame(manifest)
        plain += skippable(0x184D2A50, bytes(padme(len(plain) + 8) - len(plain) - 8))
        self.put(f"manifests/{SNAPSHOT}.json.zst.age", self.seal(plain))
        objects = sorted(self.objects.values(), key=lambda o: o["key"])
        self.sign(receipt(objects) if callable(receipt) else {"objects": objects, **receipt}, signer)

    def sign(self, receipt, key):
        path = self.base / "receipts" / f"{SNAPSHOT}.json"
        path.parent.mkdir(exist_ok=True)
        receipt = receipt if isinstance(receipt, bytes) else canonical(receipt)
        path.write_bytes(receipt)
        path.with_suffix(".json.sig").write_bytes(
            run("ssh-keygen", "-Y", "sign", "-n", "snapshot-receipt@marbre", "-f", key, input=receipt))

    def read(self, *more, key=None, trust=None, timeout=None):
        trust = trust or ["--allowed-signers", self.folder / "allowed_signers"]
        command = ["python3", READER, self.folder / "objects", "--key", key or self.restore_key, *trust, "--out", self.folder / "out", *more]
        return subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=timeout)

    def by_hand(self):
        """The commands of RECOVERY.md, with the paths of this repository."""
        script = documented("by hand")
        for name, path in [("KEY", self.restore_key), ("SIGNERS", self.folder / "allowed_signers"), ("OUT", self.folder / "out")]:
            script = re.sub(rf"\b{name}=/path/to/[a-z_.]+", f"{name}={path}", script, count=1)
        return script

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
        script = self.repository.by_hand()
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
CREATE FUNCTION has_child(int) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM public.child WHERE id = $1)';
CREATE TABLE before_child (id int CHECK (has_child(id)));
INSERT INTO before_child SELECT generate_series(1, 50);
CREATE TABLE none ();
INSERT INTO none DEFAULT VALUES;
CREATE VIEW v AS SELECT count(*) FROM child;
GRANT SELECT ON v TO reader;
SELECT lo_from_bytea(0, 'large');
'''


class Hostile(unittest.TestCase):
    """Whoever holds the signing key can sign anything. What they sign is refused, or is data: it runs nothing here, writes
    nowhere else, and ends in an error that says what is wrong. MARK is the file that it tries to make."""
    TEXTS = ["", "\n", "a\nb", "x\ntouch MARK\n", "'; touch MARK; '", '"; touch MARK; "', "$(touch MARK)", "`touch MARK`",
             "\\! touch MARK", "x\n\\! touch MARK\n", "'\n\\! touch MARK\n--", "\\'; \\! touch MARK\n--", "\\.\n\\! touch MARK\n",
             "a[$(touch MARK)]", "x -o MARK", "-oMARK", "--output=MARK", "; touch MARK #", "| touch MARK", "../mark", "../../mark",
             "MARK", "rows/../../mark", "rows/0001/x", "rows", ".", "..", "-x", "load.sh", "Load.sh", "settings.sql", "manifest.json",
             "a\0b", "\x1b]0;x\x07\x1b[2J", "\u009b2J", "\u202etxt", "\ud800", "/dev/zero", "/dev/fd/0", "x" * 300_000, "%s%n", "{0}"]
    NUMBERS = [-1, 0, 1, 2, 255, 1 << 31, 1 << 40, (1 << 62), (1 << 63) - 1, 1 << 63, 1 << 64, 10 ** 30, 0.5, 1e300, float("nan"), float("inf")]
    OTHERS = [None, True, False, [], {}, [[]], [None], [[0, 0, 1]], {"": ""}]

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.mark = self.folder / "mark"
        self.repository = Repository(self.folder)
        table = lambda name, rows: {"schema": "public", "table": name, "columns": ["a", "b"], "rows": rows, "digest": "00" * 16}
        rows = [b"".join(b"%d\tname %d\n" % (n, n + night) for n in range(400)) for night in range(2)]
        details = {"config_tables": [{"schema": "public", "table": "t", "columns": ["a"], "condition": "WHERE a > 1"}],
                   "scattered": [{"partition": {"schema": "public", "table": "u"}, "root": {"schema": "public", "table": "t"}}],
                   "session": {"TimeZone": "Europe/Paris", "DateStyle": "SQL, DMY", "IntervalStyle": "postgres", "search_path": '"$user", public'},
                   "globals": {"settings": [{"role": "app", "in_database": True, "name": "search_path", "value": "app, public"}]}}
        streams = [("schema.dump", "bytes", [], b"schema"), ("data.dump", "bytes", [], b"data"), ("globals.sql", "bytes", [], b"SELECT 1;\n"),
                   ("sequences.sql", "bytes", [], b"SELECT 2;\n"), ("rows/0001", "rows", [table("t", 400)], rows), ("rows/0002", "rows", [table("u", 1)], b"1\t2\n")]
        self.repository.snapshot(streams, "postgres", {"DateStyle": "SQL, DMY", "TimeZone": "Europe/Paris"}, details)
        # Tools that do nothing, but note a script: psql would obey it. And one that says of every table that its rows belong elsewhere.
        tools = self.folder / "tools"
        tools.mkdir()
        (tools / "psql").write_text(f"""#!/bin/sh
while [ $# -gt 0 ]; do
    case "$1" in
        -f) cat "$2" >> ../scripts; if [ "$2" = /dev/stdin ]; then cat ../root; exit; fi ;;
        '\\echo '*) exit 3 ;;
    esac
    shift
done
""")
        (self.folder / "root").write_text(f"\"a'$(touch {self.mark})`touch {self.mark}`; touch {self.mark}\n\\! touch {self.mark}\n\".t\n")
        (tools / "pg_restore").write_text("#!/bin/sh\necho '1; 2 3 TABLE t'\n")
        for tool in tools.iterdir():
            tool.chmod(0o755)
        self.environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "GLOBALS": "1"}
        reader = READER.read_text()
        self.constant = (reader.split('SESSION_SQL = r"""')[1].split('"""')[0] + reader.split("<<'ROOT'\n")[1].split("ROOT\n")[0]).splitlines()
        self.before = self.files()

    def files(self):
        """Everything that is there, but for what is read and what is made."""
        return sorted(str(p) for p in self.folder.rglob("*") if p.relative_to(self.folder).parts[0] not in ("objects", "out", "scripts"))

    def harmless(self, done):
        """A run ended as it may, and left nothing behind but in its folder."""
        self.assertIn(done.returncode, (0, 1, 2, 5, 9, 11), done.stderr)
        said = done.stdout + done.stderr
        self.assertNotIn("Traceback", said)
        self.assertNotRegex(said, "[^\\n\\r\\t -~\\xa0-\\ud7ff\\ue000-\\uffff]|[\\u202a-\\u202e]")
        if done.returncode:
            self.assertRegex(done.stderr, r"error: .{10}")
            self.assertNotRegex(done.stderr, r"error: (KeyError|TypeError|AttributeError|IndexError|UnicodeE)")
        self.assertEqual(self.files(), self.before)
        for path in (self.folder / "out").rglob("*"):
            self.assertTrue(path.is_dir() or path.is_file() and not path.is_symlink(), path)

    def attack(self, manifest, receipt=None):
        """Reads a snapshot with this manifest and this receipt, and loads it where that succeeds."""
        text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
        self.repository.record(text, receipt or self.repository.receipt, self.repository.agent)
        shutil.rmtree(self.folder / "out", ignore_errors=True)
        done = self.repository.read(timeout=120)
        self.harmless(done)
        for shell in ("dash", "bash") if done.returncode == 0 else ():
            load = subprocess.run([shell, "load.sh", "db"], cwd=self.folder / "out", env=self.environment, capture_output=True, timeout=120)
            self.assertNotRegex(load.stdout + load.stderr, b"[\0-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]")
            self.assertEqual(self.files(), self.before)
        scripts = self.folder / "scripts"
        for line in scripts.read_text().splitlines() if scripts.exists() else ():
            if line not in self.constant:
                self.assertRegex(line, r"^SET [a-z_]+ = '[^'\\]*';$|^SELECT pg_catalog.set_config\('search_path', '', false\) \\g /dev/null$")
        return done

    def value(self, chance):
        value = chance.choice(chance.choice([self.TEXTS, self.TEXTS, self.NUMBERS, self.OTHERS]))
        return value.replace("MARK", str(self.mark)) if isinstance(value, str) else value

    def mutated(self, document, chance):
        """A copy in which one value somewhere is another, is missing, or is there twice."""
        document = copy.deepcopy(document)
        place = document
        while True:
            keys = list(place) if isinstance(place, dict) else range(len(place))
            if not keys:
                return document
            key = chance.choice(keys)
            if not isinstance(place[key], (dict, list)) or chance.random() < 0.15:
                break
            place = place[key]
        change = chance.random()
        if change < 0.1:
            del place[key]
        elif change < 0.2 and isinstance(place, list):
            place.append(copy.deepcopy(place[key]))
        elif change < 0.5 and isinstance(place[key], str):
            text = self.value(chance)
            place[key] = chance.choice([place[key] + str(text), str(text) + place[key]])
        else:
            place[key] = self.value(chance)
        return document

    def test_whatever_is_signed_runs_nothing(self):
        long = os.environ.get("MARBRE_TEST_LONG")
        for seed in range(2000 if long else 80):
            chance = random.Random(seed)
            manifest, receipt = self.repository.manifest, self.repository.receipt
            for _ in range(chance.choice([1, 1, 3])):
                if chance.random() < 0.8:
                    manifest = self.mutated(manifest, chance)
                else:
                    receipt = lambda objects, chance=chance: as_json(self.mutated({"objects": objects, **self.repository.receipt}, chance))
            with self.subTest(seed=seed):
                self.attack(manifest, receipt)

    def test_every_text_in_every_name(self):
        """The places that end up in load.sh and settings.sql, with every hostile text."""
        places = [lambda m, t: m["source"].update(version=t), lambda m, t: m["source"]["settings"].update(DateStyle=t, TimeZone=t),
                  lambda m, t: m["source"]["settings"].update({t: "x"}), lambda m, t: m["source"].update(consistency_point=t)]
        for name in ("schema", "table"):
            places.append(lambda m, t, name=name: [s["tables"][0].update({name: t}) for s in m["streams"][4:]])
        places.append(lambda m, t: m["streams"][4]["tables"][0].update(columns=[t, t]))
        places.append(lambda m, t: m["source"]["details"]["config_tables"][0].update(condition=t))
        places.append(lambda m, t: m["source"]["details"]["scattered"][0]["root"].update(table=t))
        places.append(lambda m, t: m["source"]["details"]["session"].update(search_path=t))
        places.append(lambda m, t: m["source"]["details"]["session"].update(TimeZone=t))
        places.append(lambda m, t: m["source"]["details"]["session"].update({t: t}))
        places.append(lambda m, t: m["source"]["details"]["globals"]["settings"][0].update(role=t, value=t))
        for seed, place in enumerate(places):
            # All at once, so that a few runs do; those that are refused for the others' sake are tried alone above.
            for text in (t.replace("MARK", str(self.mark)) for t in self.TEXTS if len(t) < 1000):
                if os.environ.get("MARBRE_TEST_LONG") or random.Random(f"{seed} {text!a}").random() < 0.12:
                    manifest = copy.deepcopy(self.repository.manifest)
                    place(manifest, text)
                    with self.subTest(place=seed, text=text):
                        self.attack(manifest)

    def test_what_is_no_manifest(self):
        good = json.dumps(self.repository.manifest).encode()
        for text in (b"", b"[]", b"null", b"[" * 200_000, b'{"a":' * 200_000, good[:-1], good + good, b"\xff" + good, b'{"format":' + b"9" * 2_000_000 + b"}",
                     good.replace(b'"unknown": 1', b'"unknown": ' + b"7" * 5000), good.replace(b'"unknown": 1', b'"unknown": 1e999')):
            with self.subTest(text=text[:40]):
                self.attack(text)

    def test_what_is_no_key_of_an_epoch_is_given_to_nobody(self):
        plugin = self.folder / "tools" / "age-plugin-evil"
        plugin.write_text(f"#!/bin/sh\ntouch {self.mark}\n")
        plugin.chmod(0o755)
        self.before = self.files()
        os.environ["PATH"], path = self.environment["PATH"], os.environ["PATH"]
        self.addCleanup(lambda: os.environ.update(PATH=path))
        good = (self.folder / "epoch.key").read_bytes()
        # The identity of a plugin: Bech32 of nothing, with its checksum.
        evil = b"AGE-PLUGIN-EVIL-1" + bech32_checksum("age-plugin-evil-") + b"\n"
        for content in (evil, good + evil, b"", b"# nothing\n", good * 2, b"#" * 900_000 + b"\n", b"x" * 900_000, good.replace(b"-1", b"-1\x1b[2J")):
            self.repository.put("epoch.age", run("age", "-r", self.repository.recipient, input=content))
            with self.subTest(content=content[:40]):
                self.assertEqual(self.attack(self.repository.manifest).returncode, 9)
                self.assertEqual(self.by_hand("sh").returncode == 0, content == good * 2)
                self.assertEqual(self.files(), self.before)

    def test_more_bytes_than_there_is_space_are_not_written(self):
        for pack, text in ((0, "more than the 68719476736 bytes that a pack may hold"), (None, "lost pack")):
            manifest = copy.deepcopy(self.repository.manifest)
            manifest["streams"][0].update(length=1 << 50, layers=[{"length": 1 << 50, "data": [[pack, 0, 1 << 40]] * 1024}])
            self.assertIn(text, self.attack(manifest).stderr)
        manifest = copy.deepcopy(self.repository.manifest)
        streams = manifest["streams"]
        # Of the bytes in the packs nothing is wrong, but there is no disk that takes them so many times.
        free = shutil.disk_usage(self.folder).free
        copies = free // (60 << 30) + 1
        manifest["packs"] *= copies
        streams += [{**streams[0], "name": f"copy/{n}", "length": 60 << 30, "layers": [{"length": 60 << 30, "data": [[3 * n, 0, 60 << 30]]}]} for n in range(copies)]
        done = self.attack(manifest)
        self.assertEqual(done.returncode, 1)
        self.assertIn("the streams need", done.stderr)
        self.assertEqual(list((self.folder / "out").iterdir()), [])

    def test_layers_make_no_more_than_their_length(self):
        manifest = copy.deepcopy(self.repository.manifest)
        manifest["streams"][4]["length"] = manifest["streams"][4]["layers"][1]["length"] = 100
        self.assertIn("its layers make more than its length", self.attack(manifest).stderr)
        self.assertEqual((self.folder / "out/rows/0001").stat().st_size, 0)
        manifest["streams"][4]["layers"] *= 129
        self.assertIn("more than 256 layers", self.attack(manifest).stderr)

    def by_hand(self, shell):
        shutil.rmtree(self.folder / "out", ignore_errors=True)
        return subprocess.run([shell, "-c", self.repository.by_hand()], cwd=self.repository.base, capture_output=True, text=True, errors="replace", timeout=120)

    def test_the_commands_of_recovery_md_run_nothing_either(self):
        def stream(m):
            return m["streams"][4]
        changes = [lambda m: stream(m).update(name="../mark"), lambda m: stream(m).update(name="x\n../mark"), lambda m: stream(m).update(name=str(self.mark)),
                   lambda m: stream(m).update(name="x$(touch ../mark)"), lambda m: stream(m).update(name=".epoch.key"),
                   lambda m: stream(m)["layers"][0]["data"][0].__setitem__(1, f"a[$(touch$IFS{self.mark})]"),
                   lambda m: stream(m)["layers"][0]["data"][0].__setitem__(2, f"1;touch {self.mark}"),
                   lambda m: stream(m)["layers"][1]["script"].__setitem__(0, {"a": 1}),
                   lambda m: m["packs"][0].update(sha256="../../../../mark"), lambda m: m["packs"][0].update(sha256="00" * 32),
                   lambda r: r.update(epoch=f"{EPOCH} -o {self.mark} "), lambda r: r.update(epoch=f"{EPOCH}\n-o{self.mark}"),
                   lambda r: r.update(publisher="\x1b[2J"), lambda r: r["objects"].append({"key": "/dev/zero", "sha256": "00" * 32, "size": 1})]
        for number, change in enumerate(changes):
            manifest = copy.deepcopy(self.repository.manifest)
            if change.__code__.co_varnames[0] == "m":
                change(manifest)
            def receipt(objects):
                made = {"objects": list(objects), **self.repository.receipt}
                if change.__code__.co_varnames[0] == "r":
                    change(made)
                return as_json(made)
            self.repository.record(json.dumps(manifest).encode(), receipt, self.repository.agent)
            for shell in ("dash", "bash"):
                with self.subTest(change=number, shell=shell):
                    done = self.by_hand(shell)
                    self.assertNotEqual(done.returncode, 0, done.stdout)
                    self.assertNotIn("\x1b", done.stdout + done.stderr)
                    self.assertEqual(self.files(), self.before)
        # Two documents in one: the first must not hide behind the second.
        bad = copy.deepcopy(self.repository.manifest)
        stream(bad)["name"] = "../mark"
        self.repository.record((json.dumps(bad) + json.dumps(self.repository.manifest)).encode(), self.repository.receipt, self.repository.agent)
        self.assertNotEqual(self.by_hand("sh").returncode, 0)
        self.assertEqual(self.files(), self.before)


def as_json(receipt):
    """Canonical where it can be, and any bytes where not."""
    return json.dumps(receipt, sort_keys=True, separators=(",", ":")).encode()


def bech32_checksum(prefix):
    """The checksum of Bech32 for no data, in upper case."""
    def polymod(values):
        check = 1
        for value in values:
            top, check = check >> 25, (check & 0x1FFFFFF) << 5 ^ value
            for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
                check ^= generator if top >> bit & 1 else 0
        return check
    letters = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    code = polymod(letters + [0] * 6) ^ 1
    return "".join("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"[code >> 5 * (5 - n) & 31] for n in range(6)).encode()


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
                  ("public", "before_child", ["id"], 50), ("public", "part_1", ["id", "v"], 99), ("public", "child", ["id", "parent"], 50), ("public", "none", [], 1)]
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
        self.assertIn('not loaded: rows/0002 into "public"."before_child" (see above)\n== rows that were not loaded, again\n== numbers', load.stdout)
        whole = lambda database: [l for l in run("pg_dump", "-d", database, "--inserts", "--rows-per-insert=1", env=self.environment).splitlines()
                                  if not l.startswith((b"\\restrict", b"\\unrestrict"))]
        self.psql("source", "GRANT SELECT ON v TO reader")
        self.psql("postgres", "ALTER DATABASE source RESET datestyle")
        self.assertEqual(whole("destination"), whole("source"))
        # A destination that is not empty is noticed, not passed over.
        again = subprocess.run([str(self.folder / "out/load.sh"), "destination"], env=self.environment, capture_output=True, text=True)
        self.assertEqual(again.returncode, 1)
        self.assertIn("WITH ERRORS", again.stderr)


    def test_what_psql_would_obey_is_data(self):
        """`\!` in every place from which something goes to a server: as a statement, a row, a name, a setting."""
        self.psql("postgres", "CREATE DATABASE source TEMPLATE template0")
        self.psql("postgres", "CREATE DATABASE destination TEMPLATE template0")
        name = "n\n\\! touch mark\n"
        self.psql("source", f'CREATE TABLE "{name}" ("{name}" text); CREATE SEQUENCE s')
        command = f"\\! touch {self.folder}/mark"
        attack = f"{command}\n'\n{command}\n'; {command}\n\\.\n{command}\n\\\\ {command}\n".encode()
        dump = run("pg_dump", "-Fc", "--section=pre-data", "--section=post-data", "-d", "source", env=self.environment)
        table = {"schema": "public", "table": name, "columns": [name], "rows": 4, "digest": "00" * 16}
        globals_ = b"CREATE ROLE before;\nCREATE DATABASE other;\n" + attack.replace(b"\n\\.", b"") + b"CREATE ROLE before;\nCREATE ROLE after;\n"
        streams = [("schema.dump", "bytes", [], dump), ("rows/0001", "rows", [table], b"a\nb\n\\.\n" + command.encode() + b"\n"),
                   ("globals.sql", "bytes", [], globals_), ("sequences.sql", "bytes", [], b"SELECT setval('public.s', 7);\n" + attack)]
        repository = Repository(self.folder)
        details = {"session": {"TimeZone": "Europe/Paris", "search_path": f'"$user", "\'; {command}\n{command}\n"'},
                   "globals": {"settings": [{"role": role, "in_database": False, "name": "SEARCH_PATH", "value": f'"{name}"'} for role in ("postgres", name)]}}
        repository.snapshot(streams, engine="postgres", settings={"server_version": name}, details=details)
        repository.manifest["source"]["version"] = f"15\n{command}\ntouch {self.folder}/mark\n"
        repository.record(json.dumps(repository.manifest).encode(), repository.receipt, repository.agent)
        self.assertEqual(repository.read().returncode, 0)
        load = subprocess.run([str(self.folder / "out/load.sh"), "destination"], env={**self.environment, "GLOBALS": "1"}, capture_output=True, text=True)
        self.assertEqual(load.returncode, 1)
        self.assertEqual(list(self.folder.rglob("mark")), [])
        # What was good came through; what was not is said.
        roles = self.psql("postgres", "SELECT string_agg(rolname, ' ' ORDER BY oid) FROM pg_roles WHERE rolname IN ('before', 'after')")
        self.assertEqual(roles, b"before after\n")
        self.assertIn('role "before" already exists', load.stdout)
        self.assertIn("FAILED: sequences", load.stdout)
        self.assertIn("has 2 rows, not 4", load.stdout)
        self.assertIn(": 2 rows, not 4", load.stdout)
        self.assertEqual(self.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname = 'other'"), b"0\n")
        # RECOVERY.md gives people the same function.
        function = documented("statements")
        self.assertIn(function, (self.folder / "out/load.sh").read_text())

if __name__ == "__main__":
    unittest.main()
