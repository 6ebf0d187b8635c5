//! Lists that stand in a file of their own: one thing per line.

use std::path::Path;

use crate::config::complaint::Complaint;

/// Such a list is short; keeps a wrong path from being read whole.
const MAX_FILE: u64 = 1024 * 1024;

/// Reads a file with one `thing` per line, of which `check` makes its final form. Lines that begin with `#` and
/// empty lines do not count. A list of nothing is refused.
pub(super) fn read(
    path: &Path,
    thing: &str,
    accepted: &str,
    mut check: impl FnMut(&str) -> Result<String, Complaint>,
) -> Result<Vec<String>, Complaint> {
    let place = path.display();
    let unreadable = |why: String| {
        Complaint::new(format!("failed to read {place}: {why}"))
            .remedy(format!("Name a text file with one {thing} per line."))
    };
    let metadata = std::fs::metadata(path).map_err(|e| unreadable(e.to_string()))?;
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Err(unreadable(format!("not a list of {thing}s")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| unreadable(e.to_string()))?;
    let mut list = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        list.push(check(line).map_err(|complaint| complaint.inside(&format!("{place}:{}", index + 1)))?);
    }
    if list.is_empty() {
        return Err(Complaint::new(format!("{place} holds no {thing}")).accepted(accepted));
    }
    Ok(list)
}
