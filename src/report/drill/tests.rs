use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{html as html_for, markdown as markdown_for, *};
use crate::error::ErrorRecord;
use crate::job::drill::report::*;
use crate::job::drill::verdict::Verdict;
use crate::job::restore::TableReport;
use crate::job::stopwatch::StageTime;
use crate::model::drill_stage::DrillStage;
use crate::model::id::Sha256;
use crate::model::level::{By, Level};
use crate::model::locale::Language;
use crate::model::sabotage::Sabotage;

fn locale(language: Language, zone: &str) -> Locale {
    Locale { language, time_zone: TimeZone::get(zone).unwrap() }
}

fn html(report: &DrillReport) -> String {
    html_for(report, &locale(Language::English, "UTC"))
}

fn markdown(report: &DrillReport) -> String {
    markdown_for(report, &locale(Language::English, "UTC"))
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn table(name: &str, rows: u64) -> TableReport {
    TableReport { name: name.into(), rows, expected_rows: rows, equal: true }
}

fn check(name: &str, result: CheckResult, value: Option<&str>, message: Option<&str>) -> CheckReport {
    let passed = result == CheckResult::Passed;
    let (value, message) = (value.map(str::to_owned), message.map(str::to_owned));
    CheckReport { name: name.into(), passed, result, value, message }
}

fn earlier(day: u32, passed: bool, rto_seconds: Option<f64>) -> TrendPoint {
    let drill = format!("202611{day:02}T100000Z-0000000a").parse().unwrap();
    TrendPoint { drill, at: at(&format!("2026-11-{day:02}T10:31:07Z")), passed, rto_seconds }
}

fn stages() -> Vec<StageTime<DrillStage>> {
    let stage = |name, seconds| StageTime { name, seconds };
    vec![
        stage(DrillStage::Receipts, 1.204),
        stage(DrillStage::Fetch, 312.5),
        stage(DrillStage::Open, 0.4),
        stage(DrillStage::Server, 2.1),
        stage(DrillStage::Load, 741.0),
        stage(DrillStage::Index, 228.75),
        stage(DrillStage::Compare, 402.2),
        stage(DrillStage::Checks, 31.9),
        stage(DrillStage::Remove, 4.0),
    ]
}

fn tables() -> Vec<TableReport> {
    vec![
        table("public.campaigns", 0),
        table("public.payments", 8_412_077),
        table("public.subscribers", 1_204_311),
        table("public.\"Abonnés | <script>alert(1)</script>\"", 12),
        table("public.addresses", 1_390_002),
    ]
}

fn objects() -> Vec<ObjectReport> {
    let object = |kind: &str, n| ObjectReport { kind: kind.into(), expected: n, found: n };
    vec![object("table", 5), object("index", 14), object("sequence", 4), object("function", 2)]
}

fn passed() -> DrillReport {
    DrillReport {
        drill: "20261122T100000Z-7be01d42".parse().unwrap(),
        publisher: "gazette".parse().unwrap(),
        database: "abonnes".parse().unwrap(),
        by: By::Agent,
        snapshot: Some("20261122T020000Z-1f3a9c4e".parse().unwrap()),
        epoch: Some("20261101T020000Z-00c0ffee".parse().unwrap()),
        consistent_at: Some(at("2026-11-22T02:00:03.218Z")),
        target: Some("nas".parse().unwrap()),
        level: Some(Level::Restored),
        passed: true,
        sabotage: None,
        failed_stage: None,
        error: None,
        tables: tables(),
        objects: objects(),
        exceptions: Vec::new(),
        differences: Vec::new(),
        omitted: Vec::new(),
        checks: vec![
            check("empty-tables", CheckResult::Passed, Some("0"), None),
            check("row-count", CheckResult::Passed, Some("11006402"), None),
            check("foreign-keys", CheckResult::Off, None, None),
            check("amcheck", CheckResult::Unavailable, None, Some("the extension amcheck is not installed")),
            check("newest-payment", CheckResult::Passed, Some("2026-11-22 01:58:12+00"), None),
            check(
                "paying-subscribers",
                CheckResult::NoBaseline,
                Some("812340"),
                Some("there is no earlier proven value to compare with yet"),
            ),
        ],
        rows: 11_006_402,
        bytes: 6_442_450_944,
        older_versions: 0,
        fetched_bytes: 1_932_735_283,
        started_at: at("2026-11-22T10:00:00Z"),
        finished_at: at("2026-11-22T10:28:44Z"),
        seconds: 1724.054,
        rto_seconds: Some(1285.954),
        rto_promised_seconds: Some(1800),
        stages: stages(),
        engine: Some("postgres".into()),
        source_version: Some("15.18".into()),
        scratch: Some("a throwaway server, PostgreSQL 15.20".into()),
        scratch_version: Some("15.20".into()),
        isolation: Some(crate::model::isolation::Isolation::Sandbox),
        snapshot_signer: Some("SHA256:3kWqkHnY6h0zv0mS2b0mVtq1uV0w7xJm9t3Qk0qk1aE".into()),
        receipt_sha256: Some(Sha256::of(b"receipt")),
        signer: "SHA256:3kWqkHnY6h0zv0mS2b0mVtq1uV0w7xJm9t3Qk0qk1aE".into(),
        trend: vec![
            earlier(1, true, Some(1010.0)),
            earlier(8, false, None),
            earlier(9, true, Some(1075.5)),
            earlier(15, false, Some(1190.0)),
        ],
        targets: Vec::new(),
        reports: Vec::new(),
        kept: None,
        warnings: Vec::new(),
    }
}

fn failed() -> DrillReport {
    let mut report = passed();
    let cause = "the rows of public.payments differ; public.subscribers has 1204310 rows, not 1204311; 13 objects of type \
                 index, not 14";
    report.tables[1].equal = false;
    report.tables[2] =
        TableReport { rows: 1_204_310, equal: false, ..table("public.subscribers", 1_204_311) };
    report.objects[1].found = 13;
    report.differences = cause.split("; ").map(str::to_owned).collect();
    report.differences.push("the comment of public.payments is missing".into());
    report.error = Some(ErrorRecord {
        message: "what was restored is not equal to the snapshot".into(),
        cause: Some(cause.into()),
        remedy: Some("Do not rely on this snapshot. Drill it from another target.".into()),
        exit_code: 9,
    });
    report.failed_stage = Some(DrillStage::Compare);
    report.stages.retain(|s| s.name != DrillStage::Checks);
    report.kept = Some("Look with `psql -h /tmp/x`. Stop it with `pg_ctl stop`.".into());
    report.warnings = vec!["the role\n\"web\" could not be made".into()];
    (report.level, report.passed, report.checks) = (None, false, Vec::new());
    report.rto_seconds = Some(2400.0);
    report
}

fn failed_check() -> DrillReport {
    let mut report = passed();
    let message = "the newest payment is 9 days old: is the source still written?";
    report.checks[0] = check("recent-payments", CheckResult::Failed, Some("9 days"), Some(message));
    report.error = Some(ErrorRecord {
        message: "a check of the restored data has failed".into(),
        cause: Some(format!("recent-payments: {message}")),
        remedy: Some("The snapshot is equal to its source: look at the source, or at the check.".into()),
        exit_code: 9,
    });
    report.failed_stage = Some(DrillStage::Checks);
    (report.level, report.passed) = (None, false);
    report
}

fn sabotaged(kind: Sabotage, caught: bool, failed_stage: DrillStage, done: Option<&str>) -> DrillReport {
    let mut report = passed();
    let expected_stage = kind.stage();
    report.sabotage = Some(SabotageReport { kind, done: done.map(str::to_owned), expected_stage, caught });
    report.failed_stage = Some(failed_stage);
    report.error = Some(ErrorRecord {
        message: "what was restored is not equal to the snapshot".into(),
        cause: Some("the rows of public.payments differ".into()),
        remedy: Some("Do not rely on this snapshot.".into()),
        exit_code: 9,
    });
    (report.level, report.passed, report.checks) = (None, false, Vec::new());
    report.tables[1].equal = false;
    report
}

fn noticed() -> DrillReport {
    sabotaged(Sabotage::Row, true, DrillStage::Compare, Some("one row of public.payments was changed"))
}

/// The pages are in `tests/golden/drill`, to be looked at with a browser.
/// `GOLDEN=overwrite` writes them anew; read the difference before it is committed.
#[test]
fn pages_are_as_they_were_read() {
    let mut owner = passed();
    (owner.by, owner.level, owner.rto_promised_seconds) = (By::Owner, Some(Level::OwnerRestored), None);
    (owner.trend, owner.checks) = (Vec::new(), owner.checks.split_off(4));
    let mut early = passed();
    (early.snapshot, early.epoch, early.consistent_at, early.target) = (None, None, None, None);
    (early.tables, early.objects, early.checks) = (Vec::new(), Vec::new(), Vec::new());
    (early.engine, early.source_version, early.scratch, early.scratch_version) = (None, None, None, None);
    (early.snapshot_signer, early.receipt_sha256, early.rto_seconds) = (None, None, None);
    (early.rows, early.bytes, early.fetched_bytes, early.level, early.passed) = (0, 0, 0, None, false);
    early.stages.truncate(1);
    early.failed_stage = Some(DrillStage::Receipts);
    early.error = Some(ErrorRecord {
        message: "failed to read the receipts of gazette/abonnes from any target".into(),
        cause: Some("nas: Input/output error (os error 5)".into()),
        remedy: None,
        exit_code: 4,
    });
    let reports = [
        ("passed", passed()),
        ("passed-by-owner", owner),
        ("failed", failed()),
        ("failed-early", early),
        ("failed-check", failed_check()),
        ("sabotage-noticed", noticed()),
        (
            "sabotage-not-noticed",
            sabotaged(Sabotage::Row, false, DrillStage::Verdict, Some("one row was changed")),
        ),
    ];
    for (name, report) in reports {
        for (folder, locale) in
            [("en", locale(Language::English, "UTC")), ("fr", locale(Language::French, "Europe/Paris"))]
        {
            golden(&format!("{folder}/{name}.html"), &html_for(&report, &locale));
            golden(&format!("{folder}/{name}.md"), &markdown_for(&report, &locale));
        }
    }
}

fn golden(name: &str, page: &str) {
    let page = page.replace(concat!("marbre ", env!("CARGO_PKG_VERSION")), "marbre (version)");
    let path = Path::new("tests/golden/drill").join(name);
    if std::env::var_os("GOLDEN").is_some_and(|mode| mode == "overwrite") {
        std::fs::write(&path, &page).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(page, expected, "{name} (left: now, right: golden)");
}

#[test]
fn the_word_is_honest() {
    assert_eq!(Verdict::of(&passed()), Verdict::Passed(Level::Restored));
    // Whatever else is said: an error, or no proof, is no pass.
    let mut report = passed();
    report.error = failed().error;
    assert_eq!(Verdict::of(&report), Verdict::Failed);
    let mut report = passed();
    (report.level, report.passed) = (None, true);
    assert_eq!(Verdict::of(&report), Verdict::Failed);

    let done = Some("something was damaged");
    let of = |kind, caught, stage, done| Verdict::of(&sabotaged(kind, caught, stage, done));
    assert_eq!(of(Sabotage::Row, true, DrillStage::Compare, done), Verdict::Noticed);
    // Noticed too late is not noticed.
    for late in [DrillStage::Checks, DrillStage::Verdict] {
        assert_eq!(of(Sabotage::Row, false, late, done), Verdict::NotNoticed);
    }
    assert_eq!(of(Sabotage::Byte, false, DrillStage::Open, done), Verdict::NotNoticed);
    assert_eq!(of(Sabotage::Stale, false, DrillStage::Fetch, None), Verdict::NotNoticed);
    // What failed before the damage could be noticed says nothing of it.
    assert_eq!(of(Sabotage::Row, false, DrillStage::Server, None), Verdict::Untested);
    assert_eq!(of(Sabotage::Row, false, DrillStage::Compare, done), Verdict::Untested);
    assert_eq!(of(Sabotage::Stale, false, DrillStage::Receipts, None), Verdict::Untested);
    // Even with a level, which cannot be, a sabotage is no proof.
    let mut report = noticed();
    (report.level, report.passed) = (Some(Level::Restored), true);
    assert_ne!(tone(Verdict::of(&report)), Tone::Good);
    assert!(markdown(&report).contains("It never counts as proof"));
}

#[test]
fn a_check_that_was_not_made_is_never_green() {
    let mut report = passed();
    report.checks.retain(|c| c.result != CheckResult::Passed);
    let page = html(&report);
    assert!(page.contains("0 checks of the restored data passed; 3 checks were not run."));
    let (_, checks) = page.split_once("<h2>Checks").unwrap();
    let (checks, _) = checks.split_once("</section>").unwrap();
    assert_eq!(checks.matches("mark open").count(), 3);
    assert!(!checks.contains("mark good") && !checks.contains('✓'));
}

#[test]
fn a_broken_promise_is_said() {
    let mut report = passed();
    report.rto_promised_seconds = Some(600);
    for page in [html(&report), markdown(&report)] {
        assert!(page.contains("The recovery took 21 min 26 s: longer than the promised 10 min 0 s."));
        assert!(page.contains("✗") && page.contains("BROKEN"));
    }
    report.rto_promised_seconds = Some(48 * 3600);
    assert!(html(&report).contains("The promise, 2 d 0 h, is more than three times the longest bar."));
}

#[test]
fn ten_thousand_tables_stay_readable() {
    let mut report = failed();
    report.tables = (0..10_000).map(|i| table(&format!("t{i:05}"), i)).collect();
    report.tables[17] = TableReport { rows: 16, equal: false, ..table("t00017", 17) };
    report.differences = (0..10_000).map(|i| format!("object {i} is missing")).collect();
    let page = markdown(&report);
    let shown: Vec<&str> = page.lines().filter(|l| l.starts_with("| `t")).collect();
    assert_eq!(shown.len(), 200);
    assert_eq!(shown[0], "| `t00017` | 17 | 16 | ✗ DIFFERENT |");
    assert_eq!(shown[1], "| `t09999` | 9,999 | 9,999 | ✓ equal |");
    assert!(page.contains("\nAnd 9,800 more tables with 48,024,883 rows, all equal.\n"));
    assert!(page.contains("\n- and 9,800 more\n"));
    for table in &mut report.tables {
        table.equal = false;
    }
    assert!(markdown(&report).contains("of which 9,800 DIFFERENT."));
    assert!(html(&report).len() < 100_000);
}

#[test]
fn names_and_messages_are_only_text() {
    let hostile = "</td><script>alert(\"1\")</script> & | `x` \\| *b* _i_ [l](http://x)\n# h\u{202e}\u{7}";
    let mut report = failed();
    report.tables = vec![TableReport { equal: false, ..table(hostile, 1) }];
    report.objects[0].kind = hostile.into();
    report.differences = vec![hostile.into()];
    report.checks = vec![check(hostile, CheckResult::Failed, Some(hostile), Some(hostile))];
    report.error = Some(ErrorRecord {
        message: hostile.into(),
        cause: Some("- not a list".into()),
        remedy: Some("1. not a list".into()),
        exit_code: 9,
    });
    for text in [&mut report.engine, &mut report.source_version, &mut report.scratch, &mut report.kept] {
        *text = Some(hostile.into());
    }
    report.scratch_version = Some(hostile.into());
    report.warnings = vec![hostile.into(), "+ not a list".into()];

    let page = html(&report);
    assert!(!page.contains("<script") && !page.contains("</td><s") && !page.contains('\u{202e}'));
    assert!(
        page.contains("<code>&lt;/td&gt;&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; | `x` \\|")
    );
    assert!(page.contains("# h\\u202e\\u0007"));

    let page = markdown(&report);
    let escaped = "\\</td\\>\\<script\\>alert(\"1\")\\</script\\> \\& \\| \\`x\\` \\\\\\| \\*b\\* \\_i\\_ \\[l\\](http://x)";
    assert!(!page.contains("\n#  h") && !page.contains('\u{202e}') && !page.contains('\u{7}'));
    assert!(page.contains(&format!("\n- {escaped} \\# h\\\\u202e\\\\u0007\n")), "{page}");
    assert!(page.contains("\n\\</td") || page.contains("\n1\\. not a list"));
    assert!(page.contains("\n- \\+ not a list\n"));
    // Each row of a table has as many cells as its head.
    let rows = page.lines().filter(|line| line.contains("alert") && line.starts_with('|'));
    for row in rows {
        let cells = row.replace("\\\\", "").replace("\\|", "").matches('|').count();
        assert!([3, 5].contains(&cells), "{row}");
    }
}

#[test]
fn a_page_asks_nobody_for_anything() {
    let page = html(&passed());
    for word in ["http://", "https://", "src=", "href=", "url(", "<script", " style=", "@import"] {
        assert!(!page.contains(word), "{word}");
    }
    let (_, policy) = page.split_once("content=\"default-src 'none'; style-src 'sha256-").unwrap();
    let (hash, _) = policy.split_once('\'').unwrap();
    let (_, style) = page.split_once("<style>").unwrap();
    let (style, _) = style.split_once("</style>").unwrap();
    use base64::Engine as _;
    assert_eq!(hash, base64::prelude::BASE64_STANDARD.encode(Sha256::of(style.as_bytes()).0));
}

#[test]
fn texts_of_any_length_are_cut() {
    let mut report = failed();
    report.error.as_mut().unwrap().cause = Some("é".repeat(5000));
    assert!(markdown(&report).contains("éé… (3,000 characters more) |"));
}
