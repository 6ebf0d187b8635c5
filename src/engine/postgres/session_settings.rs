//! The settings with which the source's own sessions begin, as far as they decide whether a row is accepted: checks, generated columns
//! and functions see the time zone, the style of dates, and the search path. Rows go in under the settings under which they
//! came about.

use std::collections::BTreeMap;

use super::connect::{Session, set_config};
use super::globals::Setting;
use crate::error::Result;

/// Values by the names of their parameters.
pub(crate) type SessionSettings = BTreeMap<String, String>;

/// The parameter that says where names without a schema are looked up.
pub(crate) const SEARCH_PATH: &str = "search_path";

/// The parameters.
const NAMES: [&str; 4] = ["DateStyle", "IntervalStyle", SEARCH_PATH, "TimeZone"];

/// The statement that sets the search path of a session.
pub(crate) fn set_path(path: &str) -> String {
    set_config([(SEARCH_PATH, path)].into_iter())
}

/// What they are for a new session in this database.
pub(crate) async fn read(session: &Session) -> Result<SessionSettings> {
    let names = NAMES.map(str::to_owned).to_vec();
    let sql = "SELECT name, reset_val FROM pg_settings WHERE name = ANY ($1)";
    let rows = session.query(sql, &[&names]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Those that a program must be told, because they differ at the destination. Programs choose their search path themselves.
pub(crate) async fn to_pass_on(source: &SessionSettings, destination: &Session) -> Result<SessionSettings> {
    let here = read(destination).await?;
    let differs =
        |(name, value): &(&String, &String)| *name != SEARCH_PATH && here.get(*name) != Some(*value);
    Ok(source.iter().filter(differs).map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// The same for a session of this role: its own settings count more, and those in this database most.
pub(crate) fn of_role(base: &SessionSettings, settings: &[Setting], role: Option<&str>) -> SessionSettings {
    let mut all = base.clone();
    for in_database in [false, true] {
        let of_role = settings.iter().filter(|s| s.in_database == in_database && s.role.as_deref() == role);
        for setting in of_role.filter(|s| s.role.is_some()) {
            let name = NAMES.into_iter().find(|name| name.eq_ignore_ascii_case(&setting.name));
            all.extend(name.map(|name| (name.to_owned(), setting.value.clone())));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_role_in_this_database_counts_most() {
        let setting = |role: Option<&str>, in_database, name: &str, value: &str| Setting {
            role: role.map(str::to_owned),
            in_database,
            name: name.into(),
            value: value.into(),
        };
        let base: SessionSettings = [("TimeZone", "UTC"), (SEARCH_PATH, "public")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let settings = [
            setting(Some("app"), true, SEARCH_PATH, "app, public"),
            setting(Some("app"), false, SEARCH_PATH, "elsewhere"),
            setting(Some("app"), false, "timezone", "Europe/Paris"),
            setting(Some("other"), true, "TimeZone", "Asia/Tokyo"),
            setting(Some("app"), true, "work_mem", "1GB"),
            setting(None, true, "TimeZone", "counts already"),
        ];
        let of = |role| of_role(&base, &settings, role);
        assert_eq!(of(Some("app"))[SEARCH_PATH], "app, public");
        assert_eq!(of(Some("app"))["TimeZone"], "Europe/Paris");
        assert_eq!((of(Some("app")).len(), of(None)), (2, base.clone()));
        assert_eq!(of(Some("other"))["TimeZone"], "Asia/Tokyo");
    }
}
