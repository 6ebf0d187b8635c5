//! The page over all databases.

use super::{Words, counted, phrases};
use crate::job::drill::report::CheckResult;
use crate::model::locale::Language;
use crate::model::standing::Standing;

phrases! {
    all_databases = "Backups of all databases", "Sauvegardes de toutes les bases";
    databases_of(publisher) = "Backups of {publisher}", "Sauvegardes de {publisher}";
    all_well_in_capitals = "ALL WELL", "TOUT VA BIEN";
    all_well_detail = "every database is proven", "chaque base est prouvée";
    not_all_proven_in_capitals = "NOT ALL IS PROVEN", "TOUT N’EST PAS PROUVÉ";
    act_in_capitals = "ACT NOW", "AGIR MAINTENANT";
    so_many_at_risk(n, total) = "{n} of {total} at risk", "{n} sur {total} en danger";
    so_many_proven(n, total) = "{n} of {total} well and proven", "{n} sur {total} en ordre, preuve à l’appui";
    how_many_stand_how(databases, states) = "{databases}: {states}.", "{databases} : {states}.";
    proven_of_all(n, total) =
        "Databases with a snapshot that a drill has restored and found equal to its source: {n} of {total}.",
        "Bases dont un instantané a été restauré par un test et trouvé identique à l’original : {n} sur {total}.";
    oldest_proof(database, age) =
        "The oldest of these proven states is that of {database}: it is {age} old.",
        "Le plus ancien de ces états prouvés est celui de {database} : il date de {age}.";
    target_away(target, error) =
        "Target {target} cannot be reached: {error} What is said of it is what was known before.",
        "La cible {target} ne répond pas : {error} Ce qui en est dit est ce que l’on savait avant.";
    daemon_away =
        "The daemon is not running: nothing happens by itself.",
        "Le service marbre est arrêté : plus rien ne se fait automatiquement.";
    daemon_hangs =
        "The daemon hangs: nothing happens by itself.",
        "Le service marbre est bloqué : plus rien ne se fait automatiquement.";
    as_of(version, at) =
        "Written by marbre {version} at {at}.",
        "Rédigé par marbre {version} le {at}.";

    late = "late", "en retard";
    failing = "failing", "en défaut";
    unknown = "unknown", "état inconnu";
    warning = "warning", "à surveiller";
    no_snapshot_due = "new", "nouvelle";
    well = "well", "en ordre";

    at_a_glance = "At a glance", "Vue d’ensemble";
    glance_caption = "All databases, the worst first", "Toutes les bases, les pires d’abord";
    state = "State", "État";
    proven_state_of = "Proven state of", "État prouvé du";
    age = "Age", "Âge";
    last_drill = "Last drill", "Dernier test";
    nothing_proven = "nothing", "rien";
    no_drill = "none yet", "aucun";
    glance_explained =
        "“Proven” means: restored from a target in a drill, and found equal to its source.",
        "« Prouvé » veut dire : restauré depuis une cible lors d’un test, et trouvé identique à l’original.";

    newest_snapshot = "Newest snapshot", "Dernier instantané";
    none_yet = "none yet", "aucun pour l’instant";
    so_old(snapshot, age) = "{snapshot}, {age} old", "{snapshot}, il y a {age}";
    dated_ahead(snapshot, ahead) =
        "{snapshot}, dated {ahead} in the future",
        "{snapshot}, daté de {ahead} dans le futur";
    last_proven = "Last proven snapshot", "Dernier instantané prouvé";
    proof_is(snapshot, moment, age) =
        "{snapshot}: the state of {moment}, {age} old",
        "{snapshot} : l’état du {moment}, il y a {age}";
    proven_by = "Proven", "Preuve";
    proof_from(level, target, moment) =
        "{level} from target {target}, {moment}",
        "{level} depuis la cible {target}, le {moment}";
    recovery_time = "Recovery took", "Durée de restauration";
    with_promise(took, promise) = "{took} (promised: {promise} at most)", "{took} (promis : {promise} au plus)";
    longer_than_promised(took, promise) =
        "{took}: LONGER than the promised {promise}",
        "{took} : PLUS que les {promise} promis";
    drill_passed_at(at, target) = "passed, {at}, from target {target}", "réussi, le {at}, depuis la cible {target}";
    drill_failed_at(at, stage) = "FAILED, {at}, at the stage “{stage}”", "ÉCHEC, le {at}, à l’étape « {stage} »";
    failed_checks = "Failed checks", "Contrôles échoués";

    levels_caption = "What is proven at each target", "Ce qui est prouvé sur chaque cible";
    target = "Target", "Cible";
    newest_there = "Newest snapshot there", "Dernier instantané sur place";
    level_heading = "Level", "Niveau";
    proven_on = "Proven at", "Prouvé le";
    damaged = "DAMAGED", "ENDOMMAGÉ";
    missing = "nothing", "rien";
    not_reached = "NOT REACHED", "INJOIGNABLE";
    lacks(snapshots) = "lacks {snapshots} that other targets have", "il y manque {snapshots} présents ailleurs";
    same_place(target) = "the same place as {target}: one copy", "même lieu que {target} : une seule copie";

    not_proven = "Not proven, and why:", "Ce qui n’est pas prouvé, et pourquoi :";
    no_snapshot_yet = "Anything: there is no snapshot yet.", "Rien n’est prouvé : il n’y a pas encore d’instantané.";
    copy_damaged(target) =
        "The copy at target {target}: damage was found there.",
        "La copie sur la cible {target} : des dégâts y ont été constatés.";
    target_silent(target) =
        "What target {target} holds now: it cannot be reached.",
        "Ce que contient la cible {target} : elle ne répond pas.";
    target_empty(target) =
        "Anything at target {target}: it holds no snapshot.",
        "La cible {target} : elle ne contient aucun instantané.";
    never_restored_from(target) =
        "Target {target}: no snapshot was ever restored from there and found equal.",
        "La cible {target} : aucun instantané n’en a jamais été restauré et trouvé identique.";
    newest_not_restored(target, moment, age) =
        "The newest snapshot at target {target}: the last one that was restored from there is the state of {moment}, {age} old.",
        "Le dernier instantané sur la cible {target} : le dernier qui en a été restauré est l’état du {moment}, il y a {age}.";
    older_versions(target, objects) =
        "The copy at target {target} as it is now: {objects} there had to be restored from older versions.",
        "La copie sur la cible {target} telle qu’elle est : il a fallu y prendre des versions antérieures de {objects}.";
    proof_too_old(age, every) =
        "Anything newer: the last proof is {age} old, and {every} at most have been agreed.",
        "Rien de plus récent : la dernière preuve date de {age}, et {every} au plus ont été convenus.";
    agent_cannot =
        "Anything by the agent: it keeps no key (`drills.key = \"none\"`), so only the owner can drill.",
        "Rien par l’agent : il ne garde aucune clé (`drills.key = \"none\"`), donc seul le propriétaire peut faire un test.";
    owner_never_drilled =
        "That the owner's own key opens it: no drill by the owner is known.",
        "Que la clé du propriétaire l’ouvre : on ne connaît aucun test fait par le propriétaire.";
    drill_failed_since =
        "What the last drill was to prove: it failed.",
        "Ce que le dernier test devait prouver : il a échoué.";
    checks_not_run(names) =
        "What these checks ask, which the last drill did not run: {names}.",
        "Ce que demandent ces contrôles, que le dernier test n’a pas faits : {names}.";
    with_reason(name, reason) = "{name} ({reason})", "{name} ({reason})";
    reason_no_baseline = "no earlier value yet", "pas encore de valeur antérieure";
    reason_unavailable = "not possible there", "impossible sur place";
    reason_off = "switched off", "désactivé";
    everything_proven = "Everything that can be proven here is.", "Tout ce qui peut être prouvé ici l’est.";
    what_is_wrong = "What is wrong:", "Ce qui ne va pas :";
}

counted! {
    databases = "database" "databases", "base" "bases";
    snapshots = "snapshot" "snapshots", "instantané" "instantanés";
    objects = "object" "objects", "objet" "objets";
}

impl Words<'_> {
    /// How a database stands.
    pub(in crate::report) fn standing(self, standing: Standing) -> &'static str {
        match standing {
            Standing::Late => self.late(),
            Standing::Failing => self.failing(),
            Standing::Unknown => self.unknown(),
            Standing::Warning => self.warning(),
            Standing::New => self.no_snapshot_due(),
            Standing::Well => self.well(),
        }
    }

    /// Why a check was not run; nothing for one that was.
    pub(in crate::report) fn why_not_run(self, result: CheckResult) -> Option<&'static str> {
        match result {
            CheckResult::Passed | CheckResult::Failed => None,
            CheckResult::NoBaseline => Some(self.reason_no_baseline()),
            CheckResult::Unavailable => Some(self.reason_unavailable()),
            CheckResult::Off => Some(self.reason_off()),
        }
    }
}
