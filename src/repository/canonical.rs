//! Canonical JSON: the bytes that are hashed and signed (see `docs/FORMAT.md`, Receipt).

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result, ResultExt};

/// The canonical bytes of a value: members sorted, no white space.
pub(crate) fn to_bytes<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    // `serde_json::Value` keeps its members sorted by byte order, and writes no white space.
    let value = serde_json::to_value(value).or_internal("serialise a record")?;
    serde_json::to_vec(&value).or_internal("serialise a record")
}

/// A moment as records hold it, without its fraction of a second.
pub(crate) fn whole_second(at: Timestamp) -> Timestamp {
    at - SignedDuration::from_nanos(i64::from(at.subsec_nanosecond()))
}

/// Parses canonical bytes, refusing any other spelling of the same value: what was signed is what is read.
pub(crate) fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let value: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|e| Error::verification("a record is not JSON").cause(e))?;
    if let Some(format) = value.get("format").and_then(serde_json::Value::as_u64)
        && format > u64::from(super::manifest::FORMAT)
    {
        return Err(Error::preflight(format!(
            "a record has format {format}, this marbre reads up to {}",
            super::manifest::FORMAT
        ))
        .remedy(format!(
            "Use a marbre that reads format {format}, or the reader in docs/recovery of that release."
        )));
    }
    if serde_json::to_vec(&value).is_ok_and(|again| again == bytes) {
        serde_json::from_value(value)
            .map_err(|e| Error::verification("a record lacks what its format demands").cause(e))
    } else {
        Err(Error::verification("a record is not canonical JSON"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn members_are_sorted_and_other_spellings_refused() {
        let bytes = to_bytes(&json!({"b": 1, "a": "é\u{1}\n", "c": [true, null]})).unwrap();
        assert_eq!(bytes, "{\"a\":\"é\\u0001\\n\",\"b\":1,\"c\":[true,null]}".as_bytes());
        assert!(from_bytes::<Value>(&bytes).is_ok());
        for other in
            ["{\"b\":1,\"a\":2}", "{ \"a\":1}", "{\"a\":1,\"a\":1}", "{\"a\":\"\\u0061\"}", "{\"a\":1}\n"]
        {
            assert!(from_bytes::<Value>(other.as_bytes()).is_err(), "{other}");
        }
    }

    #[test]
    fn a_newer_format_says_so() {
        let error = from_bytes::<Value>(br#"{"format":2}"#).unwrap_err();
        assert!(error.message().contains("format 2"), "{error}");
    }
}
