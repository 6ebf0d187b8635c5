//! Tables with their columns, and how their rows are read and loaded.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::quote::{ident, idents, literal, qualified};
use super::session::{Row, Session};
use crate::error::{Error, Result};

/// A column whose values the rows hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Column {
    /// Its name.
    pub name: String,
    /// Its type, as `information_schema` calls it, e.g. `varchar`.
    #[serde(rename = "type")]
    pub kind: String,
    /// An enumeration in which the empty text is a member. The value of what was no member is an empty text too: so its numbers are read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_number: bool,
    /// The character set that its texts are in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charset: Option<String>,
}

/// The columns that say from when until when a row was in a table.
type Period = (String, String);

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Table {
    /// Its name.
    pub name: String,
    /// The columns that are not computed.
    pub columns: Vec<Column>,
    /// The columns of its primary key.
    pub key: Vec<String>,
    /// Its storage engine.
    pub engine: String,
    /// A transaction sees one state of it.
    pub transactional: bool,
    /// Its rows belong to it, and are read.
    pub has_rows: bool,
    /// The columns that say from when until when a row was in it, where the table keeps those that are not any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<Period>,
    /// A guess at its size in bytes.
    #[serde(skip)]
    pub size: u64,
}

/// Engines whose tables show the rows of others.
const VIEWS_OF_OTHERS: [&str; 8] =
    ["BLACKHOLE", "CONNECT", "FEDERATED", "MRG_MYISAM", "OQGRAPH", "PERFORMANCE_SCHEMA", "S3", "SPIDER"];

/// Types whose text the server does not take as bytes: it wants to know that they are UTF-8.
const BY_TEXT: [&str; 4] = ["inet4", "inet6", "json", "uuid"];

/// All other types that can be read.
const KNOWN: [&str; 42] = [
    "bigint",
    "binary",
    "bit",
    "blob",
    "char",
    "date",
    "datetime",
    "decimal",
    "double",
    "enum",
    "float",
    "geomcollection",
    "geometry",
    "geometrycollection",
    "int",
    "linestring",
    "longblob",
    "longtext",
    "mediumblob",
    "mediumint",
    "mediumtext",
    "multilinestring",
    "multipoint",
    "multipolygon",
    "numeric",
    "point",
    "polygon",
    "real",
    "set",
    "smallint",
    "text",
    "time",
    "timestamp",
    "tinyblob",
    "tinyint",
    "tinytext",
    "varbinary",
    "varchar",
    "vector",
    "year",
    "xmltype",
    "integer",
];

/// All tables of the database, without views and sequences.
pub(super) async fn read(session: &mut Session, database: &str) -> Result<Vec<Table>> {
    let schema = literal(database);
    let columns = format!(
        "SELECT TABLE_NAME, COLUMN_NAME, LOWER(DATA_TYPE), CHARACTER_SET_NAME, GENERATION_EXPRESSION, COLUMN_TYPE \
         FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {schema} ORDER BY TABLE_NAME, ORDINAL_POSITION"
    );
    let keys = format!(
        "SELECT TABLE_NAME, COLUMN_NAME FROM information_schema.STATISTICS \
         WHERE TABLE_SCHEMA = {schema} AND INDEX_NAME = 'PRIMARY' ORDER BY TABLE_NAME, SEQ_IN_INDEX"
    );
    let tables = format!(
        "SELECT t.TABLE_NAME, t.ENGINE, e.TRANSACTIONS, t.TABLE_TYPE, COALESCE(t.DATA_LENGTH, 0) FROM information_schema.TABLES t \
         LEFT JOIN information_schema.ENGINES e ON e.ENGINE = t.ENGINE \
         WHERE t.TABLE_SCHEMA = {schema} AND t.TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') ORDER BY t.TABLE_NAME"
    );
    let mut columns = by_table(session.query(&columns, "list the columns").await?);
    let mut keys = by_table(session.query(&keys, "list the keys").await?);
    let found = session.query(&tables, "list the tables").await?;
    let mut all = Vec::new();
    for row in found {
        let text = |at: usize| row.get(at).cloned().flatten();
        let name = text(0).unwrap_or_default();
        let Some(engine) = text(1) else {
            return Err(Error::database(format!(
                "table {} cannot be opened by the server",
                name.escape_debug()
            ))
            .remedy(
                "Run CHECK TABLE on it, and repair or drop it: what the server cannot open cannot be saved.",
            ));
        };
        let versioned = text(3).as_deref() == Some("SYSTEM VERSIONED");
        let (columns, period) = columns_of(&name, columns.remove(&name).unwrap_or_default(), versioned)?;
        let key = keys.remove(&name).unwrap_or_default();
        all.push(Table {
            columns,
            period,
            key: key.into_iter().filter_map(|mut row| row.remove(1)).collect(),
            transactional: text(2).as_deref() == Some("YES"),
            has_rows: !VIEWS_OF_OTHERS.contains(&engine.to_ascii_uppercase().as_str()),
            engine,
            size: text(4).and_then(|size| size.parse().ok()).unwrap_or(0),
            name,
        });
    }
    Ok(all)
}

/// Rows of an answer by their first column.
fn by_table(rows: Vec<Row>) -> BTreeMap<String, Vec<Row>> {
    let mut tables = BTreeMap::<String, Vec<Row>>::new();
    for row in rows {
        let table = row.first().cloned().flatten().unwrap_or_default();
        tables.entry(table).or_default().push(row);
    }
    tables
}

/// The columns whose values are read, and those of the period of a table that keeps its history.
fn columns_of(table: &str, rows: Vec<Row>, versioned: bool) -> Result<(Vec<Column>, Option<Period>)> {
    let (mut columns, mut start, mut end) = (Vec::new(), None, None);
    for row in rows {
        let text = |at: usize| row.get(at).cloned().flatten();
        let (name, kind) = (text(1).unwrap_or_default(), text(2).unwrap_or_default());
        match text(4).unwrap_or_default().as_str() {
            "" => {}
            "ROW START" => start = Some(name.clone()),
            "ROW END" => end = Some(name.clone()),
            // Computed.
            _ => continue,
        }
        if !KNOWN.contains(&kind.as_str()) && !BY_TEXT.contains(&kind.as_str()) {
            return Err(Error::preflight(format!(
                "column {} of table {} has the type {kind}, which this version of marbre cannot read",
                name.escape_debug(),
                table.escape_debug()
            ))
            .remedy("Use a newer version of marbre."));
        }
        let by_number = kind == "enum" && has_empty_member(&text(5).unwrap_or_default());
        columns.push(Column { name, kind, by_number, charset: text(3) });
    }
    if !versioned {
        return Ok((columns, None));
    }
    // Where the table does not name them, they are there all the same.
    let mut implied = |name: &str| {
        columns.push(Column {
            name: name.to_owned(),
            kind: "timestamp".to_owned(),
            by_number: false,
            charset: None,
        });
        name.to_owned()
    };
    let period = (start.unwrap_or_else(|| implied("row_start")), end.unwrap_or_else(|| implied("row_end")));
    Ok((columns, Some(period)))
}

/// Whether the empty text is a member of an enumeration, e.g. `enum('a','','it''s')`.
fn has_empty_member(definition: &str) -> bool {
    let mut members = definition.trim_start_matches("enum(").trim_end_matches(')');
    while let Some(rest) = members.strip_prefix('\'') {
        // A doubled quote is one in the text.
        let mut at = 0;
        while let Some(next) = rest[at..].find('\'') {
            at += next;
            if !rest[at + 1..].starts_with('\'') {
                break;
            }
            at += 2;
        }
        if at == 0 {
            return true;
        }
        members = rest.get(at + 1..).unwrap_or_default().trim_start_matches(',');
    }
    false
}

impl Table {
    /// For people.
    pub(super) fn what(&self) -> String {
        format!("{} ({})", self.name.escape_debug(), self.engine)
    }

    /// Nobody may write to it while it is read: no transaction sees one state of it.
    pub(super) fn is_read_locked(&self) -> bool {
        self.has_rows && !self.transactional
    }

    /// The query that gives its rows, in the order of its key. Nothing is converted: texts are in the character sets of their columns.
    pub(super) fn select(&self, database: &str) -> String {
        let mut sql = self.select_unordered(database);
        let mut order = self.key.clone();
        match &self.period {
            Some((_, end)) if !order.is_empty() && !order.contains(end) => order.push(end.clone()),
            // What lies in the order of the key need not be sorted.
            None if !order.is_empty() => sql += " FORCE INDEX (PRIMARY)",
            _ => {}
        }
        if !order.is_empty() {
            sql += &format!(" ORDER BY {}", idents(&order));
        }
        sql
    }

    /// The same in whatever order.
    pub(super) fn select_unordered(&self, database: &str) -> String {
        let columns: Vec<String> = self.columns.iter().map(Column::selected).collect();
        let history = if self.period.is_some() { " FOR SYSTEM_TIME ALL" } else { "" };
        format!("SELECT {} FROM {}{history}", columns.join(", "), qualified(database, &self.name))
    }

    /// The statement that takes the rows back from a file into the table of this name, which can be a qualified one.
    pub(super) fn load(&self, table: &str, file: &str) -> String {
        let variable = |at: usize| format!("@c{at}");
        let columns = self.columns.iter().enumerate();
        let places: Vec<String> = columns
            .clone()
            .map(
                |(at, column)| {
                    if column.set(&variable(at)).is_some() { variable(at) } else { ident(&column.name) }
                },
            )
            .collect();
        let sets: Vec<String> = columns
            .filter_map(|(at, column)| {
                Some(format!("{} = {}", ident(&column.name), column.set(&variable(at))?))
            })
            .collect();
        let mut sql = format!(
            "LOAD DATA LOCAL INFILE '{file}' INTO TABLE {table} CHARACTER SET binary \
             FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' ({})",
            places.join(", ")
        );
        if !sets.is_empty() {
            sql += &format!(" SET {}", sets.join(", "));
        }
        sql
    }
}

impl Column {
    fn selected(&self) -> String {
        match self.kind.as_str() {
            // The server would write six digits of it.
            "float" => format!("CAST({} AS DOUBLE)", ident(&self.name)),
            _ if self.by_number => format!("{} + 0", ident(&self.name)),
            _ => ident(&self.name),
        }
    }

    /// What is made of the text in this variable, where the text itself will not do.
    fn set(&self, variable: &str) -> Option<String> {
        match self.kind.as_str() {
            kind if BY_TEXT.contains(&kind) => Some(format!("CONVERT({variable} USING utf8mb4)")),
            _ if self.by_number => Some(format!("{variable} + 0")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, kind: &str) -> Column {
        Column { name: name.into(), kind: kind.into(), by_number: false, charset: None }
    }

    fn table() -> Table {
        Table {
            name: "t`".into(),
            columns: vec![column("id", "int"), column("f", "float"), column("j", "json")],
            key: vec!["id".into()],
            engine: "InnoDB".into(),
            transactional: true,
            has_rows: true,
            period: None,
            size: 0,
        }
    }

    #[test]
    fn rows_are_read_and_loaded_as_they_are() {
        assert_eq!(
            table().select("d"),
            "SELECT `id`, CAST(`f` AS DOUBLE), `j` FROM `d`.`t``` FORCE INDEX (PRIMARY) ORDER BY `id`"
        );
        assert_eq!(
            table().load("`d`.`t```", "rows"),
            "LOAD DATA LOCAL INFILE 'rows' INTO TABLE `d`.`t``` CHARACTER SET binary FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' \
             LINES TERMINATED BY '\\n' (`id`, `f`, @c2) SET `j` = CONVERT(@c2 USING utf8mb4)"
        );
        let history = Table { period: Some(("s".into(), "e".into())), ..table() };
        assert!(history.select("d").ends_with("FROM `d`.`t``` FOR SYSTEM_TIME ALL ORDER BY `id`, `e`"));
        let keyless = Table { key: Vec::new(), ..table() };
        assert!(keyless.select("d").ends_with("FROM `d`.`t```"));
    }

    #[test]
    fn an_empty_member_is_told_from_no_member() {
        let found = [
            ("enum(QaQ,QbQ)", false),
            ("enum(QQ,QbQ)", true),
            ("enum(QitQQsQ,QQ)", true),
            ("enum(QQQQ,Q,Q,QxQ)", false),
        ];
        for (definition, empty) in found {
            assert_eq!(has_empty_member(&definition.replace('Q', "'")), empty, "{definition}");
        }
    }

    #[test]
    fn what_is_computed_is_not_read_and_unknown_types_are_refused() {
        let row = |name: &str, kind: &str, expression: &str| -> Row {
            ["t", name, kind, "", expression, kind].iter().map(|text| Some((*text).to_owned())).collect()
        };
        let rows = vec![row("a", "int", ""), row("b", "int", "`a` + 1")];
        let (columns, period) = columns_of("t", rows.clone(), false).unwrap();
        assert_eq!((columns.len(), period), (1, None));
        let (columns, period) = columns_of("t", rows, true).unwrap();
        assert_eq!((columns.len(), period.unwrap().1.as_str()), (3, "row_end"));
        assert!(columns_of("t", vec![row("a", "hologram", "")], false).is_err());
    }
}
