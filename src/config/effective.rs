//! What counts for each database and each target, and where it is said.

use std::collections::BTreeMap;

use serde::Serialize;
use toml::de::DeValue;

use super::section::{Node, Section};

/// Tables that have defaults, by family and name: `database`, `abonnes`.
pub(crate) type Effective = BTreeMap<&'static str, BTreeMap<String, BTreeMap<String, Setting>>>;

/// One value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Setting {
    /// As it is written in the file.
    pub value: String,
    /// The file and line where its key stands.
    pub at: String,
    /// It counts because `[defaults]` says so.
    pub by_default: bool,
}

/// The values of one section, by their keys: `retention.keep_daily`.
pub(super) fn of(section: &Section<'_>) -> BTreeMap<String, Setting> {
    let mut settings = BTreeMap::new();
    for (key, node) in section.own_entries() {
        add(key, node, false, &mut settings);
    }
    for (key, node) in section.inherited_entries() {
        add(key, node, true, &mut settings);
    }
    settings
}

fn add(key: &str, node: &Node<'_>, by_default: bool, settings: &mut BTreeMap<String, Setting>) {
    if let DeValue::Table(_) = node.value() {
        for (name, child) in node.children() {
            add(&format!("{key}.{name}"), &child, by_default, settings);
        }
        return;
    }
    settings.insert(key.to_owned(), Setting { value: node.written(), at: node.place(), by_default });
}
