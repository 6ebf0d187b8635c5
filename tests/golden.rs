//! What the command line says, word for word: `tests/golden/cli`. After a change that is meant,
//! `TRYCMD=overwrite cargo test --test golden` writes the files anew; read the difference before it is committed.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Runs marbre in the sandbox; its JSON document.
fn marbre(args: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_marbre")).arg("--json").args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn config(name: &str, text: &str) {
    fs::write(format!("provider/{name}.toml"), text).unwrap();
}

/// A provider, a publisher and a target with one snapshot, all below the working directory `root`, which is
/// replaced in the golden files.
fn sandbox(root: &Path) -> Value {
    for folder in ["provider", "a", "empty"] {
        fs::create_dir(folder).unwrap();
    }
    marbre(&["keygen", "--agent", "provider/agent_ed25519"]);
    let keys = marbre(&["keygen", "publisher", "--signer", "provider/agent_ed25519.pub"]);
    for other in ["other", "later"] {
        marbre(&["keygen", other]);
    }
    fs::write("empty.key", "# no key in here\n").unwrap();
    for database in ["provider/abonnes.db", "occupied.db"] {
        let db = rusqlite::Connection::open(database).unwrap();
        db.execute_batch("CREATE TABLE subscriber (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO subscriber VALUES (1, 'Zoé')")
            .unwrap();
    }
    fs::write(
        "provider/text.db",
        "this is a text and no database, and it is longer than a header of SQLite has to be\n".repeat(9),
    )
    .unwrap();
    let recipient = keys["recipient"].as_str().unwrap();
    let good = format!(
        "state_dir = \"state\"\nsigning_key = \"agent_ed25519\"\n\n[publisher.gazette]\nrecipients = [\"{recipient}\"]\n\n\
         [target.a]\nurl = \"{a}\"\n\n[database.abonnes]\npublisher = \"gazette\"\nengine = \"sqlite\"\npath = \"abonnes.db\"\ntargets = [\"a\"]\n",
        a = root.join("a").display()
    );
    config("marbre", &good);
    let defaults = "[defaults.database]\ntargets = [\"a\"]\n[defaults.database.retention]\nkeep_daily = 30\n\n[target.a]";
    config(
        "defaults",
        &good.replace("targets = [\"a\"]\n", "rpo = \"26h\"\n").replace("[target.a]", defaults),
    );
    config("no_signing_key", &good.replace("agent_ed25519", "nowhere_ed25519"));
    config("all_down", &good.replace("/a\"", "/gone\""));
    config("syntax", &good.replace("[target.a]", "[target.a"));
    config("unknown_key", &good.replace("state_dir", "state_dri"));
    config("secret_recipient", &good.replace(recipient, "AGE-SECRET-KEY-1QQQQQQQQQQQQ"));
    config("credentials", &good.replace("/a\"", "/a\"\ncredentials_file = \"x\""));
    config("no_database", &good.replace("abonnes.db", "nowhere.db"));
    config("not_a_database", &good.replace("abonnes.db", "text.db"));
    marbre(&["--config", "provider/marbre.toml", "snapshot", "abonnes"])
}

#[test]
fn the_command_line_says_what_its_golden_files_say() {
    let dir = tempfile::tempdir().unwrap();
    // A path without links, as the program itself sees it.
    let root = dir.path().canonicalize().unwrap();
    std::env::set_current_dir(&root).unwrap();
    let snapshot = sandbox(&root);
    let fingerprint = |public: &str| {
        let output = Command::new("ssh-keygen").args(["-l", "-f", public]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().split_whitespace().nth(1).unwrap().to_owned()
    };
    let recipient = |folder: &str| {
        let text = fs::read_to_string(format!("{folder}/restore.pub")).unwrap();
        let recipient = text.lines().find(|l| l.starts_with("age1")).unwrap().to_owned();
        hex::encode(<sha2::Sha256 as sha2::Digest>::digest(recipient))
    };
    let text = |name: &str| snapshot[name].as_str().unwrap().to_owned();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cli");
    trycmd::TestCases::new()
        .case(golden.join("*.trycmd").to_str().unwrap())
        .insert_var("[ROOT]", root.display().to_string())
        .unwrap()
        .insert_var("[SNAPSHOT]", text("snapshot"))
        .unwrap()
        .insert_var("[EPOCH]", text("epoch"))
        .unwrap()
        .insert_var("[AGENT]", fingerprint("provider/agent_ed25519.pub"))
        .unwrap()
        .insert_var("[PUBLISHERS_RECIPIENT]", recipient("publisher"))
        .unwrap()
        .insert_var("[OTHER_RECIPIENT]", recipient("other"))
        .unwrap()
        .insert_var("[LATER_RECIPIENT]", recipient("later"))
        .unwrap()
        .insert_var("[VERSION]", env!("CARGO_PKG_VERSION"))
        .unwrap()
        .env("COLUMNS", "100")
        .env("MARBRE_CONFIG", "nowhere.toml")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .run();
}
