//! Objects whose meaning depends on the search path under which they are made. `pg_dump` writes every name with its schema, but the
//! grammar has no place for one in `JOIN … USING`, `IS DISTINCT FROM`, `NULLIF` and `CASE … WHEN`: what `=` is there, the server
//! looks up by the search path (<https://www.postgresql.org/docs/current/typeconv-oper.html>). With an empty one, it finds its own
//! operator for the types that a value converts to, or none at all.

use serde::{Deserialize, Serialize};

use super::connect::Session;
use super::row::Row;
use crate::error::Result;

/// An object, by the numbers with which it stands in an archive's list of contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct ByPath {
    /// The catalogue that it is in.
    pub catalogue: u32,
    /// Its number in there.
    pub oid: u32,
}

impl ByPath {
    /// The object of a line such as `215; 1259 16400 VIEW public v app`.
    pub(super) fn of_line(line: &str) -> Option<Self> {
        let (_, entry) = line.split_once("; ")?;
        let mut numbers = entry.split(' ');
        Some(Self { catalogue: numbers.next()?.parse().ok()?, oid: numbers.next()?.parse().ok()? })
    }
}

/// Those with an expression that uses an operator outside `pg_catalog`, and that may write it without a schema. What is part of the
/// statement that makes a table, view or domain counts as that.
pub(crate) async fn read(session: &Session) -> Result<Vec<ByPath>> {
    let rows = session.query(&format!("{SQL} ORDER BY 1, 2"), &[]).await?;
    Ok(rows.iter().map(|row: &Row| ByPath { catalogue: row.get(0), oid: row.get(1) }).collect())
}

const SQL: &str = "
WITH uses AS (
  SELECT DISTINCT d.classid, d.objid FROM pg_depend d JOIN pg_operator o ON o.oid = d.refobjid
  WHERE d.refclassid = 'pg_operator'::regclass AND o.oprnamespace <> 'pg_catalog'::regnamespace
    AND d.classid IN ('pg_rewrite'::regclass, 'pg_attrdef'::regclass, 'pg_constraint'::regclass, 'pg_class'::regclass,
      'pg_trigger'::regclass, 'pg_policy'::regclass, 'pg_proc'::regclass, 'pg_statistic_ext'::regclass,
      'pg_publication_rel'::regclass)
    AND (d.classid <> 'pg_constraint'::regclass OR EXISTS (SELECT FROM pg_constraint c WHERE c.oid = d.objid AND c.contype = 'c'))
    AND (d.classid <> 'pg_rewrite'::regclass OR pg_get_ruledef(d.objid) ~ ' USING \\(| DISTINCT FROM |NULLIF\\(|CASE '))
SELECT classid, objid FROM uses
UNION SELECT 'pg_class'::regclass::oid, r.ev_class FROM uses JOIN pg_rewrite r ON r.oid = objid
  WHERE classid = 'pg_rewrite'::regclass AND r.rulename = '_RETURN'
UNION SELECT 'pg_class'::regclass::oid, a.adrelid FROM uses JOIN pg_attrdef a ON a.oid = objid WHERE classid = 'pg_attrdef'::regclass
UNION SELECT 'pg_class'::regclass::oid, c.conrelid FROM uses JOIN pg_constraint c ON c.oid = objid
  WHERE classid = 'pg_constraint'::regclass AND c.conrelid <> 0
UNION SELECT 'pg_type'::regclass::oid, c.contypid FROM uses JOIN pg_constraint c ON c.oid = objid
  WHERE classid = 'pg_constraint'::regclass AND c.contypid <> 0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_known_by_their_lines() {
        let known = ByPath { catalogue: 1259, oid: 16400 };
        assert_eq!(ByPath::of_line("215; 1259 16400 VIEW public v app"), Some(known));
        assert_eq!(ByPath::of_line("; Archive created at 2026-11-22"), None);
    }
}
