//! What several parts of a drill's report say.

use super::{Words, counted, phrases};
use crate::job::drill::report::DrillReport;
use crate::job::drill::verdict::Verdict;
use crate::model::drill_stage::DrillStage;
use crate::model::isolation::Isolation;
use crate::model::level::{By, Level};
use crate::model::locale::Language;
use crate::model::sabotage::Sabotage;

phrases! {
    drill_of(database) = "Drill of {database}", "Test de restauration de {database}";
    written_by(version, drill) =
        "Written by marbre {version} at the end of drill {drill}.",
        "Rédigé par marbre {version} à la fin du test {drill}.";
    times_of(zone) = "All times are in the time zone {zone}.", "Les heures sont celles du fuseau {zone}.";
    quoted =
        "",
        "Les messages des logiciels, les noms et les réponses des contrôles sont cités tels quels.";
    while_doing(what) = "while {what}", "à l’étape « {what} »";

    doing_start = "beginning", "préparation";
    doing_receipts =
        "reading the signed receipts and choosing the snapshot",
        "lecture des reçus signés et choix de l’instantané";
    doing_fetch =
        "fetching every object of the snapshot from the target, and checking its hash",
        "récupération de chaque objet de l’instantané depuis la cible, avec contrôle de son empreinte";
    doing_open = "decrypting the snapshot's list of contents", "déchiffrement de la liste du contenu de l’instantané";
    doing_server = "starting the throwaway database", "démarrage de la base temporaire";
    doing_load = "decrypting the data and loading it", "déchiffrement et chargement des données";
    doing_index = "building the indexes", "construction des index";
    doing_compare =
        "comparing what was restored with what was saved",
        "comparaison de ce qui a été restauré avec ce qui avait été sauvegardé";
    doing_checks = "running the checks", "exécution des contrôles";
    doing_remove = "removing the restored copy", "suppression de la copie restaurée";
    doing_verdict = "judging what was found", "verdict";

    byte_damaged =
        "one bit was changed on its way from the target",
        "un bit a été modifié en chemin depuis la cible";
    row_damaged = "one row of the restored database was changed", "une ligne de la base restaurée a été modifiée";
    table_dropped = "one table of the restored database was dropped", "une table de la base restaurée a été supprimée";
    index_dropped = "one index of the restored database was dropped", "un index de la base restaurée a été supprimé";
    sequence_set_back =
        "one sequence of the restored database was set back",
        "une séquence de la base restaurée a été ramenée en arrière";
    newest_hidden =
        "the newest snapshot was hidden, as if the target showed an old state",
        "l’instantané le plus récent a été caché, comme si la cible montrait un état ancien";

    by_the_agent = "by the agent", "par l’agent";
    by_the_owner = "by the owner of the data", "par le propriétaire des données";

    in_a_sandbox = "ran in a sandbox", "exécuté dans un bac à sable";
    on_a_server = "ran on a server of the operator's", "exécuté sur un serveur de l’exploitant";
    without_a_sandbox = "ran without a sandbox", "exécuté SANS bac à sable";

    stored = "stored", "stocké";
    intact = "intact", "intact";
    restored = "restored", "restauré";
    owner_restored = "owner-restored", "restauré par le propriétaire";

    passed_in_capitals = "PASSED", "RÉUSSI";
    failed_in_capitals = "FAILED", "ÉCHEC";
    noticed_in_capitals = "SABOTAGE NOTICED", "SABOTAGE DÉTECTÉ";
    not_noticed_in_capitals = "SABOTAGE NOT NOTICED", "SABOTAGE NON DÉTECTÉ";

    equal = "equal", "identique";
    different = "DIFFERENT", "DIFFÉRENT";
    result = "Result", "Résultat";
    chart = "Chart", "Graphique";
    drill = "Drill", "Test";
    snapshot = "Snapshot", "Instantané";
    table = "Table", "Table";
    and_more(n) = "and {n} more", "et {n} de plus";
    not_measured = "not measured", "non mesurée";
}

counted! {
    tables = "table" "tables", "table" "tables";
    rows = "row" "rows", "ligne" "lignes";
    others = "other" "others", "autre" "autres";
}

impl Words<'_> {
    /// How a drill ended.
    pub(in crate::report) fn verdict(self, verdict: Verdict) -> &'static str {
        match verdict {
            Verdict::Passed(_) => self.passed_in_capitals(),
            Verdict::Failed | Verdict::Untested => self.failed_in_capitals(),
            Verdict::Noticed => self.noticed_in_capitals(),
            Verdict::NotNoticed => self.not_noticed_in_capitals(),
        }
    }

    /// A level of proof.
    pub(in crate::report) fn level(self, level: Level) -> &'static str {
        match level {
            Level::Stored => self.stored(),
            Level::Intact => self.intact(),
            Level::Restored => self.restored(),
            Level::OwnerRestored => self.owner_restored(),
        }
    }

    /// By whom drills are made.
    pub(in crate::report) fn made_by(self, by: By) -> &'static str {
        match by {
            By::Agent => self.by_the_agent(),
            By::Owner => self.by_the_owner(),
        }
    }

    /// What kept the code of a database apart.
    pub(in crate::report) fn isolation(self, isolation: Isolation) -> &'static str {
        match isolation {
            Isolation::Sandbox => self.in_a_sandbox(),
            Isolation::Server => self.on_a_server(),
            Isolation::None => self.without_a_sandbox(),
        }
    }

    /// What a sabotage does.
    pub(in crate::report) fn damage(self, sabotage: Sabotage) -> &'static str {
        match sabotage {
            Sabotage::Byte => self.byte_damaged(),
            Sabotage::Row => self.row_damaged(),
            Sabotage::MissingTable => self.table_dropped(),
            Sabotage::Index => self.index_dropped(),
            Sabotage::Sequence => self.sequence_set_back(),
            Sabotage::Stale => self.newest_hidden(),
        }
    }

    /// What is done at a stage.
    pub(in crate::report) fn doing(self, stage: DrillStage) -> &'static str {
        match stage {
            DrillStage::Start => self.doing_start(),
            DrillStage::Receipts => self.doing_receipts(),
            DrillStage::Fetch => self.doing_fetch(),
            DrillStage::Open => self.doing_open(),
            DrillStage::Server => self.doing_server(),
            DrillStage::Load => self.doing_load(),
            DrillStage::Index => self.doing_index(),
            DrillStage::Compare => self.doing_compare(),
            DrillStage::Checks => self.doing_checks(),
            DrillStage::Remove => self.doing_remove(),
            DrillStage::Verdict => self.doing_verdict(),
        }
    }

    /// At which stage a drill ended.
    pub(in crate::report) fn at_stage(self, report: &DrillReport) -> String {
        self.while_doing(self.doing(report.failed_stage.unwrap_or(DrillStage::Verdict)))
    }
}
