//! The proxy that the environment names for a target, by the variables and rules of curl and of AWS's own tools.

use hyper::Uri;
use hyper_util::client::proxy::matcher::Matcher;

use crate::targets::S3Location;

/// Where clouds hand out credentials: asked directly, always, or the proxy would get those of its own host.
const METADATA: &str = "169.254.0.0/16,fd00:ec2::/32,fe80::/10";

/// A proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    /// The variable that names it.
    pub(crate) variable: &'static str,
    /// Its URL, which may hold a password.
    pub(super) url: String,
    /// It is for an endpoint with TLS.
    pub(super) encrypted: bool,
    /// The hosts that it is not for, as in `NO_PROXY`.
    pub(super) not_for: String,
}

impl Proxy {
    /// The proxy that this process's environment names for a target.
    pub(crate) fn from_environment(location: &S3Location) -> Option<Self> {
        Self::of(location, |name| std::env::var(name).ok())
    }

    /// The proxy by which a target is reached. Never one for this host itself.
    fn of(location: &S3Location, variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let endpoint = location.address();
        let endpoint: Uri = endpoint.parse().ok()?;
        let encrypted = endpoint.scheme_str() == Some("https");
        let names: &[&str] = match encrypted {
            true => &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
            false => &["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"],
        };
        let set =
            |name: &&'static str| Some((*name, variable(name).filter(|value| !value.trim().is_empty())?));
        let (name, value) = names.iter().find_map(set)?;
        let url = match value.trim() {
            url if url.contains("://") => url.to_owned(),
            host => format!("http://{host}"),
        };
        let not_for = ["no_proxy", "NO_PROXY"].iter().find_map(|name| variable(name)).unwrap_or_default();
        let not_for = format!("{not_for},{METADATA}");
        let matcher = Matcher::builder().all(url.clone()).no(not_for.clone()).build();
        let applies = !location.is_on_this_host() && matcher.intercept(&endpoint).is_some();
        applies.then_some(Self { variable: name, url, encrypted, not_for })
    }

    /// Host and port, without a password.
    pub(crate) fn address(&self) -> String {
        let uri: Option<Uri> = self.url.parse().ok();
        let authority = uri.as_ref().and_then(Uri::authority).map_or("", |authority| authority.as_str());
        authority.rsplit('@').next().unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::TargetUrl;

    /// The variable that decides, and the proxy.
    fn of(url: &str, variables: &[(&'static str, &str)]) -> Option<(&'static str, String)> {
        let TargetUrl::S3(location) = url.parse().unwrap() else { unreachable!() };
        let value = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        Proxy::of(&location, value).map(|proxy| (proxy.variable, proxy.url))
    }

    #[test]
    fn the_variables_decide_and_this_host_is_asked_directly() {
        let https = ("HTTPS_PROXY", "http://proxy:3128");
        let there = |name, url: &str| Some((name, url.to_owned()));
        let elsewhere = "s3://bucket?endpoint=https://s3.example.com";
        assert_eq!(of(elsewhere, &[]), None);
        assert_eq!(of(elsewhere, &[https]), there("HTTPS_PROXY", "http://proxy:3128"));
        assert_eq!(of("s3://bucket", &[https]), there("HTTPS_PROXY", "http://proxy:3128"));
        assert_eq!(
            of(elsewhere, &[("https_proxy", "proxy:1"), https]),
            there("https_proxy", "http://proxy:1")
        );
        let with_password = ("HTTPS_PROXY", "http://u:hunter2@proxy:3128/");
        let TargetUrl::S3(location) = elsewhere.parse().unwrap() else { unreachable!() };
        let proxy = Proxy::of(&location, |name| (name == "HTTPS_PROXY").then(|| with_password.1.to_owned()));
        assert_eq!(proxy.unwrap().address(), "proxy:3128");
        assert_eq!(of(elsewhere, &[("HTTPS_PROXY", " ")]), None);
        assert_eq!(of(elsewhere, &[("HTTP_PROXY", "http://proxy:1")]), None);
        assert_eq!(of(elsewhere, &[("ALL_PROXY", "http://all:1")]), there("ALL_PROXY", "http://all:1"));
        let plain = "s3://bucket?endpoint=http://s3.example.com&insecure_http=true";
        assert_eq!((of(plain, &[https]), of(plain, &[("HTTP_PROXY", "p:1")]).is_some()), (None, true));
        for not_for in ["example.com", ".example.com", "a.b,s3.example.com", "*"] {
            assert_eq!(of(elsewhere, &[https, ("NO_PROXY", not_for)]), None, "{not_for}");
        }
        assert!(of(elsewhere, &[https, ("no_proxy", "example.org")]).is_some());
        for here in
            ["https://localhost:9000", "https://127.0.0.1:9000", "https://[::1]:9000", "https://169.254.1.1"]
        {
            assert_eq!(of(&format!("s3://bucket?endpoint={here}"), &[https]), None, "{here}");
        }
    }
}
