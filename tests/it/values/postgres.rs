//! PostgreSQL: code of the database that puts values into errors, when a snapshot is loaded and when it is taken.

use std::fs;
use std::time::{Duration, Instant};

use super::{SECRETS, folder_holds_none, holds_none};
use crate::support::marbre::Outcome;
use crate::support::postgres::{Cluster, Database, SUPERUSER, Version, quote_text};
use crate::support::setup::{DATABASE, Provider, postgres};
use crate::support::short_or_long;

/// What a function does with a value `t` so that the server's error holds it, each with a word that is told of it.
const KINDS: [(&str, &str); 24] = [
    ("PERFORM t::int", "22P02"),
    ("IF t ~ '^[0-9]+$' THEN PERFORM t::int; END IF", "22003"),
    ("PERFORM t::date", "22007"),
    ("PERFORM now() AT TIME ZONE t", "22023"),
    ("PERFORM to_date(t, 'Mon')", "22007"),
    ("PERFORM t::interval", "22007"),
    ("PERFORM t::numeric", "22P02"),
    ("PERFORM t::boolean", "22P02"),
    ("PERFORM t::uuid", "22P02"),
    ("PERFORM t::inet", "22P02"),
    ("PERFORM t::json", "22P02"),
    ("PERFORM t::int[]", "22P02"),
    ("PERFORM t::public.mood", "22P02"),
    ("PERFORM t::money", "22P02"),
    ("PERFORM set_config(t, 'x', false)", "SQLSTATE 42"),
    ("PERFORM quote_ident(t)::regclass", "SQLSTATE 42"),
    ("EXECUTE t", "42601"),
    ("EXECUTE format('SELECT %I', t)", "42703"),
    ("EXECUTE format('SELECT * FROM %I.x', t)", "42P01"),
    ("EXECUTE format('SET ROLE %I', t)", "SQLSTATE"),
    ("RAISE EXCEPTION '%', t USING DETAIL = t, HINT = t", "an exception in the database's own code"),
    (
        "RAISE LOG 'FATAL:  %', t; RAISE WARNING '%', t; RAISE EXCEPTION E'x\\npg_restore: error: %', t",
        "an exception in the database's own code",
    ),
    (
        "RAISE EXCEPTION USING ERRCODE = 'unique_violation', MESSAGE = t, CONSTRAINT = t, TABLE = t, SCHEMA = t, COLUMN = t, DATATYPE = t",
        "an exception in the database's own code",
    ),
    (
        "IF t ~ '^[0-9]+$' THEN RAISE EXCEPTION USING ERRCODE = substr(t, 1, 5), MESSAGE = t; END IF",
        "an exception in the database's own code",
    ),
];

/// A database whose functions are quiet at home. Elsewhere they do what `planted.kind` says, where `planted.place` says:
/// while rows are loaded, which is a COPY, or while an index is made, which is a statement of `pg_restore`.
fn plant(database: &Database<'_>) {
    let cases: String =
        KINDS.iter().enumerate().map(|(n, (sql, _))| format!("WHEN '{n}' THEN {sql};\n")).collect();
    let rows: Vec<String> = SECRETS.iter().map(|secret| format!("({})", quote_text(secret))).collect();
    database.sql(&format!(
        "CREATE TYPE mood AS ENUM ('glad');
         CREATE FUNCTION leak(t text, place text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $body$
         BEGIN
           IF current_database() = '{DATABASE}' OR place <> current_setting('planted.place', true) THEN
             RETURN true;
           END IF;
           CASE current_setting('planted.kind', true)
           {cases}
           WHEN 'none' THEN RETURN false;
           ELSE NULL;
           END CASE;
           RETURN true;
         END $body$;
         CREATE TABLE abonne (nom text CONSTRAINT abonne_nom CHECK (public.leak(nom, 'rows')));
         INSERT INTO abonne VALUES {};
         CREATE INDEX abonne_leak ON abonne (public.leak(nom, 'index'));",
        rows.join(", ")
    ));
}

/// Sets settings for everybody who connects from now on.
fn set(cluster: &Cluster, settings: &[(&str, String)]) {
    let lines: String = settings.iter().map(|(name, value)| format!("{name} = '{value}'\n")).collect();
    fs::write(cluster.data_dir().join("postgresql.auto.conf"), lines).unwrap();
    let database = cluster.database("postgres");
    database.sql("SELECT pg_reload_conf()");
    let deadline = Instant::now() + Duration::from_secs(30);
    for (name, value) in settings {
        while database.sql(&format!("SELECT current_setting('{name}', true)")) != *value {
            assert!(Instant::now() < deadline, "{name} does not become {value}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn planted(kind: &str, place: &str, language: &str) -> [(&'static str, String); 3] {
    let setting = |text: &str| text.to_owned();
    [("planted.kind", setting(kind)), ("planted.place", setting(place)), ("lc_messages", setting(language))]
}

/// Nothing that was said, kept or stored holds a value, and what must be told is told.
#[track_caller]
fn told(provider: &Provider, outcome: &Outcome, words: &str) {
    let said = outcome.to_string();
    holds_none("what was said", said.as_bytes());
    assert!(!said.contains(&SECRETS[2][..5]), "a piece of a value is in {said}");
    assert!(said.contains(words), "no {words:?} in {said}");
    folder_holds_none(&provider.path(""));
}

/// The languages, with the word that begins an error in a server's log.
const LANGUAGES: [(&str, &str); 3] =
    [("C", "ERROR:"), ("fr_FR.UTF-8", "ERREUR:"), ("de_DE.UTF-8", "FEHLER:")];

#[test]
fn restores_tell_no_value_in_any_language() {
    let cluster = Cluster::start_multilingual();
    let home = cluster.create_db(DATABASE);
    plant(&home);
    // Who is no superuser may not choose the language.
    home.sql("CREATE ROLE loader LOGIN CREATEDB CREATEROLE");
    let provider = Provider::of(&home);
    provider.snapshot().success();
    let elsewhere = cluster.database("elsewhere").url();
    let own = cluster.database("anderswo").url();
    let as_loader = own.replace(&format!("user={SUPERUSER}"), "user=loader");
    for (turn, (language, begins)) in LANGUAGES.into_iter().enumerate() {
        for (n, (kind, words)) in KINDS.iter().enumerate() {
            // Everyday, each kind meets one language; before a release, all of them, with COPY and with pg_restore.
            if !short_or_long(n % LANGUAGES.len() == turn, true) {
                continue;
            }
            let by_rows = (n + n / LANGUAGES.len() + turn).is_multiple_of(2);
            set(&cluster, &planted(&n.to_string(), if by_rows { "rows" } else { "index" }, language));
            let before = cluster.log().len();
            let to = if language == "C" { &elsewhere } else { &as_loader };
            let outcome = provider.restore("nas", to).arg("--overwrite").env("MARBRE_LOG", "trace").run();
            // Everything else is there, unless the code is one that says that nothing can go on.
            assert!([Some(12), Some(6)].contains(&outcome.code()), "{outcome}");
            let words = match by_rows {
                true => words,
                false => "INDEX public abonne_leak",
            };
            told(&provider, &outcome, words);
            // The server did say it, in that language. To JSON, a name with two parts is two words.
            let log = cluster.log().split_off(before);
            let said = SECRETS.iter().flat_map(|secret| secret.split('-')).any(|word| log.contains(word));
            assert!(said && log.contains(begins), "{kind} in {language}: {log}");
        }
    }
    set(&cluster, &planted("", "", "C"));
}

#[test]
fn drills_tell_no_value() {
    let cluster = Cluster::start_multilingual();
    let home = cluster.create_db(DATABASE);
    plant(&home);
    let mut provider = Provider::of(&home);
    provider.snapshot().success();
    let scratch = format!("scratch = {:?}", cluster.database("postgres").url());
    let check = format!(
        "{scratch}\n[database.{DATABASE}.checks.odd]\nsql = \"SELECT max(nom)::int FROM abonne\"\nmin = 1\n\
         [database.{DATABASE}.checks.text]\nsql = \"SELECT max(nom) FROM abonne\"\nmin = 1"
    );
    provider.set_drills(&check);
    // A superuser's programs speak English where the server speaks French, so that what they say can be told apart.
    for (n, place, words) in [
        (0, "rows", KINDS[0].1),
        (20, "rows", KINDS[20].1),
        (0, "index", "INDEX public abonne_leak: a value is not of its type"),
        (20, "index", "INDEX public abonne_leak: "),
    ] {
        set(&cluster, &planted(&n.to_string(), place, "fr_FR.UTF-8"));
        let outcome = provider.drill().env("MARBRE_LOG", "trace").run();
        assert_ne!(outcome.code(), Some(0), "{outcome}");
        told(&provider, &outcome, words);
    }
    // Loaded well; the owner's queries fail, or answer what they must not.
    set(&cluster, &planted("", "", "fr_FR.UTF-8"));
    let outcome = provider.drill().env("MARBRE_LOG", "trace").fails_with(9);
    told(&provider, &outcome, "22P02");
    told(&provider, &outcome, "the answer is not a number");
}

/// A constraint that the rows break, as if a value had been changed: its name is told, and the row is not.
#[test]
fn constraints_are_named_without_their_rows() {
    let cluster = Cluster::start_multilingual();
    let home = cluster.create_db(DATABASE);
    plant(&home);
    let provider = Provider::of(&home);
    provider.snapshot().success();
    for (language, _) in LANGUAGES {
        set(&cluster, &planted("none", "rows", language));
        let elsewhere = cluster.database("elsewhere").url();
        let outcome = provider.restore("nas", &elsewhere).arg("--overwrite").fails_with(12);
        told(&provider, &outcome, "\\\"abonne_nom\\\" of table public.abonne");
        told(&provider, &outcome, "it holds for new rows only (NOT VALID)");
    }
}

/// A login trigger runs whenever somebody connects who may not switch it off.
#[test]
fn snapshots_tell_no_value() {
    let cluster = Cluster::start(Version::V18);
    let home = cluster.create_db(DATABASE);
    let rows: Vec<String> = SECRETS.iter().map(|secret| format!("({})", quote_text(secret))).collect();
    home.sql(&format!("CREATE TABLE abonne (nom text); INSERT INTO abonne VALUES {}", rows.join(", ")));
    home.sql(
        "CREATE FUNCTION hello() RETURNS event_trigger LANGUAGE plpgsql AS $$
         BEGIN RAISE LOG 'FATAL: %', (SELECT max(nom) FROM public.abonne);
           RAISE EXCEPTION '%', (SELECT string_agg(nom, ' ') FROM public.abonne); END $$;
         CREATE EVENT TRIGGER hello ON login EXECUTE FUNCTION hello(); ALTER EVENT TRIGGER hello ENABLE ALWAYS;",
    );
    cluster.database("postgres").sql("CREATE ROLE agent LOGIN; GRANT pg_read_all_data TO agent");
    let mut provider = Provider::new(postgres(&home.url().replace("user=marbre", "user=agent")));
    let outcome = provider.snapshot().env("MARBRE_LOG", "trace").fails_with(6);
    told(&provider, &outcome, "an exception in the database's own code");
    let outcome = provider.marbre(&["doctor"]).env("MARBRE_LOG", "trace").run();
    told(&provider, &outcome, "an exception in the database's own code");
    provider.set_source(postgres(&home.url().replace(DATABASE, "nowhere")));
    told(&provider, &provider.snapshot().fails_with(5), "nowhere");
}
