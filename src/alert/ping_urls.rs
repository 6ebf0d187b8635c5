//! Where monitors are told how a job goes: by a path, as healthchecks has it, or by a parameter of the URL.

use reqwest::Url;

use crate::model::notice::Phase;

/// Parameters by which services are told, with their values for success, start (where there is one) and failure.
const STATES: [(&str, &str, Option<&str>, &str); 6] = [
    // Uptime Kuma
    ("status", "up", None, "down"),
    // Sentry
    ("status", "ok", Some("in_progress"), "error"),
    // Cronitor
    ("state", "complete", Some("run"), "fail"),
    ("state", "ok", Some("run"), "fail"),
    // Gatus
    ("success", "true", None, "false"),
    // Dead Man's Snitch
    ("s", "0", None, "1"),
];
/// Parameters for words beside that.
const WORDS: [&str; 4] = ["msg", "message", "m", "error"];
/// Parameters of healthchecks, which say nothing of success.
const NEUTRAL: [&str; 2] = ["create", "rid"];

/// The URLs of one monitor.
#[derive(Debug)]
pub(crate) struct PingUrls {
    success: Url,
    /// By which parameter it is told; `None`: by the path.
    state: Option<&'static (&'static str, &'static str, Option<&'static str>, &'static str)>,
    /// Where failures go instead.
    fail: Option<Url>,
}

impl PingUrls {
    /// The URLs that follow from that of a success. `None` where its query may be one of success, and nothing says how a
    /// failure is told: it must never be told as a success.
    pub(crate) fn of(success: Url, fail: Option<Url>) -> Option<Self> {
        let names = |(name, value): &(_, _)| STATES.iter().find(|(n, v, ..)| n == name && v == value);
        let pairs: Vec<(String, String)> = success.query_pairs().into_owned().collect();
        let state = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).find_map(|pair| names(&pair));
        let known = state.is_some() || pairs.iter().all(|(name, _)| NEUTRAL.contains(&name.as_str()));
        (known || fail.is_some()).then_some(Self { success, state, fail })
    }

    /// Where this goes, with some words; `None` where the monitor has no place for it.
    pub(crate) fn told(&self, phase: Phase, words: &str) -> Option<Url> {
        match (phase, &self.fail, self.state) {
            (Phase::Success, ..) => Some(self.success.clone()),
            (Phase::Fail, Some(fail), _) => Some(fail.clone()),
            (Phase::Fail, None, Some((name, _, _, value))) => Some(self.with(name, value, words)),
            (Phase::Start, _, Some((name, _, value, _))) => value.map(|value| self.with(name, value, words)),
            (Phase::Fail, None, None) => Some(self.below("fail")),
            (Phase::Start, None, None) => Some(self.below("start")),
            // Whose failures go elsewhere has no `/start` that anybody knows of.
            (Phase::Start, Some(_), None) => None,
        }
    }

    fn below(&self, name: &str) -> Url {
        let mut url = self.success.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push(name);
        }
        url
    }

    /// The URL with this value instead of that of a success, and with other words.
    fn with(&self, name: &str, value: &str, words: &str) -> Url {
        let mut url = self.success.clone();
        let pairs = self.success.query_pairs();
        let changed = pairs.map(|(n, old)| match &*n {
            n if n == name => (n.to_owned(), value.to_owned()),
            n if WORDS.contains(&n) => (n.to_owned(), words.to_owned()),
            n => (n.to_owned(), old.into_owned()),
        });
        url.query_pairs_mut().clear().extend_pairs(changed);
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Start, success and failure at this URL.
    fn told(url: &str, fail: Option<&str>) -> Option<[Option<String>; 3]> {
        let urls = PingUrls::of(url.parse().unwrap(), fail.map(|fail| fail.parse().unwrap()))?;
        let of = |phase| urls.told(phase, "it broke").map(|url| url.as_str().replace("https://h/", ""));
        Some([of(Phase::Start), of(Phase::Success), of(Phase::Fail)])
    }

    #[test]
    fn every_monitor_is_told_in_its_own_way() {
        for (url, start, fail) in [
            ("uuid", Some("uuid/start"), "uuid/fail"),
            ("uuid/", Some("uuid/start"), "uuid/fail"),
            ("key/slug?create=1", Some("key/slug/start?create=1"), "key/slug/fail?create=1"),
            ("push/K?status=up&msg=OK&ping=", None, "push/K?status=down&msg=it+broke&ping="),
            ("cron/a/?status=ok", Some("cron/a/?status=in_progress"), "cron/a/?status=error"),
            (
                "p/K?state=complete&env=prod&message=done",
                Some("p/K?state=run&env=prod&message=it+broke"),
                "p/K?state=fail&env=prod&message=it+broke",
            ),
            ("K?s=0", None, "K?s=1"),
            ("e?success=true&error=", None, "e?success=false&error=it+broke"),
        ] {
            let [said, success, failed] = told(&format!("https://h/{url}"), None).unwrap();
            assert_eq!(
                (said.as_deref(), success.as_deref(), failed.as_deref()),
                (start, Some(url), Some(fail)),
                "{url}"
            );
        }
    }

    #[test]
    fn a_failure_never_carries_the_query_of_a_success() {
        for url in ["https://h/p?result=good", "https://h/p?status=UP", "https://h/p?create=1&token=x"] {
            assert!(told(url, None).is_none(), "{url}");
            let [start, success, fail] = told(url, Some("https://h/bad")).unwrap();
            assert_eq!((start, fail.as_deref()), (None, Some("bad")), "{url}");
            assert_eq!(success.unwrap(), url.replace("https://h/", ""));
        }
    }
}
