//! What an auditor looks at.

use super::{Words, counted, phrases};
use crate::model::locale::Language;

phrases! {
    checks = "Checks of the restored data", "Contrôles des données restaurées";
    no_check =
        "No check was run: the drill ended before that.",
        "Aucun contrôle n’a été fait : le test s’est arrêté avant.";
    checks_summary(passed, failed, skipped) =
        "{passed} passed, {failed} failed, {skipped} not run.",
        "Réussis : {passed} ; échoués : {failed} ; non faits : {skipped}.";
    not_run_says_nothing = "A check that was not run says nothing.", "Un contrôle qui n’a pas été fait ne dit rien.";
    check = "Check", "Contrôle";
    answer = "Answer", "Réponse";
    remark = "Remark", "Remarque";
    check_passed = "passed", "réussi";
    check_failed_word = "FAILED", "ÉCHEC";
    no_baseline = "not run: no earlier value yet", "non fait : pas encore de valeur antérieure";
    unavailable = "not run: not possible here", "non fait : impossible ici";
    switched_off = "not run: switched off", "non fait : désactivé";
    further(what) = "And {what}.", "Et {what}.";

    asks_completeness =
        "does the snapshot hold everything that the database has?",
        "l’instantané contient-il tout ce que contient la base ?";
    asks_empty_tables =
        "did a table lose all its rows since the last proven snapshot?",
        "une table a-t-elle perdu toutes ses lignes depuis le dernier instantané prouvé ?";
    asks_row_count =
        "are there about as many rows as in the last proven snapshot?",
        "y a-t-il à peu près autant de lignes que dans le dernier instantané prouvé ?";
    asks_foreign_keys = "does every reference lead to a row?", "chaque référence mène-t-elle à une ligne ?";
    asks_integrity =
        "does the engine find its own pages sound?",
        "le moteur trouve-t-il ses propres pages saines ?";
    asks_amcheck =
        "does the engine find its own indexes sound?",
        "le moteur trouve-t-il ses propres index sains ?";

    objects_by_type = "Objects by type", "Objets par type";
    objects_caption = "Objects of the database by type", "Objets de la base par type";
    object_type = "Type", "Type";
    expected = "Expected", "Attendus";
    found = "Found", "Trouvés";

    stages = "Stages", "Étapes";
    failed_here(what) = "{what} (it failed here)", "{what} (échec ici)";
    stages_caption = "Stages of the drill and how long they took", "Étapes du test et leur durée";
    what_is_done = "What is done", "Ce qui s’y fait";
    time_taken = "Time", "Durée";
    drill_took(took) =
        "The drill took {took}. The stages from “receipts” to “index” are the recovery; the others exist in drills only.",
        "Le test a duré {took}. Les étapes de « receipts » à « index » sont la restauration ; les autres n’existent que dans \
         les tests.";
    full_bars =
        "Full bars are the recovery, hollow ones the rest.",
        "Les barres pleines sont la restauration, les creuses le reste.";

    versions = "Versions", "Versions";
    unknown_ended = "not known: the drill ended before that", "inconnu : le test s’est arrêté avant";
    engine = "Engine", "Moteur";
    source_server = "Source server", "Serveur d’origine";
    throwaway_server = "Throwaway server", "Serveur temporaire";
    database_code = "Code of the database", "Code de la base";
    drilled_by = "Drilled by", "Test fait par";

    signatures = "Signatures and hashes", "Signatures et empreintes";
    its_epoch = "Its epoch", "Son époque";
    receipt_hash = "SHA-256 of its receipt", "SHA-256 de son reçu";
    snapshot_signed_by = "That receipt is signed by", "Ce reçu est signé par";
    drill_signed_by = "Its receipt is signed by", "Son reçu est signé par";

    check_yourself = "Check it yourself, without marbre", "Vérifier soi-même, sans marbre";
    page_is_for_reading(drill, folder) =
        "This page is for reading; the proof is the signed receipt of the drill, drills/{drill}.json. In the folder {folder} \
         of a target, with the file allowed_signers that you trust and this report as HTML beside it:",
        "Cette page est faite pour être lue ; la preuve est le reçu signé du test, drills/{drill}.json. Dans le dossier \
         {folder} d’une cible, avec à côté le fichier allowed_signers auquel vous vous fiez et ce rapport au format HTML :";
    who_signed = "Who signed the receipt of this drill?", "Qui a signé le reçu de ce test ?";
    is_this_the_page =
        "Is this page the one that the receipt refers to?",
        "Cette page est-elle celle que désigne le reçu ?";
    is_it_the_receipt =
        "Is the snapshot's receipt the one that was drilled, and who signed it?",
        "Le reçu de l’instantané est-il celui qui a été testé, et qui l’a signé ?";
    is_everything_there =
        "Is every object of the snapshot still there, as it was written?",
        "Chaque objet de l’instantané est-il encore là, tel qu’il a été écrit ?";
    must_say(answer) =
        "The first command must say: {answer}. What the drill proves is in the line \"level\" of the receipt; null means \
         nothing.",
        "La première commande doit répondre : {answer}. Ce que le test prouve est à la ligne \"level\" du reçu ; null veut \
         dire : rien.";

    kept_copy = "Kept copy", "Copie conservée";
    kept_copy_is_readable =
        "The restored copy was left on the machine that made the drill. It holds the data unencrypted, personal data \
         included. Remove it as soon as nobody needs it.",
        "La copie restaurée a été laissée sur la machine qui a fait le test. Elle contient les données en clair, données \
         personnelles comprises. Supprimez-la dès que plus personne n’en a besoin.";
    warnings = "Warnings", "Avertissements";
}

counted! {
    more_checks = "more check" "more checks", "autre contrôle" "autres contrôles";
}
