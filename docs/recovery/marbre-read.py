#!/usr/bin/env python3
"""Reads a marbre snapshot without marbre: from a directory of objects and a restore key to plain files.

    marbre-read.py OBJECTS --list
    marbre-read.py OBJECTS --key restore.key --allowed-signers allowed_signers --out restored

OBJECTS is what was downloaded from a target: it contains <publisher>/<database>/receipts and .../epochs.
Needs Python 3.9 or later and the commands age, zstd and ssh-keygen. The format is described in docs/FORMAT.md.

It checks the signature of the receipt, size and SHA-256 of every object before it is decrypted, and length and SHA-256
of every stream; for rows also their number. It cannot check row digests: they need BLAKE3, which Python does not have.
A signature says who wrote something, not that it is harmless: nothing that a snapshot says is run as a command here, names
a file outside of --out, reaches the terminal unescaped, or takes more space than there is.
Exit status: 0 all of it was checked and written; 2 usage; 5 not found; 9 verification failed; 11 key or signature; 1 else.
"""
import argparse, base64, contextlib, hashlib, json, os, re, shlex, shutil, subprocess, sys, tempfile, threading
from pathlib import Path

FORMAT = 1
NAMESPACE = "snapshot-receipt@marbre"
BLOCK = 1 << 20
PACK_LIMIT, RECEIPT_LIMIT, MANIFEST_LIMIT, EPOCH_LIMIT, SIGNATURE_LIMIT = 64 << 20, 64 << 20, 1 << 30, 1 << 20, 64 << 10
MOST_LAYERS, MOST_EXTENTS, PACK_CONTENT = 256, 1 << 24, 64 << 30
STREAM_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,127})*")
PLACE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
SNAPSHOT = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}")
SHA256 = re.compile(r"[0-9a-f]{64}")
IDENTITY = re.compile(r"AGE-SECRET-KEY-1[0-9A-Z]{58}")
SETTING = re.compile(r"[A-Za-z0-9 _,./+:@<>-]{0,100}")
NAME = re.compile(r"[^\0\ud800-\udfff]*")  # what PostgreSQL and UTF-8 can hold
# What the reader makes beside the streams.
GENERATED = {"manifest.json", "settings.sql", "session.sql", "session.json", "counts.txt", "load.sh", "load.status", "schema.list",
             "event-triggers.list", "others.list"}
# With these, sessions of the source began: what checks a row sees them.
SESSION = {"DateStyle?": SETTING, "IntervalStyle?": SETTING, "TimeZone?": SETTING, "search_path?": NAME}

class Problem(Exception):
    """What went wrong, the exit status, and what to do about it."""
    def __init__(self, status, message, remedy=""):
        super().__init__(message)
        self.status, self.remedy = status, remedy

def check(condition, message, remedy="Take this object from another target, if there is one."):
    if not condition:
        raise Problem(9, message, remedy)

def printable(text):
    """A text as a terminal may have it: a name could hold what moves the cursor, or turns the text around."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)

def say(*texts, file=None):
    print(*(printable(str(text)) for text in texts), sep="\n", file=file)

def shown(value):
    text = ascii(value)
    return text if len(text) <= 100 else text[:100] + "..."

def fit(value, shape, what):
    """Checks what was parsed from JSON: a pattern or `str` is a string, `int` a whole number, `[shape]` a list, and a
    dictionary an object, whose members may be absent where their name ends with a question mark."""
    if isinstance(shape, dict):
        check(isinstance(value, dict), f"{what} is not an object: {shown(value)}")
        for name, inner in shape.items():
            if name.rstrip("?") in value:
                fit(value[name.rstrip("?")], inner, f"{what}: {name.rstrip('?')}")
            else:
                check(name.endswith("?"), f"{what} has no {name}")
    elif isinstance(shape, list):
        check(isinstance(value, list), f"{what} is not a list: {shown(value)}")
        for item in value:
            fit(item, shape[0], what)
    elif shape is int:
        check(type(value) is int and 0 <= value < 1 << 63, f"{what} is not a number of this format: {shown(value)}")
    else:
        check(isinstance(value, str) and (shape is str or shape.fullmatch(value)), f"{what} is not valid: {shown(value)}")

RECEIPT = {"kind": str, "publisher": PLACE_NAME, "database": PLACE_NAME, "snapshot": SNAPSHOT, "epoch": SNAPSHOT, "sequence": int,
           "engine": str, "consistent_at": str, "objects": [{"key": str, "sha256": SHA256, "size": int}]}
TABLE_NAME = {"schema": NAME, "table": NAME}
STREAM = {"name": STREAM_NAME, "length": int, "sha256": SHA256, "tables?": [{**TABLE_NAME, "columns": [NAME], "rows": int}],
          "layers?": [{"length": int}]}  # and extents: see check_layers
MANIFEST = {"publisher": str, "database": str, "snapshot": str, "epoch": str, "packs": [{"sha256": SHA256, "size": int}],
            "source": {"engine": str, "settings": {}, "details?": {
                "session?": SESSION, "globals?": {"settings?": [{"name": NAME, "value": NAME}]},
                "config_tables?": [{**TABLE_NAME, "condition": NAME}], "scattered?": [{"partition": TABLE_NAME, "root": TABLE_NAME}]}}}

def find_database(root, wanted):
    found = {"/".join(p.parts[-3:-1]): p.parent for p in sorted(root.glob("**/receipts")) if len(p.parts) >= 3}
    if wanted in found:
        return found[wanted]
    if wanted is None and len(found) == 1:
        return next(iter(found.values()))
    if not found:
        raise Problem(5, f"no receipts below {root}", "Download the folder <publisher>/<database> as a whole.")
    raise Problem(5, f"which database? --database one of: {', '.join(found)}")

def order(base, snapshot):
    """Time, then number: names of the same second have no order. Nothing is checked yet."""
    number = re.search(rb'"sequence":([0-9]{1,19})[,}]', file_bytes(base / "receipts" / f"{snapshot}.json", RECEIPT_LIMIT))
    return snapshot[:16], int(number[1]) if number else 0

def file_bytes(path, limit):
    check(path.is_file(), f"{path} is not a file")
    with open(path, "rb") as file:
        data = file.read(limit + 1)
    check(len(data) <= limit, f"{path} is larger than the format allows")
    return data

def read_receipt(base, snapshot, arguments):
    """The receipt, after its signature was checked. Nothing in it is used before."""
    path = base / "receipts" / f"{snapshot}.json"
    signed = path.with_name(path.name + ".sig")
    for needed in (path, signed):
        if not needed.exists():
            raise Problem(5, f"{needed}: not there", "See what is there with --list; look at the other targets.")
    receipt, signature = file_bytes(path, RECEIPT_LIMIT), file_bytes(signed, SIGNATURE_LIMIT)
    key, fingerprint = signing_key(signature)
    if arguments.allowed_signers:
        allowed = arguments.allowed_signers.read_text()
    elif arguments.accept_signer == fingerprint:
        allowed = f"agent ssh-ed25519 {key}\n"
    else:
        raise Problem(11, f"the receipt of {snapshot} names the signer {fingerprint}, which nobody has confirmed",
                      "Compare it with the fingerprint that the provider gave you by another way (a call, the contract). "
                      f"If it is the same, add: --accept-signer {fingerprint}")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "allowed").write_text(allowed)
        Path(folder, "sig").write_bytes(signature)
        # A key that was replaced is good for what it signed before (valid-before): what counts is when it says that it signed.
        at = re.search(rb'"finished_at":"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)Z"', receipt)
        time = [f"-Overify-time={b''.join(at.groups()).decode()}Z"] if at and "valid-" in allowed else []
        done = subprocess.run(["ssh-keygen", "-Y", "verify", *time, "-f", f"{folder}/allowed", "-I", "agent", "-n", NAMESPACE,
                               "-s", f"{folder}/sig"], input=receipt, capture_output=True)
    if done.returncode != 0:
        raise Problem(11, f"the signature of {snapshot} by {fingerprint} is not good: {done.stderr.decode(errors='replace').strip()}",
                      "The receipt was changed, or its signer is not in allowed_signers. Do not use this copy; try another target.")
    receipt = parse(receipt, "the receipt")
    fit(receipt, RECEIPT, "the receipt")
    expected = {"kind": "snapshot", "publisher": base.parts[-2], "database": base.parts[-1], "snapshot": snapshot}
    for name, value in expected.items():
        check(receipt[name] == value, f"the receipt in the place of {snapshot} is about another {name}: {shown(receipt[name])}")
    return receipt, fingerprint

def signing_key(armored):
    """The Ed25519 key that an SSHSIG names, in Base64, and its fingerprint."""
    try:
        lines = armored.decode().split("-----BEGIN SSH SIGNATURE-----")[1].split("-----END")[0]
        blob = base64.b64decode("".join(lines.split()), validate=True)
        key = blob[14:14 + int.from_bytes(blob[10:14], "big")]
        if blob[:10] != b"SSHSIG\0\0\0\1" or key[:15] != b"\0\0\0\x0bssh-ed25519" or len(key) != 51:
            raise ValueError
    except (ValueError, IndexError):
        raise Problem(11, "the receipt's signature is not an SSH signature by an Ed25519 key")
    digest = base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")
    return base64.b64encode(key).decode(), f"SHA256:{digest}"

def parse(text, what):
    """A JSON object of a format that this program knows."""
    def number(digits):  # longer ones take a time that grows with the square of their length
        return int(digits) if len(digits) <= 20 else check(False, f"{what} has a number that is too long")
    try:
        document = json.loads(text, parse_int=number)
    except (ValueError, RecursionError) as error:
        raise Problem(9, f"{what} is not JSON: {error}")
    fit(document, {"format": int}, what)
    if document["format"] > FORMAT:
        raise Problem(1, f"this is format {document['format']}; this program reads format {FORMAT}",
                      "Get the marbre-read.py of the marbre version that the receipt names as its agent.")
    return document

class Objects:
    """The objects that the receipt names. Nothing else is ever opened."""
    def __init__(self, base, receipt):
        self.base, self.known = base, {o["key"]: o for o in receipt["objects"]}
        self.epoch = f"epochs/{receipt['epoch']}/"

    def read(self, name, limit):
        """The bytes of an object whose size and SHA-256 are those of the receipt."""
        expected = self.expect(name)
        check(expected["size"] <= limit, f"{name}: larger than the format allows")
        with open(self.base / expected["key"], "rb") as file:
            data = file.read(expected["size"] + 1)
        check(len(data) == expected["size"], f"{expected['key']}: {len(data)} bytes, not {expected['size']} as the receipt says")
        found = hashlib.sha256(data).hexdigest()
        check(found == expected["sha256"], f"{expected['key']}: SHA-256 is {found}, not {expected['sha256']} as the receipt says")
        return data

    def expect(self, name):
        expected = self.known.get(self.epoch + name)
        check(expected, f"{name}: not an object of this snapshot's receipt")
        path = self.base / expected["key"]
        check(path.is_file(), f"{expected['key']}: not there")
        check(path.stat().st_size == expected["size"], f"{expected['key']}: {path.stat().st_size} bytes, "
              f"not {expected['size']} as the receipt says")
        return expected

def open_epoch(objects, key):
    """The line of the epoch's identity. It stays in memory."""
    done = subprocess.run(["age", "-d", "-i", key], input=objects.read("epoch.age", EPOCH_LIMIT), stdout=subprocess.PIPE)
    if done.returncode != 0:
        raise Problem(11, f"age did not open epoch.age with {key}", "Its message is above. 'no identity matched' means: "
                      "this key is not among the recipients of the snapshot; the receipt's `recipients` are the SHA-256 of "
                      "those that are: printf %s \"$(age-keygen -y KEY)\" | sha256sum")
    # For an identity of another kind, age would run a plugin of that name, or ask for a passphrase.
    lines = [line for line in done.stdout.decode(errors="replace").splitlines() if line and not line.startswith("#")]
    check(len(lines) == 1 and IDENTITY.fullmatch(lines[0]), "epoch.age does not hold one age identity")
    return lines[0].encode() + b"\n"

@contextlib.contextmanager
def plaintext(data, identity, name):
    """`age -d | zstd -d` of some bytes as a stream. Whoever reads it stops where they have what they want."""
    keys, write = os.pipe()
    os.write(write, identity)
    os.close(write)
    age = subprocess.Popen(["age", "-d", "-i", f"/dev/fd/{keys}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[keys])
    os.close(keys)
    zstd = subprocess.Popen(["zstd", "-dcq"], stdin=age.stdout, stdout=subprocess.PIPE)
    age.stdout.close()
    def feed():
        with contextlib.suppress(BrokenPipeError), age.stdin:
            age.stdin.write(data)
    feeder = threading.Thread(target=feed)
    feeder.start()
    ended = False
    try:
        yield zstd.stdout
        ended = not zstd.stdout.read(1)
    finally:  # Closing early ends both.
        zstd.stdout.close()
        statuses = age.wait(), zstd.wait()
        feeder.join()
    check(not ended or statuses == (0, 0), f"{name}: age or zstd could not read it (see their message above)")

def read_manifest(objects, receipt, identity):
    name = f"manifests/{receipt['snapshot']}.json.zst.age"
    with plaintext(objects.read(name, MANIFEST_LIMIT), identity, name) as stream:
        text = stream.read(MANIFEST_LIMIT + 1)
    check(len(text) <= MANIFEST_LIMIT, "the manifest is larger than the format allows")
    manifest = parse(text, "the manifest")
    fit(manifest, MANIFEST, "the manifest")
    for member in ("publisher", "database", "snapshot", "epoch"):
        check(manifest[member] == receipt[member], f"the manifest is about another {member}")
    for pack in manifest["packs"]:
        pack["name"] = f"packs/{pack['sha256']}.zst.age"
        known = objects.expect(pack["name"])
        check((known["sha256"], known["size"]) == (pack["sha256"], pack["size"]), "manifest and receipt differ about a pack")
    fit(manifest.get("streams"), [STREAM], "a stream of the manifest")
    names = set()
    for stream in manifest["streams"]:
        check_stream_entry(stream, names)
        check_layers(stream, len(manifest["packs"]))
    wanted = [0] * len(manifest["packs"])
    extents = [e for s in manifest["streams"] for layer in s["layers"] for e in layer["script"] + layer["data"]]
    check(len(extents) <= MOST_EXTENTS, f"the manifest has {len(extents)} extents, more than the {MOST_EXTENTS} of the format")
    for pack, _, length in extents:
        if pack is not None:
            wanted[pack] += length
    check(all(n <= PACK_CONTENT for n in wanted), f"the manifest wants more than the {PACK_CONTENT} bytes that a pack may hold")
    check(names.isdisjoint(path for name in names for path in folders(name)), "a stream has the name of a folder of another")
    return manifest

def folders(name):
    """The names of the folders of a file: of a/b/c these are a and a/b."""
    parts = name.split("/")
    return ("/".join(parts[:n]) for n in range(1, len(parts)))

def check_stream_entry(stream, names):
    name, rows = stream["name"], stream.get("kind") == "rows"
    check(name.lower() not in names | GENERATED, f"stream name {name} is there twice, or is that of a file that this program makes")
    names.add(name.lower())  # there are file systems for which A and a are one name
    check(not rows or len(stream.get("tables", [])) == 1, f"{name}: not the rows of one table")

def check_layers(stream, packs):
    """A stream is the data of its lowest layer, edited by the script of each layer above it. Scripts are checked when they are read."""
    def good(extents):
        number = lambda n, least, end: type(n) is int and least <= n < end
        return isinstance(extents, list) and all(
            isinstance(e, list) and len(e) == 3 and (e[0] is None or number(e[0], 0, packs)) and number(e[1], 0, 1 << 63)
            and number(e[2], 1, 1 << 63) for e in extents)
    layers = stream.setdefault("layers", [])
    check(len(layers) <= MOST_LAYERS, f"{stream['name']}: more than {MOST_LAYERS} layers")
    for number, layer in enumerate(layers):
        check(good(layer.setdefault("script", [])) and good(layer.setdefault("data", [])), f"{stream['name']}: an extent is not valid")
        check((number > 0) == bool(layer["script"]), f"{stream['name']}: a layer lacks its script, or has one too many")
    if layers:
        check(total(layers[0]["data"]) == layers[0]["length"], f"{stream['name']}: its extents do not add up")
    check((layers[-1]["length"] if layers else 0) == stream["length"], f"{stream['name']}: its layers do not have its length")
    check(len(layers) != 1 or all(e[0] is not None for e in layers[0]["data"]), f"{stream['name']}: bytes of a lost pack are wanted")

def total(extents):
    """How many bytes they have."""
    return sum(e[2] for e in extents)

def check_space(manifest, out):
    """What is written at most must fit: a manifest can ask for any number of bytes, also of a small pack."""
    streams = manifest["streams"]
    parts = (e for s in streams if len(s["layers"]) >= 2 for layer in s["layers"] for e in layer["data"] + layer["script"] if e[0] is not None)
    needed, free = sum(s["length"] for s in streams) + total(parts), shutil.disk_usage(out).free
    if needed > free:
        raise Problem(1, f"the streams need {needed} bytes, and {out} has {free} left", "Give --out on a larger disk.")

def write_streams(objects, manifest, identity, out):
    """Goes through each pack once, and puts its parts where they belong; then puts each stream together from its layers."""
    parts = [[] for _ in manifest["packs"]]  # per pack: (offset in the pack, length, file, offset in the file)
    paths = []
    with tempfile.TemporaryDirectory(prefix=".layers-", dir=out) as folder:
        def file_of(extents, path):
            with open(path, "xb") as file:
                file.truncate(total(extents))
            at = 0
            for pack, offset, length in extents:
                if pack is not None:  # else the bytes are lost, and no later layer copies them
                    parts[pack].append((offset, length, len(paths), at))
                at += length
            paths.append(path)
        for number, stream in enumerate(manifest["streams"]):
            path = out / stream["name"]
            path.parent.mkdir(parents=True, exist_ok=True)
            layers = stream["layers"]
            if len(layers) < 2:
                file_of(layers[0]["data"] if layers else [], path)
                continue
            for depth, layer in enumerate(layers):
                file_of(layer["data"], Path(folder, f"{number}-{depth}.data"))
                file_of(layer["script"], Path(folder, f"{number}-{depth}.script"))
        for number, (pack, wanted) in enumerate(zip(manifest["packs"], parts), 1):
            data = objects.read(pack["name"], PACK_LIMIT)
            with plaintext(data, identity, pack["name"]) as stream:
                place(stream, sorted(wanted, reverse=True), paths)
            print(f"\rpack {number} of {len(parts)}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        for number, stream in enumerate(manifest["streams"]):
            if len(stream["layers"]) >= 2:
                compose(stream, Path(folder, str(number)), out / stream["name"])

def compose(stream, base, path):
    """Puts a stream together from the data and scripts of its layers, which are removed."""
    layers, left = stream["layers"], stream["length"]
    names = [[Path(f"{base}-{depth}.{kind}") for depth in range(len(layers))] for kind in ("data", "script")]
    pieces = iter([(0, 0, layers[0]["length"])])
    for depth in range(1, len(layers)):
        pieces = edited(pieces, edits(names[1][depth]), depth)
    with contextlib.ExitStack() as stack, open(path, "xb") as file:
        data = [stack.enter_context(open(name, "rb")) for name in names[0]]
        for layer, offset, length in pieces:
            left -= length
            check(left >= 0, f"{stream['name']}: its layers make more than its length")
            data[layer].seek(offset)
            while length:
                block = data[layer].read(min(length, BLOCK))
                check(block, f"{stream['name']}: a layer has fewer bytes than its script takes")
                file.write(block)
                length -= len(block)
    for name in names[0] + names[1]:
        name.unlink()

def edits(path):
    """The steps of an edit script: three numbers each, as unsigned LEB128."""
    numbers, number, shift = [], 0, 0
    with open(path, "rb") as file:
        for byte in (byte for block in iter(lambda: file.read(BLOCK), b"") for byte in block):
            number |= (byte & 127) << shift
            shift += 7
            check(number < 1 << 64 and shift <= 70, "an edit script has a number that is too large")
            if byte < 128:
                numbers.append(number)
                number = shift = 0
                if len(numbers) == 3:
                    check(any(numbers), "an edit script has a step that does nothing")
                    yield numbers
                    numbers = []
    check(not numbers and not shift, "an edit script ends within a step")

def edited(below, script, layer):
    """The pieces (layer, offset in its data, length) of a version, from those of the version below it and a script."""
    source = offset = left = taken = 0
    for copy, skip, take in script:
        for wanted, keep in (copy, True), (skip, False):
            while wanted:
                if not left:
                    source, offset, left = next(below, (0, 0, 0))
                    check(left, "an edit script goes beyond the version that it edits")
                length = min(wanted, left)
                if keep:
                    yield source, offset, length
                offset, left, wanted = offset + length, left - length, wanted - length
        if take:
            yield layer, taken, take
            taken += take

def place(stream, wanted, paths):
    """Copies the wanted parts of a pack's decompressed bytes (last first) into files; reads it once, block by block."""
    files, active, start = {}, [], 0
    try:
        while wanted or active:
            check(start < PACK_CONTENT, "a pack is larger than the format allows")
            block = stream.read(BLOCK)
            check(block, "a pack is shorter than the manifest says, or cannot be opened (see above)")
            end = start + len(block)
            while wanted and wanted[-1][0] < end:
                active.append(wanted.pop())
            for offset, length, number, at in active:
                first, last = max(offset, start), min(offset + length, end)
                if number not in files:
                    if len(files) >= 200:
                        os.close(files.pop(next(iter(files))))
                    files[number] = os.open(paths[number], os.O_WRONLY)
                piece = block[first - start:last - start]
                check(os.pwrite(files[number], piece, at + first - offset) == len(piece), "the disk took only a part", "Free space.")
            active = [a for a in active if a[0] + a[1] > end]
            start = end
    finally:
        for file in files.values():
            os.close(file)

def check_stream(stream, path):
    digest, lines, size = hashlib.sha256(), 0, 0
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            lines += block.count(b"\n")
            size += len(block)
    check(size == stream["length"] and digest.hexdigest() == stream["sha256"], f"{stream['name']}: not the bytes that were backed up")
    if stream["kind"] == "rows":
        rows = stream["tables"][0]["rows"]
        check(lines == rows, f"{stream['name']}: {lines} rows, not {rows}")

def quoted(name, quote='"'):
    return quote + name.replace(quote, quote * 2) + quote

LOAD = r"""#!/bin/sh
# Loads this snapshot of PostgreSQL into an empty database that exists: ./load.sh DATABASE
# Where the server is comes from PGHOST, PGPORT, PGUSER, PGPASSFILE. Set GLOBALS=1 to create the roles as well.
[ $# -eq 1 ] || { echo "usage: ./load.sh DATABASE" >&2; exit 2; }
cd "$(dirname "$0")" || exit 1
export PGDATABASE="$1"
# Names can be bytes of any encoding.
export LC_ALL=C
failed=0
step() { title="$1"; shift; echo "== $title"; "$@" || { failed=1; echo "FAILED: $title (see above)"; }; }
copy() { # file, table, columns; prints how many rows went in
    psql -X -q -v ON_ERROR_STOP=1 -v table="$2" -f settings.sql -f session.sql -c "COPY $2$3 FROM STDIN$ROWS" -c '\echo :ROW_COUNT' < "$1"
}
root() { # table; prints the root of its partitions, if it is one of them
    psql -X -A -t -q -v ON_ERROR_STOP=1 -v table="$1" -f settings.sql -f /dev/stdin <<'ROOT'
SELECT pg_catalog.pg_partition_root(oid)::pg_catalog.regclass FROM pg_catalog.pg_class WHERE relispartition AND oid = :'table'::pg_catalog.regclass;
ROOT
}
rows() { # file, table, columns, number of rows, whether the rows that are there go first
    case "$only" in ""|*" $1 "*) ;; *) return ;; esac
    [ -z "$5" ] || psql -X -q -v ON_ERROR_STOP=1 -c "DELETE FROM ONLY $2"
    if ! took=$(copy "$1" "$2" "$3") && root=$(root "$2") && [ "$root" ]; then
        # What a hash or a comparison says, and so which row belongs where, can be another thing on another server.
        echo "$1: a partition may refuse rows that belong to another one here; now through the root, $root"
        took=$(copy "$1" "$root" "$3")
    fi
    case "$took" in
        "$4") ;;
        "") left="$left$1 "; echo "not loaded: $1 into $2 (see above)" ;;
        *) failed=1; echo "FAILED: $1 into $2: $took rows, not $4" ;;
    esac
}
# A check can depend on rows of other tables: what failed is tried again, for as long as that helps.
all_rows() {
    only="" left=" "
    tables
    while [ "$left" != " " ] && [ "$left" != "$only" ]; do
        echo "== rows that were not loaded, again"
        only="$left" left=" "
        tables
    done
    [ "$left" = " " ] || { failed=1; echo "FAILED:$left(see above)"; }
}
# psql obeys what follows a backslash in a script, and so never gets a script of the snapshot: its statements, one on each line,
# go to the server as data, and are run there.
statements() { # file, database, what to do about a statement that fails
    psql -X -q -v ON_ERROR_STOP=1 -d "$2" -c "SET client_encoding = ${ENCODING:-UTF8}" \
        -c "CREATE TEMPORARY TABLE marbre_statements (number serial, line text)" \
        -c "COPY pg_temp.marbre_statements (line) FROM STDIN (FORMAT csv, DELIMITER E'\\001', QUOTE E'\\002')" \
        -c 'DO $do$ DECLARE statement text; BEGIN
                FOR statement IN SELECT line FROM pg_temp.marbre_statements
                    WHERE line IS NOT NULL AND line NOT LIKE $$CREATE DATABASE %$$ ORDER BY number
                LOOP BEGIN EXECUTE statement; '"$3"' END; END LOOP; END $do$' < "$1"
}
# Partitions of one root are counted together: their rows may have moved between them.
counts() {
    psql -X -q -v ON_ERROR_STOP=1 -f settings.sql \
        -c "CREATE TEMPORARY TABLE marbre_counts (name text, condition text, rows bigint, root regclass, here bigint)" \
        -c "COPY pg_temp.marbre_counts (name, condition, rows) FROM STDIN" \
        -c 'DO $do$ DECLARE this record; BEGIN
                FOR this IN SELECT ctid, * FROM pg_temp.marbre_counts LOOP BEGIN
                    EXECUTE format($$UPDATE pg_temp.marbre_counts SET root = pg_partition_root(name::regclass),
                        here = (SELECT count(*) FROM ONLY %s %s) WHERE ctid = $1$$, this.name, this.condition) USING this.ctid;
                EXCEPTION WHEN OTHERS THEN RAISE WARNING $$%: %$$, this.name, SQLERRM; END; END LOOP;
                FOR this IN SELECT coalesce(root::text, name) AS name, coalesce(sum(here), 0) AS here, sum(rows) AS rows
                    FROM pg_temp.marbre_counts GROUP BY 1 HAVING coalesce(sum(here), 0) <> sum(rows) ORDER BY 1
                LOOP RAISE WARNING $$% has % rows, not %$$, this.name, this.here, this.rows; END LOOP;
                IF FOUND THEN RAISE EXCEPTION $$not every table has its number of rows$$; END IF; END $do$' < counts.txt
}
# Names and messages may hold what a terminal takes for commands.
harmless() { LC_ALL=C sed "s/[$(printf '\001-\010\013-\037\177')]//g; s/$(printf '\302[\200-\237]')//g"; }
# The database's own settings must not stop what follows.
export PGOPTIONS="$PGOPTIONS -c default_transaction_read_only=off -c statement_timeout=0"
# Event triggers come last of all: they could refuse what comes before them.
EVENT='^[0-9]+; [0-9]+ [0-9]+ ((COMMENT|SECURITY LABEL) - )?EVENT TRIGGER '
pg_restore --list schema.dump > schema.list || exit 1
grep -E "$EVENT" schema.list > event-triggers.list
grep -vE "$EVENT" schema.list > others.list
load() {
"""

LOADED = r"""
return $failed
}
{ load 2>&1; echo $? > load.status; } | harmless
[ "$(cat load.status)" = 0 ] || { echo "Loaded WITH ERRORS: see FAILED above." >&2; exit 1; }
echo "Loaded, and every table has its number of rows."
"""

# What sets, before the rows of a table go in, what sessions of its owner began with at the source. All of that is data here.
SESSION_SQL = r"""\set session `cat session.json`
SELECT pg_catalog.set_config(s.name, pg_catalog.replace(s.value, '"$user"', pg_catalog.quote_ident(t.owner)), false)
FROM (SELECT pg_catalog.pg_get_userbyid(relowner) AS owner FROM pg_catalog.pg_class WHERE oid = :'table'::pg_catalog.regclass) t,
    pg_catalog.json_to_recordset(:'session') AS s (number int, role text, name text, value text)
WHERE s.role IS NULL OR s.role = t.owner ORDER BY s.number \g /dev/null
"""

def session_settings(details):
    """What sessions of the source began with: of all roles, then what roles have set, then what they have set for this database."""
    settings = [{"role": None, "name": name, "value": value} for name, value in details.get("session", {}).items() if name + "?" in SESSION]
    known = {name.rstrip("?").lower() for name in SESSION if settings}
    for in_database in (False, True):
        for setting in details.get("globals", {}).get("settings", []):
            if setting.get("role") is not None and setting["name"].lower() in known and (setting.get("in_database") is True) == in_database:
                fit(setting["role"], NAME, "the role of a setting")
                settings.append({name: setting[name] for name in ("role", "name", "value")})
    return [{"number": number, **setting} for number, setting in enumerate(settings)]

def copied(*values):
    """A line of what COPY reads."""
    escapes = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return "\t".join(re.sub(r"[\\\n\r\t]", lambda c: escapes[c[0]], str(value)) for value in values) + "\n"

def raw_names(script):
    """A byte of a name that is not UTF-8 stands as one character from U+10FE80 to U+10FEFF."""
    return re.sub(b"\xf4\x8f([\xba\xbb])([\x80-\xbf])", lambda m: bytes([m[2][0] | (m[1] == b"\xbb") << 6]), script)

def write_loader(manifest, out):
    names = {stream["name"] for stream in manifest["streams"]}
    keep = {"client_encoding", "datestyle", "intervalstyle", "timezone", "extra_float_digits", "bytea_output", "lc_monetary"}
    settings = {"client_encoding": "UTF8", "row_security": "off", "statement_timeout": "0", "lock_timeout": "0",
                "standard_conforming_strings": "on", "xmloption": "content"}
    for name, value in manifest["source"]["settings"].items():
        if name.lower() in keep:
            fit(value, SETTING, f"the setting {name}")
            settings[name.lower()] = value
    # Rows are in the encoding that COPY is told. Statements are in UTF-8, unless names hold bytes that could not be converted to it.
    details = manifest["source"].get("details", {})
    in_bytes = details.get("in_bytes", False)
    write = lambda name, text: (out / name).write_bytes(raw_names(text.encode()) if in_bytes else text.encode())
    rows_encoding, settings["client_encoding"] = settings["client_encoding"], "SQL_ASCII" if in_bytes else "UTF8"
    sql = [f"SET {name} = " + quoted(value, "'") + ";" for name, value in settings.items()]
    # As pg_dump does it: names are always qualified.
    sql.append("SELECT pg_catalog.set_config('search_path', '', false) \\g /dev/null")
    write("settings.sql", "\n".join(sql) + "\n")
    write("session.sql", SESSION_SQL)
    session = session_settings(details)
    write("session.json", json.dumps(session, ensure_ascii=False) + "\n")
    lines = [f"ENCODING={settings['client_encoding']}", f"ROWS=\" (ENCODING '{rows_encoding}')\""]
    call = lambda *words: lines.append(" ".join(map(shlex.quote, words)))
    if "globals.sql" in names:
        lines.append('[ -z "$GLOBALS" ] || step "roles; those that exist already are reported, and stay" \\\n'
                     "    statements globals.sql postgres 'EXCEPTION WHEN OTHERS THEN RAISE WARNING $$%$$, SQLERRM;'")
    # pg_restore has its own search path.
    options = "".join(f" -c {s['name']}=" + re.sub(r"[\\ ]", r"\\\g<0>", s["value"]) for s in session if s["role"] is None and s["name"] != "search_path")
    lines.append('export PGOPTIONS="$PGOPTIONS"' + shlex.quote(options))
    lines.append('step "tables" pg_restore --section=pre-data -d "$PGDATABASE" schema.dump')
    if "data.dump" in names:
        lines.append('step "large objects" pg_restore --section=data -d "$PGDATABASE" data.dump')
    if "sequences.sql" in names:
        lines.append('step "sequences" statements sequences.sql "$PGDATABASE" ""')
    full = lambda table: f"{quoted(table['schema'])}.{quoted(table['table'])}"
    # In a new database a row can belong to another of these partitions: they are loaded through their root.
    roots = {full(s["partition"]): full(s["root"]) for s in details.get("scattered", [])}
    # Of an extension's table, a snapshot holds the rows that are not the extension's own.
    conditions = {full(c): c["condition"] for c in details.get("config_tables", [])}
    # Or all rows, which take the place of the extension's own.
    whole = {full(c) for c in details.get("config_tables", []) if c.get("whole")}
    lines.append("tables() { :")
    counts = []
    for stream in manifest["streams"]:
        if stream["name"].startswith("rows/"):
            check(stream.get("tables"), f"{stream['name']}: of no table")
            table = stream["tables"][0]
            name, columns = full(table), ", ".join(map(quoted, table["columns"]))
            entrance = roots.get(name, name)
            call("rows", stream["name"], entrance, f" ({columns})" if columns else "", str(table["rows"]), "whole" if name in whole else "")
            counts.append(copied(name, conditions.get(name, ""), table["rows"]))
    write("counts.txt", "".join(counts))
    lines += ["}", 'echo "== rows"', "all_rows", 'step "numbers of rows" counts']
    lines.append('step "indexes, constraints, triggers" pg_restore --section=post-data -L others.list -d "$PGDATABASE" schema.dump')
    if "links.sql" in names:
        lines.append('step "subscriptions, options of user mappings; those that exist already are reported, and stay" \\\n'
                     "    statements links.sql \"$PGDATABASE\" 'EXCEPTION WHEN OTHERS THEN RAISE WARNING $$%$$, SQLERRM;'")
    lines.append('[ ! -s event-triggers.list ] || step "event triggers" pg_restore --section=post-data -L event-triggers.list -d "$PGDATABASE" schema.dump')
    write("load.sh", LOAD + "\n".join(lines) + LOADED)
    os.chmod(out / "load.sh", 0o700)

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("objects", type=Path)
    parser.add_argument("--database", metavar="PUBLISHER/DATABASE")
    parser.add_argument("--snapshot", default="latest", help="as --list shows it (default: latest)")
    parser.add_argument("--list", action="store_true", help="show the snapshots, without checking them")
    parser.add_argument("--key", type=Path, help="the restore key")
    parser.add_argument("--allowed-signers", type=Path, metavar="FILE")
    parser.add_argument("--accept-signer", metavar="SHA256:…")
    parser.add_argument("--out", type=Path, help="a folder that does not exist yet, or is empty")
    arguments = parser.parse_args()
    os.umask(0o077)
    base = find_database(arguments.objects.resolve(), arguments.database)
    snapshots = sorted((p.stem for p in (base / "receipts").glob("*.json") if p.is_file() and SNAPSHOT.fullmatch(p.stem)), key=lambda s: order(base, s))
    if arguments.list:
        print("\n".join(snapshots))
        return
    if not arguments.key or not arguments.out:
        parser.error("--key and --out are needed")
    if not snapshots:
        raise Problem(5, f"no receipts in {base / 'receipts'}", "Look at the other targets.")
    if arguments.out.exists() and any(arguments.out.iterdir()):
        raise Problem(1, f"{arguments.out} is not empty", "Give another folder: nothing is overwritten.")
    snapshot = snapshots[-1] if arguments.snapshot == "latest" else arguments.snapshot
    if not SNAPSHOT.fullmatch(snapshot):
        raise Problem(5, f"{snapshot} is not the name of a snapshot", "--list shows what there is.")
    receipt, signer = read_receipt(base, snapshot, arguments)
    say(f"{snapshot}: number {receipt['sequence']} of {receipt['publisher']}/{receipt['database']}, "
          f"{receipt['engine']} as of {receipt['consistent_at']}, signed by {signer}")
    objects = Objects(base, receipt)
    identity = open_epoch(objects, arguments.key)
    manifest = read_manifest(objects, receipt, identity)
    arguments.out.mkdir(parents=True, exist_ok=True)
    check_space(manifest, arguments.out)
    write_streams(objects, manifest, identity, arguments.out)
    for stream in manifest["streams"]:
        check_stream(stream, arguments.out / stream["name"])
    text = json.dumps(manifest, indent=1, ensure_ascii=False)
    # What is not printable is within strings, where it can be escaped.
    escaped = re.sub("[^\n -~\xa0-\ud7ff\ue000-\uffff\U00010000-\U0010ffff]", lambda c: f"\\u{ord(c[0]):04x}", text)
    (arguments.out / "manifest.json").write_text(escaped, encoding="utf-8")
    if manifest["source"]["engine"] == "postgres":
        write_loader(manifest, arguments.out)
    say(f"{len(manifest['streams'])} streams, {sum(s['length'] for s in manifest['streams'])} bytes in {arguments.out}, all as they were backed up")

if __name__ == "__main__":
    try:
        main()
    except Problem as problem:
        say(f"error: {problem}", *([problem.remedy] if problem.remedy else []), file=sys.stderr)
        sys.exit(problem.status)
    except (LookupError, TypeError) as error:
        say(f"error: what was signed lacks a member, or has one of another form: {error}", file=sys.stderr)
        sys.exit(1)
    except (OSError, MemoryError, ValueError, subprocess.SubprocessError) as error:
        say(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
