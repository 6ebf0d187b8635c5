//! Services that speak S3 and are not AWS: they lie below a path, encode slashes in listings, are reached by way of a proxy,
//! and end a token in the middle of a job.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use marbre::internal::{S3Location, S3Target, S3Timeouts, Target, TargetExt, Upload};
use tokio_util::sync::CancellationToken;

use crate::support::gateway::{Expiry, Gateway, PATH};
use crate::support::s3::{ADMIN, SeaweedFs};
use crate::support::sqlite_setup::Setup;
use crate::target_conformance::deletes;

fn credentials(key: &str, secret: &str) -> String {
    format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_with_every_habit_holds_a_repository() {
    let server = SeaweedFs::shared().await;
    let bucket = server.bucket(true).await;
    let setup = Setup::new(50, 200);
    let file = setup.path("provider/credentials");
    let renewed = credentials("adminkey", "adminsecret");
    fs::write(&file, credentials("limitedkey", "limitedsecret")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let expiry = Expiry { access_key: "limitedkey".to_owned(), file: file.clone(), fresh: renewed.clone() };
    let gateway = Gateway::start(server.address(), Some(expiry)).await;
    let url = |endpoint: &str, more: &str| {
        format!(
            "s3://{bucket}/marbre?endpoint={endpoint}&region=us-east-1&credentials_file={}{more}",
            file.display()
        )
    };
    // Only the proxy knows that host.
    let away = url(&format!("http://s3.invalid{PATH}"), "&insecure_http=true");
    let proxy = format!("http://{}", gateway.address);
    setup.configure(&[("s3", &away)], "", "");
    let run = |args: &[&str]| setup.provider(args).env("HTTP_PROXY", &proxy);
    let first = run(&["snapshot", "abonnes"]).success().json();
    assert_eq!(first["verdict"], "complete", "{first:#}");
    assert_eq!(fs::read_to_string(&file).unwrap(), renewed, "the token has ended on the way");
    setup.change(7);
    let second = run(&["snapshot", "abonnes"]).success().json();
    assert_eq!((&second["verdict"], &second["full"]), (&"complete".into(), &false.into()), "{second:#}");
    run(&["verify", "abonnes"]).success();
    let doctor = run(&["doctor"]).run().json();
    let check = |name: &str| {
        let all = doctor["checks"].as_array().unwrap();
        let found = all.iter().find(|c| c["group"] == "target s3" && c["name"] == name);
        found.unwrap_or_else(|| panic!("{name} in {doctor:#}")).clone()
    };
    assert!(check("list")["found"].as_str().unwrap().contains("what was put is listed"), "{doctor:#}");
    assert!(check("proxy")["found"].as_str().unwrap().contains("HTTP_PROXY"), "{doctor:#}");

    // Somebody else, who asks directly.
    let direct = url(&gateway.endpoint(), "");
    setup.restores_equal(&[&direct]);
    let location =
        S3Location { endpoint: Some(gateway.endpoint()), ..server.location(&bucket, "other/prefix", ADMIN) };
    let target = S3Target::open(&location, S3Timeouts::default()).await.unwrap();
    deletes(&target).await;
    let (key, cancel) = ("hidden/x-1.y".parse().unwrap(), CancellationToken::new());
    target.put(&key, &Upload::memory("x"), &cancel).await.unwrap();
    let marker = server.admin().delete_object().bucket(&bucket).key(format!("other/prefix/{key}"));
    marker.send().await.unwrap();
    let listed = target.list_all(None, &cancel).await.unwrap();
    let hidden: Vec<_> = listed.iter().filter(|object| object.hidden).map(|object| &object.key).collect();
    assert_eq!(hidden, [&key], "{listed:?}");
}
