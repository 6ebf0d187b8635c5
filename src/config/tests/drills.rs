//! Drills, checks and signers.

use super::*;
use crate::model::drill_check::Rule;
use crate::model::isolation::Isolation;

const SIGNER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4bd4Ylj7Q/3NNe6lNUXS/jE0fjxA28MpjOA3Rt7Sfk";

fn postgres() -> String {
    small()
        .replace("\"sqlite\"", "\"postgres\"")
        .replace("path = \"d.db\"", "url = \"postgres:///d\"\nbin_dir = \"/bin/of/pg_dump\"")
}

fn only(config: Config) -> Database {
    let [database] = <[Database; 1]>::try_from(config.databases).unwrap();
    database
}

#[test]
fn without_a_word_the_agent_can_drill() {
    let config = parse(&small()).unwrap();
    assert_eq!(config.scratch_dir, Path::new("/var/lib/marbre/scratch"));
    assert_eq!(config.report_dir, Path::new("/var/lib/marbre/reports"));
    assert!(config.publishers.values().all(|p| p.signers.is_empty()));
    let database = only(config);
    assert!(database.checks.is_empty());
    let expected = Drills {
        key: DrillKey::Epoch,
        keep_key: Duration::from_secs(7 * 86_400),
        every: None,
        rto: None,
        scratch: None,
        bin_dir: None,
        user: None,
        isolation: Isolation::Sandbox,
        rows_change: Percent(25.0),
        may_be_empty: Vec::new(),
        may_be_missing: Vec::new(),
        skip: Vec::new(),
        keep_reports: Duration::from_secs(400 * 86_400),
    };
    assert_eq!(database.drills, expected);
    assert_eq!(only(parse(&format!("{}[database.d.drills]\n", small())).unwrap()).drills, expected);
}

#[test]
fn everything_about_drills() {
    let text = format!(
        "{}[database.d.drills]\nkey = \"none\"\nkeep_key = \"3d\"\nevery = \"7d\"\nrto = \"4h\"\n\
         scratch = \"postgres://drill@scratch/postgres\"\npassword_env = \"DRILL\"\nbin_dir = \"bin\"\nuser = \"postgres\"\nisolation = \"none\"\n\
         rows_change = \"2.5 %\"\nmay_be_empty = [\"session\", \"web.Cache\"]\n\
         may_be_missing = [\"log_*\"]\nskip = [\"amcheck\", \"definitions\"]\nkeep_reports = \"90d\"\n",
        postgres()
    );
    let drills = only(parse(&text).unwrap()).drills;
    let expected = Drills {
        key: DrillKey::None,
        keep_key: Duration::from_secs(3 * 86_400),
        every: Some(Duration::from_secs(7 * 86_400)),
        rto: Some(Duration::from_secs(4 * 3600)),
        scratch: Some(ScratchServer {
            url: "postgres://drill@scratch/postgres".to_owned(),
            password: Some(Secret::Env("DRILL".to_owned())),
        }),
        bin_dir: Some(PathBuf::from("/etc/marbre/bin")),
        user: Some("postgres".to_owned()),
        isolation: Isolation::None,
        rows_change: Percent(2.5),
        may_be_empty: vec!["public.session".to_owned(), "web.Cache".to_owned()],
        may_be_missing: vec!["public.log_*".to_owned()],
        skip: vec!["amcheck".to_owned(), "definitions".to_owned()],
        keep_reports: Duration::from_secs(90 * 86_400),
    };
    assert_eq!(drills, expected);

    let sqlite = format!("{}drills.may_be_empty = [\"session\"]\n", small());
    assert_eq!(only(parse(&sqlite).unwrap()).drills.may_be_empty, ["session"]);
}

#[test]
fn checks_stand_in_the_order_of_the_file() {
    let text = format!(
        "{}[database.d.checks.subscribers]\nsql = \"\"\"\nSELECT count(*) FROM subscriber\n\"\"\"\nmin = 1_000\nmax = 2.5e6\n\
         max_change = \"5%\"\ntimeout = \"5m\"\nmessage = \"Ask the newsroom.\"\n\
         [database.d.checks.fresh]\nsql = \"SELECT max(at) FROM login\"\nfresh_within = \"26h\"\n\
         [database.d.checks.hex]\nsql = \"SELECT 16\"\nequals = 0x10\n\
         [database.d.checks.debt]\nsql = \"SELECT min(x) FROM debt\"\nmin = -3\nequals = -2.5\n\
         [database.d.checks.bool]\nsql = \"SELECT true\"\nequals = true\n\
         [database.d.checks.word]\nsql = \"SELECT 'ok'\"\nequals = \"ok\"\n",
        small()
    );
    let checks = only(parse(&text).unwrap()).checks;
    let names: Vec<&str> = checks.iter().map(|check| check.name.as_str()).collect();
    assert_eq!(names, ["subscribers", "fresh", "hex", "debt", "bool", "word"]);
    let expected = Check {
        name: "subscribers".to_owned(),
        sql: "SELECT count(*) FROM subscriber".to_owned(),
        rule: Rule { min: Some(1000.0), max: Some(2.5e6), max_change: Some(Percent(5.0)), ..Rule::default() },
        timeout: Duration::from_secs(300),
        message: Some("Ask the newsroom.".to_owned()),
    };
    assert_eq!(checks[0], expected);
    assert_eq!(checks[1].rule.fresh_within, Some(Duration::from_secs(26 * 3600)));
    assert_eq!((checks[1].timeout, &checks[1].message), (Duration::from_secs(60), &None));
    let equals: Vec<_> = checks.iter().filter_map(|check| check.rule.equals.as_deref()).collect();
    assert_eq!(equals, ["16", "-2.5", "true", "ok"]);
    assert_eq!(checks[3].rule.min, Some(-3.0));
}

#[test]
fn percentages() {
    let of = |text: &str| parse(&format!("{}drills.rows_change = \"{text}\"\n", small()));
    for (text, percent) in
        [("5%", 5.0), ("0%", 0.0), ("5 %", 5.0), ("2.5%", 2.5), (".5%", 0.5), ("300%", 300.0)]
    {
        assert_eq!(only(of(text).unwrap()).drills.rows_change, Percent(percent), "{text}");
    }
    for text in ["", "%", "5", "-5%", "+5%", "1e3%", "inf%", "NaN%", "5%%", "1.2.3%", ".%", "5,5%", "% 5"] {
        assert!(of(text).is_err(), "{text}");
    }
    assert!(of(&format!("{}%", "9".repeat(400))).is_err());
}

#[test]
fn signers_lose_their_comments() {
    let with = |line: &str| small().replace("[target.t]", &format!("{line}\n[target.t]"));
    let config = parse(&with(&format!("signers = [\"{SIGNER} editor@gazette\"]"))).unwrap();
    assert_eq!(config.publishers.values().next().unwrap().signers, [SIGNER]);

    let list = format!("# the publisher's\n\n  {SIGNER} editor@gazette\n{SIGNER}\n");
    let folder = Folder::new(&[("marbre.toml", &with("signers_file = \"p.signers\"")), ("p.signers", &list)]);
    assert_eq!(folder.load().unwrap().publishers.values().next().unwrap().signers, [SIGNER, SIGNER]);
}
