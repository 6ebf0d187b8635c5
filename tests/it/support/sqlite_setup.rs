//! A provider and a publisher on one small SQLite database: keys, configuration, targets, and an
//! independent look at what the targets hold.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;
use serde_json::Value;
use sha2::Digest;

use super::marbre::{Marbre, marbre};

/// Stands in every row: if it is ever in a file that is not the database, something leaked.
pub const SECRET: &str = "PERSONAL-DATA-rue-de-la-Paix";

/// A sandbox with everything in it; gone when dropped.
pub struct Setup {
    dir: tempfile::TempDir,
    recipient: String,
}

impl Setup {
    /// Keys, and a database of `rows` rows, each with `blob` random bytes.
    pub fn new(rows: u32, blob: u32) -> Self {
        let setup = Self::with_keys();
        let db = Connection::open(setup.database()).unwrap();
        db.execute_batch(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE subscriber (id INTEGER PRIMARY KEY, name TEXT NOT NULL, data BLOB NOT NULL);",
        )
        .unwrap();
        db.execute(
            "INSERT INTO subscriber WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
             SELECT i, ?2 || '-' || i, randomblob(?3) FROM n",
            rusqlite::params![rows, SECRET, blob],
        )
        .unwrap();
        setup
    }

    /// Only the keys and the folders.
    pub fn with_keys() -> Self {
        let dir = tempfile::Builder::new().prefix("marbre-it-").tempdir().unwrap();
        for folder in ["provider", "tmp", "a", "b"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let at = |name: &str| dir.path().join(name);
        marbre(["keygen", "--agent"]).arg(at("provider/agent_ed25519")).success();
        let keys = marbre(["--json", "keygen"])
            .arg(at("publisher"))
            .arg("--signer")
            .arg(at("provider/agent_ed25519.pub"))
            .success()
            .json();
        Self { recipient: keys["recipient"].as_str().unwrap().to_owned(), dir }
    }

    /// Something in the sandbox.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.path("provider/abonnes.db")
    }

    /// The directory target of this name, as a URL.
    pub fn target(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// The publisher's key.
    pub fn key(&self) -> PathBuf {
        self.path("publisher/restore.key")
    }

    /// Writes the configuration: targets, and more keys of the whole and of the database.
    pub fn configure(&self, targets: &[(&str, &str)], top: &str, database: &str) {
        let source = format!("engine = \"sqlite\"\npath = \"{}\"", self.database().display());
        self.configure_source(&source, targets, top, database);
    }

    /// The same for any engine.
    pub fn configure_source(&self, source: &str, targets: &[(&str, &str)], top: &str, database: &str) {
        let mut text = format!(
            "state_dir = \"state\"\nsigning_key = \"agent_ed25519\"\n{top}\n[publisher.gazette]\nrecipients = [\"{}\"]\n",
            self.recipient
        );
        for (name, url) in targets {
            text += &format!("[target.{name}]\nurl = \"{url}\"\n");
        }
        let names: Vec<&str> = targets.iter().map(|(name, _)| *name).collect();
        text += &format!(
            "[database.abonnes]\npublisher = \"gazette\"\n{source}\ntargets = {names:?}\n{database}\n"
        );
        fs::write(self.path("provider/marbre.toml"), text).unwrap();
    }

    /// Two directory targets, `a` and `b`.
    pub fn configure_directories(&self, database: &str) {
        self.configure(&[("a", &self.target("a")), ("b", &self.target("b"))], "", database);
    }

    /// marbre with the provider's configuration, JSON, and a temporary folder of its own.
    pub fn provider(&self, args: &[&str]) -> Marbre {
        marbre(["--json", "--config"])
            .arg(self.path("provider/marbre.toml"))
            .args(args)
            .env("TMPDIR", self.path("tmp"))
    }

    /// `snapshot`, not yet run.
    pub fn snapshot(&self) -> Marbre {
        self.provider(&["snapshot", "abonnes"])
    }

    /// `restore` as the publisher does it: targets, key, destination.
    pub fn restore(&self, snapshot: &str, from: &[&str], to: &str) -> Marbre {
        let mut run = marbre(["--json", "restore", snapshot, "--prove", "--key"])
            .arg(self.key())
            .args(["--to", to])
            .env("TMPDIR", self.path("tmp"));
        for url in from {
            run = run.args(["--from", url]);
        }
        run
    }

    /// Restores the newest snapshot from these targets, and holds every row against the database as it is.
    #[track_caller]
    pub fn restores_equal(&self, from: &[&str]) {
        let to = self.path(&format!("restored-{:08x}.db", rand::random::<u32>()));
        self.restore("latest", from, to.to_str().unwrap()).success();
        assert_eq!(rows(&to), rows(&self.database()), "restored from {from:?}");
        fs::remove_file(to).unwrap();
    }

    /// Changes every `step`th row, and adds one.
    pub fn change(&self, step: u32) {
        let db = Connection::open(self.database()).unwrap();
        db.execute("UPDATE subscriber SET data = randomblob(length(data)) WHERE id % ?1 = 0", [step])
            .unwrap();
        db.execute("INSERT INTO subscriber (name, data) SELECT ?1, randomblob(500)", [SECRET]).unwrap();
    }

    /// Moves all times of the newest snapshot at these directory targets, as an agent whose clock is off would have written
    /// them, and signs its receipt again. The agent forgets what it knew.
    pub fn redate(&self, targets: &[&str], by: jiff::SignedDuration) {
        for target in targets {
            let receipts = self.path(target).join("gazette/abonnes/receipts");
            let newest = files(&receipts).into_iter().rfind(|f| f.extension().is_some_and(|e| e == "json"));
            let path = newest.unwrap();
            let mut receipt: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            for time in ["started_at", "consistent_at", "finished_at"] {
                let at: jiff::Timestamp = receipt[time].as_str().unwrap().parse().unwrap();
                receipt[time] = (at + by).to_string().into();
            }
            fs::write(&path, receipt.to_string()).unwrap();
            let signature = path.with_extension("json.sig");
            fs::remove_file(&signature).unwrap();
            let mut sign = Command::new("ssh-keygen");
            sign.args(["-q", "-Y", "sign", "-n", "snapshot-receipt@marbre", "-f"]);
            let signed = sign.arg(self.path("provider/agent_ed25519")).arg(&path).output().unwrap();
            assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
            assert!(signature.exists());
        }
        fs::remove_dir_all(self.path("provider/state")).unwrap();
    }

    /// `status` of the publisher, who has no configuration and no state: it looks at these targets.
    pub fn watch(&self, targets: &[&str], more: &[&str]) -> Marbre {
        let mut run = marbre(["--json", "status", "--allowed-signers"]);
        run = run.arg(self.path("publisher/allowed_signers"));
        for target in targets {
            run = run.args(["--from", &format!("{target}={}", self.target(target))]);
        }
        run.args(more)
    }

    /// No file below these folders holds personal data, or a key outside the one place where that of the current epoch is
    /// kept for drills.
    #[track_caller]
    pub fn no_plaintext(&self, secrets: &[&str]) {
        for folder in ["provider/state", "provider/state/spool", "tmp", "a", "b"] {
            for file in files(&self.path(folder)) {
                // A file may go away while it is looked for.
                let Ok(bytes) = fs::read(&file) else { continue };
                let kept_for_drills = file.starts_with(self.path("provider/state/epoch-keys"));
                for secret in secrets.iter().filter(|s| !(kept_for_drills && s.starts_with("AGE-SECRET-KEY")))
                {
                    let found = memchr::memmem::find(&bytes, secret.as_bytes());
                    assert!(found.is_none(), "{secret:?} lies in {}", file.display());
                }
            }
        }
    }

    /// Packs that wait in the spool.
    pub fn spooled(&self) -> Vec<PathBuf> {
        files(&self.path("provider/state/spool"))
    }
}

/// Every row of the database, hashed by code of its own.
pub fn rows(database: &Path) -> Vec<(i64, String, String)> {
    let db = Connection::open(database).unwrap();
    let mut select = db.prepare("SELECT id, name, data FROM subscriber ORDER BY id").unwrap();
    let row = |r: &rusqlite::Row<'_>| {
        let data: Vec<u8> = r.get(2)?;
        Ok((r.get(0)?, r.get(1)?, hex::encode(sha2::Sha256::digest(data))))
    };
    select.query_map([], row).unwrap().map(Result::unwrap).collect()
}

/// All files below a folder, in order.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    // What is not there has no files; a folder may go away while it is looked through.
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            Ok(_) => found.push(entry.path()),
            Err(_) => {}
        }
    }
    found.sort();
    found
}

/// Everything below a directory target's database, key by key.
pub fn objects(target: &Path) -> BTreeMap<String, PathBuf> {
    let root = target.join("gazette/abonnes");
    let key = |path: &PathBuf| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    files(&root).into_iter().map(|path| (key(&path), path)).collect()
}

/// Reads a directory target by itself: for every receipt, everything that it names is there, of the right
/// size and SHA-256, and it is signed by the agent's key (`ssh-keygen`). Returns the receipts by name.
#[track_caller]
pub fn sound_receipts(setup: &Setup, target: &Path) -> BTreeMap<String, Vec<u8>> {
    let objects = objects(target);
    let mut sums: BTreeMap<String, (u64, String)> = BTreeMap::new();
    let mut receipts = BTreeMap::new();
    for (key, path) in objects.iter().filter(|(k, _)| k.starts_with("receipts/") && k.ends_with(".json")) {
        let bytes = fs::read(path).unwrap();
        let receipt: Value = serde_json::from_slice(&bytes).unwrap();
        for object in receipt["objects"].as_array().unwrap() {
            let name = object["key"].as_str().unwrap();
            let path = objects.get(name).unwrap_or_else(|| panic!("{key} names {name}, which is not there"));
            let (size, sha256) = sums.entry(name.to_owned()).or_insert_with(|| {
                let content = fs::read(path).unwrap();
                (content.len() as u64, hex::encode(sha2::Sha256::digest(&content)))
            });
            assert_eq!(object["size"].as_u64(), Some(*size), "{name}");
            assert_eq!(object["sha256"].as_str(), Some(sha256.as_str()), "{name}");
        }
        verify_signature(setup, path, &bytes);
        let name = key.trim_start_matches("receipts/").trim_end_matches(".json");
        receipts.insert(name.to_owned(), bytes);
    }
    receipts
}

#[track_caller]
fn verify_signature(setup: &Setup, receipt: &Path, bytes: &[u8]) {
    let mut command = Command::new("ssh-keygen");
    command
        .args(["-Y", "verify", "-I", "agent", "-n", "snapshot-receipt@marbre", "-f"])
        .arg(setup.path("publisher/allowed_signers"))
        .arg("-s")
        .arg(format!("{}.sig", receipt.display()));
    let output = super::postgres::output_with_input(&mut command, bytes);
    assert!(output.status.success(), "{}: {}", receipt.display(), String::from_utf8_lossy(&output.stderr));
}

/// The receipts of several targets together are one chain: 1, 2, 3 …, each naming the one before.
#[track_caller]
pub fn one_chain(receipts: impl IntoIterator<Item = (String, Vec<u8>)>) -> usize {
    let all: BTreeMap<String, Vec<u8>> = receipts.into_iter().collect();
    let mut links: Vec<(u64, Option<String>, String, String)> = all
        .iter()
        .map(|(name, bytes)| {
            let receipt: Value = serde_json::from_slice(bytes).unwrap();
            let previous = receipt["previous"].as_str().map(str::to_owned);
            let hash = hex::encode(sha2::Sha256::digest(bytes));
            (receipt["sequence"].as_u64().unwrap(), previous, hash, name.clone())
        })
        .collect();
    links.sort();
    for (n, (sequence, previous, _, name)) in links.iter().enumerate() {
        assert_eq!(*sequence, n as u64 + 1, "{name}");
        let before = n.checked_sub(1).map(|before| links[before].2.clone());
        assert_eq!(*previous, before, "{name}");
    }
    links.len()
}

/// Everything that both targets have recorded is there and whole, and is one chain.
#[track_caller]
pub fn sound(setup: &Setup) -> BTreeMap<String, Vec<u8>> {
    let mut receipts = sound_receipts(setup, &setup.path("a"));
    receipts.extend(sound_receipts(setup, &setup.path("b")));
    one_chain(receipts.clone());
    receipts
}
