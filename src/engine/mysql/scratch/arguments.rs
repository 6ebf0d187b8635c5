//! What a throwaway server is started with: fast rather than safe, because it need not survive a crash; small; and without data in its log.

use std::ffi::OsString;
use std::path::Path;

use super::layout::Layout;
use super::programs::Programs;
use crate::engine::throwaway::folder::text;
use crate::error::Result;
use crate::model::engine_kind::EngineKind;

/// What the server must be like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    /// Connections at the same time that load data.
    pub jobs: usize,
    /// The source's server wrote the names of tables in small letters.
    pub small_letters: bool,
}

/// The first version of MariaDB whose storage engine is asked in other ways not to wait for the disk.
const MARIADB_WITHOUT_NOSYNC: u32 = 11;

/// Options that both servers know. What begins with `loose-` not every version knows.
const BOTH: [&str; 18] = [
    "--skip-networking",
    "--skip-name-resolve",
    "--skip-log-bin",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-doublewrite=0",
    // Not every sandbox lets it.
    "--innodb-use-native-aio=0",
    // What its source has taken is not to be refused here.
    "--innodb-strict-mode=0",
    "--innodb-buffer-pool-size=128M",
    // Otherwise address space for terabytes is reserved, which no drill has.
    "--loose-innodb-buffer-pool-size-max=128M",
    "--innodb-buffer-pool-dump-at-shutdown=0",
    "--innodb-buffer-pool-load-at-startup=0",
    "--performance-schema=OFF",
    // Not DISABLED: no event could be made then.
    "--event-scheduler=OFF",
    "--loose-skip-slave-start",
    "--loose-skip-replica-start",
    "--local-infile=1",
    "--max-allowed-packet=1G",
    "--character-set-server=utf8mb4",
];

const MARIADB: [&str; 1] = [
    // Warnings and more can hold values.
    "--log-warnings=0",
];

const MYSQL: [&str; 8] = [
    "--log-error-verbosity=1",
    "--secure-file-priv=NULL",
    "--loose-mysqlx=OFF",
    // What SET PERSIST wrote is not obeyed by the next start.
    "--loose-persisted-globals-load=OFF",
    // Nobody connects from elsewhere.
    "--loose-auto-generate-certs=OFF",
    "--loose-sha256-password-auto-generate-rsa-keys=OFF",
    "--loose-caching-sha2-password-auto-generate-rsa-keys=OFF",
    // Without this, each definition waits for the disk several times: minutes for some hundred tables.
    "--innodb-flush-method=nosync",
];

/// The arguments of the program that makes the data.
pub(super) fn initial(programs: &Programs, layout: &Layout, size: Size) -> Result<Vec<OsString>> {
    let mut all = vec![OsString::from("--no-defaults")];
    match programs.kind {
        // --force: the name of the host, which it would look up, is no matter.
        EngineKind::MariaDb => {
            let own = ["--auth-root-authentication-method=normal", "--skip-test-db", "--force"];
            all.extend(own.map(OsString::from));
            if let Some(prefix) = programs.prefix() {
                all.push(option("basedir", &prefix)?);
            }
            all.push(option("datadir", &layout.data())?);
            all.push(option("tmpdir", &layout.temporary())?);
            all.push(names(size));
        }
        _ => {
            all.push("--initialize-insecure".into());
            all.extend(server(programs, layout, size)?.into_iter().skip(1));
        }
    }
    Ok(all)
}

/// The arguments of the server.
pub(super) fn server(programs: &Programs, layout: &Layout, size: Size) -> Result<Vec<OsString>> {
    let mut all = vec![OsString::from("--no-defaults")];
    if let Some(prefix) = programs.prefix() {
        all.push(option("basedir", &prefix)?);
    }
    all.push(option("datadir", &layout.data())?);
    all.push(option("socket", &layout.socket())?);
    all.push(option("pid-file", &layout.temporary().join("pid"))?);
    all.push(option("tmpdir", &layout.temporary())?);
    // Code of others is not loaded: a plugin would run as the server.
    all.push(option("plugin-dir", &layout.empty())?);
    all.extend(BOTH.map(OsString::from));
    match programs.kind {
        EngineKind::MariaDb => {
            all.extend(MARIADB.map(OsString::from));
            all.push(option("secure-file-priv", &layout.empty())?);
            if programs.version.major < MARIADB_WITHOUT_NOSYNC {
                all.push("--innodb-flush-method=nosync".into());
            }
        }
        _ => all.extend(MYSQL.map(OsString::from)),
    }
    all.push(names(size));
    all.push(format!("--max-connections={}", (size.jobs * 2 + 12).max(24)).into());
    Ok(all)
}

/// How names are written. A server of MySQL keeps to what its data were made with.
fn names(size: Size) -> OsString {
    format!("--lower-case-table-names={}", u8::from(size.small_letters)).into()
}

/// An option that names a path.
pub(super) fn option(name: &str, path: &Path) -> Result<OsString> {
    Ok(format!("--{name}={}", text(path)?).into())
}

#[cfg(test)]
mod tests {
    use super::super::super::version::Version;
    use super::*;

    fn words(kind: EngineKind, version: &str) -> Vec<String> {
        let programs = Programs {
            kind,
            server: "/usr/sbin/mysqld".into(),
            installer: None,
            version: Version::find(version).unwrap(),
        };
        let layout = Layout { folder: "/x/it's a place".into() };
        let size = Size { jobs: 40, small_letters: true };
        let mut all = server(&programs, &layout, size).unwrap();
        all.extend(initial(&programs, &layout, size).unwrap());
        all.into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn servers_are_closed_and_grow_with_the_work() {
        for (kind, version) in [(EngineKind::MariaDb, "10.11.19"), (EngineKind::MySql, "9.7.4")] {
            let words = words(kind, version);
            assert_eq!(words[0], "--no-defaults");
            for wanted in [
                "--skip-networking",
                "--max-connections=92",
                "--lower-case-table-names=1",
                "--datadir=/x/it's a place/data",
                "--socket=/x/it's a place/s/mysql.sock",
                "--plugin-dir=/x/it's a place/empty",
            ] {
                assert!(words.iter().any(|word| word == wanted), "{wanted} in {words:?}");
            }
            assert!(words.iter().any(|word| word.starts_with("--secure-file-priv=")));
        }
        let nosync =
            |version| words(EngineKind::MariaDb, version).iter().any(|word| word.ends_with("=nosync"));
        assert!(nosync("10.5.29") && !nosync("11.8.2"));
    }
}
