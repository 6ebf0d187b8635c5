//! A snapshot is one moment of the database, whatever is written meanwhile.

use std::process::{Child, Stdio};

use crate::support::mysql::{Flavor, MysqlServer};
use crate::support::short_or_long;

use super::{DATABASE, restore, shop, wait_for_statement};

with_both!(every_snapshot_keeps_the_sum);

/// Two tables whose sums are 0 together after every transaction, and a row per transfer. In different tables, because
/// one table alone is read by one statement.
const ACCOUNTS: &str = "
CREATE TABLE a_account (id int PRIMARY KEY, cents bigint NOT NULL);
CREATE TABLE z_account LIKE a_account;
CREATE TABLE transfer (id int NOT NULL AUTO_INCREMENT PRIMARY KEY, cents bigint NOT NULL);
INSERT INTO a_account SELECT id, 0 FROM customer;
INSERT INTO z_account SELECT id, 0 FROM customer;
DELIMITER //
CREATE PROCEDURE move_money() BEGIN
  DECLARE account int;
  LOOP
    SET account = 1 + FLOOR(RAND() * 900);
    START TRANSACTION;
    UPDATE a_account SET cents = cents - account WHERE id = account;
    INSERT INTO transfer (cents) VALUES (account);
    UPDATE z_account SET cents = cents + account WHERE id = 901 - account;
    COMMIT;
  END LOOP;
END//
DELIMITER ;
";

/// A client that writes without a pause. What it called runs until the server ends.
struct Writer(Child);

impl Writer {
    fn start(server: &MysqlServer) -> Self {
        let mut client = server.client(DATABASE);
        client.args(["-e", "CALL move_money()"]).stdin(Stdio::null()).stderr(Stdio::null());
        Self(client.spawn().unwrap())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn every_snapshot_keeps_the_sum(flavor: Flavor) {
    let (server, provider) = shop(flavor);
    server.sql(DATABASE, ACCOUNTS);
    let writers = [(); 2].map(|()| Writer::start(&server));
    wait_for_statement(&server, "%a_account%");
    let mut last = 0;
    for turn in 0..short_or_long(3, 20) {
        provider.snapshot().success();
        let copy = format!("copy{turn}");
        restore(&provider, &server, &copy).arg("--prove").success();
        let moved = server.sql(
            &copy,
            "SELECT SUM(a.cents) + (SELECT SUM(cents) FROM z_account), SUM(a.cents) + (SELECT SUM(cents) FROM transfer) FROM a_account a",
        );
        assert_eq!(moved, "0\t0", "snapshot {turn} is of no single moment");
        let transfers: u64 = server.sql(&copy, "SELECT COUNT(*) FROM transfer").parse().unwrap();
        assert!(transfers > last, "nobody wrote before snapshot {turn}");
        last = transfers;
        server.sql("", &format!("DROP DATABASE {copy}"));
    }
    drop(writers);
}
