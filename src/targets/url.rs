//! How a target is named in a configuration or on a command line.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use url::{Host, Url};

use crate::model::id::InvalidId;
use crate::model::object::ObjectKey;
use crate::{Error, ErrorKind};

/// The forms that are accepted, as people are shown them.
const ACCEPTED: &str = "/absolute/path, ./relative/path, file:///absolute/path or \
    s3://bucket/prefix?endpoint=https://host&region=…&path_style=true&profile=…&credentials_file=/path";

/// The parameters of an `s3://` URL.
const S3_PARAMETERS: [&str; 6] =
    ["credentials_file", "endpoint", "insecure_http", "path_style", "profile", "region"];

/// Where a target is. Holds no secret: credentials come from a file or from the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetUrl {
    /// A directory of this host, absolute or relative to the working directory.
    Directory(PathBuf),
    /// A bucket, or a prefix in it.
    S3(S3Location),
}

/// A bucket of an S3 server, and how to speak to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Location {
    /// The bucket: 3 to 63 of `a-z 0-9 . -`.
    pub bucket: String,
    /// What every key starts with, without its trailing slash.
    pub prefix: Option<ObjectKey>,
    /// Scheme, host and port of the server, and the path below which it speaks S3; AWS itself, where there is none.
    pub endpoint: Option<String>,
    /// The region that requests are signed for. Without one: AWS's usual chain, then `us-east-1`.
    pub region: Option<String>,
    /// The bucket goes into the path, not into the host name. Default: for every endpoint but AWS's own.
    pub path_style: bool,
    /// The profile in the credentials file (default: `default`).
    pub profile: Option<String>,
    /// An AWS credentials file; AWS's usual chain, where there is none.
    pub credentials_file: Option<PathBuf>,
    /// Plain HTTP is wanted although the endpoint is not on this host.
    pub insecure_http: bool,
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, message)
}

impl FromStr for TargetUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.starts_with('/') || text.starts_with("./") || text.starts_with("../") || text == "." {
            return Ok(Self::Directory(PathBuf::from(text)));
        }
        let url = Url::parse(text).map_err(|e| {
            // The text is not repeated: a URL that cannot be parsed may still hold a password.
            invalid("target URL is not valid").cause(e).remedy(format!("Write it as {ACCEPTED}."))
        })?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid(format!(
                "target URL {} holds credentials",
                without_secrets(&url)
            ))
            .remedy(
                "Take `user:password@` out of the URL; put the keys in a file and name it with `credentials_file=/path`.",
            ));
        }
        match url.scheme() {
            "file" => directory(&url),
            "s3" => S3Location::from_url(&url).map(Self::S3),
            other => Err(invalid(format!("target URL scheme {other:?} is not known"))
                .remedy(format!("Write the target as {ACCEPTED}."))),
        }
    }
}

fn directory(url: &Url) -> Result<TargetUrl, Error> {
    if url.query().is_some() || url.fragment().is_some() {
        return Err(invalid(format!(
            "target URL {} has parameters, which a directory does not take",
            without_secrets(url)
        ))
        .remedy("Write the directory as file:///absolute/path, with %3F for ? and %23 for #."));
    }
    url.to_file_path().map(TargetUrl::Directory).map_err(|()| {
        invalid(format!("target URL {url} does not name a local directory"))
            .remedy("Write it with three slashes, as file:///absolute/path.")
    })
}

/// The URL without what may be secret: user information and the values of parameters.
fn without_secrets(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), url.host_str().unwrap_or(""), url.path())
}

impl S3Location {
    /// A bucket of AWS, with everything else as AWS's usual chain has it.
    pub fn new(bucket: &str, prefix: Option<ObjectKey>) -> Result<Self, Error> {
        let valid = (3..=63).contains(&bucket.len())
            && bucket
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
            && bucket.starts_with(|c: char| c.is_ascii_alphanumeric())
            && bucket.ends_with(|c: char| c.is_ascii_alphanumeric());
        if !valid {
            return Err(invalid(format!("bucket {bucket:?} is not valid")).remedy(
                "A bucket's name is 3 to 63 of a-z, 0-9, '-' and '.', and starts and ends with a letter or digit.",
            ));
        }
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix,
            endpoint: None,
            region: None,
            path_style: false,
            profile: None,
            credentials_file: None,
            insecure_http: false,
        })
    }

    fn from_url(url: &Url) -> Result<Self, Error> {
        let shown = without_secrets(url);
        if let Some(port) = url.port() {
            return Err(invalid(format!("target URL {shown} has a port ({port})"))
                .remedy("Name the server as a parameter: s3://bucket/prefix?endpoint=https://host:port."));
        }
        if url.fragment().is_some() {
            return Err(invalid(format!("target URL {shown} has a fragment (#…)"))
                .remedy(format!("Write the target as {ACCEPTED}.")));
        }
        let path = url.path().trim_matches('/');
        let prefix = match path {
            "" => None,
            path => Some(path.parse().map_err(|e: InvalidId| {
                invalid(format!("prefix of target URL {shown} is not valid"))
                    .remedy(format!("Use {}.", e.accepted))
            })?),
        };
        let mut location = Self::new(url.host_str().unwrap_or(""), prefix)?;
        let mut path_style = None;
        let mut seen = Vec::new();
        for (name, value) in url.query_pairs() {
            if seen.contains(&name) {
                return Err(invalid(format!("target URL {shown} has the parameter {name:?} twice"))
                    .remedy("Give each parameter once."));
            }
            match &*name {
                "endpoint" => location.endpoint = Some(endpoint(&value)?),
                "region" => location.region = Some(word("region", &value)?),
                "profile" => location.profile = Some(word("profile", &value)?),
                "credentials_file" => location.credentials_file = Some(absolute(&value)?),
                "path_style" => path_style = Some(flag("path_style", &value)?),
                "insecure_http" => location.insecure_http = flag("insecure_http", &value)?,
                unknown => return Err(unknown_parameter(&shown, unknown)),
            }
            seen.push(name);
        }
        location.path_style = path_style.unwrap_or(location.endpoint.is_some());
        location.check_path()?;
        location.check_transport()?;
        Ok(location)
    }

    /// The bucket's name comes once, in the URL itself: a server would take one in the endpoint for a path of its own.
    fn check_path(&self) -> Result<(), Error> {
        let Some(endpoint) = &self.endpoint else { return Ok(()) };
        match endpoint.rsplit_once('/') {
            Some((server, last)) if last == self.bucket => {
                Err(invalid(format!("endpoint of target URL s3://{} ends with the bucket", self.bucket))
                    .remedy(format!("Leave it out there: endpoint={server}.")))
            }
            _ => Ok(()),
        }
    }

    /// Plain HTTP shows sizes, names and a signature to the network, so it must be wanted.
    pub fn check_transport(&self) -> Result<(), Error> {
        let Some(endpoint) = &self.endpoint else {
            return Ok(());
        };
        let url = parse_endpoint(endpoint)?;
        if url.scheme() == "https" || is_loopback(&url) || self.insecure_http {
            return Ok(());
        }
        Err(invalid(format!("endpoint {endpoint} is not encrypted"))
            .remedy("Use https://, or add insecure_http=true if the network between is trusted."))
    }

    /// Where requests go: with the name of AWS's own server, where there is no endpoint.
    pub(super) fn address(&self) -> String {
        let amazon = || {
            let region = self.region.as_deref().unwrap_or("us-east-1");
            format!("https://{}.s3.{region}.amazonaws.com", self.bucket)
        };
        self.endpoint.clone().unwrap_or_else(amazon)
    }

    /// Whether the server runs on this host.
    pub(super) fn is_on_this_host(&self) -> bool {
        self.endpoint.as_deref().is_some_and(|url| parse_endpoint(url).is_ok_and(|url| is_loopback(&url)))
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut out = Vec::new();
        let mut add = |name, value: Option<String>| out.extend(value.map(|v| (name, v)));
        add("endpoint", self.endpoint.clone());
        add("region", self.region.clone());
        add("path_style", (self.path_style != self.endpoint.is_some()).then(|| self.path_style.to_string()));
        add("profile", self.profile.clone());
        add("credentials_file", self.credentials_file.as_deref().map(show_path));
        add("insecure_http", self.insecure_http.then(|| "true".to_owned()));
        out
    }
}

fn show_path(path: &Path) -> String {
    path.display().to_string()
}

fn unknown_parameter(shown: &str, name: &str) -> Error {
    let nearest = S3_PARAMETERS
        .iter()
        .map(|known| (strsim::jaro_winkler(known, name), known))
        .filter(|(similarity, _)| *similarity > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let error = invalid(format!("target URL {shown} has the unknown parameter {name:?}"));
    match nearest {
        Some((_, known)) => error.remedy(format!("Did you mean {known:?}?")),
        None => error.remedy(format!("Known are {}.", S3_PARAMETERS.join(", "))),
    }
}

fn flag(name: &str, value: &str) -> Result<bool, Error> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(invalid(format!("{name} of a target URL is {value:?}")).remedy("Write true or false.")),
    }
}

fn word(name: &str, value: &str) -> Result<String, Error> {
    if value.is_empty() || value.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(invalid(format!("{name} of a target URL is {value:?}")).remedy("Write one word."));
    }
    Ok(value.to_owned())
}

fn absolute(value: &str) -> Result<PathBuf, Error> {
    let path = PathBuf::from(value);
    if path.is_absolute() {
        return Ok(path);
    }
    Err(invalid(format!("credentials_file of a target URL is {value:?}")).remedy("Write an absolute path."))
}

fn parse_endpoint(value: &str) -> Result<Url, Error> {
    let remedy = "Write it as https://host or https://host:port, with a path where the service has one: \
                  https://host/storage/v1/s3.";
    let url = Url::parse(value)
        .map_err(|e| invalid("endpoint of a target URL is not valid").cause(e).remedy(remedy))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("endpoint of a target URL holds credentials")
            .remedy("Put the keys in a file and name it with `credentials_file=/path`."));
    }
    let plain = matches!(url.scheme(), "http" | "https")
        && url.host().is_some()
        && url.query().is_none()
        && url.fragment().is_none();
    if plain { Ok(url) } else { Err(invalid("endpoint of a target URL is not valid").remedy(remedy)) }
}

/// The endpoint in its one canonical form.
fn endpoint(value: &str) -> Result<String, Error> {
    Ok(parse_endpoint(value)?.as_str().trim_end_matches('/').to_owned())
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => IpAddr::from(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::from(ip).is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

impl fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetUrl::Directory(path) => write!(f, "{}", path.display()),
            TargetUrl::S3(location) => location.fmt(f),
        }
    }
}

impl fmt::Display for S3Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if let Some(prefix) = &self.prefix {
            write!(f, "/{prefix}")?;
        }
        for (i, (name, value)) in self.parameters().into_iter().enumerate() {
            // Only what would end or change the parameter is escaped, so that people can read it.
            let value = value
                .replace('%', "%25")
                .replace('&', "%26")
                .replace('+', "%2B")
                .replace('#', "%23")
                .replace(' ', "%20");
            write!(f, "{}{name}={value}", if i == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<TargetUrl, Error> {
        text.parse()
    }

    fn refused(text: &str) -> String {
        let e = parse(text).expect_err(text);
        assert_eq!(e.kind(), ErrorKind::Config, "{text}");
        format!("{e} | {}", e.remedy_text().unwrap_or("no remedy"))
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        for text in [
            "/mnt/backup/marbre",
            "./rel",
            "s3://bucket",
            "s3://bucket/a/b",
            "s3://bucket/a?endpoint=http://127.0.0.1:9000",
            "s3://bucket/a?endpoint=https://s3.example.com&region=eu-west-3&path_style=false&profile=marbre&credentials_file=/etc/a b+c&insecure_http=true",
            "s3://bucket?path_style=true",
            "s3://bucket?endpoint=http://[::1]:9000",
            "s3://bucket/a?endpoint=https://project.storage.supabase.co/storage/v1/s3",
        ] {
            let url = parse(text).unwrap();
            assert_eq!(parse(&url.to_string()).unwrap(), url, "{text}");
        }
        assert_eq!(parse("file:///a%20b").unwrap().to_string(), "/a b");
    }

    #[test]
    fn path_style_is_the_default_for_other_endpoints_than_aws() {
        let style = |text| match parse(text).unwrap() {
            TargetUrl::S3(location) => location.path_style,
            TargetUrl::Directory(_) => unreachable!(),
        };
        assert!(!style("s3://bucket/p"));
        assert!(style("s3://bucket/p?endpoint=https://minio.example.com"));
    }

    #[test]
    fn an_endpoint_may_lie_below_a_path() {
        for (given, kept) in [
            ("https://host/storage/v1/s3", "https://host/storage/v1/s3"),
            ("https://host/storage/v1/s3/", "https://host/storage/v1/s3"),
            ("https://host/", "https://host"),
            ("http://localhost:9000/swift/v1", "http://localhost:9000/swift/v1"),
        ] {
            let TargetUrl::S3(location) = parse(&format!("s3://bucket/p?endpoint={given}")).unwrap() else {
                unreachable!()
            };
            assert_eq!(location.endpoint.as_deref(), Some(kept));
            assert_eq!(location.is_on_this_host(), given.contains("localhost"), "{given}");
        }
    }

    #[test]
    fn secrets_are_refused_and_not_repeated() {
        for text in [
            "s3://AKIA:hunter2@bucket/p",
            "s3://bucket?endpoint=https://u:hunter2@host",
            "s3://bucket?secret_access_key=hunter2",
            "s3://u:hunter2@bucket:99999/p",
        ] {
            assert!(!refused(text).contains("hunter2"), "{}", refused(text));
        }
        assert!(refused("s3://AKIA:x@bucket/p").contains("credentials_file"));
    }

    #[test]
    fn mistakes_are_refused_with_a_remedy() {
        for (text, part) in [
            ("s3://bucket?regoin=x", "Did you mean \"region\"?"),
            ("s3://bucket?quux=x", "Known are"),
            ("s3://bucket?region=a&region=b", "twice"),
            ("s3://bucket?path_style=yes", "true or false"),
            ("s3://bucket:9000/p", "endpoint=https://host:port"),
            ("s3://b", "3 to 63"),
            ("s3://Bucket_x", "3 to 63"),
            ("s3://bucket/a//b", "segments"),
            ("s3://bucket/.hidden", "segments"),
            ("s3://bucket?endpoint=http://s3.example.com", "insecure_http=true"),
            ("s3://bucket?endpoint=ftp://host", "https://host"),
            ("s3://bucket?endpoint=https://host/bucket", "endpoint=https://host."),
            ("s3://bucket?endpoint=https://host/s3?x=y", "https://host:port"),
            ("s3://bucket?credentials_file=keys", "absolute path"),
            ("s3://bucket#x", "fragment"),
            ("file://host/path", "three slashes"),
            ("file:///a?b=c", "does not take"),
            ("sftp://host/path", "not known"),
            ("backup", "Write it as"),
        ] {
            assert!(refused(text).contains(part), "{text}: {}", refused(text));
        }
    }
}
