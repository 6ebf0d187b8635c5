//! MariaDB and MySQL through the real command line: snapshot, restore, drill, and a judge that is the servers' own dump.

/// Each of these functions is a test with either server.
macro_rules! with_both {
    ($($name:ident),+ $(,)?) => {
        mod mariadb {
            $(#[test] fn $name() { super::$name($crate::support::mysql::Flavor::MariaDb); })+
        }
        mod mysql {
            $(#[test] fn $name() { super::$name($crate::support::mysql::Flavor::MySql); })+
        }
    };
}

mod changes;
mod drills;
mod engines;
mod locks;
mod refusals;
mod restores;
mod torture;
mod writes;

use std::time::{Duration, Instant};

use crate::support::marbre::Marbre;
use crate::support::mysql::{ADMIN, Flavor, MysqlServer};
use crate::support::setup::Provider;

/// The database that most of these tests have.
const DATABASE: &str = "boutique";

/// A small shop, with an index, a view and a trigger.
const SHOP: &str = "
CREATE TABLE customer (id int NOT NULL AUTO_INCREMENT PRIMARY KEY, name varchar(100) NOT NULL, KEY by_name (name));
INSERT INTO customer (name) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900) SELECT CONCAT('customer ', i) FROM n;
CREATE TABLE purchase (id int PRIMARY KEY, customer int NOT NULL, cents bigint NOT NULL, CONSTRAINT bought_by FOREIGN KEY (customer) REFERENCES customer (id));
INSERT INTO purchase SELECT id, id, id * 7 FROM customer;
CREATE VIEW turnover AS SELECT SUM(cents) AS cents FROM purchase;
CREATE TRIGGER no_debts BEFORE INSERT ON purchase FOR EACH ROW SET NEW.cents = GREATEST(NEW.cents, 0);
";

/// A server with a shop, whom marbre reads as a user of its own.
fn shop(flavor: Flavor) -> (MysqlServer, Provider) {
    let server = MysqlServer::start(flavor);
    server.create_db(DATABASE);
    server.sql(DATABASE, SHOP);
    server.create_reader(DATABASE);
    let provider = Provider::new(server.source(DATABASE));
    (server, provider)
}

/// `marbre restore latest` into a database of this server, as its administrator.
fn restore(provider: &Provider, server: &MysqlServer, database: &str) -> Marbre {
    provider.restore("nas", &server.url(ADMIN, database))
}

/// Waits until a statement like this runs.
#[track_caller]
fn wait_for_statement(server: &MysqlServer, like: &str) {
    let sql = format!(
        "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '{like}' AND id <> CONNECTION_ID()"
    );
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.sql("", &sql) == "0" {
        assert!(Instant::now() < deadline, "no statement like {like}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
