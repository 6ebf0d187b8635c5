//! What a service answered, as far as anybody needs it.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, RETRY_AFTER};

/// The longest wait that a service may ask for. It has not forgotten by then, if it has to be asked again.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// The head of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    /// Its status.
    pub(crate) status: StatusCode,
    /// How long to wait before the next request, at least a second and at most an hour, where it says that.
    pub(crate) wait: Option<Duration>,
    /// Its body is a page for people.
    pub(crate) is_page: bool,
}

impl Reply {
    pub(super) fn of(answer: &reqwest::Response) -> Self {
        let headers = answer.headers();
        let kind = text(headers, &CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase();
        let wait = wait(headers, Timestamp::now());
        Self { status: answer.status(), wait, is_page: kind.starts_with("text/html") }
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// `Retry-After`: seconds, or a date by the clock of the service (RFC 9110, section 10.2.3).
fn wait(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let asked = text(headers, &RETRY_AFTER)?;
    let date = |text: &str| jiff::fmt::rfc2822::parse(text).ok().map(|at| at.timestamp());
    // Some services give fractions of a second.
    let seconds = match asked.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() => seconds,
        _ => {
            let now = text(headers, &DATE).and_then(date).unwrap_or(now);
            date(asked)?.duration_since(now).as_secs_f64()
        }
    };
    let seconds = seconds.ceil().clamp(1.0, LONGEST_WAIT.as_secs_f64());
    Some(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(retry_after: &str, date: Option<&str>) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, retry_after.parse().unwrap());
        if let Some(date) = date {
            headers.insert(DATE, date.parse().unwrap());
        }
        wait(&headers, "2026-11-25T08:00:00Z".parse().unwrap()).map(|wait| wait.as_secs())
    }

    #[test]
    fn a_wait_is_in_seconds_or_until_a_date() {
        for (text, seconds) in [
            ("1", Some(1)),
            ("120", Some(120)),
            ("0.3", Some(1)),
            ("0", Some(1)),
            ("-5", Some(1)),
            ("999999999", Some(3600)),
            ("Wed, 25 Nov 2026 08:00:30 GMT", Some(30)),
            ("Wed, 25 Nov 2026 07:00:00 GMT", Some(1)),
            ("Thu, 26 Nov 2026 08:00:00 GMT", Some(3600)),
            ("soon", None),
            ("", None),
            ("NaN", None),
        ] {
            assert_eq!(asked(text, None), seconds, "{text}");
        }
        // By a clock that is ten minutes ahead.
        let date = Some("Wed, 25 Nov 2026 08:10:00 GMT");
        assert_eq!(asked("Wed, 25 Nov 2026 08:10:40 GMT", date), Some(40));
        assert_eq!(wait(&HeaderMap::new(), Timestamp::now()), None);
    }
}
