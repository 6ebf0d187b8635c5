//! The catalogues of a server, and how a restored database is held against each. A server that has others keeps something of which
//! this release knows nothing: it says so, and a test with each major version does.

use super::connect::Session;
use crate::error::Result;

/// Every catalogue of PostgreSQL 12 to 18: what compares it, or why nothing does.
const KNOWN: [(&str, &str); 64] = [
    ("pg_aggregate", "definitions: aggregate"),
    ("pg_am", "definitions: access method"),
    ("pg_amop", "definitions: operator family"),
    ("pg_amproc", "definitions: operator family"),
    ("pg_attrdef", "definitions: default"),
    ("pg_attribute", "definitions: columns, index, rights"),
    ("pg_auth_members", "no: memberships are the server's; a restore makes those of the roles that it makes"),
    ("pg_authid", "no: roles are the server's; a restore makes those that are missing"),
    ("pg_cast", "definitions: cast"),
    ("pg_class", "definitions: relation, view, index, sequence, owner, rights"),
    ("pg_collation", "definitions: collation"),
    ("pg_constraint", "definitions: constraint"),
    ("pg_conversion", "definitions: conversion"),
    ("pg_database", "definitions: database, owner, rights"),
    ("pg_db_role_setting", "definitions: setting; those of roles in all databases are the server's"),
    ("pg_default_acl", "definitions: default privilege"),
    ("pg_depend", "definitions: what an expression calls; the rest follows from the objects"),
    ("pg_description", "definitions: comment"),
    ("pg_enum", "definitions: type"),
    ("pg_event_trigger", "definitions: event trigger"),
    ("pg_extension", "definitions: extension"),
    ("pg_foreign_data_wrapper", "definitions: foreign-data wrapper"),
    ("pg_foreign_server", "definitions: foreign server"),
    ("pg_foreign_table", "definitions: foreign table"),
    ("pg_index", "definitions: index"),
    ("pg_inherits", "definitions: relation, index"),
    ("pg_init_privs", "no: what extensions and initdb gave is given again by them"),
    ("pg_language", "definitions: language"),
    ("pg_largeobject", "large objects: number and digest"),
    ("pg_largeobject_metadata", "definitions: large objects"),
    ("pg_namespace", "definitions: owner, rights"),
    ("pg_opclass", "definitions: operator class"),
    ("pg_operator", "definitions: operator"),
    ("pg_opfamily", "definitions: operator family"),
    ("pg_parameter_acl", "no: rights on parameters are the server's; a restore says which its roles lack"),
    ("pg_partitioned_table", "definitions: relation"),
    ("pg_policy", "definitions: policy"),
    ("pg_proc", "definitions: function, aggregate, owner, rights"),
    ("pg_publication", "definitions: publication"),
    ("pg_publication_namespace", "definitions: publication"),
    ("pg_publication_rel", "definitions: publication"),
    ("pg_range", "definitions: type"),
    ("pg_replication_origin", "no: how far a replica has come is the server's"),
    ("pg_rewrite", "definitions: rule, view"),
    ("pg_seclabel", "definitions: security label"),
    ("pg_sequence", "definitions: sequence; where it stands"),
    ("pg_shdepend", "definitions: owner; the rest follows from the objects"),
    ("pg_shdescription", "no: comments on roles and databases are set with them"),
    ("pg_shseclabel", "no: labels of roles and databases are the server's; a snapshot names them"),
    ("pg_statistic", "no: ANALYZE makes it again"),
    ("pg_statistic_ext", "definitions: statistics object"),
    ("pg_statistic_ext_data", "no: ANALYZE makes it again"),
    ("pg_subscription", "links: subscription"),
    ("pg_subscription_rel", "no: which tables are synchronized; a restored subscription begins anew"),
    ("pg_tablespace", "no: tablespaces are the server's; a restore says which it lacks"),
    ("pg_transform", "definitions: transform"),
    ("pg_trigger", "definitions: trigger"),
    ("pg_ts_config", "definitions: text search configuration"),
    ("pg_ts_config_map", "definitions: text search configuration"),
    ("pg_ts_dict", "definitions: text search dictionary"),
    ("pg_ts_parser", "definitions: text search parser"),
    ("pg_ts_template", "definitions: text search template"),
    ("pg_type", "definitions: type, owner, rights"),
    ("pg_user_mapping", "links: user mapping"),
];

/// What to do about unknown catalogues.
pub(crate) const REMEDY: &str = "Look for a newer version of marbre.";

/// What people should know about unknown catalogues.
pub(crate) fn warning(unknown: &[String]) -> Option<String> {
    (!unknown.is_empty()).then(|| {
        format!(
            "the server keeps something that drills of this release do not compare: {}",
            unknown.join(", ")
        )
    })
}

/// The server's catalogues that this release does not know.
pub(crate) async fn unknown(session: &Session) -> Result<Vec<String>> {
    let known: Vec<&str> = KNOWN.iter().map(|(name, _)| *name).collect();
    let sql = "SELECT relname::text FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace
               AND relkind = 'r' AND oid < 16384 AND NOT relname = ANY ($1) ORDER BY 1";
    let rows = session.query(sql, &[&known]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_catalogue_is_said_once_and_with_what_compares_it() {
        assert!(KNOWN.is_sorted_by(|(a, _), (b, _)| a < b));
        for (name, how) in KNOWN {
            let compared =
                ["definitions: ", "links: ", "large objects: "].iter().any(|by| how.starts_with(by));
            assert!(compared || how.starts_with("no: "), "{name}: {how}");
        }
    }
}
