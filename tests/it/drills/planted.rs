//! Restores that have lost or changed something, although every tool said that all went well: each is caught and named.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::failed_at;
use crate::support::postgres::{Cluster, SUPERUSER, Version};
use crate::support::setup::Provider;

/// What the source has beside its subscriptions.
const MORE: &str = "
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.updated_at := now(); RETURN NEW; END';
CREATE TRIGGER stamp BEFORE UPDATE ON subscribers FOR EACH ROW EXECUTE FUNCTION stamp();
CREATE ROLE lecteur;
GRANT SELECT ON subscribers TO lecteur;
ALTER TABLE titles ADD CONSTRAINT price_is_right CHECK (price >= 0);
COMMENT ON TABLE titles IS 'Nos titres';
ALTER TABLE events ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON events USING (true);
CREATE INDEX half_made ON titles (name);
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'half_made'::regclass;
CREATE SEQUENCE invoice_number START 1000;
SELECT nextval('invoice_number'), lo_from_bytea(4242, 'contract');
";

/// What goes wrong, as SQL in the restored copy, and the words that must name it.
const PLANTED: [(&str, &str); 22] = [
    ("DELETE FROM events WHERE ctid = (SELECT min(ctid) FROM events)", "public.events has 149 rows, not 150"),
    (
        "UPDATE addresses SET city = overlay(city placing 'x' from 1 for 1) WHERE id = 7",
        "the rows of public.addresses differ",
    ),
    ("INSERT INTO events SELECT * FROM events LIMIT 1", "public.events has 151 rows, not 150"),
    ("DROP TABLE deliveries", "table public.deliveries is missing"),
    ("CREATE TABLE surplus ()", "relation public.surplus exists, but was not in the snapshot"),
    ("ALTER TABLE addresses ALTER country DROP DEFAULT", "default of public.addresses.country is missing"),
    (
        "ALTER TABLE addresses ALTER country SET DEFAULT 'BE'",
        "default of public.addresses.country is defined differently",
    ),
    ("DROP INDEX addresses_subscriber_id_idx", "index public.addresses_subscriber_id_idx is missing"),
    (
        "DROP INDEX addresses_subscriber_id_idx; CREATE INDEX addresses_subscriber_id_idx ON addresses (city)",
        "index public.addresses_subscriber_id_idx is defined differently",
    ),
    ("DROP TRIGGER stamp ON subscribers", "trigger public.subscribers.stamp is missing"),
    (
        "ALTER TABLE subscribers DISABLE TRIGGER stamp",
        "trigger public.subscribers.stamp is defined differently",
    ),
    ("DROP FUNCTION stamp() CASCADE", "function public.stamp() is missing"),
    (
        "CREATE OR REPLACE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "function public.stamp() is defined differently",
    ),
    ("REVOKE SELECT ON subscribers FROM lecteur", "rights public.subscribers is defined differently"),
    (
        "ALTER TABLE titles DROP CONSTRAINT price_is_right",
        "constraint public.titles.price_is_right is missing",
    ),
    ("ALTER TABLE events DISABLE ROW LEVEL SECURITY", "relation public.events is defined differently"),
    ("DROP POLICY everybody ON events", "policy public.events.everybody is missing"),
    ("COMMENT ON TABLE titles IS 'Other'", "comment public.titles is defined differently"),
    (
        "CREATE OR REPLACE VIEW active_subscribers AS SELECT 'x'::text AS name, 1::bigint AS subscribers, 1::numeric AS revenue",
        "view public.active_subscribers is defined differently",
    ),
    ("SELECT setval('invoice_number', 999999)", "sequence public.invoice_number stands at 999999"),
    ("SELECT setval('subscribers_id_seq', 1)", "sequence public.subscribers_id_seq stands at 1"),
    ("SELECT lo_put(4242, 0, 'C')", "the bytes of large objects differ"),
];

/// PostgreSQL's programs, of which `pg_restore` does what this file says after it has restored everything, and says
/// nothing of it.
fn lossy_tools(provider: &Provider) -> (PathBuf, PathBuf) {
    let folder = provider.path("lossy");
    std::fs::create_dir(&folder).unwrap();
    let real = Version::V15.bin();
    for entry in std::fs::read_dir(&real).unwrap().flatten() {
        std::os::unix::fs::symlink(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    let harm = provider.path("harm.sql");
    // Its calls restore some entries each, which it is given as a list on its standard output: once all that come after the data are
    // restored, it does harm.
    let script = format!(
        r#"#!/bin/sh
cd {folder}
case "$*" in
*--list*post-data*) {real}/pg_restore "$@" > list || exit; cat list; grep -v '^;' list | sort > wanted; : > done ;;
*--use-list*)
  exec 3</dev/stdout
  cat <&3 > now
  {real}/pg_restore "$@" || exit
  [ -e done ] || exit 0
  sort -u now done -o done
  if [ -z "$(comm -23 wanted done)" ]; then
    rm done
    env -u PGPASSWORD PGUSER={SUPERUSER} {real}/psql -X -q -v ON_ERROR_STOP=1 -f {harm} >/dev/null
  fi ;;
*) exec {real}/pg_restore "$@" ;;
esac
"#,
        folder = folder.display(),
        real = real.display(),
        harm = harm.display()
    );
    let fake = folder.join("pg_restore");
    std::fs::remove_file(&fake).unwrap();
    std::fs::write(&fake, script).unwrap();
    std::fs::set_permissions(&fake, std::fs::Permissions::from_mode(0o755)).unwrap();
    (folder, harm)
}

#[test]
fn whatever_a_restore_loses_is_caught_and_named() {
    let cluster = Cluster::start(Version::V15);
    let database = cluster.create_db("abonnes");
    database.load_subscriptions(300);
    database.sql(MORE);
    let mut provider = Provider::of(&database);
    let (tools, harm) = lossy_tools(&provider);
    provider.snapshot().success();
    // Restored into a server that is there already: quicker than one server for each.
    let scratch = cluster.database("postgres").url();
    provider.set_drills(&format!("scratch = {scratch:?}\nbin_dir = {tools:?}"));
    let (databases, roles) = ("SELECT count(*) FROM pg_database", "SELECT count(*) FROM pg_roles");
    let before = (database.sql(databases), database.sql(roles));
    std::fs::write(&harm, "SELECT 1").unwrap();
    provider.drill().success();
    for (sql, words) in PLANTED {
        std::fs::write(&harm, sql).unwrap();
        let outcome = provider.drill().fails_with(9);
        failed_at(&outcome, "compare", &[words]);
    }
    std::fs::write(&harm, "SELECT 1").unwrap();
    provider.drill().success();
    assert_eq!((database.sql(databases), database.sql(roles)), before, "nothing stays on the server");
    let restored =
        provider.marbre(&["list"]).success().json()["snapshots"][0]["targets"][0]["levels"].clone();
    assert!(restored["restored"].is_string(), "the last word counts: {restored}");
}

#[test]
fn definitions_may_be_left_out_of_the_proof_and_are_then_only_said() {
    let cluster = Cluster::start(Version::V15);
    let database = cluster.create_db("abonnes");
    database.load_subscriptions(100);
    let mut provider = Provider::of(&database);
    let (tools, harm) = lossy_tools(&provider);
    provider.snapshot().success();
    std::fs::write(&harm, "ALTER TABLE addresses ALTER country SET DEFAULT 'BE'").unwrap();
    let scratch = cluster.database("postgres").url();
    provider.set_drills(&format!("scratch = {scratch:?}\nbin_dir = {tools:?}\nskip = [\"definitions\"]"));
    let report = provider.drill().success().json();
    assert!(
        report["warnings"].to_string().contains("addresses.country is defined differently"),
        "{report:#}"
    );
    let off = report["checks"].as_array().unwrap().iter().find(|c| c["name"] == "definitions").unwrap();
    assert_eq!(off["result"], "off");
}
