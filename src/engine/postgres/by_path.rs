//! Objects whose meaning depends on the search path under which they are made. `pg_dump` writes every name with its schema, but the
//! grammar has no place for one in `JOIN … USING`, `IS DISTINCT FROM`, `NULLIF` and `CASE … WHEN`: what `=` is there, the server
//! looks up by the search path (<https://www.postgresql.org/docs/current/typeconv-oper.html>). With an empty one, it finds its own
//! operator for the types that a value converts to, or none at all.

use serde::{Deserialize, Serialize};

use super::connect::Session;
use super::row::Row;
use crate::error::Result;

/// An object, by the numbers with which it stands in an archive's list of contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ByPath {
    /// The catalogue that it is in.
    pub catalogue: u32,
    /// Its number in there.
    pub oid: u32,
    /// The schemas of the operators that it uses, other than `pg_catalog`: a search path that leads to them.
    pub schemas: Vec<String>,
}

impl ByPath {
    /// Which of these is the object of a line such as `215; 1259 16400 VIEW public v app`.
    pub(super) fn of_line<'a>(all: &'a [Self], line: &str) -> Option<&'a Self> {
        let (_, entry) = line.split_once("; ")?;
        let mut numbers = entry.split(' ').map_while(|number| number.parse::<u32>().ok());
        let object = (numbers.next()?, numbers.next()?);
        all.iter().find(|by_path| (by_path.catalogue, by_path.oid) == object)
    }
}

/// Those with an expression that uses an operator outside `pg_catalog`, and that may write it without a schema. What is part of the
/// statement that makes a table, view or domain counts as that.
pub(crate) async fn read(session: &Session) -> Result<Vec<ByPath>> {
    let rows = session.query(SQL, &[]).await?;
    let by_path = |row: &Row| ByPath { catalogue: row.get(0), oid: row.get(1), schemas: row.get(2) };
    Ok(rows.iter().map(by_path).collect())
}

const SQL: &str = "
WITH uses AS (
  SELECT DISTINCT d.classid, d.objid, n.nspname FROM pg_depend d
  JOIN pg_operator o ON o.oid = d.refobjid JOIN pg_namespace n ON n.oid = o.oprnamespace
  WHERE d.refclassid = 'pg_operator'::regclass AND n.nspname <> 'pg_catalog'
    AND d.classid IN ('pg_rewrite'::regclass, 'pg_attrdef'::regclass, 'pg_constraint'::regclass, 'pg_class'::regclass,
      'pg_trigger'::regclass, 'pg_policy'::regclass, 'pg_proc'::regclass, 'pg_statistic_ext'::regclass,
      'pg_publication_rel'::regclass)
    AND (d.classid <> 'pg_constraint'::regclass OR EXISTS (SELECT FROM pg_constraint c WHERE c.oid = d.objid AND c.contype = 'c'))
    AND (d.classid <> 'pg_rewrite'::regclass OR pg_get_ruledef(d.objid) ~ ' USING \\(| DISTINCT FROM |NULLIF\\(|CASE ')),
objects AS (
  SELECT classid, objid, nspname FROM uses
  UNION ALL SELECT 'pg_class'::regclass, r.ev_class, nspname FROM uses JOIN pg_rewrite r ON r.oid = objid
    WHERE classid = 'pg_rewrite'::regclass AND r.rulename = '_RETURN'
  UNION ALL SELECT 'pg_class'::regclass, a.adrelid, nspname FROM uses JOIN pg_attrdef a ON a.oid = objid
    WHERE classid = 'pg_attrdef'::regclass
  UNION ALL SELECT 'pg_class'::regclass, c.conrelid, nspname FROM uses JOIN pg_constraint c ON c.oid = objid
    WHERE classid = 'pg_constraint'::regclass AND c.conrelid <> 0
  UNION ALL SELECT 'pg_type'::regclass, c.contypid, nspname FROM uses JOIN pg_constraint c ON c.oid = objid
    WHERE classid = 'pg_constraint'::regclass AND c.contypid <> 0)
SELECT classid, objid, array_agg(DISTINCT nspname::text ORDER BY nspname::text) FROM objects GROUP BY 1, 2 ORDER BY 1, 2";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_known_by_their_lines() {
        let all = [ByPath { catalogue: 1259, oid: 16400, schemas: vec!["ext".into()] }];
        assert_eq!(ByPath::of_line(&all, "215; 1259 16400 VIEW public v app"), all.first());
        for other in
            ["; Archive created at 2026-11-22", "215; 2618 16400 RULE public v r app", "215; 1259 1640"]
        {
            assert_eq!(ByPath::of_line(&all, other), None, "{other}");
        }
    }
}
