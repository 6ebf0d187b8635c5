//! The forms that values can have: each turns a TOML value into its final type, or says what is wrong.

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use toml::de::DeValue;

use super::secret;
use crate::config::complaint::Complaint;
use crate::config::section::{Form, wrong_type};
use crate::model::drill_check::Percent;
use crate::model::human;
use crate::model::id::InvalidId;
use crate::model::locale::Language;

const PATH: &str = "a path, relative to the folder of the main configuration file or absolute";
const SIZE: &str = "bytes as a whole number, or a string such as \"512 MiB\" (B, KiB, MiB, GiB, TiB)";
const BANDWIDTH: &str = "a string such as \"20 MiB/s\" (B/s, KiB/s, MiB/s, GiB/s)";
const DURATION: &str = "a whole number and a unit in quotes, such as \"30s\", \"5m\", \"26h\" or \"30d\"";
const PERCENT: &str = "a number and a percent sign in quotes, such as \"5%\" or \"2.5%\"";
const NUMBER: &str = "a number, such as 12 or 0.5";
const TARGET_URL: &str =
    "\"/absolute/path\", \"file:///absolute/path\" or \"s3://bucket/prefix?endpoint=…&region=…\"";
const POSTGRES_URL: &str =
    "\"postgres://user@host:port/database\" or \"postgres:///database?host=/socket/folder&user=…\"";

fn string<'v>(value: &'v DeValue<'_>, accepted: &str) -> Result<&'v str, Complaint> {
    value.as_str().ok_or_else(|| wrong_type(value, accepted))
}

/// Any text but the empty one.
pub(super) fn text(value: &DeValue<'_>) -> Result<String, Complaint> {
    match string(value, "a string in quotes")? {
        "" => Err(Complaint::new("is empty").accepted("a string in quotes")),
        text => Ok(text.to_owned()),
    }
}

/// Any text but one of nothing but spaces. Spaces around it do not count.
pub(super) fn filled_text(value: &DeValue<'_>) -> Result<String, Complaint> {
    match string(value, "a string in quotes")?.trim() {
        "" => Err(Complaint::new("is empty").accepted("a string in quotes")),
        text => Ok(text.to_owned()),
    }
}

/// One of the newtypes of [`crate::model::id`].
pub(super) fn id<T: FromStr<Err = InvalidId>>(value: &DeValue<'_>) -> Result<T, Complaint> {
    text(value)?.parse().map_err(|e| invalid_id(&e))
}

/// The complaint about an invalid name or identifier.
pub(super) fn invalid_id(e: &InvalidId) -> Complaint {
    Complaint::new(format!("{:?} is not a valid {}", e.value, e.what)).accepted(e.accepted)
}

/// A path, which is joined to `base` where it is relative.
pub(super) fn path(base: &Path) -> impl Form<PathBuf> {
    move |value| match string(value, PATH)? {
        "" => Err(Complaint::new("is empty").accepted(PATH)),
        text if text.contains('\0') => Err(Complaint::new("contains a zero byte").accepted(PATH)),
        text => Ok(base.join(text)),
    }
}

/// The path of a file that holds a secret: if it is there, only its owner may have access.
pub(super) fn secret_path(base: &Path) -> impl Form<PathBuf> {
    let path = path(base);
    move |value| {
        let path = path(value)?;
        match std::fs::metadata(&path) {
            Ok(metadata) => match secret::exposed(&path, &metadata) {
                None => Ok(path),
                Some((what, remedy)) => Err(Complaint::new(what).remedy(remedy)),
            },
            // A file that is missing, or that this user may not see, matters when it is used.
            Err(_) => Ok(path),
        }
    }
}

/// A whole number of a range.
pub(super) fn whole_number(range: RangeInclusive<u64>) -> impl Form<u64> {
    move |value| {
        let accepted = match *range.end() {
            u64::MAX => format!("a whole number, at least {}", range.start()),
            end => format!("a whole number from {} to {end}", range.start()),
        };
        let Some(integer) = value.as_integer() else {
            return Err(wrong_type(value, &accepted));
        };
        match u64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(Complaint::new(format!("is {integer}")).accepted(accepted)),
        }
    }
}

/// A small number of things, at least one.
pub(super) fn amount(max: u64) -> impl Form<NonZeroUsize> {
    let number = whole_number(1..=max);
    move |value| {
        let number = usize::try_from(number(value)?).unwrap_or(usize::MAX);
        // The range begins at 1.
        Ok(NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN))
    }
}

/// A size in bytes, at least `min`.
pub(super) fn size(min: u64) -> impl Form<u64> {
    move |value| {
        let bytes = match value {
            DeValue::Integer(_) => whole_number(0..=u64::MAX)(value)?,
            _ => {
                let text = string(value, SIZE)?;
                parse_size(text)
                    .ok_or_else(|| Complaint::new(format!("{text:?} is not a size")).accepted(SIZE))?
            }
        };
        if bytes < min {
            let min = format!("at least {}", human::bytes(min));
            return Err(Complaint::new(format!("is {}", human::bytes(bytes))).accepted(min));
        }
        Ok(bytes)
    }
}

/// Bytes per second, as `"20 MiB/s"`, at least `min`.
pub(super) fn bandwidth(min: u64) -> impl Form<u64> {
    move |value| {
        let text = string(value, BANDWIDTH)?;
        let bytes = text.strip_suffix("/s").and_then(|size| parse_size(size.trim_end()));
        match bytes {
            Some(bytes) if bytes >= min => Ok(bytes),
            Some(_) => Err(Complaint::new(format!("{text:?} is too slow"))
                .accepted(format!("{BANDWIDTH}, at least {}/s", human::bytes(min)))),
            None => Err(Complaint::new(format!("{text:?} is not a bandwidth")).accepted(BANDWIDTH)),
        }
    }
}

/// A duration, longer than nothing.
pub(super) fn duration(value: &DeValue<'_>) -> Result<Duration, Complaint> {
    let text = string(value, DURATION)?;
    match parse_duration(text) {
        Some(duration) if !duration.is_zero() => Ok(duration),
        Some(_) => Err(Complaint::new("is zero").accepted(format!("{DURATION}, at least 1"))),
        None => Err(Complaint::new(format!("{text:?} is not a duration")).accepted(DURATION)),
    }
}

/// A share: 0 or more, above 100 too.
pub(super) fn percent(value: &DeValue<'_>) -> Result<Percent, Complaint> {
    let text = string(value, PERCENT)?;
    let number = text.strip_suffix('%').map(str::trim_end);
    // Neither signs nor exponents, which `f64` would accept.
    let plain = number.filter(|n| n.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
    match plain.and_then(|n| n.parse::<f64>().ok()).filter(|n| n.is_finite()) {
        Some(number) => Ok(Percent(number)),
        None => Err(Complaint::new(format!("{text:?} is not a percentage")).accepted(PERCENT)),
    }
}

/// A finite number, whole or not.
pub(super) fn number(value: &DeValue<'_>) -> Result<f64, Complaint> {
    let text = number_text(value).ok_or_else(|| wrong_type(value, NUMBER))?;
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err(Complaint::new(format!("is {text}")).accepted(NUMBER)),
    }
}

/// A text, number or boolean, as text.
pub(super) fn scalar(value: &DeValue<'_>) -> Result<String, Complaint> {
    match value {
        DeValue::Boolean(truth) => Ok(truth.to_string()),
        DeValue::Integer(_) | DeValue::Float(_) => {
            number(value)?;
            number_text(value).ok_or_else(|| wrong_type(value, NUMBER))
        }
        DeValue::String(_) => filled_text(value),
        _ => Err(wrong_type(value, "a string in quotes, a number, true or false")),
    }
}

/// A number in decimal.
fn number_text(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::Float(float) => Some(float.as_str().to_owned()),
        DeValue::Integer(integer) => match i128::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) => Some(number.to_string()),
            Err(_) => Some(integer.to_string()),
        },
        _ => None,
    }
}

/// Yes or no.
pub(super) fn truth(value: &DeValue<'_>) -> Result<bool, Complaint> {
    value.as_bool().ok_or_else(|| wrong_type(value, "true or false"))
}

/// A language that pages for people are written in.
pub(super) fn language(value: &DeValue<'_>) -> Result<Language, Complaint> {
    let accepted = "\"en\" (English) or \"fr\" (French)";
    let tag = string(value, accepted)?;
    tag.parse().map_err(|_| {
        Complaint::new(format!("there is no language {tag:?} that reports are written in")).accepted(accepted)
    })
}

/// The user that a throwaway server runs as.
pub(super) fn server_user(value: &DeValue<'_>) -> Result<String, Complaint> {
    let accepted = "the name of a user of this host, such as \"postgres\"";
    let name = string(value, accepted)?;
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if name == "root" {
        return Err(Complaint::new("is root, and PostgreSQL refuses to run as root").accepted(accepted));
    }
    if plain && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') {
        Ok(name.to_owned())
    } else {
        Err(Complaint::new(format!("{name:?} is not the name of a user")).accepted(accepted))
    }
}

/// Splits `"30 d"` into 30 and `"d"`.
fn quantity(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start()))
}

fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = quantity(text)?;
    let power = ["B", "KiB", "MiB", "GiB", "TiB"].iter().position(|known| *known == unit)?;
    number.checked_mul(1 << (10 * power))
}

pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = quantity(text)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    // A thousand years: more is a slip of the finger, and would overflow calendars later.
    let total = number.checked_mul(seconds)?;
    (total <= 1_000 * 366 * 86_400).then(|| Duration::from_secs(total))
}

/// Where a target is. Only the kind of URL is looked at here; its parts belong to the target.
pub(super) fn target_url(value: &DeValue<'_>) -> Result<String, Complaint> {
    let text = string(value, TARGET_URL)?;
    let (Some(rest), scheme) = (match text.split_once("://") {
        Some((scheme, rest)) => (Some(rest), scheme),
        None => (text.starts_with('/').then_some(text), "path"),
    }) else {
        return Err(Complaint::new("is not the URL of a target").accepted(TARGET_URL));
    };
    match scheme {
        "path" => Ok(text.to_owned()),
        "file" if rest.starts_with('/') => Ok(text.to_owned()),
        "s3" => s3_url(text, rest),
        _ => Err(Complaint::new("is not the URL of a target").accepted(TARGET_URL)),
    }
}

fn s3_url(text: &str, rest: &str) -> Result<String, Complaint> {
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let bucket = place.split('/').next().unwrap_or_default();
    let secret = |name: &str| {
        ["secret", "password", "token", "access_key"]
            .iter()
            .any(|word| name.to_ascii_lowercase().contains(word))
    };
    if bucket.contains('@') || parameter_names(query).any(secret) {
        // The value is not repeated: it holds a secret.
        return Err(Complaint::new("contains credentials").accepted(TARGET_URL).remedy(
            "Take them out of the URL, put them in a file and name it with `credentials_file`. Replace them: they were in a file that others may read.",
        ));
    }
    if bucket.is_empty() {
        return Err(Complaint::new("names no bucket").accepted(TARGET_URL));
    }
    Ok(text.to_owned())
}

/// Where a MariaDB or MySQL database is, without its password.
const MYSQL_URL: &str =
    "mysql://USER@HOST:PORT/DATABASE, or mysql:///DATABASE?socket=/run/mysqld/mysqld.sock&user=USER";

/// The URL of a MariaDB or MySQL database.
pub(super) fn mysql_url(value: &DeValue<'_>) -> Result<String, Complaint> {
    let text = string(value, MYSQL_URL)?;
    let rest = text.strip_prefix("mysql://").or_else(|| text.strip_prefix("mariadb://"));
    // No message repeats the value: what is wrong with it can be that it holds a password.
    let Some(rest) = rest else {
        return Err(Complaint::new("is not the URL of a MariaDB or MySQL database").accepted(MYSQL_URL));
    };
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let user = place.rsplit_once('@').map(|(user, _)| user);
    let secret = |name: &str| name.to_ascii_lowercase().contains("pass");
    if user.is_some_and(|user| user.contains([':', '/'])) || parameter_names(query).any(secret) {
        return Err(Complaint::new("contains a password").accepted(MYSQL_URL).remedy(
            "Take it out of the URL, put it in a file that only its owner can read, and name that file with `password_file`.",
        ));
    }
    Ok(text.to_owned())
}

/// Where a PostgreSQL database is, without its password.
pub(super) fn postgres_url(value: &DeValue<'_>) -> Result<String, Complaint> {
    let text = string(value, POSTGRES_URL)?;
    let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
    // No message repeats the value: what is wrong with it can be that it holds a password.
    let Some(rest) = rest else {
        return Err(Complaint::new("is not a PostgreSQL URL").accepted(POSTGRES_URL));
    };
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = place.split('/').next().unwrap_or_default();
    let user = authority.rsplit_once('@').map(|(user, _)| user);
    let secret = |name: &str| name.to_ascii_lowercase().contains("password");
    // A '/' or '?' in a password, not escaped, would end the authority before its '@'.
    let in_user = user.is_some_and(|user| user.contains(':'));
    let unescaped = user.is_none() && !has_only_ports(authority) && rest.contains('@');
    if in_user || unescaped || parameter_names(query).any(secret) {
        return Err(Complaint::new("contains a password").accepted(POSTGRES_URL).remedy(
            "Take it out of the URL, put it in a file that only its owner can read, and name that file with `password_file`.",
        ));
    }
    Ok(text.to_owned())
}

/// Whether nothing but a port follows the colon of each host: `[::1]:5432,replica`.
fn has_only_ports(authority: &str) -> bool {
    authority.split(',').all(|host| match host.rsplit_once(':') {
        Some((_, port)) => port.ends_with(']') || port.bytes().all(|b| b.is_ascii_digit()),
        None => true,
    })
}

fn parameter_names(query: &str) -> impl Iterator<Item = &str> {
    query.split('&').map(|pair| pair.split('=').next().unwrap_or_default())
}

/// The name of an environment variable. What does not look like one may be a secret put in the wrong
/// place, and is not repeated.
pub(super) fn variable_name(value: &DeValue<'_>) -> Result<String, Complaint> {
    let accepted = "the name of an environment variable, such as \"ABONNES_PASSWORD\"";
    let name = string(value, accepted)?;
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if plain && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') {
        Ok(name.to_owned())
    } else {
        Err(Complaint::new("is not the name of an environment variable").accepted(accepted))
    }
}

/// The name of a systemd credential: a plain file name.
pub(super) fn credential_name(value: &DeValue<'_>) -> Result<String, Complaint> {
    let accepted = "the name of a systemd credential (LoadCredential=), a plain file name";
    let name = string(value, accepted)?;
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if plain && !name.is_empty() && !name.starts_with('.') {
        Ok(name.to_owned())
    } else {
        Err(Complaint::new("is not the name of a credential").accepted(accepted))
    }
}
