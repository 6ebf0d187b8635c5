"""What the benchmarks share: a throwaway PostgreSQL, marbre with a directory as its target, and measuring a command."""

import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
SUPERUSER = "marbre"


def run(command, **options):
    """Runs a command that must succeed, and returns its standard output."""
    done = subprocess.run(command, stdout=subprocess.PIPE, **options)
    if done.returncode != 0:
        sys.exit(f"failed ({done.returncode}): {shlex.join(map(str, command))}")
    return done.stdout.decode()


class Cluster:
    """A throwaway PostgreSQL on a socket of its own, with fsync as in production."""

    def __init__(self, binaries, directory):
        self.bin, self.dir = pathlib.Path(binaries), pathlib.Path(directory)
        self.as_postgres = []
        if os.geteuid() == 0:
            self.as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"]
            shutil.chown(directory, "postgres", "postgres")
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "AWS_", "MARBRE_"))}
        self.environment |= {"PGHOST": str(self.dir), "PGUSER": SUPERUSER, "PATH": f"{self.bin}:{os.environ['PATH']}"}

    def __enter__(self):
        data = self.dir / "data"
        settings = "-c listen_addresses= -c max_wal_size=4GB -c shared_buffers=512MB -c maintenance_work_mem=256MB"
        self.server([self.bin / "initdb", "-A", "trust", "-U", SUPERUSER, "-E", "UTF8", "--locale=C.utf8", "-D", data])
        self.server([self.bin / "pg_ctl", "-w", "-D", data, "-l", self.dir / "log", "-o", f"{settings} -k {self.dir}", "start"])
        return self

    def __exit__(self, *_):
        self.server([self.bin / "pg_ctl", "-w", "-m", "immediate", "-D", self.dir / "data", "stop"])

    def server(self, command):
        run([*self.as_postgres, *command], cwd="/", stderr=subprocess.DEVNULL)

    def sql(self, database, *statements):
        arguments = [part for statement in statements for part in ("-c", statement)]
        return run([self.bin / "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", database, *arguments], env=self.environment).strip()

    def fresh(self, database):
        self.sql("postgres", f"DROP DATABASE IF EXISTS {database}", f"CREATE DATABASE {database} TEMPLATE template0", "CHECKPOINT")

    def url(self, database):
        return f"postgres:///{database}?host={self.dir}&user={SUPERUSER}"


def peak_memory(pid):
    """The highest resident memory of each process below this one, in bytes, by process id."""
    peaks, parents = {}, {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            lines = dict(line.split(":\t", 1) for line in (entry / "status").read_text().splitlines() if ":\t" in line)
            parents[int(entry.name)] = int(lines["PPid"])
            peaks[int(entry.name)] = int(lines["VmHWM"].split()[0]) * 1024
        except (OSError, KeyError, ValueError):
            continue
    family, grown = {pid}, True
    while grown:
        more = {child for child, parent in parents.items() if parent in family} - family
        family, grown = family | more, bool(more)
    return {p: peaks[p] for p in family if p in peaks}


def measure(command, environment, log, output=None):
    """Wall time in seconds, and the sum of the peak memories of all processes that took part, in bytes."""
    peaks = {}
    started = time.monotonic()
    child = subprocess.Popen(command, env=environment, stdout=output or log, stderr=log)
    while child.poll() is None:
        peaks |= peak_memory(child.pid)
        time.sleep(0.02)
    seconds = time.monotonic() - started
    if child.returncode != 0:
        log.flush()
        sys.exit(f"failed ({child.returncode}): {shlex.join(map(str, command))}\n{pathlib.Path(log.name).read_text()[-4000:]}")
    return seconds, sum(peaks.values())


def size(path):
    return sum(file.stat().st_size for file in pathlib.Path(path).rglob("*") if file.is_file())


class Marbre:
    """marbre with one directory as its target, and one database, `abonnes`."""

    name = "marbre"

    def __init__(self, binary, work, cluster, scratch=None):
        self.binary, self.work, self.cluster = binary, work, cluster
        run([binary, "keygen", work / "keys"], stderr=subprocess.DEVNULL)
        run([binary, "keygen", "--agent", work / "agent_ed25519"], stderr=subprocess.DEVNULL)
        recipient = run(["age-keygen", "-y", work / "keys/restore.key"]).strip()
        self.config = work / "marbre.toml"
        self.config.write_text(
            f'state_dir = "{work}/state"\nscratch_dir = "{scratch or work / "scratch"}"\nsigning_key = "{work}/agent_ed25519"\n[publisher.gazette]\nrecipients = ["{recipient}"]\n'
            f'[target.local]\nurl = "{work}/target"\n[database.abonnes]\npublisher = "gazette"\nengine = "postgres"\n'
            f'url = "{cluster.url("abonnes")}"\ntargets = ["local"]\n'
        )
        self.prepare()

    def prepare(self):
        """Without state and copies, the next snapshot is a full one."""
        for directory in ("state", "target"):
            shutil.rmtree(self.work / directory, ignore_errors=True)
        (self.work / "target").mkdir()

    def backup(self):
        return [self.binary, "--config", self.config, "--json", "snapshot", "abonnes"]

    def restore(self, snapshot="latest"):
        # People would compare the fingerprint with what the provider told them.
        signer = run(["ssh-keygen", "-lf", self.work / "agent_ed25519"]).split()[1]
        return [self.binary, "--json", "restore", snapshot, "--from", self.work / "target", "--key", self.work / "keys/restore.key",
                "--to", self.cluster.url("restored"), "--accept-signer", signer]

    def stored(self):
        return size(self.work / "target")

    def drill(self):
        """A drill of the newest snapshot on a throwaway server, as its report."""
        command = [self.binary, "--config", self.config, "--json", "drill", "abonnes"]
        return json.loads(run(command, env=self.cluster.environment, stderr=subprocess.DEVNULL))


def built(program):
    """The given program, or this checkout's, which is built."""
    if program:
        return program
    run(["cargo", "build", "--release", "--quiet"], cwd=ROOT)
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/marbre"
