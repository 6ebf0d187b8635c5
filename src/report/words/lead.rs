//! The sentences at the head of a drill's report.

use super::{Words, counted, phrases};
use crate::model::locale::Language;

phrases! {
    restored_completely(from, tables, rows) =
        "The snapshot was restored completely from {from}: {tables} with {rows}, all of them equal to what was saved.",
        "L’instantané a été entièrement restauré depuis {from} : {tables} et {rows}, identiques à ce qui avait été sauvegardé.";
    restored_completely_of(at, from, tables, rows) =
        "The snapshot of {at} was restored completely from {from}: {tables} with {rows}, all of them equal to what was saved.",
        "L’instantané du {at} a été entièrement restauré depuis {from} : {tables} et {rows}, identiques à ce qui avait été sauvegardé.";
    the_target(name) = "the target {name}", "la cible {name}";
    a_target = "the target", "la cible";

    recovery_too_long(took, promised) =
        "The recovery took {took}: longer than the promised {promised}.",
        "La restauration a duré {took} : plus que les {promised} promis.";
    recovery_in_time(took, promised) =
        "The recovery took {took}, within the promised {promised}.",
        "La restauration a duré {took}, dans la limite promise de {promised}.";
    recovery_without_limit(took) =
        "The recovery took {took}. No limit has been agreed.",
        "La restauration a duré {took}. Aucune limite n’a été convenue.";

    opened_by_agent =
        "It was opened with the key that the agent still holds. Only drills by the owner show whether the owner's own key \
         opens it.",
        "L’instantané a été ouvert avec la clé que l’agent détient encore. Seul un test fait par le propriétaire montre que la clé du \
         propriétaire l’ouvre.";
    opened_by_owner =
        "It was opened with the owner's own key, as it would be if the provider and its agent were gone.",
        "L’instantané a été ouvert avec la clé du propriétaire, comme il le serait si le prestataire et son agent avaient disparu.";

    damaged_on_purpose_by_agent(what) =
        "The drill by the agent damaged its own copy on purpose: {what}.",
        "Le test de l’agent a endommagé volontairement sa propre copie : {what}.";
    damaged_on_purpose_by_owner(what) =
        "The drill by the owner of the data damaged its own copy on purpose: {what}.",
        "Le test du propriétaire des données a endommagé volontairement sa propre copie : {what}.";
    failed_where_it_had_to(damaged, at_stage) =
        "{damaged} It failed where it had to, {at_stage}.",
        "{damaged} Il a échoué là où il le devait, {at_stage}.";
    test_of_the_drill =
        "This was a test of the drill, not of the backup: it shows that drills here can fail. It never counts as proof that \
         a snapshot can be restored. Only the drill's own copy was damaged.",
        "C’était une mise à l’épreuve du test, non de la sauvegarde : elle montre que les tests peuvent échouer ici. Elle ne \
         prouve jamais qu’un instantané peut être restauré. Seule la copie du test a été endommagée.";
    did_not_notice(damaged) =
        "{damaged} It did not notice this where it had to.",
        "{damaged} Il ne s’en est pas aperçu là où il le devait.";
    drills_prove_nothing =
        "Drills on this machine prove nothing until this is fixed, and those that passed here are in doubt. This drill \
         itself never counts as proof. Only its own copy was damaged.",
        "Les tests faits sur cette machine ne prouvent rien tant que ce défaut n’est pas corrigé, et ceux qui y ont réussi \
         sont douteux. Ce test lui-même ne compte jamais comme preuve. Seule sa propre copie a été endommagée.";
    failed_for_another_reason(at_stage) =
        "The drill was meant to damage its own copy, and to notice that. It failed for another reason, {at_stage}, so nobody \
         knows whether it would have noticed the damage.",
        "Le test devait endommager sa propre copie et s’en apercevoir. Il a échoué pour une autre raison, {at_stage} : nul ne \
         sait s’il se serait aperçu des dégâts.";
    sabotage_is_no_proof =
        "A drill with sabotage never counts as proof, however it ends.",
        "Un test avec sabotage ne compte jamais comme preuve, quelle que soit son issue.";

    drill_failed(at_stage, why) = "The drill failed {at_stage}: {why}", "Le test a échoué {at_stage} : {why}";
    what_to_do_is(remedy) = "What to do: {remedy}", "Que faire : {remedy}";
    failed_check_is_no_proof =
        "A drill with a failed check does not count as a proof.",
        "Un test dont un contrôle a échoué ne compte pas comme preuve.";
    equal_but_no_proof =
        "Every table came back as it was saved, but this drill does not count as a proof.",
        "Chaque table est revenue telle qu’elle avait été sauvegardée, mais ce test ne compte pas comme preuve.";
    proves_nothing =
        "This drill proves nothing about the snapshot.",
        "Ce test ne prouve rien au sujet de l’instantané.";
    check_failed(names, tables) =
        "The check {names} failed. The snapshot was restored completely, {tables} as they were saved.",
        "Le contrôle {names} a échoué. L’instantané a été entièrement restauré : {tables}, comme lors de la sauvegarde.";
    checks_failed(names, tables) =
        "The checks {names} failed. The snapshot was restored completely, {tables} as they were saved.",
        "Les contrôles {names} ont échoué. L’instantané a été entièrement restauré : {tables}, comme lors de la sauvegarde.";
    and_others(names, others) = "{names} and {others}", "{names} et {others}";

    both(a, b) = "{a}; {b}.", "{a} ; {b}.";
    there_is(what) = "There is {what}.", "Il y a {what}.";
    there_are(what) = "There are {what}.", "Il y a {what}.";
    copy_was_kept =
        "The restored copy was left for people to look at. It is readable, and must be removed by hand: see “Kept copy”.",
        "La copie restaurée a été laissée pour examen. Elle est lisible et doit être supprimée à la main : voir « Copie \
         conservée ».";
}

counted! {
    passed_checks =
        "check of the restored data passed" "checks of the restored data passed",
        "contrôle des données restaurées a réussi" "contrôles des données restaurées ont réussi";
    skipped_checks =
        "check was not run" "checks were not run",
        "contrôle n’a pas été fait" "contrôles n’ont pas été faits";
    warnings_below =
        "warning: see the end" "warnings: see the end",
        "avertissement : voir à la fin" "avertissements : voir à la fin";
}
