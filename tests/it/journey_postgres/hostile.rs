//! A database whose own settings and objects would bend, stop or take over whoever connects to it.

use crate::support::equality::assert_equal;
use crate::support::postgres::{Cluster, Version};
use crate::support::setup::Provider;

const SETTINGS: [&str; 20] = [
    "search_path = evil, pg_catalog, public",
    "default_transaction_read_only = on",
    "default_transaction_isolation = 'serializable'",
    "default_transaction_deferrable = on",
    "statement_timeout = '250ms'",
    "lock_timeout = '1ms'",
    "idle_in_transaction_session_timeout = '100ms'",
    "idle_session_timeout = '100ms'",
    "standard_conforming_strings = off",
    "client_encoding = 'LATIN1'",
    "session_replication_role = 'replica'",
    "datestyle = 'SQL, DMY'",
    "timezone = 'Pacific/Apia'",
    "intervalstyle = 'sql_standard'",
    "quote_all_identifiers = on",
    "extra_float_digits = -15",
    "array_nulls = off",
    "bytea_output = 'escape'",
    "transform_null_equals = on",
    "row_security = off",
];

/// Whoever runs one of these leaves a trace, or fails because the transaction is read-only.
const EVIL: &str = r#"
CREATE SCHEMA evil; CREATE TABLE public.caught (what text);
CREATE FUNCTION evil.current_setting(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.caught VALUES ('current_setting'); RETURN '120000'; END $$;
CREATE FUNCTION evil.set_config(text, text, boolean) RETURNS text LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.caught VALUES ('set_config'); RETURN ''; END $$;
CREATE FUNCTION evil.pg_export_snapshot() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'caught'; END $$;
CREATE FUNCTION evil.yes(name, name) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'caught'; END $$;
CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = name, FUNCTION = evil.yes);
CREATE DOMAIN evil.int4 AS text CHECK (value = 'no');
CREATE TABLE public.kept (id int PRIMARY KEY, at timestamptz, day date, f float8, i interval, b bytea, t text, a int[]);
INSERT INTO public.kept VALUES (1, '2026-03-04 05:06:07.123456+00', '2026-03-04', 0.1::float8 + 0.2, '-1 year 2 days -3:04', '\x00ff5c', E'back\\slash ''œ€'' \t', '{1,NULL}'); INSERT INTO public.kept (id) VALUES (2);
"#;

#[test]
fn its_own_settings_change_nothing() {
    for version in Version::ALL {
        let (source, destination) = (Cluster::start(version), Cluster::start(version));
        let database = source.create_db("abonnes");
        database.sql(EVIL);
        let postgres = source.database("postgres");
        for setting in SETTINGS {
            postgres.sql(&format!("ALTER DATABASE abonnes SET {setting}"));
        }
        let provider = Provider::of(&database);
        provider.snapshot().success();
        let restored = destination.database("abonnes");
        provider.restore("nas", &restored.url()).arg("--prove").success();
        // Over a database that has these settings itself.
        provider.restore("nas", &restored.url()).args(["--prove", "--overwrite"]).success();
        // Without them: the judge is an honest client.
        for cluster in [&source, &destination] {
            let settings =
                "SELECT count(*) FROM pg_db_role_setting, unnest(setconfig) WHERE setdatabase <> 0";
            assert_eq!(cluster.database("postgres").sql(settings), SETTINGS.len().to_string());
            cluster.database("postgres").sql("ALTER DATABASE abonnes RESET ALL");
        }
        assert_equal(&database, &restored);
        assert_eq!(database.sql("SELECT count(*) FROM caught"), "0");
    }
}
