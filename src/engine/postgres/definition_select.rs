//! How definitions of one type are asked for.

/// Separates the parts of a definition with a character that no text in a catalogue contains.
pub(super) const PARTS: &str = "concat_ws(E'\\x1f', ";

/// One type of definition: SQL for the name and the text, and where they come from.
pub(super) struct Select {
    /// The type.
    pub kind: &'static str,
    /// The name.
    pub name: String,
    /// The text.
    pub text: String,
    /// Where both come from.
    pub from: String,
}

/// One type of definition.
pub(super) fn select(kind: &'static str, name: &str, text: &str, from: String) -> Select {
    Select { kind, name: name.to_owned(), text: text.to_owned(), from }
}
