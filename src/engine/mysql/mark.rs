//! The mark of a restore that did not end.

/// A table that is there until a restore is complete: a database has no comment of its own in MySQL. The comment of the table names the snapshot.
pub(super) const MARK: &str = "marbre_incomplete_restore";
