//! What is well again once something that was wrong is over.

use super::condition::{Condition, ConditionKind};

impl Condition {
    /// What is well again when this is over: a full sentence.
    pub fn well(&self) -> String {
        use ConditionKind as C;
        let object = self.object.as_deref().unwrap_or_default();
        match self.kind {
            C::SnapshotFailed => "Snapshots succeed again.".to_owned(),
            C::SnapshotLate => "The newest snapshot is young enough again.".to_owned(),
            C::SlotMissed => format!("The {object} runs on time again."),
            C::SlotOverlapped => format!("The {object} ends before its next slot again."),
            C::DrillFailed => "Drills pass again.".to_owned(),
            C::DrillOverdue => "There is a recent proof by a drill again.".to_owned(),
            C::DrillSlow => "Recovery is as fast as promised again.".to_owned(),
            C::SabotageUnnoticed => "Drills notice damage again.".to_owned(),
            C::SabotageFailed => "Drills with sabotage come to their end again.".to_owned(),
            C::VerifyFailed => "Verification finds everything intact again.".to_owned(),
            C::PruneFailed => "Prunes succeed again.".to_owned(),
            C::SyncFailed => "Syncs succeed again.".to_owned(),
            C::ChainBroken => "What could not be trusted is whole again, or was accepted.".to_owned(),
            C::TargetFailing => format!("Target {object} works again."),
            C::TargetBehind => format!("Target {object} holds every snapshot again."),
            C::TargetMutable => format!("Target {object} keeps what it guarantees again."),
            C::TargetDamaged => format!("Target {object} lists everything as it was stored again."),
            C::SamePlace => "The targets are different places again.".to_owned(),
            C::SizeOutOfBand => {
                "The size of the newest snapshot is no longer unusual, or was accepted.".to_owned()
            }
            C::ContentOdd => {
                "The content of the newest snapshot is no longer odd, or was accepted.".to_owned()
            }
            C::KeyProofOverdue => "The publisher has proven a working restore key.".to_owned(),
            C::UndeclaredDatabase => "The database is declared, ignored or gone.".to_owned(),
            C::DiskLow => "There is enough free space again.".to_owned(),
            C::ClockSkew => "The clock is right again.".to_owned(),
            C::ConfigRefused => "The daemon runs with the newest configuration again.".to_owned(),
            C::LookFailed => "It is known again how things stand.".to_owned(),
            C::ChannelFailing => format!("The alert channel {object} takes its messages again."),
            C::Expiring => "It was renewed.".to_owned(),
            C::ServerFailing => format!("The database server {object} takes connections again."),
            C::KeyFailing => format!("The agent's key {object} can be used again."),
        }
    }
}
