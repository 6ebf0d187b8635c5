//! On the worst day somebody stands in the folder with the keys: `allowed_signers` there is found, and named.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::support::marbre::{Marbre, marbre};
use super::support::sqlite_setup::Setup;

#[test]
fn allowed_signers_in_the_working_folder_are_found_and_named_unless_others_can_change_them() {
    let setup = Setup::new(20, 10);
    setup.configure_directories("");
    setup.snapshot().success();
    let target = setup.target("a");
    let list = |folder: &str| -> Marbre {
        let list = marbre(["list", "--from", &target]);
        list.current_dir(setup.path(folder))
    };
    let found = list("publisher").success();
    assert!(found.stderr.contains("allowed_signers in the working folder is used"), "{found}");
    list("provider").fails_with(11).expect_stderr("nothing says that this key is trusted");

    let file = setup.path("publisher/allowed_signers");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let not = list("publisher").fails_with(11);
    assert!(not.stderr.contains("is not used: others can change it"), "{not}");
}

/// Whoever finds the keys one day finds beside them how to use them without marbre.
#[test]
fn the_way_without_marbre_lies_beside_the_keys() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    let made = marbre(["keygen"]).arg(&keys).success();
    assert!(made.stdout.contains("for the day without marbre:"), "{made}");
    let text = fs::read_to_string(keys.join("RECOVERY.md")).unwrap();
    assert!(text.starts_with("# Getting the data back without marbre"));
    let mut reader = Command::new("python3");
    reader.arg(keys.join("marbre-read.py")).arg("--help");
    assert!(reader.output().unwrap().status.success());
}
