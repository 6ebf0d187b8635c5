//! What a daemon sends, logs and keeps of a drill that fails because of a value, on a throwaway server whose log holds it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;

use super::{SECRETS, folder_holds_none, holds_none};
use crate::daemon::harness::until;
use crate::support::free_ports;
use crate::support::postgres::{Cluster, Version, quote_text};
use crate::support::setup::{DATABASE, Provider};
use crate::support::sinks::Sink;

#[test]
fn alerts_logs_and_pages_tell_no_value() {
    let cluster = Cluster::start(Version::V15);
    let home = cluster.create_db(DATABASE);
    let rows: Vec<String> = SECRETS.iter().map(|secret| format!("({})", quote_text(secret))).collect();
    home.sql(&format!(
        "CREATE FUNCTION leak(t text) RETURNS boolean LANGUAGE plpgsql AS $$
         BEGIN
           IF current_database() <> '{DATABASE}' THEN RAISE LOG E'x\n00000 FATAL:  %', t; RAISE EXCEPTION '%', t; END IF;
           RETURN true;
         END $$;
         CREATE TABLE abonne (nom text CHECK (public.leak(nom))); INSERT INTO abonne VALUES {}",
        rows.join(", ")
    ));
    let mut provider = Provider::of(&home);
    let sink = Sink::start();
    let (sent, siren) = (provider.path("sent"), provider.path("siren"));
    fs::create_dir(&sent).unwrap();
    fs::write(&siren, format!("#!/bin/sh\ncat > \"$(mktemp {}/XXXXXX)\"\n", sent.display())).unwrap();
    fs::set_permissions(&siren, fs::Permissions::from_mode(0o700)).unwrap();
    let url = provider.path("hook.url");
    fs::write(&url, sink.url("/hook")).unwrap();
    fs::set_permissions(&url, fs::Permissions::from_mode(0o600)).unwrap();
    let [port] = free_ports();
    provider.set_more(&format!("[web]\nlisten = \"127.0.0.1:{port}\"\n[alerts]\nsettle = \"1s\""));
    provider.set_drills(&format!(
        "[database.{DATABASE}.schedule]\ndrill = \"* * * * * *\"\n\
         [alert.siren]\ntype = \"command\"\ncommand = [{siren:?}]\n\
         [alert.hook]\ntype = \"webhook\"\nurl_file = {url:?}\nallow_private = true\n",
    ));
    provider.snapshot().success();
    let daemon = provider.marbre(&["daemon"]).env("MARBRE_LOG", "trace").start();
    until(
        "both channels have it",
        || daemon.stderr(),
        || {
            let hooked = sink.requests().iter().any(|request| request.body.contains("exception"));
            let files = fs::read_dir(&sent).unwrap().flatten();
            let called =
                files.map(|f| fs::read_to_string(f.path()).unwrap()).any(|text| text.contains("exception"));
            (hooked && called).then_some(())
        },
    );
    daemon.signal(Signal::TERM);
    let outcome = daemon.wait().expect_code(0);
    holds_none("the log", outcome.to_string().as_bytes());
    for request in sink.requests() {
        holds_none("a request", request.body.as_bytes());
    }
    folder_holds_none(&provider.path(""));
}
