//! An archive's list of contents, cut into runs of entries that are restored with the same rights.

use super::by_path::ByPath;

/// With which rights an entry is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rights {
    /// As the user of the destination. The server runs none of the database's code for it, or does so as the object's owner.
    User,
    /// As the loading role: the server evaluates expressions of the database, with the rights of who gives the command.
    Loader,
    /// As the user of the destination, who also owns it then: only a superuser can, and the snapshot's owner is none here.
    Unowned,
}

/// What the server evaluates for these while planning or checking: keys and bounds of partitions, generated columns, checks of
/// rows that are there, casts of a foreign key. `TABLE` also stands for `TABLE ATTACH`.
const EVALUATED: [&str; 4] = ["TABLE ", "FOREIGN TABLE ", "FK CONSTRAINT ", "CHECK CONSTRAINT "];

/// Objects that only superusers can own.
const SUPERUSERS: [&str; 4] = ["EVENT TRIGGER ", "FOREIGN DATA WRAPPER ", "PUBLICATION ", "SUBSCRIPTION "];

/// Entries that can come after all others of a section: nothing depends on them.
const LAST: [&str; 3] = ["ACL ", "COMMENT ", "SECURITY LABEL "];

/// Entries that are restored by one call, in the form that `--use-list` takes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// With which rights.
    pub rights: Rights,
    /// They are made one by one: under the search path of the source's sessions, or for an owner whom the loading role cannot
    /// act for.
    pub one_by_one: bool,
    /// Its lines.
    pub lines: Vec<String>,
}

impl Run {
    /// The line of the entry with this number.
    pub(super) fn line(&self, entry: u32) -> Option<&str> {
        let start = format!("{entry}; ");
        self.lines.iter().find(|line| line.starts_with(&start)).map(String::as_str)
    }
}

/// Who is what at the destination.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    /// All roles that an entry may belong to.
    pub all: Vec<String>,
    /// Those that are superusers.
    pub superusers: Vec<String>,
}

impl Owners {
    /// The owner of this entry. Its name stands last, and may contain spaces like all names before it.
    fn owner(&self, entry: &str) -> Option<&str> {
        let is_last =
            |name: &&String| entry.strip_suffix(name.as_str()).is_some_and(|start| start.ends_with(' '));
        let owners = self.all.iter().chain(&self.superusers).filter(is_last);
        owners.max_by_key(|name| name.len()).map(String::as_str)
    }

    /// Whether the owner of this entry is a superuser.
    fn superuser_owns(&self, entry: &str) -> bool {
        self.owner(entry).is_some_and(|owner| self.superusers.iter().any(|name| name == owner))
    }

    /// Whether its owner is one of the server's own roles, such as `pg_database_owner`, which have no members.
    fn is_predefined(&self, entry: &str) -> bool {
        self.owner(entry).is_some_and(|owner| owner.starts_with("pg_"))
    }

    /// What a line is about, without numbers and owner; and its owner, with whether that is a superuser.
    pub(super) fn named<'a>(&self, line: &'a str) -> (&'a str, Option<String>, bool) {
        let entry = entry(line).unwrap_or(line);
        let owner = self.owner(entry);
        let object = owner.and_then(|owner| entry.strip_suffix(owner)).unwrap_or(entry).trim_end();
        (object, owner.map(str::to_owned), self.superuser_owns(entry))
    }
}

/// The entry of a line: `12; 3466 16999 EVENT TRIGGER - name owner` without its numbers.
fn entry(line: &str) -> Option<&str> {
    let (_, entry) = line.split_once("; ")?;
    entry.splitn(3, ' ').nth(2)
}

fn starts_with(entry: &str, kinds: &[&str]) -> bool {
    kinds.iter().any(|kind| entry.starts_with(kind))
}

/// Whether a line is about an event trigger.
pub(crate) fn is_event_trigger(line: &str) -> bool {
    let of_event_trigger = ["EVENT TRIGGER ", "COMMENT - EVENT TRIGGER ", "SECURITY LABEL - EVENT TRIGGER "];
    entry(line).is_some_and(|entry| starts_with(entry, &of_event_trigger))
}

/// Whether a line is about the rows of a materialized view.
pub(crate) fn is_view_data(line: &str) -> bool {
    entry(line).is_some_and(|entry| entry.starts_with("MATERIALIZED VIEW DATA "))
}

/// Whether a list has partitions.
pub(crate) fn has_partitions(list: &str) -> bool {
    list.lines().any(|line| line.contains(" TABLE ATTACH ") || line.contains(" INDEX ATTACH "))
}

/// Whether an aggregate's first value, if there is one, may evaluate something: it goes through the input function of its type, which
/// for a domain evaluates checks.
pub(crate) fn has_aggregates_and_domains(lines: &[&str]) -> bool {
    let has = |kind| lines.iter().filter_map(|line| entry(line)).any(|entry| entry.starts_with(kind));
    has("AGGREGATE ") && has("DOMAIN ")
}

/// Cuts a list into runs, in the list's order; what can come last comes last. `first_values` says that the first values of
/// aggregates may evaluate something, `by_path` what is made under the source's search path.
pub(crate) fn runs(lines: &[&str], owners: &Owners, first_values: bool, by_path: &[ByPath]) -> Vec<Run> {
    let entries = lines.iter().filter_map(|line| Some((*line, entry(line)?)));
    let (last, first): (Vec<_>, Vec<_>) = entries.partition(|(_, entry)| starts_with(entry, &LAST));
    let mut runs: Vec<Run> = Vec::new();
    for (line, entry) in first.into_iter().chain(last) {
        let rights = rights(entry, owners, first_values);
        let given_away = rights == Rights::Loader && owners.is_predefined(entry);
        append(&mut runs, line, rights, given_away || is_by_path(line, by_path));
    }
    runs
}

/// The same for a user without a superuser's rights: everything is restored with those that there are.
pub(crate) fn runs_of_user(lines: &[&str], by_path: &[ByPath]) -> Vec<Run> {
    let mut runs = Vec::new();
    for line in lines.iter().filter(|line| entry(line).is_some()) {
        append(&mut runs, line, Rights::User, is_by_path(line, by_path));
    }
    runs
}

fn append(runs: &mut Vec<Run>, line: &str, rights: Rights, one_by_one: bool) {
    match runs.last_mut().filter(|run| (run.rights, run.one_by_one) == (rights, one_by_one)) {
        Some(run) => run.lines.push(line.to_owned()),
        None => runs.push(Run { rights, one_by_one, lines: vec![line.to_owned()] }),
    }
}

fn is_by_path(line: &str, by_path: &[ByPath]) -> bool {
    ByPath::of_line(by_path, line).is_some()
}

fn rights(entry: &str, owners: &Owners, first_values: bool) -> Rights {
    let superusers = owners.superuser_owns(entry);
    match entry {
        _ if starts_with(entry, &SUPERUSERS) && !superusers => Rights::Unowned,
        // Its owner may do anything anyway, and nobody else can give it to them.
        _ if superusers => Rights::User,
        _ if starts_with(entry, &EVALUATED) => Rights::Loader,
        _ if first_values && entry.starts_with("AGGREGATE ") => Rights::Loader,
        _ => Rights::User,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_triggers_are_found_in_lists() {
        for line in
            ["3400; 3466 16999 EVENT TRIGGER - et postgres", "3401; 0 0 COMMENT - EVENT TRIGGER et postgres"]
        {
            assert!(is_event_trigger(line), "{line}");
        }
        for line in [
            "; Archive created at 2026-11-22",
            "3399; 2620 16998 TRIGGER public EVENT TRIGGER postgres",
            "215; 1259 16400 TABLE public EVENT TRIGGER postgres",
            "",
        ] {
            assert!(!is_event_trigger(line), "{line}");
        }
    }

    #[test]
    fn rows_of_materialized_views_are_found_in_lists() {
        assert!(is_view_data("3300; 0 16423 MATERIALIZED VIEW DATA public nearer app"));
        assert!(!is_view_data("215; 1259 16423 MATERIALIZED VIEW public MATERIALIZED VIEW DATA app"));
    }

    fn of(lines: &[&str], superusers: &[&str]) -> Vec<(Rights, usize)> {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let owners = Owners { all: names(&["app", "x postgres"]), superusers: names(superusers) };
        runs(lines, &owners, false, &[]).iter().map(|run| (run.rights, run.lines.len())).collect()
    }

    #[test]
    fn what_evaluates_expressions_is_left_to_the_loading_role() {
        let list = [
            ";",
            "1; 2615 1 SCHEMA - s app",
            "2; 0 0 COMMENT - SCHEMA s app",
            "3; 1259 2 TABLE s a app",
            "4; 0 0 ACL s TABLE a app",
            "5; 1259 3 TABLE s b app",
            "6; 0 0 TABLE ATTACH s b app",
            "7; 1259 4 VIEW s v app",
            "8; 2606 5 FK CONSTRAINT s a a_fk app",
        ];
        use Rights::{Loader, User};
        assert_eq!(of(&list, &[]), [(User, 1), (Loader, 3), (User, 1), (Loader, 1), (User, 2)]);
    }

    #[test]
    fn what_belongs_to_a_superuser_is_left_to_the_user() {
        use Rights::{Loader, Unowned, User};
        assert_eq!(of(&["3; 1259 2 TABLE s a postgres"], &["postgres"]), [(User, 1)]);
        assert_eq!(of(&["3; 1259 2 TABLE s a postgres"], &[]), [(Loader, 1)]);
        // A role with a space in its name is not the superuser whose name it ends with.
        assert_eq!(of(&["3; 1259 2 TABLE s a x postgres"], &["postgres"]), [(Loader, 1)]);
        assert_eq!(of(&["3; 3466 2 EVENT TRIGGER - e postgres"], &["postgres"]), [(User, 1)]);
        assert_eq!(of(&["3; 3466 2 EVENT TRIGGER - e app"], &["postgres"]), [(Unowned, 1)]);
    }

    #[test]
    fn what_the_search_path_decides_stands_alone() {
        let list = [
            "3; 1259 2 TABLE s a app",
            "4; 1259 3 VIEW s v app",
            "5; 1259 4 VIEW s w app",
            "6; 1259 5 VIEW s x app",
        ];
        let by_path = [3, 4].map(|oid| ByPath { catalogue: 1259, oid, schemas: Vec::new() });
        let runs = runs_of_user(&list, &by_path);
        let cut: Vec<_> = runs.iter().map(|run| (run.one_by_one, run.lines.len())).collect();
        assert_eq!(cut, [(false, 1), (true, 2), (false, 1)]);
    }

    #[test]
    fn aggregates_with_first_values_are_left_to_the_loading_role() {
        let list = ["1; 1255 1 AGGREGATE s a(integer) app", "2; 1247 3 DOMAIN s d app"];
        assert!(has_aggregates_and_domains(&list) && !has_aggregates_and_domains(&list[..1]));
        let rights = |first_values| runs(&list[..1], &Owners::default(), first_values, &[])[0].rights;
        assert_eq!((rights(false), rights(true)), (Rights::User, Rights::Loader));
    }
}
