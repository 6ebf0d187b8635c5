//! Libraries that a throwaway server must preload: some extensions cannot be made without.

use std::path::Path;

use super::DATABASE;
use crate::engine::postgres::details::Details;

/// Extensions that can only be made, or only work, where the server has preloaded the library of their name. They count where the
/// source does not let its user see what it preloads.
const NEEDED: [&str; 14] = [
    "age",
    "citus",
    "pg_cron",
    "pg_net",
    "pg_partman_bgw",
    "pg_qualstats",
    "pg_squeeze",
    "pg_stat_kcache",
    "pg_stat_statements",
    "pg_wait_sampling",
    "pgaudit",
    "pglogical",
    "set_user",
    "timescaledb",
];

/// The libraries, in the source's order, of those that are installed beside the programs in `directory`.
pub(crate) fn libraries(details: &Details, directory: &Path) -> Vec<String> {
    let extensions = details.extensions.iter().map(|extension| extension.name.as_str());
    let mut names: Vec<&str> = match details.preloaded.is_empty() {
        true => extensions.filter(|name| NEEDED.contains(name)).collect(),
        false => details.preloaded.iter().map(String::as_str).collect(),
    };
    let plain = |name: &&str| name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    names.retain(|name| plain(name) && is_installed(name, directory));
    names.into_iter().map(str::to_owned).collect()
}

/// Whether there is a library of this name. Folders of libraries are beside that of the programs.
fn is_installed(name: &str, directory: &Path) -> bool {
    let Some(installation) = directory.parent() else { return false };
    let file = format!("{name}.so");
    ["lib", "lib/postgresql", "lib64"].iter().any(|folder| installation.join(folder).join(&file).is_file())
}

/// The settings with which a server preloads them.
pub(crate) fn settings(libraries: &[String]) -> Vec<(&'static str, String)> {
    if libraries.is_empty() {
        return Vec::new();
    }
    vec![
        ("shared_preload_libraries", libraries.join(",")),
        // They are there for what they define. What they would do by themselves, as run the restored jobs, they do not.
        ("max_worker_processes", "0".to_owned()),
        ("cron.database_name", DATABASE.to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::postgres::details::Extension;

    #[test]
    fn only_what_is_installed_is_preloaded() {
        let folder = tempfile::tempdir().unwrap();
        let (bin, lib) = (folder.path().join("bin"), folder.path().join("lib"));
        for folder in [&bin, &lib] {
            std::fs::create_dir(folder).unwrap();
        }
        for name in ["pg_cron", "pgaudit", "evil"] {
            std::fs::write(lib.join(format!("{name}.so")), "").unwrap();
        }
        let extension = |name: &str| Extension { name: name.into(), version: "1".into() };
        let mut details = Details {
            extensions: ["evil", "pg_cron", "timescaledb"].map(extension).to_vec(),
            ..Details::default()
        };
        assert_eq!(libraries(&details, &bin), ["pg_cron"]);
        details.preloaded = ["pgaudit", "../bin/x", "lib/evil", "pg_cron"].map(str::to_owned).to_vec();
        assert_eq!(libraries(&details, &bin), ["pgaudit", "pg_cron"]);
        assert_eq!(
            (settings(&[]).len(), &settings(&libraries(&details, &bin))[0].1[..]),
            (0, "pgaudit,pg_cron")
        );
    }
}
