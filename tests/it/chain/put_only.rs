//! Credentials that may only put: the agent cannot look, so the claim decides.

use std::fs;

use aws_sdk_s3::Client;
use serde_json::Value;

use super::Host;
use crate::support::marbre::marbre;
use crate::support::s3::{ADMIN, LIMITED, PUT_ONLY, SeaweedFs};
use crate::support::sqlite_setup::Setup;

/// The bytes of the newest receipt and of its signature, as the publisher fetches them, in a folder of theirs.
async fn newest_receipt(setup: &Setup, admin: &Client, bucket: &str) -> std::path::PathBuf {
    let listed = admin.list_objects_v2().bucket(bucket).send().await.unwrap();
    let keys = listed.contents().iter().map(|o| o.key().unwrap().to_owned());
    let mut newest = (0, String::new());
    for key in keys.filter(|key| key.contains("/receipts/") || key.contains("/agents/")) {
        let body = admin.get_object().bucket(bucket).key(&key).send().await.unwrap().body;
        let bytes = body.collect().await.unwrap().into_bytes();
        if key.contains("/receipts/") && key.ends_with(".json") {
            let receipt: Value = serde_json::from_slice(&bytes).unwrap();
            newest = newest.max((receipt["sequence"].as_u64().unwrap(), key.clone()));
        }
        let to = setup.path("fetched").join(&key);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, bytes).unwrap();
    }
    setup.path("fetched").join(newest.1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_is_lost_and_the_credentials_may_only_put() {
    let server = SeaweedFs::shared().await;
    let bucket = server.locking_bucket().await;
    let setup = Setup::new(200, 200);
    let url = server.url(&bucket, PUT_ONLY);
    setup.configure(&[("s3", &url)], "", "");
    // With versions, a put says what it created.
    let path = setup.path("provider/marbre.toml");
    let text = fs::read_to_string(&path).unwrap();
    let locked = "[target.s3]\nlock = \"compliance\"\nlock_for = \"2d\"\n";
    fs::write(path, text.replace("[target.s3]\n", locked)).unwrap();
    let host = Host::first(&setup);
    for _ in 0..2 {
        setup.change(5);
        host.snapshot().success();
    }
    let reader = server.url(&bucket, LIMITED);
    // Twice, since the second time there is a succession already, which the agent cannot read either.
    for round in 1..=2 {
        host.lose_state();
        setup.change(5);
        let refused = host.snapshot().fails_with(7).json();
        assert!(refused["error"].as_str().unwrap().contains("receipt number 1"), "{refused}");
        assert!(refused["remedy"].as_str().unwrap().contains("--after RECEIPT.json"), "{refused}");
        host.adopt(&host.fingerprint(), &[]).fails_with(8);
        let receipt = newest_receipt(&setup, &server.admin(), &bucket).await;
        let adopted =
            host.adopt(&host.fingerprint(), &["--after", receipt.to_str().unwrap()]).success().json();
        assert_eq!((&adopted["number"], &adopted["after"]["sequence"]), (&round.into(), &(round + 1).into()));
        let report = host.snapshot().success().json();
        assert_eq!(report["full"], true);
        setup.restores_equal(&[&reader]);
    }
    let signers = setup.path("publisher/allowed_signers");
    marbre(["--json", "verify", "--from", &reader, "--allowed-signers"]).arg(&signers).success();
    let list =
        marbre(["--json", "list", "--from", &reader, "--allowed-signers"]).arg(&signers).success().json();
    let numbers: Vec<u64> =
        list["snapshots"].as_array().unwrap().iter().map(|s| s["sequence"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3, 4], "{list:#}");
    assert_eq!(list["problems"], serde_json::json!([]), "{list:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_burns_and_the_chain_is_in_a_bucket() {
    let server = SeaweedFs::shared().await;
    let bucket = server.locking_bucket().await;
    let setup = Setup::new(200, 200);
    setup.configure(&[("s3", &server.url(&bucket, LIMITED))], "", "");
    let host = Host::first(&setup);
    host.snapshot().success();
    let old = host.fingerprint();
    host.lose_state();
    super::trust(&setup, &host.new_key());
    setup.change(5);
    host.snapshot().fails_with(11);
    host.adopt(&old, &[]).success();
    host.snapshot().success();
    host.run(&["verify", "abonnes"]).success();
    // Whoever may write lays something over the record: an older version of it is still good.
    let admin = server.admin();
    let prefix = "marbre/gazette/abonnes/agents/";
    let listed = admin.list_objects_v2().bucket(&bucket).prefix(prefix).send().await.unwrap();
    for object in listed.contents() {
        let body = aws_sdk_s3::primitives::ByteStream::from_static(b"{}");
        admin.put_object().bucket(&bucket).key(object.key().unwrap()).body(body).send().await.unwrap();
    }
    setup.restores_equal(&[&server.url(&bucket, ADMIN)]);
    setup.change(5);
    host.snapshot().success();
    setup.restores_equal(&[&server.url(&bucket, ADMIN)]);
}
