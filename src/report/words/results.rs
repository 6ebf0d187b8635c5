//! What a drill tested, what it restored, how long that took, and what failed.

use super::{Words, counted, phrases};
use crate::model::locale::Language;

phrases! {
    what_was_tested = "What was tested", "Ce qui a été testé";
    publisher = "Publisher", "Éditeur";
    database = "Database", "Base de données";
    state_of = "State of", "État du";
    before_the_drill(at, age) = "{at}, {age} before the drill started", "{at}, {age} avant le début du test";
    none_chosen = "none was chosen", "aucun choix n’a été fait";
    of_target = "From target", "Depuis la cible";
    by = "By", "Par";
    by_agent_with_key =
        "the agent, with the key of the epoch, which it still holds",
        "l’agent, avec la clé de l’époque, qu’il détient encore";
    by_owner_with_key =
        "the owner of the data, with their own restore key",
        "le propriétaire des données, avec sa propre clé de restauration";
    restored_into = "Restored into", "Restauré dans";
    started = "Started", "Début";
    ended = "Ended", "Fin";

    the_sabotage = "The sabotage", "Le sabotage";
    sabotage = "Sabotage", "Sabotage";
    noticed_yes(at_stage) = "yes, {at_stage}", "oui, {at_stage}";
    noticed_no = "NO", "NON";
    noticed_unknown =
        "not known: the drill failed for another reason",
        "on l’ignore : le test a échoué pour une autre raison";
    nothing_done = "nothing: the drill ended first", "rien : le test s’est arrêté avant";
    what_was_done = "What was done", "Ce qui a été fait";
    had_to_be_noticed = "Had to be noticed", "À détecter";
    at_the_stage(word, doing) = "at the stage “{word}”: {doing}", "à l’étape « {word} » : {doing}";
    was_noticed = "Was noticed", "Détecté";
    counts_as_proof = "Counts as proof", "Compte comme preuve";
    never = "never", "jamais";

    what_was_restored = "What was restored", "Ce qui a été restauré";
    tables_heading = "Tables", "Tables";
    rows_heading = "Rows", "Lignes";
    so_many_equal(equal, total) = "{equal} of {total} equal", "{equal} sur {total} identiques";
    snapshot_data = "Data of the snapshot", "Données de l’instantané";
    fetched = "Fetched from the target", "Récupéré depuis la cible";
    compressed(size) = "{size}, compressed and encrypted", "{size}, compressés et chiffrés";
    nothing_compared =
        "Nothing was compared: the drill ended before that.",
        "Rien n’a été comparé : le test s’est arrêté avant.";
    no_table =
        "The database has no table; its other objects were compared.",
        "La base n’a aucune table ; ses autres objets ont été comparés.";
    after_sabotage =
        "This is what the drill saw after its sabotage, in its own copy.",
        "Voici ce que le test a vu après son sabotage, dans sa propre copie.";
    what_equal_means =
        "“Equal” means: as many rows as when the snapshot was taken, and the same digest over all of them.",
        "« Identique » veut dire : autant de lignes qu’à la prise de l’instantané, et la même empreinte sur toutes.";
    different_content = "DIFFERENT content", "Contenu DIFFÉRENT";
    tables_caption = "Tables: rows saved and rows restored", "Tables : lignes sauvegardées et lignes restaurées";
    rows_saved = "Rows saved", "Lignes sauvegardées";
    rows_restored = "Rows restored", "Lignes restaurées";
    further_all_equal(tables, rows) =
        "And {tables} with {rows}, all equal.",
        "Et {tables} avec {rows}, toutes identiques.";
    further_different(tables, rows, n) =
        "And {tables} with {rows}, of which {n} DIFFERENT.",
        "Et {tables} avec {rows}, dont {n} DIFFÉRENTES.";
    except = "Everything was restored except:", "Tout a été restauré, sauf :";
    differences = "Differences, in words:", "Différences, en toutes lettres :";

    how_long = "How long a recovery takes", "Durée d’une restauration";
    does_not_count_sabotage(took) =
        "{took}, which does not count, since the drill was a sabotage",
        "{took}, ce qui ne compte pas, car le test était un sabotage";
    does_not_count_failed(took) =
        "{took}, which does not count, since the drill failed",
        "{took}, ce qui ne compte pas, car le test a échoué";
    not_measured_ended =
        "not measured: the drill ended before the database was restored",
        "non mesurée : le test s’est arrêté avant que la base soit restaurée";
    nothing_agreed = "nothing has been agreed", "rien n’a été convenu";
    at_most(limit) = "at most {limit}", "{limit} au plus";
    recovery_took = "Recovery took", "Durée mesurée";
    promised = "Promised (RTO)", "Durée promise (RTO)";
    promise = "Promise", "Promesse";
    broken = "BROKEN", "NON TENUE";
    kept = "kept", "tenue";
    machine_time =
        "This is machine time, from the first receipt to the last index. In a real disaster, the time that people need and \
         the time to get a new server come on top.",
        "C’est le temps de la machine, du premier reçu au dernier index. Lors d’un vrai sinistre s’y ajoutent le temps des \
         personnes et celui d’obtenir un nouveau serveur.";
    no_earlier_drill(by) =
        "There is no earlier drill {by} to compare with.",
        "Il n’y a pas de test antérieur {by} auquel comparer.";
    drill_passed = "passed", "réussi";
    drill_failed_word = "FAILED", "ÉCHEC";
    this_drill(word) = "{word} (this drill)", "{word} (ce test)";
    drills_listed(by) =
        "The drills {by}, oldest first; sabotages are left out.",
        "Les tests {by}, du plus ancien au plus récent ; les sabotages n’y sont pas.";
    line_is_promise(promise) =
        "The line across the bars is the promise, {promise}.",
        "Le trait qui coupe les barres est la promesse, {promise}.";
    promise_is_far(promise) =
        "The promise, {promise}, is more than three times the longest bar.",
        "La promesse, {promise}, dépasse trois fois la barre la plus longue.";
    hollow_failed =
        "Hollow bars are of drills that failed.",
        "Les barres creuses sont celles de tests qui ont échoué.";
    trend_caption = "Time of the recovery, drill by drill", "Durée de la restauration, test par test";
    ended_at = "Ended at", "Fin";
    recovery = "Recovery", "Durée";

    stage = "Stage", "Étape";
    stage_is(word, doing) = "{word}: {doing}", "{word} : {doing}";
    what = "What", "Quoi";
    why = "Why", "Pourquoi";
    what_to_do = "What to do", "Que faire";
    nothing_to_do = "Nothing: the drill failed as it had to.", "Rien : le test a échoué comme il le devait.";
    exit_code = "Exit code", "Code de sortie";
    exit_code_is(code) =
        "{code} (docs/EXIT-CODES.md says what it means)",
        "{code} (docs/EXIT-CODES.md dit ce qu’il signifie)";
    how_noticed = "How it was noticed", "Comment il a été détecté";
    what_failed = "What failed", "Ce qui a échoué";
}

counted! {
    more_tables = "more table" "more tables", "autre table" "autres tables";
}
