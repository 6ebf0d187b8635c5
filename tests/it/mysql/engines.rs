//! Tables of engines without transactions: read while nobody may write, or refused, as the configuration says.

use std::time::Duration;

use crate::support::mysql::{Flavor, assert_same};

use super::{DATABASE, restore, shop};

with_both!(tables_without_transactions_are_locked_or_refused);

fn tables_without_transactions_are_locked_or_refused(flavor: Flavor) {
    let (server, mut provider) = shop(flavor);
    server.load(DATABASE, &["nontransactional.sql"]);
    let source = server.source(DATABASE);
    provider.set_source(format!("{source}non_transactional = \"refuse\"\n"));
    provider.snapshot().refuses(4, &["my_isam", "csv_file", "in_memory", "non_transactional"]);
    assert_eq!(provider.receipts(), [""; 0]);

    provider.set_source(source);
    let report = provider.snapshot().timeout(Duration::from_secs(60)).success().json();
    assert_eq!(report["verdict"], "complete", "{report}");
    restore(&provider, &server, "copy").arg("--prove").success();
    assert_same((&server, DATABASE), (&server, "copy"));
    // Nobody is locked out afterwards.
    server.sql(DATABASE, "INSERT INTO my_isam (t) VALUES ('after')");
}
