//! What the objects of a database are, by where they lie (see [`layout`](super::layout)).

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// The receipt of a snapshot.
    Receipt,
    /// The encrypted description of a snapshot.
    Manifest,
    /// Encrypted data.
    Pack,
    /// The sealed key of an epoch.
    EpochKey,
    /// The record of a succession, or its signature.
    Succession,
    /// The record of a decision, or its signature.
    Decision,
    /// Another record, a signature, or something that this format does not have.
    Other,
}

impl Part {
    /// What lies under this key, which is relative to the database.
    pub(crate) fn of(relative: &str) -> Self {
        let mut parts = relative.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("receipts"), Some(name), None, ..) if name.ends_with(".json") => Self::Receipt,
            (Some("agents"), Some(_), ..) => Self::Succession,
            (Some("decisions"), Some(_), ..) => Self::Decision,
            (Some("epochs"), Some(_), Some("epoch.age"), None, _) => Self::EpochKey,
            (Some("epochs"), Some(_), Some("packs"), Some(name), None) if name.ends_with(".zst.age") => {
                Self::Pack
            }
            (Some("epochs"), Some(_), Some("manifests"), Some(name), None)
                if name.ends_with(".json.zst.age") =>
            {
                Self::Manifest
            }
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_object_is_what_its_place_says() {
        for (key, part) in [
            ("receipts/x.json", Part::Receipt),
            ("receipts/x.json.sig", Part::Other),
            ("receipts/a/x.json", Part::Other),
            ("epochs/e/epoch.age", Part::EpochKey),
            ("epochs/e/packs/00.zst.age", Part::Pack),
            ("epochs/e/packs/00.zst.age/x", Part::Other),
            ("epochs/e/packs/00", Part::Other),
            ("epochs/e/manifests/s.json.zst.age", Part::Manifest),
            ("epochs/epoch.age", Part::Other),
            ("agents/1-00000000.json", Part::Succession),
            ("decisions/d.json.sig", Part::Decision),
            ("claims/0/1.json", Part::Other),
            ("", Part::Other),
        ] {
            assert_eq!(Part::of(key), part, "{key}");
        }
    }
}
