//! The digest of rows, as an aggregate function of SQLite, which avoids passing every row through Rust column by column.

use rusqlite::functions::{Aggregate, Context, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use crate::model::row_hash::{DigestSum, RowHash, row_hash};

/// The function's name. Only statements of this code can call it, no view and no trigger of a database.
pub(super) const FUNCTION: &str = "marbre_digest";

/// The most arguments that SQLite passes to a function; tables may have more columns.
/// Source: `SQLITE_MAX_FUNCTION_ARG` of the bundled library.
pub(super) const MOST_ARGUMENTS: usize = 1000;

/// A row is hashed as a whole up to this size, and value by value beyond it.
const ROW_BUFFER: usize = 1 << 20;

/// What the form of a text begins with.
pub(super) const TAG_TEXT: u8 = b't';
/// What the form of a blob begins with.
pub(super) const TAG_BLOB: u8 = b'b';

/// Registers the function with a connection. Its result is 24 bytes, see [`total`].
pub(super) fn register(connection: &Connection, row_key: [u8; 32]) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DIRECTONLY;
    connection.create_aggregate_function(FUNCTION, -1, flags, Digest { row_key })
}

/// Number of rows and sum of hashes from the function's result.
pub(super) fn total(answer: &[u8]) -> rusqlite::Result<(u64, u128)> {
    let parts = answer.split_first_chunk().and_then(|(rows, sum)| Some((*rows, sum.try_into().ok()?)));
    let (rows, sum) = parts.ok_or(rusqlite::Error::InvalidQuery)?;
    Ok((u64::from_le_bytes(rows), u128::from_le_bytes(sum)))
}

struct Digest {
    row_key: [u8; 32],
}

impl Aggregate<Hasher, Vec<u8>> for Digest {
    fn init(&self, _: &mut Context<'_>) -> rusqlite::Result<Hasher> {
        Ok(Hasher::new(self.row_key))
    }

    fn step(&self, row: &mut Context<'_>, hasher: &mut Hasher) -> rusqlite::Result<()> {
        for column in 0..row.len() {
            hasher.value(column, row.get_raw(column));
        }
        hasher.end_row();
        Ok(())
    }

    fn finalize(&self, _: &mut Context<'_>, hasher: Option<Hasher>) -> rusqlite::Result<Vec<u8>> {
        let (rows, sum) = hasher.map_or((0, 0), |hasher| hasher.total());
        Ok([rows.to_le_bytes().as_slice(), &sum.to_le_bytes()].concat())
    }
}

/// Hashes rows, value by value.
pub(super) struct Hasher {
    row_key: [u8; 32],
    /// What is not hashed yet of the row.
    row: Vec<u8>,
    /// The hash of what went before, if the row did not fit into the buffer.
    hash: RowHash,
    begun: bool,
    sum: DigestSum,
}

impl Hasher {
    /// Starts with no rows.
    pub(super) fn new(row_key: [u8; 32]) -> Self {
        let (row, hash) = (Vec::new(), RowHash::new(&row_key));
        Self { row_key, row, hash, begun: false, sum: DigestSum::default() }
    }

    /// Takes the whole row of a statement.
    pub(super) fn row(&mut self, row: &Row<'_>, columns: usize) -> rusqlite::Result<()> {
        for column in 0..columns {
            self.value(column, row.get_ref(column)?);
        }
        self.end_row();
        Ok(())
    }

    /// Number of rows, and the sum of their hashes.
    pub(super) fn total(&self) -> (u64, u128) {
        (self.sum.rows(), self.sum.digest().0)
    }

    /// Takes the value of a column; to be called for one after the other.
    pub(super) fn value(&mut self, column: usize, value: ValueRef<'_>) {
        match value {
            ValueRef::Text(bytes) if bytes.len() > ROW_BUFFER => self.long(column, TAG_TEXT, bytes),
            ValueRef::Blob(bytes) if bytes.len() > ROW_BUFFER => self.long(column, TAG_BLOB, bytes),
            value => {
                self.separate(column);
                encode(value, &mut self.row);
                self.flush_above(ROW_BUFFER);
            }
        }
    }

    fn long(&mut self, column: usize, tag: u8, bytes: &[u8]) {
        self.begin_sized(column, tag, bytes.len() as u64);
        self.bytes(bytes);
    }

    /// Begins a value of so many bytes, which follow by [`Hasher::bytes`].
    pub(super) fn begin_sized(&mut self, column: usize, tag: u8, length: u64) {
        self.separate(column);
        begin_sized(tag, length, &mut self.row);
        self.flush_above(0);
    }

    /// The next bytes of a value.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
    }

    fn separate(&mut self, column: usize) {
        if column > 0 {
            self.row.push(b',');
        }
    }

    fn flush_above(&mut self, limit: usize) {
        if self.row.len() > limit {
            self.hash.update(&self.row);
            self.row.clear();
            self.begun = true;
        }
    }

    /// The row is complete.
    pub(super) fn end_row(&mut self) {
        if self.begun {
            self.flush_above(0);
            self.sum.add(self.hash.finish());
            self.begun = false;
        } else {
            self.sum.add(row_hash(&self.row_key, &self.row));
        }
        self.row.clear();
    }
}

/// Appends the one form in which a value is hashed (see `docs/FORMAT.md`, "SQLite").
pub(super) fn encode(value: ValueRef<'_>, out: &mut Vec<u8>) {
    match value {
        ValueRef::Null => out.push(b'n'),
        ValueRef::Integer(number) => {
            out.push(b'i');
            if number < 0 {
                out.push(b'-');
            }
            out.extend_from_slice(Decimal::of(number.unsigned_abs()).digits());
        }
        ValueRef::Real(number) => {
            let mut form = [b'r'; 17];
            for (nibble, digit) in form[1..].iter_mut().enumerate() {
                let bits = number.to_bits() >> (60 - 4 * nibble) & 0xf;
                *digit = b"0123456789abcdef"[bits as usize];
            }
            out.extend_from_slice(&form);
        }
        ValueRef::Text(text) => sized(TAG_TEXT, text, out),
        ValueRef::Blob(blob) => sized(TAG_BLOB, blob, out),
    }
}

fn sized(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    begin_sized(tag, bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn begin_sized(tag: u8, length: u64, out: &mut Vec<u8>) {
    out.push(tag);
    out.extend_from_slice(Decimal::of(length).digits());
    out.push(b':');
}

/// A number in decimal, without an allocation: this is done for almost every value of a database.
struct Decimal {
    digits: [u8; 20],
    start: usize,
}

impl Decimal {
    fn of(mut number: u64) -> Self {
        let mut decimal = Self { digits: [b'0'; 20], start: 20 };
        loop {
            decimal.start -= 1;
            decimal.digits[decimal.start] += (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return decimal;
            }
        }
    }

    fn digits(&self) -> &[u8] {
        &self.digits[self.start..]
    }
}
