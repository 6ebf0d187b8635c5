//! The mail server is away for longer than anybody wants to wait: another channel gets what it does not take, and when it
//! is back, so does it.

use std::fs;

use super::harness::Site;
use crate::support::sinks::{Mail, PASSWORD, Sink};

#[test]
fn what_the_mail_server_does_not_take_another_channel_gets_and_nothing_is_lost() {
    let (site, mut mail, chat) = (Site::new(20, 20), Mail::start("implicit"), Sink::start());
    let alerts = format!(
        "[alert.ops]\ntype = \"email\"\nhost = \"localhost\"\nport = {}\ntls = \"implicit\"\nca_file = {:?}\n\
         user = \"marbre\"\npassword_file = {:?}\nfrom = \"marbre@provider.example\"\nto = [\"ops@provider.example\"]\n\
         fallback = [\"chat\"]\n\
         [alert.chat]\ntype = \"webhook\"\nurl = {:?}\nallow_private = true\nrole = \"fallback\"\n",
        mail.port,
        mail.authority(),
        site.secret("mail.password", PASSWORD),
        chat.url("/chat")
    );
    let tables = site.one_directory("", "[database.abonnes.schedule]\nsnapshot = \"*/2 * * * * *\"");
    site.configure("", &(tables + &alerts));
    let daemon = site.daemon();
    daemon.until("there is a snapshot", || daemon.database("abonnes")?["snapshot"].as_str().map(drop));
    mail.stop();
    let hidden = site.path("away.db");
    fs::rename(site.setup.database(), &hidden).unwrap();
    daemon.opens("snapshot-failed gazette/abonnes");
    let chat_hears = |event: &str, key: &str| {
        let of = |body: &str| -> Option<bool> {
            let said: serde_json::Value = serde_json::from_str(body).ok()?;
            Some(said["event"] == event && said["key"] == key)
        };
        chat.requests().iter().any(|request| of(&request.body) == Some(true)).then_some(())
    };
    assert_eq!(chat_hears("opened", "snapshot-failed gazette/abonnes"), None, "it may still come back");
    daemon.until("the chat hears of it", || chat_hears("opened", "snapshot-failed gazette/abonnes"));
    daemon.until("the chat hears of the mail", || chat_hears("opened", "channel-failing ops"));
    assert!(mail.mails().iter().all(|mail| !mail.contains("snapshot-failed")));

    // Whoever has mended it sees at once that it works, and so does what waits.
    mail.resume();
    site.setup.provider(&["alert", "test", "ops"]).success();
    let arrives = |words: &[&str]| {
        let has = |mail: &String| words.iter().all(|word| mail.contains(word));
        mail.mails().iter().any(has).then_some(())
    };
    daemon.until("the mail arrives late", || arrives(&["Event: opened", "snapshot-failed gazette/abonnes"]));
    daemon.resolves("channel-failing ops");
    fs::rename(&hidden, site.setup.database()).unwrap();
    daemon.until("the mail of its end", || arrives(&["Event: resolved", "snapshot-failed gazette/abonnes"]));
    daemon.until("the chat of its end", || chat_hears("resolved", "snapshot-failed gazette/abonnes"));
    let log = daemon.stop().stderr;
    for hidden in [PASSWORD, "ops@provider.example"] {
        assert!(!log.contains(hidden), "{hidden} in {log}");
    }
}
