//! What is outside the database but belongs to it: roles, their memberships and settings, and the
//! database's own properties.

use serde::{Deserialize, Serialize};

use super::database_properties::Database;
use super::quote::{ident_line, literal_line};

/// Roles that this database refers to, and the database itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Globals {
    /// Roles, by name.
    pub roles: Vec<Role>,
    /// Memberships among them.
    pub memberships: Vec<Membership>,
    /// Settings of the database and of roles.
    pub settings: Vec<Setting>,
    /// Rights of roles on the server's parameters.
    #[serde(default)]
    pub parameter_grants: Vec<ParameterGrant>,
    /// The database.
    pub database: Database,
    /// Whether password hashes could be read.
    pub passwords: bool,
}

/// A role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Role {
    /// Name.
    pub name: String,
    /// SUPERUSER.
    pub superuser: bool,
    /// INHERIT.
    pub inherit: bool,
    /// CREATEROLE.
    pub create_role: bool,
    /// CREATEDB.
    pub create_db: bool,
    /// LOGIN.
    pub login: bool,
    /// REPLICATION.
    pub replication: bool,
    /// BYPASSRLS.
    pub bypass_rls: bool,
    /// CONNECTION LIMIT, -1 for none.
    pub connection_limit: i32,
    /// VALID UNTIL.
    pub valid_until: Option<String>,
    /// The hash of its password, if we may read it.
    pub password: Option<String>,
    /// COMMENT.
    pub comment: Option<String>,
}

/// `member` is a member of `role`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Membership {
    /// The group.
    pub role: String,
    /// Its member.
    pub member: String,
    /// WITH ADMIN OPTION.
    pub admin: bool,
    /// WITH INHERIT, since 16.
    pub inherit: Option<bool>,
    /// WITH SET, since 16.
    pub set: Option<bool>,
}

/// `GRANT SET ON PARAMETER`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ParameterGrant {
    /// The parameter.
    pub parameter: String,
    /// To whom.
    pub grantee: String,
    /// `SET` or `ALTER SYSTEM`.
    pub privilege: String,
    /// WITH GRANT OPTION.
    pub grantable: bool,
}

impl ParameterGrant {
    /// The statement.
    pub(super) fn grant(&self) -> String {
        format!(
            "GRANT {} ON PARAMETER {} TO {}{}",
            self.privilege,
            parameter(&self.parameter),
            ident_line(&self.grantee),
            if self.grantable { " WITH GRANT OPTION" } else { "" }
        )
    }
}

/// A parameter's name. One of an extension has a dot, which must not be quoted.
fn parameter(name: &str) -> String {
    let parts: Vec<String> = name.split('.').map(ident_line).collect();
    parts.join(".")
}

/// `ALTER DATABASE … SET`, `ALTER ROLE … SET` or both at once; without either, `ALTER ROLE ALL SET`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Setting {
    /// For one role only.
    pub role: Option<String>,
    /// For this database only.
    pub in_database: bool,
    /// Parameter.
    pub name: String,
    /// Value as the catalogue has it.
    pub value: String,
}

impl Role {
    /// The same role without what would give it rights beyond its databases, and without its password.
    pub(super) fn plain(&self) -> Self {
        Self {
            superuser: false,
            create_role: false,
            replication: false,
            bypass_rls: false,
            password: None,
            ..self.clone()
        }
    }

    /// What [`Role::plain`] leaves out, in words.
    pub(super) fn beyond_plain(&self) -> Vec<&'static str> {
        [
            (self.superuser, "SUPERUSER"),
            (self.create_role, "CREATEROLE"),
            (self.replication, "REPLICATION"),
            (self.bypass_rls, "BYPASSRLS"),
            (self.password.is_some(), "its password"),
        ]
        .into_iter()
        .filter_map(|(there, what)| there.then_some(what))
        .collect()
    }

    /// `CREATE ROLE` with all attributes, or only with those that anybody who may create roles may give.
    pub(super) fn create(&self, everything: bool) -> String {
        let mut sql = format!("CREATE ROLE {} WITH", ident_line(&self.name));
        let mut option = |on: bool, name: &str| {
            sql.push_str(if on { " " } else { " NO" });
            sql.push_str(name);
        };
        option(self.login, "LOGIN");
        option(self.inherit, "INHERIT");
        if everything {
            option(self.superuser, "SUPERUSER");
            option(self.create_role, "CREATEROLE");
            option(self.create_db, "CREATEDB");
            option(self.replication, "REPLICATION");
            option(self.bypass_rls, "BYPASSRLS");
        }
        if self.connection_limit != -1 {
            sql.push_str(&format!(" CONNECTION LIMIT {}", self.connection_limit));
        }
        if let Some(until) = &self.valid_until {
            sql.push_str(&format!(" VALID UNTIL {}", literal_line(until)));
        }
        if let Some(password) = &self.password {
            sql.push_str(&format!(" PASSWORD {}", literal_line(password)));
        }
        sql
    }

    /// `COMMENT ON ROLE`, if there is one.
    pub(super) fn comment_on(&self) -> Option<String> {
        let comment = self.comment.as_ref()?;
        Some(format!("COMMENT ON ROLE {} IS {}", ident_line(&self.name), literal_line(comment)))
    }
}

impl Membership {
    /// `GRANT … TO …` for a server of this major version.
    pub(super) fn grant(&self, major: u32) -> String {
        let mut options = Vec::new();
        if self.admin {
            options.push("ADMIN OPTION".to_owned());
        }
        if major >= 16 {
            let mut option = |name: &str, on: Option<bool>| {
                if let Some(on) = on {
                    options.push(format!("{name} {}", if on { "TRUE" } else { "FALSE" }));
                }
            };
            option("INHERIT", self.inherit);
            option("SET", self.set);
        }
        let with = match options.is_empty() {
            true => String::new(),
            false => format!(" WITH {}", options.join(", ")),
        };
        format!("GRANT {} TO {}{with}", ident_line(&self.role), ident_line(&self.member))
    }
}

/// Parameters whose value is a list of names, each of which is quoted separately.
const NAME_LISTS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

impl Setting {
    /// The statement for the database of this name.
    pub(super) fn alter(&self, database: &str) -> String {
        let place = match (&self.role, self.in_database) {
            (Some(role), true) => {
                format!("ROLE {} IN DATABASE {}", ident_line(role), ident_line(database))
            }
            (Some(role), false) => format!("ROLE {}", ident_line(role)),
            (None, true) => format!("DATABASE {}", ident_line(database)),
            (None, false) => "ROLE ALL".to_owned(),
        };
        let value = if NAME_LISTS.contains(&self.name.to_ascii_lowercase().as_str()) {
            let names = split_names(&self.value);
            let quoted: Vec<String> = names.iter().map(|name| literal_line(name)).collect();
            match quoted.is_empty() {
                true => "''".to_owned(),
                false => quoted.join(", "),
            }
        } else {
            literal_line(&self.value)
        };
        format!("ALTER {place} SET {} TO {value}", parameter(&self.name))
    }
}

/// Splits `"$user", public` into its names.
fn split_names(list: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut chars = list.chars().peekable();
    while chars.peek().is_some() {
        let mut name = String::new();
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.next_if_eq(&'"').is_some() {
            while let Some(c) = chars.next() {
                if c == '"' && chars.next_if_eq(&'"').is_none() {
                    break;
                }
                name.push(c);
            }
            while chars.next().is_some_and(|c| c != ',') {}
        } else {
            while let Some(c) = chars.next().filter(|c| *c != ',') {
                name.push(c);
            }
            name.truncate(name.trim_end().len());
        }
        names.push(name);
    }
    names
}

impl Globals {
    /// All of it as a script for people, one statement per line. marbre itself never runs it.
    pub(super) fn script(&self) -> String {
        let database = &self.database.name;
        let mut lines = vec![
            "SET standard_conforming_strings = on".to_owned(),
            "SET client_encoding = 'UTF8'".to_owned(),
        ];
        lines.extend(self.roles.iter().map(|role| role.create(true)));
        lines.extend(self.roles.iter().filter_map(Role::comment_on));
        // Options of 16 are only known if the source was 16 or newer.
        lines.extend(self.memberships.iter().map(|m| m.grant(16)));
        lines.push(self.database.create(database, self.script_major(), true));
        lines.extend(self.database.alter(database));
        lines.extend(self.settings.iter().map(|s| s.alter(database)));
        lines.extend(self.parameter_grants.iter().map(ParameterGrant::grant));
        if let Some(comment) = &self.database.comment {
            lines.push(Database::comment_on(database, Some(comment)));
        }
        let mut script = lines.join(";\n");
        script.push_str(";\n");
        script
    }

    /// `LOCALE_PROVIDER` is only written if it is not the default.
    fn script_major(&self) -> u32 {
        match self.database.locale_provider.as_str() {
            "libc" => 14,
            _ => 15,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::database_properties::DatabaseGrant;
    use super::*;

    #[test]
    fn a_role_on_one_line() {
        let role = Role {
            name: "odd\nname\"".into(),
            login: true,
            inherit: true,
            connection_limit: 3,
            password: Some("SCRAM-SHA-256$4096:a".into()),
            comment: Some("two\nlines".into()),
            ..Role::default()
        };
        assert_eq!(
            role.create(false),
            "CREATE ROLE U&\"odd\\000Aname\"\"\" WITH LOGIN INHERIT CONNECTION LIMIT 3 PASSWORD 'SCRAM-SHA-256$4096:a'"
        );
        assert!(role.create(true).contains(" NOSUPERUSER NOCREATEROLE"));
        assert!(!role.comment_on().unwrap().contains('\n'));
    }

    #[test]
    fn memberships_keep_their_options_where_the_server_has_them() {
        let membership = Membership {
            role: "g".into(),
            member: "m".into(),
            admin: true,
            inherit: Some(false),
            set: Some(true),
        };
        assert_eq!(membership.grant(15), "GRANT \"g\" TO \"m\" WITH ADMIN OPTION");
        assert_eq!(membership.grant(16), "GRANT \"g\" TO \"m\" WITH ADMIN OPTION, INHERIT FALSE, SET TRUE");
    }

    #[test]
    fn lists_of_names_are_quoted_one_by_one() {
        let mut setting = Setting {
            role: None,
            in_database: true,
            name: "search_path".into(),
            value: "\"$user\", public, \"a\"\"b, c\"".into(),
        };
        assert_eq!(
            setting.alter("d"),
            "ALTER DATABASE \"d\" SET \"search_path\" TO '$user', 'public', 'a\"b, c'"
        );
        setting.name = "my.Thing".into();
        setting.value = "it's".into();
        setting.role = Some("r".into());
        let everywhere = Setting { role: None, in_database: false, ..setting.clone() };
        assert_eq!(everywhere.alter("d"), "ALTER ROLE ALL SET \"my\".\"Thing\" TO 'it''s'");
        assert_eq!(setting.alter("d"), "ALTER ROLE \"r\" IN DATABASE \"d\" SET \"my\".\"Thing\" TO 'it''s'");
    }

    #[test]
    fn a_database_can_be_made_again_under_another_name() {
        let database = Database {
            name: "old".into(),
            owner: "o".into(),
            encoding: "UTF8".into(),
            collate: "C".into(),
            ctype: "C.UTF-8".into(),
            locale_provider: "icu".into(),
            locale: Some("fr-FR".into()),
            grants: Some(vec![DatabaseGrant {
                grantee: None,
                privilege: "CONNECT".into(),
                grantable: false,
            }]),
            ..Database::default()
        };
        assert_eq!(
            database.create("new", 18, true),
            "CREATE DATABASE \"new\" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C.UTF-8' LOCALE_PROVIDER icu ICU_LOCALE 'fr-FR'"
        );
        assert!(database.create("new", 18, false).ends_with("LC_COLLATE 'C' LC_CTYPE 'C'"));
        assert!(database.alter("new").contains(&"GRANT CONNECT ON DATABASE \"new\" TO PUBLIC".to_owned()));
    }
}
