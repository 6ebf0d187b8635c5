//! What a server says when it refuses something, without the values that it may repeat.

use mysql_common::constants::CapabilityFlags;
use mysql_common::io::ParseBuf;
use mysql_common::packets::ErrPacket;

/// An error of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerError {
    /// Its number, the same in MariaDB and MySQL for all that are named here.
    pub code: u16,
    /// Its SQLSTATE, if it has one.
    pub state: String,
    message: String,
}

/// Errors whose messages name objects, users and settings only. Others can hold values of rows or parts of definitions.
/// Source: `share/errmsg-utf8.txt` of MariaDB and of MySQL.
const PLAIN: [u16; 52] = [
    1005, 1007, 1008, 1016, 1030, 1033, 1040, 1044, 1045, 1046, 1049, 1050, 1051, 1053, 1067, 1069, 1071,
    1072, 1075, 1091, 1103, 1114, 1115, 1118, 1130, 1142, 1143, 1146, 1153, 1194, 1195, 1203, 1205, 1213,
    1223, 1226, 1227, 1231, 1235, 1273, 1286, 1290, 1305, 1317, 1356, 1370, 1419, 1449, 1524, 1553, 1827,
    3948,
];

/// What others mean, where that helps.
const MEANINGS: [(u16, &str); 14] = [
    (1022, "a row with the same key is there already"),
    (1048, "a column that must have a value has none"),
    (1062, "a row with the same key is there already"),
    (1064, "the server cannot read the statement"),
    (1216, "a row refers to one that is not there"),
    (1217, "a row is referred to by another"),
    (1264, "a value is out of range"),
    (1265, "a value was cut off"),
    (1292, "a value does not fit its type"),
    (1366, "a value does not fit its type or character set"),
    (1406, "a value is too long"),
    (1452, "a row refers to one that is not there"),
    (3819, "a row breaks a check"),
    (4025, "a row breaks a check"),
];

/// Lost connections, by the numbers with which a server or a proxy says so before it closes.
const ENDS: [u16; 5] = [1053, 1152, 1927, 4031, 3168];

impl ServerError {
    /// Reads the payload of an error.
    pub(super) fn parse(payload: &[u8], greeted: bool) -> Self {
        let capabilities = match greeted {
            true => CapabilityFlags::CLIENT_PROTOCOL_41,
            false => CapabilityFlags::empty(),
        };
        match ParseBuf(payload).parse::<ErrPacket<'_>>(capabilities) {
            Ok(ErrPacket::Error(error)) => Self {
                code: error.error_code(),
                state: error.sql_state_ref().map(|state| state.as_str().into_owned()).unwrap_or_default(),
                message: error.message_str().into_owned(),
            },
            Ok(ErrPacket::Progress(_)) | Err(_) => {
                Self { code: 0, state: String::new(), message: String::new() }
            }
        }
    }

    /// In place of what a server would have said before it went away.
    pub(super) fn lost(e: &std::io::Error) -> Self {
        Self { code: ENDS[0], state: String::new(), message: e.to_string() }
    }

    /// For people: why, without anything of a row.
    pub(super) fn cause(&self) -> String {
        let meaning = MEANINGS.iter().find(|(code, _)| *code == self.code);
        match meaning {
            Some((code, meaning)) => format!("{meaning} (error {code})"),
            None if PLAIN.contains(&self.code) => format!("{} (error {})", self.message, self.code),
            None => format!("error {} ({})", self.code, self.state),
        }
    }

    /// The connection ends with it.
    pub(super) fn ends_a_session(&self) -> bool {
        ENDS.contains(&self.code)
    }

    /// A right is missing.
    pub(super) fn is_denied(&self) -> bool {
        [1044, 1045, 1142, 1143, 1227, 1370].contains(&self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: u16, message: &str) -> ServerError {
        let payload = [&[0xff][..], &code.to_le_bytes(), b"#HY000", message.as_bytes()].concat();
        ServerError::parse(&payload, true)
    }

    #[test]
    fn values_of_rows_are_not_repeated() {
        let duplicate = error(1062, "Duplicate entry 'Dupont' for key 'PRIMARY'");
        assert_eq!(duplicate.cause(), "a row with the same key is there already (error 1062)");
        assert_eq!(error(1644, "Dupont").cause(), "error 1644 (HY000)", "a SIGNAL says whatever it likes");
        assert_eq!(
            error(1146, "Table 'a.b' doesn't exist").cause(),
            "Table 'a.b' doesn't exist (error 1146)"
        );
        assert!(PLAIN.is_sorted() && MEANINGS.iter().all(|(code, _)| !PLAIN.contains(code)));
    }
}
