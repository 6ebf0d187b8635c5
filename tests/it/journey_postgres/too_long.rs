//! Rows that the server cannot write as text: there is no snapshot with them, or one that names them and holds everything else.

use serde_json::Value;

use crate::support::postgres::{Cluster, Version};
use crate::support::setup::{Provider, postgres};
use crate::support::short_or_long;

/// Rows of 520 MiB among thousands of small ones, in a table that also computes something.
const LONG: &str = "
SET default_toast_compression = 'lz4';
CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
CREATE TABLE film (id int PRIMARY KEY, d bytea, x text, n int GENERATED ALWAYS AS (twice(id)) STORED);
INSERT INTO film SELECT g, decode(md5(g::text), 'hex'), E'a\\nb' || repeat('x', 200) FROM generate_series(1, 5000) g;
INSERT INTO film VALUES (5001, convert_to(repeat(repeat('a', 1 << 20), 520), 'UTF8'));
INSERT INTO film SELECT 5001 + g, d FROM film, generate_series(1, 2) g WHERE id = 5001;
INSERT INTO film SELECT g, NULL, repeat('y', 200) FROM generate_series(6000, 9000) g;
INSERT INTO film SELECT 9001, d FROM film WHERE id = 5001;
CREATE TABLE novel (a text, b text); INSERT INTO novel VALUES ('short');
CREATE TABLE other AS SELECT generate_series(1, 10) AS i;
";

/// A table of which a query would run code.
const INDEXED: &str = "
CREATE TABLE indexed (id int, d bytea); CREATE INDEX ON indexed (twice(id));
INSERT INTO indexed VALUES (1), (2); INSERT INTO indexed SELECT 3, d FROM film WHERE id = 5001; INSERT INTO indexed VALUES (4);
";

/// Two texts that are too long together: the server finds out after it has written the first.
const NOVEL: &str = "
SET default_toast_compression = 'lz4';
INSERT INTO novel VALUES (repeat(repeat('a', 1 << 20), 520)); UPDATE novel SET b = a WHERE length(a) > 100;
";

const LEFT: &str = "SELECT count(*) || ' ' || sum(hashtext(concat(id, d, x, n))) FROM film WHERE id NOT IN (5001, 5002, 5003, 9001)";

#[test]
fn rows_that_cannot_be_written_are_left_out_by_name_where_that_is_allowed() {
    let cluster = Cluster::start(Version::V15);
    let database = cluster.create_db("abonnes");
    database.sql(LONG);
    database.sql(short_or_long("", NOVEL));
    database.sql("INSERT INTO novel VALUES ('last', 'one')");
    let place = |table: &str, condition: &str| {
        let places = format!(
            "SELECT string_agg('public.{table} at ctid ' || ctid, '; ' ORDER BY ctid) FROM {table} WHERE {condition}"
        );
        database.sql(&places)
    };
    let film = place("film", "id IN (5001, 5002, 5003, 9001)");
    let novel = place("novel", "length(a) > 100");
    let named = if novel.is_empty() { film.clone() } else { format!("{film}; {novel}") };
    let number = named.split("; ").count();
    let mut provider = Provider::of(&database);
    let failed = provider.snapshot().fails_with(6).json().to_string();
    assert!(failed.contains("has rows that the server cannot write"), "{failed}");
    assert!(failed.contains("too_long_rows = "), "{failed}");
    assert_eq!(provider.receipts(), [""; 0]);
    database.sql(INDEXED);
    let doctor = provider.marbre(&["doctor"]).fails_with(4).to_string();
    assert!(doctor.contains("table public.film has rows that the server cannot write"), "{doctor}");

    provider.set_source(postgres(&database.url()) + "too_long_rows = \"leave_out\"\n");
    let doctor = provider.marbre(&["doctor"]).run().to_string();
    let first = film.split("; ").next().unwrap();
    assert!(doctor.contains(&format!("row that is too long ({first}")), "{doctor}");
    assert!(
        doctor.contains("nobody could look for rows that are too long in 1 of the large tables"),
        "{doctor}"
    );
    let warnings = provider.snapshot().success().json()["warnings"].to_string();
    let rows = format!("{number} × row that is too long ({named})");
    let rest = "1 × rest of a table with a row that is too long (public.indexed after its first 2 rows)";
    for words in [rows.as_str(), rest] {
        assert!(warnings.contains(&format!("NOT in the snapshot: {words}")), "no {words:?} in {warnings}");
    }
    let [receipt] = &provider.receipts()[..] else { panic!("one receipt") };
    let receipt = std::fs::read(provider.objects().join("receipts").join(receipt)).unwrap();
    let receipt: Value = serde_json::from_slice(&receipt).unwrap();
    assert_eq!(receipt["omitted"]["row that is too long"], number);
    assert_eq!(receipt["omitted"]["rest of a table with a row that is too long"], 1);

    let drill = provider.drill().success().json();
    assert_eq!(drill["passed"], true, "{drill}");
    let check =
        drill["checks"].as_array().unwrap().iter().find(|check| check["name"] == "completeness").unwrap();
    assert_eq!(check["result"], "unavailable", "{check}");
    assert!(check.to_string().contains(&named) && check.to_string().contains(rest), "{check}");
    let back = cluster.database("back");
    let restored = provider.restore("nas", &back.url()).arg("--prove").success().json();
    assert_eq!(restored["verdict"], "proven");
    for words in [rows.as_str(), rest] {
        let words = format!("was not in the snapshot: {words}");
        assert!(restored["warnings"].to_string().contains(&words), "no {words:?} in {restored}");
    }
    assert_eq!(back.sql(LEFT), database.sql(LEFT));
    let counts = "SELECT (SELECT count(*) FROM film), (SELECT sum(id) FROM indexed), (SELECT string_agg(a, ',') FROM novel), \
                  (SELECT count(*) FROM other)";
    assert_eq!(back.sql(counts), "8001|3|short,last|10");
}
