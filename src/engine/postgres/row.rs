//! What a query returns.

use std::error::Error;

use tokio_postgres::row::RowIndex;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::model::raw_text;

/// One row. Its text is in UTF-8, or in bytes of an encoding that nobody knows.
#[derive(Debug)]
pub(crate) struct Row {
    row: tokio_postgres::Row,
    raw: bool,
}

impl Row {
    /// As it came. `raw`: its text is in bytes.
    pub(super) fn new(row: tokio_postgres::Row, raw: bool) -> Self {
        Self { row, raw }
    }

    /// The value of a column, which has this type by the query's own making.
    pub(super) fn get<I: RowIndex + std::fmt::Display, T: Value>(&self, column: I) -> T {
        T::of(self.row.get(column), self.raw)
    }
}

/// What a column can hold.
pub(crate) trait Value: Sized {
    /// How it comes from the server.
    type Sent<'a>: FromSql<'a>;

    /// What it is.
    fn of(sent: Self::Sent<'_>, raw: bool) -> Self;
}

macro_rules! plain {
    ($($plain:ty),*) => { $(
        impl Value for $plain {
            type Sent<'a> = $plain;

            fn of(sent: Self, _raw: bool) -> Self {
                sent
            }
        }
    )* };
}

plain!(bool, i8, i16, i32, i64, u32, f32, f64);

impl Value for String {
    type Sent<'a> = Text<'a>;

    fn of(sent: Text<'_>, raw: bool) -> Self {
        match std::str::from_utf8(sent.0) {
            Ok(text) if !raw => text.to_owned(),
            _ => raw_text::decode(sent.0),
        }
    }
}

impl<T: Value> Value for Option<T> {
    type Sent<'a> = Option<T::Sent<'a>>;

    fn of(sent: Self::Sent<'_>, raw: bool) -> Self {
        sent.map(|sent| T::of(sent, raw))
    }
}

impl<T: Value> Value for Vec<T> {
    type Sent<'a> = Vec<T::Sent<'a>>;

    fn of(sent: Self::Sent<'_>, raw: bool) -> Self {
        sent.into_iter().map(|sent| T::of(sent, raw)).collect()
    }
}

/// Text as bytes.
pub(crate) struct Text<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Text<'a> {
    fn from_sql(_type: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(of: &Type) -> bool {
        <&str as FromSql>::accepts(of)
    }
}

/// A parameter for a session whose text is in bytes. Lists of text are not among them.
#[derive(Debug)]
pub(crate) struct RawParameter<'a>(pub &'a (dyn ToSql + Sync));

impl ToSql for RawParameter<'_> {
    fn to_sql(&self, of: &Type, out: &mut bytes::BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let from = out.len();
        let null = self.0.to_sql_checked(of, out)?;
        if <&str as FromSql>::accepts(of) {
            let text = out.split_off(from);
            out.extend_from_slice(&raw_text::encode_bytes(&text));
        }
        Ok(null)
    }

    fn accepts(_type: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
