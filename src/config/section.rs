//! Reads TOML tables key by key. Every read reports its own problem and goes on, and a section knows
//! which of its keys were asked for, so that the rest can be refused.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::complaint::{Complaint, Report, SourceFile, nearest};

/// A file with its parsed content.
#[derive(Debug)]
pub(super) struct Document<'a> {
    pub(super) file: &'a SourceFile,
    pub(super) table: Spanned<DeTable<'a>>,
}

impl<'a> Document<'a> {
    /// Parses a file. Syntax errors go to the report; what could be read is not used then.
    pub(super) fn parse(file: &'a SourceFile, report: &Report) -> Option<Self> {
        let (table, errors) = DeTable::parse_recoverable(&file.text);
        // What follows the first syntax error of a file is mostly its echo.
        if let Some(first) = errors.first() {
            report.syntax(file, first);
            return None;
        }
        Some(Self { file, table })
    }
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node<'a> {
    report: &'a Report,
    file: &'a SourceFile,
    /// Where its key stands.
    offset: usize,
    /// Where it stands itself.
    span: Range<usize>,
    path: String,
    value: &'a DeValue<'a>,
}

impl<'a> Node<'a> {
    /// Reads the value in one form; what does not have it is reported.
    pub(super) fn read<T>(&self, form: impl Form<T>) -> Option<T> {
        form(self.value).map_err(|complaint| self.refuse(complaint)).ok()
    }

    /// Reports a problem with this value.
    pub(super) fn refuse(&self, complaint: Complaint) {
        self.report.problem(self.file, self.offset, &self.path, complaint);
    }

    /// Reports that this is none of the known keys.
    fn refuse_unknown(&self, key: &str, known: &[&str], what: &str) {
        let remedy = match nearest(key, known.iter().copied()) {
            Some(near) => format!("Did you mean `{near}`? Otherwise remove the key."),
            None => "Remove the key.".to_owned(),
        };
        let mut accepted: Vec<&str> = Vec::new();
        for key in known {
            if !accepted.contains(key) {
                accepted.push(key);
            }
        }
        self.refuse(Complaint::new(what).accepted(accepted.join(", ")).remedy(remedy));
    }

    /// The items of an array; reported if it is none, or if it is empty.
    pub(super) fn items(&self) -> Option<Vec<Node<'a>>> {
        let form = "a list of strings, such as [\"one\", \"two\"]";
        let Some(array) = self.value.as_array() else {
            self.refuse(wrong_type(self.value, form));
            return None;
        };
        if array.is_empty() {
            self.refuse(Complaint::new("is empty").accepted(format!("{form}, at least one")));
            return None;
        }
        let item = |(index, item): (usize, &'a Spanned<DeValue<'a>>)| Node {
            offset: item.span().start,
            span: item.span(),
            path: format!("{}[{index}]", self.path),
            value: item.get_ref(),
            ..self.clone()
        };
        Some(array.iter().enumerate().map(item).collect())
    }

    /// The value.
    pub(super) fn value(&self) -> &'a DeValue<'a> {
        self.value
    }

    /// The value, in the words of the file.
    pub(super) fn written(&self) -> String {
        self.file.text.get(self.span.clone()).unwrap_or_default().to_owned()
    }

    /// The file and line of its key.
    pub(super) fn place(&self) -> String {
        self.file.line(self.offset)
    }

    /// The values below it, if it is a table.
    pub(super) fn children(&self) -> Vec<(&'a str, Node<'a>)> {
        let table = self.value.as_table().into_iter().flatten();
        table.map(|(key, value)| (key.get_ref().as_ref(), self.child(key, value))).collect()
    }

    fn child(&self, key: &'a Spanned<std::borrow::Cow<'a, str>>, value: &'a Spanned<DeValue<'a>>) -> Self {
        let (span, path) = (value.span(), join(&self.path, key.get_ref()));
        Node { offset: key.span().start, span, path, value: value.get_ref(), ..self.clone() }
    }
}

/// A form that a value must have: turns it into its final type, or says what is wrong with it.
pub(super) trait Form<T>: Fn(&DeValue<'_>) -> Result<T, Complaint> {}
impl<T, F: Fn(&DeValue<'_>) -> Result<T, Complaint>> Form<T> for F {}

/// The complaint about a value of another type.
pub(super) fn wrong_type(value: &DeValue<'_>, accepted: &str) -> Complaint {
    let article = match value {
        DeValue::Integer(_) | DeValue::Array(_) => "an",
        _ => "a",
    };
    Complaint::new(format!("is {article} {}", value.type_str())).accepted(accepted)
}

/// A table whose keys are being read.
#[derive(Debug)]
pub(super) struct Section<'a> {
    report: &'a Report,
    file: &'a SourceFile,
    offset: usize,
    path: String,
    /// Sorted by key. One key can stand here more than once only at the top, where files are merged.
    entries: Vec<(&'a str, Node<'a>)>,
    /// What counts where the section does not say otherwise.
    inherited: Vec<(&'a str, Node<'a>)>,
    known: Vec<&'static str>,
    rejected: Vec<&'static str>,
    tolerant: bool,
}

impl<'a> Section<'a> {
    /// The top level of all files together.
    pub(super) fn merged(documents: &'a [Document<'a>], report: &'a Report) -> Option<Self> {
        let mut entries = Vec::new();
        for document in documents {
            for (key, value) in document.table.get_ref().iter() {
                let node = Node {
                    report,
                    file: document.file,
                    offset: key.span().start,
                    span: value.span(),
                    path: join("", key.get_ref()),
                    value: value.get_ref(),
                };
                entries.push((key.get_ref().as_ref(), node));
            }
        }
        Some(Self {
            report,
            file: documents.first()?.file,
            offset: 0,
            path: String::new(),
            entries,
            inherited: Vec::new(),
            known: Vec::new(),
            rejected: Vec::new(),
            tolerant: false,
        })
    }

    fn of(node: &Node<'a>) -> Option<Self> {
        if node.value.as_table().is_none() {
            node.refuse(wrong_type(node.value, &format!("a table, such as [{}]", node.path)));
            return None;
        }
        Some(Self {
            report: node.report,
            file: node.file,
            offset: node.offset,
            path: node.path.clone(),
            entries: node.children(),
            inherited: Vec::new(),
            known: Vec::new(),
            rejected: Vec::new(),
            tolerant: false,
        })
    }

    /// The value of a key, which is known from now on. Two files that both set it are reported.
    pub(super) fn node(&mut self, key: &'static str) -> Option<Node<'a>> {
        self.known.push(key);
        let mut found = self.entries.iter().filter(|(name, _)| *name == key);
        let Some((_, first)) = found.next() else { return self.find(key).cloned() };
        for (_, again) in found {
            again.refuse(defined_twice(first));
        }
        Some(first.clone())
    }

    /// The value of a key, of this section or else of the defaults.
    fn find(&self, key: &str) -> Option<&Node<'a>> {
        let mut all = self.entries.iter().chain(&self.inherited);
        all.find(|(name, _)| *name == key).map(|(_, node)| node)
    }

    /// The table below this one that has this name: what members of a family have where they do not say otherwise. `own` are the
    /// keys that belong to one member only.
    pub(super) fn defaults(&mut self, key: &'static str, own: &[&str]) -> Vec<(&'a str, Node<'a>)> {
        let Some(section) = self.node(key).and_then(|node| Section::of(&node)) else { return Vec::new() };
        let (own, defaults) = section.entries.into_iter().partition(|(name, _)| own.contains(name));
        let of_one: Vec<(&str, Node<'_>)> = own;
        for (name, node) in &of_one {
            let what = format!("is a default, although each {key} has a `{name}` of its own");
            node.refuse(Complaint::new(what).remedy(format!("Move it to a table [{key}.NAME].")));
        }
        defaults
    }

    /// A key that may be absent.
    pub(super) fn optional<T>(&mut self, key: &'static str, form: impl Form<T>) -> Option<T> {
        self.node(key)?.read(form)
    }

    /// A key that must be there.
    pub(super) fn required<T>(&mut self, key: &'static str, example: &str, form: impl Form<T>) -> Option<T> {
        match self.node(key) {
            Some(node) => node.read(form),
            None => {
                self.missing(key, example);
                None
            }
        }
    }

    /// A list that may be absent: its items in one form. What does not have it is reported.
    pub(super) fn list<T>(&mut self, key: &'static str, form: impl Form<T>) -> Vec<T> {
        let items = self.node(key).and_then(|node| node.items()).unwrap_or_default();
        items.iter().filter_map(|item| item.read(&form)).collect()
    }

    /// Reads the table below this one that has this name, if it is there. `read` gets its section, whose
    /// unread keys are refused afterwards.
    pub(super) fn table(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'a>)) {
        if let Some(mut section) = self.node(key).and_then(|node| Section::of(&node)) {
            read(&mut section);
            section.finish();
        }
    }

    /// Reports that a key is not there.
    pub(super) fn missing(&self, key: &str, example: &str) {
        self.refuse(key, Complaint::new("is missing").remedy(format!("Add `{example}` to [{}].", self.path)));
    }

    /// Reports a problem with a key of this section, whether it is there or not.
    pub(super) fn refuse(&self, key: &str, complaint: Complaint) {
        match self.find(key) {
            Some(node) => node.refuse(complaint),
            None => {
                let path = join(&self.path, key);
                self.report.problem(self.file, self.offset, &path, complaint);
            }
        }
    }

    /// What it says itself.
    pub(super) fn own_entries(&self) -> &[(&'a str, Node<'a>)] {
        &self.entries
    }

    /// What counts because it does not say otherwise.
    pub(super) fn inherited_entries(&self) -> impl Iterator<Item = &(&'a str, Node<'a>)> {
        self.inherited.iter().filter(|(key, _)| !self.has_itself(key) && self.known.contains(key))
    }

    /// Whether a key is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// Whether the section has a key itself, and not by default.
    fn has_itself(&self, key: &str) -> bool {
        self.entries.iter().any(|(name, _)| *name == key)
    }

    /// Reports a problem with this table itself.
    pub(super) fn refuse_self(&self, complaint: Complaint) {
        self.report.problem(self.file, self.offset, &self.path, complaint);
    }

    /// Refuses a key that people may expect here, with a better word than "unknown".
    pub(super) fn reject(&mut self, key: &'static str, complaint: impl FnOnce() -> Complaint) {
        if self.has_itself(key) {
            self.refuse(key, complaint());
            self.rejected.push(key);
        }
    }

    /// Reports every key after the first of these that is there. One of the section's own takes the place of all defaults.
    pub(super) fn only_one(&mut self, keys: &[&str]) {
        if keys.iter().any(|key| self.has_itself(key)) {
            self.inherited.retain(|(name, _)| !keys.contains(name));
        }
        let present: Vec<&str> = keys.iter().copied().filter(|key| self.has(key)).collect();
        for key in present.iter().skip(1) {
            let what = format!("is given beside `{}`", present[0]);
            self.refuse(key, Complaint::new(what).remedy("Keep one of the two."));
        }
    }

    /// Warns about a key of this section.
    pub(super) fn warn(&self, key: &str, text: &str) {
        match self.find(key) {
            Some(node) => self.report.warning(node.file, node.offset, &node.path, text),
            None => self.report.warning(self.file, self.offset, &join(&self.path, key), text),
        }
    }

    /// Stops [`Section::finish`] from refusing keys: used where what is known cannot be told.
    pub(super) fn tolerate(&mut self) {
        self.tolerant = true;
    }

    /// Where this section begins, for sorting.
    pub(super) fn order(&self) -> (usize, usize) {
        (self.file.order, self.offset)
    }

    /// Reads a family of named tables, `[family.name]`, over all files. `read` gets each name and its
    /// section, whose unread keys are refused afterwards.
    pub(super) fn family<T>(
        &mut self,
        family: &'static str,
        read: impl FnMut(&str, &mut Section<'a>) -> Option<T>,
    ) -> Family<T> {
        self.family_with(family, &[], read)
    }

    /// The same for a family whose members have these defaults. A key of a member takes the place of a default whole, also where
    /// it is a table. Defaults that no member asks for are refused.
    pub(super) fn family_with<T>(
        &mut self,
        family: &'static str,
        defaults: &[(&'a str, Node<'a>)],
        mut read: impl FnMut(&str, &mut Section<'a>) -> Option<T>,
    ) -> Family<T> {
        self.known.push(family);
        let mut members: Vec<(&str, Node<'a>)> = Vec::new();
        for (_, node) in self.entries.iter().filter(|(key, _)| *key == family) {
            let Some(group) = Section::of(node) else {
                continue;
            };
            for (name, member) in group.entries {
                match members.iter().find(|(known, _)| *known == name) {
                    Some((_, first)) => member.refuse(defined_twice(first)),
                    None => members.push((name, member)),
                }
            }
        }
        let names = members.iter().map(|(name, _)| (*name).to_owned()).collect();
        let (mut values, mut known, mut tolerant) = (Vec::new(), Vec::new(), members.is_empty());
        for (name, node) in &members {
            if let Some(mut section) = Section::of(node) {
                section.inherited = defaults.to_vec();
                values.extend(read(name, &mut section));
                known.extend(section.known.iter().copied());
                tolerant |= section.tolerant;
                section.finish();
            }
        }
        for (key, node) in defaults.iter().filter(|(key, _)| !tolerant && !known.contains(key)) {
            node.refuse_unknown(key, &known, &format!("is a key that no {family} here has"));
        }
        Family { names, values }
    }

    /// Refuses every key that was not asked for.
    pub(super) fn finish(self) {
        if self.tolerant {
            return;
        }
        for (key, node) in &self.entries {
            if self.known.contains(key) || self.rejected.contains(key) {
                continue;
            }
            node.refuse_unknown(key, &self.known, "is not a known key");
        }
    }
}

/// The members of a family of tables.
#[derive(Debug)]
pub(super) struct Family<T> {
    /// All names, also of members that have problems: they can be referred to without a second report.
    pub(super) names: Vec<String>,
    /// The members that could be read.
    pub(super) values: Vec<T>,
}

impl<T> Family<T> {
    /// A complaint unless a member has this name. `kind` is the family's name.
    pub(super) fn must_have(&self, kind: &str, name: &str) -> Result<(), Complaint> {
        if self.names.iter().any(|known| known == name) {
            return Ok(());
        }
        let complaint = Complaint::new(format!("there is no {kind} {name:?}"));
        if self.names.is_empty() {
            return Err(complaint.remedy(format!("Define it in a table [{kind}.{name}].")));
        }
        let remedy = match nearest(name, self.names.iter().map(String::as_str)) {
            Some(near) => format!("Did you mean {near:?}? Otherwise define [{kind}.{name}]."),
            None => format!("Name one of these, or define [{kind}.{name}]."),
        };
        Err(complaint.accepted(self.names.join(", ")).remedy(remedy))
    }
}

fn defined_twice(first: &Node<'_>) -> Complaint {
    Complaint::new(format!("is defined twice, first in {}", first.file.line(first.offset)))
        .remedy("Keep one of the two.")
}

/// `path.key`, with quotes where TOML needs them.
fn join(path: &str, key: &str) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let key = if !key.is_empty() && key.bytes().all(bare) { key.to_owned() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}
