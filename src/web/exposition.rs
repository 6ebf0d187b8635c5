//! Prometheus' text format, version 0.0.4.
//!
//! It is written here and not by a library of metrics: those keep counters that a program updates, while all that is
//! shown here follows from one published state, so there is nothing to keep between two scrapes, and nothing that
//! could stay behind when a database or a target leaves the configuration.

use std::fmt::Write;

/// What the format is called in HTTP.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Names and values, in order.
pub(super) type Labels = Vec<(&'static str, String)>;

/// One value.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) labels: Labels,
    pub(super) value: f64,
}

/// Metrics as text.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    text: String,
}

impl Exposition {
    /// Adds a gauge. Without a value nothing is written: what is not known is absent, never 0.
    pub(super) fn gauge(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = Sample>) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a String does not fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} gauge\n");
        for sample in samples {
            self.text.push_str(name);
            let labels: Vec<String> =
                sample.labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
            if !labels.is_empty() {
                let _ = write!(self.text, "{{{}}}", labels.join(","));
            }
            let _ = writeln!(self.text, " {}", sample.value);
        }
    }

    /// All that was added.
    pub(super) fn finish(self) -> String {
        self.text
    }
}

/// A label's value, as the format wants it in quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped_and_what_is_not_known_is_absent() {
        let mut exposition = Exposition::default();
        exposition.gauge("a_seconds", "Nothing.", Vec::new());
        let labels = vec![("key", "a\\b \"c\"\nd".to_owned()), ("kind", "é".to_owned())];
        let plain = Sample { labels: Vec::new(), value: 1_795_000_000.25 };
        exposition.gauge("b_bytes", "Two\nlines \\.", [Sample { labels, value: 3e12 }, plain]);
        assert_eq!(
            exposition.finish(),
            "# HELP b_bytes Two\\nlines \\\\.\n# TYPE b_bytes gauge\n\
             b_bytes{key=\"a\\\\b \\\"c\\\"\\nd\",kind=\"é\"} 3000000000000\nb_bytes 1795000000.25\n"
        );
    }
}
