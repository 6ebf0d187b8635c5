//! Tables whose name is an identifier.

use super::forms;
use crate::config::section::Section;

/// The name of a table as an identifier.
pub(super) fn table_name<T>(name: &str, section: &Section<'_>) -> Option<T>
where
    T: std::str::FromStr<Err = crate::model::id::InvalidId>,
{
    name.parse().map_err(|e| section.refuse_self(forms::invalid_id(&e))).ok()
}
