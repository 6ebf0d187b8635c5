//! What keeps a snapshot from being taken: each a clear error that says what is missing. And passwords stay where they are.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use crate::support::marbre::Outcome;
use crate::support::mysql::{DATABASE_RIGHTS, Flavor, PASSWORD, READER, quote_name};

use super::{DATABASE, restore, shop};

with_both!(each_missing_right_is_named, who_and_where, the_password_is_nowhere);

/// The catalogue hides what a user may not see, so that a snapshot without it would look complete.
const HIDDEN: &str = "
CREATE EVENT clean ON SCHEDULE EVERY 1 DAY STARTS '2037-01-01' DISABLE DO DELETE FROM purchase WHERE id = 0;
CREATE FUNCTION vat(n int) RETURNS int DETERMINISTIC NO SQL RETURN n * 20;
";

fn each_missing_right_is_named(flavor: Flavor) {
    let (server, provider) = shop(flavor);
    server.sql(DATABASE, HIDDEN);
    let on = format!("{}.*", quote_name(DATABASE));
    let mut rights: Vec<(&str, &str)> = DATABASE_RIGHTS.map(|right| (right, on.as_str())).to_vec();
    rights.extend(flavor.server_rights().iter().map(|right| (*right, "*.*")));
    if flavor == Flavor::MariaDb {
        // Which shows the bodies of routines.
        rights.push(("SELECT", "mysql.*"));
    }
    for (right, place) in rights {
        server.sql("", &format!("REVOKE {right} ON {place} FROM {READER}@localhost"));
        // Where a right has another name in old releases, that may stand beside it.
        // What only tells more is no reason to have no snapshot.
        if !["BINLOG MONITOR", "REPLICATION CLIENT"].contains(&right) {
            let outcome = provider.snapshot().refuses(4, &[right]);
            assert!(outcome.json()["remedy"].to_string().contains("GRANT"), "{right}: {outcome}");
            assert_eq!(provider.receipts(), [""; 0]);
        }
        let doctor = provider.marbre(&["doctor"]).run();
        assert!(doctor.to_string().contains(right), "no {right} in {doctor}");
        server.sql("", &format!("GRANT {right} ON {place} TO {READER}@localhost"));
    }
    provider.snapshot().success();
}

fn who_and_where(flavor: Flavor) {
    let (server, mut provider) = shop(flavor);
    provider.set_source(server.source("nowhere"));
    // A user without rights on a database is not told whether there is one.
    let outcome = provider.snapshot().run();
    assert!([Some(4), Some(5)].contains(&outcome.code()), "{outcome}");
    assert!(outcome.stdout.contains("nowhere"), "{outcome}");
    provider.set_source(server.source(DATABASE).replace("user=marbre", "user=nobody_at_all"));
    provider.snapshot().refuses(6, &["nobody_at_all"]);
    provider.set_source(server.source(DATABASE).replace("/s&", "/elsewhere&"));
    provider.snapshot().refuses(6, &["elsewhere"]);
    let other = if flavor == Flavor::MariaDb { "mysql" } else { "mariadb" };
    let lines = server.source(DATABASE);
    provider.set_source(
        lines.replace(&format!("engine = \"{}\"", flavor.engine()), &format!("engine = \"{other}\"")),
    );
    provider.snapshot().refuses(4, &[flavor.engine()]);
    assert_eq!(provider.receipts(), [""; 0]);
}

#[track_caller]
fn holds_no_password(outcome: &Outcome) {
    assert!(!outcome.to_string().contains(PASSWORD), "{outcome}");
}

fn the_password_is_nowhere(flavor: Flavor) {
    let (server, provider) = shop(flavor);
    // Every command line there was while it ran: the server's own tools among them.
    let seen = std::thread::scope(|scope| {
        let (stop, stopped) = channel::<()>();
        let watcher = scope.spawn(move || {
            let mut seen = 0;
            while stopped.recv_timeout(Duration::from_millis(3)) == Err(RecvTimeoutError::Timeout) {
                for entry in std::fs::read_dir("/proc").unwrap().flatten() {
                    for file in ["cmdline", "environ"] {
                        let text = std::fs::read(entry.path().join(file)).unwrap_or_default();
                        seen += usize::from(memchr::memmem::find(&text, PASSWORD.as_bytes()).is_some());
                    }
                }
            }
            seen
        });
        holds_no_password(&provider.snapshot().env("MARBRE_LOG", "trace").success());
        holds_no_password(&provider.marbre(&["doctor"]).env("MARBRE_LOG", "trace").run());
        holds_no_password(&restore(&provider, &server, "copy").env("MARBRE_LOG", "trace").success());
        server.sql("", &format!("ALTER USER {READER}@localhost IDENTIFIED BY 'another'"));
        holds_no_password(&provider.snapshot().env("MARBRE_LOG", "trace").fails_with(6));
        stop.send(()).unwrap();
        watcher.join().unwrap()
    });
    assert_eq!(seen, 0, "the password was in a command line or an environment");
    for path in crate::support::sqlite_setup::files(&provider.path("")) {
        let bytes = std::fs::read(&path).unwrap_or_default();
        assert!(memchr::memmem::find(&bytes, PASSWORD.as_bytes()).is_none(), "in {}", path.display());
    }
}
