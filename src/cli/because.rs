//! Who decides, and why, as the command line says it.

use super::usage_error;
use crate::error::Result;
use crate::model::mark::Because;

/// What is recorded of these arguments. Without `--by`, it is the user who runs the command.
pub(super) fn because(by: Option<&str>, why: &str) -> Result<Because> {
    if why.trim().is_empty() {
        return Err(usage_error("--why is empty"));
    }
    Ok(Because { by: by.map_or_else(user, str::to_owned), reason: why.to_owned() })
}

/// Who runs the command: behind `sudo`, the person and not root.
fn user() -> String {
    let named = |variable| std::env::var(variable).ok().filter(|name: &String| !name.is_empty());
    ["SUDO_USER", "USER", "LOGNAME"]
        .into_iter()
        .find_map(named)
        .unwrap_or_else(|| format!("user {}", rustix::process::getuid().as_raw()))
}
