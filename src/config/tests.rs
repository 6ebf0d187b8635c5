mod alerts;
mod defaults;
mod drills;
mod publishers;
mod retention;
mod schedule;
mod targets;
mod web;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::*;

const WORKING: &str = "age1cer2d3hwz5sqm9w4aycv6x4dmmnxzmwkh9kyehgyxq3xugn7scrqr4qajp";
const ESCROW: &str = "age1pgqse62nj4f85lfvnc9tg8gzv4z20praxts99z6vq404h59ery7s600u3z";

fn parse(text: &str) -> Result<Config> {
    Config::parse(text, Path::new("/etc/marbre/marbre.toml"))
}

/// The example with its placeholders replaced, as its reader is told to do.
fn example() -> String {
    include_str!("../../config.example.toml")
        .replace("age1-REPLACE-BY-THE-WORKING-RECIPIENT", WORKING)
        .replace("age1-REPLACE-BY-THE-ESCROW-RECIPIENT", ESCROW)
}

/// A small good configuration.
fn small() -> String {
    format!(
        "[publisher.p]\nrecipients = [\"{WORKING}\", \"{ESCROW}\"]\n[target.t]\nurl = \"/srv/t\"\n\
         [database.d]\npublisher = \"p\"\nengine = \"sqlite\"\npath = \"d.db\"\ntargets = [\"t\"]\n"
    )
}

#[test]
fn the_example_is_a_configuration() {
    let config = parse(&example()).unwrap();
    assert_eq!(config.warnings, Vec::<String>::new());
    let abonnes = config.database("gazette/abonnes").unwrap();
    assert_eq!(abonnes, config.database("abonnes").unwrap());
    assert_eq!(abonnes.rpo, Some(Duration::from_secs(26 * 3600)));
    assert_eq!(abonnes.targets.len(), 2);
    assert_eq!(config.database("boutique").unwrap().copies.get(), 2);
    let names: Vec<&str> = abonnes.checks.iter().map(|check| check.name.as_str()).collect();
    assert_eq!(names, ["subscribers", "no-orphans", "fresh"]);
    assert_eq!(abonnes.drills.every, Some(Duration::from_secs(7 * 86_400)));
}

#[test]
fn the_configuration_in_the_readme_is_one() {
    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once("<<'END'\n").unwrap();
    let (text, _) = rest.split_once("\nEND\n").unwrap();
    let config = parse(&text.replace("age1…", WORKING)).unwrap();
    assert_eq!(config.database("abonnes").unwrap().targets.len(), 2);
}

#[test]
fn the_example_cannot_be_used_before_its_recipients_are_replaced() {
    let error = parse(include_str!("../../config.example.toml")).unwrap_err();
    assert!(error.message().contains("publisher.gazette.recipients[0]"), "{error}");
}

/// The comments of the example show defaults; this reads them as if they were set.
#[test]
fn the_defaults_that_the_example_shows_are_the_defaults() {
    let shown = example()
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.contains(" = ") && !rest.contains("_file") && !rest.contains("no default") => {
                // The other credential, password and bin_dir keys have no default.
                let key = rest.split(' ').next().unwrap();
                let alternative = ["credentials", "bin_dir"].contains(&key);
                if alternative { line } else { rest }
            }
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n");
    assert!(shown.contains("\nspool_limit = "), "{shown}");
    for key in ["lock_timeout", "scratch_dir", "report_dir", "key", "keep_key", "rows_change", "timeout"] {
        assert!(shown.contains(&format!("\n{key} = ")), "{key}: {shown}");
    }
    // Where something is said differs.
    let meant = |text: &str| Config { effective: Effective::new(), ..parse(text).unwrap() };
    assert_eq!(meant(&shown), meant(&example()));
}

#[test]
fn defaults_and_relative_paths() {
    let config = parse(&small()).unwrap();
    assert_eq!(config.state_dir, Path::new("/var/lib/marbre"));
    assert_eq!(config.spool_dir, Path::new("/var/lib/marbre/spool"));
    assert_eq!(config.signing_key, Path::new("/var/lib/marbre/agent_ed25519"));
    assert_eq!(config.spool_limit, 2 << 30);
    assert_eq!(config.spool_wait, Duration::from_secs(600));
    let [database] = &config.databases[..] else { panic!() };
    assert_eq!(
        database.source,
        Source::Sqlite { path: PathBuf::from("/etc/marbre/d.db"), give_way_after: Duration::from_secs(2) }
    );
    assert_eq!((database.copies.get(), database.jobs), (1, 2));
    assert_eq!(database.epoch, Duration::from_secs(30 * 86_400));
    assert_eq!(database.rpo, None);

    let moved = parse(&format!("state_dir = \"state\"\n{}", small())).unwrap();
    assert_eq!(moved.spool_dir, Path::new("/etc/marbre/state/spool"));
}

#[test]
fn sizes_and_durations() {
    for (text, bytes) in [
        ("67108864", 64 << 20),
        ("0x4000000", 64 << 20),
        ("\"64 MiB\"", 64 << 20),
        ("\"3GiB\"", 3 << 30),
        ("\"1 TiB\"", 1 << 40),
    ] {
        let config = parse(&format!("spool_limit = {text}\n{}", small())).unwrap();
        assert_eq!(config.spool_limit, bytes, "{text}");
    }
    for (text, seconds) in [("30s", 30), ("5m", 300), ("26 h", 93_600), ("30d", 2_592_000)] {
        let config = parse(&format!("{}rpo = \"{text}\"", small())).unwrap();
        assert_eq!(config.databases[0].rpo, Some(Duration::from_secs(seconds)), "{text}");
    }
}

#[test]
fn urls_without_a_password_are_accepted() {
    for url in [
        "postgres:///d?host=/run/postgresql&user=marbre",
        "postgresql://marbre@db.example:5432/d?sslmode=require",
        "postgres://one:5432,two:5433/d?user=marbre@server",
        "postgres://[::1]:5432/d",
        "postgres://%2Frun%2Fpostgresql/d",
    ] {
        let text = small()
            .replace("\"sqlite\"", "\"postgres\"")
            .replace("path = \"d.db\"", &format!("url = \"{url}\""));
        assert!(parse(&text).is_ok(), "{:?}", parse(&text));
    }
}

#[test]
fn a_plugin_recipient_is_accepted() {
    // From the documentation of age-plugin-yubikey.
    let plugin = "age1yubikey1q2w7u3vpya839jxxuq8g0sedh3d740d4xvn639sqhr95ejj8vu3hyfumptt";
    let config = parse(&small().replace(ESCROW, plugin)).unwrap();
    assert_eq!(config.publishers.values().next().unwrap().recipients[1], plugin);
}

#[test]
fn one_recipient_is_a_warning() {
    let config = parse(&small().replace(&format!(", \"{ESCROW}\""), "")).unwrap();
    let [warning] = &config.warnings[..] else { panic!("{:?}", config.warnings) };
    assert!(warning.starts_with("/etc/marbre/marbre.toml:2: publisher.p.recipients: a single recipient"));
}

#[test]
fn what_every_server_has_is_ignored_unless_people_name_others() {
    assert_eq!(parse(&small()).unwrap().ignore_databases, ["postgres"]);
    let named =
        |list: &str| parse(&format!("ignore_databases = {list}\n{}", small())).unwrap().ignore_databases;
    assert_eq!(named("[\"rdsadmin\", \"Old Shop\"]"), ["rdsadmin", "Old Shop"]);
}

/// Every `tests/golden/config/*.toml` is wrong, and the whole message is in its `.err`.
/// `GOLDEN=overwrite` writes the messages anew; read the difference before it is committed.
#[test]
fn bad_configurations_say_everything_that_is_wrong() {
    let folder = Path::new("tests/golden/config");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        seen += 1;
        let text = fs::read_to_string(&path).unwrap();
        let error = match Config::parse(&text, &path) {
            Ok(_) => panic!("{} was accepted", path.display()),
            Err(error) => error,
        };
        assert_eq!(error.kind(), ErrorKind::Config);
        let shown = format!("{error}\n{}\n", error.remedy_text().unwrap());
        assert!(!shown.contains("hunter2"), "{} tells a secret: {shown}", path.display());
        assert!(!shown.to_lowercase().contains("secret-key-1"), "{} tells a key", path.display());
        let golden = path.with_extension("err");
        if std::env::var_os("GOLDEN").is_some_and(|mode| mode == "overwrite") {
            fs::write(&golden, &shown).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(shown, expected, "{} (left: now, right: golden)", path.display());
    }
    assert!(seen >= 18, "only {seen} golden files were found");
}

#[test]
fn an_unknown_database_is_not_found() {
    let config = parse(&example()).unwrap();
    let error = config.database("abonnés").unwrap_err();
    assert_eq!(error.kind().exit_code(), 5);
    assert_eq!(
        error.remedy_text(),
        Some("Did you mean `abonnes`? Known databases: gazette/abonnes, gazette/boutique, gazette/kiosque.")
    );
    assert!(config.database("gazete/abonnes").is_err());
    assert!(config.database("").is_err());
}

/// A configuration of several files in a folder of its own.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        fs::create_dir(folder.path("conf.d")).unwrap();
        for (name, text) in files {
            fs::write(folder.path(name), text).unwrap();
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn load(&self) -> Result<Config> {
        Config::load(Some(&self.path("marbre.toml")))
    }

    fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }
}

#[test]
fn fragments_add_tables() {
    let second = small().replace("publisher.p", "publisher.q").replace("\"p\"", "\"q\"");
    let second = second.replace("target.t", "target.u").replace("\"t\"", "\"u\"");
    let second = second.replace("/srv/t", "/srv/u").replace("database.d", "database.e");
    let folder = Folder::new(&[
        ("marbre.toml", &small()),
        ("conf.d/e.toml", &second),
        ("conf.d/.hidden.toml", "not toml at all"),
        ("conf.d/e.toml~", "not toml at all"),
    ]);
    let config = folder.load().unwrap();
    let names: Vec<_> = config.databases.iter().map(|db| db.id.to_string()).collect();
    assert_eq!(names, ["p/d", "q/e"]);
    // Relative paths mean the same wherever a table lies.
    let Source::Sqlite { path, .. } = &config.databases[1].source else { panic!() };
    assert_eq!(path, &folder.path("d.db"));
}

#[test]
fn one_name_in_two_files_names_both() {
    let folder = Folder::new(&[
        ("marbre.toml", &format!("state_dir = \"/a\"\n{}", small())),
        ("conf.d/again.toml", "state_dir = \"/b\"\n\n[target.t]\nurl = \"/srv/other\"\n"),
    ]);
    let error = folder.load().unwrap_err();
    let (first, second) = (folder.path("marbre.toml"), folder.path("conf.d/again.toml"));
    for (key, (here, there)) in [("state_dir", (1, 1)), ("target.t", (3, 4))] {
        let expected = format!(
            "{}:{here}: {key}: is defined twice, first in {}:{there}",
            second.display(),
            first.display()
        );
        assert!(error.message().contains(&expected), "{error}\n\n{expected}");
    }
}

#[test]
fn syntax_errors_of_all_files_are_reported() {
    let folder = Folder::new(&[("marbre.toml", "state_dir = \n"), ("conf.d/a.toml", "[database.é\n")]);
    let error = folder.load().unwrap_err();
    assert!(error.message().contains("marbre.toml:1:13: not valid TOML"), "{error}");
    assert!(error.message().contains("a.toml:1:12: not valid TOML"), "{error}");
}

#[test]
fn a_missing_configuration_says_how_to_name_one() {
    let error = Config::load(Some(Path::new("/nonexistent/marbre.toml"))).unwrap_err();
    assert_eq!(error.kind().exit_code(), 3);
    assert!(error.to_string().contains("/nonexistent/marbre.toml"));
    assert!(error.remedy_text().unwrap().contains("--config"));
}

#[test]
fn secret_files_must_be_their_owners_alone() {
    let text = small()
        .replace("\"sqlite\"", "\"postgres\"")
        .replace("path = \"d.db\"", "url = \"postgres:///d\"\npassword_file = \"pw\"");
    let folder = Folder::new(&[("marbre.toml", &text), ("pw", "hunter2\n")]);
    folder.mode("pw", 0o640);
    let error = folder.load().unwrap_err();
    let remedy = format!("chmod 600 '{}'", folder.path("pw").display());
    assert!(error.message().contains("database.d.password_file"), "{error}");
    assert!(error.message().contains(&remedy), "{error}");

    folder.mode("pw", 0o600);
    let config = folder.load().unwrap();
    let Source::Postgres { password: Some(secret), .. } = &config.databases[0].source else { panic!() };
    assert_eq!(secret.read().unwrap().expose_secret(), "hunter2");
    assert!(!format!("{:?}", secret.read().unwrap()).contains("hunter2"));

    folder.mode("pw", 0o604);
    let error = secret.read().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("mode 0604"), "{error}");

    // The file is looked at when it is used: without it, what needs no password works.
    fs::remove_file(folder.path("pw")).unwrap();
    assert!(folder.load().is_ok());
    assert!(secret.read().is_err());
}

#[test]
fn an_empty_secret_is_none() {
    let folder = Folder::new(&[("pw", "\n")]);
    folder.mode("pw", 0o600);
    let error = Secret::File(folder.path("pw")).read().unwrap_err();
    assert!(error.to_string().ends_with("it is empty"), "{error}");
    assert!(Secret::File(folder.path("conf.d")).read().is_err());
    assert!(Secret::Env("MARBRE_TEST_NOT_SET".to_owned()).read().is_err());
}

#[test]
fn recipients_from_a_file() {
    let text = small().replace(
        &format!("recipients = [\"{WORKING}\", \"{ESCROW}\"]"),
        "recipients_file = \"p.recipients\"",
    );
    let list = format!("# working\n{WORKING}\n\n  {ESCROW}  \n");
    let folder = Folder::new(&[("marbre.toml", &text), ("p.recipients", &list)]);
    let config = folder.load().unwrap();
    assert_eq!(config.publishers.values().next().unwrap().recipients, [WORKING, ESCROW]);

    fs::write(folder.path("p.recipients"), format!("{WORKING}\nage1nonsense\n")).unwrap();
    let error = folder.load().unwrap_err();
    assert!(error.message().contains("p.recipients:2: \"age1nonsense\""), "{error}");
}

proptest! {
    /// Whatever people do to a configuration, it is read or refused, with a reason.
    #[test]
    fn edits_never_panic(edits in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..6, any::<char>()), 1..12)) {
        let mut text: Vec<char> = example().chars().collect();
        for (at, what, character) in edits {
            let at = at.index(text.len());
            match what {
                0 => { text.remove(at); }
                1 => text.insert(at, character),
                2 => text[at] = ['"', '[', ']', '=', '.', '\n', '#', '{'][character as usize % 8],
                3 => text.truncate(at.max(1)),
                4 => { let end = (at + 40).min(text.len()); let copy = text[at..end].to_vec(); text.splice(at..at, copy); }
                _ => { let end = (at + 9).min(text.len()); text.drain(at..end); }
            }
            if text.is_empty() { text.push('\n'); }
        }
        let text: String = text.into_iter().collect();
        if let Err(error) = parse(&text) {
            prop_assert_eq!(error.kind(), ErrorKind::Config);
            prop_assert!(error.message().lines().count() > 1);
        }
    }
}
