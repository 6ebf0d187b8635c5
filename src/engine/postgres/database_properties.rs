//! The properties of a database itself: owner, locale, limits, comment and rights.

use serde::{Deserialize, Serialize};

use super::quote::{ident_line, literal_line};

/// The database's own properties.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Database {
    /// Name.
    pub name: String,
    /// Owner.
    pub owner: String,
    /// Encoding, e.g. `UTF8`.
    pub encoding: String,
    /// LC_COLLATE.
    pub collate: String,
    /// LC_CTYPE.
    pub ctype: String,
    /// `libc`, `icu` or `builtin`.
    pub locale_provider: String,
    /// The locale of `icu` or `builtin`.
    pub locale: Option<String>,
    /// ICU_RULES.
    pub icu_rules: Option<String>,
    /// The version of the collation on the source.
    pub collation_version: Option<String>,
    /// CONNECTION LIMIT, -1 for none.
    pub connection_limit: i32,
    /// COMMENT.
    pub comment: Option<String>,
    /// IS_TEMPLATE: anybody who may create databases may copy it.
    #[serde(default)]
    pub template: bool,
    /// The tablespace that it lies in, if that is not the server's own.
    #[serde(default)]
    pub tablespace: Option<String>,
    /// Rights, if they are not the default.
    pub grants: Option<Vec<DatabaseGrant>>,
}

/// One right on the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DatabaseGrant {
    /// To whom; none for PUBLIC.
    pub grantee: Option<String>,
    /// The privilege, e.g. `CONNECT`.
    pub privilege: String,
    /// WITH GRANT OPTION.
    pub grantable: bool,
}

impl Database {
    /// Everything but creation and name: rights, owner, comment, limit; for the database of this name.
    pub(super) fn alter(&self, database: &str) -> Vec<String> {
        let database = ident_line(database);
        let mut sql = vec![format!("ALTER DATABASE {database} OWNER TO {}", ident_line(&self.owner))];
        if self.connection_limit != -1 {
            sql.push(format!("ALTER DATABASE {database} CONNECTION LIMIT {}", self.connection_limit));
        }
        if let Some(grants) = &self.grants {
            sql.push(format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC, {}", ident_line(&self.owner)));
            sql.extend(grants.iter().map(|grant| {
                let grantee = grant.grantee.as_deref();
                format!(
                    "GRANT {} ON DATABASE {database} TO {}{}",
                    grant.privilege,
                    grantee.map_or("PUBLIC".to_owned(), ident_line),
                    if grant.grantable { " WITH GRANT OPTION" } else { "" }
                )
            }));
        }
        sql
    }

    /// What a restore does not set, in words: it could not be replaced or dropped any more, or is about the server.
    pub(super) fn left(&self) -> Vec<String> {
        let template = self.template.then(|| "the database was a template (IS_TEMPLATE)".to_owned());
        let place = self.tablespace.as_ref();
        let place = place.map(|name| format!("the database lay in tablespace {}", name.escape_debug()));
        template.into_iter().chain(place).collect()
    }

    /// `COMMENT ON DATABASE`, which also removes a comment.
    pub(super) fn comment_on(database: &str, comment: Option<&str>) -> String {
        format!(
            "COMMENT ON DATABASE {} IS {}",
            ident_line(database),
            comment.map_or("NULL".to_owned(), literal_line)
        )
    }

    /// `CREATE DATABASE` for a server of this major version, with its locale or without.
    pub(super) fn create(&self, database: &str, major: u32, locale: bool) -> String {
        let mut sql = format!(
            "CREATE DATABASE {} TEMPLATE template0 ENCODING {}",
            ident_line(database),
            literal_line(&self.encoding)
        );
        if !locale {
            sql.push_str(" LC_COLLATE 'C' LC_CTYPE 'C'");
            return sql;
        }
        sql.push_str(&format!(
            " LC_COLLATE {} LC_CTYPE {}",
            literal_line(&self.collate),
            literal_line(&self.ctype)
        ));
        if major >= 15 {
            sql.push_str(&format!(" LOCALE_PROVIDER {}", self.locale_provider));
        }
        if let Some(locale) = &self.locale {
            let name = match self.locale_provider.as_str() {
                "builtin" => "BUILTIN_LOCALE",
                _ => "ICU_LOCALE",
            };
            sql.push_str(&format!(" {name} {}", literal_line(locale)));
        }
        if let Some(rules) = &self.icu_rules {
            sql.push_str(&format!(" ICU_RULES {}", literal_line(rules)));
        }
        sql
    }
}
